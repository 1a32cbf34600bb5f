//! What our programs cost, as the kernel accounts it.

use std::{fs, os::fd::OwnedFd};

use aya::{
    Ebpf,
    sys::{Stats, enable_stats},
};
use caps::Capability::CAP_SYS_ADMIN;

use super::{calls, programs, waits};
use crate::privilege;

/// What it takes to get into a program and back, which the kernel does not count as the program's: for a system call tracepoint, ns.
/// It copies the call's arguments into a record first. Measured with empty programs: 0.37 µs for the eight hits of a futex round trip.
const TRACEPOINT_NS: u64 = 50;
/// The same for a BTF tracepoint, which is a direct call.
const BTF_TRACEPOINT_NS: u64 = 8;

/// CPU time of programs, as long as [`Accounting`] is held: of use as the difference of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramTime {
    /// Those that tell of waits, and what counts what they cost others, ns.
    pub waits_ns: u64,
    /// Those on the life of threads, ns.
    pub lifecycle_ns: u64,
}

impl ProgramTime {
    /// What was added since `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            waits_ns: self.waits_ns.saturating_sub(earlier.waits_ns),
            lifecycle_ns: self.lifecycle_ns.saturating_sub(earlier.lifecycle_ns),
        }
    }
}

/// Lets the kernel account the time of all BPF programs of the machine, which costs each run of one some 40 ns. Dropped, it ends.
#[derive(Debug)]
pub struct Accounting {
    _enabled: OwnedFd,
}

impl Accounting {
    /// Begins. Kernel 5.8; needs `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn begin() -> Result<Self, String> {
        let _raised = privilege::raise(&[CAP_SYS_ADMIN]);
        match enable_stats(Stats::RunTime) {
            Ok(enabled) => Ok(Self { _enabled: enabled }),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The time of all loaded programs so far, as far as it was accounted.
pub(super) fn program_time(ebpf: &Ebpf) -> ProgramTime {
    let mut total = ProgramTime::default();
    for (name, program) in ebpf.programs() {
        let Ok(info) = program.info() else { continue }; // it is not loaded
        let ns = u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX);
        let entry = if waits::is_tracepoint(name) { TRACEPOINT_NS } else { BTF_TRACEPOINT_NS };
        let ns = ns.saturating_add(info.run_count().saturating_mul(entry));
        let part = if waits::tells_of_waits(name) || name == calls::COUNTER {
            &mut total.waits_ns
        } else if programs::LIFECYCLE.contains(&name) {
            &mut total.lifecycle_ns
        } else {
            continue; // iterators run in our own time
        };
        *part = part.saturating_add(ns);
    }
    total
}

/// What the whole machine has done so far: of use as the difference of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Context switches.
    pub switches: u64,
    /// Time in which CPUs were not idle, in clock ticks of 10 ms.
    pub busy_ticks: u64,
}

impl Done {
    /// Reads it: some 50 µs. Source: <https://man7.org/linux/man-pages/man5/proc_stat.5.html>
    #[must_use]
    pub fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        let field = |key: &str| stat.lines().find_map(|line| line.strip_prefix(key));
        let switches = field("ctxt ")?.trim().parse().ok()?;
        // user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of the first two.
        let times = field("cpu ")?.split_ascii_whitespace().take(8).map(str::parse);
        let times: Vec<u64> = times.collect::<Result<_, _>>().ok()?;
        let idle: u64 = times.iter().skip(3).take(2).sum();
        Some(Self { switches, busy_ticks: times.iter().sum::<u64>().saturating_sub(idle) })
    }

    /// What was added since `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            switches: self.switches.saturating_sub(earlier.switches),
            busy_ticks: self.busy_ticks.saturating_sub(earlier.busy_ticks),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_has_done_is_told_apart_from_idle_time() {
        let stat = "cpu  10 1 20 4000 500 3 4 5 7 0\ncpu0 1 1 1 1 1 1 1 1 0 0\nintr 9 1\nctxt 123456\nbtime 1\n";
        let done = Done::parse(stat).unwrap();
        assert_eq!(done, Done { switches: 123_456, busy_ticks: 43 });
        assert_eq!(done.since(Done { switches: 123_000, busy_ticks: 50 }), Done { switches: 456, busy_ticks: 0 });
        for len in 0..stat.len() - "6\nbtime 1\n".len() {
            assert!(Done::parse(&stat[..len]).is_none_or(|done| done.busy_ticks == 43), "{len}");
        }
        for broken in ["cpu  a b\nctxt 1\n", "cpu  1\nctxt -1\n", "ctxt 1\n"] {
            assert_eq!(Done::parse(broken), None, "{broken}");
        }
        assert!(Done::read().is_some());
    }
}
