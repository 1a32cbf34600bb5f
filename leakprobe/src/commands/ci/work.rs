//! Who does the work during the load: the program, or processes that it has created, as the workers of pre-fork servers do.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{snapshot::process_cpu_time, target};

/// From which share of the CPU time on the children have done work, percent. Below it are helpers: loggers, timers, shells.
const SHARE_PERCENT: u64 = 25;
/// Less CPU time than this in all loads together is no work, ns.
const LEAST_NS: u64 = 500_000;
/// Less CPU time than this in a load shows that it did not reach the program, ns: to accept a connection takes more.
const IDLE_NS: u64 = 10_000;

/// CPU time during the loads, ns.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// By process id. An id that is used again stands for both.
    done: HashMap<u32, u64>,
    /// In each load, of all processes that were there at its end.
    loads: Vec<u64>,
    /// At the begin of the load that runs, by process and when that began.
    before: HashMap<(u32, u64), u64>,
}

impl Work {
    /// A load begins.
    pub(super) fn begin(&mut self, roots: &[u32]) {
        self.before = times(roots).map(|process| (process.who, process.cpu_ns)).collect();
    }

    /// A load has ended: adds what each process has done since it began.
    pub(super) fn end(&mut self, roots: &[u32]) {
        let before = std::mem::take(&mut self.before);
        let mut all = 0_u64;
        for process in times(roots) {
            let used = process.cpu_ns.saturating_sub(before.get(&process.who).copied().unwrap_or(0));
            all = all.saturating_add(used);
            let done = self.done.entry(process.who.0).or_default();
            *done = done.saturating_add(used);
        }
        self.loads.push(all);
    }

    /// In how many of the loads the program did nothing, and how many there were.
    pub(super) fn idle(&self) -> (usize, usize) {
        (self.loads.iter().filter(|&&used| used < IDLE_NS).count(), self.loads.len())
    }

    /// Once all is at rest: forgets processes that have ended by now, which leave nothing behind.
    pub(super) fn keep(&mut self, is_there: impl Fn(u32) -> bool) {
        self.done.retain(|&pid, _| is_there(pid));
    }

    /// The part that processes other than these did, percent; `None` if it is too little to be work.
    pub(super) fn percent_without(&self, judged: &HashSet<u32>) -> Option<u64> {
        let sum = |is_wanted: &dyn Fn(u32) -> bool| {
            let wanted = self.done.iter().filter(|(pid, _)| is_wanted(**pid));
            wanted.map(|(_, &done)| u128::from(done)).sum::<u128>()
        };
        let (all, others) = (sum(&|_| true), sum(&|pid| !judged.contains(&pid)));
        let percent = u64::try_from(others * 100 / all.max(1)).unwrap_or(100);
        (others >= u128::from(LEAST_NS) && percent >= SHARE_PERCENT).then_some(percent)
    }
}

struct Process {
    /// Its id, and when it began: ids are used again.
    who: (u32, u64),
    cpu_ns: u64,
}

/// The CPU time of these processes and of their descendants.
fn times(roots: &[u32]) -> impl Iterator<Item = Process> {
    let own = roots.iter().filter_map(|&pid| Some((pid, target::Stat::of(pid)?)));
    let all: BTreeMap<u32, target::Stat> = own.chain(family(roots)).collect();
    all.into_iter()
        .filter_map(|(pid, stat)| Some(Process { who: (pid, stat.start_ticks), cpu_ns: process_cpu_time(pid)? }))
}

/// All descendants of these processes.
pub(super) fn family(roots: &[u32]) -> BTreeMap<u32, target::Stat> {
    let mut family = BTreeMap::new();
    for root in roots {
        // Those of a descendant are there already.
        if !family.contains_key(root) {
            family.extend(target::descendants(*root));
        }
    }
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_have_worked_if_their_part_is_large_enough() {
        let of = |own, child| {
            let work = Work { done: [(1, own), (2, child)].into(), ..Work::default() };
            assert_eq!(work.percent_without(&HashSet::from([1, 2])), None);
            work.percent_without(&HashSet::from([1]))
        };
        assert_eq!(of(0, 0), None);
        assert_eq!(of(0, LEAST_NS - 1), None);
        assert_eq!(of(100_000_000, 20_000_000), None);
        assert_eq!(of(1_000_000, 99_000_000), Some(99));
        assert_eq!(of(u64::MAX, u64::MAX), Some(50));
    }

    #[test]
    fn who_has_ended_has_left_nothing() {
        let mut work = Work { done: [(1, 1_000_000), (2, 99_000_000), (3, 0)].into(), ..Work::default() };
        work.keep(|pid| pid != 2);
        assert_eq!(work.percent_without(&HashSet::from([1])), None);
    }
}
