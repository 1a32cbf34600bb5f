//! The live table: every thread of the target, kept true by events and set right by each snapshot.
//!
//! Events say at once that a thread came or went, and who created it; they can be lost. Snapshots say what is there, and
//! cannot. So after each snapshot the table holds exactly the threads that the snapshot lists, less those whose exit was told:
//! the kernel tells of an exit before the thread is gone, and lists it for a while after.
//!
//! Both name a thread by its id and its start, so that it is known of each whether they speak of the same one, in whatever order they are
//! read. How many threads came and went is counted in the kernel, and here where that count is older, or is not to be had.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use super::{
    Frames, Goroutines, Turnover,
    ended::EndedWaits,
    former::Followed,
    history::{History, Key},
    holders::{self, Confirmed, Doubts},
    slices::Slices,
};
use crate::{
    model::{
        Activity, Blocking, Change, ChangeKind, EndedWait, Frame, FutexMemory, GrowthSample, OwnerClaim, OwnerFacts,
        Snapshot, StackId, StackTable, TaskKind, TimedWait,
    },
    pool::Pool,
};

/// Who created a thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Creation {
    /// The creator's thread id.
    pub creator: u32,
    /// Its name at that time.
    pub creator_name: String,
    /// Its stack, or why that is missing.
    pub stack: Result<StackId, String>,
}

/// A thread of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveThread {
    /// Its name.
    pub name: String,
    /// When it started, `CLOCK_BOOTTIME`, ns.
    pub start_boottime: u64,
    /// How long it had existed when it was last sampled, ns, and when that was (`CLOCK_MONOTONIC`, ns).
    pub lifetime: Option<(u64, u64)>,
    /// What it does.
    pub activity: Activity,
    /// Where it is; `None` until a snapshot has looked.
    pub stack: Option<StackId>,
    /// Where it is in the kernel, if a snapshot has looked.
    pub kernel_stack: Option<StackId>,
    /// When the wait before began that a snapshot saw, and with which stack: its end may be told after the next snapshot.
    last_wait: Option<(u64, StackId)>,
    /// Its waits that timers ended, one after the other.
    slices: Slices,
    /// Who created it, if that was seen.
    pub creation: Option<Creation>,
    /// Whether it was there when we came.
    pub before_us: bool,
    /// When it started, `CLOCK_MONOTONIC`, ns.
    started_ns: u64,
}

/// A thread, for good: its id, and when it started, `CLOCK_BOOTTIME`, ns.
type Identity = (u32, u64);

/// The beginning of a wait as a probe tells it and as a snapshot computes it may differ by so much, ns.
const SAME_WAIT_NS: u64 = 5_000_000;

impl LiveThread {
    /// When it started, `CLOCK_MONOTONIC`, ns.
    pub(super) fn started_ns(&self) -> u64 {
        self.started_ns
    }

    /// The stack that a snapshot saw in the wait that began at `since_ns`.
    fn stack_in(&self, since_ns: u64) -> Option<StackId> {
        let is_that = |&(began_ns, _): &(u64, StackId)| began_ns.abs_diff(since_ns) <= SAME_WAIT_NS;
        self.wait_seen().filter(is_that).or(self.last_wait.filter(is_that)).map(|(_, stack)| stack)
    }

    /// When the last wait that a snapshot saw began, and with which stack.
    fn wait_seen(&self) -> Option<(u64, StackId)> {
        match &self.activity {
            Activity::Blocked(blocking) => self.stack.map(|stack| (blocking.since_ns, stack)),
            _ => self.last_wait,
        }
    }

    /// If its present wait is one of several that followed each other, each ended by its own timer: when the first began
    /// (`CLOCK_MONOTONIC`, ns), and how long each lasts at most, ms.
    pub(super) fn slices(&self) -> Option<(u64, u64)> {
        match &self.activity {
            Activity::Blocked(blocking) => self.slices.of_wait(blocking.since_ns),
            _ => None,
        }
    }

    /// What it waits for, if it has waited for at least `min_block_ns` at the moment `now_ns`, be it in slices.
    #[must_use]
    pub fn parked(&self, now_ns: u64, min_block_ns: u64) -> Option<&Blocking> {
        match &self.activity {
            Activity::Blocked(blocking) => {
                let since_ns = self.slices().map_or(blocking.since_ns, |(first_ns, _)| first_ns);
                (now_ns.saturating_sub(since_ns) >= min_block_ns).then_some(blocking)
            }
            _ => None,
        }
    }
}

/// Threads that have exited whose names are remembered.
const MOST_EXITED: usize = 1 << 14;

/// Twice what numbers over time take at most, bytes.
const MOST_OF_HISTORY: u64 = 32 << 20;

/// Most events that are still expected, and most names and exits that are kept for the next snapshot.
const MOST_LATE: usize = 1 << 16;

/// The live table and what was counted on the way.
#[derive(Debug)]
pub struct Live {
    threads: BTreeMap<u32, LiveThread>,
    goroutines: Option<Goroutines>,
    history: History,
    ended: EndedWaits,
    min_block_ns: u64,
    began_ns: u64,
    now_ns: u64,
    snapshots: u64,
    /// The moment of the second snapshot, `CLOCK_MONOTONIC`, ns: by then each thread that is older than us was looked at twice.
    second_ns: Option<u64>,
    /// Threads that came, and went, by the kernel's own count, if there is one.
    counted_by_kernel: Option<Turnover>,
    /// Threads that came, and went, as far as records and snapshots show.
    seen: Turnover,
    /// Waits that ended and of which nobody saw the stack.
    pub unseen_stacks: u64,
    /// How often the process began another program.
    pub execs: u64,
    /// Threads that only a snapshot told to have come: their events may still come.
    late_creations: HashSet<Identity>,
    /// Threads that only a snapshot told to be gone, likewise.
    late_exits: HashSet<Identity>,
    /// How many of both are expected no more.
    lost_events: u64,
    /// The starts of threads whose exit was told, by id, as long as a snapshot may still list them: for most of what a thread does on its
    /// way out it is still there, and where it has to wait that lasts.
    told_exits: HashMap<u32, u64>,
    /// Names that were told since the last snapshot. The kernel tells of a name before the thread has it: the next snapshot may still see
    /// the old one.
    told_names: HashMap<Identity, String>,
    /// The names of threads that have exited, by id: one may still hold a lock.
    exited_names: HashMap<u32, String>,
    /// Thread ids in the target's own pid namespace, and here; `None` if they are the same.
    outer_ids: Option<HashMap<u32, u32>>,
    confirmed: Confirmed,
    /// How many threads were blocked and parked at the last snapshot, and with which stacks.
    counted: Counted,
}

/// Numbers of threads at one moment.
#[derive(Debug, Default)]
struct Counted {
    blocked: u64,
    parked: u64,
    sites: HashMap<Key, u64>,
}

impl Live {
    /// An empty table. Threads whose wait is older than `min_block_ns` count as parked; watching began at `began_ns`
    /// (`CLOCK_MONOTONIC`).
    #[must_use]
    pub fn new(min_block_ns: u64, began_ns: u64) -> Self {
        Self {
            threads: BTreeMap::new(),
            goroutines: None,
            history: History::within(&Pool::new(MOST_OF_HISTORY)),
            ended: EndedWaits::default(),
            min_block_ns,
            began_ns,
            now_ns: began_ns,
            snapshots: 0,
            second_ns: None,
            counted_by_kernel: None,
            seen: Turnover::default(),
            unseen_stacks: 0,
            execs: 0,
            late_creations: HashSet::new(),
            late_exits: HashSet::new(),
            lost_events: 0,
            told_exits: HashMap::new(),
            told_names: HashMap::new(),
            exited_names: HashMap::new(),
            outer_ids: None,
            confirmed: Confirmed::default(),
            counted: Counted::default(),
        }
    }

    /// Lets the numbers over time take a share of the memory `kept`. To be called before anything is put in.
    #[must_use]
    pub fn within(self, kept: &Pool) -> Self {
        Self { history: History::within(kept), ..self }
    }

    /// The threads, by id.
    #[must_use]
    pub fn threads(&self) -> &BTreeMap<u32, LiveThread> {
        &self.threads
    }

    /// The goroutines, if the target has any.
    #[must_use]
    pub fn goroutines(&self) -> Option<&Goroutines> {
        self.goroutines.as_ref()
    }

    /// Whether it is new: created while we watched. `Some(true)` if it has lived for at least the threshold since.
    pub(super) fn is_new(&self, thread: &LiveThread) -> Option<bool> {
        let lived_ns = self.now_ns.saturating_sub(thread.started_ns);
        (!thread.before_us).then_some(lived_ns >= self.min_block_ns)
    }

    /// Whether it is older than us and has waited in slices for as long as we have watched.
    pub(super) fn is_in_slices_from_start(&self, thread: &LiveThread) -> bool {
        let begin = thread.slices().filter(|_| thread.before_us).map(|(first_ns, _)| first_ns);
        begin.zip(self.second_ns).is_some_and(|(first_ns, second_ns)| first_ns <= second_ns)
    }

    /// Where goroutines are put: before [`Self::apply_snapshot`] of the same moment, which takes their numbers into the history.
    pub fn goroutines_mut(&mut self) -> &mut Goroutines {
        let min_block_ns = self.min_block_ns;
        // What a program has when we first look at its runtime it has created while we watched, if we saw it begin.
        let from_start = self.execs > 0;
        self.goroutines.get_or_insert_with(|| Goroutines::new(min_block_ns, from_start))
    }

    /// The moment of the last snapshot, `CLOCK_MONOTONIC`, ns.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// The parked threshold, ns.
    #[must_use]
    pub fn min_block_ns(&self) -> u64 {
        self.min_block_ns
    }

    /// How many threads were parked at the last snapshot.
    #[must_use]
    pub fn parked(&self) -> u64 {
        self.history.last().map_or(0, |sample| sample.parked)
    }

    /// Numbers of threads over time.
    #[must_use]
    pub fn growth(&self) -> Vec<GrowthSample> {
        self.history.samples()
    }

    /// All that has a [`Self::trend`].
    pub(super) fn followed(&self, symbols: &dyn Frames) -> Vec<Followed> {
        let frames = |stack: Option<StackId>| stack.map_or_else(Vec::new, |stack| symbols.of(stack).to_vec());
        let followed = |key: Key| Followed { key, creation: frames(key.1), stack: frames(key.2) };
        self.history.followed().map(followed).collect()
    }

    /// The numbers of tasks blocked with these stacks, at the moments of [`Self::growth`].
    #[must_use]
    pub(super) fn trend(&self, key: Key) -> Vec<u64> {
        self.history.trend(key)
    }

    /// Waits that ended, longest total first; and single ones of them, by begin.
    #[must_use]
    pub fn ended_waits(
        &self,
        symbols: &dyn Frames,
        frames: &[Frame],
        stacks: &StackTable,
    ) -> (Vec<EndedWait>, Vec<TimedWait>) {
        self.ended.list(self.began_ns, symbols, frames, stacks)
    }

    /// How many waits that ended are not among the single ones.
    #[must_use]
    pub fn ended_waits_not_listed(&self) -> u64 {
        self.ended.not_listed()
    }

    /// Says what the threads that wait on futexes wait for. To be called when the stacks of the last snapshot have names.
    pub fn name_futexes(&mut self, symbols: &dyn Frames, frames: &[Frame]) {
        self.threads.values_mut().for_each(|thread| holders::name(thread, symbols, frames));
    }

    /// What only a second look at the locks can confirm. To be called when the waits have names.
    #[must_use]
    pub fn doubts(&self) -> Doubts {
        holders::doubts(self)
    }

    /// Takes in that second look: what the threads which slept all the time wait on, read twice; and what was found of the owners
    /// between the two.
    pub fn confirm(&mut self, twice: &HashMap<u32, [Arc<FutexMemory>; 2]>, owners: HashMap<OwnerClaim, OwnerFacts>) {
        self.confirmed = holders::confirm(self, twice, owners);
    }

    /// From now on the thread ids in the target's memory are of its own pid namespace: the keys of `ids`.
    pub fn set_outer_ids(&mut self, ids: HashMap<u32, u32>) {
        self.outer_ids = Some(ids);
    }

    /// The id that we know a thread by, from the one that it knows itself by.
    pub(super) fn outer_id(&self, own: u32) -> Option<u32> {
        self.outer_ids.as_ref().map_or(Some(own), |ids| ids.get(&own).copied())
    }

    pub(super) fn confirmed(&self) -> &Confirmed {
        &self.confirmed
    }

    /// The name of a thread that has exited, if that was seen. Ids of another pid namespace are not known.
    pub(super) fn name_of_exited(&self, tid: u32) -> Option<&str> {
        self.exited_names.get(&tid).filter(|_| self.outer_ids.is_none()).map(String::as_str)
    }

    /// Whether a thread with this id in the target's pid namespace was seen to exit.
    pub(super) fn has_seen_exit(&self, own_id: u32) -> bool {
        self.name_of_exited(own_id).is_some()
    }

    fn bury(&mut self, tid: u32, name: String) {
        if self.exited_names.len() >= MOST_EXITED {
            self.exited_names.clear();
        }
        self.exited_names.insert(tid, name);
    }

    /// The waits that threads are in, by thread id.
    pub fn waits_mut(&mut self) -> impl Iterator<Item = (u32, &mut Blocking)> {
        self.threads.iter_mut().filter_map(|(tid, thread)| match &mut thread.activity {
            Activity::Blocked(blocking) => Some((*tid, blocking)),
            _ => None,
        })
    }

    /// How many threads have come and gone while we watched: the kernel's own count, or what was seen where that is more.
    #[must_use]
    pub fn turnover(&self) -> Turnover {
        let Turnover { created, gone } = self.counted_by_kernel.unwrap_or_default();
        Turnover { created: created.max(self.seen.created), gone: gone.max(self.seen.gone) }
    }

    /// Takes in how many threads have come and gone by the kernel's own count, which holds whatever becomes of its records.
    pub fn set_turnover(&mut self, counted: Turnover) {
        self.counted_by_kernel = Some(counted);
    }

    /// Creations and exits that only a snapshot told: their events were lost, or are yet to come.
    #[must_use]
    pub fn made_good(&self) -> u64 {
        self.lost_events + (self.late_creations.len() + self.late_exits.len()) as u64
    }

    /// How many of the `lost` records of creations and exits no snapshot has made good.
    #[must_use]
    pub fn not_told(&self, lost: u64) -> u64 {
        lost.saturating_sub(self.made_good())
    }

    /// Takes in what was learned between snapshots.
    pub fn apply_change(&mut self, change: Change) {
        let Change { tid, start_boottime, time_ns, what } = change;
        let identity = (tid, start_boottime);
        match what {
            ChangeKind::Created { creator, creator_name, stack } => {
                self.create(identity, time_ns, Creation { creator, creator_name, stack });
            }
            // What its threads did when the process ended is the last that can be said of them; so they stay in the table.
            ChangeKind::Exited { with_process: true } => {}
            ChangeKind::Exited { with_process: false } => self.exit(identity),
            ChangeKind::Exec { old_tid } => self.exec(identity, old_tid),
            ChangeKind::Renamed(name) => {
                if let Some(thread) = self.thread_mut(identity) {
                    thread.name.clone_from(&name);
                }
                if self.told_names.len() >= MOST_LATE {
                    self.told_names.clear();
                }
                self.told_names.insert(identity, name);
            }
            ChangeKind::WaitEnded { wait, stack } => {
                let mut thread = self.thread_mut(identity);
                if let Some(thread) = &mut thread {
                    thread.slices.ended(wait.since_ns, time_ns);
                }
                let thread = thread.as_deref();
                let stack = stack.or_else(|| thread.and_then(|thread| thread.stack_in(wait.since_ns)));
                let name = thread.map_or_else(String::new, |thread| thread.name.clone());
                self.unseen_stacks += u64::from(stack.is_none());
                self.ended.add(tid, &name, time_ns, wait, stack);
            }
        }
    }

    /// The thread of the table, if it is that one.
    fn thread_mut(&mut self, (tid, start_boottime): Identity) -> Option<&mut LiveThread> {
        self.threads.get_mut(&tid).filter(|thread| thread.start_boottime == start_boottime)
    }

    fn create(&mut self, identity: Identity, time_ns: u64, creation: Creation) {
        self.late_creations.remove(&identity);
        if let Some(thread) = self.thread_mut(identity) {
            // It is younger than our probes: the first snapshot, or another one, was quicker than its event.
            thread.before_us = false;
            thread.creation = Some(creation);
            return;
        }
        let (tid, start_boottime) = identity;
        let is_past = |thread: &LiveThread| thread.start_boottime > start_boottime;
        if self.late_exits.contains(&identity) || self.threads.get(&tid).is_some_and(is_past) {
            return; // snapshots have seen it gone already
        }
        let thread = LiveThread {
            name: creation.creator_name.clone(), // a thread inherits its creator's name
            start_boottime,
            lifetime: None,
            activity: Activity::Runnable,
            stack: None,
            kernel_stack: None,
            last_wait: None,
            slices: Slices::default(),
            creation: Some(creation),
            before_us: false,
            started_ns: time_ns,
        };
        self.seen.created += 1;
        if let Some(old) = self.threads.insert(tid, thread) {
            self.vanish(tid, old);
        }
    }

    fn exit(&mut self, identity: Identity) {
        self.late_exits.remove(&identity);
        let (tid, start_boottime) = identity;
        if self.thread_mut(identity).is_some()
            && let Some(thread) = self.threads.remove(&tid)
        {
            self.seen.gone += 1;
            self.bury(tid, thread.name);
        }
        if self.told_exits.len() >= MOST_LATE {
            self.told_exits.clear();
        }
        self.told_exits.insert(tid, start_boottime);
    }

    /// A thread is gone, and nothing has told of its exit.
    fn vanish(&mut self, tid: u32, thread: LiveThread) {
        self.seen.gone += 1;
        self.late_exits.insert((tid, thread.start_boottime));
        self.bury(tid, thread.name);
    }

    /// After exec the calling thread is alone, and has the process's id and start.
    fn exec(&mut self, (tid, start_boottime): Identity, old_tid: u32) {
        self.execs += 1;
        let survivor = self.threads.remove(&old_tid).or_else(|| self.threads.remove(&tid));
        self.seen.gone += self.threads.len() as u64;
        self.threads.clear();
        self.goroutines = None;
        if let Some(mut thread) = survivor {
            thread.start_boottime = start_boottime;
            thread.activity = Activity::Running;
            thread.stack = None;
            // It is the first thread of a program from now on.
            thread.creation = None;
            self.threads.insert(tid, thread);
        }
    }

    /// Takes in a snapshot. Afterwards the table holds exactly the threads that it lists, less those whose exit was told.
    pub fn apply_snapshot(&mut self, snapshot: Snapshot) {
        self.now_ns = snapshot.taken_ns;
        let Some(news) = snapshot.news else {
            return self.note_history(true);
        };
        let first = self.snapshots == 0;
        if !first {
            self.second_ns.get_or_insert(self.now_ns);
        }
        self.snapshots += 1;
        // Events may be several snapshots late, where a program that writes one was interrupted and holds up those behind it.
        if self.late_creations.len().max(self.late_exits.len()) > MOST_LATE {
            self.lost_events = self.made_good();
            self.late_creations.clear();
            self.late_exits.clear();
        }
        let is_gone = |tid: &u32| news.alive.binary_search(tid).is_err();
        let gone: Vec<u32> = self.threads.keys().copied().filter(is_gone).collect();
        for tid in gone {
            if let Some(thread) = self.threads.remove(&tid) {
                self.vanish(tid, thread);
            }
        }
        self.told_exits.retain(|tid, _| !is_gone(tid));
        for sample in news.changed {
            let (tid, identity) = (sample.tid, (sample.tid, sample.start_boottime));
            if self.told_exits.get(&tid) == Some(&sample.start_boottime) {
                continue;
            }
            let old = self.threads.remove(&tid);
            let (old, other) = match old {
                Some(old) if old.start_boottime != sample.start_boottime => (None, Some(old)),
                old => (old, None),
            };
            if old.is_none() && !first {
                self.seen.created += 1;
                self.late_creations.insert(identity);
            }
            if let Some(other) = other {
                self.vanish(tid, other);
            }
            let mut slices = old.as_ref().map(|old| old.slices.clone()).unwrap_or_default();
            slices.see(&sample);
            let thread = LiveThread {
                slices,
                name: self.told_names.remove(&identity).unwrap_or(sample.name),
                start_boottime: sample.start_boottime,
                lifetime: Some((sample.lifetime_ns, snapshot.taken_ns)),
                last_wait: old.as_ref().and_then(LiveThread::wait_seen),
                activity: sample.activity,
                stack: Some(sample.stack),
                kernel_stack: sample.kernel_stack,
                // A thread whose creation was told before the first snapshot is not older than us.
                before_us: old.as_ref().map_or(first, |old| old.before_us),
                creation: old.and_then(|old| old.creation),
                started_ns: snapshot.taken_ns.saturating_sub(sample.lifetime_ns),
            };
            self.threads.insert(tid, thread);
        }
        self.told_names.clear();
        for (tid, memory) in news.futexes {
            if let Some(Activity::Blocked(blocking)) = self.threads.get_mut(&tid).map(|thread| &mut thread.activity)
                && let Some(futex) = &mut blocking.futex
            {
                futex.memory = Some(memory);
            }
        }
        self.confirmed = Confirmed::default();
        self.note_history(false);
    }

    fn note_history(&mut self, nothing_ran: bool) {
        if !nothing_ran || self.counted.parked < self.counted.blocked {
            self.count();
        }
        let go = self.goroutines.as_ref();
        let sample = GrowthSample {
            at_ms: self.now_ns.saturating_sub(self.began_ns) / 1_000_000,
            tasks: self.threads.len() as u64,
            parked: self.counted.parked,
            goroutines: go.map_or(0, Goroutines::alive),
            goroutines_parked: go.map_or(0, Goroutines::parked),
            goroutines_created: go.map_or(0, |go| go.turnover().created),
        };
        let threads = self.counted.sites.iter().map(|(&key, &count)| (key, count));
        let sites = threads.chain(go.into_iter().flat_map(Goroutines::places));
        let count = |key: &Key| match key.0 {
            TaskKind::Thread => self.counted.sites.get(key).copied().unwrap_or(0),
            TaskKind::Goroutine => go.zip(key.2).map_or(0, |(go, stack)| go.count_at(key.1, stack)),
        };
        self.history.add(sample, sites, count);
    }

    fn count(&mut self) {
        let mut counted = Counted::default();
        for thread in self.threads.values() {
            if let (Activity::Blocked(_), Some(_)) = (&thread.activity, thread.stack) {
                counted.blocked += 1;
                counted.parked += u64::from(thread.parked(self.now_ns, self.min_block_ns).is_some());
            }
            // All that are here count: else a site would seem to grow while its threads grow old enough.
            if thread.activity != Activity::Exited {
                *counted.sites.entry(place(thread)).or_default() += 1;
            }
        }
        self.counted = counted;
    }
}

/// By what the number of threads that are where `thread` is are followed over time.
pub(super) fn place(thread: &LiveThread) -> Key {
    let stack = thread.stack.filter(|_| matches!(thread.activity, Activity::Blocked(_)));
    (TaskKind::Thread, creation_stack(thread), stack)
}

/// The stack that created `thread`, if it is known.
pub(super) fn creation_stack(thread: &LiveThread) -> Option<StackId> {
    thread.creation.as_ref().and_then(|creation| creation.stack.as_ref().ok().copied())
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
