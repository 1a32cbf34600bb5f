//! The kernel's clocks.

use nix::time::{ClockId, clock_gettime};

/// A clock's time, ns; 0 if the kernel does not have it.
pub(crate) fn clock_ns(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec()).unwrap_or(0))
    })
}
