//! The timers of a runtime: each processor has a heap of those that it started.
//!
//! Heaps change all the time, and what comes from one may be used for something else before it is read: so each is gone through
//! twice, and a timer counts once, if it says itself that it is in this heap and pending.
//!
//! Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/time.go>, and the same of Go 1.22.

use std::collections::HashSet;

use super::batch::Batch;
use crate::{
    go::{
        Runtime, TimerLayout, TimerState,
        memory::{Words, field, word_at},
        scheduler::processors,
    },
    target::{Memory, Piece},
};

/// Entries that are read in one go.
const CHUNK: u64 = 4096;
/// Most timers that are looked at: others are counted.
const MAX_TIMERS: u64 = 2 << 20;
/// A heap that claims to be larger is none.
const MAX_HEAP: u64 = 1 << 28;
/// `timerHeaped` and `timerZombie` of Go 1.23 and later.
const HEAPED: u8 = 1;
const ZOMBIE: u8 = 4;
/// `timerWaiting`, `timerModifiedEarlier` and `timerModifiedLater` of Go 1.22 and before.
const WAITING: u32 = 1;
const MODIFIED: [u32; 2] = [7, 8];

/// A timer that is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timer {
    /// Its address.
    pub(super) address: u64,
    /// When it fires, in the target's `CLOCK_MONOTONIC`, ns.
    pub(super) when: u64,
    /// After how long it fires again, ns; 0 if it does not.
    pub(super) period: u64,
    /// The func value that it calls.
    pub(super) f: u64,
    /// What that is called with.
    pub(super) arg: u64,
    /// The heap, or the processor, that it says it belongs to.
    pub(super) owner: u64,
}

impl Timer {
    /// The timer at `address` from its memory; `None` if it is not pending, or there is less than all of it.
    pub(super) fn parse(layout: &TimerLayout, address: u64, bytes: &[u8]) -> Option<Self> {
        let at = |offset| word_at(bytes, offset);
        let byte = |offset: u16| bytes.get(usize::from(offset)).copied();
        let when = match layout.state {
            TimerState::Status { status, nextwhen } => match field(bytes, status).map(u32::from_le_bytes)? {
                WAITING => at(layout.when)?,
                status if MODIFIED.contains(&status) => at(nextwhen)?,
                _ => return None,
            },
            TimerState::Bits(state) => {
                let state = byte(state)?;
                if state & HEAPED == 0 || state & ZOMBIE != 0 {
                    return None;
                }
                at(layout.when)?
            }
        };
        // The clock of a bubble is none of ours.
        let is_fake = layout.is_fake.map_or(Some(0), byte)? != 0;
        let period = i64::try_from(at(layout.period)?).unwrap_or(0);
        let timer = Self {
            address,
            when,
            period: u64::try_from(period).unwrap_or(0),
            f: at(layout.f)?,
            arg: at(layout.arg)?,
            owner: at(layout.owner)?,
        };
        (!is_fake && i64::try_from(when).is_ok_and(|when| when > 0)).then_some(timer)
    }
}

/// Gives all pending timers to `visit`, some at a time, and returns how many entries were not looked at.
pub(super) fn walk(runtime: &Runtime, memory: &dyn Memory, mut visit: impl FnMut(&[Timer])) -> u64 {
    let layout = &runtime.layout;
    let Some((scheduler, timers)) = runtime.scheduler.zip(layout.p.timers) else { return 0 };
    let (mut seen, mut batch) = (HashSet::new(), Batch::default());
    let (mut budget, mut left_out) = (MAX_TIMERS, 0_u64);
    for processor in processors(memory, scheduler.allp, false) {
        let Some(place) = processor.checked_add(timers.into()) else { continue };
        let owner = if layout.p.heap == 0 { processor } else { place };
        let slice = place.saturating_add(layout.p.heap.into());
        // Entries that were looked at, and those of them that could be read at the better of two times.
        let (mut looked_at, mut read) = (0, 0);
        for _ in 0..2 {
            let Some([entries, len, capacity]) = memory.words(slice) else { break };
            if len > capacity || capacity > MAX_HEAP {
                left_out += 1;
                break;
            }
            let most = len.min(budget);
            if looked_at == 0 {
                left_out += len - most;
            }
            looked_at = most.max(looked_at);
            let mut read_now = 0;
            for begin in (0..most).step_by(CHUNK as usize) {
                let count = CHUNK.min(most - begin);
                let entry = u64::from(layout.p.entry);
                let bytes = memory.bytes(entries.saturating_add(begin * entry), (count * entry) as usize);
                let pointers = bytes.chunks_exact(entry as usize).filter_map(|entry| word_at(entry, 0_u16));
                let size = usize::from(layout.timer.size);
                let new = pointers.filter(|timer| !seen.contains(timer));
                let pieces: Vec<Piece> = new.map(|address| Piece { address, len: size }).collect();
                batch.read(memory, &pieces);
                let parse = |(n, piece): (usize, &Piece)| Timer::parse(&layout.timer, piece.address, batch.get(n));
                let mut found: Vec<Timer> = pieces.iter().enumerate().filter_map(parse).collect();
                found.retain(|timer| timer.owner == owner && seen.insert(timer.address));
                visit(&found);
                read_now += bytes.len() as u64 / entry.max(1);
                if bytes.len() as u64 != count * entry {
                    break;
                }
            }
            read = read_now.max(read);
        }
        left_out += looked_at.saturating_sub(read);
        budget -= looked_at;
    }
    left_out
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::go::{Code, Layout, Scheduler, Version, memory::fake::Fake};

    pub(in super::super) const ALLP: u64 = 0x1000;
    pub(in super::super) const SCHED: u64 = 0x1100;
    const LIST: u64 = 0x2000;
    const HEAP: u64 = 0x3000;
    const TIMERS: u64 = 0x8000;
    const VERSIONS: [&str; 6] = ["go1.19.8", "go1.22.10", "go1.23.1", "go1.24.11", "go1.25.5", "go1.27.3"];

    pub(in super::super) fn p(id: u64) -> u64 {
        0x10_0000 + id * 0x1_0000
    }

    /// A runtime with two processors in use and one put aside.
    pub(in super::super) fn runtime(version: &str) -> (Runtime, Fake) {
        let version = Version::parse(version).unwrap();
        let layout = Layout::of(&version).unwrap();
        let mut memory = Fake(vec![(0x1000, vec![0; 0x8000])]);
        (0..3).for_each(|id| memory.put_bytes(p(id), &vec![0; 0x4000]));
        memory.put(ALLP, &[LIST, 2, 3]);
        memory.put(LIST, &[p(0), p(1), p(2)]);
        let scheduler = Some(Scheduler { allp: ALLP, sched: Some(SCHED) });
        let code = Arc::new(Code::new(Vec::new()));
        let (allgs, allm, bss, reasons, gaps) = (0, None, 0..0, Arc::default(), Vec::new());
        (Runtime { version, layout, code, allgs, allm, scheduler, bss, reasons, gaps }, memory)
    }

    /// Where the heap of a processor lies, and its slice of entries.
    fn heap(layout: &Layout, p: u64) -> (u64, u64) {
        let timers = p + u64::from(layout.p.timers.unwrap());
        (if layout.p.heap == 0 { p } else { timers }, timers + u64::from(layout.p.heap))
    }

    fn timer(memory: &mut Fake, layout: &TimerLayout, address: u64, owner: u64, is_pending: bool) {
        let mut bytes = vec![0; layout.size.into()];
        let mut put = |offset: u16, value: &[u8]| bytes[offset.into()..][..value.len()].copy_from_slice(value);
        put(layout.when, &77_u64.to_le_bytes());
        put(layout.period, &5_u64.to_le_bytes());
        put(layout.owner, &owner.to_le_bytes());
        match layout.state {
            TimerState::Status { status, nextwhen } => {
                put(nextwhen, &78_u64.to_le_bytes());
                put(status, &[if is_pending { 7 } else { 3 }]);
            }
            TimerState::Bits(state) => put(state, &[if is_pending { HEAPED } else { HEAPED | ZOMBIE }]),
        }
        memory.put_bytes(address, &bytes);
    }

    fn walked(runtime: &Runtime, memory: &Fake) -> (Vec<Timer>, u64) {
        let mut found = Vec::new();
        let left_out = walk(runtime, memory, |timers| found.extend_from_slice(timers));
        (found, left_out)
    }

    #[test]
    fn a_timer_counts_once_if_it_leads_back_and_is_pending() {
        for version in VERSIONS {
            let (runtime, mut memory) = runtime(version);
            let layout = &runtime.layout;
            let (owner, slice) = heap(layout, p(1));
            for (n, owner, is_pending) in [(0, owner, true), (1, p(0) + 8, true), (2, owner, false), (3, owner, true)] {
                timer(&mut memory, &layout.timer, TIMERS + n * 0x80, owner, is_pending);
            }
            let entries = [0, 1, 2, 3, 0].map(|n| TIMERS + n * 0x80);
            for (n, &entry) in (0..).zip([&entries[..], &[0, 0xdead_0000, 7]].concat().iter()) {
                memory.put(HEAP + n * u64::from(layout.p.entry), &[entry]);
            }
            memory.put(slice, &[HEAP, 8, 16]);
            let (found, left_out) = walked(&runtime, &memory);
            let addresses: Vec<u64> = found.iter().map(|timer| timer.address).collect();
            assert_eq!((addresses, left_out), (vec![entries[0], entries[3]], 0), "{version}");
            let when = if layout.p.heap == 0 { 78 } else { 77 };
            assert!(found.iter().all(|timer| (timer.when, timer.period) == (when, 5)), "{version}: {found:?}");
            // The same processor twice.
            memory.put(LIST, &[p(1)]);
            assert_eq!(walked(&runtime, &memory).0.len(), 2, "{version}");
        }
    }

    #[test]
    fn a_damaged_heap_comes_to_an_end_and_is_a_loss() {
        for version in ["go1.22.10", "go1.27.3"] {
            for (slice, is_loss) in [
                ([HEAP, u64::MAX, u64::MAX], true),
                ([HEAP, 5, 4], true),
                ([HEAP, 1 << 27, 1 << 27], true),
                ([0xdead_0000, 5, 5], true),
                ([u64::MAX - 8, 1 << 20, 1 << 20], true),
                ([HEAP, 1 << 20, 1 << 20], true),
                ([HEAP, 5, 5], false),
            ] {
                let (runtime, mut memory) = runtime(version);
                memory.put(heap(&runtime.layout, p(0)).1, &slice);
                let (found, left_out) = walked(&runtime, &memory);
                assert_eq!((found.len(), left_out > 0), (0, is_loss), "{version}: {slice:?}");
            }
        }
    }

    #[test]
    fn a_timer_that_is_cut_short_is_none() {
        for version in VERSIONS {
            let (runtime, mut memory) = runtime(version);
            let layout = &runtime.layout.timer;
            timer(&mut memory, layout, TIMERS, 9, true);
            let bytes = memory.bytes(TIMERS, layout.size.into());
            let whole = Timer::parse(layout, TIMERS, &bytes).unwrap();
            for len in 0..bytes.len() {
                let cut = Timer::parse(layout, TIMERS, &bytes[..len]);
                assert!(cut.is_none_or(|cut| cut == whole), "{version}: {len} bytes");
            }
        }
    }
}
