//! What commands that watch have in common: they end with the signals that end leakprobe, and show how it goes.

use std::sync::Arc;

use super::{Failure, progress::Progress, signals};
use crate::{
    cli::Watch,
    model::Recording,
    watch::{self, Hub, Options, Session},
};

/// What all targets of the command share. `only`: the only one, if there is one. `events`: whether more than snapshots is wanted.
pub(super) fn hub(options: &Options, only: Option<u32>, events: bool) -> Hub {
    Hub::new(options, only, events, signals::stop())
}

/// Watches a process that we have started, and which Ctrl-C ends as it does us, until it ends or the time is over. `begin` lets it go.
pub(super) fn watch_own(
    pid: u32,
    options: &Watch,
    begin: impl FnOnce() -> Result<(), Failure>,
) -> Result<Vec<Recording>, Failure> {
    let hub = hub(&options.options, Some(pid), true);
    let session = Session::open(&hub, pid).map_err(|error| signals::or_interrupted(error.into()))?;
    watch(vec![session], options, begin)
}

/// Watches targets until they end or the time is over.
pub(super) fn watch(
    sessions: Vec<Session>,
    options: &Watch,
    begin: impl FnOnce() -> Result<(), Failure>,
) -> Result<Vec<Recording>, Failure> {
    let progress = Progress::new(options.output.quiet);
    watch::watch(sessions, options.duration, None, Arc::new(move |update| progress.show(update)), begin)
}
