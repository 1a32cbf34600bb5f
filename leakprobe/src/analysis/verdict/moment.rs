//! The tasks of a process at one moment, as far as judging needs them: a few numbers a task, so that a million of them over ten
//! rounds fit into memory.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    ops::RangeInclusive,
    time::Duration,
};

use super::{super::call_path::CallPaths, hopeless};
use crate::model::{Link, Loss, Recording, Relation, Site, Task, TaskKind, TaskState, TimerUse, Wait, WaitKind};

/// No site, no creator.
const NONE: u32 = u32::MAX;

/// A timer that fires so late, ms, does not end a wait for any practical purpose.
pub(super) const NEVER_MS: u64 = 365 * 24 * 60 * 60 * 1000;

/// A lock is held for moments, and a line in front of it that somebody lets wait for longer than this, ms, is no matter of patience.
const LONGEST_HOLD_MS: u64 = 5 * 60 * 1000;

/// How far the clocks of two moments, and that of a wait, may be apart, ms.
const SLACK_MS: u64 = 100;

/// By what a task is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Who {
    kind: TaskKind,
    runtime: u32,
    id: u64,
}

impl Who {
    fn of(task: &Task) -> Self {
        let runtime = task.goroutine.as_ref().map_or(0, |goroutine| goroutine.runtime);
        Self { kind: task.kind, runtime, id: task.id }
    }
}

/// By what the creator of a task is known again: the functions of its creation stack, and what sort of task it is.
pub(super) type CreatorKey = u64;

/// One task at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) who: Who,
    /// The place of its site's id in [`Moment::sites`].
    site: u32,
    /// The place of its creator in [`Moment::creators`].
    creator: u32,
    /// How long its wait has lasted at least, ms; `None` if it does not wait.
    at_least_ms: Option<u64>,
    /// How long at most.
    at_most_ms: u64,
    /// How long it has existed, if that is known.
    lifetime_ms: Option<u64>,
    pub(super) creator_gone: bool,
    /// In how many ms a timer ends its wait, if one does within a year.
    due_ms: Option<u64>,
    /// Whether that is another task's timer.
    pub(super) is_by_others: bool,
    /// Whether that timer fires again and again, or the wait is one of a row of timed ones.
    repeats: bool,
}

/// What was waited for: see [`Moment::due_within`].
#[derive(Debug, Default)]
pub struct WaitedFor {
    tasks: HashSet<Who>,
    /// Ids of groups of timers.
    timers: HashSet<String>,
}

/// Where the threads of a site wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThreadPlace {
    /// A hash of the functions that they wait in, the same whoever created them.
    pub(super) place: u64,
    /// Whether nobody saw who created them.
    pub(super) is_of_strangers: bool,
}

/// The tasks of a process at one moment. What is not the program's own work is left out.
#[derive(Clone, Debug)]
pub struct Moment {
    pub(super) at_ms: u64,
    /// Ids of sites.
    sites: Vec<String>,
    /// Of those of threads, where they are.
    places: Vec<Option<ThreadPlace>>,
    /// Of those of all kinds, whether their stacks could not be read.
    unread: Vec<bool>,
    counts: HashMap<String, u64>,
    /// Threads of unknown creators, by where they wait.
    strangers: HashMap<u64, u64>,
    /// Threads of unknown creators in all.
    unknown: u64,
    creators: Vec<CreatorKey>,
    creator_counts: HashMap<CreatorKey, u64>,
    /// Pending timers by their id.
    timers: HashMap<String, u64>,
    /// By [`Who`].
    tasks: Vec<Seen>,
    /// Tasks that wait for a lock whose holder never unlocks it.
    locked_out: Vec<Who>,
    total: u64,
}

/// The ids of the sites at which a task was that only whoever held a lock could have woken, and that has gone on all the same, or ended.
pub(super) fn refuted(moments: &[Moment]) -> HashSet<&str> {
    let mut refuted = HashSet::new();
    for (before, after) in moments.iter().zip(moments.iter().skip(1)) {
        for who in &before.locked_out {
            let Some(site) = before.find(*who).and_then(|seen| before.site_of(seen)) else { continue };
            // Where its stack could not be read it may be anywhere.
            let is_there = |later: &Seen| {
                after.site_of(later) == Some(site)
                    || after.unread.get(later.site as usize).is_some_and(|&unread| unread)
            };
            if !after.find(*who).is_some_and(is_there) {
                refuted.insert(site);
            }
        }
    }
    refuted
}

impl Moment {
    /// What `recording` tells of its last moment.
    #[must_use]
    pub fn of(recording: &Recording) -> Self {
        let paths = CallPaths::of(recording);
        let mut counts: HashMap<String, u64> = HashMap::new();
        let mut strangers: HashMap<u64, u64> = HashMap::new();
        let mut creators = Creators::of(recording, &paths);
        for (site, &creator) in recording.sites.iter().zip(&creators.of_sites) {
            *counts.entry(site.id.clone()).or_default() += site.count;
            if is_of_strangers(site) {
                *strangers.entry(place(site, &paths)).or_default() += site.count;
            }
            if let Some(key) = creators.keys.get(creator as usize) {
                *creators.counts.entry(*key).or_default() += site.count;
            }
        }
        let ends = Ends::of(recording);
        let mut tasks = Vec::new();
        let mut unknown = 0;
        for task in recording.tasks.iter().filter(|task| is_judged(task, recording)) {
            let creator = creators.of_task(task, &paths);
            unknown += u64::from(task.kind == TaskKind::Thread && creator == NONE);
            tasks.push(Seen::of(task, creator, recording, &ends));
        }
        tasks.sort_unstable_by_key(|seen| seen.who);
        tasks.dedup_by_key(|seen| seen.who);
        let locked_out = hopeless::all(recording).filter(|(_, why)| hopeless::is_by_locks(*why));
        let locked_out = locked_out.map(|(task, _)| Who::of(task)).collect();
        let unlisted = recording.losses.get(&Loss::GoroutinesNotListed).copied().unwrap_or(0);
        Self {
            at_ms: recording.growth.last().map_or(recording.duration_ms, |sample| sample.at_ms),
            sites: recording.sites.iter().map(|site| site.id.clone()).collect(),
            places: recording.sites.iter().map(|site| thread_place(site, &paths)).collect(),
            unread: recording.sites.iter().map(|site| site.stack.is_empty()).collect(),
            counts,
            strangers,
            unknown,
            creators: creators.keys,
            creator_counts: creators.counts,
            timers: recording.timers.iter().map(|timers| (timers.id.clone(), timers.count)).collect(),
            total: tasks.len() as u64 + unlisted,
            tasks,
            locked_out,
        }
    }

    /// Tasks that waited at the site with that id.
    #[must_use]
    pub fn count(&self, id: &str) -> u64 {
        self.counts.get(id).copied().unwrap_or(0)
    }

    /// Tasks of that creator, in whatever state.
    pub(super) fn created(&self, creator: CreatorKey) -> u64 {
        self.creator_counts.get(&creator).copied().unwrap_or(0)
    }

    /// Pending timers with that id.
    pub(super) fn timers(&self, id: &str) -> u64 {
        self.timers.get(id).copied().unwrap_or(0)
    }

    /// Threads of unknown creators that waited at this place.
    pub(super) fn strangers(&self, place: u64) -> u64 {
        self.strangers.get(&place).copied().unwrap_or(0)
    }

    /// Threads of unknown creators.
    pub(super) fn unknown(&self) -> u64 {
        self.unknown
    }

    /// All tasks of the program's own.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn tasks(&self) -> &[Seen] {
        &self.tasks
    }

    /// How long to wait until every task of `recording` that came after this moment, and whose timer ends its wait within `times`, has
    /// had its timer fire, and likewise the timers that call a function and of which there are more than at this moment; `None` if there
    /// is nothing to wait for. Each is waited for once: those in `waited_for` have had their chance.
    #[must_use]
    pub fn due_within(
        &self,
        recording: &Recording,
        times: RangeInclusive<Duration>,
        waited_for: &mut WaitedFor,
    ) -> Option<Duration> {
        let ms = |duration: &Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (least, most) = (ms(times.start()), ms(times.end()));
        let ends = Ends::of(recording);
        let mut longest = None;
        for task in recording.tasks.iter().filter(|task| is_judged(task, recording)) {
            // A wait that is shorter than the numbers were level for has ended meanwhile: then its task waits again and again.
            if task.wait.as_ref().is_none_or(|wait| wait.timeout_ms.is_some_and(|timeout| timeout < least)) {
                continue;
            }
            let seen = Seen::of(task, NONE, recording, &ends);
            let Some(due) = seen.ends_in_ms().filter(|&due| due <= most && !self.has(&seen)) else {
                continue;
            };
            if waited_for.tasks.insert(seen.who) {
                longest = longest.max(Some(due));
            }
        }
        // What a timer calls may end tasks that wait for something else.
        for timers in
            recording.timers.iter().filter(|timers| timers.usage == TimerUse::Callback && timers.periodic == 0)
        {
            let is_new = timers.count > self.timers(&timers.id) && timers.latest_ms <= most;
            if is_new && waited_for.timers.insert(timers.id.clone()) {
                longest = longest.max(Some(timers.latest_ms));
            }
        }
        longest.map(Duration::from_millis)
    }

    /// Whether that task, which was seen later, was there.
    pub(super) fn has(&self, later: &Seen) -> bool {
        self.find(later.who).is_some()
    }

    fn find(&self, who: Who) -> Option<&Seen> {
        self.tasks.get(self.tasks.binary_search_by_key(&who, |seen| seen.who).ok()?)
    }

    /// The id of a task's site.
    pub(super) fn site_of(&self, seen: &Seen) -> Option<&str> {
        self.sites.get(seen.site as usize).map(String::as_str)
    }

    /// Whether a task, which was `old` in the moment `before`, is where it was: at the same site, or at the same place, where the sites
    /// differ only in whether creators were seen.
    pub(super) fn is_where_it_was(&self, seen: &Seen, before: &Self, old: &Seen) -> bool {
        let thread_place = |moment: &Self, seen: &Seen| moment.places.get(seen.site as usize).copied().flatten();
        self.site_of(seen) == before.site_of(old)
            || thread_place(self, seen).zip(thread_place(before, old)).is_some_and(|(here, there)| {
                here.place == there.place && (here.is_of_strangers || there.is_of_strangers)
            })
    }

    /// The creator of a task.
    pub(super) fn creator_of(&self, seen: &Seen) -> Option<CreatorKey> {
        self.creators.get(seen.creator as usize).copied()
    }
}

/// Creators by their keys, found once for each site.
struct Creators {
    keys: Vec<CreatorKey>,
    places: HashMap<CreatorKey, u32>,
    /// For each site the place of its creator in `keys`.
    of_sites: Vec<u32>,
    counts: HashMap<CreatorKey, u64>,
}

impl Creators {
    fn of(recording: &Recording, paths: &CallPaths<'_>) -> Self {
        let mut creators =
            Self { keys: Vec::new(), places: HashMap::new(), of_sites: Vec::new(), counts: HashMap::new() };
        for site in &recording.sites {
            let key = creator(site.task, &site.creation, paths).filter(|_| is_judged_site(site, recording));
            let place = creators.place(key);
            creators.of_sites.push(place);
        }
        creators
    }

    fn place(&mut self, key: Option<CreatorKey>) -> u32 {
        let Some(key) = key else {
            return NONE;
        };
        *self.places.entry(key).or_insert_with(|| {
            self.keys.push(key);
            u32::try_from(self.keys.len() - 1).unwrap_or(NONE)
        })
    }

    /// The place of a task's creator. Sites have counted their tasks already, others are counted here.
    fn of_task(&mut self, task: &Task, paths: &CallPaths<'_>) -> u32 {
        if let Some(&place) = task.site.and_then(|site| self.of_sites.get(site as usize)) {
            return place;
        }
        let key = creator(task.kind, &task.created_by.stack, paths);
        if let Some(key) = key {
            *self.counts.entry(key).or_default() += 1;
        }
        self.place(key)
    }
}

/// The key of the creator with this creation stack; `None` if it is not known.
pub(super) fn creator(kind: TaskKind, creation: &[u32], paths: &CallPaths<'_>) -> Option<CreatorKey> {
    if creation.is_empty() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    kind.hash(&mut hasher);
    paths.hash(paths.creator(creation), &mut hasher);
    Some(hasher.finish())
}

/// Whether a task is judged: the program's own, or the language runtime's if it is in the program's code.
pub(super) fn is_judged(task: &Task, recording: &Recording) -> bool {
    task.state != TaskState::Exited && (task.role.is_own() || serves_in_users_code(&task.stack, recording))
}

/// The same of a site.
pub(super) fn is_judged_site(site: &Site, recording: &Recording) -> bool {
    site.role.is_own() || serves_in_users_code(&site.stack, recording)
}

/// Whether a stack is that of a goroutine by which the Go runtime calls functions of the program that everybody waits for, one after
/// the other, and such a function runs: finalizers and cleanups.
///
/// Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/mfinal.go>, `mcleanup.go` beside it.
pub(super) fn serves_in_users_code(stack: &[u32], recording: &Recording) -> bool {
    const SERVERS: &[&str] = &["runtime.runfinq", "runtime.runFinalizers", "runtime.runCleanups"];
    let frames = || stack.iter().filter_map(|&index| recording.frames.get(index as usize));
    let server = frames().position(|frame| SERVERS.contains(&frame.function.as_str()));
    server.is_some_and(|depth| frames().take(depth).any(|frame| frame.is_users() && !frame.function.is_empty()))
}

/// Whether nobody knows who created the threads here: those that are older than our attach.
pub(super) fn is_of_strangers(site: &Site) -> bool {
    site.task == TaskKind::Thread && site.creation.is_empty()
}

/// Where a site's threads wait; `None` for goroutines.
pub(super) fn thread_place(site: &Site, paths: &CallPaths<'_>) -> Option<ThreadPlace> {
    let place = (site.task == TaskKind::Thread).then(|| place(site, paths))?;
    Some(ThreadPlace { place, is_of_strangers: is_of_strangers(site) })
}

/// Where the tasks of a site wait, whoever created them.
pub(super) fn place(site: &Site, paths: &CallPaths<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (site.task, site.role, site.kind).hash(&mut hasher);
    paths.hash(&site.stack, &mut hasher);
    hasher.finish()
}

/// What a task did from one moment to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    /// It is another one, with the same id.
    Replaced,
    /// It slept all the time.
    Slept,
    /// It woke, and its timer was due.
    TimerWoke,
    /// It woke, and it was not its timer.
    Woke,
    /// It did not wait at one of the moments.
    Ran,
    /// It is not known.
    Unknown,
}

/// In how many ms waits end by timers that fire once: what others wait for ends with them.
#[derive(Default)]
struct Ends {
    /// By thread.
    threads: HashMap<u64, u64>,
    /// By who created them, the latest of all that it created; `None` if one of them waits for something else, or runs.
    children: HashMap<Who, Option<u64>>,
}

impl Ends {
    fn of(recording: &Recording) -> Self {
        let mut ends = Self::default();
        for task in &recording.tasks {
            let wait = task.wait.as_ref().filter(|wait| wait.period_ms.is_none() && wait.slice_ms.is_none());
            let due = wait.and_then(|wait| wait.due_ms);
            if let Some(due) = due.filter(|_| task.kind == TaskKind::Thread) {
                ends.threads.insert(task.id, due);
            }
            if let Some(parent) = task.created_by.task {
                let of_parent = ends.children.entry(Who { id: parent, ..Who::of(task) }).or_insert(Some(0));
                *of_parent = of_parent.zip(due).map(|(latest, due)| latest.max(due));
            }
        }
        ends
    }

    /// When a wait of a task ends that others have to end, and those are up to timers: who holds the lock or is to exit, or whom
    /// that one waits for; or else all that the task has created, for whose results it may wait.
    fn by_others(&self, task: &Task, wait: &Wait) -> Option<u64> {
        let is_own = |link: &&Link| link.owner.relation != Relation::OtherEnd && link.owner.process.is_none();
        let mut owners = wait.chain.iter().take_while(is_own).peekable();
        if owners.peek().is_some() {
            let due_ms = owners.find_map(|link| self.threads.get(&link.owner.task).copied());
            let is_of_lock = wait.chain.iter().take_while(is_own).any(|link| link.owner.relation.is_holds());
            return due_ms.filter(|&due_ms| !is_of_lock || due_ms <= LONGEST_HOLD_MS);
        }
        let may_be_for_them =
            matches!(wait.kind, WaitKind::ChanReceive | WaitKind::Select | WaitKind::Sync | WaitKind::Futex);
        self.children.get(&Who::of(task)).copied().flatten().filter(|_| may_be_for_them)
    }
}

impl Seen {
    fn of(task: &Task, creator: u32, recording: &Recording, ends: &Ends) -> Self {
        let wait = task.wait.as_ref();
        let own = wait.and_then(|wait| wait.due_ms);
        let due = own.or_else(|| ends.by_others(task, wait?));
        let is_by_others = own.is_none() && due.is_some();
        let site = task.site.filter(|&site| (site as usize) < recording.sites.len());
        Self {
            who: Who::of(task),
            site: site.unwrap_or(NONE),
            creator,
            at_least_ms: wait.map(|wait| wait.age_ms),
            at_most_ms: wait.map_or(0, |wait| wait.longest_ms().unwrap_or(u64::MAX)),
            lifetime_ms: task.lifetime_ms,
            creator_gone: task.created_by.alive == Some(false),
            due_ms: due.filter(|&due| due < NEVER_MS),
            is_by_others,
            repeats: wait.is_some_and(|wait| wait.period_ms.is_some() || wait.slice_ms.is_some()),
        }
    }

    /// Whether it was there that long ago, for all that is known: a goroutine's number is never given again.
    pub(super) fn is_older_than(&self, ms: u64) -> bool {
        self.who.kind == TaskKind::Goroutine
            || self.lifetime_ms.is_some_and(|lifetime| lifetime.saturating_add(SLACK_MS) >= ms)
    }

    /// Whether the timer that was to end its wait, `earlier` and `elapsed_ms` ago, has fired since.
    pub(super) fn is_past_due(earlier: &Self, elapsed_ms: u64) -> bool {
        earlier.ends_in_ms().is_some_and(|due| due.saturating_add(SLACK_MS) < elapsed_ms)
    }

    /// How long the timer was, all in all, that ends its wait.
    pub(super) fn timer_ms(&self) -> Option<u64> {
        Some(self.ends_in_ms()?.saturating_add(self.at_least_ms?))
    }

    /// In how many ms its wait ends by a timer that fires once, its own or another task's.
    pub(super) fn ends_in_ms(&self) -> Option<u64> {
        self.due_ms.filter(|_| !self.repeats)
    }

    /// What it did in the last `elapsed_ms`, at the beginning of which it was `earlier`, at another place if it `has_moved`.
    pub(super) fn since(&self, earlier: &Self, elapsed_ms: u64, has_moved: bool) -> Transition {
        if self.lifetime_ms.is_some_and(|lifetime| lifetime < elapsed_ms.saturating_sub(SLACK_MS)) {
            return Transition::Replaced;
        }
        // A wait that has gone on is older than the time since by what it was old then; so a short load shows that ended it.
        let sure = elapsed_ms.saturating_add(earlier.at_least_ms.unwrap_or(0)).saturating_sub(SLACK_MS);
        if self.at_least_ms.is_some_and(|at_least| at_least >= sure) {
            // What comes back to the same wait by its own timer alone counts as asleep; but its timer has fired.
            return if self.repeats && self.due_ms.is_some() { Transition::TimerWoke } else { Transition::Slept };
        }
        // A timer that was due has ended the wait, however little is known of the next one.
        if earlier.due_ms.is_some_and(|due| due <= elapsed_ms.saturating_add(SLACK_MS)) {
            return Transition::TimerWoke;
        }
        match (earlier.at_least_ms, self.at_least_ms) {
            (_, Some(_)) if self.at_most_ms >= sure && !has_moved => Transition::Unknown,
            (None, _) => Transition::Ran,
            (Some(_), _) => Transition::Woke,
        }
    }
}
