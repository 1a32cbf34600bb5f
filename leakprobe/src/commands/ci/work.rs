//! Who does the work during the load: the program, or processes that it has created, as the workers of pre-fork servers do.

use std::collections::HashMap;

use crate::{snapshot::process_cpu_time, target};

/// From which share of the CPU time on the children have done work, percent. Below it are helpers: loggers, timers, shells.
const SHARE_PERCENT: u64 = 25;
/// Less CPU time than this in all loads together is no work, ns.
const LEAST_NS: u64 = 500_000;

/// CPU time during the loads, ns.
#[derive(Debug, Default)]
pub(super) struct Work {
    own: u64,
    children: u64,
    /// At the begin of the load that runs, by process and when that began.
    before: HashMap<(u32, u64), u64>,
}

impl Work {
    /// A load begins.
    pub(super) fn begin(&mut self, pid: u32) {
        self.before = times(pid).map(|process| (process.who, process.cpu_ns)).collect();
    }

    /// It has ended. `is_judged` knows the children that are judged as well. What processes that have ended meanwhile did is not known: they leave nothing behind, either.
    pub(super) fn end(&mut self, pid: u32, is_judged: impl Fn(u32) -> bool) {
        let before = std::mem::take(&mut self.before);
        for process in times(pid) {
            let used = process.cpu_ns.saturating_sub(before.get(&process.who).copied().unwrap_or(0));
            if process.who.0 == pid || is_judged(process.who.0) {
                self.own = self.own.saturating_add(used);
            } else {
                self.children = self.children.saturating_add(used);
            }
        }
    }

    /// That children which were not judged did work, if they did.
    pub(super) fn unjudged(&self) -> Option<String> {
        let all = u128::from(self.own) + u128::from(self.children);
        let percent = u128::from(self.children) * 100 / all.max(1);
        (self.children >= LEAST_NS && percent >= u128::from(SHARE_PERCENT)).then(|| {
            format!(
                "processes that it has created did {percent} % of the work (CPU time during the load), and none of them was judged: \
                 check such a process by `leakprobe ci -p`"
            )
        })
    }
}

struct Process {
    /// Its id, and when it began: ids are used again.
    who: (u32, u64),
    cpu_ns: u64,
}

/// The CPU time of a process and of its descendants.
fn times(pid: u32) -> impl Iterator<Item = Process> {
    let own = target::Stat::of(pid).map(|stat| (pid, stat));
    let all = own.into_iter().chain(target::descendants(pid));
    all.filter_map(|(pid, stat)| Some(Process { who: (pid, stat.start_ticks), cpu_ns: process_cpu_time(pid)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_have_worked_if_their_part_is_large_enough() {
        let of = |own, children| Work { own, children, before: HashMap::new() }.unjudged();
        assert_eq!(of(0, 0), None);
        assert_eq!(of(0, LEAST_NS - 1), None);
        assert_eq!(of(100_000_000, 20_000_000), None);
        let said = of(1_000_000, 99_000_000).unwrap();
        assert!(said.starts_with("processes that it has created did 99 % of the work"), "{said}");
        assert!(of(u64::MAX, u64::MAX).unwrap().contains(" 50 %"));
    }
}
