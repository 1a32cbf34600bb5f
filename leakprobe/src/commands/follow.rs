//! `--follow-forks`: processes that a target creates are watched as well, from as early as they can be.

use std::collections::HashMap;

use super::{hub::Hub, session::Session};
use crate::{
    cli::Watch,
    model::Gap,
    probes::Programs,
    target::{Stat, children},
};

/// Most processes that are watched at once.
pub(super) const MOST_PROCESSES: usize = Programs::MOST_TARGETS as usize;
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

/// Takes hold of new processes.
pub(super) struct Follower<'a> {
    hub: Hub,
    options: &'a Watch,
    watched: usize,
    known: Known,
    /// Processes that ended before they could be watched, or could not be.
    missed: u64,
    /// Processes that were too many.
    too_many: u64,
}

impl<'a> Follower<'a> {
    /// Beside `watched` processes that are watched already.
    pub(super) fn new(hub: Hub, options: &'a Watch, watched: usize) -> Self {
        Self { hub, options, watched, known: Known::default(), missed: 0, too_many: 0 }
    }

    /// A process that is watched already, whose creation may be reported all the same.
    pub(super) fn know(&mut self, pid: u32) {
        let _ = self.known.is_new(pid);
    }

    /// A process that was watched has ended.
    pub(super) fn has_room(&mut self) {
        self.watched = self.watched.saturating_sub(1);
    }

    /// Begins to watch `child`, which `parent` has created, and those that it has itself created until its programs were loaded.
    pub(super) fn follow(&mut self, parent: u32, child: u32) -> Vec<Session> {
        let mut sessions = Vec::new();
        let mut wanted = vec![(parent, child)];
        while let Some((parent, child)) = wanted.pop() {
            if !self.known.is_new(child) {
                continue;
            }
            if self.watched >= MOST_PROCESSES {
                self.too_many += 1;
                continue;
            }
            let options = self.options.of_one(child);
            match Session::open(&self.hub, &options) {
                Ok(mut session) => {
                    session.parent = Some(parent);
                    self.watched += 1;
                    wanted.extend(children(child).into_iter().map(|grandchild| (child, grandchild)));
                    sessions.push(session);
                }
                Err(error) => {
                    tracing::debug!("process {child}: {error}");
                    self.missed += 1;
                }
            }
        }
        sessions
    }

    /// What was not watched.
    pub(super) fn gap(&self) -> Option<Gap> {
        let Self { missed: ended, too_many, .. } = *self;
        (ended > 0 || too_many > 0).then_some(Gap::ChildrenMissed { ended, too_many, limit: MOST_PROCESSES as u64 })
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
