//! The threads of a Go runtime (its `m`s), and which goroutine each runs.

use std::collections::{HashMap, HashSet};

use super::batch::Batch;
use crate::{
    go::{GLayout, MLayout, Runtime, memory::word_at},
    target::{Memory, Piece},
};

/// Most threads that are listed: Go itself stops at 10,000 (`debug.SetMaxThreads`), unless told otherwise.
const MAX_THREADS: usize = 100_000;

/// A thread of a Go runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MThread {
    /// Its id, in the innermost pid namespace that the process is in.
    pub tid: u32,
    /// The goroutine that it runs, or that is in a system call or C code on it. `None`: it runs the scheduler, or is idle.
    pub goroutine: Option<u64>,
    /// The goroutine that is tied to it.
    pub locked_to: Option<u64>,
}

/// The threads of one runtime.
#[derive(Debug, Default)]
pub(super) struct Threads {
    by_m: HashMap<u64, u32>,
    pub(super) list: Vec<MThread>,
    /// Whether `list` has all of them.
    pub(super) is_whole: bool,
}

impl Threads {
    /// Reads the runtime's own list.
    pub(super) fn read(runtime: &Runtime, memory: &dyn Memory) -> Self {
        let mut threads = Self::default();
        let layout = &runtime.layout.m;
        let Some((allm, link)) = runtime.allm.zip(layout.alllink) else { return threads };
        let (mut at, mut ms) = (allm, Vec::new());
        // A word or an m, then the next one.
        let mut offset = 0;
        loop {
            let mut next = [0; 8];
            if memory.read(at.saturating_add(offset), &mut next) != next.len() {
                return threads;
            }
            at = u64::from_le_bytes(next);
            offset = u64::from(link);
            if at == 0 {
                break;
            }
            if ms.len() >= MAX_THREADS {
                return threads;
            }
            ms.push(at);
        }
        // A list that goes round is none.
        threads.is_whole = ms.iter().collect::<HashSet<_>>().len() == ms.len();
        threads.add(layout, &runtime.layout.g, memory, &ms);
        threads
    }

    /// Takes in the `m`s at these addresses that are not known yet.
    pub(super) fn add(&mut self, layout: &MLayout, goroutine: &GLayout, memory: &dyn Memory, ms: &[u64]) {
        let mut new: Vec<u64> = ms.iter().copied().filter(|m| *m != 0 && !self.by_m.contains_key(m)).collect();
        new.sort_unstable();
        new.dedup();
        let mut batch = Batch::default();
        let size = usize::from(layout.size);
        batch.read(memory, &new.iter().map(|&address| Piece { address, len: size }).collect::<Vec<_>>());
        let mut found = Vec::with_capacity(new.len());
        for (index, &m) in new.iter().enumerate() {
            let at = |offset| word_at(batch.get(index), offset);
            // 0 until the thread has begun.
            let Some(tid) = at(layout.procid).and_then(|tid| u32::try_from(tid).ok()).filter(|&tid| tid != 0) else {
                continue;
            };
            let curg = at(layout.curg).unwrap_or(0);
            let lockedg = layout.lockedg.and_then(at).unwrap_or(0);
            self.by_m.insert(m, tid);
            found.push((tid, curg, lockedg));
        }
        let goid = usize::from(goroutine.goid);
        let ids = found.iter().flat_map(|&(_, curg, lockedg)| [curg, lockedg]);
        let pieces: Vec<Piece> = ids.map(|g| Piece { address: g, len: goid + 8 }).collect();
        batch.read(memory, &pieces);
        for (index, (tid, ..)) in found.into_iter().enumerate() {
            let id = |n| batch.word(2 * index + n, goroutine.goid).filter(|&id| id != 0);
            self.list.push(MThread { tid, goroutine: id(0), locked_to: id(1) });
        }
    }

    /// The id of the thread that an `m` is.
    pub(super) fn tid(&self, m: u64) -> Option<u32> {
        self.by_m.get(&m).copied()
    }
}
