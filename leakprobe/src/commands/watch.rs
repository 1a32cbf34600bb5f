//! The loop that `attach`, `run` and `demo` share: events as they come, a snapshot at each interval, until something ends it.

use std::{
    io::{self, IsTerminal},
    os::fd::{AsFd, AsRawFd},
    time::{Duration, Instant},
};

use aya::maps::{MapData, RingBuf};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    time::{self, MissedTickBehavior},
};

use super::{
    ExitCode, Failure,
    session::{Session, ended_early},
};
use crate::{cli::Watch, model::Recording};

/// Most records that are taken in before signals and the clock are looked at again.
const RECORDS_AT_ONCE: usize = 1024;

/// Watches the session's target. `begin` is called once everything is in place, before the first snapshot.
pub(super) fn watch(
    session: Session,
    options: &Watch,
    begin: impl FnOnce() -> Result<(), Failure>,
) -> Result<Recording, Failure> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| internal("start its event loop", &error))?;
    let session = runtime.block_on(run(session, options, begin))?;
    if !session.has_seen_something() {
        return Err(ended_early(session.target.pid));
    }
    Ok(session.into_recording(false))
}

async fn run(
    mut session: Session,
    options: &Watch,
    begin: impl FnOnce() -> Result<(), Failure>,
) -> Result<Session, Failure> {
    let ring = session.take_ring().ok_or_else(|| internal("open its ring buffer", &io::Error::other("no such map")))?;
    let mut ring = readable(ring)?;
    let pidfd = session.target.as_fd().try_clone_to_owned().map_err(|error| internal("hold the target", &error))?;
    let end = readable(pidfd)?;
    let mut stop = Stop::listen().map_err(|error| internal("listen for signals", &error))?;
    let mut ticks = time::interval(options.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let progress = Progress::new(options.output.quiet);
    let deadline = async {
        match options.duration {
            Some(duration) => time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deadline);
    begin()?;
    loop {
        tokio::select! {
            // The order is that of precedence: a flood of events must not keep us from stopping.
            biased;
            () = stop.wait() => break,
            () = &mut deadline => break,
            _ = end.readable() => {
                drain(&mut session, ring.get_mut(), usize::MAX);
                session.ended = Some("ended while we watched".to_owned());
                progress.finish();
                return Ok(session);
            }
            _ = ticks.tick() => {
                // What happened before the snapshot is told before it.
                drain(&mut session, ring.get_mut(), usize::MAX);
                session.snapshot(|| pending(ring.get_mut()))?;
                progress.show(&session);
            }
            () = time::sleep_until(session.next_governing().into()) => session.govern(),
            ready = ring.readable_mut() => {
                let mut ready = ready.map_err(|error| internal("wait for events", &error))?;
                if drain(&mut session, ready.get_inner_mut(), RECORDS_AT_ONCE) < RECORDS_AT_ONCE {
                    ready.clear_ready();
                }
            }
        }
    }
    progress.finish();
    drain(&mut session, ring.get_mut(), usize::MAX);
    session.snapshot(|| pending(ring.get_mut()))?;
    drain(&mut session, ring.get_mut(), usize::MAX);
    if !session.target.is_alive() {
        session.ended = Some("ended while we watched".to_owned());
    }
    Ok(session)
}

/// Waits for something to become readable.
fn readable<T: AsRawFd>(source: T) -> Result<AsyncFd<T>, Failure> {
    // SAFETY: both callers hand over the owner of the descriptor, which neither closes nor changes it while it is owned.
    let registered = unsafe { AsyncFd::register_with_interest(source, Interest::READABLE) };
    registered.map_err(|error| internal("wait for events", &error))
}

/// Takes in up to `most` records; returns how many.
fn drain(session: &mut Session, ring: &mut RingBuf<MapData>, most: usize) -> usize {
    let mut taken = 0;
    while taken < most {
        let Some(record) = ring.next() else {
            break;
        };
        session.take_in(&record);
        taken += 1;
    }
    taken
}

/// The records that are there now. At most what the buffer holds, since it is emptied here and nowhere else meanwhile.
fn pending(ring: &mut RingBuf<MapData>) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while records.len() < RECORDS_AT_ONCE
        && let Some(record) = ring.next()
    {
        records.push(record.to_vec());
    }
    records
}

/// Ctrl-C, and what service managers and closed terminals send.
struct Stop([Signal; 3]);

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// One line on the terminal.
struct Progress {
    bar: ProgressBar,
    began: Instant,
    cpu_before: Duration,
}

impl Progress {
    fn new(quiet: bool) -> Self {
        let shown = !quiet && io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{elapsed:>4} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        Self {
            bar: ProgressBar::with_draw_target(None, target).with_style(style),
            began: Instant::now(),
            cpu_before: Session::cpu_time(),
        }
    }

    fn show(&self, session: &Session) {
        if self.bar.is_hidden() {
            return;
        }
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let cpu = Session::cpu_time().saturating_sub(self.cpu_before).as_secs_f64();
        let live = &session.live;
        let threads = live.threads().len();
        // Of a Go program's threads most are the runtime's; and a line has 80 columns.
        let tasks = match live.goroutines() {
            Some(table) => {
                let created = table.created() as f64 / seconds;
                let (alive, parked) = (table.alive(), table.parked());
                format!("{alive} goroutines, {parked} parked, +{created:.0}/s, {threads} threads")
            }
            None => {
                let events = session.events() as f64 / seconds;
                format!("{threads} threads, {} parked, {events:.0} events/s", live.parked())
            }
        };
        let (lost, share) = (session.lost_events(), 100.0 * cpu / seconds);
        self.bar.set_message(format!("{tasks}, {lost} lost, own CPU {share:.1} %  (Ctrl-C ends)"));
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn internal(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        ExitCode::Failed,
        format!("leakprobe could not {what}: {error}; this should not happen, please report it"),
    )
}
