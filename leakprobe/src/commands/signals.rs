//! Signals that ask us to end. They are caught from the start, and served by a thread that touches no target, so that it always answers.

use std::{
    io,
    mem::MaybeUninit,
    process, ptr,
    sync::{LazyLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{ExitCode, Failure, groups};
use crate::{
    privilege,
    report::files,
    target::Budget,
    watch::{Error, Stop, in_event_loop},
};

/// Within this time a signal is the same one, sent twice: so do timeout(1), and terminals that close.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// Used by the first signal.
static STOP: LazyLock<Stop> = LazyLock::new(|| Stop::new(Budget::of_run().clone()));

/// What the first signal does to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// It is announced by [`stop`], and there is a report of what was seen.
    Stops,
    /// It ends the command at once, which says so: what it has done so far is of no use.
    Ends,
}

/// Catches signals from now on. The second one, if not the first, ends leakprobe and what it has started, at once and without a report.
pub(super) fn catch(first: First) -> Result<(), Failure> {
    let (says, told) = mpsc::sync_channel(1);
    let serve = move || {
        let caught = says.clone();
        let served: Result<(), Failure> = in_event_loop(async {
            let signals = Signals::listen(first)?;
            let _ = caught.send(Ok(()));
            serve(signals, first).await
        });
        if let Err(error) = served {
            let _ = says.send(Err(error));
        }
    };
    let started = thread::Builder::new().name("leakprobe-signal".to_owned()).spawn(serve);
    started.map_err(|error| Error::internal("start a thread for signals", &error))?;
    told.recv().map_err(|error| Error::internal("listen for signals", &error))?
}

/// Used by the first signal.
pub(super) fn stop() -> &'static Stop {
    &STOP
}

/// Whether a signal has come.
pub(super) fn is_interrupted() -> bool {
    STOP.is_stopped()
}

/// What to say where a signal came before there was anything to report.
pub(super) fn interrupted() -> Failure {
    Error::stopped().into()
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

/// Until the signal that ends us.
async fn serve(mut signals: Signals, first: First) -> ! {
    signals.next().await;
    if first == First::Ends {
        say_at_once("leakprobe: interrupted before it was done\n");
        end(ExitCode::Interrupted);
    }
    let first = Instant::now();
    STOP.stop();
    loop {
        signals.next().await;
        if first.elapsed() >= SAME_SIGNAL {
            end(ExitCode::Interrupted);
        }
    }
}

/// Says something on stderr, unless nobody reads there: this must not wait.
fn say_at_once(what: &str) {
    let stderr = io::stderr();
    let is_ready = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&Timespec::default()));
    if is_ready.is_ok_and(|ready| ready > 0) {
        // Not by the lock of `stderr`, which another thread may hold.
        let _ = rustix::io::write(&stderr, what.as_bytes());
    }
}

/// Ctrl-C, and what service managers and closed terminals send.
struct Signals([Option<Signal>; 3]);

impl Signals {
    fn listen(first: First) -> Result<Self, Failure> {
        let listen = |kind: SignalKind| {
            // As `nohup` wants it.
            if first == First::Ends && is_ignored(kind) {
                return Ok(None);
            }
            signal(kind).map(Some).map_err(|error| Error::internal("listen for signals", &error))
        };
        let [interrupt, terminate, hangup] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Ok(Self([listen(interrupt)?, listen(terminate)?, listen(hangup)?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            () = received(interrupt) => {}
            () = received(terminate) => {}
            () = received(hangup) => {}
        }
    }
}

/// Waits for a signal; for ever if it is not listened for.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether we were started with a signal that is to be ignored.
fn is_ignored(kind: SignalKind) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action it only writes the present one.
    let result = unsafe { libc::sigaction(kind.as_raw_value(), ptr::null(), action.as_mut_ptr()) };
    // SAFETY: it was written if the call succeeded.
    result == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}
