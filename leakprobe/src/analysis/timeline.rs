//! Single waits that ended while we watched: as many as a recording can hold, the longest ones.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use crate::model::TimedWait;

/// Most that are kept. What ends is longer than the threshold, so that only many threads, or many hours, make so many.
const MAX_WAITS: usize = 20_000;

/// One wait. They are compared by their length first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Single {
    pub(super) lasted_ns: u64,
    /// `CLOCK_MONOTONIC`.
    pub(super) began_ns: u64,
    pub(super) tid: u32,
    /// By what its place is known.
    pub(super) place: usize,
    pub(super) exact: bool,
    pub(super) name: Arc<str>,
}

/// The longest waits.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    waits: BinaryHeap<Reverse<Single>>,
    /// How many were too many.
    pub(super) not_listed: u64,
}

impl Timeline {
    /// Adds one; if there are too many then, the shortest goes.
    pub(super) fn add(&mut self, wait: Single) {
        self.waits.push(Reverse(wait));
        if self.waits.len() > MAX_WAITS {
            self.waits.pop();
            self.not_listed += 1;
        }
    }

    /// All of them by begin, which is told from `origin_ns` on (`CLOCK_MONOTONIC`). `index` turns their places into those of the
    /// recording.
    pub(super) fn list(&self, origin_ns: u64, index: impl Fn(usize) -> Option<u32>) -> Vec<TimedWait> {
        let mut waits: Vec<&Single> = self.waits.iter().map(|Reverse(wait)| wait).collect();
        waits.sort_by_key(|wait| (wait.began_ns, *wait));
        let signed = |ns: u64| i64::try_from(ns / 1_000).unwrap_or(i64::MAX);
        let timed = |wait: &Single| {
            Some(TimedWait {
                place: index(wait.place)?,
                task: u64::from(wait.tid),
                name: wait.name.clone(),
                began_us: match wait.began_ns.checked_sub(origin_ns) {
                    Some(after) => signed(after),
                    None => -signed(origin_ns - wait.began_ns),
                },
                lasted_us: wait.lasted_ns / 1_000,
                exact: wait.exact,
            })
        };
        waits.into_iter().filter_map(timed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(lasted_ns: u64, began_ns: u64) -> Single {
        Single { lasted_ns, began_ns, tid: 7, place: 1, exact: true, name: "worker".into() }
    }

    #[test]
    fn the_longest_stay_and_the_others_are_counted() {
        let mut timeline = Timeline::default();
        let most = MAX_WAITS as u64;
        for n in (1..=most + 3).rev() {
            timeline.add(single(n * 1_000, n));
        }
        timeline.add(single(5_000_000_000, 9));
        assert_eq!(timeline.not_listed, 4);
        let list = timeline.list(0, |place| u32::try_from(place).ok());
        assert_eq!(list.len(), MAX_WAITS);
        assert_eq!(list.iter().map(|wait| wait.lasted_us).min(), Some(5));
        assert_eq!(list[0].lasted_us, 5, "the first to begin comes first");
        assert!(list.iter().any(|wait| wait.lasted_us == 5_000_000));
    }

    #[test]
    fn moments_are_told_from_the_beginning_on() {
        let mut timeline = Timeline::default();
        timeline.add(single(3_000_000, 5_000_000));
        timeline.add(single(2_000_000, 12_000_000));
        let list = timeline.list(10_000_000, |_| Some(4));
        let told: Vec<(i64, u64, u32)> = list.iter().map(|wait| (wait.began_us, wait.lasted_us, wait.place)).collect();
        assert_eq!(told, [(-5_000, 3_000, 4), (2_000, 2_000, 4)]);
        assert!(timeline.list(0, |_| None).is_empty());
    }
}
