//! Numbers over time, in bounded memory: when there are too many, every other one is dropped.

use std::collections::{HashMap, hash_map::Entry};

use crate::{
    model::{GrowthSample, StackId, TaskKind},
    pool::{Pool, Share},
};

/// Most moments that are kept; twice this many are held before they are thinned out.
const MAX_SAMPLES: usize = 240;
/// Most sites whose numbers are followed.
const MAX_SITES: usize = 4096;

/// What the numbers of a site take at most, bytes.
const OF_SITE: u64 = (2 * MAX_SAMPLES * size_of::<u64>()) as u64;
/// So many sites can be followed however little memory is left for it.
const SITES_AT_LEAST: u64 = 64;

/// What is followed: a sort of task, with its creation stack, if known, and its park stack; threads that are not blocked have none.
pub(super) type Key = (TaskKind, Option<StackId>, Option<StackId>);

/// Numbers of tasks, in all and by site.
#[derive(Debug)]
pub(super) struct History {
    samples: Vec<GrowthSample>,
    /// For each site its number at each of the moments; shorter if it was not there from the first on: then it is the end.
    sites: HashMap<Key, Vec<u64>>,
    /// Of how many samples one is kept.
    stride: usize,
    skipped: usize,
    latest: Option<GrowthSample>,
    /// What `sites` take, bytes.
    size: Share,
}

impl History {
    /// Nothing yet; what sites take is a share of this memory.
    pub(super) fn within(kept: &Pool) -> Self {
        Self {
            samples: Vec::new(),
            sites: HashMap::new(),
            stride: 0,
            skipped: 0,
            latest: None,
            size: kept.share(SITES_AT_LEAST * OF_SITE),
        }
    }

    /// Adds the numbers of a moment. `count` gives a site's number, and `sites` are those that there are.
    pub(super) fn add(
        &mut self,
        sample: GrowthSample,
        sites: impl Iterator<Item = (Key, u64)>,
        count: impl Fn(&Key) -> u64,
    ) {
        self.latest = Some(sample);
        self.skipped += 1;
        if self.skipped < self.stride.max(1) {
            return;
        }
        self.skipped = 0;
        self.samples.push(sample);
        for (key, trend) in &mut self.sites {
            trend.push(count(key));
        }
        for (key, count) in sites {
            if self.sites.len() >= MAX_SITES {
                break;
            }
            if count > 0
                && let Entry::Vacant(new) = self.sites.entry(key)
                && self.size.grow(OF_SITE).is_ok()
            {
                new.insert(vec![count]);
            }
        }
        if self.samples.len() >= 2 * MAX_SAMPLES {
            self.thin();
        }
    }

    fn thin(&mut self) {
        self.stride = self.stride.max(1) * 2;
        let total = self.samples.len();
        // What is kept must be the same moments for all: those at odd places, so that the newest stays.
        for trend in self.sites.values_mut() {
            let missing = total - trend.len();
            let mut place = missing;
            trend.retain(|_| {
                place += 1;
                (place - 1) % 2 == 1
            });
        }
        let mut place = 0;
        self.samples.retain(|_| {
            place += 1;
            (place - 1) % 2 == 1
        });
        self.sites.retain(|_, trend| trend.iter().any(|&count| count > 0));
        self.size.set_up_to(self.sites.len() as u64 * OF_SITE);
    }

    /// The newest moment.
    pub(super) fn last(&self) -> Option<GrowthSample> {
        self.latest
    }

    /// All moments that are kept.
    pub(super) fn samples(&self) -> Vec<GrowthSample> {
        self.samples.clone()
    }

    /// What has numbers of its own.
    pub(super) fn followed(&self) -> impl Iterator<Item = Key> {
        self.sites.keys().copied()
    }

    /// A site's numbers at those moments.
    pub(super) fn trend(&self, key: Key) -> Vec<u64> {
        let known = self.sites.get(&key).map_or(&[][..], Vec::as_slice);
        let mut trend = vec![0; self.samples.len() - known.len()];
        trend.extend(known);
        trend
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Stack, StackEnd, StackTable};

    #[test]
    fn memory_is_bounded_and_trends_stay_aligned() {
        let mut table = StackTable::default();
        let mut id = |n| table.intern(Stack::of_thread(vec![n], StackEnd::Complete));
        let (early, late) = ((TaskKind::Thread, None, Some(id(1))), (TaskKind::Goroutine, None, Some(id(2))));
        let mut history = History::within(&Pool::new(1 << 20));
        for n in 0..5000u64 {
            let mut sites = HashMap::from([(early, n)]);
            if n > 2500 {
                sites.insert(late, n * 2);
            }
            let sample = GrowthSample { at_ms: n, tasks: n, parked: n, ..GrowthSample::default() };
            history.add(sample, sites.clone().into_iter(), |key| sites.get(key).copied().unwrap_or(0));
        }
        let samples = history.samples();
        assert!(samples.len() < 2 * MAX_SAMPLES && samples.len() >= MAX_SAMPLES / 2, "{}", samples.len());
        let (early, late) = (history.trend(early), history.trend(late));
        assert_eq!((early.len(), late.len()), (samples.len(), samples.len()));
        for (n, sample) in samples.iter().enumerate() {
            assert_eq!(early[n], sample.at_ms);
            assert_eq!(late[n], if sample.at_ms > 2500 { sample.at_ms * 2 } else { 0 });
        }
        assert_eq!(history.last().map(|sample| sample.at_ms), Some(4999));
    }
}
