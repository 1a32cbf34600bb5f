//! Where the threads of a target come from: the kernel's programs, or `/proc` where those are not to be had.

use std::io;

use aya::maps::{MapData, RingBuf};
use leakprobe_common::{
    counter::Counter,
    thread::{ThreadBrief, ThreadRecord},
};

use super::{Options, ProbeError, Probes, ProcThreads, WaitSource, privileges};
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
    /// Loads the programs; or reads `/proc`, if the kernel refuses them for want of privileges or of features, which
    /// [`Self::gaps`] then say.
    ///
    /// # Errors
    /// If not even `/proc` can be read.
    pub fn open(options: &Options) -> Result<Self, ProbeError> {
        match Probes::load(options) {
            Ok(probes) => Ok(Self::Kernel(Box::new(probes))),
            Err(why) => Self::proc(options, &why.to_string()),
        }
    }

    /// Reads `/proc`, for the reason `why`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn proc(options: &Options, why: &str) -> Result<Self, ProbeError> {
        let threads = ProcThreads::of(options.tgid).map_err(|error| ProbeError::Proc { pid: options.tgid, error })?;
        let mut gaps = vec![Gap::WithoutBpf { events: options.events, why: why.to_owned() }];
        if !threads.has_calls() {
            gaps.push(Gap::CallsUnreadable {
                pid: options.tgid,
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

    /// See [`Probes::take_ring`]; `/proc` has none.
    pub fn take_ring(&mut self) -> Option<RingBuf<MapData>> {
        match self {
            Self::Kernel(probes) => probes.take_ring(),
            Self::Proc(_) => None,
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

    /// See [`Probes::wait_began`].
    #[must_use]
    pub fn wait_began(&self, tid: u32, word: Option<u64>) -> Option<u64> {
        match self {
            Self::Kernel(probes) => probes.wait_began(tid, word),
            Self::Proc(_) => None,
        }
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
    pub fn counter(&self, counter: Counter) -> Option<u64> {
        match self {
            Self::Kernel(probes) => probes.counter(counter),
            Self::Proc(_) => None,
        }
    }

    /// See [`Probes::skipped`].
    #[must_use]
    pub fn skipped(&self) -> u64 {
        match self {
            Self::Kernel(probes) => probes.skipped(),
            Self::Proc(_) => 0,
        }
    }

    /// See [`Probes::wait_source`].
    #[must_use]
    pub fn wait_source(&self) -> WaitSource {
        match self {
            Self::Kernel(probes) => probes.wait_source(),
            Self::Proc(_) => WaitSource::Snapshots,
        }
    }

    /// What is watched, for the coverage statement.
    #[must_use]
    pub fn sources(&self) -> &[model::Source] {
        match self {
            Self::Kernel(probes) => &probes.sources,
            Self::Proc(proc) => &proc.sources,
        }
    }

    /// What is not, and why.
    pub fn gaps(&mut self) -> &mut Vec<Gap> {
        match self {
            Self::Kernel(probes) => &mut probes.gaps,
            Self::Proc(proc) => &mut proc.gaps,
        }
    }
}
