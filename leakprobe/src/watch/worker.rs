//! One target while it is watched: a thread of its own, which waits for the clock, the target's end, records and questions, and does one
//! thing after another. However long that takes, or if it hangs, other targets do not wait for it.

use std::{
    io::PipeReader,
    os::fd::AsFd,
    sync::{Arc, mpsc as std_mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Counts, Error, Stop, Update,
    bell::Bell,
    guard::AtWork,
    session::{RECORDS_AT_ONCE, Session},
    update::Subscriber,
};
use crate::model::Recording;

/// How often it is looked at the end for records of threads that snapshots alone saw come or go, and how long apart.
const LOOKS_FOR_LATE: u32 = 5;
const LATE_PAUSE: Duration = Duration::from_millis(2);

/// For whoever wants to know of a target while it is watched.
#[derive(Clone)]
pub(crate) struct Observer {
    /// The numbers of the last snapshot. Closed when watching has ended.
    pub(crate) counts: watch::Receiver<Counts>,
    /// Ends watching.
    pub(crate) stop: Stop,
    requests: mpsc::Sender<oneshot::Sender<Recording>>,
    bell: Arc<Bell>,
}

impl Observer {
    /// Waits until watching has ended.
    pub(crate) async fn ended(&self) {
        self.requests.closed().await;
    }

    /// What is known at this moment, after another snapshot; `None` if watching has ended.
    pub(crate) async fn recording(&self) -> Option<Recording> {
        let (reply, recording) = oneshot::channel();
        self.requests.send(reply).await.ok()?;
        self.bell.ring();
        recording.await.ok()
    }

    /// As [`Self::recording`], for whoever has no event loop: waits for it.
    pub(super) fn recording_now(&self) -> Option<Recording> {
        let (reply, recording) = oneshot::channel();
        self.requests.blocking_send(reply).ok()?;
        self.bell.ring();
        recording.blocking_recv().ok()
    }
}

/// The other side of an [`Observer`].
struct Observed {
    counts: watch::Sender<Counts>,
    requests: mpsc::Receiver<oneshot::Sender<Recording>>,
}

/// What the workers of all targets share.
pub(super) struct Common {
    pub(super) interval: Duration,
    pub(super) deadline: Option<Instant>,
    /// Closed at its other end when watching is to end.
    pub(super) stop: PipeReader,
    pub(super) subscriber: Subscriber,
    /// Parent and child of each process that was forked.
    pub(super) forks: std_mpsc::Sender<(u32, u32)>,
}

impl Common {
    fn tell_forks(&self, session: &mut Session) {
        let parent = session.target.pid;
        for child in session.take_forked() {
            // Nobody follows them any more once watching ends.
            let _ = self.forks.send((parent, child));
        }
    }
}

/// Watches one target.
pub(super) struct Worker {
    session: Session,
    counts: Counts,
    observed: Option<Observed>,
    /// Whether there is to be a recording even if the target ends before watching does.
    is_kept: bool,
}

/// Why a worker has woken up, besides the time.
struct Woken {
    stop: bool,
    end: bool,
    bell: bool,
}

impl Worker {
    /// There is a recording of it whenever it ends.
    pub(super) fn new(session: Session) -> Self {
        Self { session, counts: Counts::default(), observed: None, is_kept: true }
    }

    /// There is none if the target ends first: of that there is what was seen until then by whoever asked.
    pub(super) fn forgets_ended(self) -> Self {
        Self { is_kept: false, ..self }
    }

    /// Its target.
    pub(super) fn pid(&self) -> u32 {
        self.session.target.pid
    }

    /// Lets somebody observe it.
    pub(super) fn observed(&mut self) -> Observer {
        let (publish, counts) = watch::channel(Counts::default());
        let (ask, requests) = mpsc::channel(1);
        self.observed = Some(Observed { counts: publish, requests });
        let (stop, bell) = (self.session.hub().stop().clone(), Arc::clone(self.session.bell()));
        Observer { counts, stop, requests: ask, bell }
    }

    /// Until the target ends, the time is over, or watching is to end. The result, if anything was seen.
    pub(super) fn run(mut self, common: &Common) -> Result<Option<Recording>, Error> {
        let mut next = Instant::now();
        loop {
            let woken = self.wait(common, next)?;
            let now = Instant::now();
            // The order is that of precedence: a flood of events must not keep us from stopping.
            if woken.stop || common.deadline.is_some_and(|deadline| now >= deadline) {
                break;
            }
            if woken.end {
                self.has_ended(common);
                return Ok(if self.is_kept { self.recording() } else { None });
            }
            if woken.bell {
                self.session.bell().silence();
            }
            if now >= next {
                self.look()?;
                self.counts = self.counts.next(&self.session);
                self.publish();
                (common.subscriber)(Update::Snapshot { pid: self.pid(), counts: self.counts });
                // What could not be done in time is left out.
                next = (next + common.interval).max(Instant::now());
            }
            if let Some(reply) = self.observed.as_mut().and_then(|observed| observed.requests.try_recv().ok()) {
                self.look()?;
                // Whoever asked may have given up.
                let _ = reply.send(self.session.recording());
            }
            if self.drain(RECORDS_AT_ONCE) == RECORDS_AT_ONCE {
                self.session.bell().ring();
            }
            common.tell_forks(&mut self.session);
        }
        (common.subscriber)(Update::Ending { pid: self.pid() });
        self.look()?;
        self.session.count_events();
        self.drain_all();
        // A thread is there, and a moment later its record.
        for _ in 0..LOOKS_FOR_LATE {
            if !self.session.expects_records() {
                break;
            }
            thread::sleep(LATE_PAUSE);
            self.drain_all();
        }
        if !self.session.target.is_alive() {
            self.session.ended = Some("ended while we watched".to_owned());
        }
        Ok(self.recording())
    }

    /// Waits for something to do, at most until `next` or the deadline.
    fn wait(&self, common: &Common, next: Instant) -> Result<Woken, Error> {
        let until = common.deadline.map_or(next, |deadline| deadline.min(next));
        // Rounded up: who wakes up too early has nothing to do.
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_nanos(1);
        let timeout =
            Timespec::try_from(left).map_err(|error| Error::internal("wait for the next snapshot", &error))?;
        let (target, bell) = (self.session.target.as_fd(), self.session.bell());
        let mut wanted = [
            PollFd::new(&common.stop, PollFlags::IN),
            PollFd::new(&target, PollFlags::IN),
            PollFd::new(bell, PollFlags::IN),
        ];
        match poll(&mut wanted, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Error::internal("wait for events", &error)),
        }
        let [stop, end, bell] = wanted.map(|wanted| !wanted.revents().is_empty());
        Ok(Woken { stop, end, bell })
    }

    /// Takes a snapshot. What happened before is told before it.
    fn look(&mut self) -> Result<(), Error> {
        self.session.count_events();
        self.drain_all();
        let _at_work = AtWork::on(self.session.target.pid);
        self.session.snapshot()
    }

    /// Takes in all records that have come.
    fn drain_all(&mut self) {
        self.session.collect();
        self.drain(usize::MAX);
    }

    /// Takes in up to `most` of those that were collected; returns how many.
    fn drain(&mut self, most: usize) -> usize {
        let _at_work = AtWork::on(self.session.target.pid);
        self.session.drain(most)
    }

    fn has_ended(&mut self, common: &Common) {
        self.session.count_events();
        self.drain_all();
        common.tell_forks(&mut self.session);
        self.session.ended = Some("ended while we watched".to_owned());
        self.counts = self.counts.last(&self.session);
        self.publish();
        (common.subscriber)(Update::Exited { pid: self.pid() });
    }

    fn publish(&self) {
        if let Some(observed) = &self.observed {
            observed.counts.send_replace(self.counts);
        }
    }

    fn recording(self) -> Option<Recording> {
        // Whoever observes need not wait for it.
        drop(self.observed);
        self.session.has_seen_something().then(|| self.session.into_recording(false))
    }
}
