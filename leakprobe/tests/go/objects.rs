//! What the goroutines of a program wait on: channels with their state, locks by their addresses and with the places in their
//! queues, connections by their ends.

use std::{collections::BTreeMap, process::Command};

use leakprobe::model::{Channel, QueuePlace, Recording, Task, TaskKind};

use crate::{
    support::{Program, attach, functions, snapshot},
    target::{built, ready, versions},
};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Time-outs are counted from the collector's note of a wait, which it makes in the next collection: so late at the most.
const NOTED_LATE_MS: u64 = 60_000;
/// The note is the beginning of that collection, which may be before that of the wait: so early at the most.
const NOTED_EARLY_MS: u64 = 5_000;

/// The tasks whose innermost function of package kinds is this one.
fn all<'a>(recording: &'a Recording, function: &str) -> Vec<&'a Task> {
    let is_there = |task: &&Task| {
        let functions = functions(recording, &task.stack);
        let own = functions.iter().find_map(|label| label.strip_prefix("leakprobe.test/programs/kinds."));
        task.kind == TaskKind::Goroutine && own == Some(function)
    };
    recording.tasks.iter().filter(is_there).collect()
}

fn one<'a>(recording: &'a Recording, function: &str) -> &'a Task {
    match all(recording, function)[..] {
        [task] => task,
        ref others => {
            let (losses, gaps) = (&recording.losses, &recording.coverage.gaps);
            panic!("{} goroutines are in {function}; lost: {losses:?}, {gaps:?}", others.len())
        }
    }
}

fn object(task: &Task) -> &str {
    &task.wait.as_ref().unwrap().object
}

fn channels(task: &Task) -> &[Channel] {
    &task.goroutine.as_ref().unwrap().channels
}

/// Its only channel.
fn channel(task: &Task) -> Channel {
    match channels(task) {
        [channel] => *channel,
        others => panic!("{others:?} in {task:?}"),
    }
}

fn is_forever(task: &Task) -> bool {
    task.goroutine.as_ref().unwrap().forever
}

/// A channel without its address: length, capacity, receivers, senders.
fn numbers(channel: Channel) -> [u64; 4] {
    [channel.len, channel.cap, channel.receivers, channel.senders]
}

/// The address of a lock or the like, which is one of this type.
fn address(task: &Task, name: &str) -> u64 {
    let object = object(task);
    let address = object.strip_prefix(name).and_then(|rest| rest.strip_prefix(" 0x"));
    let address = address.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    address.unwrap_or_else(|| panic!("{object:?} is no {name}"))
}

/// The recordings of a program with a goroutine in every kind of wait.
fn each(check: impl Fn(&str, &Program, &Recording)) {
    for version in versions() {
        let program = ready(&format!("{version}/default/waits"), &[]);
        check(version, &program, &snapshot(program.pid()));
    }
}

fn minor(version: &str) -> u32 {
    version.strip_prefix("1.").unwrap().parse().unwrap()
}

#[test]
fn channels_have_their_state() {
    each(|version, _, recording| {
        let of = |function| channel(one(recording, function));
        assert_eq!(numbers(of("receiveOk")), [0, 0, 1, 0], "{version}");
        assert_eq!(numbers(of("startRangeOverChannel.func1")), [0, 16, 1, 0], "{version}");
        let mut sends: Vec<Channel> = all(recording, "send").into_iter().map(channel).collect();
        assert!(sends.iter().all(|channel| channel.send == Some(true) && !channel.closed), "{version}: {sends:?}");
        sends.sort_by_key(|channel| channel.cap);
        assert_eq!(
            sends.iter().map(|&one| numbers(one)).collect::<Vec<_>>(),
            [[0, 0, 0, 1], [3, 3, 0, 2], [3, 3, 0, 2]]
        );
        assert_ne!(sends[0].address, sends[1].address);
        assert_eq!(sends[1].address, sends[2].address);
        // All that wait on kinds.Never, and nobody else: a receiver each.
        let never = of("labelled");
        let on_never = recording.tasks.iter().filter(|task| {
            let channels = task.goroutine.as_ref().map(|goroutine| &goroutine.channels);
            channels.is_some_and(|channels| channels.iter().any(|channel| channel.address == never.address))
        });
        assert_eq!(numbers(never), [0, 0, on_never.count() as u64, 0], "{version}");
        assert!(never.receivers > 15, "{version}: {never:?}");
    });
}

#[test]
fn what_nobody_can_end_is_told() {
    each(|version, _, recording| {
        for (function, send) in [("receiveNil", false), ("sendNil", true)] {
            let task = one(recording, function);
            let channel = channel(task);
            assert_eq!((channel.address, channel.send, is_forever(task)), (0, Some(send), true), "{version}");
        }
        let nothing = one(recording, "selectNone");
        assert!(is_forever(nothing) && channels(nothing).is_empty(), "{version}: {nothing:?}");
        assert!(!is_forever(one(recording, "selectSeveral")));
    });
}

#[test]
fn a_select_has_all_its_channels() {
    each(|version, _, recording| {
        let mut cases = channels(one(recording, "selectSeveral")).to_vec();
        cases.sort_by_key(|case| (case.cap, case.send));
        // Not the nil channel, on which nothing can happen.
        let found: Vec<_> = cases.iter().map(|&case| (numbers(case), case.send)).collect();
        let expected = [([0, 0, 1, 1], Some(false)), ([0, 0, 1, 1], Some(true)), ([0, 2, 1, 0], Some(false))];
        assert_eq!(found, expected, "{version}");
        assert_eq!(cases[0].address, cases[1].address, "{version}");
        assert_eq!(numbers(channel(one(recording, "selectOne"))), [0, 0, 1, 0], "{version}");
    });
}

#[test]
fn what_ends_by_itself_is_told() {
    each(|version, _, recording| {
        let left = |function| one(recording, function).wait.as_ref().unwrap().timeout_ms;
        let a_day = DAY_MS - NOTED_LATE_MS..=DAY_MS + NOTED_EARLY_MS;
        let is_a_day = |left: Option<u64>| left.is_some_and(|left| a_day.contains(&left));
        assert!(is_a_day(left("sleep")), "{version}: {:?}", left("sleep"));
        for function in ["ticker", "timer", "selectAfter"] {
            assert!(is_a_day(left(function)), "{version}: {:?}", one(recording, function));
            assert!(channels(one(recording, function)).iter().any(|channel| channel.timer), "{version}: {function}");
        }
        // One of two has a deadline.
        let reads = all(recording, "readFrom").into_iter().map(|task| task.wait.as_ref().unwrap().timeout_ms);
        assert_eq!(reads.filter(|&left| is_a_day(left)).count(), 1, "{version}");
    });
}

/// They are fields of one struct: their addresses tell whether they are the right ones.
#[test]
fn locks_are_where_the_program_has_them() {
    each(|version, program, recording| {
        let of = |function, name| address(one(recording, function), name);
        let held = of("(*locks).lock", "sync.Mutex");
        assert_eq!(of("(*locks).writeLock", "sync.RWMutex"), held + 8, "{version}");
        assert_eq!(of("(*locks).readLock", "sync.RWMutex"), held + 32, "{version}");
        assert_eq!(of("(*locks).waitGroup", "sync.WaitGroup"), held + 56, "{version}");
        // Of a sync.Once, the lock, behind what says that it is done.
        assert_eq!(of("(*locks).onceRunning", "sync.Mutex"), held + 84, "{version}");
        let signal = leakprobe::target::ProcessMemory::new(program.pid()).word(held + 72);
        assert_eq!(Some(of("(*locks).condition", "sync.Cond")), signal, "{version}");
        assert_ne!(of("(*locks).lockTwice", "sync.Mutex"), held, "{version}");
        assert_ne!(of("startGroup.func1", "sync.WaitGroup"), held + 56, "{version}");
    });
}

/// Without symbols, at any address, with C.
#[test]
fn locks_are_found_in_every_build() {
    for version in ["1.19", "1.21", "1.24", "1.26", "1.27"] {
        for build in ["stripped", "pie", "cgo-pie"] {
            let program = ready(&format!("{version}/{build}/waits"), &[]);
            let recording = snapshot(program.pid());
            let of = |function, name| {
                let task = one(&recording, function);
                let alone = Some(QueuePlace { place: 1, waiters: 1 });
                assert_eq!(task.wait.as_ref().unwrap().queue, alone, "{version}/{build}: {function}");
                address(task, name)
            };
            let held = of("(*locks).lock", "sync.Mutex");
            assert_eq!(of("(*locks).writeLock", "sync.RWMutex"), held + 8, "{version}/{build}");
            assert_eq!(of("(*locks).readLock", "sync.RWMutex"), held + 32, "{version}/{build}");
            assert_eq!(of("(*locks).waitGroup", "sync.WaitGroup"), held + 56, "{version}/{build}");
        }
    }
}

/// A program with queues of known order, and the addresses of its locks: that of one queue, the first of many, and of a pair.
fn queues(version: &str) -> (Program, [u64; 4]) {
    let mut program = Program::start(&mut Command::new(built(&format!("{version}/default/queues"))));
    let addresses = program.expect("locks");
    let addresses: Vec<u64> = addresses
        .split_whitespace()
        .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap())
        .collect();
    program.expect("ready");
    (program, addresses.try_into().unwrap())
}

/// The goroutines that have this function of package main on their stacks.
fn in_main<'a>(recording: &'a Recording, function: &str) -> Vec<&'a Task> {
    let is_there = |task: &&Task| functions(recording, &task.stack).iter().any(|name| name == function);
    recording.tasks.iter().filter(|task| task.kind == TaskKind::Goroutine).filter(is_there).collect()
}

fn place(task: &Task) -> Option<QueuePlace> {
    task.wait.as_ref().unwrap().queue
}

#[test]
fn queues_are_in_their_order() {
    for version in ["1.19", "1.21", "1.24", "1.27"] {
        let (mut program, [queue, many, ..]) = queues(version);
        let order = |program: &mut Program| -> Vec<u64> {
            program.ask("order", "order").split_whitespace().map(|id| id.parse().unwrap()).collect()
        };
        let check = |recording: &Recording, order: &[u64]| {
            let mut found: Vec<(Option<QueuePlace>, u64)> = in_main(recording, "main.waiter")
                .into_iter()
                .filter(|task| object(task) == format!("sync.Mutex {queue:#x}"))
                .map(|task| (place(task), task.id))
                .collect();
            found.sort_by_key(|(place, _)| place.map(|place| place.place));
            let waiters = order.len() as u32;
            let expected = (1..).zip(order).map(|(place, &id)| (Some(QueuePlace { place, waiters }), id));
            assert_eq!(found, expected.collect::<Vec<_>>(), "{version}");
        };
        let before = order(&mut program);
        assert_eq!(before.len(), 8);
        let running = attach(&program, &["-d", "60s"]);
        check(&snapshot(program.pid()), &before);
        // The others have not run, but each has another place.
        program.ask("wake", "woken");
        check(&running.stop(), &before[1..]);
        // Several locks share one root of the table.
        let recording = snapshot(program.pid());
        let mut each: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for task in in_main(&recording, "main.eachOf") {
            let place = place(task).filter(|place| place.waiters == 2).unwrap_or_else(|| panic!("{version}: {task:?}"));
            each.entry(address(task, "sync.Mutex")).or_default().push(place.place);
        }
        each.values_mut().for_each(|places| places.sort_unstable());
        let expected = (0..600).map(|n| (many + 8 * n, vec![1, 2]));
        assert!(each.into_iter().eq(expected), "{version}");
    }
}

/// While goroutines go from lock to lock, no address is ever that of another lock than the one that the stack shows.
#[test]
fn locks_of_the_restless_are_never_wrong() {
    for version in ["1.19", "1.21", "1.24", "1.27"] {
        let (mut program, [.., first, second]) = queues(version);
        program.ask("storm", "stormy");
        let mut waiting = 0;
        for _ in 0..5 {
            let recording = snapshot(program.pid());
            for (function, lock) in [("main.first", first), ("main.second", second)] {
                let waits = |task: &&Task| task.wait.as_ref().is_some_and(|wait| wait.object.starts_with("sync."));
                for task in in_main(&recording, function).into_iter().filter(waits) {
                    assert_eq!(address(task, "sync.Mutex"), lock, "{version}: {function}");
                    waiting += 1;
                }
            }
        }
        assert!(waiting > 0, "{version}");
    }
}

#[test]
fn connections_have_their_ends() {
    each(|version, _, recording| {
        let [accepts, reads] =
            ["accept", "readFrom"].map(|function| all(recording, function).into_iter().map(object).collect::<Vec<_>>());
        let count = |objects: &[&str], word: &str| objects.iter().filter(|object| object.contains(word)).count();
        assert_eq!((count(&accepts, "(tcp 127.0.0.1:"), count(&accepts, "(unix /")), (1, 1), "{version}: {accepts:?}");
        assert_eq!((count(&reads, " → 127.0.0.1:"), count(&reads, "(unix")), (2, 1), "{version}: {reads:?}");
        assert!(object(one(recording, "writeTo")).contains(" → 127.0.0.1:"), "{version}");
        assert!(object(one(recording, "receiveDatagram")).contains("(udp 127.0.0.1:"), "{version}");
        assert!(object(one(recording, "readPipe")).contains("(pipe:["), "{version}");
    });
}

#[test]
fn bubbles_are_told() {
    each(|version, _, recording| {
        let in_bubble = |task: &Task| task.goroutine.as_ref().is_some_and(|goroutine| goroutine.bubble == Some(1));
        let count = recording.tasks.iter().filter(|task| in_bubble(task)).count();
        if minor(version) < 25 {
            assert_eq!(count, 0, "{version}");
            return;
        }
        // synctest.Test, its function, the two that this began; Go 1.25 has one of its own.
        assert!((4..=5).contains(&count), "{version}: {count}");
        for (function, reason) in [("bubbleSleep", "sleep (durable)"), ("bubbleReceive", "chan receive (durable)")] {
            let task = one(recording, function);
            let wait = task.wait.as_ref().unwrap();
            assert_eq!((in_bubble(task), &*wait.reason), (true, reason), "{version}");
            // The clock of a bubble is none of ours.
            assert_eq!(wait.timeout_ms, None, "{version}");
        }
    });
}
