//! What all targets of a run share: the programs in the kernel, their records, and the governor of what they cost; and
//! what is known of files with code, and of the machine.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use super::{
    bell::Bell,
    governing::Governing,
    ring::{Records, Ring},
};
use crate::{
    cli::{Probe, Watch},
    probes::{self, Programs, WaitSource},
    snapshot::Machine,
    symbols,
};

/// Clones are the same one.
#[derive(Clone)]
pub(super) struct Hub(Arc<Shared>);

struct Shared {
    options: probes::Options,
    max_overhead: Option<f64>,
    symbols: symbols::Cache,
    machine: Machine,
    /// Loaded when the first target comes; else why they cannot be.
    kernel: OnceLock<Result<Kernel, String>>,
}

/// What runs in the kernel, and what comes from there.
struct Kernel {
    programs: Programs,
    /// Without events there is none.
    ring: Option<Ring>,
    governing: Mutex<Governing>,
}

impl Hub {
    /// For one process if `only` is given, and else for as many as there will be. `events`: whether more than snapshots is wanted.
    pub(super) fn new(watch: &Watch, only: Option<u32>, events: bool) -> Self {
        let options = probes::Options {
            // Those that it creates are added.
            only: only.filter(|_| !watch.follow_forks),
            min_block: watch.min_block,
            ring_bytes: watch.ring_bytes,
            events,
            waits: wait_source(watch.probe),
            forks: watch.follow_forks,
            kernel_stacks: watch.kernel_stacks,
        };
        let (symbols, machine) = (symbols::Cache::default(), Machine::default());
        Self(Arc::new(Shared { options, max_overhead: watch.max_overhead, symbols, machine, kernel: OnceLock::new() }))
    }

    /// Whether more than snapshots is wanted.
    pub(super) fn events(&self) -> bool {
        self.0.options.events
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
        Some(kernel.governing.lock().unwrap_or_else(PoisonError::into_inner))
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
            let programs = Programs::load(&self.0.options).map_err(|error| error.to_string())?;
            tracing::debug!("loaded BPF programs in {:?}", began.elapsed());
            let ring = if self.events() { programs.take_ring() } else { None };
            let ring = ring.map(Ring::new).transpose().map_err(|error| format!("cannot read events: {error}"))?;
            let governing = Mutex::new(Governing::new(programs.wait_source(), self.0.max_overhead));
            Ok(Kernel { programs, ring, governing })
        };
        self.0.kernel.get_or_init(load).as_ref().map_err(String::as_str)
    }
}

fn wait_source(probe: Probe) -> WaitSource {
    match probe {
        Probe::Futex => WaitSource::Futexes,
        Probe::Sched => WaitSource::Switches,
        Probe::Snapshot | Probe::Proc => WaitSource::Snapshots,
    }
}
