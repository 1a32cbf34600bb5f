//! Signals that ask us to end. They are caught from the start, and served by a thread that touches no target, so that it always answers.

use std::{
    process,
    sync::{LazyLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use super::{
    ExitCode, Failure, groups,
    watch::{in_event_loop, internal},
};
use crate::{privilege, report::files};

/// Within this time a signal is the same one, sent twice: so do timeout(1), and terminals that close.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// Whether a signal has come.
static STOP: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));

/// Catches signals from now on: the first one is announced by [`stop`]; the next one ends leakprobe and what it has started, at once
/// and without a report.
pub(super) fn catch() -> Result<(), Failure> {
    let (says, told) = mpsc::sync_channel(1);
    let serve = move || {
        let caught = says.clone();
        let served: Result<(), Failure> = in_event_loop(async {
            let signals = Signals::listen()?;
            let _ = caught.send(Ok(()));
            serve(signals).await
        });
        if let Err(error) = served {
            let _ = says.send(Err(error));
        }
    };
    let started = thread::Builder::new().name("leakprobe-signal".to_owned()).spawn(serve);
    started.map_err(|error| internal("start a thread for signals", &error))?;
    told.recv().map_err(|error| internal("listen for signals", &error))?
}

/// Becomes true with the first signal.
pub(super) fn stop() -> watch::Receiver<bool> {
    STOP.subscribe()
}

/// Whether a signal has come.
pub(super) fn is_interrupted() -> bool {
    *STOP.borrow()
}

/// What to say where a signal came before there was anything to report.
pub(super) fn interrupted() -> Failure {
    Failure::new(ExitCode::Interrupted, "interrupted before there was anything to report")
}

/// What to say where something failed that Ctrl-C ends as it does us: what we have started.
pub(super) fn or_interrupted(failure: Failure) -> Failure {
    if is_interrupted() { interrupted() } else { failure }
}

/// Ends us and what we have started, at once; what is being written is taken back.
#[expect(clippy::exit, reason = "the thread that would end the process in order may hang")]
pub(super) fn end(code: ExitCode) -> ! {
    groups::end_all();
    let _rights = privilege::for_files();
    files::remove_temporary();
    process::exit(code as i32)
}

/// Until the second signal.
async fn serve(mut signals: Signals) -> ! {
    signals.next().await;
    let first = Instant::now();
    STOP.send_replace(true);
    loop {
        signals.next().await;
        if first.elapsed() >= SAME_SIGNAL {
            end(ExitCode::Interrupted);
        }
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
