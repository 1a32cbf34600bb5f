//! How targets are watched.

use std::time::Duration;

use clap::ValueEnum;

use crate::probes::WaitSource;

/// What is watched besides snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Probe {
    /// Thread creations and exits, and futex waits, which costs the target some 0.3 µs on each wait.
    #[default]
    Futex,
    /// Thread creations and exits, and sleeps of any kind by the scheduler's switches: cheaper where waits are many. The stack of a
    /// wait that ended is that of the last snapshot in it.
    Sched,
    /// Thread creations and exits alone: no cost on waits; waits that end between two snapshots are not seen.
    Snapshot,
    /// Nothing, and no BPF either: threads as /proc tells of them. Taken by itself where BPF is not to be had.
    Proc,
}

impl Probe {
    /// By what BPF programs see waits.
    pub(super) const fn waits(self) -> WaitSource {
        match self {
            Self::Futex => WaitSource::Futexes,
            Self::Sched => WaitSource::Switches,
            Self::Snapshot | Self::Proc => WaitSource::Snapshots,
        }
    }
}

/// How targets are watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Whether processes that a target creates are watched as well.
    pub follow_forks: bool,
    /// Between two snapshots of a target.
    pub interval: Duration,
    /// What waits for so long is parked.
    pub min_block: Duration,
    /// What is watched besides snapshots.
    pub probe: Probe,
    /// What the programs in the kernel may cost, as a share of one core; `None`: whatever they do.
    pub max_overhead: Option<f64>,
    /// Size of the ring buffer between the kernel and us, bytes: a power of two.
    pub ring_bytes: u32,
    /// Whether debug information is read for lines and inlined functions.
    pub debug_info: bool,
    /// Whether stacks in the kernel are wanted.
    pub kernel_stacks: bool,
}

impl Default for Options {
    /// As `leakprobe attach` without options.
    fn default() -> Self {
        Self {
            follow_forks: false,
            interval: Duration::from_secs(1),
            min_block: Duration::from_secs(1),
            probe: Probe::default(),
            max_overhead: Some(0.01),
            ring_bytes: 8 << 20,
            debug_info: true,
            kernel_stacks: false,
        }
    }
}
