//! Timers: which of them end which waits, those for which no goroutine waits, and the count of goroutines that come and go.

use std::process::Command;

use leakprobe::model::{Gap, Loss, Recording, Task, TaskKind, TimerUse, Wait};

use crate::{
    support::{Program, attach, functions, snapshot},
    target::{built, ready, versions},
};

/// Versions that the program is built by; each side of where timers changed. And the newer one with timers of the old kind.
const SOME: [&str; 4] = ["1.19", "1.21", "1.24", "1.27"];
const HOUR_MS: u64 = 60 * 60 * 1000;

/// Looks at the program of each version; `is_old`: whether the heaps hold timers of channels on which no goroutine waits.
fn each(check: impl Fn(&str, &Recording, bool)) {
    for version in SOME {
        let program = ready(&format!("{version}/default/timers"), &[]);
        check(version, &snapshot(program.pid()), ["1.19", "1.21"].contains(&version));
    }
    let mut command = Command::new(built("1.24/default/timers"));
    let mut program = Program::start(command.env("GODEBUG", "asynctimerchan=1"));
    program.expect("ready");
    check("1.24, old timers", &snapshot(program.pid()), true);
}

/// The waits of those that wait in a function of the program.
fn waits<'a>(recording: &'a Recording, function: &str) -> Vec<(&'a Task, &'a Wait)> {
    let is_there = |task: &&Task| {
        let own = functions(recording, &task.stack).into_iter().find(|function| function.starts_with("main."));
        task.kind == TaskKind::Goroutine && own.as_deref() == Some(function)
    };
    recording.tasks.iter().filter(is_there).map(|task| (task, task.wait.as_ref().unwrap())).collect()
}

#[test]
fn what_ends_a_wait_is_known() {
    each(|version, recording, is_old| {
        let of = |function: &str, count: usize| {
            let found = waits(recording, function);
            assert_eq!(found.len(), count, "{version}: {function}");
            found
        };
        let is_timers = |task: &Task| task.goroutine.iter().flat_map(|one| one.channels.iter()).any(|one| one.timer);
        let due = |wait: &Wait, hours: u64| {
            let due_ms = wait.due_ms.unwrap_or_else(|| panic!("{version}: {wait:?}"));
            assert!(due_ms <= hours * HOUR_MS && due_ms > (hours - 1) * HOUR_MS, "{version}: {wait:?}");
        };
        for (task, wait) in of("main.ticker", 5) {
            due(wait, 1);
            assert_eq!((wait.period_ms, is_timers(task)), (Some(HOUR_MS), true), "{version}");
        }
        let mut periods: Vec<u64> = Vec::new();
        for (_, wait) in waits(recording, "main.fastTicker") {
            periods.extend(wait.period_ms.filter(|_| wait.due_ms.is_some_and(|due_ms| due_ms <= 39)));
        }
        periods.sort_unstable();
        // One may just have been woken.
        assert!(periods.len() >= 8 && periods.iter().all(|ms| (30..40).contains(ms)), "{version}: {periods:?}");
        periods.dedup();
        assert!(periods.len() >= 8, "{version}: each its own: {periods:?}");
        for (function, count, hours) in [("main.oneShot", 3, 2), ("main.sleeper", 3, 3), ("main.reader", 3, 4)] {
            for (task, wait) in of(function, count) {
                due(wait, hours);
                assert_eq!((wait.period_ms, is_timers(task)), (None, function == "main.oneShot"), "{version}");
            }
        }
        for (function, count, hours) in
            [("main.contextDone", 4, 5), ("main.contextOfTree", 40, 5), ("main.contextOfBranch", 1, 4)]
        {
            for (task, wait) in of(function, count) {
                due(wait, hours);
                assert_eq!((wait.period_ms, is_timers(task)), (None, false), "{version}: {function}");
            }
        }
        for (_, wait) in of("main.contextWithoutDeadline", 1) {
            assert_eq!(wait.due_ms, None, "{version}");
        }
        for function in ["main.stoppedTimer", "main.firedTimer", "main.plainTime"] {
            for (task, wait) in of(function, 2) {
                assert_eq!((wait.due_ms, wait.period_ms), (None, None), "{version}: {function}");
                assert_eq!(is_timers(task), !is_old && function != "main.plainTime", "{version}: {function}");
            }
        }
    });
}

#[test]
fn timers_without_a_goroutine_are_counted() {
    each(|version, recording, is_old| {
        let mut rows: Vec<_> = recording
            .timers
            .iter()
            .map(|timers| {
                let hours = |ms: u64| ms.div_ceil(HOUR_MS);
                let callback = functions(recording, &timers.callback).pop().unwrap_or_default();
                let of = (timers.usage, timers.count, timers.periodic);
                (of, hours(timers.soonest_ms), hours(timers.latest_ms), callback)
            })
            .collect();
        rows.sort();
        let context = if version == "1.19" { "context.WithDeadline.func2" } else { "context.WithDeadlineCause.func2" };
        let mut expected = vec![
            ((TimerUse::Callback, 4, 0), 1, 1, "main.(*server).reap-fm".to_owned()),
            ((TimerUse::Callback, 7, 0), 1, 7, "main.onExpire".to_owned()),
            ((TimerUse::Context, 12, 0), 4, 6, context.to_owned()),
        ];
        if is_old {
            expected.push(((TimerUse::Channel, 11, 3), 7, 8, String::new()));
        }
        assert_eq!(rows, expected, "{version}");
        assert_eq!(recording.losses.get(&Loss::TimersLeftOut), None, "{version}");
    });
}

#[test]
fn hundreds_of_thousands_of_timers_are_counted() {
    let mut program = ready("1.27/default/timers", &[]);
    program.ask("after 300000", "done");
    let recording = snapshot(program.pid());
    let most = recording.timers.iter().map(|timers| timers.count).max();
    assert_eq!(most, Some(300_007));
}

/// By the runtime's own counter, whatever came and went before, and however many processors keep numbers.
#[test]
fn goroutines_that_come_and_go_are_counted() {
    for version in SOME {
        let path = built(&format!("{version}/default/timers"));
        let mut program = Program::start(Command::new(&path).env("PROCESSORS", "2"));
        program.expect("ready");
        program.ask("pass 100000", "done");
        for (commands, created, ended) in
            [(&["pass 1000"][..], 1000, 1000), (&["stay 1"], 1, 0), (&["pass 5000", "stay 7"], 5007, 5000)]
        {
            let mut watching = attach(&program, &[]);
            watching.has_looked(&path);
            commands.iter().for_each(|command| {
                program.ask(command, "done");
            });
            let recording = watching.stop();
            let go = recording.coverage.go.unwrap();
            assert_eq!((go.created, go.gone), (created, ended), "{version}: {commands:?}");
            let last = recording.growth.last().map(|sample| sample.goroutines_created);
            assert!(last.is_none_or(|last| last <= created), "{version}: {last:?}");
        }
    }
}

/// No program lacks its processors or its scheduler, in the build that is hardest to read.
#[test]
fn processors_are_found_in_every_version() {
    for version in versions() {
        let program = ready(&format!("{version}/cgo-pie/waits"), &[]);
        let gaps = snapshot(program.pid()).coverage.gaps;
        let is_lacking = |gap: &Gap| matches!(gap, Gap::GoTimers { .. } | Gap::GoTurnover);
        assert!(!gaps.iter().any(is_lacking), "{version}: {gaps:?}");
    }
}
