//! Signals, and the last line of defence against what hangs: a thread that touches no target, so that it always answers.

use std::{
    process,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time,
};

use super::{
    super::{ExitCode, Failure, groups},
    in_event_loop, internal,
};
use crate::{aside, privilege, report::files};

/// The exit code after a second signal: that of shells for Ctrl-C.
const ENDED_AT_ONCE: i32 = 130;
/// Within this time a signal is the same one, sent twice: so do timeout(1), and terminals that close.
const SAME_SIGNAL: Duration = Duration::from_millis(100);
/// From one look at whether a target is still being read to the next.
const LOOK: Duration = Duration::from_secs(1);
/// Once watching is to end, reading a target may go on for so long without any progress. One file's debug information may take 20 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// The processes that are being read, in the order in which that began; one may be there more than once.
static AT_WORK: Mutex<Vec<u32>> = Mutex::new(Vec::new());
/// How many guards were started: only the last one serves signals.
static STARTED: AtomicU32 = AtomicU32::new(0);

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

/// Serves signals until the end of the process, and ends it if watching does not end though it should, until this is dropped.
pub(super) struct Guard(Arc<AtomicBool>);

impl Guard {
    /// From now on the first signal is passed on to `stop`; the next one ends us and what we have started, at once and without a report.
    /// `deadline`: when watching is to end without any signal.
    pub(super) fn start(stop: watch::Sender<bool>, deadline: Option<time::Instant>) -> Result<Self, Failure> {
        let is_over = Arc::new(AtomicBool::new(false));
        let (says, told) = mpsc::sync_channel(1);
        let ours = STARTED.fetch_add(1, Ordering::Relaxed) + 1;
        let over = Arc::clone(&is_over);
        let serve = move || {
            let begun = says.clone();
            let served = in_event_loop(async {
                let signals = Signals::listen()?;
                let _ = begun.send(Ok(()));
                serve(ours, signals, &stop, deadline, &over).await;
                Ok(())
            });
            if let Err(error) = served {
                let _ = says.send(Err(error));
            }
        };
        let started = thread::Builder::new().name("leakprobe-guard".to_owned()).spawn(serve);
        started.map_err(|error| internal("start a thread for signals", &error))?;
        told.recv().map_err(|error| internal("listen for signals", &error))??;
        Ok(Self(is_over))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Until another guard is started.
async fn serve(
    ours: u32,
    mut signals: Signals,
    stop: &watch::Sender<bool>,
    deadline: Option<time::Instant>,
    is_over: &AtomicBool,
) {
    let mut first: Option<Instant> = None;
    let mut progress = Progress::now();
    let mut looks = time::interval(LOOK);
    loop {
        tokio::select! {
            () = signals.next() => {
                if STARTED.load(Ordering::Relaxed) != ours {
                    return;
                }
                if first.is_some_and(|first| first.elapsed() < SAME_SIGNAL) {
                    continue;
                }
                if first.is_some() {
                    end(ENDED_AT_ONCE);
                }
                first = Some(Instant::now());
                let _ = stop.send(true);
            }
            _ = looks.tick() => {
                if STARTED.load(Ordering::Relaxed) != ours {
                    return;
                }
                let is_due = first.is_some() || deadline.is_some_and(|deadline| time::Instant::now() > deadline);
                // What hangs began before whatever comes to an end.
                let pid = at_work().first().copied().unwrap_or(0);
                let stuck = progress.stuck(aside::beats(), pid != 0 && is_due && !is_over.load(Ordering::Relaxed));
                if stuck >= PATIENCE {
                    tracing::error!(
                        "process {pid} does not answer: reading it has made no progress for {} s, and there is no report; a file \
                         system or another program that it depends on may be gone",
                        PATIENCE.as_secs()
                    );
                    end(ExitCode::Unanswered as i32);
                }
            }
        }
    }
}

/// Ends us and what we have started, at once; what is being written is taken back.
#[expect(clippy::exit, reason = "the thread that would end the process in order hangs")]
fn end(code: i32) -> ! {
    groups::end_all();
    let _rights = privilege::for_files();
    files::remove_temporary();
    process::exit(code)
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

/// Ctrl-C, and what service managers and closed terminals send.
struct Signals([Signal; 3]);

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| internal("listen for signals", &error));
        let [interrupt, terminate, hangup] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Ok(Self([listen(interrupt)?, listen(terminate)?, listen(hangup)?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
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
