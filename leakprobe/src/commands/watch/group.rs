//! Several processes that are observed together: one that comes first, and others beside it. With `--follow-forks` those that they
//! create are added as they come.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use tokio::sync::watch;

use super::{
    super::{Failure, follow::Follower, signals},
    Ended, Guard, Observer, Progress, Session, Worker, Workers, ended_early, governing, in_event_loop,
};
use crate::{cli::Watch, model::Recording};

/// The process ids of the others, each with whoever observes it, in the order in which they came. What has ended stays.
pub(in crate::commands) type Others = Rc<RefCell<Vec<(u32, Observer)>>>;

/// The recordings of the end: that of the first, and those of the others that have not ended before, by their place in [`Others`].
pub(in crate::commands) struct Ends {
    pub(in crate::commands) first: Recording,
    pub(in crate::commands) others: BTreeMap<usize, Recording>,
}

/// Watches all targets for as long as `phases` takes. `begin` is called once everything is in place, before the first snapshot.
pub(in crate::commands) fn observe<T>(
    first: Session,
    others: Vec<Session>,
    options: &Watch,
    begin: impl FnOnce() -> Result<(), Failure>,
    phases: impl AsyncFnOnce(Observer, Others) -> T,
) -> Result<(T, Ends), Failure> {
    let pid = first.target.pid;
    let (told, mut recordings) = in_event_loop(async {
        let hub = first.hub().clone();
        let (stopped, mut signalled) = (signals::stop(), signals::stop());
        let pids: Vec<u32> = [&first].into_iter().chain(&others).map(|session| session.target.pid).collect();
        let mut follower = Follower::start(&hub, options, &pids)?;
        let mut workers = Workers::new(options.interval, None, Progress::new(true), &follower)?;
        let mut guard = Guard::new();
        let observers = Others::default();
        let mut first = Worker::new(first);
        let observer = first.observed(stopped.clone());
        begin()?;
        workers.start(first);
        others.into_iter().for_each(|session| workers.start(observed(session, &observers, &stopped)));
        let phases = phases(observer, Rc::clone(&observers));
        tokio::pin!(phases);
        let told = loop {
            tokio::select! {
                biased;
                _ = signalled.wait_for(|signalled| *signalled), if !workers.are_stopped() => workers.stop(),
                () = workers.next() => follower.has_room(),
                told = &mut phases => break told,
                () = governing(&hub) => hub.govern(),
                session = follower.next() => {
                    if !workers.are_stopped() {
                        workers.start(observed(session, &observers, &stopped));
                    }
                }
                // A request for its recording would never be answered.
                stuck = guard.stuck(|| true) => return Err(stuck.into()),
            }
        };
        workers.stop();
        while !workers.are_done() {
            tokio::select! {
                () = workers.next() => {}
                stuck = guard.stuck(|| true) => return Err(stuck.into()),
            }
        }
        let Ended { mut recordings, mut gaps, .. } = workers.ended()?;
        gaps.extend(follower.gap());
        if let Some(first) = recordings.get_mut(&0) {
            first.coverage.gaps.extend(gaps);
        }
        Ok((told, recordings))
    })?;
    let first = recordings.remove(&0).ok_or_else(|| ended_early(pid))?;
    let others = recordings.into_iter().map(|(place, recording)| (place - 1, recording)).collect();
    Ok((told, Ends { first, others }))
}

/// Of one that ends before watching does there is what was seen at the looks: who respawns in a loop must not fill memory.
fn observed(session: Session, observers: &Others, stopped: &watch::Receiver<bool>) -> Worker {
    let pid = session.target.pid;
    let mut worker = Worker::new(session).forgets_ended();
    observers.borrow_mut().push((pid, worker.observed(stopped.clone())));
    worker
}
