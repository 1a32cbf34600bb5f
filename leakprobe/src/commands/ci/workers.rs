//! The other processes of a check: those of `-p A,B`, and with `--follow-forks` those that are created. Each is looked at when the first
//! one is, and judged by itself over the rounds that it lived through.

use std::collections::{BTreeMap, HashSet};

use super::phases::Seen;
use crate::{
    analysis::Moment,
    model::{Recording, Round},
    shared::lock,
    watch::{Observer, Observers},
};

/// Most that are judged; what others did counts as not judged.
const MOST_JUDGED: usize = 256;

/// All of them.
#[derive(Default)]
pub(super) struct Workers {
    observers: Observers,
    /// By their places.
    seen: BTreeMap<usize, Seen>,
}

impl Workers {
    /// Nothing is known yet of these: all but the first.
    pub(super) fn new(observers: Observers) -> Self {
        Self { observers, seen: BTreeMap::new() }
    }

    /// The targets that are watched now, without the first: the place and process id of each, and what it is observed by.
    fn others(&self) -> Vec<(usize, u32, Observer)> {
        let observers = lock(&self.observers);
        observers.watched.range(1..).map(|(&place, (pid, observer))| (place, *pid, observer.clone())).collect()
    }

    /// The ids of those that have not ended.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.others().into_iter().map(|(_, pid, _)| pid).collect()
    }

    /// Threads and goroutines of all of them at their last snapshots. One that has ended has none.
    pub(super) fn tasks(&self) -> u64 {
        let counts = self.others().into_iter().map(|(.., observer)| observer.counts.borrow().tasks());
        counts.fold(0, u64::saturating_add)
    }

    /// Looks at each, at the end of `round` of the first process.
    pub(super) async fn look(&mut self, round: &Round) {
        let others = self.others();
        let alive: HashSet<usize> = others.iter().map(|(place, ..)| *place).collect();
        self.seen.retain(|place, seen| seen.last.is_some() || alive.contains(place));
        for (place, _, observer) in others {
            let Some(recording) = observer.recording().await else {
                // It has ended. If it did not live through a round, there is nothing to judge.
                if self.seen.get(&place).is_some_and(|seen| seen.last.is_none()) {
                    self.seen.remove(&place);
                }
                continue;
            };
            if self.seen.len() >= MOST_JUDGED && !self.seen.contains_key(&place) {
                continue;
            }
            let seen = self.seen.entry(place).or_default();
            seen.moments.push(Moment::of(&recording));
            seen.rounds.push(Round {
                at_ms: recording.growth.last().map_or(recording.duration_ms, |sample| sample.at_ms),
                // What it lived through is no round of its own before it was first seen.
                load_ms: round.load_ms.filter(|_| !seen.rounds.is_empty()),
                requests: round.requests.filter(|_| !seen.rounds.is_empty()),
                threads: recording.coverage.threads,
                goroutines: recording.coverage.go.as_ref().map_or(0, |go| go.goroutines),
                waiting: recording.sites.iter().filter(|site| site.role.is_own()).map(|site| site.count).sum(),
                ..round.clone()
            });
            if seen.baseline.is_none() {
                seen.baseline = Some(recording);
            } else {
                seen.last = Some(recording);
            }
        }
    }

    /// What was seen of each so far.
    pub(super) fn seen(&self) -> impl Iterator<Item = &Seen> {
        self.seen.values()
    }

    /// The ids of those that did not live through a round, but have never had more than one thread: nothing of theirs can be left.
    pub(super) fn single(&self) -> Vec<u32> {
        let is_judged = |place| self.seen.get(&place).is_some_and(|seen| seen.last.is_some());
        let alive = self.others().into_iter().filter(|(.., observer)| observer.counts.borrow().is_single);
        let alive: Vec<(usize, u32)> = alive.map(|(place, pid, _)| (place, pid)).collect();
        let observers = lock(&self.observers);
        let single = observers.single.iter().map(|(&place, &pid)| (place, pid)).chain(alive);
        single.filter(|(place, _)| !is_judged(*place)).map(|(_, pid)| pid).collect()
    }

    /// What was seen of those that lived through a round at least, with their recordings of the end.
    pub(super) fn judged(self, mut ends: BTreeMap<usize, Recording>) -> Vec<(Seen, Recording)> {
        let lived = self.seen.into_iter().filter(|(_, seen)| seen.last.is_some());
        // Of one that has ended since, it is the last look that there is.
        lived
            .filter_map(|(place, seen)| ends.remove(&place).or_else(|| seen.last.clone()).map(|end| (seen, end)))
            .collect()
    }
}
