//! What `attach`, `run`, `demo` and checks share: each target has a thread of its own ([`worker`]); here they are started, for those that
//! are forked as well, and waited for.

pub(super) mod group;
pub(super) mod guard;
mod progress;
mod worker;

use std::{
    collections::BTreeMap,
    io::{self, PipeWriter},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{runtime, sync::mpsc, task::JoinSet, time};

pub(super) use self::worker::Observer;
use self::{
    guard::Guard,
    progress::Progress,
    worker::{Common, Worker},
};
use super::{
    ExitCode, Failure,
    follow::{Follower, MOST_PROCESSES},
    hub::Hub,
    limits,
    session::{Session, end_run_at, ended_early},
    signals,
};
use crate::{cli::Watch, model::Recording};

/// What a target's thread has for its stack, as the first thread of a process has.
const STACK_BYTES: usize = 8 << 20;
/// Threads besides those of targets that something may block in, like looking up a host's name.
const OTHER_THREADS: usize = 64;
/// The last snapshot may take so long after the end of `-d`, for which nobody waits as for that of Ctrl-C: the first one of a program with
/// a million goroutines takes a second.
const MORE_FOR_SNAPSHOT: Duration = Duration::from_secs(2);

/// Watches the sessions' targets. `begin` is called once everything is in place, before the first snapshot. There is a
/// recording of each process of which anything was seen, in the order in which they came: one at least.
pub(super) fn watch(
    sessions: Vec<Session>,
    options: &Watch,
    begin: impl FnOnce() -> Result<(), Failure>,
) -> Result<Vec<Recording>, Failure> {
    let pid = sessions.first().map_or(0, |session| session.target.pid);
    let recordings = in_event_loop(run(sessions, options, begin))?;
    if recordings.is_empty() { Err(ended_early(pid)) } else { Ok(recordings) }
}

/// On this thread alone.
pub(super) fn in_event_loop<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    limits::check_descriptors(limits::SPARE)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MOST_PROCESSES + OTHER_THREADS)
        .thread_name("leakprobe-target")
        .thread_stack_size(STACK_BYTES)
        .build()
        .map_err(|error| internal("start its event loop", &error))?;
    runtime.block_on(work)
}

async fn run(
    sessions: Vec<Session>,
    options: &Watch,
    begin: impl FnOnce() -> Result<(), Failure>,
) -> Result<Vec<Recording>, Failure> {
    let Some(hub) = sessions.first().map(|session| session.hub().clone()) else { return Ok(Vec::new()) };
    let mut stopped = signals::stop();
    let (forks, mut forked) = mpsc::unbounded_channel();
    let deadline = options.duration.map(|duration| Instant::now() + duration);
    if let Some(deadline) = deadline {
        end_run_at(deadline + MORE_FOR_SNAPSHOT);
    }
    let _guard = Guard::start(deadline)?;
    let mut follower = Follower::new(hub.clone(), options, sessions.len());
    let mut workers = Workers::new(options.interval, deadline, Progress::new(options.output.quiet), forks)?;
    begin()?;
    sessions.into_iter().for_each(|session| workers.start(Worker::new(session)));
    while !workers.are_done() {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped), if !workers.are_stopped() => workers.stop(),
            () = workers.next() => follower.has_room(),
            () = governing(&hub) => hub.govern(),
            Some((parent, child)) = forked.recv() => {
                if !workers.are_stopped() {
                    follower.follow(parent, child).into_iter().for_each(|session| workers.start(Worker::new(session)));
                }
            }
        }
    }
    let mut recordings: Vec<Recording> = workers.results()?.into_values().collect();
    if let Some((first, gap)) = recordings.first_mut().zip(follower.gap()) {
        first.coverage.gaps.push(gap);
    }
    Ok(recordings)
}

/// The threads of all targets.
struct Workers {
    common: Arc<Common>,
    /// Closed to stop them.
    stop: Option<PipeWriter>,
    threads: JoinSet<(usize, Result<Option<Recording>, Failure>)>,
    started: usize,
    /// By place, in the order in which they were started.
    recordings: BTreeMap<usize, Recording>,
    failure: Option<Failure>,
}

impl Workers {
    fn new(
        interval: Duration,
        deadline: Option<Instant>,
        progress: Progress,
        forks: mpsc::UnboundedSender<(u32, u32)>,
    ) -> Result<Self, Failure> {
        let (stopped, stop) = io::pipe().map_err(|error| internal("make a pipe", &error))?;
        Ok(Self {
            common: Arc::new(Common { interval, deadline, stop: stopped, progress, forks }),
            stop: Some(stop),
            threads: JoinSet::new(),
            started: 0,
            recordings: BTreeMap::new(),
            failure: None,
        })
    }

    fn start(&mut self, worker: Worker) {
        let (place, common) = (self.started, Arc::clone(&self.common));
        self.started += 1;
        self.threads.spawn_blocking(move || (place, worker.run(&common)));
    }

    /// Lets all of them end.
    fn stop(&mut self) {
        self.stop = None;
    }

    fn are_stopped(&self) -> bool {
        self.stop.is_none()
    }

    fn are_done(&self) -> bool {
        self.threads.is_empty()
    }

    /// Waits until one of them has ended; for ever if there is none. One that fails ends all.
    async fn next(&mut self) {
        match self.threads.join_next().await {
            Some(Ok((place, Ok(recording)))) => self.recordings.extend(recording.map(|recording| (place, recording))),
            Some(Ok((_, Err(failure)))) => self.fail(failure),
            Some(Err(error)) => self.fail(internal("go on watching", &error)),
            None => std::future::pending().await,
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        self.stop();
    }

    /// What came of them, by place.
    fn results(self) -> Result<BTreeMap<usize, Recording>, Failure> {
        self.common.progress.finish();
        self.failure.map_or(Ok(self.recordings), Err)
    }
}

/// Waits until the governor has something to do; for ever if there is none.
async fn governing(hub: &Hub) {
    match hub.next_governing() {
        Some(next) => time::sleep_until(next.into()).await,
        None => std::future::pending().await,
    }
}

pub(super) fn internal(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        ExitCode::Failed,
        format!("leakprobe could not {what}: {error}; this should not happen, please report it"),
    )
}
