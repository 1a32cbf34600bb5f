//! Threads that have not run since the last snapshot: which those are, and what they wait on now.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use leakprobe_common::thread::{ThreadBrief, ThreadRecord};

use super::{Engine, FEW, Known, is_at_rest};
use crate::{
    model::FutexMemory,
    probes::{ProbeError, Source},
    snapshot::futexes,
};

/// The memory around the futex word that a thread waits on, read at two moments between which the thread slept.
pub type FutexTwice = (u32, Arc<FutexMemory>, Arc<FutexMemory>);

impl Engine {
    /// Which of these threads are still in the wait in which the last snapshot saw them.
    ///
    /// # Errors
    /// If the kernel does not let us iterate over the threads.
    pub fn still_waiting(&self, probes: &Source, tids: &[u32]) -> Result<HashSet<u32>, ProbeError> {
        let briefs: Vec<ThreadBrief> = if tids.len() <= FEW {
            probes.threads_of(tids)?.iter().map(ThreadRecord::brief).collect()
        } else {
            probes.briefs(self.known.len())?
        };
        Ok(briefs.iter().filter(|brief| self.is_settled(brief)).map(|brief| brief.tid).collect())
    }

    /// The memory around the words of all futex waits, as it is now: who holds a lock changes while others sleep.
    pub(super) fn read_futexes(&mut self) -> Vec<(u32, Arc<FutexMemory>)> {
        let waits: Vec<(u32, u64)> =
            self.known.iter().filter_map(|(&tid, known)| Some((tid, known.futex.filter(|_| known.settled)?))).collect();
        if waits.is_empty() {
            return Vec::new();
        }
        self.memory = self.memory.through(self.modules.find_reader().unwrap_or(self.pid));
        futexes::read(&self.memory, &waits)
    }

    /// Reads twice what these threads wait on, and answers only for those that have not run since they were last sampled, and
    /// that nobody has woken: then all that was read was true at one moment. `between` is called between the two reads. Costs some
    /// ten system calls.
    ///
    /// # Errors
    /// If the kernel does not let us iterate over the threads.
    pub fn read_twice(
        &self,
        probes: &Source,
        tids: &[u32],
        between: impl FnOnce(),
    ) -> Result<Vec<FutexTwice>, ProbeError> {
        let asleep = |records: Vec<ThreadRecord>, known: &HashMap<u32, Known>| -> HashMap<u32, u64> {
            let futex = |record: &ThreadRecord| {
                let known = known.get(&record.tid).filter(|known| known.settled && is_at_rest(record))?;
                let same = known.switches == record.switches && known.start_boottime == record.start_boottime;
                Some((record.tid, known.futex.filter(|_| same)?))
            };
            records.iter().filter_map(futex).collect()
        };
        let look = || if tids.len() <= FEW { probes.threads_of(tids) } else { probes.threads(self.known.len() + 16) };
        let before = asleep(look()?, &self.known);
        let mut waits: Vec<(u32, u64)> =
            tids.iter().filter_map(|tid| Some((*tid, before.get(tid).copied()?))).collect();
        waits.sort_unstable();
        waits.dedup();
        let first = futexes::read(&self.memory, &waits);
        between();
        let after = asleep(look()?, &self.known);
        let second = futexes::read(&self.memory, &waits);
        let both = first.into_iter().zip(second).map(|((tid, first), (_, second))| (tid, first, second));
        Ok(both.filter(|(tid, ..)| after.contains_key(tid)).collect())
    }
}
