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
    snapshot::{Memory, Piece},
};

/// Entries that are read in one go.
const CHUNK: u64 = 4096;
/// Most timers that are looked at: others are counted.
const MAX_TIMERS: u64 = 2 << 20;
/// A heap that claims to be larger is none.
const MAX_HEAP: u64 = 1 << 32;
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
        let mut looked_at = 0;
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
                if bytes.len() as u64 != count * entry {
                    break;
                }
            }
        }
        budget -= looked_at;
    }
    left_out
}
