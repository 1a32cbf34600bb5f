//! The kernel side: loading the BPF programs, what this kernel and these privileges allow, and reading what comes back.

pub mod btf;
mod calls;
pub mod cost;
pub mod event;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod governor;
mod iter;
mod losses;
pub mod privileges;
mod proc;
mod source;
mod waits;

use std::{
    collections::HashSet,
    fs, io,
    os::fd::{AsFd, AsRawFd},
    thread,
    time::Duration,
};

use aya::{
    Btf as AyaBtf, Ebpf, EbpfLoader, Endianness,
    maps::{Array, MapData, PerCpuArray, RingBuf},
    programs::{BtfTracePoint, Iter, Program},
};
use aya_obj::btf::BtfKind;
use leakprobe_common::{
    counter::Counter,
    offsets::KernelOffsets,
    thread::{KERNEL_FRAMES, KernelStack, ThreadBrief, ThreadRecord},
    wait::{OP_SLEEP, SLOTS, Settings, Slot},
};
use nix::time::ClockId;

pub(crate) use self::iter::is_there;
use self::{
    btf::{Btf, BtfError},
    iter::TaskIter,
    waits::Attached,
};
pub use self::{
    losses::{is_dropped_record, loss},
    proc::ProcThreads,
    source::{Proc, Source},
    waits::WaitSource,
};
use crate::{
    model::{self, Gap},
    target::clock_ns,
};

/// The BPF programs: `leakprobe-ebpf`, built by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/leakprobe.bpf.o");

/// Tracepoints on the life of threads: program and tracepoint have the same name.
/// Exits come first: else a thread that is created while programs are attached could end unseen.
const LIFECYCLE: &[&str] = &["sched_process_exit", "task_newtask", "sched_process_exec", "task_rename"];

/// What the programs are loaded for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The target's process id, in the initial pid namespace.
    pub tgid: u32,
    /// Shortest futex wait that is streamed when it ends.
    pub min_block: Duration,
    /// Size of the ring buffer, bytes; a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Whether events are wanted, or snapshots alone.
    pub events: bool,
    /// What tells of waits between snapshots, if events are wanted.
    pub waits: WaitSource,
    /// Whether other processes that the target creates are told of.
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

/// The loaded programs.
pub struct Probes {
    ebpf: Ebpf,
    tgid: u32,
    threads: TaskIter,
    briefs: TaskIter,
    kernel_stacks: Option<TaskIter>,
    types: AyaBtf,
    waits: Attached,
    slots: Option<Array<MapData, Slot>>,
    settings: Settings,
    settings_map: Option<Array<MapData, Settings>>,
    counters: Option<PerCpuArray<MapData, u64>>,
    calls: Option<PerCpuArray<MapData, u64>>,
    /// What is watched, for the coverage statement.
    pub sources: Vec<model::Source>,
    /// What is not, and why.
    pub gaps: Vec<Gap>,
}

impl Probes {
    /// Loads the programs for one target. Needs `CAP_BPF` and `CAP_PERFMON`, or root; takes some tens of ms.
    ///
    /// # Errors
    /// If the kernel cannot or may not run what nothing works without. What else is missing goes to `gaps`.
    pub fn load(options: &Options) -> Result<Self, ProbeError> {
        if !privileges::in_initial_pid_namespace() {
            return Err(ProbeError::PidNamespace);
        }
        if !privileges::may_load() {
            return Err(ProbeError::NotPermitted);
        }
        // aya's loader insists on reading the kernel's 5 MB of types by itself, which takes longer than all else; so the
        // reading that we need runs beside it.
        let (types, mut loader) = thread::scope(|scope| {
            let types = scope.spawn(kernel_types);
            let loader = EbpfLoader::new();
            (types.join(), loader)
        });
        let (offsets, types) = types.map_err(|_| BtfError::Malformed("its scan failed"))??;
        let min_block_ns = u64::try_from(options.min_block.as_nanos()).unwrap_or(u64::MAX);
        let mut ebpf = loader
            .override_global("TARGET_TGID", &options.tgid, true)
            .override_global("MIN_BLOCK_NS", &min_block_ns, true)
            .override_global("OFFSETS", &offsets, true)
            .override_global("FORKS", &u32::from(options.forks), true)
            .map_max_entries("EVENTS", options.ring_bytes)
            .load(OBJECT)
            .map_err(|error| refused("maps", &error))?;
        let threads = load_iter(&mut ebpf, "iter_threads", options.tgid, &types)?;
        let briefs = load_iter(&mut ebpf, "iter_briefs", options.tgid, &types)?;
        let mut probes = Self {
            kernel_stacks: None,
            types,
            waits: Attached::default(),
            slots: ebpf.take_map("WAIT_SLOTS").and_then(|map| Array::try_from(map).ok()),
            settings: Settings { watched_since_ns: 0, stacks_per_window: Self::MOST_STACKS },
            settings_map: ebpf.take_map("SETTINGS").and_then(|map| Array::try_from(map).ok()),
            counters: ebpf.take_map("COUNTERS").and_then(|map| PerCpuArray::try_from(map).ok()),
            calls: ebpf.take_map("CALLS").and_then(|map| PerCpuArray::try_from(map).ok()),
            ebpf,
            tgid: options.tgid,
            threads,
            briefs,
            sources: vec![model::Source::Snapshots],
            gaps: Vec::new(),
        };
        if options.kernel_stacks {
            probes.kernel_stacks =
                Some(load_iter(&mut probes.ebpf, "iter_kernel_stacks", options.tgid, &probes.types)?);
        }
        probes.write_settings();
        if options.events {
            probes.watch_lifecycle()?;
            probes.watch_waits(options.waits);
        }
        Ok(probes)
    }

    fn watch_lifecycle(&mut self) -> Result<(), ProbeError> {
        for name in LIFECYCLE {
            let attach = |ebpf: &mut Ebpf| -> anyhow::Result<()> {
                let program: &mut BtfTracePoint = program(ebpf, name)?.try_into()?;
                program.load(name, &self.types)?;
                program.attach()?;
                Ok(())
            };
            attach(&mut self.ebpf).map_err(|error| refused(name, &*error))?;
        }
        self.sources.push(model::Source::Lifecycle);
        Ok(())
    }

    /// Watches waits through `source` from now on, and through nothing else. If that cannot be, they are not watched: a gap, not an
    /// error, since snapshots still see every parked thread.
    pub fn watch_waits(&mut self, source: WaitSource) {
        if let (Err(why), Some(wanted)) = (self.switch_waits(source), source.events()) {
            // Those of the scheduler need less privilege on some kernels.
            let switches_instead = source == WaitSource::Futexes && self.switch_waits(WaitSource::Switches).is_ok();
            self.gaps.push(Gap::WaitsNotWatched { source: wanted, why, switches_instead });
        }
        if let Some(source) = self.waits.source().events()
            && !self.sources.contains(&source)
        {
            self.sources.push(source);
        }
    }

    /// What tells of waits now.
    #[must_use]
    pub fn wait_source(&self) -> WaitSource {
        self.waits.source()
    }

    fn switch_waits(&mut self, source: WaitSource) -> Result<(), String> {
        if source == self.waits.source() {
            return Ok(());
        }
        self.waits = Attached::default();
        // Whatever a slot says of waits that began earlier, their end may have been missed.
        self.settings.watched_since_ns = clock_ns(ClockId::CLOCK_MONOTONIC);
        self.write_settings();
        self.waits = Attached::to(&mut self.ebpf, source, &self.types)?;
        Ok(())
    }

    /// What watching futexes costs besides its programs, or would cost if it were done, at the present rate of system calls of the
    /// machine: this target's part, as a share of one core. 0 if futexes were never watched.
    pub fn longer_calls(&mut self) -> f64 {
        let Some(counts) = &self.calls else { return 0.0 };
        calls::longer_calls(&mut self.ebpf, counts, &self.types, self.waits.source() == WaitSource::Futexes)
    }

    /// Most stacks, of each kind of record, that are streamed in a tenth of a second.
    pub const MOST_STACKS: u64 = 200;

    /// Lets at most so many stacks, of each kind of record, be streamed in a tenth of a second. What is left out is counted.
    pub fn limit_stacks(&mut self, most: u64) {
        self.settings.stacks_per_window = most;
        self.write_settings();
    }

    /// CPU time of the programs so far, as far as the kernel accounted it.
    #[must_use]
    pub fn program_time(&self) -> cost::ProgramTime {
        cost::program_time(&self.ebpf)
    }

    fn write_settings(&mut self) {
        let written = self.settings_map.as_mut().map(|map| map.set(0, self.settings, 0));
        if let Some(Err(error)) = written {
            tracing::debug!("settings: {error}");
        }
    }

    /// The ring buffer; `None` the second time.
    pub fn take_ring(&mut self) -> Option<RingBuf<MapData>> {
        self.ebpf.take_map("EVENTS").and_then(|map| RingBuf::try_from(map).ok())
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
        let Some(Program::Iter(program)) = self.ebpf.program("iter_threads") else {
            return self.threads(0);
        };
        let program = program.fd().map_err(|error| wrap(io::Error::other(error)))?;
        thread::yield_now();
        let mut records = Vec::with_capacity(tids.len());
        for &tid in tids {
            let seen =
                TaskIter::attach_thread(program, tid).and_then(|iter| iter.run::<ThreadRecord>(1)).map_err(wrap)?;
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

    /// What tells whether each thread has run. A third of the cost of [`Self::threads`].
    ///
    /// # Errors
    /// As [`Self::threads`].
    pub fn briefs(&self, expected: usize) -> Result<Vec<ThreadBrief>, ProbeError> {
        iter::whole(self.tgid, || self.briefs.run(expected))
            .map_err(|error| ProbeError::Iterator { pid: self.tgid, error })
    }

    /// When `tid` began to wait, `CLOCK_MONOTONIC` ns, if that was seen. `word` is the futex word that it waits on, if it does.
    #[must_use]
    pub fn wait_began(&self, tid: u32, word: Option<u64>) -> Option<u64> {
        let slot = self.slots.as_ref()?.get(&(tid % SLOTS), 0).ok()?;
        let is_this = slot.op == OP_SLEEP || word == Some(slot.word);
        let is_seen = slot.tid == tid && slot.started_ns != 0 && slot.started_ns >= self.settings.watched_since_ns;
        (is_this && is_seen).then_some(slot.started_ns)
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

    /// The kernel's counters, summed over CPUs.
    #[must_use]
    pub fn counters(&self) -> Vec<(Counter, u64)> {
        Counter::ALL.iter().filter_map(|&counter| Some((counter, self.counter(counter)?))).collect()
    }

    /// How often the kernel did not run one of our programs because it was interrupted on the same CPU. It does that for any
    /// process, so that this is the most that was missed of the target. Seen with kernel 7.2, not with 6.1.
    /// Source: <https://elixir.bootlin.com/linux/v6.12/source/kernel/trace/bpf_trace.c> (`__bpf_trace_run`); told in
    /// `/proc/PID/fdinfo` from 5.12 on.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        let fds = self.ebpf.programs().filter_map(|(_, program)| Some(program.fd().ok()?.as_fd().as_raw_fd()));
        fds.filter_map(|fd| {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
            info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse::<u64>().ok()
        })
        .sum()
    }

    /// One of them.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> Option<u64> {
        let values = self.counters.as_ref()?.get(&(counter as u32), 0).ok()?;
        Some(values.iter().sum())
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut Program> {
    ebpf.program_mut(name).ok_or_else(|| anyhow::anyhow!("the embedded BPF object has no program {name}"))
}

fn load_iter(ebpf: &mut Ebpf, name: &str, tgid: u32, types: &AyaBtf) -> Result<TaskIter, ProbeError> {
    let load = |ebpf: &mut Ebpf| -> anyhow::Result<TaskIter> {
        let program: &mut Iter = program(ebpf, name)?.try_into()?;
        program.load("task", types)?;
        Ok(TaskIter::attach(program.fd()?, tgid)?)
    };
    load(ebpf).map_err(|error| match refused("task iterator", &*error) {
        ProbeError::Unsupported { kernel, what, .. } if !has_task_regs(types) => {
            let reason = "it lacks the BPF helper bpf_task_pt_regs, which came with 5.15".to_owned();
            ProbeError::Unsupported { kernel, what, reason }
        }
        other => other,
    })
}

/// Where the kernel keeps the fields that we read, and its types as aya wants them.
fn kernel_types() -> Result<(KernelOffsets, AyaBtf), BtfError> {
    let data = btf::read_kernel()?;
    let offsets = Btf::parse(&data)?.kernel_offsets()?;
    let types =
        AyaBtf::parse(&data, Endianness::default()).map_err(|_| BtfError::Malformed("its types cannot be read"))?;
    Ok((offsets, types))
}

/// Whether the kernel has the helper that reads a task's registers.
fn has_task_regs(types: &AyaBtf) -> bool {
    types.id_by_type_name_kind("bpf_task_pt_regs", BtfKind::Func).is_ok()
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
