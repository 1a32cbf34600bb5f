//! Where the runtime keeps its processors and the state of its scheduler: `runtime.allp` and `runtime.sched`, found by what they
//! look like.
//!
//! `allp` is a slice of pointers to `p`s, each of which has its place in the slice as its `id`. Since Go 1.24 the first thread may
//! have a copy of it (`m.allpSnapshot`). `sched` begins with the number of ids for goroutines that were handed out, of which
//! the processors have taken their shares.
//!
//! Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/runtime2.go> (`p`, `schedt`, `allp`),
//! <https://github.com/golang/go/blob/go1.27.0/src/runtime/proc.go> (`procresize`, `newproc1`)

use std::ops::{ControlFlow, Range};

use super::{
    allgs::pointers,
    layout::{Layout, Offset},
    memory::{Words, field, word_at},
    mentions::Mentions,
};

/// Most processors of a program that are looked at.
pub(super) const MAX_PROCESSORS: usize = 1 << 14;
/// Most slices, or numbers, that are looked at.
const MAX_CANDIDATES: usize = 1 << 16;
/// So often it is looked again: processors and threads change while they are read.
const TRIES: usize = 4;
/// Numbers for goroutines that a processor takes at a time.
/// Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/runtime2.go> (`_GoidCacheBatch`)
const BATCH: u64 = 16;
/// The largest status of a `p`: `_Pdead`.
const MAX_STATUS: u32 = 4;
/// At how many threads a program is ended unless it says otherwise (`debug.SetMaxThreads`).
const MAX_M_COUNT: u32 = 10_000;
/// So many numbers may be handed out while it is looked for `sched`: threads that call Go from C take some, too.
const MEANWHILE: u64 = 10_000;
/// Bytes of an `m` before `allpSnapshot`, and more.
const M_BEFORE: u64 = 2048;
/// Where the timers of a `p` are looked for if the table does not have the version.
const TIMERS: std::ops::RangeInclusive<Offset> = 4096..=32_752;

/// The function that makes the list of processors longer.
pub(super) const RESIZES: &str = "runtime.procresize";
/// The function that hands out numbers for goroutines.
pub(super) const NUMBERS: &str = "runtime.newproc1";

/// Addresses of what the scheduler consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduler {
    /// `runtime.allp`, a slice (pointer, length, capacity) of pointers to `p`.
    pub allp: u64,
    /// `runtime.sched`, if it was found.
    pub sched: Option<u64>,
}

impl Scheduler {
    /// Looks for it in the data with pointers. `resizes` and `numbers` are what [`RESIZES`] and [`NUMBERS`] mention.
    pub(super) fn find(
        memory: &impl Words,
        bss: &Range<u64>,
        layout: &Layout,
        resizes: &Mentions,
        numbers: &Mentions,
    ) -> Option<Self> {
        let allp = (0..TRIES).find_map(|_| allp(memory, bss, layout, resizes))?;
        let sched = (0..TRIES).find_map(|_| sched(memory, bss, layout, allp, numbers));
        Some(Self { allp, sched })
    }
}

/// The processors of the list at `allp`: those that are in use, or also those that a lower `GOMAXPROCS` has put aside, which
/// still have numbers for goroutines.
pub(super) fn processors(memory: &(impl Words + ?Sized), allp: u64, put_aside: bool) -> Vec<u64> {
    let Some([first, len, capacity]) = memory.words(allp) else { return Vec::new() };
    let count = if put_aside { capacity } else { len };
    let mut processors = pointers(memory, first, count, MAX_PROCESSORS);
    processors.retain(|&processor| processor != 0);
    processors
}

fn allp(memory: &impl Words, bss: &Range<u64>, layout: &Layout, resizes: &Mentions) -> Option<u64> {
    let mut looked_at = 0;
    let mut found = Vec::new();
    memory.scan(bss, |address, &[first, len, capacity]| {
        let may_be = first != 0 && first.is_multiple_of(8) && (1..=capacity).contains(&len);
        if may_be && capacity <= MAX_PROCESSORS as u64 {
            looked_at += 1;
            if is_list(memory, first, len, layout) {
                found.push((address, len));
            }
        }
        if looked_at < MAX_CANDIDATES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let rank = |&(address, len): &(u64, u64)| (resizes.has(address), !is_in_thread(memory, address, layout), len);
    found.into_iter().max_by_key(rank).map(|(address, _)| address)
}

/// Whether a slice holds processors.
fn is_list(memory: &impl Words, first: u64, len: u64, layout: &Layout) -> bool {
    // One is enough to reject nearly all that is none.
    let is_first = pointers(memory, first, 1, 1).first().is_some_and(|&p| look(memory, p, 0, layout).is_some());
    if !is_first {
        return false;
    }
    let processors = pointers(memory, first, len, MAX_PROCESSORS);
    let looks: Option<Vec<bool>> = (0..).zip(&processors).map(|(id, &p)| look(memory, p, id, layout)).collect();
    // A thread may just take or give away its processor.
    let has_threads = |looks: Vec<bool>| 4 * looks.iter().filter(|has| **has).count() >= 3 * looks.len();
    processors.len() as u64 == len && looks.is_some_and(has_threads)
}

/// Whether the thread of the processor of this number points back to it, if it has one; `None` if it is no processor.
fn look(memory: &impl Words, address: u64, id: u32, layout: &Layout) -> Option<bool> {
    if address == 0 || !address.is_multiple_of(8) {
        return None;
    }
    let p = &layout.p;
    let bytes = memory.bytes(address, p.size.into());
    let half = |offset: Offset| field(&bytes, offset).map(u32::from_le_bytes);
    let word = |offset: Offset| word_at(&bytes, offset);
    let (next, end) = (word(p.goidcache)?, word(p.goidcache + 8)?);
    let is = half(p.id)? == id
        && half(p.status)? <= MAX_STATUS
        && word(p.mcache)? != 0
        && next <= end
        && end - next <= BATCH;
    let m = word(p.m)?;
    let back = |m: u64| m.checked_add(layout.m.p.into()).and_then(|at| memory.word(at));
    is.then(|| m == 0 || back(m) == Some(address))
}

/// Whether this lies in the first thread, which lies in the data, too: that begins with a pointer to its own goroutine, which
/// points back.
fn is_in_thread(memory: &impl Words, address: u64, layout: &Layout) -> bool {
    let start = address.saturating_sub(M_BEFORE);
    let before = memory.bytes(start, M_BEFORE as usize);
    let (places, backs): (Vec<u64>, Vec<u64>) = (start..)
        .step_by(8)
        .zip(before.as_chunks::<8>().0)
        .map(|(place, word)| (place, u64::from_le_bytes(*word)))
        .filter(|(_, word)| *word != 0 && word.is_multiple_of(8))
        .map(|(place, word)| (place, word.wrapping_add(layout.g.m.into())))
        .unzip();
    memory.each_word(&backs).into_iter().zip(places).any(|(back, place)| back == Some(place))
}

fn sched(memory: &impl Words, bss: &Range<u64>, layout: &Layout, allp: u64, numbers: &Mentions) -> Option<u64> {
    let processors = processors(memory, allp, true);
    let taken = || {
        let ends: Vec<u64> = processors.iter().map(|p| p.wrapping_add(u64::from(layout.p.goidcache) + 8)).collect();
        memory.each_word(&ends).into_iter().flatten().max().unwrap_or(0).saturating_sub(1)
    };
    let from = taken();
    let mut candidates = Vec::new();
    memory.scan(bss, |address, &[word]| {
        if word >= from && word < 1 << 48 && candidates.len() < MAX_CANDIDATES {
            candidates.push((address, word));
        }
        ControlFlow::<()>::Continue(())
    });
    let to = taken().saturating_add(MEANWHILE);
    let rank = |address: u64| {
        let at = |offset: Offset| memory.word(address.checked_add(offset.into())?);
        let half = |offset: Offset| at(offset).map(|word| word as u32);
        let idle = at(layout.sched.pidle)?;
        let is = (idle == 0 || processors.contains(&idle)) && half(layout.sched.npidle)? as usize <= processors.len();
        let (is_named, is_usual) = (numbers.has(address), half(layout.sched.maxmcount)? == MAX_M_COUNT);
        (is && from > 0 && (is_named || is_usual)).then_some((is_named, is_usual))
    };
    let within = candidates.into_iter().filter(|(_, word)| *word <= to);
    let mut found: Vec<_> = within.filter_map(|(address, _)| Some((rank(address)?, address))).collect();
    found.sort_unstable();
    match found[..] {
        [.., (second, _), (best, _)] if best == second => None,
        [.., (_, address)] => Some(address),
        [] => None,
    }
}

/// Where the timers of a `p` lie, found out from timers that lead back. `None` if there is none.
pub(super) fn timers(memory: &impl Words, allp: u64, layout: &Layout) -> Option<Offset> {
    let mut found = None;
    for processor in processors(memory, allp, false).into_iter().take(256) {
        let bytes = memory.bytes(processor, usize::from(*TIMERS.end()) + 32);
        for offset in TIMERS.step_by(8) {
            let heap = offset + layout.p.heap;
            let at = |n: Offset| word_at(&bytes, heap + 8 * n);
            let (Some(entries), Some(len), Some(capacity)) = (at(0), at(1), at(2)) else { continue };
            if entries == 0 || !entries.is_multiple_of(8) || !(1..=capacity).contains(&len) || capacity > 1 << 26 {
                continue;
            }
            let owner = if layout.p.heap == 0 { processor } else { processor.wrapping_add(offset.into()) };
            let timer = memory.word(entries).filter(|&timer| timer != 0);
            let back = timer.and_then(|timer| memory.word(timer.checked_add(layout.timer.owner.into())?));
            if back == Some(owner) {
                if found.is_some_and(|other| other != offset) {
                    return None;
                }
                found = Some(offset);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Version, memory::fake::Fake},
        *,
    };

    const BSS: Range<u64> = 0x1000..0x3000;
    const ALLP: u64 = 0x1800;
    const SCHED: u64 = 0x1a00;
    const LIST: u64 = 0x8000;

    fn layout() -> Layout {
        Layout::of(&Version::parse("go1.27.3").unwrap()).unwrap()
    }

    fn p(id: u64) -> u64 {
        0x10_0000 + id * 0x4000
    }

    /// Two processors in use and one put aside, of which the second has a thread; 48 numbers were handed out.
    fn memory(layout: &Layout) -> Fake {
        let mut memory = Fake(vec![(0x1000, vec![0; 0x2000]), (LIST, vec![0; 64]), (0x20_0000, vec![0; 0x1000])]);
        for id in 0..3 {
            memory.put_bytes(p(id), &vec![0; 0x4000]);
            memory.put(p(id), &[id]);
            memory.put(p(id) + u64::from(layout.p.mcache), &[0x20_0000]);
            memory.put(p(id) + u64::from(layout.p.goidcache), &[10 + 16 * id, 17 + 16 * id]);
            memory.put(LIST + 8 * id, &[p(id)]);
        }
        memory.put(0x20_0000 + u64::from(layout.m.p), &[p(1)]);
        memory.put(p(1) + u64::from(layout.p.m), &[0x20_0000]);
        memory.put(ALLP, &[LIST, 2, 3]);
        memory.put(SCHED, &[48]);
        memory.put(SCHED + u64::from(layout.sched.pidle), &[p(0), 1]);
        memory.put(SCHED + u64::from(layout.sched.maxmcount), &[10_000]);
        memory
    }

    fn find(memory: &Fake, layout: &Layout) -> Option<Scheduler> {
        Scheduler::find(memory, &BSS, layout, &Mentions::default(), &Mentions::default())
    }

    #[test]
    fn processors_and_scheduler_are_found_in_every_version() {
        for version in ["go1.19.8", "go1.20", "go1.22.10", "go1.23.9", "go1.24.11", "go1.25.5", "go1.26.6", "go1.27.3"]
        {
            let layout = Layout::of(&Version::parse(version).unwrap()).unwrap();
            let memory = memory(&layout);
            assert_eq!(find(&memory, &layout), Some(Scheduler { allp: ALLP, sched: Some(SCHED) }), "{version}");
            assert_eq!(processors(&memory, ALLP, false), [p(0), p(1)]);
            assert_eq!(processors(&memory, ALLP, true), [p(0), p(1), p(2)]);
        }
    }

    #[test]
    fn a_threads_copy_of_the_list_is_not_taken_for_it() {
        let layout = layout();
        let mut memory = memory(&layout);
        // m0 in the data, its g0, and its copy of the list, which is longer.
        memory.put(0x2000, &[0x2800]);
        memory.put(0x2800 + u64::from(layout.g.m), &[0x2000]);
        memory.put(0x2400, &[LIST, 3, 3]);
        assert_eq!(find(&memory, &layout).unwrap().allp, ALLP);
    }

    #[test]
    fn what_is_not_sure_is_not_told() {
        let layout = layout();
        let mut twice = memory(&layout);
        let second = 0x1c00;
        twice.put(second, &[49]);
        twice.put(second + u64::from(layout.sched.maxmcount), &[10_000]);
        assert_eq!(find(&twice, &layout).unwrap().sched, None);
        // lock xaddq %rax, second(%rip)
        let distance = (second as u32 - 0x809).to_le_bytes();
        let code = [&[0xf0, 0x48, 0x0f, 0xc1, 0x05][..], &distance].concat();
        let numbers = Mentions::in_code(&code, 0x800, &BSS);
        let found = Scheduler::find(&twice, &BSS, &layout, &Mentions::default(), &numbers);
        assert_eq!(found.unwrap().sched, Some(second));
        let mut other = memory(&layout);
        other.put(p(1), &[7]);
        assert_eq!(find(&other, &layout), None);
        assert_eq!(find(&Fake::default(), &layout), None);
    }

    #[test]
    fn where_timers_lie_is_found_out_from_a_timer() {
        for version in ["go1.22.10", "go1.27.3"] {
            let layout = Layout::of(&Version::parse(version).unwrap()).unwrap();
            let mut memory = memory(&layout);
            assert_eq!(timers(&memory, ALLP, &layout), None);
            let at = 9000;
            memory.put(p(1) + at + u64::from(layout.p.heap), &[0x20_0800, 1, 4]);
            memory.put(0x20_0800, &[0x20_0900]);
            let owner = if layout.p.heap == 0 { p(1) } else { p(1) + at };
            memory.put(0x20_0900 + u64::from(layout.timer.owner), &[owner]);
            assert_eq!(timers(&memory, ALLP, &layout), Some(at as Offset), "{version}");
        }
    }

    #[test]
    fn hostile_data_comes_to_an_end() {
        let layout = layout();
        let mut hostile = Fake(vec![(0x1000, vec![0; 0x2000])]);
        for at in (0x1000..0x2fe0).step_by(24) {
            hostile.put(at, &[0x1000, 1 << 13, 1 << 14]);
        }
        assert_eq!(find(&hostile, &layout), None);
        let whole = memory(&layout);
        for len in (0..0x400).step_by(8) {
            let mut cut = whole.clone();
            cut.0.retain(|(start, _)| *start != p(0));
            cut.put_bytes(p(0), &vec![0; len]);
            let _ = find(&cut, &layout);
        }
    }
}
