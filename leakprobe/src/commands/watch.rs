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

use tokio::{runtime, task::JoinSet, time};

pub(super) use self::worker::Observer;
use self::{
    guard::{Guard, Stuck},
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
use crate::{
    cli::Watch,
    model::{Frame, Gap, Recording, Task},
    report::json_bytes,
};

/// What a target's thread has for its stack, as the first thread of a process has.
const STACK_BYTES: usize = 8 << 20;
/// Most that is kept of processes that were created and have ended, in bytes of memory.
const MOST_KEPT_BYTES: u64 = 192 << 20;
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
    let Ended { recordings, gaps, unanswered } = in_event_loop(run(sessions, options, begin))?;
    let mut recordings: Vec<Recording> = recordings.into_values().collect();
    match (recordings.first_mut(), unanswered) {
        (Some(first), unanswered) => {
            first.coverage.gaps.extend(gaps);
            unanswered.iter().for_each(|failure| tracing::warn!("{failure}"));
            Ok(recordings)
        }
        (None, Some(failure)) => Err(failure),
        (None, None) => Err(ended_early(pid)),
    }
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
    let done = runtime.block_on(work);
    // A thread that hangs is left behind.
    runtime.shutdown_background();
    done
}

async fn run(
    sessions: Vec<Session>,
    options: &Watch,
    begin: impl FnOnce() -> Result<(), Failure>,
) -> Result<Ended, Failure> {
    let Some(hub) = sessions.first().map(|session| session.hub().clone()) else { return Ok(Ended::default()) };
    let mut stopped = signals::stop();
    let deadline = options.duration.map(|duration| Instant::now() + duration);
    if let Some(deadline) = deadline {
        end_run_at(deadline + MORE_FOR_SNAPSHOT);
    }
    let pids: Vec<u32> = sessions.iter().map(|session| session.target.pid).collect();
    let mut follower = Follower::start(&hub, options, &pids)?;
    let mut workers = Workers::new(options.interval, deadline, Progress::new(options.output.quiet), &follower)?;
    let mut guard = Guard::new();
    begin()?;
    sessions.into_iter().for_each(|session| workers.start(Worker::new(session)));
    loop {
        while !workers.are_done() {
            let is_due = || signals::is_interrupted() || deadline.is_some_and(|deadline| Instant::now() > deadline);
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped), if !workers.are_stopped() => workers.stop(),
                () = workers.next() => follower.has_room(),
                () = governing(&hub) => hub.govern(),
                session = follower.next() => workers.start(Worker::new(session)),
                stuck = guard.stuck(is_due) => workers.give_up(stuck),
            }
        }
        // A process that was created at the end is seen once.
        match follower.last().await {
            Some(session) => workers.start(Worker::new(session)),
            None => break,
        }
    }
    let mut ended = workers.ended()?;
    ended.gaps.extend(follower.gap());
    Ok(ended)
}

/// The threads of all targets.
struct Workers {
    common: Arc<Common>,
    /// Closed to stop them.
    stop: Option<PipeWriter>,
    threads: JoinSet<(usize, Result<Option<Recording>, Failure>)>,
    /// The targets of those, by place.
    watched: BTreeMap<usize, u32>,
    started: usize,
    /// Bytes that the recordings of those take that were created and have ended before watching does.
    kept_bytes: u64,
    /// How many of those were left out.
    left_out: u64,
    ended: Ended,
    failure: Option<Failure>,
}

/// What came of watching.
#[derive(Default)]
struct Ended {
    /// By place, in the order in which they were started.
    recordings: BTreeMap<usize, Recording>,
    /// What is not among them.
    gaps: Vec<Gap>,
    /// Of the first of those that were given up.
    unanswered: Option<Failure>,
}

impl Workers {
    fn new(
        interval: Duration,
        deadline: Option<Instant>,
        progress: Progress,
        follower: &Follower,
    ) -> Result<Self, Failure> {
        let (stopped, stop) = io::pipe().map_err(|error| internal("make a pipe", &error))?;
        Ok(Self {
            common: Arc::new(Common { interval, deadline, stop: stopped, progress, forks: follower.created() }),
            stop: Some(stop),
            threads: JoinSet::new(),
            watched: BTreeMap::new(),
            started: 0,
            kept_bytes: 0,
            left_out: 0,
            ended: Ended::default(),
            failure: None,
        })
    }

    fn start(&mut self, worker: Worker) {
        let (place, common) = (self.started, Arc::clone(&self.common));
        self.started += 1;
        self.watched.insert(place, worker.pid());
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
            Some(Ok((place, result))) => {
                self.watched.remove(&place);
                match result {
                    Ok(recording) => recording.into_iter().for_each(|recording| self.keep(place, recording)),
                    Err(failure) => self.fail(failure),
                }
            }
            Some(Err(error)) => self.fail(internal("go on watching", &error)),
            None => std::future::pending().await,
        }
    }

    /// Keeps a recording, unless it is one of very many: who respawns in a loop must not fill memory.
    fn keep(&mut self, place: usize, recording: Recording) {
        if place > 0 && recording.target.ended.is_some() {
            let bytes = self.kept_bytes.saturating_add(bytes(&recording));
            if bytes > MOST_KEPT_BYTES {
                self.left_out += 1;
                return;
            }
            self.kept_bytes = bytes;
        }
        self.ended.recordings.insert(place, recording);
    }

    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        self.stop();
    }

    /// Waits no longer for any of them: `stuck` has not come to an end, and those that are left have not either.
    fn give_up(&mut self, stuck: Stuck) {
        self.stop();
        self.threads = JoinSet::new();
        let watched = std::mem::take(&mut self.watched);
        self.ended.gaps.extend(watched.into_values().map(|pid| Gap::ProcessUnanswered { pid }));
        self.ended.unanswered.get_or_insert(stuck.into());
    }

    /// What came of them.
    fn ended(mut self) -> Result<Ended, Failure> {
        self.common.progress.finish();
        let (processes, most_mib) = (self.left_out, MOST_KEPT_BYTES >> 20);
        self.ended.gaps.extend((processes > 0).then_some(Gap::ChildrenLeftOut { processes, most_mib }));
        self.failure.map_or(Ok(self.ended), Err)
    }
}

/// About what a recording takes: its text, and where it has many parts what these take besides.
fn bytes(recording: &Recording) -> u64 {
    let [frames, tasks] = [(recording.frames.len(), size_of::<Frame>()), (recording.tasks.len(), size_of::<Task>())]
        .map(|(count, size)| count as u64 * size as u64);
    json_bytes(recording).saturating_add(frames).saturating_add(tasks)
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
