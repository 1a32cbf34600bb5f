//! The event loop of watching: starts the threads of targets, and of those that they create, and waits for what comes of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::time;

use super::{
    Error, Options,
    follow::Follower,
    guard::{Guard, Stuck},
    hub::Hub,
    in_event_loop,
    session::Session,
    update::Subscriber,
    worker::{Observer, Worker},
    workers::{Ended, Workers},
};
use crate::{model::Recording, shared::lock};

/// The last snapshot may take so long after the end of a fixed time, for which nobody waits as for that of Ctrl-C: the first one of a
/// program with a million goroutines takes a second.
const MORE_FOR_SNAPSHOT: Duration = Duration::from_secs(2);

/// Targets for whoever observes them, by their places, in the order in which they came.
#[derive(Default)]
pub(crate) struct ObservedTargets {
    /// Those that are watched: the id of each, and what it is observed by.
    pub(crate) watched: BTreeMap<usize, (u32, Observer)>,
    /// Of those that have ended, by place, the ids of the ones that have never had more than one thread.
    pub(crate) single: BTreeMap<usize, u32>,
}

impl ObservedTargets {
    fn end(&mut self, place: usize) {
        if let Some((pid, observer)) = self.watched.remove(&place)
            && observer.counts.borrow().is_single
        {
            self.single.insert(place, pid);
        }
    }
}

/// The targets that are observed, for all who do. Clones are the same.
pub(crate) type Observers = Arc<Mutex<ObservedTargets>>;

/// The recordings of the end: that of the first, and those of the others that have not ended before, by their places.
pub(crate) struct Ends {
    pub(crate) first: Recording,
    pub(crate) others: BTreeMap<usize, Recording>,
}

/// Watches the sessions' targets until all of them end, `duration` is over, or the hub's [`super::Stop`] is used. `begin` is called once
/// everything is in place, before the first snapshot. There is a recording of each process of which anything was seen, in the order in
/// which they came: one at least.
pub(crate) fn watch<E: From<Error>>(
    sessions: Vec<Session>,
    duration: Option<Duration>,
    observers: Option<Observers>,
    subscriber: Subscriber,
    begin: impl FnOnce() -> Result<(), E>,
) -> Result<Vec<Recording>, E> {
    let Some(first) = sessions.first() else { return Ok(Vec::new()) };
    let (pid, hub) = (first.target.pid, first.hub().clone());
    let Ended { recordings, gaps, unanswered } = in_event_loop(async {
        let deadline = duration.map(|duration| Instant::now() + duration);
        if let Some(deadline) = deadline {
            hub.stop().budget().end_at(deadline + MORE_FOR_SNAPSHOT);
        }
        let is_due = || hub.stop().is_stopped() || deadline.is_some_and(|deadline| Instant::now() > deadline);
        let mut engine = Engine::new(&hub, &sessions, deadline, subscriber)?;
        engine.observers = observers;
        begin()?;
        sessions.into_iter().try_for_each(|session| engine.start(session))?;
        loop {
            if let Err(stuck) = engine.serve(engine.workers.all_ended(), is_due).await {
                engine.workers.give_up(stuck);
            }
            // A process that was created at the end is seen once.
            match engine.follower.last().await {
                Some(session) => engine.start_forked(session),
                None => break,
            }
        }
        engine.ended().map_err(E::from)
    })?;
    let mut recordings: Vec<Recording> = recordings.into_values().collect();
    match (recordings.first_mut(), unanswered) {
        (Some(first), unanswered) => {
            first.coverage.gaps.extend(gaps);
            unanswered.iter().for_each(|error| tracing::warn!("{error}"));
            Ok(recordings)
        }
        (None, Some(error)) => Err(error.into()),
        (None, None) => Err(Error::ended_early(pid).into()),
    }
}

/// Watches all targets for as long as `phases` takes, which observes them meanwhile; the first is the one that the others are beside. Of
/// the others that end before there is what was seen until then by whoever asked: who respawns in a loop must not fill memory.
pub(crate) fn observe<T, E: From<Error>>(
    first: Session,
    others: Vec<Session>,
    phases: impl AsyncFnOnce(Observer, Observers) -> T,
) -> Result<(T, Ends), E> {
    let (pid, hub) = (first.target.pid, first.hub().clone());
    let sessions: Vec<Session> = [first].into_iter().chain(others).collect();
    let (told, mut recordings) = in_event_loop::<_, Error>(async {
        let observers = Observers::default();
        let mut engine = Engine::new(&hub, &sessions, None, Arc::new(|_| {}))?;
        engine.observers = Some(Arc::clone(&observers));
        engine.keeps_first_alone = true;
        sessions.into_iter().try_for_each(|session| engine.start(session))?;
        let observer = lock(&observers).watched.get(&0).map(|(_, observer)| observer.clone());
        let observer = observer.ok_or_else(|| Error::ended_early(pid))?;
        // A request for the recording of one that hangs would never be answered.
        let told = engine.serve(phases(observer, observers), || true).await?;
        engine.workers.stop();
        engine.serve(engine.workers.all_ended(), || true).await?;
        let Ended { mut recordings, gaps, .. } = engine.ended()?;
        if let Some(first) = recordings.get_mut(&0) {
            first.coverage.gaps.extend(gaps);
        }
        Ok((told, recordings))
    })?;
    let first = recordings.remove(&0).ok_or_else(|| Error::ended_early(pid))?;
    Ok((told, Ends { first, others: recordings }))
}

/// The threads of targets, and what serves them.
struct Engine {
    hub: Hub,
    workers: Workers,
    follower: Follower,
    guard: Guard,
    /// Whoever is to be told of targets as they come.
    observers: Option<Observers>,
    /// Whether there is a recording only of the first target, and of those that are alive at the end.
    keeps_first_alone: bool,
}

impl Engine {
    fn new(hub: &Hub, sessions: &[Session], deadline: Option<Instant>, subscriber: Subscriber) -> Result<Self, Error> {
        let pids: Vec<u32> = sessions.iter().map(|session| session.target.pid).collect();
        let Options { interval, .. } = *hub.options();
        let follower = Follower::start(hub, &pids)?;
        let workers = Workers::new(interval, deadline, subscriber, follower.created(), hub.stop().budget().kept())?;
        Ok(Self { hub: hub.clone(), workers, follower, guard: Guard::new(), observers: None, keeps_first_alone: false })
    }

    fn start(&mut self, session: Session) -> Result<(), Error> {
        let (pid, place) = (session.target.pid, self.workers.next_place());
        let mut worker = Worker::new(session);
        if self.keeps_first_alone && place > 0 {
            worker = worker.forgets_ended();
        }
        let observer = self.observers.as_ref().map(|observers| (observers, worker.observed()));
        self.workers.start(worker)?;
        if let Some((observers, observer)) = observer {
            lock(observers).watched.insert(place, (pid, observer));
        }
        Ok(())
    }

    /// Starts one that a target has created.
    fn start_forked(&mut self, session: Session) {
        if let Err(error) = self.start(session) {
            tracing::debug!("{error}");
            self.follower.misses();
        }
    }

    /// The one at this place has ended.
    fn end(&self, place: usize) {
        if let Some(observers) = &self.observers {
            lock(observers).end(place);
        }
    }

    /// Serves all of them until `until` returns.
    ///
    /// # Errors
    /// If one of them hangs. It is looked for while `is_due`.
    async fn serve<T>(&mut self, until: impl Future<Output = T>, is_due: impl Fn() -> bool) -> Result<T, Stuck> {
        let stop = self.hub.stop().clone();
        tokio::pin!(until);
        loop {
            tokio::select! {
                biased;
                () = stop.wait(), if !self.workers.are_stopped() => self.workers.stop(),
                place = self.workers.next() => self.end(place),
                done = &mut until => return Ok(done),
                () = governing(&self.hub) => self.hub.govern(),
                session = self.follower.next() => self.start_forked(session),
                stuck = self.guard.stuck(&is_due) => return Err(stuck),
            }
        }
    }

    fn ended(self) -> Result<Ended, Error> {
        let mut ended = self.workers.ended()?;
        ended.gaps.extend(self.follower.gap());
        Ok(ended)
    }
}

/// Waits until the governor has something to do; never returns if there is none.
async fn governing(hub: &Hub) {
    match hub.next_governing() {
        Some(next) => time::sleep_until(next.into()).await,
        None => std::future::pending().await,
    }
}
