//! Several processes that are observed together: one that comes first, and others beside it. With `--follow-forks` those that they
//! create are added as they come.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Instant};

use tokio::{
    sync::{mpsc, watch},
    time,
};

use super::{
    super::{Failure, follow::Follower, signals},
    Guard, Observer, Progress, Session, Worker, Workers, ended_early, governing, in_event_loop,
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
        let (forks, mut forked) = mpsc::unbounded_channel();
        let _guard = Guard::start(None)?;
        let mut follower = Follower::new(hub.clone(), options, 1 + others.len());
        let mut workers = Workers::new(options.interval, None, Progress::new(true), forks)?;
        let observers = Others::default();
        let mut first = Worker::new(first);
        let observer = first.observed(stopped.clone());
        others.iter().for_each(|session| follower.know(session.target.pid));
        begin()?;
        workers.start(first);
        others.into_iter().for_each(|session| workers.start(observed(session, &observers, &stopped)));
        // Taking hold of a process takes time: half of it is for all else, however fast processes come.
        let mut next = Instant::now();
        let phases = phases(observer, Rc::clone(&observers));
        tokio::pin!(phases);
        let told = loop {
            tokio::select! {
                biased;
                _ = signalled.wait_for(|signalled| *signalled), if !workers.are_stopped() => workers.stop(),
                () = workers.next() => follower.has_room(),
                told = &mut phases => break told,
                () = governing(&hub) => hub.govern(),
                Some((parent, child)) = after(next, &mut forked) => {
                    if workers.are_stopped() {
                        continue;
                    }
                    let began = Instant::now();
                    for session in follower.follow(parent, child) {
                        workers.start(observed(session, &observers, &stopped));
                    }
                    next = Instant::now() + began.elapsed();
                }
            }
        };
        workers.stop();
        while !workers.are_done() {
            workers.next().await;
        }
        let mut recordings = workers.results()?;
        if let Some((first, gap)) = recordings.get_mut(&0).zip(follower.gap()) {
            first.coverage.gaps.push(gap);
        }
        Ok((told, recordings))
    })?;
    let first = recordings.remove(&0).ok_or_else(|| ended_early(pid))?;
    let others = recordings.into_iter().map(|(place, recording)| (place - 1, recording)).collect();
    Ok((told, Ends { first, others }))
}

/// The next process that was created, but not before `next`.
async fn after(next: Instant, forked: &mut mpsc::UnboundedReceiver<(u32, u32)>) -> Option<(u32, u32)> {
    time::sleep_until(next.into()).await;
    forked.recv().await
}

/// Of one that ends before watching does there is what was seen at the looks: who respawns in a loop must not fill memory.
fn observed(session: Session, observers: &Others, stopped: &watch::Receiver<bool>) -> Worker {
    let pid = session.target.pid;
    let mut worker = Worker::new(session).forgets_ended();
    observers.borrow_mut().push((pid, worker.observed(stopped.clone())));
    worker
}
