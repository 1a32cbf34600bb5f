//! Who holds what threads wait for, the chain on from there, and deadlocks: those that are there, and none that is not.

use std::collections::{BTreeMap, BTreeSet};

use leakprobe::model::{Recording, Relation, TaskState, Wait, WaitKind};

use crate::support::{Program, Running, Variant, chain, leakprobe, settle, snapshot, task, task_named};

/// What `locks.c` says of its waiters: by kind, each one's thread id and the one that would have to act, 0 for nobody.
struct Locks {
    program: Program,
    said: BTreeMap<String, Vec<(u64, u64)>>,
}

impl Locks {
    fn start(variant: Variant) -> Self {
        let mut program = Program::ready("locks", variant);
        let mut said: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
        for line in program.passed().iter().filter(|line| line.starts_with("wait ")) {
            let kind = line.split_whitespace().find_map(|word| word.strip_prefix("kind=")).unwrap().to_owned();
            let field = |key: &str| Program::field(line, key) as u64;
            said.entry(kind).or_default().push((field("tid"), field("owner")));
        }
        assert_eq!(said.values().map(Vec::len).sum::<usize>(), 17, "{said:?}");
        settle(program.pid());
        Self { program, said }
    }

    fn only(&self, kind: &str) -> (u64, u64) {
        self.said[kind][0]
    }
}

fn wait_of(recording: &Recording, tid: u64) -> &Wait {
    let task = task(recording, tid);
    task.wait.as_ref().unwrap_or_else(|| panic!("it does not wait: {task:?}"))
}

/// The circles that were found, each as the set of its threads.
fn circles(recording: &Recording) -> BTreeSet<BTreeSet<u64>> {
    recording.deadlocks.iter().map(|deadlock| deadlock.tasks.iter().map(|task| task.task).collect()).collect()
}

fn tids(waiters: &[(u64, u64)]) -> BTreeSet<u64> {
    waiters.iter().map(|(tid, _)| *tid).collect()
}

/// Holders, which are read from memory, do not depend on how the program is linked; names do.
#[test]
fn the_holder_of_each_kind_of_lock_is_named() {
    for variant in [Variant::Pie, Variant::Static] {
        let locks = Locks::start(variant);
        let recording = snapshot(locks.program.pid());
        for (kind, reason) in [
            ("normal", "mutex"),
            ("recursive", "mutex (recursive)"),
            ("errorcheck", "mutex (error-checking)"),
            ("robust", "mutex (robust)"),
            ("pi", "mutex (priority inheritance)"),
            ("rwlock_read", "rwlock (read)"),
            ("rwlock_write", "rwlock (write)"),
        ] {
            let (tid, holder) = locks.only(kind);
            let wait = wait_of(&recording, tid);
            assert_eq!((wait.kind, &*wait.reason), (WaitKind::Futex, reason), "{kind} {variant:?}");
            let owner = wait.owner.as_ref().unwrap_or_else(|| panic!("nobody holds {kind}: {wait:?}"));
            assert_eq!((owner.task, owner.name.as_str()), (holder, "holder"), "{kind}");
            assert_eq!((owner.relation, owner.process), (Relation::Holds, None), "{kind}");
            // The holder sleeps, and that is where the chain ends.
            assert_eq!(wait.chain.len(), 1, "{kind}: {:?}", wait.chain);
            assert_eq!(&*wait.chain[0].wait.as_ref().unwrap().reason, "clock_nanosleep", "{kind}");
        }
        // Who reads is not kept.
        let readers = wait_of(&recording, locks.only("rwlock_readers").0);
        assert_eq!(readers.owner, None);
        assert!(readers.owner_note.as_ref().is_some_and(|note| note.contains("2 readers")), "{readers:?}");
    }
}

#[test]
fn deadlocks_are_found_whole_each_once_and_told_first() {
    let locks = Locks::start(Variant::Pie);
    let recording = snapshot(locks.program.pid());
    // Of the two circles of two, both are "abba"; of the three, one.
    let expected: BTreeSet<BTreeSet<u64>> = ["abba", "three", "self"].map(|kind| tids(&locks.said[kind])).into();
    assert_eq!(circles(&recording), expected);
    assert_eq!(recording.deadlocks.len(), 3, "each once");
    for deadlock in &recording.deadlocks {
        // Each is followed by the one that it waits for.
        for (n, one) in deadlock.tasks.iter().enumerate() {
            let next = &deadlock.tasks[(n + 1) % deadlock.tasks.len()];
            let owner = wait_of(&recording, one.task).owner.clone().unwrap();
            assert_eq!(owner.task, next.task);
        }
    }
    let pid = locks.program.pid().to_string();
    let text = leakprobe(["snapshot", "-m", "0s", "-p", &pid]);
    let text = &text.succeeded().stdout;
    let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("no '{words}' in {text}"));
    assert!(at("eadlock") < at("threads  "), "{text}");
    assert!(text.contains("waits_for_itself") && text.contains("circular"), "{text}");
}

#[test]
fn a_holder_that_has_exited_and_a_thread_that_is_joined_are_told() {
    let locks = Locks::start(Variant::Pie);
    let recording = snapshot(locks.program.pid());
    let (tid, dead) = locks.only("orphan");
    let wait = wait_of(&recording, tid);
    let owner = wait.owner.as_ref().unwrap_or_else(|| panic!("{wait:?}"));
    assert_eq!((owner.task, owner.state), (dead, Some(TaskState::Exited)), "{wait:?}");

    // first: the second's lock; second: the third's end; third: a message.
    let (first, second) = locks.only("chain_first");
    let third = locks.only("chain_join").1;
    let wait = wait_of(&recording, first);
    let links: Vec<u64> = wait.chain.iter().map(|link| link.owner.task).collect();
    assert_eq!(links, [second, third], "{:?}", wait.chain);
    assert_eq!(wait.chain[1].owner.relation, Relation::Joined);
    assert_eq!(&*wait.chain[1].wait.as_ref().unwrap().reason, "recvfrom");
    let join = wait_of(&recording, second);
    assert_eq!((&*join.reason, join.owner.as_ref().map(|owner| owner.task)), ("join", Some(third)));
    chain(&recording, &task_named(&recording, "chain-third").stack, &["chain_third"]);
}

#[test]
fn graphviz_draws_who_waits_for_whom() {
    if crate::support::in_guest() {
        return; // there are no programs but ours
    }
    let locks = Locks::start(Variant::Pie);
    let pid = locks.program.pid().to_string();
    let ended = leakprobe(["snapshot", "-q", "-m", "0s", "-p", &pid, "-o", "waits.dot"]);
    let file = ended.succeeded().directory.path().join("waits.dot");
    let drawn = std::process::Command::new("dot").arg("-Tplain").arg(&file).output();
    let drawn = drawn.unwrap_or_else(|error| panic!("cannot run dot, which draws graphs: {error}"));
    assert!(drawn.status.success() && drawn.stderr.is_empty(), "{drawn:?}");
    let text = String::from_utf8(drawn.stdout).unwrap();
    let edges = text.lines().filter(|line| line.starts_with("edge ")).count();
    // All that wait for somebody who is known: but the one that waits for readers.
    assert!(edges >= 14 && text.contains("holder") && text.contains("red"), "{text}");
}

/// As graphviz does, but by ourselves: with every waiter, and with what is deadlocked in red.
#[test]
fn leakprobe_draws_who_waits_for_whom() {
    let locks = Locks::start(Variant::Pie);
    let pid = locks.program.pid().to_string();
    let ended =
        leakprobe(["snapshot", "-q", "-m", "0s", "-p", &pid, "-o", "a.waits.svg", "-o", "a.html", "-o", "a.json"]);
    let file = |name: &str| ended.succeeded().directory.path().join(name);
    let svg = std::fs::read_to_string(file("a.waits.svg")).unwrap();
    let document = roxmltree::Document::parse(&svg).unwrap();
    let drawn = |id: u64| document.descendants().find(|node| node.attribute("id") == Some(&format!("thread_{id}")));
    let is_red = |id: u64| {
        let node = drawn(id).unwrap_or_else(|| panic!("{id} is not drawn: {svg}"));
        node.children().any(|child| child.tag_name().name() == "rect" && child.attribute("stroke") == Some("#cc2222"))
    };
    let title =
        |id: u64| drawn(id).unwrap().children().find(|node| node.tag_name().name() == "title").unwrap().text().unwrap();
    for (tid, next) in &locks.said["abba"] {
        assert!(is_red(*tid) && is_red(*next), "{svg}");
        assert!(title(*tid).contains("mutex") && title(*tid).contains("circular"), "{}", title(*tid));
    }
    let recording = leakprobe::report::json::read(&file("a.json")).unwrap();
    let circular: usize = recording.deadlocks.iter().map(|deadlock| deadlock.tasks.len()).sum();
    assert_eq!(svg.matches("url(#arrow-red)").count(), circular);
    let page = std::fs::read_to_string(file("a.html")).unwrap();
    assert!(
        page.contains("Deadlock: 2 threads wait for each other")
            && page.contains("<iframe title=\"who waits for whom\"")
    );
    let holder = locks.only("normal").1;
    assert!(page.contains(&format!(">held by holder ({holder}), which waits ")), "{page}");
    assert!(!is_red(holder) && title(holder).contains("clock_nanosleep"), "{}", title(holder));
}

#[test]
fn attach_finds_the_same_deadlocks_as_one_look() {
    let locks = Locks::start(Variant::Pie);
    let pid = locks.program.pid().to_string();
    let mut leakprobe = Running::record(&["attach", "-p", &pid, "-m", "0s", "-i", "20ms"]);
    leakprobe.attached();
    let recording = leakprobe.stop();
    let expected: BTreeSet<BTreeSet<u64>> = ["abba", "three", "self"].map(|kind| tids(&locks.said[kind])).into();
    assert_eq!(circles(&recording), expected);
}

#[test]
fn threads_that_fight_for_locks_are_never_called_deadlocked() {
    let program = Program::ready("contend", Variant::Pie);
    let threads: BTreeSet<u64> = crate::support::tids(program.pid()).into_iter().collect();
    // Each look takes seconds on an emulated machine.
    let looks = if crate::support::in_guest() { 3 } else { 20 };
    for _ in 0..looks {
        let recording = snapshot(program.pid());
        assert!(recording.deadlocks.is_empty(), "{:?}", recording.deadlocks);
        let waits = recording.tasks.iter().filter_map(|task| task.wait.as_ref());
        for wait in waits.filter(|wait| wait.kind == WaitKind::Futex) {
            let owner = wait.owner.as_ref();
            assert!(owner.is_none_or(|owner| threads.contains(&owner.task)), "{wait:?}");
            assert!(owner.is_none_or(|owner| owner.state != Some(TaskState::Exited)), "{wait:?}");
        }
    }
}

/// What each thread of such a program says that it waits in, and its name in the report; the names are those of the language's own
/// primitives, which the frames above the futex tell.
fn named(program: &str, expected: &[(&str, &str)]) {
    let mut program = Program::ready(program, Variant::Pie);
    let lines = program.passed();
    settle(program.pid());
    let recording = snapshot(program.pid());
    for (kind, reason) in expected {
        let said = |line: &&String| line.contains(&format!("kind={kind} "));
        let line = lines.iter().find(said).unwrap_or_else(|| panic!("nobody waits in {kind}: {lines:?}"));
        let wait = wait_of(&recording, Program::field(line, "tid") as u64);
        assert_eq!((wait.kind, &*wait.reason), (WaitKind::Futex, *reason), "{kind}");
    }
}

#[test]
fn the_primitives_of_cpp_are_named() {
    named(
        "futexes_cpp",
        &[
            ("mutex", "mutex"),
            ("recursive", "mutex (recursive)"),
            ("timed_mutex", "mutex"),
            ("shared_read", "rwlock (read)"),
            ("shared_write", "rwlock (write)"),
            ("cond", "condition variable"),
            ("cond_timed", "condition variable"),
            ("cond_any", "condition variable"),
            ("future", "future"),
            ("semaphore", "semaphore"),
            ("latch", "latch"),
            ("barrier", "barrier"),
            ("atomic", "atomic wait"),
            ("join", "join"),
            ("once", "once"),
        ],
    );
}

#[test]
fn the_primitives_of_rust_are_named() {
    named(
        "futexes_rust",
        &[
            ("mutex", "mutex"),
            ("rwlock_read", "rwlock (read)"),
            ("rwlock_write", "rwlock (write)"),
            ("condvar", "condition variable"),
            ("condvar_timed", "condition variable"),
            ("once", "once"),
            ("oncelock", "once"),
            ("park", "thread park"),
            ("park_timed", "thread park"),
            ("join", "join"),
            ("receive", "thread park"),
            ("send", "thread park"),
            // It is built on one.
            ("barrier", "condition variable"),
        ],
    );
}

#[test]
fn the_primitives_of_parking_lot_are_named() {
    named(
        "futexes_parking_lot",
        &[
            ("mutex", "mutex"),
            ("mutex_timed", "mutex"),
            ("fair_mutex", "mutex"),
            ("reentrant_mutex", "mutex"),
            ("rwlock_read", "rwlock (read)"),
            ("rwlock_upgradable", "rwlock (read)"),
            ("rwlock_write", "rwlock (write)"),
            // It has the lock already, and waits for those that read.
            ("rwlock_readers", "rwlock (write)"),
            ("condvar", "condition variable"),
            ("condvar_timed", "condition variable"),
            ("once", "once"),
        ],
    );
}
