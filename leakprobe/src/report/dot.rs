//! The wait-for graph, in the language of graphviz: who waits for whom, by what. `dot -Tsvg` draws it.
//!
//! Waiters at one place for one and the same holder are one node with their number, so that a thousand of them can be looked at.
//! Language: <https://graphviz.org/doc/info/lang.html>

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io,
};

use super::{Options, Report, evidence, frames, shown::Shown, words};
use crate::model::{Owner, Recording, Relation, Task, TaskKind, Wait};

/// Most nodes that are drawn; nobody can look at more.
const MOST_NODES: usize = 2_000;
/// Most characters of a line in a node.
const WIDTH: usize = 60;

/// The `.dot` format.
pub(super) struct Dot;

impl Report for Dot {
    fn write(&self, recording: &Recording, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
        let shown = &Shown::of(recording, options);
        let graph = Graph::of(shown);
        let target = &recording.target;
        let title = format!("Who waits for whom in {} (pid {})", words::harmless(&target.comm), target.pid);
        writeln!(out, "digraph waits {{")?;
        writeln!(out, "  label={}; labelloc=t; rankdir=LR;", quoted(&title))?;
        writeln!(out, "  node [shape=box, fontname=\"sans-serif\"]; edge [fontname=\"sans-serif\", fontsize=10];")?;
        for (id, node) in &graph.nodes {
            let red = if graph.on_circle.contains(id) { ", color=red, penwidth=2" } else { "" };
            writeln!(out, "  {} [label={}{red}];", id.name(), quoted(&node.label))?;
        }
        for ((from, to), label) in &graph.edges {
            let red = if graph.is_on_circle(from, to) { ", color=red, penwidth=2" } else { "" };
            writeln!(out, "  {} -> {} [label={}{red}];", from.name(), to.name(), quoted(label))?;
        }
        if graph.left_out > 0 {
            let text = format!("{} not drawn: there are too many", words::count(graph.left_out, "more waiter"));
            writeln!(out, "  left_out [shape=plaintext, label={}];", quoted(&text))?;
        }
        writeln!(out, "}}")
    }
}

/// What a node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    /// A thread of the target.
    Thread(u64),
    /// Another process.
    Process(u64),
    /// Waiters at one place for the same holder, by one of them.
    Waiters(u64),
}

impl Id {
    fn name(self) -> String {
        match self {
            Self::Thread(id) => format!("thread_{id}"),
            Self::Process(id) => format!("process_{id}"),
            Self::Waiters(id) => format!("waiters_{id}"),
        }
    }
}

/// What waiters share that are drawn as one: the owner and its process, their site, and what they wait on.
type Group = (u64, Option<u32>, Option<usize>, String);

struct Node {
    label: String,
}

#[derive(Default)]
struct Graph {
    nodes: BTreeMap<Id, Node>,
    edges: BTreeMap<(Id, Id), String>,
    on_circle: BTreeSet<Id>,
    /// The threads that follow each other on circles.
    circles: BTreeSet<(u64, u64)>,
    left_out: u64,
}

impl Graph {
    fn of(shown: &Shown<'_>) -> Self {
        let mut graph = Self::default();
        for deadlock in &shown.recording.deadlocks {
            for (n, one) in deadlock.tasks.iter().enumerate() {
                let next = &deadlock.tasks[(n + 1) % deadlock.tasks.len()];
                graph.circles.insert((one.task, next.task));
                graph.on_circle.insert(Id::Thread(one.task));
            }
        }
        let threads: BTreeMap<u64, &Task> =
            shown.tasks.iter().filter(|task| task.kind == TaskKind::Thread).map(|task| (task.id, *task)).collect();
        let holds: BTreeSet<u64> = threads.values().filter_map(|task| Some(owner_of(task)?.task)).collect();
        // Those for whom nobody waits may share a node.
        let mut groups: BTreeMap<Group, Vec<&Task>> = BTreeMap::new();
        for (&id, &task) in &threads {
            let (Some(owner), Some(wait)) = (owner_of(task), &task.wait) else { continue };
            if holds.contains(&id) || graph.on_circle.contains(&Id::Thread(id)) {
                graph.add(Id::Thread(id), thread_label(shown, task), owner, wait, shown, &threads);
            } else {
                let key = (owner.task, owner.process, shown.site_of(task), format!("{} {}", wait.reason, wait.object));
                groups.entry(key).or_default().push(task);
            }
        }
        for waiters in groups.values() {
            let [first, ..] = waiters[..] else { continue };
            let (Some(owner), Some(wait)) = (owner_of(first), &first.wait) else { continue };
            if graph.nodes.len() >= MOST_NODES {
                graph.left_out += waiters.len() as u64;
                continue;
            }
            let (id, label) = match waiters.len() {
                1 => (Id::Thread(first.id), thread_label(shown, first)),
                count => {
                    let noun = evidence::noun_of(TaskKind::Thread);
                    let place = frames::innermost_users(shown, &first.stack).map(frames::label).unwrap_or_default();
                    (Id::Waiters(first.id), format!("{}\n{}", words::count(count as u64, noun), line(&place)))
                }
            };
            graph.add(id, label, owner, wait, shown, &threads);
        }
        graph
    }

    /// A waiter, the one that it waits for, and the edge between them.
    fn add(
        &mut self,
        id: Id,
        label: String,
        owner: &Owner,
        wait: &Wait,
        shown: &Shown<'_>,
        threads: &BTreeMap<u64, &Task>,
    ) {
        self.nodes.insert(id, Node { label });
        let to = match owner.process {
            Some(_) => Id::Process(owner.task),
            None => Id::Thread(owner.task),
        };
        self.nodes.entry(to).or_insert_with(|| match threads.get(&owner.task).filter(|_| owner.process.is_none()) {
            Some(task) => Node { label: thread_label(shown, task) },
            None => Node { label: absent_label(owner) },
        });
        let why = match owner.relation {
            Relation::Holds => "held by",
            Relation::Joined => "until it exits",
            Relation::OtherEnd => "other end",
        };
        let what = format!("{} {}", words::harmless(&wait.reason), words::harmless(&wait.object));
        self.edges.insert((id, to), format!("{}\n{why}", line(what.trim_end())));
    }

    fn is_on_circle(&self, from: &Id, to: &Id) -> bool {
        matches!((from, to), (Id::Thread(from), Id::Thread(to)) if self.circles.contains(&(*from, *to)))
    }
}

fn owner_of(task: &Task) -> Option<&Owner> {
    task.wait.as_ref()?.owner.as_deref()
}

/// Name, id, state and place.
fn thread_label(shown: &Shown<'_>, task: &Task) -> String {
    let mut label = format!("{} ({})\n{}", words::harmless(&task.name), task.id, task.state.name());
    if let Some(wait) = &task.wait {
        let _ = write!(label, " {}: {}", words::age(wait.age_ms, wait.exact), words::harmless(&wait.reason));
    }
    if let Some(frame) = frames::innermost_users(shown, &task.stack) {
        let _ = write!(label, "\n{}", line(&frames::label(frame)));
    }
    label.trim_start().to_owned()
}

/// Of somebody whose task is not listed.
fn absent_label(owner: &Owner) -> String {
    let state = owner.state.map_or(String::new(), |state| format!("\n{}", state.name()));
    let kind = if owner.process.is_some() { "process " } else { "" };
    format!("{} ({kind}{}){state}", words::harmless(&owner.name), owner.task).trim_start().to_owned()
}

fn line(text: &str) -> String {
    words::cut_middle(text, WIDTH)
}

/// A string as graphviz wants it; line breaks are its own.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Deadlock, DeadlockedTask, LinkWait},
        report::{Format, fixture},
    };

    fn written(recording: &Recording) -> String {
        let mut out = Vec::new();
        Format::Dot.report().write(recording, &Options::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The first four threads that wait: two for each other, one for the first of them, one for another process.
    fn circle() -> Recording {
        let mut recording = fixture::checkout();
        let waits = |task: &&Task| task.wait.is_some() && task.kind == TaskKind::Thread;
        let ids: Vec<u64> = recording.tasks.iter().filter(waits).map(|task| task.id).take(4).collect();
        for (n, (to, process)) in
            [(ids[1], None), (ids[0], None), (ids[0], None), (77, Some(77))].into_iter().enumerate()
        {
            let task = recording.tasks.iter_mut().find(|task| task.id == ids[n]).unwrap();
            let wait = task.wait.as_mut().unwrap();
            let relation = if process.is_some() { Relation::OtherEnd } else { Relation::Holds };
            let name = "the \"other\"".to_owned();
            wait.owner = Some(Box::new(Owner { task: to, name, relation, process, state: None }));
        }
        let link = LinkWait { reason: "mutex".into(), object: "0x10".into(), age_ms: 1, exact: true };
        let one = |id: u64| DeadlockedTask { task: id, name: "t".into(), wait: link.clone() };
        recording.deadlocks = vec![Deadlock { tasks: vec![one(ids[0]), one(ids[1])], behind: 1 }];
        recording
    }

    #[test]
    fn circles_are_red_and_other_processes_are_nodes_of_their_own() {
        let text = written(&circle());
        assert!(text.starts_with("digraph waits {") && text.trim_end().ends_with('}'), "{text}");
        let edges: Vec<&str> = text.lines().filter(|line| line.contains(" -> ")).collect();
        assert_eq!(edges.len(), 4, "{text}");
        assert_eq!(edges.iter().filter(|edge| edge.contains("color=red")).count(), 2, "{text}");
        assert!(text.contains("process_77") && text.contains("the \\\"other\\\" (process 77)"), "{text}");
        assert!(text.contains("held by") && text.contains("other end"), "{text}");
    }

    #[test]
    fn where_nobody_waits_for_anybody_the_graph_is_empty() {
        assert!(!written(&fixture::idle()).contains(" -> "));
    }

    #[test]
    fn waiters_at_one_place_share_a_node() {
        let mut recording = fixture::checkout();
        let site = recording.sites.iter().position(|site| site.count > 100).unwrap();
        let mut count = 0;
        for task in recording.tasks.iter_mut().filter(|task| task.site == Some(site as u32)) {
            let wait = task.wait.as_mut().unwrap();
            wait.object = "0x10".into();
            wait.owner = Some(Box::new(Owner { task: 1, name: "gone".to_owned(), ..Owner::default() }));
            count += 1;
        }
        let text = written(&recording);
        assert_eq!(text.lines().filter(|line| line.contains(" -> ")).count(), 1, "{text}");
        assert!(text.contains(&format!("{count} threads")), "{text}");
    }
}
