use super::*;
use crate::model::{Blocking, Stack, StackEnd, StackTable, Subject};

const MS: u64 = 1_000_000;

/// Blocked since `since_ms` for `timeout_ms` at most, after so many switches.
fn seen(place: u64, since_ms: u64, timeout_ms: Option<u64>, switches: u64) -> ThreadSample {
    let mut stacks = StackTable::default();
    let stacks = [1, 2].map(|n| stacks.intern(Stack::of_thread(vec![n], StackEnd::Complete)));
    ThreadSample {
        tid: 1,
        name: String::new(),
        start_boottime: 1,
        lifetime_ns: 1,
        activity: Activity::Blocked(Blocking {
            kind: WaitKind::Futex,
            reason: "futex wait".to_owned(),
            object: String::new(),
            since_ns: since_ms * MS,
            exact: true,
            timeout_ms,
            subject: Subject::None,
            other_ends: None,
            late_ms: 0,
            timer: None,
            futex: None,
        }),
        stack: stacks[usize::try_from(place).unwrap()],
        kernel_stack: None,
        switches,
    }
}

/// What is known after waits of the same stack, each given as beginning, time-out and switches; the last of them is the present.
fn after(waits: &[(u64, u64, u64)]) -> Option<(u64, u64)> {
    let mut slices = Slices::default();
    for &(since, timeout, switches) in waits {
        slices.see(&seen(0, since, Some(timeout), switches));
    }
    slices.of_wait(waits.last().unwrap().0 * MS).map(|(first_ns, ms)| (first_ns / MS, ms))
}

#[test]
fn waits_that_timers_end_are_slices_of_one() {
    assert_eq!(after(&[(100, 900, 7), (1_001, 900, 8), (1_902, 900, 9)]), Some((100, 900)));
    // Snapshots that saw every other one, and late ones on a busy machine.
    assert_eq!(after(&[(100, 900, 7), (1_902, 900, 9), (2_950, 900, 10)]), Some((100, 900)));
    // Many short ones from one snapshot to the next, some of which met another thread.
    assert_eq!(after(&[(0, 50, 0), (1_002, 50, 20), (2_005, 50, 42), (3_008, 50, 62)]), Some((0, 50)));
    // Deadlines at full seconds: time-outs differ.
    assert_eq!(after(&[(300, 700, 3), (1_001, 999, 4), (2_001, 999, 5)]), Some((300, 999)));
}

#[test]
fn one_wait_is_no_slice_however_often_it_is_seen() {
    assert_eq!(after(&[(100, 900, 7)]), None);
    assert_eq!(after(&[(100, 900, 7), (101, 900, 7), (100, 900, 7)]), None);
}

#[test]
fn a_worker_that_was_woken_before_its_time_is_counted_anew() {
    // Its keep-alive was far from due.
    assert_eq!(after(&[(0, 60_000, 1), (3_000, 60_000, 2)]), None);
    // Work came in between, though there was time enough for the timer.
    assert_eq!(after(&[(0, 900, 0), (1_300, 900, 2)]), None);
    assert_eq!(after(&[(0, 900, 0), (900, 900, 1), (1_300, 900, 2), (2_201, 900, 3)]), Some((1_300, 900)));
    // A job every 20 ms.
    assert_eq!(after(&[(0, 100, 0), (1_010, 100, 50), (2_020, 100, 100)]), None);
    // One each second, so that the number of switches shows it after a while.
    let jobs: Vec<(u64, u64, u64)> = (0..20).map(|n| (n * 1_020, 50, n * 22)).collect();
    let first = after(&jobs).map_or(u64::MAX, |(first, _)| first);
    assert!(first > 1_020, "{first}");
}

#[test]
fn a_thread_that_works_between_its_waits_is_not_parked() {
    assert_eq!(after(&[(0, 100, 0), (1_010, 100, 2), (2_020, 100, 4)]), None);
}

#[test]
fn another_place_or_a_wait_without_a_timer_begins_anew() {
    let mut slices = Slices::default();
    let mut see = |place, since, timeout, switches| {
        slices.see(&seen(place, since, timeout, switches));
        slices.of_wait(since * MS).map(|(first_ns, _)| first_ns / MS)
    };
    assert_eq!(see(0, 0, Some(500), 0), None);
    assert_eq!(see(0, 500, Some(500), 1), Some(0));
    assert_eq!(see(1, 1_000, Some(500), 2), None);
    assert_eq!(see(1, 1_500, Some(500), 3), Some(1_000));
    assert_eq!(see(1, 2_000, None, 4), None);
    assert_eq!(see(1, 2_500, Some(500), 5), None);
}

#[test]
fn a_thread_that_was_seen_running_keeps_its_slices() {
    let mut slices = Slices::default();
    slices.see(&seen(0, 0, Some(500), 0));
    slices.see(&ThreadSample { activity: Activity::Running, ..seen(0, 500, None, 1) });
    slices.see(&seen(0, 501, Some(500), 1));
    assert_eq!(slices.of_wait(501 * MS), Some((0, 500)));
    // What it does now is another wait.
    assert_eq!(slices.of_wait(900 * MS), None);
}

#[test]
fn an_event_of_a_wait_that_ended_early_counts() {
    let mut slices = Slices::default();
    slices.see(&seen(0, 0, Some(5_000), 0));
    slices.see(&seen(0, 5_001, Some(5_000), 1));
    slices.ended(5_001 * MS, 10_001 * MS);
    assert!(slices.of_wait(5_001 * MS).is_some());
    slices.ended(5_001 * MS, 7_000 * MS);
    assert_eq!(slices.of_wait(5_001 * MS), None);
}

#[test]
fn of_a_goroutine_the_timers_and_its_runs_tell() {
    let due = |was, is, left, runs, only_timers| {
        let due = Due { was_ns: was * MS, is_ns: is * MS, left_ns: left * MS, runs, only_timers };
        of_goroutine(&due).map(|ns| ns / MS)
    };
    assert_eq!(due(1_000, 1_900, 850, Some(1), false), Some(900));
    assert_eq!(due(1_000, 2_000, 90, Some(10), false), Some(100));
    // Work every 100 ms, and a timer of 900 ms that is set anew each time.
    assert_eq!(due(1_000, 2_000, 850, Some(10), false), None);
    assert_eq!(due(1_000, 1_000, 850, Some(0), true), None, "the same wait");
    assert_eq!(due(0, 1_000, 850, Some(1), true), None, "no timer");
    assert_eq!(due(1_000, 2_000, 80, None, true), Some(80));
    assert_eq!(due(1_000, 2_000, 80, None, false), None);
}
