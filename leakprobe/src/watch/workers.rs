//! The threads of all targets, and what comes of them.

use std::{
    collections::BTreeMap,
    io::{self, PipeWriter},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    watch,
};

use super::{
    Error, ErrorKind,
    guard::Stuck,
    update::Subscriber,
    worker::{Common, Worker},
};
use crate::{
    model::{Frame, Gap, Recording, Task},
    pool::{Pool, Share},
};

/// What a target's thread has for its stack, as the first thread of a process has.
const STACK_BYTES: usize = 8 << 20;
/// So much is kept of processes that were created while we watched however little memory is left for it, bytes.
const KEPT_AT_LEAST: u64 = 16 << 20;

/// The place of a target, and what came of watching it.
type TargetEnd = (usize, Result<Option<Recording>, Error>);

/// The threads of all targets.
pub(super) struct Workers {
    common: Arc<Common>,
    /// Closed to stop them.
    stop: Option<PipeWriter>,
    /// The targets of those that have not come to an end, by place.
    running: BTreeMap<usize, u32>,
    /// How many these are.
    count: watch::Sender<usize>,
    /// Filled by the threads as they come to an end.
    done: UnboundedSender<TargetEnd>,
    results: UnboundedReceiver<TargetEnd>,
    started: usize,
    /// The memory for recordings of processes that were created while we watched, and how much of it there is.
    kept: Share,
    most_kept: u64,
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
    /// None yet. They end at `deadline`; `forks` is told of processes that targets create, whose recordings are kept in `memory`.
    pub(super) fn new(
        interval: Duration,
        deadline: Option<Instant>,
        subscriber: Subscriber,
        forks: mpsc::Sender<(u32, u32)>,
        memory: &Pool,
    ) -> Result<Self, Error> {
        let (stopped, stop) = io::pipe().map_err(|error| Error::internal("make a pipe", &error))?;
        let (done, results) = unbounded_channel();
        Ok(Self {
            common: Arc::new(Common { interval, deadline, stop: stopped, subscriber, forks }),
            stop: Some(stop),
            running: BTreeMap::new(),
            count: watch::Sender::new(0),
            done,
            results,
            started: 0,
            kept: memory.share(KEPT_AT_LEAST),
            most_kept: memory.size(),
            left_out: 0,
            ended: Ended::default(),
            failure: None,
        })
    }

    /// Starts a target's thread.
    ///
    /// # Errors
    /// If there may be no more threads.
    pub(super) fn start(&mut self, worker: Worker) -> Result<(), Error> {
        let (place, pid) = (self.started, worker.pid());
        let (common, done) = (Arc::clone(&self.common), self.done.clone());
        let watch = move || {
            let result = catch_unwind(AssertUnwindSafe(|| worker.run(&common)));
            let result = result.unwrap_or_else(|_| Err(Error::internal("go on watching", &"a thread has panicked")));
            // Nobody waits for one that was given up.
            let _ = done.send((place, result));
        };
        let thread = thread::Builder::new().name("leakprobe-target".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(watch).map_err(|error| {
            let what = format!(
                "leakprobe cannot start a thread for process {pid}: {error}; raise the limit of processes (`ulimit -u`, or pids.max of the \
                 control group), or watch fewer"
            );
            Error::new(ErrorKind::Failed, what)
        })?;
        self.started += 1;
        self.running.insert(place, pid);
        self.update_count();
        Ok(())
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
        let mut count = self.count.subscribe();
        async move {
            // If nobody counts any more, nothing runs.
            let _ = count.wait_for(|count| *count == 0).await;
        }
    }

    fn update_count(&self) {
        self.count.send_replace(self.running.len());
    }

    /// Waits until one of them has ended, and returns its place; never returns if there is none. One that fails ends all.
    pub(super) async fn next(&mut self) -> usize {
        loop {
            let Some((place, result)) = self.results.recv().await else { return std::future::pending().await };
            // What comes of one that was given up comes too late.
            if self.running.remove(&place).is_none() {
                continue;
            }
            match result {
                Ok(recording) => recording.into_iter().for_each(|recording| self.keep(place, recording)),
                Err(failure) => self.fail(failure),
            }
            self.update_count();
            return place;
        }
    }

    /// Keeps a recording, unless it is one of very many: who respawns in a loop must not fill memory.
    fn keep(&mut self, place: usize, recording: Recording) {
        if recording.target.parent.is_some() {
            // It takes the place of what its target's thread has just given back.
            if self.kept.grow(bytes(&recording)).is_err() {
                self.left_out += 1;
                return;
            }
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
        let running = std::mem::take(&mut self.running);
        self.update_count();
        self.ended.gaps.extend(running.into_values().map(|pid| Gap::ProcessUnanswered { pid }));
        self.ended.unanswered.get_or_insert(stuck.into());
    }

    /// What came of them.
    pub(super) fn ended(mut self) -> Result<Ended, Error> {
        let (processes, most_mib) = (self.left_out, self.most_kept >> 20);
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
