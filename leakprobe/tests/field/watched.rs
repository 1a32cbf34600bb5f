//! Programs whose threads wake, come and go: what `leakprobe attach` has to show of each.

use std::{thread, time::Duration};

use crate::{
    started::{Started, sites_at, stop, table},
    support::lost,
};

/// Long enough for a few slices of a wait, and for a few snapshots of each.
const A_WHILE: Duration = Duration::from_secs(4);

#[test]
fn new_threads_that_wake_all_the_time_are_a_row() {
    for (start, function) in [
        (["threads", "poller"], "poll_loop"),
        (["threads", "slice-server"], "wait_for_job"),
        // The C function by which Python begins its threads: its own functions are not read.
        (["python", "heartbeat"], "PyThread_start_new_thread"),
    ] {
        let program = Started::server(&start);
        let leakprobe = program.attach(&[]);
        program.load(6);
        thread::sleep(A_WHILE);
        let (report, recording) = stop(leakprobe);
        let sites = sites_at(&recording, function);
        let rows = sites.iter().filter(|site| table(&report).contains(&site.id));
        assert!(rows.map(|site| site.count).sum::<u64>() >= 6, "no row with {function}: {report}");
    }
}

#[test]
fn threads_that_wait_in_slices_are_parked_since_the_first() {
    let program = Started::ready(&["threads", "slices", "900"]);
    let leakprobe = program.attach(&[]);
    thread::sleep(A_WHILE);
    let (report, recording) = stop(leakprobe);
    let sites = sites_at(&recording, "wait_for_job");
    assert_eq!(sites.iter().map(|site| site.parked).sum::<u64>(), 12, "{report}");
    assert!(sites.iter().all(|site| site.oldest_ms >= 2000), "{report}");
    assert!(table(&report).contains("wait_for_job") && report.contains("in slices of 900 ms"), "{report}");
}

#[test]
fn turnover_is_no_growth() {
    let program = Started::ready(&["threads", "turnover", "200"]);
    let leakprobe = program.attach(&["-m", "0s"]);
    // None lives longer than four seconds: by then all have been replaced by threads whose creation was seen.
    thread::sleep(A_WHILE + Duration::from_secs(2));
    let (report, recording) = stop(leakprobe);
    for site in sites_at(&recording, "live") {
        let (first, last) = (site.trend.first().copied().unwrap_or(0), site.trend.last().copied().unwrap_or(0));
        // By chance more may wait in the one way than in the other.
        assert!(last <= first + 50, "from {first} to {last}: {report}");
    }
}

#[test]
fn creations_keep_their_stacks_and_none_is_called_lost() {
    for a_second in ["20", "300"] {
        let program = Started::ready(&["threads", "rate", a_second]);
        let leakprobe = program.attach(&["--probe", "snapshot", "--max-overhead", "100%"]);
        thread::sleep(A_WHILE);
        let (report, recording) = stop(leakprobe);
        let lost = lost(&recording);
        assert!(lost.is_empty(), "{lost:?} at {a_second} a second: {report}");
    }
}

#[test]
fn monitors_are_told_by_their_native_frames() {
    let program = Started::ready(&["java", "monitors"]);
    let leakprobe = program.attach(&[]);
    thread::sleep(A_WHILE);
    let (report, recording) = stop(leakprobe);
    let of = |name: &str| {
        let site = recording.sites.iter().find(|site| site.names.iter().any(|thread| thread == name));
        site.unwrap_or_else(|| panic!("no site of {name}: {report}"))
    };
    for (name, what) in
        [("transfer", "monitor"), ("audit", "monitor"), ("mail", "Object.wait"), ("parker", "LockSupport.park")]
    {
        let site = of(name);
        let said = format!("{} {:?}", site.wait, site.evidence.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(said.contains(what), "{name} is in '{said}', no {what}: {report}");
        assert!(table(&report).contains(&site.id), "{name} is in no row: {report}");
    }
}
