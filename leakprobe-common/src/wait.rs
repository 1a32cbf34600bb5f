//! Open waits: one slot a thread, which the task iterator reads; and what user space may change while the programs run.

#[cfg(feature = "user")]
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::plain;

/// Slots in the array; a thread's slot is its id modulo this number. A power of two.
pub const SLOTS: u32 = 1 << 16;

/// A thread's open wait. `started_ns` is 0 when there is none. As long as a cache line: slots of threads on two CPUs share none.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct Slot {
    /// When the wait began, by `bpf_ktime_get_ns`; 0: the slot is free.
    pub started_ns: u64,
    /// The same moment by `bpf_jiffies64`, which costs next to nothing to read.
    pub started_ticks: u64,
    /// The futex word's address; 0 for [`OP_SLEEP`].
    pub word: u64,
    /// The thread that has the slot.
    pub tid: u32,
    /// The futex operation, as given to the system call, or one of the stand-ins of [`crate::futex`]; [`OP_SLEEP`] for a wait of any
    /// kind, which the scheduler told of.
    pub op: u32,
    /// Unused, zero.
    pub pad: [u64; 4],
}
plain!(Slot, 64);

/// Stands in [`Slot::op`] for a wait of any kind.
pub const OP_SLEEP: u32 = 0x2000;

/// What user space changes while the programs run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct Settings {
    /// Since when waits are watched without a break, by `bpf_ktime_get_ns`: of a wait that seems to have begun earlier the end may
    /// have been missed, and what is in its slot be about another one.
    pub watched_since_ns: u64,
    /// Most stacks, of each kind of record, that are streamed in a tenth of a second.
    pub stacks_per_window: u64,
}
plain!(Settings, 16);
