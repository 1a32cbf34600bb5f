//! The tasks of a process at one moment, as far as judging needs them: a few numbers a task, so that a million of them over ten
//! rounds fit into memory.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::restless::{is_restless, origin};
use crate::model::{GoStatus, Owner, Recording, Site, Task, TaskKind, TaskState, WaitKind};

/// No site, or a time that is not known.
const NONE: u32 = u32::MAX;

/// By what a task is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Who {
    kind: TaskKind,
    runtime: u32,
    id: u64,
}

/// One task at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) who: Who,
    /// The place of its site's id in [`Moment::sites`].
    site: u32,
    /// How long its wait has lasted at least, ms; `None` if it does not wait.
    at_least_ms: Option<u64>,
    /// How long at most.
    at_most_ms: u64,
    /// How long it has existed, if that is known.
    lifetime_ms: Option<u64>,
    pub(super) creator_gone: bool,
    /// Whether its wait ends by itself.
    pub(super) timed: bool,
}

/// The tasks of a process at one moment. What is not the program's own work is left out.
#[derive(Clone, Debug)]
pub struct Moment {
    pub(super) at_ms: u64,
    /// Ids of sites.
    sites: Vec<String>,
    counts: HashMap<String, u64>,
    /// Threads of unknown creators, by where they wait.
    strangers: HashMap<u64, u64>,
    /// Tasks that run and wait nowhere, by where they come from.
    restless: HashMap<u64, u64>,
    /// By [`Who`].
    tasks: Vec<Seen>,
}

impl Moment {
    /// What `recording` tells of its last moment.
    #[must_use]
    pub fn of(recording: &Recording) -> Self {
        let mut counts: HashMap<String, u64> = HashMap::new();
        let mut strangers: HashMap<u64, u64> = HashMap::new();
        for site in &recording.sites {
            *counts.entry(site.id.clone()).or_default() += site.count;
            if is_of_strangers(site) {
                *strangers.entry(place(site, recording)).or_default() += site.count;
            }
        }
        let mut tasks: Vec<Seen> =
            recording.tasks.iter().filter(|task| task.role.is_own()).map(|task| Seen::of(task, recording)).collect();
        tasks.sort_unstable_by_key(|seen| seen.who);
        tasks.dedup_by_key(|seen| seen.who);
        let mut restless: HashMap<u64, u64> = HashMap::new();
        for task in recording.tasks.iter().filter(|task| is_restless(task)) {
            *restless.entry(origin(task, recording)).or_default() += 1;
        }
        let at_ms = recording.growth.last().map_or(recording.duration_ms, |sample| sample.at_ms);
        let sites = recording.sites.iter().map(|site| site.id.clone()).collect();
        Self { at_ms, sites, counts, strangers, restless, tasks }
    }

    /// Tasks that waited at the site with that id.
    #[must_use]
    pub fn count(&self, id: &str) -> u64 {
        self.counts.get(id).copied().unwrap_or(0)
    }

    /// Threads of unknown creators that waited at this place.
    pub(super) fn strangers(&self, place: u64) -> u64 {
        self.strangers.get(&place).copied().unwrap_or(0)
    }

    /// Tasks of this origin that ran and waited nowhere.
    pub(super) fn restless(&self, origin: u64) -> u64 {
        self.restless.get(&origin).copied().unwrap_or(0)
    }

    pub(super) fn tasks(&self) -> &[Seen] {
        &self.tasks
    }

    /// The id of a task's site.
    pub(super) fn site_of(&self, seen: &Seen) -> Option<&str> {
        self.sites.get(seen.site as usize).map(String::as_str)
    }
}

/// Whether nobody knows who created the threads here: those that are older than our attach.
pub(super) fn is_of_strangers(site: &Site) -> bool {
    site.task == TaskKind::Thread && site.creation.is_empty()
}

/// Where the tasks of a site wait, whoever created them.
pub(super) fn place(site: &Site, recording: &Recording) -> u64 {
    let mut hasher = DefaultHasher::new();
    (site.task, site.role, site.kind).hash(&mut hasher);
    hash_functions(&site.stack, recording, &mut hasher);
    hasher.finish()
}

/// The functions of a stack, in whatever lines and at whatever addresses they are.
pub(super) fn hash_functions(stack: &[u32], recording: &Recording, hasher: &mut impl Hasher) {
    for frame in stack.iter().filter_map(|&index| recording.frames.get(index as usize)) {
        (frame.module_name(), &frame.function).hash(hasher);
    }
}

/// How the same task has fared from one moment to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fared {
    /// It is another one, with the same id.
    Other,
    /// It slept all the time.
    Slept,
    /// It ran.
    Woke,
    /// It is not known.
    Unknown,
}

impl Seen {
    fn of(task: &Task, recording: &Recording) -> Self {
        let goroutine = task.goroutine.as_deref();
        let wait = task.wait.as_ref();
        let by_timer = goroutine.is_some_and(|it| it.channels.iter().any(|channel| channel.timer));
        let site = task.site.filter(|&site| (site as usize) < recording.sites.len());
        Self {
            who: Who { kind: task.kind, runtime: goroutine.map_or(0, |it| it.runtime), id: task.id },
            site: site.unwrap_or(NONE),
            at_least_ms: wait.map(|wait| wait.age_ms),
            at_most_ms: wait
                .map_or(0, |wait| if wait.exact { wait.age_ms } else { wait.at_most_ms.unwrap_or(u64::MAX) }),
            lifetime_ms: task.lifetime_ms,
            creator_gone: task.created_by.alive == Some(false),
            timed: wait.is_some_and(|wait| wait.timeout_ms.is_some() || wait.kind == WaitKind::Sleep) || by_timer,
        }
    }

    /// How it has fared in the last `elapsed_ms`, at the beginning of which it was seen too.
    pub(super) fn fared(&self, elapsed_ms: u64) -> Fared {
        // A wait that began just before the earlier moment is as old as the time since.
        let sure = elapsed_ms.saturating_sub(SLACK_MS);
        if self.lifetime_ms.is_some_and(|lifetime| lifetime < sure) {
            return Fared::Other;
        }
        match self.at_least_ms {
            None => Fared::Woke,
            Some(at_least) if at_least >= sure => Fared::Slept,
            Some(_) if self.at_most_ms < sure => Fared::Woke,
            Some(_) => Fared::Unknown,
        }
    }
}

/// How far the clocks of two moments, and that of a wait, may be apart.
const SLACK_MS: u64 = 100;

/// Whether nothing can ever wake this task, by what is known of it alone.
pub(super) fn hopeless(task: &Task) -> Option<Hopeless> {
    let goroutine = task.goroutine.as_deref();
    if goroutine.is_some_and(|it| it.status == GoStatus::Leaked) {
        return Some(Hopeless::Marked);
    }
    // The main goroutine may wait for ever: so programs wait for signals, and their other goroutines work on.
    if goroutine.is_some_and(|it| it.forever) && task.id != 1 {
        let is_select = task.wait.as_ref().is_some_and(|wait| wait.kind == WaitKind::Select);
        return Some(if is_select { Hopeless::EmptySelect } else { Hopeless::NilChannel });
    }
    let owner = task.wait.as_ref().and_then(|wait| wait.owner.as_deref());
    let is_gone = |owner: &Owner| owner.relation.is_holds() && owner.state == Some(TaskState::Exited);
    owner.is_some_and(is_gone).then_some(Hopeless::HolderExited)
}

/// Why a task can never wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hopeless {
    /// The target's own garbage collector has found out.
    Marked,
    NilChannel,
    EmptySelect,
    /// It is one of those that wait for each other.
    Deadlock,
    /// It waits for one of those, or for one that does.
    BehindDeadlock,
    /// It waits for a lock whose holder has exited.
    HolderExited,
}

impl Hopeless {
    /// What is so of `count` of `all` tasks.
    pub(super) fn sentence(self, count: u64, all: u64) -> String {
        let whose = match (count == all, all) {
            (true, 1) => "this task".to_owned(),
            (true, _) => format!("each of these {all} tasks"),
            (false, _) => format!("{count} of these {all} tasks"),
        };
        match self {
            Self::Marked => format!("the target's own garbage collector has marked {whose} as leaked"),
            Self::NilChannel => format!("{whose} waits on a nil channel, which nothing can ever end"),
            Self::EmptySelect => format!(
                "{whose} waits in a select without cases, or with nil channels alone, which nothing can ever end"
            ),
            Self::Deadlock => {
                format!("{whose} is part of a deadlock: a circle of tasks, each of which holds what another waits for")
            }
            Self::BehindDeadlock => format!("{whose} waits for a lock that a deadlocked thread holds"),
            Self::HolderExited => format!("{whose} waits for a lock whose holder has exited without releasing it"),
        }
    }
}
