//! The kernel side: loading the BPF programs, what this kernel and these privileges allow, and reading what comes back.

pub mod btf;
mod by_process;
mod calls;
pub mod cost;
pub mod event;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod governor;
mod iter;
mod log;
mod losses;
pub mod privileges;
mod proc;
mod programs;
mod source;
mod waits;

use std::{collections::HashSet, io, thread, time::Duration};

use leakprobe_common::{
    counter::Counter,
    target::{Account, NOBODY},
    thread::{KERNEL_FRAMES, KernelStack, ThreadBrief, ThreadRecord},
};

pub(crate) use self::iter::is_there;
use self::{btf::BtfError, iter::TaskIter, programs::Marked};
pub use self::{
    by_process::{ByProcess, Place},
    losses::{is_dropped_record, loss},
    proc::ProcThreads,
    programs::Programs,
    source::{Proc, Source},
    waits::WaitSource,
};
use crate::model::Gap;

/// What the programs are loaded for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The only target's process id, in the initial pid namespace; `None` if there may be several, which costs each of them a little
    /// more.
    pub only: Option<u32>,
    /// Shortest futex wait that is streamed when it ends.
    pub min_block: Duration,
    /// Size of the ring buffer, bytes; a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Whether events are wanted, or snapshots alone.
    pub events: bool,
    /// What tells of waits between snapshots, if events are wanted.
    pub waits: WaitSource,
    /// Whether other processes that targets create are told of.
    pub forks: bool,
    /// Whether stacks in the kernel are wanted.
    pub kernel_stacks: bool,
}

/// Why the programs could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No usable BTF.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The kernel refuses for lack of privileges.
    #[error("cannot load BPF programs: not permitted; run with sudo, or grant {}", privileges::NEEDED)]
    NotPermitted,
    /// We are in a pid namespace of our own, so that our ids are not the kernel's.
    #[error(
        "leakprobe runs in a pid namespace of its own, whose process ids mean nothing to the kernel's programs; run it on the host (or in a container with the host's pid namespace)"
    )]
    PidNamespace,
    /// The kernel lacks something.
    #[error(
        "this kernel ({kernel}) cannot run leakprobe's {what}: {reason}; use a kernel from 5.15 on, and see `leakprobe doctor`"
    )]
    Unsupported {
        /// Its release.
        kernel: String,
        /// What does not work.
        what: String,
        /// What it said.
        reason: String,
    },
    /// The target's threads could not be read from `/proc`.
    #[error("cannot read the threads of {pid} from /proc: {error}; run with sudo, or grant {}", privileges::NEEDED)]
    Proc {
        /// The target.
        pid: u32,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// The iterator could not be read.
    #[error("cannot list the threads of {pid} through BPF: {error}; try again, and report it if it stays")]
    Iterator {
        /// The target.
        pid: u32,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
}

/// The programs at work for one target. Dropped, that is no target any more.
pub struct Probes {
    target: Marked,
    tgid: u32,
    threads: TaskIter,
    briefs: TaskIter,
    kernel_stacks: Option<TaskIter>,
    /// When the process started, `CLOCK_BOOTTIME`, ns; 0 if that is not known.
    process_start: u64,
    /// What is not watched of this target, and why.
    pub gaps: Vec<Gap>,
}

impl Probes {
    /// Makes the process `tgid`, an id in the initial pid namespace, one of the targets of `programs`.
    ///
    /// # Errors
    /// If the kernel has no room, or does not let us iterate over its threads.
    pub fn watch(programs: &Programs, tgid: u32) -> Result<Self, ProbeError> {
        let wrap = |error| ProbeError::Iterator { pid: tgid, error };
        let target = programs.add(tgid).map_err(wrap)?;
        let iterators = &programs.iterators;
        let mut probes = Self {
            threads: TaskIter::attach(&iterators.threads, tgid).map_err(wrap)?,
            briefs: TaskIter::attach(&iterators.briefs, tgid).map_err(wrap)?,
            kernel_stacks: iterators
                .kernel_stacks
                .as_ref()
                .map(|program| TaskIter::attach(program, tgid))
                .transpose()
                .map_err(wrap)?,
            target,
            tgid,
            process_start: 0,
            gaps: Vec::new(),
        };
        let leader =
            TaskIter::attach_thread(&iterators.briefs, tgid, tgid).and_then(|iter| iter.run(1)).map_err(wrap)?;
        let leader = leader.into_iter().find(|brief: &ThreadBrief| brief.tid == tgid);
        probes.process_start = leader.map_or(0, |leader| leader.start_boottime);
        Ok(probes)
    }

    /// The programs, for all targets.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        self.target.programs()
    }

    /// When the process started, `CLOCK_BOOTTIME`, ns; 0 if that is not known. Records of the ring buffer with another start are about
    /// another process that had, or has, the same id.
    #[must_use]
    pub fn process_start(&self) -> u64 {
        self.process_start
    }

    /// Every thread of the target, at this moment. Costs the target nothing; some 1 µs a thread.
    ///
    /// # Errors
    /// If the kernel does not let us iterate.
    pub fn threads(&self, expected: usize) -> Result<Vec<ThreadRecord>, ProbeError> {
        // A call that updates the scheduler's clock of this CPU, against which the records' clocks are read.
        thread::yield_now();
        iter::whole(self.tgid, || self.threads.run(expected))
            .map_err(|error| ProbeError::Iterator { pid: self.tgid, error })
    }

    /// The same for a few threads: a tenth of the cost where the target has thousands. Threads that are gone are left out.
    ///
    /// One that is there and was not found alone is looked for among all: before 6.12 kernels found only the first thread of a process
    /// so, unless that was mended in them.
    /// Source: <https://elixir.bootlin.com/linux/v6.6/source/kernel/bpf/task_iter.c> (`task_seq_get_next`, `PIDTYPE_TGID`).
    ///
    /// # Errors
    /// As [`Self::threads`].
    pub fn threads_of(&self, tids: &[u32]) -> Result<Vec<ThreadRecord>, ProbeError> {
        let wrap = |error| ProbeError::Iterator { pid: self.tgid, error };
        let program = &self.programs().iterators.threads;
        thread::yield_now();
        let mut records = Vec::with_capacity(tids.len());
        for &tid in tids {
            let seen = TaskIter::attach_thread(program, self.tgid, tid)
                .and_then(|iter| iter.run::<ThreadRecord>(1))
                .map_err(wrap)?;
            // Before 6.1 the kernel ignores the limit.
            records.extend(seen.into_iter().filter(|record| record.tid == tid));
        }
        let is_missed = |tid: &u32| !records.iter().any(|record| record.tid == *tid) && is_there(self.tgid, *tid);
        if tids.iter().any(is_missed) {
            records = self.threads(tids.len())?;
            records.retain(|record| tids.contains(&record.tid));
        }
        Ok(records)
    }

    /// What tells whether each thread has run. A tenth of the cost of [`Self::threads`].
    ///
    /// # Errors
    /// As [`Self::threads`].
    pub fn briefs(&self, expected: usize) -> Result<Vec<ThreadBrief>, ProbeError> {
        iter::whole(self.tgid, || self.briefs.run(expected))
            .map_err(|error| ProbeError::Iterator { pid: self.tgid, error })
    }

    /// Where these threads are in the kernel, innermost first; those that run, or are gone, are left out, as all are if
    /// [`Options::kernel_stacks`] was not set. Costs some µs a thread.
    ///
    /// # Errors
    /// As [`Self::threads`].
    pub fn kernel_stacks(&self, tids: &[u32]) -> Result<Vec<(u32, Vec<u64>)>, ProbeError> {
        let wrap = |error| ProbeError::Iterator { pid: self.tgid, error };
        let Some(all) = &self.kernel_stacks else { return Ok(Vec::new()) };
        let wanted: HashSet<u32> = tids.iter().copied().collect();
        let records: Vec<KernelStack> = all.run(tids.len()).map_err(wrap)?;
        let stack = |record: KernelStack| {
            let len = usize::try_from(record.len).unwrap_or(0).min(KERNEL_FRAMES);
            (record.tid, record.addresses[..len].to_vec())
        };
        let wanted = records.into_iter().filter(|record| record.len > 0 && wanted.contains(&record.tid));
        Ok(wanted.map(stack).collect())
    }

    /// The kernel's counters for this target. What cannot be told to be of any target counts for each: the most that was lost.
    #[must_use]
    pub fn counters(&self) -> Vec<(Counter, u64)> {
        let (own, shared) = (self.target.account(), self.programs().account(NOBODY));
        let value = |account: &Option<Account>, counter: Counter| account.map_or(0, |it| it.counters[counter as usize]);
        let sum = |counter| value(&own, counter).saturating_add(value(&shared, counter));
        Counter::ALL.iter().map(|&counter| (counter, sum(counter))).collect()
    }

    /// One of them.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters().into_iter().find(|(other, _)| *other == counter).map_or(0, |(_, count)| count)
    }
}

/// Tells a lack of privileges from a lack of features. The verifier's log, which is long, is only told with `-v`.
fn refused(what: &str, error: &(dyn std::error::Error + 'static)) -> ProbeError {
    tracing::debug!("{what}: {error:?}");
    match reason(error) {
        Reason::NotPermitted => ProbeError::NotPermitted,
        Reason::Other(reason) => {
            ProbeError::Unsupported { kernel: privileges::kernel_release(), what: what.to_owned(), reason }
        }
    }
}

/// Why the kernel refuses, in one line.
enum Reason {
    NotPermitted,
    Other(String),
}

fn reason(error: &(dyn std::error::Error + 'static)) -> Reason {
    let mut cause = Some(error);
    let mut reason = error.to_string();
    while let Some(this) = cause {
        if let Some(io) = this.downcast_ref::<io::Error>() {
            if io.kind() == io::ErrorKind::PermissionDenied {
                return Reason::NotPermitted;
            }
            reason = io.to_string();
        }
        cause = this.source();
    }
    Reason::Other(reason.lines().next().unwrap_or_default().to_owned())
}
