//! What the waits of a session's target are waited on, in full: described when they have become parked, and once more at the end.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use crate::{
    analysis::Live,
    model::Subject,
    probes::Source,
    snapshot::{Describer, Engine, Told},
};

/// Of the time between two descriptions, the part that describing may take: 1 in so many.
const SHARE: u32 = 100;

/// What a session knows of its target's waits.
pub(super) struct Waits {
    describer: Describer,
    /// Whether there is a single snapshot: then all waits are described at once.
    single: bool,
    /// The waits that were described, by thread and beginning (`CLOCK_MONOTONIC`, ns).
    described: HashMap<u32, u64>,
    /// Not before this moment again.
    next: Option<Instant>,
}

impl Waits {
    /// Nothing is known yet of the process `pid`.
    pub(super) fn new(pid: u32, single: bool) -> Self {
        Self { describer: Describer::new(pid), single, described: HashMap::new(), next: None }
    }

    /// Describes the waits that have become parked since the last time, unless describing has taken too long lately: at the end
    /// they all are described.
    pub(super) fn describe_new(&mut self, engine: &mut Engine, probes: &Source, live: &mut Live) {
        if self.single {
            return self.describe_all(engine, probes, live);
        }
        if self.next.is_some_and(|next| Instant::now() < next) {
            return;
        }
        let latest = live.now_ns().saturating_sub(live.min_block_ns());
        let new: Vec<(u32, Subject)> = live
            .waits_mut()
            .filter(|(tid, wait)| {
                wait.since_ns <= latest
                    && wait.subject != Subject::None
                    && self.described.get(tid) != Some(&wait.since_ns)
            })
            .map(|(tid, wait)| (tid, wait.subject.clone()))
            .collect();
        self.describe(&new, engine, probes, live);
    }

    /// Describes all waits as they are now.
    pub(super) fn describe_all(&mut self, engine: &mut Engine, probes: &Source, live: &mut Live) {
        let all: Vec<(u32, Subject)> = live
            .waits_mut()
            .filter(|(_, wait)| wait.subject != Subject::None)
            .map(|(tid, wait)| (tid, wait.subject.clone()))
            .collect();
        self.describe(&all, engine, probes, live);
    }

    /// What could not be found out, and why; one sentence each.
    pub(super) fn gaps(&self) -> impl Iterator<Item = String> {
        self.describer.gaps().iter().cloned()
    }

    /// The process has begun another program.
    pub(super) fn forget(&mut self) {
        self.described.clear();
    }

    fn describe(&mut self, waits: &[(u32, Subject)], engine: &mut Engine, probes: &Source, live: &mut Live) {
        if waits.is_empty() {
            return;
        }
        let began = Instant::now();
        let Some(task) = engine.modules().find_reader() else { return };
        let borrowed: Vec<(u32, &Subject)> = waits.iter().map(|(tid, subject)| (*tid, subject)).collect();
        let told = self.describer.describe(task, &borrowed);
        let tids: Vec<u32> = waits.iter().map(|(tid, _)| *tid).collect();
        // What was described is what a thread waits on only if it still is in that wait.
        let still: HashSet<u32> = engine.still_waiting(probes, &tids).unwrap_or_default();
        let mut told: HashMap<u32, Told> = tids.into_iter().zip(told).filter(|(tid, _)| still.contains(tid)).collect();
        self.described.retain(|tid, _| live.threads().contains_key(tid));
        for (tid, wait) in live.waits_mut() {
            let Some(told) = told.remove(&tid) else { continue };
            self.described.insert(tid, wait.since_ns);
            wait.object = told.object.unwrap_or_else(|| std::mem::take(&mut wait.object));
            wait.other_ends = told.other_ends;
        }
        let took = began.elapsed();
        tracing::debug!("described {} waits in {took:?}", waits.len());
        self.next = Instant::now().checked_add(took.checked_mul(SHARE).unwrap_or(Duration::MAX));
    }
}
