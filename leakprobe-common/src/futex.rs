//! Open futex waits: one slot a thread in an array that user space reads directly.

use crate::plain;

/// Slots in the array; a thread's slot is its id modulo this number. A power of two.
pub const SLOTS: u32 = 1 << 16;

/// A thread's open futex wait. `started_ns` is 0 when there is none.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Slot {
    /// When the wait began, by `bpf_ktime_get_ns`; 0: the slot is free.
    pub started_ns: u64,
    /// The futex word's address.
    pub word: u64,
    /// The thread that has the slot.
    pub tid: u32,
    /// The operation, as given to the system call (`futex_waitv`: [`OP_WAITV`], `futex_wait`: [`OP_WAIT2`]).
    pub op: u32,
}
plain!(Slot, 24);

/// Stands in [`Slot::op`] for the system call `futex_waitv`, which has no operation.
pub const OP_WAITV: u32 = 0x1000;
/// Stands in [`Slot::op`] for the system call `futex_wait`, which has no operation.
pub const OP_WAIT2: u32 = 0x1001;

/// The operation without `FUTEX_PRIVATE_FLAG` and `FUTEX_CLOCK_REALTIME`.
///
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/futex.h#L29>
#[inline]
#[must_use]
pub const fn command(op: u32) -> u32 {
    op & !(128 | 256)
}

/// Whether the operation puts the caller to sleep: WAIT, LOCK_PI, WAIT_BITSET, WAIT_REQUEUE_PI, LOCK_PI2.
#[inline]
#[must_use]
pub const fn is_wait(op: u32) -> bool {
    matches!(command(op), 0 | 6 | 9 | 11 | 13)
}
