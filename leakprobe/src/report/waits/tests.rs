use super::*;
use crate::{
    model::{Deadlock, DeadlockedTask, LinkWait, Recording, StackEnd, WaitKind},
    report::{Options, fixture},
};

/// Sites of `checkout` whose stacks the threads of a graph have, by turns.
const SITES: usize = 4;

/// A recording in which the threads wait for each other like that: each waiter, whom it waits for, and what for. Threads that
/// only are waited for sleep.
pub(in crate::report) fn recording(edges: &[(u64, u64, &str)]) -> Recording {
    let mut recording = fixture::checkout();
    let stacks: Vec<Vec<u32>> = recording.sites.iter().take(SITES).map(|site| site.stack.clone()).collect();
    let model = recording.tasks.iter().find(|task| task.wait.is_some()).unwrap().clone();
    let ids: BTreeSet<u64> = edges.iter().flat_map(|&(from, to, _)| [from, to]).collect();
    recording.tasks = ids
        .iter()
        .map(|&id| {
            let edge = edges.iter().find(|&&(from, ..)| from == id);
            let object = edge.map_or(String::new(), |(_, to, _)| format!("0x7f2a4c{:06x}", to * 16));
            let reason = edge.map_or("clock_nanosleep", |&(_, _, reason)| reason);
            let kind = if edge.is_some() { WaitKind::Futex } else { WaitKind::Sleep };
            let relation = if reason == "join" { Relation::Joined } else { Relation::Holds };
            let wait = Wait { reason: reason.into(), object: object.into(), ..fixture::wait(kind, id * 700) };
            let name = ["accept", "worker", "writer", "flusher"][id as usize % 4];
            let owner =
                edge.map(|&(_, task, _)| Box::new(Owner { task, relation, name: "t".into(), ..Owner::default() }));
            Task {
                id,
                name: name.into(),
                site: None,
                stack: stacks[id as usize % SITES].clone().into(),
                stack_end: StackEnd::Complete,
                wait: Some(Wait { owner, ..wait }),
                ..model.clone()
            }
        })
        .collect();
    recording.sites.clear();
    recording
}

/// The same with a deadlock of these threads, each of which waits for the next.
pub(in crate::report) fn deadlocked(circle: &[u64], edges: &[(u64, u64, &str)]) -> Recording {
    let on_circle = circle.iter().zip(circle.iter().cycle().skip(1)).map(|(&from, &to)| (from, to, "mutex"));
    let edges: Vec<(u64, u64, &str)> = on_circle.chain(edges.iter().copied()).collect();
    let mut recording = recording(&edges);
    let wait = LinkWait { reason: "mutex".into(), object: "0x7f2a4c000010".into(), age_ms: 700, exact: true };
    let one = |&id: &u64| DeadlockedTask { task: id, name: "worker".into(), wait: wait.clone() };
    let behind = (edges.len() - circle.len()) as u64;
    recording.deadlocks = vec![Deadlock { tasks: circle.iter().map(one).collect(), behind, stuck: Vec::new() }];
    recording
}

/// Forty waiters for one lock, and the one that holds it.
pub(in crate::report) fn crowd() -> Recording {
    let edges: Vec<(u64, u64, &str)> = (10..50).map(|id| (id, 1, "mutex")).collect();
    let mut recording = recording(&edges);
    let stack = recording.tasks[1].stack.clone();
    recording.tasks.iter_mut().skip(1).for_each(|task| task.stack = stack.clone());
    recording
}

/// Two threads that wait for each other, some behind them, a holder that runs, one that has exited, and another process.
pub(in crate::report) fn mixed() -> Recording {
    let waits = [
        (3, 1, "mutex"),
        (4, 3, "join"),
        (5, 2, "rwlock (write)"),
        (6, 2, "rwlock (read)"),
        (8, 7, "mutex"),
        (9, 7, "mutex"),
        (10, 11, "mutex"),
        (12, 13, "mutex"),
        (14, 15, "recvfrom"),
        (16, 16, "mutex"),
    ];
    let mut recording = deadlocked(&[1, 2], &waits);
    let task = |recording: &mut Recording, id: u64, change: &dyn Fn(&mut Task)| {
        change(recording.tasks.iter_mut().find(|task| task.id == id).unwrap());
    };
    task(&mut recording, 7, &|task| (task.state, task.wait) = (TaskState::Running, None));
    task(&mut recording, 7, &|task| (task.stack, task.stack_end) = (std::sync::Arc::default(), StackEnd::Running));
    let owner = |recording: &mut Recording, id: u64, change: &dyn Fn(&mut Owner)| {
        task(recording, id, &|task| change(task.wait.as_mut().unwrap().owner.as_mut().unwrap()));
    };
    owner(&mut recording, 10, &|owner| owner.state = Some(TaskState::Exited));
    owner(&mut recording, 12, &|owner| owner.name = "the \"other\" <&".into());
    owner(&mut recording, 14, &|owner| (owner.process, owner.task) = (Some(77), 77));
    owner(&mut recording, 14, &|owner| (owner.relation, owner.name) = (Relation::OtherEnd, "postgres".into()));
    recording.tasks.retain(|task| ![11, 13, 15].contains(&task.id));
    recording
}

fn graph(recording: &Recording) -> Graph<'_> {
    Graph::of(&Shown::of(recording, &Options::default()), 1_000)
}

/// Each edge as who waits, for whom, and whether it is on a circle.
fn edges(graph: &Graph<'_>) -> BTreeSet<(String, String, bool)> {
    let name = |place: usize| graph.nodes[place].id.name();
    graph.edges.iter().map(|edge| (name(edge.from), name(edge.to), edge.on_circle)).collect()
}

#[test]
fn every_waiter_has_an_edge_and_circles_are_known() {
    let recording = mixed();
    let graph = graph(&recording);
    let expected = [
        ("thread_1", "thread_2", true),
        ("thread_2", "thread_1", true),
        ("thread_3", "thread_1", false),
        ("thread_4", "thread_3", false),
        ("thread_5", "thread_2", false),
        ("thread_6", "thread_2", false),
        ("waiters_8", "thread_7", false),
        ("thread_10", "thread_11", false),
        ("thread_12", "thread_13", false),
        ("thread_14", "process_77", false),
        ("thread_16", "thread_16", false),
    ];
    assert_eq!(edges(&graph), expected.map(|(from, to, circle)| (from.into(), to.into(), circle)).into());
    assert_eq!((graph.waiting(), graph.awaited(), graph.left_out), (12, 4, 0));
    let node = |name: &str| graph.nodes.iter().find(|node| node.id.name() == name).unwrap();
    let doing = ["thread_1", "thread_7", "thread_11", "process_77", "thread_13"].map(|name| node(name).doing);
    assert_eq!(doing, Doing::ALL);
    assert_eq!(node("process_77").lines, ["postgres (process 77)"]);
    assert_eq!(node("thread_2").lines[..3], ["writer (2)", "parked 1.4 s: mutex", "on 0x7f2a4c000010"]);
    assert!(node("thread_1").on_circle && !node("thread_3").on_circle);
    let details = node("thread_2").details(&Shown::of(&recording, &Options::default()));
    assert!(details.iter().any(|line| line == "epoll_wait"), "{details:?}");
}

#[test]
fn waiters_at_one_place_share_a_node() {
    let recording = crowd();
    let graph = graph(&recording);
    assert_eq!((graph.nodes.len(), graph.edges.len(), graph.waiting()), (2, 1, 40));
    let several = graph.nodes.iter().find(|node| node.count == 40).unwrap();
    assert_eq!(several.lines[0], "40 threads");
    assert_eq!(several.details(&Shown::of(&recording, &Options::default()))[MAX_NAMES], "and 32 more");
}

#[test]
fn a_chain_goes_on_through_threads_that_were_not_asked_for_and_deadlocks_are_always_there() {
    let recording = deadlocked(&[1, 2], &[(3, 4, "mutex"), (4, 5, "mutex")]);
    // Of the stacks that they have by turns.
    let include = vec!["^metrics_flush$".parse().unwrap()];
    let shown = Shown::of(&recording, &Options { include, ..Options::default() });
    assert_eq!(shown.tasks.iter().map(|task| task.id).collect::<Vec<_>>(), [3]);
    let names: Vec<String> = Graph::of(&shown, 100).nodes.iter().map(|node| node.id.name()).collect();
    assert_eq!(names, ["thread_1", "thread_2", "thread_3", "thread_4", "thread_5"]);
}

#[test]
fn what_is_too_much_is_counted_and_circles_come_first() {
    let edges: Vec<(u64, u64, &str)> = (100..200).map(|id| (id, id + 1_000, "mutex")).collect();
    let recording = deadlocked(&[1, 2], &edges);
    for most in 0..8 {
        let graph = Graph::of(&Shown::of(&recording, &Options::default()), most);
        assert!(graph.nodes.len() <= most);
        assert_eq!(graph.waiting() + graph.left_out, 102);
        assert_eq!(graph.edges.iter().filter(|edge| edge.on_circle).count(), if most < 2 { 0 } else { 2 });
    }
}

#[test]
fn where_nobody_waits_for_anybody_the_graph_is_empty() {
    let checkout = fixture::checkout();
    assert!(graph(&checkout).nodes.is_empty());
}
