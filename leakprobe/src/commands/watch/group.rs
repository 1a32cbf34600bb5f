//! Several processes that are observed together: one that comes first, and others beside it. With `--follow-forks` those that they
//! create are added as they come.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time,
};

use super::{
    super::{Failure, follow::Follower},
    Common, Guard, Observer, Progress, Session, Watched, ended_early, in_event_loop, internal,
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
    let (told, sessions, guard) = in_event_loop(async {
        let (stop, stopped) = watch::channel(false);
        let (forks, mut forked) = mpsc::unbounded_channel();
        let common =
            Rc::new(Common { interval: options.interval, deadline: None, progress: Progress::new(true), forks });
        let guard = Guard::start(stop.clone(), None)?;
        let mut follower = Follower::new(first.hub().clone(), options, 1 + others.len());
        let observers = Others::default();
        let mut loops = JoinSet::new();
        let mut first = Watched::new(first)?;
        let observer = first.observed(stopped.clone());
        let mut waiting = vec![first];
        for session in others {
            follower.know(session.target.pid);
            waiting.push(observed(session, &observers, &stopped)?);
        }
        begin()?;
        let mut count = 0;
        for watched in waiting {
            loops.spawn_local(watched.run(count, Rc::clone(&common), stopped.clone()));
            count += 1;
        }
        let mut ended = BTreeMap::new();
        // Taking hold of a process takes time: half of it is for all else, however fast processes come.
        let mut next = time::Instant::now();
        let phases = phases(observer, Rc::clone(&observers));
        tokio::pin!(phases);
        let told = loop {
            tokio::select! {
                biased;
                Some(done) = loops.join_next() => {
                    let (place, session) = done.map_err(|error| internal("go on watching", &error))??;
                    // Of one that ends meanwhile there is what was seen at the looks: who respawns in a loop must not fill memory.
                    if place == 0 {
                        ended.insert(place, session);
                    }
                    follower.has_room();
                }
                told = &mut phases => break told,
                Some((parent, child)) = after(next, &mut forked) => {
                    if *stopped.borrow() {
                        continue;
                    }
                    let began = time::Instant::now();
                    for session in follower.follow(parent, child) {
                        let watched = observed(session, &observers, &stopped)?;
                        loops.spawn_local(watched.run(count, Rc::clone(&common), stopped.clone()));
                        count += 1;
                    }
                    next = time::Instant::now() + began.elapsed();
                }
            }
        };
        let _ = stop.send(true);
        while let Some(done) = loops.join_next().await {
            let (place, session) = done.map_err(|error| internal("go on watching", &error))??;
            ended.insert(place, session);
        }
        if let (Some(first), Some(gap)) = (ended.get_mut(&0), follower.gap()) {
            first.gap(gap);
        }
        Ok((told, ended, guard))
    })?;
    let mut recordings: BTreeMap<usize, Recording> = sessions
        .into_iter()
        .filter(|(_, session)| session.has_seen_something())
        .map(|(place, session)| (place, session.into_recording(false)))
        .collect();
    drop(guard);
    let first = recordings.remove(&0).ok_or_else(|| ended_early(pid))?;
    let others = recordings.into_iter().map(|(place, recording)| (place - 1, recording)).collect();
    Ok((told, Ends { first, others }))
}

/// The next process that was created, but not before `next`.
async fn after(next: time::Instant, forked: &mut mpsc::UnboundedReceiver<(u32, u32)>) -> Option<(u32, u32)> {
    time::sleep_until(next).await;
    forked.recv().await
}

fn observed(session: Session, observers: &Others, stopped: &watch::Receiver<bool>) -> Result<Watched, Failure> {
    let pid = session.target.pid;
    let mut watched = Watched::new(session)?;
    observers.borrow_mut().push((pid, watched.observed(stopped.clone())));
    Ok(watched)
}
