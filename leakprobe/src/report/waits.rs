//! The wait-for graph: who waits for whom, by what. `.dot` and `.waits.svg` are drawn from it.
//!
//! A thread waits for one other at most, so that at most one edge leaves a node. Waiters at one place for one and the same holder,
//! for whom nobody waits in turn, are one node with their number: a thousand of them can be looked at.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{evidence, frames, shown::Shown, txt::sites, words};
use crate::model::{Frame, Owner, Relation, Task, TaskKind, TaskState, Wait};

/// Frames of a stack that are told of a node, and threads of one that stands for several that are named.
const MAX_FRAMES: usize = 24;
const MAX_NAMES: usize = 8;

/// What a node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Id {
    /// A thread of the target.
    Thread(u64),
    /// Another process, or a thread of it.
    Process(u64),
    /// Waiters at one place for the same holder, by one of them.
    Waiters(u64),
}

impl Id {
    /// Its name, as an identifier.
    pub(super) fn name(self) -> String {
        match self {
            Self::Thread(id) => format!("thread_{id}"),
            Self::Process(id) => format!("process_{id}"),
            Self::Waiters(id) => format!("waiters_{id}"),
        }
    }
}

/// What the one that a node stands for does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doing {
    Waits,
    Runs,
    Exited,
    /// It is of another process, of which nothing is known.
    Elsewhere,
    /// Nobody has seen it.
    NotSeen,
}

impl Doing {
    pub(super) const ALL: [Self; 5] = [Self::Waits, Self::Runs, Self::Exited, Self::Elsewhere, Self::NotSeen];
}

pub(super) struct Node<'a> {
    pub(super) id: Id,
    pub(super) doing: Doing,
    /// Who it is; then, as far as that is known, what it does and what it waits on.
    pub(super) lines: Vec<String>,
    /// The function in which it does that.
    place: Option<&'a Frame>,
    /// The names of those that it stands for.
    names: Vec<String>,
    /// Whose stack is told of it.
    example: Option<&'a Task>,
    /// How many threads it stands for.
    pub(super) count: u64,
    /// Whether it is on a circle of threads that wait for each other for ever.
    pub(super) on_circle: bool,
}

impl Node<'_> {
    /// All that stands in it, in lines of at most `width` characters.
    pub(super) fn told(&self, width: usize) -> impl Iterator<Item = String> {
        let lines = self.lines.iter().map(move |line| words::cut_middle(line, width));
        let place = self.place.map(frames::label);
        lines.chain(place.map(move |place| format!("in {}", words::shorten(&place, width.saturating_sub(3)))))
    }

    /// The names of those that it stands for, and its stack. Not kept: a stack in words is large, and few are told.
    pub(super) fn details(&self, shown: &Shown<'_>) -> Vec<String> {
        let stack = self.example.map(|task| stack(shown, task)).unwrap_or_default();
        self.names.iter().cloned().chain(stack).collect()
    }
}

pub(super) struct Edge {
    /// Places in [`Graph::nodes`].
    pub(super) from: usize,
    pub(super) to: usize,
    /// Why the one is waited for.
    pub(super) why: &'static str,
    pub(super) on_circle: bool,
}

pub(super) struct Graph<'a> {
    /// Those that matter most first.
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) edges: Vec<Edge>,
    /// Threads that wait and are not drawn, because there are too many.
    pub(super) left_out: u64,
}

/// A thread that waits, and for whom.
#[derive(Clone, Copy)]
struct Waiter<'a> {
    task: &'a Task,
    wait: &'a Wait,
    owner: &'a Owner,
}

/// What waiters share that are drawn as one: the owner and its process, their site, and what they wait on.
type Group<'a> = (u64, Option<u32>, Option<usize>, &'a str, &'a str);

impl<'a> Graph<'a> {
    /// The graph of what is shown, with the holders and deadlocks that a report tells whoever is asked for; `most` nodes.
    pub(super) fn of(shown: &Shown<'a>, most: usize) -> Self {
        let tasks = shown.recording.tasks.iter().filter(|task| task.kind == TaskKind::Thread);
        let threads: BTreeMap<u64, &Task> = tasks.map(|task| (task.id, task)).collect();
        let mut circles = BTreeMap::new();
        for deadlock in &shown.recording.deadlocks {
            let next = deadlock.tasks.iter().cycle().skip(1);
            circles.extend(deadlock.tasks.iter().zip(next).map(|(one, next)| (one.task, next.task)));
        }
        let waiters = waiters(shown, &threads, circles.keys().copied());
        let mut waits_for_it: BTreeMap<u64, u64> = BTreeMap::new();
        for waiter in waiters.values().filter(|waiter| waiter.owner.process.is_none()) {
            *waits_for_it.entry(waiter.owner.task).or_default() += 1;
        }
        // Those for whom nobody waits may share a node.
        let mut groups: BTreeMap<Group<'_>, Vec<Waiter<'_>>> = BTreeMap::new();
        let mut single: Vec<Vec<Waiter<'_>>> = Vec::new();
        for (id, &waiter) in &waiters {
            if waits_for_it.contains_key(id) || circles.contains_key(id) {
                single.push(vec![waiter]);
            } else {
                let Waiter { task, wait, owner } = waiter;
                let key = (owner.task, owner.process, shown.site_of(task), &*wait.reason, &*wait.object);
                groups.entry(key).or_default().push(waiter);
            }
        }
        let mut all: Vec<Vec<Waiter<'_>>> = single.into_iter().chain(groups.into_values()).collect();
        all.sort_by_key(|waiters| {
            let first = waiters.first().map_or(0, |waiter| waiter.task.id);
            let behind = waits_for_it.get(&first).copied().unwrap_or(0);
            (!circles.contains_key(&first), Reverse(behind.max(waiters.len() as u64)), first)
        });
        let mut graph = Self { nodes: Vec::new(), edges: Vec::new(), left_out: 0 };
        let mut places = BTreeMap::new();
        for waiters in &all {
            graph.add(waiters, &mut places, &circles, &threads, shown, most);
        }
        graph
    }

    /// Those who are waited for and wait for nobody, as far as is known.
    pub(super) fn awaited(&self) -> u64 {
        let waits: BTreeSet<usize> = self.edges.iter().map(|edge| edge.from).collect();
        (self.nodes.len() - waits.len()) as u64
    }

    /// Threads that wait for somebody, of those that are drawn.
    pub(super) fn waiting(&self) -> u64 {
        self.edges.iter().filter_map(|edge| self.nodes.get(edge.from)).map(|node| node.count).sum()
    }

    /// Waiters of one kind, the one that they wait for, and the edge between them.
    fn add(
        &mut self,
        waiters: &[Waiter<'a>],
        places: &mut BTreeMap<Id, usize>,
        circles: &BTreeMap<u64, u64>,
        threads: &BTreeMap<u64, &'a Task>,
        shown: &Shown<'a>,
        most: usize,
    ) {
        let Some(&Waiter { task, owner, .. }) = waiters.first() else { return };
        let from = if waiters.len() == 1 { Id::Thread(task.id) } else { Id::Waiters(task.id) };
        let to = if owner.process.is_some() { Id::Process(owner.task) } else { Id::Thread(owner.task) };
        let new: BTreeSet<Id> = [from, to].into_iter().filter(|id| !places.contains_key(id)).collect();
        if self.nodes.len() + new.len() > most {
            self.left_out += waiters.len() as u64;
            return;
        }
        let node = |id| match id {
            Id::Waiters(_) => of_several(shown, waiters),
            Id::Thread(tid) => threads.get(&tid).map_or_else(|| of_absent(id, owner), |task| of_thread(shown, task)),
            Id::Process(_) => of_absent(id, owner),
        };
        let mut place = |id| {
            *places.entry(id).or_insert_with(|| {
                let on_circle = matches!(id, Id::Thread(tid) if circles.contains_key(&tid));
                self.nodes.push(Node { on_circle, ..node(id) });
                self.nodes.len() - 1
            })
        };
        let (from, to) = (place(from), place(to));
        let why = match owner.relation {
            Relation::Holds => "held by",
            Relation::Joined => "until it exits",
            Relation::OtherEnd => "other end",
            Relation::NoOne => "no one",
        };
        let on_circle = owner.process.is_none() && circles.get(&task.id) == Some(&owner.task);
        self.edges.push(Edge { from, to, why, on_circle });
    }
}

/// Who waits for somebody: those that are shown, those of deadlocks, and the way on from there.
fn waiters<'a>(
    shown: &Shown<'a>,
    threads: &BTreeMap<u64, &'a Task>,
    deadlocked: impl Iterator<Item = u64>,
) -> BTreeMap<u64, Waiter<'a>> {
    let own = shown.tasks.iter().filter(|task| task.kind == TaskKind::Thread).map(|task| task.id);
    let mut open: Vec<u64> = own.chain(deadlocked).collect();
    let mut waiters = BTreeMap::new();
    while let Some(id) = open.pop() {
        let Some(&task) = threads.get(&id).filter(|_| !waiters.contains_key(&id)) else { continue };
        let Some(wait) = &task.wait else { continue };
        let Some(owner) = wait.owner.as_deref().filter(|owner| owner.relation != Relation::NoOne) else { continue };
        waiters.insert(id, Waiter { task, wait, owner });
        open.extend(owner.process.is_none().then_some(owner.task));
    }
    waiters
}

fn of_thread<'a>(shown: &Shown<'a>, task: &'a Task) -> Node<'a> {
    let doing = match task.state {
        TaskState::Parked | TaskState::Blocked => Doing::Waits,
        TaskState::Running | TaskState::Runnable => Doing::Runs,
        TaskState::Exited => Doing::Exited,
    };
    let mut lines = vec![sites::task_name(task)];
    lines.extend(what_it_does(task, ""));
    Node {
        id: Id::Thread(task.id),
        doing,
        lines,
        place: place(shown, task),
        names: Vec::new(),
        example: Some(task),
        count: 1,
        on_circle: false,
    }
}

fn of_several<'a>(shown: &Shown<'a>, waiters: &[Waiter<'a>]) -> Node<'a> {
    let longest =
        waiters.iter().map(|waiter| waiter.task).max_by_key(|task| task.wait.as_ref().map(|wait| wait.age_ms));
    let first = waiters.first().map_or(0, |waiter| waiter.task.id);
    let count = waiters.len() as u64;
    let mut lines = vec![words::count(count, evidence::noun_of(TaskKind::Thread))];
    let mut names: Vec<String> = waiters.iter().take(MAX_NAMES).map(|waiter| sites::task_name(waiter.task)).collect();
    if waiters.len() > MAX_NAMES {
        names.push(format!("and {} more", words::thousands((waiters.len() - MAX_NAMES) as u64)));
    }
    if let Some(longest) = longest {
        lines.extend(what_it_does(longest, "up to "));
    }
    Node {
        id: Id::Waiters(first),
        doing: Doing::Waits,
        lines,
        place: longest.and_then(|longest| place(shown, longest)),
        names,
        example: longest,
        count,
        on_circle: false,
    }
}

/// Of somebody whose task is not listed.
fn of_absent(id: Id, owner: &Owner) -> Node<'static> {
    let who = match owner.process {
        Some(process) if u64::from(process) == owner.task => format!("process {process}"),
        Some(process) => format!("{}, of process {process}", owner.task),
        None => owner.task.to_string(),
    };
    let doing = match owner.state {
        Some(TaskState::Exited) => Doing::Exited,
        Some(TaskState::Running | TaskState::Runnable) => Doing::Runs,
        Some(TaskState::Parked | TaskState::Blocked) => Doing::Waits,
        None if owner.process.is_some() => Doing::Elsewhere,
        None => Doing::NotSeen,
    };
    let name = format!("{} ({who})", words::harmless(&owner.name));
    let lines = [name.trim_start().to_owned()].into_iter().chain(owner.state.map(|state| state.name().to_owned()));
    let lines = lines.collect();
    Node { id, doing, lines, place: None, names: Vec::new(), example: None, count: 1, on_circle: false }
}

/// State, and what it waits on; `up_to` stands before the age.
fn what_it_does(task: &Task, up_to: &str) -> Vec<String> {
    let mut lines = vec![task.state.name().to_owned()];
    if let (Some(wait), Some(line)) = (&task.wait, lines.first_mut()) {
        *line += &format!(" {up_to}{}: {}", words::age(wait.age_ms, wait.exact), words::harmless(&wait.reason));
        if !wait.object.is_empty() {
            let place = wait.queue.and_then(words::place).map_or(String::new(), |place| format!(", {place}"));
            lines.push(format!("on {}{place}", words::harmless(&wait.object)));
        }
    }
    lines
}

fn place<'a>(shown: &Shown<'a>, task: &Task) -> Option<&'a Frame> {
    frames::innermost_users(shown, &task.stack)
}

fn stack(shown: &Shown<'_>, task: &Task) -> Vec<String> {
    let frames = shown.frames(&task.stack);
    let (frames, beyond) = shown.cut(&frames);
    let told = frames.get(..MAX_FRAMES).unwrap_or(frames);
    let mut lines: Vec<String> = told.iter().map(|frame| frames::label(frame)).collect();
    let more = beyond + (frames.len() - told.len()) as u64;
    if more > 0 {
        lines.push(format!("… and {}", words::count(more, "outer frame")));
    }
    let end = task.stack_end.explain();
    lines.extend((!end.is_empty()).then(|| format!("({end})")));
    lines
}

#[cfg(test)]
pub(super) mod tests;
