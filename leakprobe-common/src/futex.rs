//! Operations of the futex system calls.

/// Stands in [`crate::wait::Slot::op`] for the system call `futex_waitv`, which has no operation.
pub const OP_WAITV: u32 = 0x1000;
/// Stands in [`crate::wait::Slot::op`] for the system call `futex_wait`, which has no operation.
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
