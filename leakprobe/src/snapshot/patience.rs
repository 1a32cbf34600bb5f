//! How long one piece of work may take, whatever the target has prepared.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// A limit on the CPU time of the thread that does the work, which a busy machine does not change, and on the time that passes.
/// Only for the thread that has made it.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    cpu: Duration,
    until: Instant,
    is_stopped: fn() -> bool,
}

impl Patience {
    /// From now on. It ends early once `is_stopped`, which is asked often.
    #[must_use]
    pub fn new(cpu: Duration, time: Duration, is_stopped: fn() -> bool) -> Self {
        Self { cpu: cpu_time() + cpu, until: Instant::now() + time, is_stopped }
    }

    /// For what is bounded by other means.
    #[must_use]
    pub(crate) fn endless() -> Self {
        const LONG: Duration = Duration::from_secs(1 << 32);
        Self::new(LONG, LONG, || false)
    }

    /// Whether the work must end now. Costs a system call.
    #[must_use]
    pub fn is_over(&self) -> bool {
        (self.is_stopped)() || Instant::now() >= self.until || cpu_time() >= self.cpu
    }
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_by_each_limit_and_when_it_is_stopped() {
        const HOUR: Duration = Duration::from_secs(3600);
        assert!(!Patience::new(HOUR, HOUR, || false).is_over());
        assert!(!Patience::endless().is_over());
        assert!(Patience::new(Duration::ZERO, HOUR, || false).is_over());
        assert!(Patience::new(HOUR, Duration::ZERO, || false).is_over());
        assert!(Patience::new(HOUR, HOUR, || true).is_over());
    }
}
