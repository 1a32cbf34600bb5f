//! Where the threads of a target come from: the kernel's programs, or `/proc` where those are not to be had.

use std::io;

use leakprobe_common::{
    counter::Counter,
    thread::{ThreadBrief, ThreadRecord},
};

use super::{ProbeError, Probes, ProcThreads, Programs, privileges};
use crate::{
    model::{self, Gap},
    privilege,
};

/// What watches a target.
pub enum Source {
    /// The BPF programs.
    Kernel(Box<Probes>),
    /// `/proc` alone.
    Proc(Box<Proc>),
}

/// `/proc` alone, and what is said of that.
pub struct Proc {
    threads: ProcThreads,
    sources: Vec<model::Source>,
    gaps: Vec<Gap>,
}

impl Source {
    /// Has `programs` watch the process `tgid`; or reads `/proc`, if the kernel refuses that, which [`Self::gaps`] then say.
    ///
    /// # Errors
    /// If not even `/proc` can be read.
    pub fn open(programs: Result<&Programs, &str>, tgid: u32, events: bool) -> Result<Self, ProbeError> {
        let probes = programs.map_err(str::to_owned);
        let probes = probes.and_then(|programs| Probes::watch(programs, tgid).map_err(|error| error.to_string()));
        match probes {
            Ok(probes) => Ok(Self::Kernel(Box::new(probes))),
            Err(why) => Self::proc(tgid, events, &why),
        }
    }

    /// Reads `/proc`, for the reason `why`. `events`: whether they would have been wanted.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn proc(tgid: u32, events: bool, why: &str) -> Result<Self, ProbeError> {
        let threads = ProcThreads::of(tgid).map_err(|error| ProbeError::Proc { pid: tgid, error })?;
        let mut gaps = vec![Gap::WithoutBpf { events, why: why.to_owned() }];
        if !threads.has_calls() {
            gaps.push(Gap::CallsUnreadable {
                pid: tgid,
                lacking: privilege::lacking_to_read_others(),
                yama: privileges::restricts_ptrace(),
            });
        }
        Ok(Self::Proc(Box::new(Proc { threads, sources: vec![model::Source::ProcSnapshots], gaps })))
    }

    /// Whether it is `/proc` alone.
    #[must_use]
    pub fn is_proc(&self) -> bool {
        matches!(self, Self::Proc(_))
    }

    /// See [`Probes::process_start`].
    #[must_use]
    pub fn process_start(&self) -> u64 {
        match self {
            Self::Kernel(probes) => probes.process_start(),
            Self::Proc(_) => 0,
        }
    }

    /// See [`Probes::threads`] and [`ProcThreads::threads`].
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn threads(&self, expected: usize) -> Result<Vec<ThreadRecord>, ProbeError> {
        match self {
            Self::Kernel(probes) => probes.threads(expected),
            Self::Proc(proc) => proc.threads.threads().map_err(|error| self.failed(error)),
        }
    }

    /// See [`Probes::threads_of`].
    ///
    /// # Errors
    /// As [`Self::threads`].
    pub fn threads_of(&self, tids: &[u32]) -> Result<Vec<ThreadRecord>, ProbeError> {
        match self {
            Self::Kernel(probes) => probes.threads_of(tids),
            Self::Proc(proc) => Ok(proc.threads.threads_of(tids)),
        }
    }

    /// See [`Probes::briefs`].
    ///
    /// # Errors
    /// As [`Self::threads`].
    pub fn briefs(&self, expected: usize) -> Result<Vec<ThreadBrief>, ProbeError> {
        match self {
            Self::Kernel(probes) => probes.briefs(expected),
            Self::Proc(proc) => proc.threads.briefs().map_err(|error| self.failed(error)),
        }
    }

    fn failed(&self, error: io::Error) -> ProbeError {
        let pid = if let Self::Proc(proc) = self { proc.threads.pid() } else { 0 };
        ProbeError::Proc { pid, error }
    }

    /// The function of the kernel in which a thread waits, where that is all that can be had: without its registers.
    #[must_use]
    pub fn wait_channel(&self, record: &ThreadRecord) -> Option<String> {
        match self {
            Self::Proc(proc) if record.regs.iter().all(|&word| word == 0) => {
                Some(proc.threads.wait_channel(record.tid).unwrap_or_default())
            }
            _ => None,
        }
    }

    /// See [`Probes::kernel_stacks`].
    ///
    /// # Errors
    /// As [`Self::threads`].
    pub fn kernel_stacks(&self, tids: &[u32]) -> Result<Vec<(u32, Vec<u64>)>, ProbeError> {
        match self {
            Self::Kernel(probes) => probes.kernel_stacks(tids),
            Self::Proc(_) => Ok(Vec::new()),
        }
    }

    /// See [`Probes::counters`].
    #[must_use]
    pub fn counters(&self) -> Vec<(Counter, u64)> {
        match self {
            Self::Kernel(probes) => probes.counters(),
            Self::Proc(_) => Vec::new(),
        }
    }

    /// See [`Probes::counter`].
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        match self {
            Self::Kernel(probes) => probes.counter(counter),
            Self::Proc(_) => 0,
        }
    }

    /// How often the kernel did not run one of the programs because it was interrupted on the same CPU; of any process.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        match self {
            Self::Kernel(probes) => probes.programs().skipped(),
            Self::Proc(_) => 0,
        }
    }

    /// What is watched, for the coverage statement.
    #[must_use]
    pub fn sources(&self) -> Vec<model::Source> {
        match self {
            Self::Kernel(probes) => probes.programs().sources(),
            Self::Proc(proc) => proc.sources.clone(),
        }
    }

    /// What is not watched of this target, and why.
    pub fn gaps(&mut self) -> &mut Vec<Gap> {
        match self {
            Self::Kernel(probes) => &mut probes.gaps,
            Self::Proc(proc) => &mut proc.gaps,
        }
    }

    /// What is not watched of it, nor of any other target.
    #[must_use]
    pub fn all_gaps(&self) -> Vec<Gap> {
        match self {
            Self::Kernel(probes) => [probes.programs().gaps(), probes.gaps.clone()].concat(),
            Self::Proc(proc) => proc.gaps.clone(),
        }
    }
}
