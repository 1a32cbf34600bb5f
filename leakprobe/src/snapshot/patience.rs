//! How long one piece of work may take, whatever the target has prepared.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::target::Budget;

/// A limit on the CPU time of the thread that does the work, which a busy machine does not change, and on the time that passes.
/// Only for the thread that has made it.
#[derive(Clone, Debug)]
pub struct Patience {
    cpu: Duration,
    until: Instant,
    /// Of the run that must not be over, if there is one.
    run: Option<Budget>,
}

impl Patience {
    /// From now on.
    #[must_use]
    pub fn new(cpu: Duration, time: Duration) -> Self {
        Self { cpu: cpu_time() + cpu, until: Instant::now() + time, run: None }
    }

    /// It ends early once the run is to end that has this budget.
    #[must_use]
    pub fn within(self, run: Budget) -> Self {
        Self { run: Some(run), ..self }
    }

    /// For what is bounded by other means.
    #[must_use]
    pub(crate) fn endless() -> Self {
        const LONG: Duration = Duration::from_secs(1 << 32);
        Self::new(LONG, LONG)
    }

    /// Whether the work must end now. Costs a system call.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.is_over(Duration::ZERO))
            || Instant::now() >= self.until
            || cpu_time() >= self.cpu
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
        assert!(!Patience::new(HOUR, HOUR).is_over());
        assert!(!Patience::endless().is_over());
        assert!(Patience::new(Duration::ZERO, HOUR).is_over());
        assert!(Patience::new(HOUR, Duration::ZERO).is_over());
        let run = Budget::default();
        assert!(!Patience::new(HOUR, HOUR).within(run.clone()).is_over());
        run.end_at(Instant::now());
        assert!(Patience::new(HOUR, HOUR).within(run).is_over());
    }
}
