//! The threads of all targets, and what comes of them.

use std::{
    collections::BTreeMap,
    io::{self, PipeWriter},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinSet};

use super::{
    Error,
    guard::Stuck,
    update::Subscriber,
    worker::{Common, Worker},
};
use crate::model::{Frame, Gap, Recording, Task};

/// Most that is kept of processes that were created and have ended, in bytes of memory.
const MAX_KEPT_BYTES: u64 = 192 << 20;

/// The threads of all targets.
pub(super) struct Workers {
    common: Arc<Common>,
    /// Closed to stop them.
    stop: Option<PipeWriter>,
    threads: JoinSet<(usize, Result<Option<Recording>, Error>)>,
    /// The targets of those, by place.
    watched: BTreeMap<usize, u32>,
    started: usize,
    /// How many have not come to an end.
    running: watch::Sender<usize>,
    /// Bytes that the recordings of those take that were created and have ended before watching does.
    kept_bytes: u64,
    /// How many of those were left out.
    left_out: u64,
    ended: Ended,
    failure: Option<Error>,
}

/// What came of watching.
#[derive(Default)]
pub(super) struct Ended {
    /// By place, in the order in which they were started.
    pub(super) recordings: BTreeMap<usize, Recording>,
    /// What is not among them.
    pub(super) gaps: Vec<Gap>,
    /// Of the first of those that were given up.
    pub(super) unanswered: Option<Error>,
}

impl Workers {
    /// None yet. They end at `deadline`; `forks` is told of processes that targets create.
    pub(super) fn new(
        interval: Duration,
        deadline: Option<Instant>,
        subscriber: Subscriber,
        forks: mpsc::Sender<(u32, u32)>,
    ) -> Result<Self, Error> {
        let (stopped, stop) = io::pipe().map_err(|error| Error::internal("make a pipe", &error))?;
        Ok(Self {
            common: Arc::new(Common { interval, deadline, stop: stopped, subscriber, forks }),
            stop: Some(stop),
            threads: JoinSet::new(),
            watched: BTreeMap::new(),
            started: 0,
            running: watch::Sender::new(0),
            kept_bytes: 0,
            left_out: 0,
            ended: Ended::default(),
            failure: None,
        })
    }

    /// Starts a target's thread.
    pub(super) fn start(&mut self, worker: Worker) {
        let (place, common) = (self.started, Arc::clone(&self.common));
        self.started += 1;
        self.watched.insert(place, worker.pid());
        self.threads.spawn_blocking(move || (place, worker.run(&common)));
        self.count();
    }

    /// The place of the next one among all that were started.
    pub(super) const fn next_place(&self) -> usize {
        self.started
    }

    /// Lets all of them end.
    pub(super) fn stop(&mut self) {
        self.stop = None;
    }

    /// Whether they were told to end.
    pub(super) fn are_stopped(&self) -> bool {
        self.stop.is_none()
    }

    /// Returns once all have come to an end.
    pub(super) fn all_ended(&self) -> impl Future<Output = ()> + use<> {
        let mut running = self.running.subscribe();
        async move {
            // If nobody counts any more, nothing runs.
            let _ = running.wait_for(|running| *running == 0).await;
        }
    }

    fn count(&self) {
        self.running.send_replace(self.threads.len());
    }

    /// Waits until one of them has ended; for ever if there is none. One that fails ends all.
    pub(super) async fn next(&mut self) {
        match self.threads.join_next().await {
            Some(Ok((place, result))) => {
                self.watched.remove(&place);
                match result {
                    Ok(recording) => recording.into_iter().for_each(|recording| self.keep(place, recording)),
                    Err(failure) => self.fail(failure),
                }
            }
            Some(Err(error)) => self.fail(Error::internal("go on watching", &error)),
            None => std::future::pending().await,
        }
        self.count();
    }

    /// Keeps a recording, unless it is one of very many: who respawns in a loop must not fill memory.
    fn keep(&mut self, place: usize, recording: Recording) {
        if place > 0 && recording.target.ended.is_some() {
            let bytes = self.kept_bytes.saturating_add(bytes(&recording));
            if bytes > MAX_KEPT_BYTES {
                self.left_out += 1;
                return;
            }
            self.kept_bytes = bytes;
        }
        self.ended.recordings.insert(place, recording);
    }

    fn fail(&mut self, failure: Error) {
        self.failure.get_or_insert(failure);
        self.stop();
    }

    /// Waits no longer for any of them: `stuck` has not come to an end, and those that are left have not either.
    pub(super) fn give_up(&mut self, stuck: Stuck) {
        self.stop();
        self.threads = JoinSet::new();
        self.count();
        let watched = std::mem::take(&mut self.watched);
        self.ended.gaps.extend(watched.into_values().map(|pid| Gap::ProcessUnanswered { pid }));
        self.ended.unanswered.get_or_insert(stuck.into());
    }

    /// What came of them.
    pub(super) fn ended(mut self) -> Result<Ended, Error> {
        let (processes, most_mib) = (self.left_out, MAX_KEPT_BYTES >> 20);
        self.ended.gaps.extend((processes > 0).then_some(Gap::ChildrenLeftOut { processes, most_mib }));
        self.failure.map_or(Ok(self.ended), Err)
    }
}

/// About what a recording takes: its text, and where it has many parts what these take besides.
fn bytes(recording: &Recording) -> u64 {
    let mut text = Counted(0);
    // Counting does not fail.
    let _ = serde_json::to_writer(&mut text, recording);
    let [frames, tasks] = [(recording.frames.len(), size_of::<Frame>()), (recording.tasks.len(), size_of::<Task>())]
        .map(|(count, size)| count as u64 * size as u64);
    text.0.saturating_add(frames).saturating_add(tasks)
}

/// Counts what is written.
struct Counted(u64);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
