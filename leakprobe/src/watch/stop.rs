//! How whoever watches is told to end.

use std::time::Instant;

use tokio::sync::watch;

use crate::target::Budget;

/// Ends watching, from any thread. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    budget: Budget,
    stopped: watch::Sender<bool>,
}

impl Stop {
    /// For all who watch within this budget: what takes long is given up soon after they are told to end.
    pub(crate) fn new(budget: Budget) -> Self {
        Self { budget, stopped: watch::Sender::new(false) }
    }

    /// What all targets together may cost.
    pub(crate) const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Tells everybody to end.
    pub(crate) fn stop(&self) {
        self.budget.end_at(Instant::now());
        self.stopped.send_replace(true);
    }

    /// Whether everybody was told to end.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Returns once everybody is told to end.
    pub(crate) async fn wait(&self) {
        // It cannot be closed: this is a sender.
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }
}
