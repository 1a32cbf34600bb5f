//! The programs in the kernel, which all targets of a run share: they are loaded once, and so are the kernel's types.

use std::{
    collections::HashMap as StdHashMap,
    fs, io,
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::Duration,
};

use aya::{
    Btf as AyaBtf, Ebpf, EbpfLoader, Endianness,
    maps::{Array, HashMap, MapData, RingBuf},
    programs::{BtfTracePoint, Iter, Program, ProgramFd},
};
use aya_obj::btf::BtfKind;
use leakprobe_common::{
    counter::Counter,
    offsets::KernelOffsets,
    target::{Account, BITS, NOBODY, WORDS},
    wait::Settings,
};
use nix::time::ClockId;

use super::{
    ByProcess, Options, Place, ProbeError,
    btf::{self, Btf, BtfError},
    calls::SystemCalls,
    cost, log, privileges, refused,
    waits::{Attached, WaitSource},
};
use crate::{
    model::{Gap, Source},
    shared::lock,
    target::clock_ns,
};

/// The BPF programs: `leakprobe-ebpf`, built by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/leakprobe.bpf.o");

/// Tracepoints on the life of threads: program and tracepoint have the same name.
/// Exits come first: else a thread that is created while programs are attached could end unseen.
pub(super) const LIFECYCLE: &[&str] = &["sched_process_exit", "task_newtask", "sched_process_exec", "task_rename"];

/// The loaded programs. Clones are the same ones; they are unloaded with the last.
#[derive(Clone)]
pub struct Programs(Arc<Loaded>);

/// What is loaded.
pub struct Loaded {
    pub(super) iterators: Iterators,
    accounts: Mutex<HashMap<MapData, u32, Account>>,
    /// The targets: of each, what was counted for it when its place was taken.
    marked: Mutex<ByProcess<Arc<OnceLock<Account>>>>,
    /// `None` for a single target, which is a constant.
    targets: Option<Mutex<Array<MapData, u64>>>,
    attached: Mutex<State>,
    ring: Mutex<Option<RingBuf<MapData>>>,
}

impl std::ops::Deref for Programs {
    type Target = Loaded;

    fn deref(&self) -> &Loaded {
        &self.0
    }
}

/// The task iterators.
pub(super) struct Iterators {
    pub(super) threads: ProgramFd,
    pub(super) briefs: ProgramFd,
    pub(super) kernel_stacks: Option<ProgramFd>,
}

/// What changes while we watch.
struct State {
    ebpf: Ebpf,
    types: AyaBtf,
    waits: Attached,
    calls: SystemCalls,
    settings: Settings,
    settings_map: Option<Array<MapData, Settings>>,
    sources: Vec<Source>,
    gaps: Vec<Gap>,
    _told: Option<log::Told>,
}

impl Programs {
    /// Most targets at once.
    pub const MOST_TARGETS: u32 = 1024;
    /// Most stacks of one target, of each kind of record, that are streamed in a tenth of a second.
    pub const MOST_STACKS: u64 = 200;

    /// That tenth of a second.
    pub const STACKS_STEP: Duration = Duration::from_millis(100);

    /// Loads and attaches the programs. Needs `CAP_BPF` and `CAP_PERFMON`, or root; takes some tens of ms.
    ///
    /// # Errors
    /// If the kernel cannot or may not run what nothing works without. What else is missing is a gap of the loaded programs.
    pub fn load(options: &Options) -> Result<Self, ProbeError> {
        if !log::is_wanted() {
            return Self::load_to(options, false);
        }
        // Telling takes more of the verifier than an old one may give.
        Self::load_to(options, true).or_else(|error| {
            tracing::debug!("the programs tell nothing of single losses: {error}");
            Self::load_to(options, false)
        })
    }

    fn load_to(options: &Options, tells: bool) -> Result<Self, ProbeError> {
        if !privileges::in_initial_pid_namespace() {
            return Err(ProbeError::PidNamespace);
        }
        if !privileges::may_load() {
            return Err(ProbeError::NotPermitted);
        }
        // aya's loader insists on reading the kernel's 5 MB of types by itself, which takes longer than all else; so the
        // reading that we need runs beside it.
        let (types, mut loader) = thread::scope(|scope| {
            let types = thread::Builder::new().spawn_scoped(scope, kernel_types);
            let loader = EbpfLoader::new();
            // Where there may be no more threads, one does after the other.
            (types.map_or_else(|_| Ok(kernel_types()), thread::ScopedJoinHandle::join), loader)
        });
        let (offsets, types) = types.map_err(|_| BtfError::Malformed("its scan failed"))??;
        let min_block_ns = u64::try_from(options.min_block.as_nanos()).unwrap_or(u64::MAX);
        let (words, accounts) = if options.only.is_some() { (1, 2) } else { (WORDS, Self::MOST_TARGETS + 1) };
        if !tells {
            loader.map_max_entries(log::MAP, log::LEAST_BYTES);
        }
        let mut ebpf = loader
            .override_global("ONLY_TARGET", &options.only.unwrap_or(0), true)
            .override_global("MIN_BLOCK_NS", &min_block_ns, true)
            .override_global("OFFSETS", &offsets, true)
            .override_global("FORKS", &u32::from(options.forks), true)
            .override_global(log::GLOBAL, &u32::from(tells), true)
            .map_max_entries("EVENTS", options.ring_bytes)
            .map_max_entries("TARGETS", words)
            .map_max_entries("ACCOUNTS", accounts)
            .load(OBJECT)
            .map_err(|error| refused("maps", &error))?;
        let iterators = Iterators {
            threads: load_iter(&mut ebpf, "iter_threads", &types)?,
            briefs: load_iter(&mut ebpf, "iter_briefs", &types)?,
            kernel_stacks: options
                .kernel_stacks
                .then(|| load_iter(&mut ebpf, "iter_kernel_stacks", &types))
                .transpose()?,
        };
        let targets: Array<MapData, u64> = map(&mut ebpf, "TARGETS")?;
        let mut accounts: HashMap<MapData, u32, Account> = map(&mut ebpf, "ACCOUNTS")?;
        accounts.insert(NOBODY, Account::EMPTY, 0).map_err(|error| refused("maps", &error))?;
        let ring = ebpf.take_map("EVENTS").and_then(|map| RingBuf::try_from(map).ok());
        let told = tells.then(|| log::Told::read(&mut ebpf));
        let told = told.transpose().map_err(|error| refused("log", &*error))?;
        let mut state = State {
            waits: Attached::default(),
            calls: SystemCalls::new(&mut ebpf),
            settings: Settings { watched_since_ns: 0, stacks_per_window: Self::MOST_STACKS },
            settings_map: map(&mut ebpf, "SETTINGS").ok(),
            ebpf,
            types,
            sources: vec![Source::Snapshots],
            gaps: Vec::new(),
            _told: told,
        };
        state.write_settings();
        if options.events {
            state.watch_lifecycle()?;
            state.watch_waits(options.waits);
        }
        Ok(Self(Arc::new(Loaded {
            iterators,
            accounts: Mutex::new(accounts),
            marked: Mutex::default(),
            targets: options.only.is_none().then(|| Mutex::new(targets)),
            attached: Mutex::new(state),
            ring: Mutex::new(ring),
        })))
    }

    /// Makes the process `tgid` a target.
    pub(super) fn add(&self, tgid: u32) -> io::Result<Marked> {
        let counted = Arc::default();
        let mut marked = lock(&self.marked);
        let before = self.account(tgid);
        lock(&self.accounts).insert(tgid, Account::EMPTY, 0).map_err(io::Error::other)?;
        let (place, old) = marked.put(tgid, Arc::clone(&counted));
        if let Some((old, account)) = old.zip(before) {
            // Whoever still has the process that had this id before.
            let _ = old.set(account);
        }
        drop(marked);
        let marked = Marked { programs: self.clone(), place, counted };
        self.mark(tgid, true)?;
        Ok(marked)
    }
}

/// A process that is a target until this is dropped, or until another one with the same id becomes one.
pub(super) struct Marked {
    programs: Programs,
    place: Place,
    counted: Arc<OnceLock<Account>>,
}

impl Marked {
    pub(super) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// What was counted for it.
    pub(super) fn account(&self) -> Option<Account> {
        let counted = self.counted.get().copied();
        counted.or_else(|| self.programs.account(self.place.pid()))
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        self.programs.remove(self.place);
    }
}

impl Loaded {
    /// It is no target any more.
    fn remove(&self, place: Place) {
        let mut marked = lock(&self.marked);
        if marked.remove(place).is_none() {
            return; // another one with that id is
        }
        let tgid = place.pid();
        if let Err(error) = self.mark(tgid, false) {
            tracing::debug!("process {tgid} goes on being watched: {error}");
        }
        // Where it was not there, there is nothing to remove.
        let _ = lock(&self.accounts).remove(&tgid);
    }

    /// Sets or clears its bit. Programs only read them, so that our lock is enough.
    fn mark(&self, tgid: u32, is_target: bool) -> io::Result<()> {
        let Some(targets) = &self.targets else { return Ok(()) };
        let mut targets = lock(targets);
        let (place, bit) = (tgid / BITS, 1 << (tgid % BITS));
        let word = targets.get(&place, 0).map_err(io::Error::other)?;
        let word = if is_target { word | bit } else { word & !bit };
        targets.set(place, word, 0).map_err(io::Error::other)
    }

    /// What was counted for one target.
    pub(super) fn account(&self, tgid: u32) -> Option<Account> {
        lock(&self.accounts).get(&tgid, 0).ok()
    }

    /// Threads that each target has created since it is one, by its process id.
    #[must_use]
    pub fn created(&self) -> StdHashMap<u32, u64> {
        let targets: Vec<u32> = lock(&self.marked).pids().collect();
        let created = |tgid| Some((tgid, self.account(tgid)?.counters[Counter::Created as usize]));
        targets.into_iter().filter_map(created).collect()
    }

    /// The ring buffer, of all targets; `None` the second time.
    pub fn take_ring(&self) -> Option<RingBuf<MapData>> {
        lock(&self.ring).take()
    }

    /// What is watched of all targets, for the coverage statement.
    #[must_use]
    pub fn sources(&self) -> Vec<Source> {
        lock(&self.attached).sources.clone()
    }

    /// What is not, and why.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        lock(&self.attached).gaps.clone()
    }

    /// Notes something more that is not watched.
    pub fn add_gap(&self, gap: Gap) {
        lock(&self.attached).gaps.push(gap);
    }

    /// Watches waits through `source` from now on, and through nothing else. If that cannot be, they are not watched: a gap, not an
    /// error, since snapshots still see every parked thread.
    pub fn watch_waits(&self, source: WaitSource) {
        lock(&self.attached).watch_waits(source);
    }

    /// What tells of waits now.
    #[must_use]
    pub fn wait_source(&self) -> WaitSource {
        lock(&self.attached).waits.source()
    }

    /// What watching futexes costs besides its programs, or would cost if it were done, at the present rate of system calls of the
    /// machine, as a share of one core. 0 if futexes were never watched. Takes some ms.
    #[must_use]
    pub fn longer_calls(&self) -> f64 {
        let state = &mut *lock(&self.attached);
        state.calls.longer(&mut state.ebpf, &state.types)
    }

    /// Lets at most so many stacks of each target, of each kind of record, be streamed in a tenth of a second. What is left out is
    /// counted.
    pub fn limit_stacks(&self, most: u64) {
        let mut state = lock(&self.attached);
        state.settings.stacks_per_window = most;
        state.write_settings();
    }

    /// CPU time of the programs so far, for all targets, as far as the kernel accounted it.
    #[must_use]
    pub fn program_time(&self) -> cost::ProgramTime {
        cost::program_time(&lock(&self.attached).ebpf)
    }

    /// How often the kernel did not run one of our programs because it was interrupted on the same CPU. It does that for any
    /// process, so that this is the most that was missed of a target. Seen with kernel 7.2, not with 6.1.
    /// Source: <https://elixir.bootlin.com/linux/v6.12/source/kernel/trace/bpf_trace.c> (`__bpf_trace_run`); told in
    /// `/proc/PID/fdinfo` from 5.12 on.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        let state = lock(&self.attached);
        let fds = state.ebpf.programs().filter_map(|(_, program)| Some(program.fd().ok()?.as_fd().as_raw_fd()));
        fds.filter_map(|fd| {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
            info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse::<u64>().ok()
        })
        .sum()
    }
}

impl State {
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
        self.sources.push(Source::Lifecycle);
        Ok(())
    }

    fn watch_waits(&mut self, source: WaitSource) {
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

    fn switch_waits(&mut self, source: WaitSource) -> Result<(), String> {
        if source == self.waits.source() {
            return Ok(());
        }
        self.waits = Attached::default();
        // Whatever a slot says of waits that began earlier, their end may have been missed.
        self.settings.watched_since_ns = clock_ns(ClockId::CLOCK_MONOTONIC);
        self.write_settings();
        self.waits = Attached::to(&mut self.ebpf, source, &self.types, &mut self.calls)?;
        Ok(())
    }

    fn write_settings(&mut self) {
        let written = self.settings_map.as_mut().map(|map| map.set(0, self.settings, 0));
        if let Some(Err(error)) = written {
            tracing::debug!("settings: {error}");
        }
    }
}

pub(super) fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut Program> {
    ebpf.program_mut(name).ok_or_else(|| anyhow::anyhow!("the embedded BPF object has no program {name}"))
}

fn map<T: TryFrom<aya::maps::Map>>(ebpf: &mut Ebpf, name: &str) -> Result<T, ProbeError> {
    ebpf.take_map(name).and_then(|map| T::try_from(map).ok()).ok_or_else(|| {
        refused("maps", &io::Error::other(format!("the embedded BPF object has no map {name} as it should be")))
    })
}

fn load_iter(ebpf: &mut Ebpf, name: &str, types: &AyaBtf) -> Result<ProgramFd, ProbeError> {
    let load = |ebpf: &mut Ebpf| -> anyhow::Result<ProgramFd> {
        let program: &mut Iter = program(ebpf, name)?.try_into()?;
        program.load("task", types)?;
        Ok(program.fd()?.try_clone()?)
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
