//! What all targets of a run share: the programs in the kernel, their records, and the governor of what they cost; and
//! what is known of files with code, and of the machine.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use super::{
    Options, Stop,
    bell::Bell,
    governing::Governing,
    ring::{Records, Ring},
};
use crate::{
    probes::{self, Programs},
    shared::lock,
    snapshot::Machine,
    symbols,
};

/// Clones are the same one.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Shared>);

struct Shared {
    options: Options,
    /// The only target there will be, if that is known.
    only: Option<u32>,
    events: bool,
    stop: Stop,
    symbols: symbols::Cache,
    machine: Machine,
    targets: Arc<TargetCount>,
    /// Loaded when the first target comes; else why they cannot be.
    kernel: OnceLock<Result<Kernel, String>>,
}

/// How many targets there are now, and how many there were at most at one time.
#[derive(Default)]
struct TargetCount {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A target, until this is dropped.
pub(super) struct CountedTarget(Arc<TargetCount>);

impl Drop for CountedTarget {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What runs in the kernel, and what comes from there.
struct Kernel {
    programs: Programs,
    /// Without events there is none.
    ring: Option<Ring>,
    governing: Mutex<Governing>,
}

impl Hub {
    /// For one process if `only` is given, and else for as many as there will be. `events`: whether more than snapshots is wanted. All
    /// that takes long ends by `stop`.
    pub(crate) fn new(options: &Options, only: Option<u32>, events: bool, stop: &Stop) -> Self {
        Self(Arc::new(Shared {
            // Those that it creates are added.
            only: only.filter(|_| !options.follow_forks),
            options: options.clone(),
            events,
            stop: stop.clone(),
            symbols: symbols::Cache::default(),
            machine: Machine::default(),
            targets: Arc::default(),
            kernel: OnceLock::new(),
        }))
    }

    /// How targets are watched.
    pub(super) fn options(&self) -> &Options {
        &self.0.options
    }

    /// Whether more than snapshots is wanted.
    pub(super) fn events(&self) -> bool {
        self.0.events
    }

    /// Ends watching.
    pub(super) fn stop(&self) -> &Stop {
        &self.0.stop
    }

    /// Counts one more target.
    pub(super) fn count_target(&self) -> CountedTarget {
        let TargetCount { now, most } = &*self.0.targets;
        most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        CountedTarget(Arc::clone(&self.0.targets))
    }

    /// How many targets there are.
    pub(super) fn targets(&self) -> usize {
        self.0.targets.now.load(Ordering::Relaxed)
    }

    /// How many targets there were at most at one time.
    pub(super) fn most_targets(&self) -> usize {
        self.0.targets.most.load(Ordering::Relaxed)
    }

    /// What is known of files with code.
    pub(super) fn symbols(&self) -> &symbols::Cache {
        &self.0.symbols
    }

    /// What is read of the machine.
    pub(super) fn machine(&self) -> &Machine {
        &self.0.machine
    }

    /// Whether it is known what the programs can do here: they are loaded, or cannot be.
    pub(super) fn is_loaded(&self) -> bool {
        self.0.kernel.get().is_some()
    }

    /// The programs, or why there are none.
    pub(super) fn programs(&self) -> Result<&Programs, &str> {
        self.kernel().map(|kernel| &kernel.programs)
    }

    /// The records of one target, which ring `bell` as they come.
    pub(super) fn records(&self, pid: u32, bell: &Arc<Bell>) -> Option<Records> {
        Some(self.kernel().ok()?.ring.as_ref()?.queue(pid, bell))
    }

    /// The governor; `None` without programs.
    pub(super) fn governing(&self) -> Option<MutexGuard<'_, Governing>> {
        // Nobody loads them for that.
        let kernel = self.0.kernel.get()?.as_ref().ok()?;
        Some(lock(&kernel.governing))
    }

    /// When [`Self::govern`] has something to do.
    pub(super) fn next_governing(&self) -> Option<Instant> {
        Some(self.governing()?.next())
    }

    /// Sees to it that the programs cost no more than they may.
    pub(super) fn govern(&self) {
        let programs = self.0.kernel.get().and_then(|kernel| kernel.as_ref().ok()).map(|kernel| &kernel.programs);
        if let (Some(mut governing), Some(programs)) = (self.governing(), programs) {
            governing.step(programs);
        }
    }

    fn kernel(&self) -> Result<&Kernel, &str> {
        let load = || {
            let began = Instant::now();
            let Shared { options, only, events, .. } = &*self.0;
            let programs = Programs::load(&probes::Options {
                only: *only,
                min_block: options.min_block,
                ring_bytes: options.ring_bytes,
                events: *events,
                waits: options.probe.waits(),
                forks: options.follow_forks,
                kernel_stacks: options.kernel_stacks,
            });
            let programs = programs.map_err(|error| error.to_string())?;
            tracing::debug!("loaded BPF programs in {:?}", began.elapsed());
            let ring = if self.events() { programs.take_ring() } else { None };
            let ring = ring.map(Ring::new).transpose().map_err(|error| format!("cannot read events: {error}"))?;
            let governing = Mutex::new(Governing::new(programs.wait_source(), options.max_overhead));
            Ok(Kernel { programs, ring, governing })
        };
        self.0.kernel.get_or_init(load).as_ref().map_err(String::as_str)
    }
}
