//! What the waits of a session's target are waited on, in full: described when they have become parked, and once more at the end.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use super::goroutines::Goroutines;
use crate::{
    analysis::{DescriptorWait, Live},
    model::{Gap, Subject},
    probes::Source,
    snapshot::{Describer, Engine, Machine, Patience, Told},
    target::Budget,
};

/// Of the time between two descriptions, the part that describing may take: 1 in so many.
const SHARE: u32 = 100;

/// CPU time that describing waits may take at one time, and how long it may last on a busy machine.
const MOST_CPU: Duration = Duration::from_secs(1);
const MOST_TIME: Duration = Duration::from_secs(3);

/// Goroutines whose descriptors are described at one time at most: others are described the next time.
const MOST_GOROUTINES: usize = 1 << 16;

/// What a session knows of its target's waits.
pub(super) struct Waits {
    describer: Describer,
    budget: Budget,
    /// Whether there is a single snapshot: then all waits are described at once.
    single: bool,
    /// The waits that were described, by thread and beginning (`CLOCK_MONOTONIC`, ns).
    described: HashMap<u32, u64>,
    /// Not before this moment again.
    next: Option<Instant>,
    /// How many waits there was no time for the last time.
    left_out: u64,
}

impl Waits {
    /// Nothing is known yet of the process `pid`.
    pub(super) fn new(pid: u32, machine: &Machine, budget: &Budget, single: bool) -> Self {
        let describer = Describer::new(pid, machine.clone(), budget.clone());
        Self { describer, budget: budget.clone(), single, described: HashMap::new(), next: None, left_out: 0 }
    }

    /// Describes the waits that have become parked since the last time, unless describing has taken too long lately: at the end
    /// they all are described.
    pub(super) fn describe_new(
        &mut self,
        engine: &mut Engine,
        probes: &Source,
        live: &mut Live,
        goroutines: &Goroutines,
    ) {
        if self.single {
            return self.describe_all(engine, probes, live, goroutines);
        }
        if self.next.is_some_and(|next| Instant::now() < next) {
            return;
        }
        let began = Instant::now();
        // Whoever wants to stop does not wait for it.
        let patience = Patience::new(MOST_CPU, MOST_TIME).within(self.budget.clone());
        let latest = live.now_ns().saturating_sub(live.min_block_ns());
        let is_new = |tid: u32, since_ns| since_ns <= latest && self.described.get(&tid) != Some(&since_ns);
        let threads = live
            .waits_mut()
            .filter(|(tid, wait)| wait.subject != Subject::None && is_new(*tid, wait.since_ns))
            .map(|(tid, wait)| (tid, wait.subject.clone()))
            .collect();
        let slots = descriptors(live, |wait| wait.since_ns <= latest && !wait.is_described());
        self.describe(&Wanted { threads, slots }, &patience, engine, probes, live, goroutines);
        // A million goroutines take some time to look through, too.
        let took = began.elapsed();
        self.next = Instant::now().checked_add(took.checked_mul(SHARE).unwrap_or(Duration::MAX));
    }

    /// Describes all waits of threads as they are now, and those of goroutines that are or may be parked.
    pub(super) fn describe_all(
        &mut self,
        engine: &mut Engine,
        probes: &Source,
        live: &mut Live,
        goroutines: &Goroutines,
    ) {
        let patience = Patience::new(MOST_CPU, MOST_TIME);
        let latest = live.now_ns().saturating_sub(live.min_block_ns());
        let waits = live.waits_mut().filter(|(_, wait)| wait.subject != Subject::None);
        // What is not known yet comes first: there may not be time for all.
        let (known, mut threads): (Vec<_>, Vec<_>) = waits
            .map(|(tid, wait)| (self.described.get(&tid) == Some(&wait.since_ns), (tid, wait.subject.clone())))
            .partition(|(is_known, _)| *is_known);
        threads.extend(known);
        let threads = threads.into_iter().map(|(_, wait)| wait).collect();
        let slots = descriptors(live, |wait| wait.not_before_ns.is_none_or(|at| at <= latest));
        self.describe(&Wanted { threads, slots }, &patience, engine, probes, live, goroutines);
    }

    /// Waits that are shown by what a snapshot says of them: there was no time to describe them.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// What could not be found out, and why.
    pub(super) fn gaps(&self) -> impl Iterator<Item = Gap> {
        self.describer.gaps().iter().cloned()
    }

    /// The process has begun another program.
    pub(super) fn forget(&mut self) {
        self.described.clear();
    }

    fn describe(
        &mut self,
        wanted: &Wanted,
        patience: &Patience,
        engine: &mut Engine,
        probes: &Source,
        live: &mut Live,
        goroutines: &Goroutines,
    ) {
        self.left_out = 0;
        if wanted.threads.is_empty() && wanted.slots.is_empty() {
            return;
        }
        let began = Instant::now();
        let Some(task) = engine.modules().find_reader() else { return };
        // Goroutines wait for the descriptors of the process; many may wait for one.
        let subjects: HashSet<&Subject> = wanted.slots.values().collect();
        let subjects: Vec<&Subject> = subjects.into_iter().collect();
        let of_threads = wanted.threads.iter().map(|(tid, subject)| (*tid, subject));
        let waits: Vec<(u32, &Subject)> = of_threads.chain(subjects.iter().map(|subject| (task, *subject))).collect();
        let mut told = self.describer.describe(task, &waits, patience);
        let of_subjects = told.split_off(wanted.threads.len());
        let of_subject: HashMap<&Subject, Told> =
            subjects.into_iter().zip(of_subjects).filter_map(|(subject, told)| Some((subject, told?))).collect();
        let tids: Vec<u32> = wanted.threads.iter().map(|(tid, _)| *tid).collect();
        // What was described is what a thread waits on only if it still is in that wait.
        let still: HashSet<u32> = engine.still_waiting(probes, &tids).unwrap_or_default();
        let mut told: HashMap<u32, Option<Told>> =
            tids.into_iter().zip(told).filter(|(tid, _)| still.contains(tid)).collect();
        self.described.retain(|tid, _| live.threads().contains_key(tid));
        for (tid, wait) in live.waits_mut() {
            let Some(told) = told.remove(&tid) else { continue };
            let Some(told) = told else {
                self.left_out += u64::from(self.described.get(&tid) != Some(&wait.since_ns));
                continue;
            };
            self.described.insert(tid, wait.since_ns);
            wait.object = told.object.unwrap_or_else(|| std::mem::take(&mut wait.object));
            wait.timer = told.timer;
            wait.other_ends = told.other_ends;
        }
        if !wanted.slots.is_empty() {
            let slots: Vec<u32> = wanted.slots.keys().copied().collect();
            let still = goroutines.still_waiting(engine.modules(), &slots);
            for mut wait in live.goroutines_mut().descriptor_waits().filter(|wait| still.contains(&wait.slot)) {
                let Some(told) = of_subject.get(&wait.subject()) else {
                    self.left_out += u64::from(!wait.is_described());
                    continue;
                };
                wait.set(told.object.clone(), told.other_ends.clone());
            }
        }
        tracing::debug!("described {} waits in {:?}", waits.len(), began.elapsed());
    }
}

/// Waits that are to be described.
struct Wanted {
    /// Of threads, by their ids.
    threads: Vec<(u32, Subject)>,
    /// Of goroutines, by their slots.
    slots: HashMap<u32, Subject>,
}

/// The waits of goroutines for descriptors that are to be described.
fn descriptors(live: &mut Live, is_wanted: impl Fn(&DescriptorWait<'_>) -> bool) -> HashMap<u32, Subject> {
    if live.goroutines().is_none() {
        return HashMap::new();
    }
    let waits = live.goroutines_mut().descriptor_waits().filter(is_wanted);
    waits.take(MOST_GOROUTINES).map(|wait| (wait.slot, wait.subject())).collect()
}
