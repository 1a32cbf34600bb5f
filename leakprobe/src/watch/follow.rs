//! `--follow-forks`: processes that a target creates are watched as well, from as early as they can be.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time,
};

use super::{Error, ErrorKind, hub::Hub, session::Session};
use crate::{
    model::Gap,
    probes::Programs,
    shared::lock,
    target::{Stat, children, is_silent},
};

/// Most processes that are watched at once.
pub(crate) const MAX_PROCESSES: usize = Programs::MOST_TARGETS as usize;
/// One that takes longer to be attached to seems to hang: others are attached to meanwhile, up to so many.
const OVERDUE: Duration = Duration::from_millis(100);
const MOST_OPENING: usize = 64;
/// How long one may take that is just being attached to at the end, and how often it is looked.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(5);
/// Most processes that are remembered to have been met.
const MOST_KNOWN: usize = 1 << 16;

/// Processes that were met, by their ids, each with when it began, clock ticks since boot: ids are used again.
#[derive(Default)]
struct Known(HashMap<u32, u64>);

impl Known {
    /// Whether the process is met for the first time. Of one that has ended already only its id is known.
    fn is_new(&mut self, pid: u32) -> bool {
        // Most of them have ended long ago.
        if self.0.len() > MOST_KNOWN {
            self.0.clear();
        }
        match Stat::of(pid) {
            Some(stat) => self.0.insert(pid, stat.start_ticks) != Some(stat.start_ticks),
            None => self.0.insert(pid, 0).is_none(),
        }
    }
}

/// Attaches to new processes, on threads of its own.
pub(super) struct Follower {
    /// Parent and child of each process that was created.
    created: mpsc::Sender<(u32, u32)>,
    opened: UnboundedReceiver<Session>,
    followed: Arc<FollowState>,
}

/// What the thread and the others tell each other.
#[derive(Default)]
struct FollowState {
    /// How many are just being attached to; and whether no more are to be.
    opening: AtomicUsize,
    is_over: AtomicBool,
    /// Processes that ended before they could be watched, or could not be.
    missed: AtomicU64,
    /// Processes that did not answer.
    unanswered: AtomicU64,
    /// Processes that were too many.
    too_many: AtomicU64,
}

impl Follower {
    /// Beside `watched` processes, whose creation may be reported all the same.
    pub(super) fn start(hub: &Hub, watched: &[u32]) -> Result<Self, Error> {
        let (created, wanted) = mpsc::channel();
        let (opens, opened) = unbounded_channel();
        let followed = Arc::<FollowState>::default();
        if hub.options().follow_forks {
            let known = watched.to_vec();
            let (hub, followed) = (hub.clone(), Arc::clone(&followed));
            let follow = move || {
                let following = Arc::new(Following { hub, known: Mutex::default(), followed, opens });
                for pid in known {
                    let _ = following.is_new(pid);
                }
                // Until nobody is left who could create any, or who wants them.
                for (parent, child) in wanted {
                    if following.is_over() {
                        break;
                    }
                    following.follow_aside(parent, child);
                }
            };
            let started = thread::Builder::new().name("leakprobe-follow".to_owned()).spawn(follow);
            started.map_err(|error| Error::internal("start a thread that follows processes", &error))?;
        }
        Ok(Self { created, opened, followed })
    }

    /// For whoever sees processes being created.
    pub(super) fn created(&self) -> mpsc::Sender<(u32, u32)> {
        self.created.clone()
    }

    /// The next process that was attached to; never returns if none are followed.
    pub(super) async fn next(&mut self) -> Session {
        match self.opened.recv().await {
            Some(session) => session,
            None => std::future::pending().await,
        }
    }

    /// The next of those that were attached to, or just are, when nobody is watched any more; `None` if there is none.
    pub(super) async fn last(&mut self) -> Option<Session> {
        self.followed.is_over.store(true, Ordering::SeqCst);
        let began = Instant::now();
        loop {
            let is_opening = self.followed.opening.load(Ordering::SeqCst) > 0 && began.elapsed() < PATIENCE;
            match self.opened.try_recv() {
                Ok(session) => return Some(session),
                Err(_) if is_opening => time::sleep(PAUSE).await,
                Err(_) => return None,
            }
        }
    }

    /// A process that was attached to cannot be watched.
    pub(super) fn misses(&self) {
        self.followed.missed.fetch_add(1, Ordering::Relaxed);
    }

    /// What was not watched.
    pub(super) fn gap(&self) -> Option<Gap> {
        let FollowState { missed, unanswered, too_many, .. } = &*self.followed;
        let [ended, unanswered, too_many] = [missed, unanswered, too_many].map(|count| count.load(Ordering::Relaxed));
        let limit = MAX_PROCESSES as u64;
        (ended > 0 || unanswered > 0 || too_many > 0).then_some(Gap::ChildrenMissed {
            ended,
            unanswered,
            too_many,
            limit,
        })
    }
}

/// The thread's side.
struct Following {
    hub: Hub,
    known: Mutex<Known>,
    followed: Arc<FollowState>,
    opens: UnboundedSender<Session>,
}

impl Following {
    fn is_over(&self) -> bool {
        self.opens.is_closed() || self.followed.is_over.load(Ordering::SeqCst)
    }

    fn is_new(&self, pid: u32) -> bool {
        lock(&self.known).is_new(pid)
    }

    /// Does as [`Self::follow`] on a thread, and waits for that. One that hangs does not keep others waiting.
    fn follow_aside(self: &Arc<Self>, parent: u32, child: u32) {
        let began = Instant::now();
        self.followed.opening.fetch_add(1, Ordering::SeqCst);
        let (done, is_done) = mpsc::channel::<()>();
        let follow = {
            let following = Arc::clone(self);
            move || {
                following.follow(parent, child);
                following.followed.opening.fetch_sub(1, Ordering::SeqCst);
                drop(done);
            }
        };
        if thread::Builder::new().name("leakprobe-open".to_owned()).spawn(follow).is_err() {
            self.followed.opening.fetch_sub(1, Ordering::SeqCst);
            self.followed.missed.fetch_add(1, Ordering::Relaxed);
        }
        if is_done.recv_timeout(OVERDUE) == Err(mpsc::RecvTimeoutError::Disconnected) {
            // Half of a CPU's time is for all else, however fast processes come.
            thread::sleep(began.elapsed());
        }
        while self.followed.opening.load(Ordering::SeqCst) >= MOST_OPENING && !self.is_over() {
            thread::sleep(PAUSE);
        }
    }

    /// Begins to watch `child`, which `parent` has created, and those that it has itself created until its programs were loaded.
    fn follow(&self, parent: u32, child: u32) {
        let mut wanted = vec![(parent, child)];
        while let Some((parent, child)) = wanted.pop() {
            if self.is_over() || !self.is_new(child) {
                continue;
            }
            if self.hub.targets() >= MAX_PROCESSES {
                self.followed.too_many.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            if is_silent(child) {
                self.followed.unanswered.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            match Session::open(&self.hub, child) {
                Ok(mut session) => {
                    session.parent = Some(parent);
                    wanted.extend(children(child).into_iter().map(|grandchild| (child, grandchild)));
                    // Nobody wants it any more once watching ends.
                    let _ = self.opens.send(session);
                }
                Err(error) => {
                    tracing::debug!("process {child}: {error}");
                    let FollowState { missed, unanswered, .. } = &*self.followed;
                    let of = if error.kind() == ErrorKind::Unanswered { unanswered } else { missed };
                    of.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_used_again_is_another_process() {
        let (mut known, own) = (Known::default(), std::process::id());
        assert!(known.is_new(own));
        assert!(!known.is_new(own));
        // Another one had the id before.
        *known.0.get_mut(&own).unwrap() -= 1;
        assert!(known.is_new(own));
        assert!(!known.is_new(own));
        // Reported twice, and ended meanwhile.
        assert!(known.is_new(u32::MAX));
        assert!(!known.is_new(u32::MAX));
    }
}
