//! Waits that end by a timer which is not an argument of the system call.

use std::collections::BTreeMap;

use leakprobe::model::{Recording, Wait};

use crate::support::{Program, Variant, record, settle, snapshot, task};

const HOUR_MS: u64 = 3_600_000;

/// Every wait of `timers.c`: whether it ends in an hour, and the period from then on in s.
const EXPECTED: &[(&str, bool, Option<u64>)] = &[
    ("timer_once", true, None),
    ("timer_again", true, Some(60)),
    ("timer_unset", false, None),
    ("poll_first", true, None),
    ("poll_timeout", true, None),
    ("select_timer", true, None),
    ("epoll_timer", true, None),
    ("epoll_nested", true, Some(60)),
    ("epoll_ignored", false, None),
    ("socket_read", true, None),
    ("socket_recv", true, None),
    ("socket_accept", true, None),
    ("socket_send", true, None),
    ("socket_other", false, None),
    ("socket_poll", false, None),
];

fn check(said: &BTreeMap<String, u64>, recording: &Recording) {
    assert_eq!(said.len(), EXPECTED.len(), "{:?}", said.keys());
    for &(name, ends, period_s) in EXPECTED {
        let wait: &Wait = task(recording, said[name]).wait.as_ref().unwrap_or_else(|| panic!("{name} does not wait"));
        assert_eq!(wait.period_ms, period_s.map(|seconds| seconds * 1000), "{name}: {wait:?}");
        let (Some(timeout), Some(due)) = (wait.timeout_ms, wait.due_ms) else {
            assert!(!ends && (wait.timeout_ms, wait.due_ms) == (None, None), "{name}: {wait:?}");
            continue;
        };
        // A timer was set before its thread began to wait, some minutes ago at most. The kernel ends waits for sockets by an eighth
        // too late.
        let late_ms = if name.starts_with("socket") { HOUR_MS / 8 } else { 1 };
        let earliest = HOUR_MS - 300_000;
        assert!(ends && (earliest..=HOUR_MS).contains(&timeout), "{name}: {wait:?}");
        assert!((earliest..=HOUR_MS + late_ms).contains(&due), "{name}: {wait:?}");
        assert!((timeout..=timeout + late_ms).contains(&(due + wait.age_ms + 1)), "{name}: {wait:?}");
    }
}

#[test]
fn timers_end_waits_of_threads() {
    let mut program = Program::ready("timers", Variant::Pie);
    let waits = program.passed().into_iter().filter_map(|line| line.strip_prefix("wait ").map(str::to_owned));
    let said: BTreeMap<String, u64> = waits
        .map(|line| {
            let kind = line.split_whitespace().find_map(|word| word.strip_prefix("kind=")).unwrap().to_owned();
            (kind, Program::field(&line, "tid") as u64)
        })
        .collect();
    settle(program.pid());
    check(&said, &snapshot(program.pid()));
    let pid = program.pid().to_string();
    check(&said, &record(&["attach", "-p", &pid, "-d", "300ms", "-i", "100ms", "-m", "0s"]));
}
