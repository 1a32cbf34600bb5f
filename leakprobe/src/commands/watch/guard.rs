//! The last line of defence against what hangs: a thread that touches no target, and ends us where watching one does not end.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    super::{ExitCode, Failure, signals},
    internal,
};
use crate::aside;

/// From one look at whether a target is still being read to the next.
const LOOK: Duration = Duration::from_secs(1);
/// Once watching is to end, reading a target may go on for so long without any progress. One file's debug information may take 20 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// The processes that are being read, in the order in which that began; one may be there more than once.
static AT_WORK: Mutex<Vec<u32>> = Mutex::new(Vec::new());

fn at_work() -> MutexGuard<'static, Vec<u32>> {
    AT_WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A target is being read until this is dropped.
pub(in crate::commands) struct AtWork(u32);

impl AtWork {
    /// From now on.
    pub(in crate::commands) fn on(pid: u32) -> Self {
        aside::beat();
        at_work().push(pid);
        Self(pid)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        aside::beat();
        let mut at_work = at_work();
        if let Some(place) = at_work.iter().rposition(|pid| *pid == self.0) {
            at_work.remove(place);
        }
    }
}

/// Ends the process if watching does not end though it should, until this is dropped.
pub(super) struct Guard {
    /// Closed by being dropped.
    _watching: mpsc::Sender<()>,
}

impl Guard {
    /// From now on watching is to end when a signal comes, or after `deadline`.
    pub(super) fn start(deadline: Option<Instant>) -> Result<Self, Failure> {
        let (watching, over) = mpsc::channel();
        let started = thread::Builder::new().name("leakprobe-guard".to_owned()).spawn(move || guard(deadline, &over));
        started.map_err(|error| internal("start a thread that guards it", &error))?;
        Ok(Self { _watching: watching })
    }
}

/// Until `over` is closed.
fn guard(deadline: Option<Instant>, over: &mpsc::Receiver<()>) {
    let mut progress = Progress::now();
    while over.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        let is_due = signals::is_interrupted() || deadline.is_some_and(|deadline| Instant::now() > deadline);
        // What hangs began before whatever comes to an end.
        let pid = at_work().first().copied().unwrap_or(0);
        if progress.stuck(aside::beats(), pid != 0 && is_due) >= PATIENCE {
            tracing::error!(
                "process {pid} does not answer: reading it has made no progress for {} s, and there is no report; a file system or \
                 another program that it depends on may be gone",
                PATIENCE.as_secs()
            );
            signals::end(ExitCode::Unanswered);
        }
    }
}

/// Since when nothing has come to an end.
struct Progress {
    beats: u64,
    since: Instant,
}

impl Progress {
    fn now() -> Self {
        Self { beats: aside::beats(), since: Instant::now() }
    }

    /// For how long nothing has come to an end while something was to.
    fn stuck(&mut self, beats: u64, is_at_work: bool) -> Duration {
        if !is_at_work || beats != self.beats {
            *self = Self { beats, since: Instant::now() };
        }
        self.since.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_without_progress_is_stuck() {
        let earlier = || Progress { beats: 7, since: Instant::now().checked_sub(PATIENCE).unwrap() };
        assert!(earlier().stuck(7, true) >= PATIENCE);
        assert!(earlier().stuck(8, true) < PATIENCE, "something has come to an end");
        assert!(earlier().stuck(7, false) < PATIENCE, "nothing is being read");
    }
}
