//! What reading the goroutines of all runtimes of one process may cost, however many it has: each library that is written in Go has a
//! runtime of its own, and the target decides how many there are.

use std::time::Duration;

use crate::target::Budget;

/// Once a run is to end, goroutines are read for so long at most: a last look at those of nearly every program.
const AFTER_THE_END: Duration = Duration::from_millis(300);

/// What is left of it; the same for all runtimes of a process.
#[derive(Debug, Default)]
pub struct Costs {
    budget: Budget,
}

impl Costs {
    /// For a process of a run that has this budget.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        Self { budget }
    }

    /// Whether it is time to give up what is not read yet.
    pub(super) fn is_over(&self) -> bool {
        self.budget.is_over(AFTER_THE_END)
    }
}
