//! The last line of defence against what hangs: a thread that touches no target, and ends us where watching one does not end.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use nix::unistd::gettid;

use super::{
    super::{ExitCode, Failure, signals},
    internal,
};
use crate::aside;

/// From one look at whether a target is still being read to the next.
const LOOK: Duration = Duration::from_secs(1);
/// Once watching is to end, reading a target may go on for so long without any progress, and without our thread using a CPU. One
/// file's debug information may take 20 s.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same, whatever our thread does. What it computes has limits of its own, in CPU time, which last longer on a busy machine.
const LONGEST: Duration = Duration::from_secs(300);

/// The processes that are being read, each with our thread that does, in the order in which that began; one may be there more than
/// once.
static AT_WORK: Mutex<Vec<(u32, u32)>> = Mutex::new(Vec::new());

fn at_work() -> MutexGuard<'static, Vec<(u32, u32)>> {
    AT_WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A target is being read until this is dropped.
pub(in crate::commands) struct AtWork(u32);

impl AtWork {
    /// From now on.
    pub(in crate::commands) fn on(pid: u32) -> Self {
        aside::beat();
        at_work().push((pid, u32::try_from(gettid().as_raw()).unwrap_or(0)));
        Self(pid)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        aside::beat();
        let mut at_work = at_work();
        if let Some(place) = at_work.iter().rposition(|(pid, _)| *pid == self.0) {
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
        let first = at_work().first().copied();
        let runs = first.filter(|_| is_due).map(|(_, thread)| aside::runs(thread));
        if let (Some((pid, _)), Some(stuck)) = (first, progress.stuck(aside::beats(), runs)) {
            let seconds = progress.since.elapsed().as_secs();
            match stuck {
                Stuck::Unanswered => tracing::error!(
                    "process {pid} does not answer: reading it has made no progress for {seconds} s, and there is no report; a file \
                     system or another program that it depends on may be gone"
                ),
                Stuck::Busy => tracing::error!(
                    "reading process {pid} has not come to an end in {seconds} s of computing, and there is no report; please report it"
                ),
            }
            signals::end(ExitCode::Unanswered);
        }
    }
}

/// Why nothing comes to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stuck {
    /// Our thread waits for something that does not answer.
    Unanswered,
    /// It computes.
    Busy,
}

/// Since when nothing has come to an end.
struct Progress {
    beats: u64,
    since: Instant,
    /// Since when our thread has besides not been seen on a CPU.
    silent: Instant,
}

impl Progress {
    fn now() -> Self {
        let now = Instant::now();
        Self { beats: aside::beats(), since: now, silent: now }
    }

    /// Whether it is time to give up. `runs`: whether the thread that reads uses a CPU, or waits for one; `None` if nothing is to end.
    fn stuck(&mut self, beats: u64, runs: Option<bool>) -> Option<Stuck> {
        let now = Instant::now();
        if runs.is_none() || beats != self.beats {
            *self = Self { beats, since: now, silent: now };
        }
        if runs == Some(true) {
            self.silent = now;
        }
        if self.silent.elapsed() >= PATIENCE {
            return Some(Stuck::Unanswered);
        }
        (self.since.elapsed() >= LONGEST).then_some(Stuck::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_without_progress_is_stuck() {
        let earlier = |since: Duration| {
            let moment = Instant::now().checked_sub(since).unwrap();
            Progress { beats: 7, since: moment, silent: moment }
        };
        assert_eq!(earlier(PATIENCE).stuck(7, Some(false)), Some(Stuck::Unanswered));
        assert_eq!(earlier(PATIENCE).stuck(8, Some(false)), None, "something has come to an end");
        assert_eq!(earlier(PATIENCE).stuck(7, None), None, "nothing is being read");
        assert_eq!(
            earlier(PATIENCE).stuck(7, Some(true)),
            None,
            "what computes does not keep us waiting for an answer"
        );
        assert_eq!(earlier(LONGEST).stuck(7, Some(true)), Some(Stuck::Busy));
    }
}
