//! The table against what compilers of each version say.

use std::collections::BTreeMap;

use super::*;

const MEASURED: &str = include_str!("../../../tests/fixtures/go/layouts.json");

/// Offsets of a version by structure and field.
type Structs = BTreeMap<String, BTreeMap<String, Offset>>;

fn measured() -> Vec<(Version, Structs)> {
    let all: BTreeMap<String, Structs> = serde_json::from_str(MEASURED).unwrap();
    let version = |name: &str| Version::parse(&format!("go{}", name.split_once('-').unwrap().1)).unwrap();
    all.into_iter().map(|(name, structs)| (version(&name), structs)).collect()
}

/// Every field that leakprobe reads, by its name in the fixture; fields that a version does not have are left out.
fn fields(layout: &Layout, known: &Known) -> Vec<(&'static str, &'static str, Option<Offset>)> {
    // Bubbles were not measured: tests/go compares what is read of them with Go's own dumps.
    let Layout { g, m, p, sched: scheduler, sudog, hchan, timer, poll, ancestor, sync, labels: _, bubble_id: _ } =
        layout;
    let (status, nextwhen, state) = match timer.state {
        TimerState::Status { status, nextwhen } => (Some(status), Some(nextwhen), None),
        TimerState::Bits(state) => (None, None, Some(state)),
    };
    let has_heaps = state.is_some();
    let sched = 56;
    let is_group = known.gofunc == 320 && known.next == 576 && g.atomicstatus == 152;
    let mut fields = vec![
        ("g", "stack", Some(g.stack_lo)),
        ("g", "m", Some(g.m)),
        ("g", "sched", Some(sched)),
        ("gobuf", "sp", Some(g.sched_sp - sched)),
        ("gobuf", "pc", Some(g.sched_pc - sched)),
        ("gobuf", "g", Some(g.sched_g - sched)),
        ("gobuf", "lr", Some(g.sched_lr - sched)),
        ("gobuf", "bp", Some(g.sched_bp - sched)),
        ("g", "syscallsp", Some(g.syscallsp)),
        ("g", "syscallpc", Some(g.syscallpc)),
        ("g", "syscallbp", g.syscallbp),
        ("g", "param", Some(g.param)),
        ("g", "atomicstatus", Some(g.atomicstatus)),
        ("g", "goid", Some(g.goid)),
        ("g", "waitsince", Some(g.waitsince)),
        ("g", "waitreason", Some(g.waitreason)),
        ("g", "trackingSeq", g.tracking_seq),
        ("g", "lockedm", g.lockedm),
        ("g", "parentGoid", g.parent_goid),
        ("g", "gopc", Some(g.gopc)),
        ("g", "ancestors", Some(g.ancestors)),
        ("g", "startpc", Some(g.startpc)),
        ("g", "waiting", Some(g.waiting)),
        ("g", "labels", Some(g.labels)),
        ("g", "timer", Some(g.timer)),
        ("g", "sleepWhen", g.sleep_when),
        ("g", "coroarg", g.coroarg),
        // Go 1.24 has the same thing under another name.
        ("g", if is_group { "syncGroup" } else { "bubble" }, g.bubble),
        ("m", "g0", Some(m.g0)),
        ("m", "procid", Some(m.procid)),
        ("m", "curg", Some(m.curg)),
        ("m", "p", Some(m.p)),
        ("m", "alllink", m.alllink),
        ("m", "lockedg", m.lockedg),
        ("sudog", "sizeof", Some(sudog.size)),
        ("sudog", "g", Some(sudog.g)),
        ("sudog", "next", Some(sudog.next)),
        ("sudog", "prev", Some(sudog.prev)),
        ("sudog", "ticket", Some(sudog.ticket)),
        ("sudog", "isSelect", Some(sudog.is_select)),
        ("sudog", "success", Some(sudog.success)),
        ("sudog", "parent", Some(sudog.parent)),
        ("sudog", "waitlink", Some(sudog.waitlink)),
        ("hchan", "qcount", Some(hchan.qcount)),
        ("hchan", "dataqsiz", Some(hchan.dataqsiz)),
        ("hchan", "elemsize", Some(hchan.elemsize)),
        ("hchan", "closed", Some(hchan.closed)),
        ("hchan", "timer", hchan.timer),
        ("hchan", "recvq", Some(hchan.recvq)),
        ("hchan", "sendq", Some(hchan.sendq)),
        ("timer", "sizeof", Some(timer.size)),
        ("timer", "when", Some(timer.when)),
        ("timer", "period", Some(timer.period)),
        ("timer", "f", Some(timer.f)),
        // Its second word.
        ("timer", "arg", Some(timer.arg - 8)),
        ("timer", if has_heaps { "ts" } else { "pp" }, Some(timer.owner)),
        ("timer", "status", status),
        ("timer", "nextwhen", nextwhen),
        ("timer", "state", state),
        ("timer", "isFake", timer.is_fake),
        ("p", "id", Some(p.id)),
        ("p", "status", Some(p.status)),
        ("p", "m", Some(p.m)),
        ("p", "mcache", Some(p.mcache)),
        ("p", "goidcache", Some(p.goidcache)),
        ("p", "goidcacheend", Some(p.goidcache + 8)),
        ("p", "timers", p.timers),
        ("schedt", "goidgen", Some(0)),
        ("schedt", "maxmcount", Some(scheduler.maxmcount)),
        ("schedt", "pidle", Some(scheduler.pidle)),
        ("schedt", "npidle", Some(scheduler.npidle)),
        ("ancestorInfo", "sizeof", Some(ancestor.size)),
        ("ancestorInfo", "pcs", Some(ancestor.pcs)),
        ("ancestorInfo", "goid", Some(ancestor.goid)),
        ("ancestorInfo", "gopc", Some(ancestor.gopc)),
        ("moduledata", "gofunc", Some(known.gofunc)),
        ("moduledata", "next", Some(known.next)),
        ("sync", "Mutex.sema", Some(sync.mutex_sema)),
        ("sync", "RWMutex.writerSem", Some(sync.rwmutex_writer)),
        ("sync", "RWMutex.readerSem", Some(sync.rwmutex_reader)),
        ("sync", "WaitGroup.sema", Some(sync.waitgroup_sema)),
        ("sync", "Cond.notify", Some(sync.cond_notify)),
        ("sync", "notifyList.head", Some(sync.notify_head)),
    ];
    let poll = poll.unwrap();
    fields.extend(
        [("fd", poll.fd), ("rg", poll.rg), ("wg", poll.wg), ("rd", poll.rd), ("wd", poll.wd)]
            .map(|(name, offset)| ("pollDesc", name, Some(offset))),
    );
    fields
}

#[test]
fn every_offset_of_the_table_is_that_of_the_compiler() {
    let measured = measured();
    assert_eq!(measured.len(), 17);
    for (version, structs) in &measured {
        let known = Known::of(version).unwrap();
        let mut layout = known.layout.clone();
        // Where it moved in a patch release, the live list tells; here the measurement does.
        let alllink = structs["m"]["alllink"];
        assert!(known.alllink.contains(&alllink), "{version}: alllink {alllink}");
        layout.set_alllink(Some(alllink), version.minor);
        for (name, field, offset) in fields(&layout, &known) {
            // pollDesc and package sync were measured with one patch release of each version.
            if let Some(fields) = structs.get(name) {
                assert_eq!(offset, fields.get(field).copied(), "{version}: {name}.{field}");
            }
        }
        let second_word = if version.minor >= 26 { 8 } else { 0 };
        assert_eq!(layout.sudog.elem, structs["sudog"]["elem"] + second_word, "{version}");
        assert_eq!(layout.sudog.c, structs["sudog"]["c"] + second_word, "{version}");
        assert!(layout.m.size >= alllink + 40 && layout.m.size <= structs["m"]["sizeof"], "{version}");
        assert!(layout.hchan.size <= structs["hchan"]["sizeof"], "{version}");
    }
}

#[test]
fn a_version_that_is_newer_is_that_of_the_newest_row_until_calibrated() {
    let newer = Known::of(&Version::parse("go1.28.1").unwrap()).unwrap();
    let newest = Known::of(&Version::parse("go1.27.3").unwrap()).unwrap();
    assert!(!newer.exact && newest.exact);
    assert_eq!(newer.layout, newest.layout);
    assert_eq!(Layout::of(&Version::parse("go1.28.1").unwrap()), None);
    assert!(newer.alllink.contains(&newest.alllink[0]), "it is looked for in the live list");
}

#[test]
fn moving_back_and_forth_between_versions_gives_their_fields() {
    // What calibration would do if it met the layout of Go 1.25 in a version that it does not know.
    let older = Layout::of(&Version::parse("go1.25.5").unwrap()).unwrap();
    let newest = Layout::of(&Version::parse("go1.27.3").unwrap()).unwrap();
    let moved = newest.moved(older.g.atomicstatus, older.g.startpc);
    assert_eq!(GLayout { tracking_seq: older.g.tracking_seq, lockedm: older.g.lockedm, ..moved.g }, older.g);
    assert_eq!(moved.g.tracking_seq, None, "what cannot be checked is not used");
}

#[test]
fn what_is_older_than_the_table_is_not_known() {
    assert!(Known::of(&Version::parse("go1.18.10").unwrap()).is_none());
    assert!(Known::of(&Version::parse("go0.9").unwrap()).is_none());
}
