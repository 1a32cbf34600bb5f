use super::*;
use crate::model::{News, Stack, StackEnd, Subject, ThreadSample, WaitKind};

const SECOND: u64 = 1_000_000_000;

fn stack() -> StackId {
    StackTable::default().intern(Stack::of_thread(vec![1], StackEnd::Complete))
}

fn sample(tid: u32, start_boottime: u64, since_ns: u64) -> ThreadSample {
    ThreadSample {
        tid,
        name: format!("t{tid}"),
        start_boottime,
        lifetime_ns: SECOND,
        activity: Activity::Blocked(Blocking {
            kind: WaitKind::Futex,
            reason: "futex wait".to_owned(),
            object: "0x10".to_owned(),
            since_ns,
            exact: true,
            timeout_ms: None,
            subject: Subject::None,
            other_ends: None,
            late_ms: 0,
            timer: None,
            futex: None,
        }),
        stack: stack(),
        kernel_stack: None,
        switches: since_ns,
    }
}

fn snapshot(taken_ns: u64, alive: &[u32], changed: Vec<ThreadSample>) -> Snapshot {
    Snapshot { taken_ns, news: Some(News { alive: alive.to_vec(), changed, ..News::default() }) }
}

fn created(tid: u32, time_ns: u64, start_boottime: u64) -> Change {
    let what = ChangeKind::Created { creator: 1, creator_name: "main".to_owned(), stack: Ok(stack()) };
    Change { tid, start_boottime, time_ns, what }
}

fn exited(tid: u32, start_boottime: u64) -> Change {
    Change { tid, start_boottime, time_ns: SECOND, what: ChangeKind::Exited { with_process: false } }
}

fn ids(live: &Live) -> Vec<u32> {
    live.threads().keys().copied().collect()
}

/// How many have come and gone, and how much of it only snapshots have told.
fn turnover(live: &Live) -> (u64, u64, u64) {
    (live.turnover().created, live.turnover().gone, live.made_good())
}

#[test]
fn events_that_were_lost_are_made_good() {
    let mut live = Live::new(SECOND, 0);
    live.apply_snapshot(snapshot(SECOND, &[1, 2], vec![sample(1, 10, 0), sample(2, 20, 0)]));
    // 2 exits and 3 is created, but no event comes.
    live.apply_snapshot(snapshot(2 * SECOND, &[1, 3], vec![sample(3, 30, 0)]));
    assert_eq!(ids(&live), [1, 3]);
    assert_eq!(turnover(&live), (1, 1, 2));
    // Of five lost records two were theirs.
    assert_eq!([live.not_told(5), live.not_told(1)], [3, 0]);
}

#[test]
fn what_the_kernel_has_counted_since_records_were_last_read_is_not_lost() {
    let mut live = Live::new(SECOND, 0);
    live.apply_snapshot(snapshot(SECOND, &[1], vec![sample(1, 10, 0)]));
    live.apply_change(created(2, SECOND + 1, 20));
    live.set_turnover(Turnover { created: 5, gone: 3 });
    assert_eq!((turnover(&live), live.not_told(0)), ((5, 3, 0), 0));
    // Of what snapshots see there is no second count.
    live.apply_snapshot(snapshot(2 * SECOND, &[1, 3], vec![sample(3, 30, 0)]));
    assert_eq!((turnover(&live), live.not_told(0)), ((5, 3, 2), 0));
}

#[test]
fn a_creation_read_after_the_snapshot_that_saw_it_is_of_that_thread() {
    let mut live = Live::new(SECOND, 0);
    live.apply_snapshot(snapshot(SECOND, &[1], vec![sample(1, 10, 0)]));
    live.apply_snapshot(snapshot(2 * SECOND, &[1, 2], vec![sample(2, 20, 0)]));
    live.apply_change(created(2, 2 * SECOND - 5, 20));
    assert_eq!(turnover(&live), (1, 0, 0));
    assert!(live.threads()[&2].creation.is_some());
    // And it keeps its creation when it is sampled again.
    live.apply_snapshot(snapshot(3 * SECOND, &[1, 2], vec![sample(2, 20, SECOND)]));
    assert!(live.threads()[&2].creation.is_some());
}

#[test]
fn threads_created_while_the_first_snapshot_was_taken_are_not_older_than_us() {
    let mut live = Live::new(SECOND, 0);
    live.apply_change(created(2, SECOND - 5, 20));
    let samples = vec![sample(1, 10, 0), sample(2, 20, 0), sample(3, 30, 0)];
    live.apply_snapshot(snapshot(SECOND, &[1, 2, 3], samples));
    live.apply_change(created(3, SECOND - 2, 30));
    assert_eq!(live.made_good(), 0);
    let before_us: Vec<bool> = live.threads().values().map(|thread| thread.before_us).collect();
    assert_eq!(before_us, [true, false, false]);
}

#[test]
fn an_exit_read_before_or_after_the_snapshot_that_missed_the_thread_was_not_lost() {
    let mut live = Live::new(SECOND, 0);
    let samples = vec![sample(1, 10, 0), sample(2, 20, 0), sample(3, 30, 0)];
    live.apply_snapshot(snapshot(2 * SECOND, &[1, 2, 3], samples));
    // 2 exited while that snapshot was taken, after it had been seen; 3 while the next one was.
    live.apply_change(exited(2, 20));
    assert_eq!(ids(&live), [1, 3]);
    live.apply_snapshot(snapshot(3 * SECOND, &[1], Vec::new()));
    assert_eq!(live.made_good(), 1);
    for _ in 0..2 {
        live.apply_change(exited(3, 30));
        assert_eq!((ids(&live), live.made_good()), (vec![1], 0));
    }
}

#[test]
fn a_name_that_was_told_is_newer_than_what_the_next_snapshot_sees() {
    let mut live = Live::new(SECOND, 0);
    let renamed = |tid, start_boottime, name: &str| {
        let what = ChangeKind::Renamed(name.to_owned());
        Change { tid, start_boottime, time_ns: SECOND, what }
    };
    let samples = || vec![sample(1, 10, 0), sample(2, 20, 0), sample(3, 31, 0)];
    live.apply_snapshot(snapshot(SECOND, &[1], vec![sample(1, 10, 0)]));
    live.apply_change(renamed(1, 10, "new"));
    live.apply_change(renamed(2, 20, "of a thread whose creation was lost"));
    live.apply_change(renamed(3, 30, "of one that had its id before"));
    live.apply_snapshot(snapshot(2 * SECOND, &[1, 2, 3], samples()));
    let names: Vec<&str> = live.threads().values().map(|thread| thread.name.as_str()).collect();
    assert_eq!(names, ["new", "of a thread whose creation was lost", "t3"]);
    // One snapshot later it has it; what is seen then counts.
    live.apply_snapshot(snapshot(3 * SECOND, &[1, 2, 3], samples()));
    assert_eq!(live.threads()[&1].name, "t1");
}

#[test]
fn events_that_are_read_after_snapshots_saw_a_thread_come_and_go_are_about_that_one() {
    let mut live = Live::new(SECOND, 0);
    live.apply_snapshot(snapshot(2 * SECOND, &[1, 2], vec![sample(1, 10, 0), sample(2, 20, 0)]));
    live.apply_snapshot(snapshot(3 * SECOND, &[1, 3], vec![sample(3, 30, 0)]));
    live.apply_snapshot(snapshot(4 * SECOND, &[1], Vec::new()));
    assert_eq!(turnover(&live), (1, 2, 3));
    for (tid, start) in [(2, 20), (3, 30)] {
        live.apply_change(created(tid, 2 * SECOND, start));
        assert_eq!(ids(&live), [1]);
        live.apply_change(exited(tid, start));
    }
    assert_eq!((ids(&live), live.made_good()), (vec![1], 0));
}

#[test]
fn a_thread_that_is_still_listed_after_its_exit_was_told_is_not_another_one() {
    let mut live = Live::new(SECOND, 0);
    live.apply_change(exited(4, 40)); // before the first snapshot
    let samples = || vec![sample(2, 20, 0), sample(3, 30, 0), sample(4, 40, 0)];
    let mut first = samples();
    first.push(sample(1, 10, 0));
    live.apply_snapshot(snapshot(SECOND, &[1, 2, 3, 4], first));
    assert_eq!(ids(&live), [1, 2, 3]);
    live.apply_change(exited(2, 20));
    live.apply_change(exited(3, 30));
    for _ in 0..2 {
        // They take their time: the snapshots list them, since they run.
        live.apply_snapshot(snapshot(SECOND + 9, &[1, 2, 3, 4], samples()));
        assert_eq!(ids(&live), [1]);
    }
    live.apply_snapshot(snapshot(2 * SECOND, &[1], Vec::new()));
    assert_eq!(turnover(&live), (0, 2, 0));
    // A new thread with such an id is another one.
    live.apply_change(exited(1, 10));
    live.apply_snapshot(snapshot(5 * SECOND, &[1], vec![sample(1, 50, 0)]));
    assert_eq!(ids(&live), [1]);
    assert_eq!(turnover(&live), (1, 3, 1));
}

#[test]
fn what_is_not_blocked_is_followed_by_its_creator() {
    let mut live = Live::new(SECOND, 0);
    let running = |tid| ThreadSample { activity: Activity::Running, ..sample(tid, 10 * u64::from(tid), 0) };
    live.apply_snapshot(snapshot(SECOND, &[1], vec![sample(1, 10, 0)]));
    for (n, tids) in [(2, vec![1, 2]), (3, vec![1, 2, 3])] {
        let tid = *tids.last().unwrap();
        live.apply_change(created(tid, n * SECOND - 5, 10 * u64::from(tid)));
        live.apply_snapshot(snapshot(n * SECOND, &tids, vec![running(tid)]));
    }
    assert_eq!(live.trend((TaskKind::Thread, Some(stack()), None)), [0, 1, 2]);
    assert_eq!(live.is_new(&live.threads()[&1]), None);
    assert_eq!(live.is_new(&live.threads()[&2]), Some(true));
}

#[test]
fn an_id_that_is_used_again_is_another_thread_in_whatever_order_events_are_read() {
    let mut live = Live::new(SECOND, 0);
    live.apply_snapshot(snapshot(SECOND, &[1], vec![sample(1, 10, 0)]));
    live.apply_change(created(2, 2 * SECOND, 20));
    // The exit of the first one comes after the second one.
    live.apply_change(created(2, 2 * SECOND + 2, 21));
    assert_eq!((ids(&live), live.made_good()), (vec![1, 2], 1));
    live.apply_change(exited(2, 20));
    assert_eq!((ids(&live), live.made_good()), (vec![1, 2], 0));
    // Of one that was before it there is nothing to be said.
    live.apply_change(created(2, SECOND + 1, 15));
    assert_eq!(live.threads()[&2].start_boottime, 21);
}

#[test]
fn a_reused_id_in_a_snapshot_is_another_thread_without_the_old_creation() {
    let mut live = Live::new(SECOND, 0);
    live.apply_snapshot(snapshot(SECOND, &[1], vec![sample(1, 10, 0)]));
    live.apply_change(created(2, SECOND + 1, 20));
    live.apply_snapshot(snapshot(2 * SECOND, &[1, 2], vec![sample(2, 22, 0)]));
    assert!(live.threads()[&2].creation.is_none());
    // The exit of one, the creation of the other.
    assert_eq!(live.made_good(), 2);
}

#[test]
fn exec_leaves_one_thread_under_the_id_and_start_of_the_process() {
    let mut live = Live::new(SECOND, 0);
    live.apply_snapshot(snapshot(SECOND, &[1, 2, 3], vec![sample(1, 10, 0), sample(2, 20, 0), sample(3, 30, 0)]));
    live.apply_change(created(3, SECOND, 30));
    let what = ChangeKind::Exec { old_tid: 3 };
    live.apply_change(Change { tid: 1, start_boottime: 10, time_ns: SECOND + 1, what });
    assert_eq!(ids(&live), [1]);
    let thread = &live.threads()[&1];
    assert_eq!((thread.name.as_str(), thread.start_boottime, &thread.creation), ("t3", 10, &None));
    assert_eq!((turnover(&live), live.execs), ((0, 2, 0), 1));
}

#[test]
fn threads_that_end_with_their_process_stay_to_be_told() {
    let mut live = Live::new(SECOND, 0);
    live.apply_snapshot(snapshot(SECOND, &[1, 2], vec![sample(1, 10, 0), sample(2, 20, 0)]));
    let what = ChangeKind::Exited { with_process: true };
    live.apply_change(Change { tid: 2, start_boottime: 20, time_ns: 2 * SECOND, what });
    assert_eq!(ids(&live), [1, 2]);
}

#[test]
fn threads_grow_old_though_nothing_runs() {
    let mut live = Live::new(2 * SECOND, 0);
    live.apply_snapshot(snapshot(SECOND, &[1], vec![sample(1, 10, 0)]));
    for second in 2..5 {
        live.apply_snapshot(Snapshot { taken_ns: second * SECOND, news: None });
    }
    let parked: Vec<u64> = live.growth().iter().map(|sample| sample.parked).collect();
    assert_eq!(parked, [0, 1, 1, 1]);
    assert_eq!(live.trend((TaskKind::Thread, None, Some(stack()))), [1, 1, 1, 1]);
    assert_eq!(ids(&live), [1]);
}

#[test]
fn parked_is_a_matter_of_age() {
    let mut live = Live::new(SECOND, 0);
    live.apply_snapshot(snapshot(5 * SECOND, &[1, 2], vec![sample(1, 10, 4 * SECOND), sample(2, 20, 4 * SECOND + 1)]));
    assert_eq!(live.parked(), 1);
    let growth = live.growth();
    assert_eq!((growth[0].at_ms, growth[0].tasks, growth[0].parked), (5000, 2, 1));
}
