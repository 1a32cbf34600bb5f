//! What happens to the machine while leakprobe watches. These tests take a processor away and put the machine to sleep, so they run
//! in the guests of `cargo xtask kernels` alone.

use std::fs;

use nix::time::{ClockId, clock_gettime};

use crate::support::{Program, Running, Variant, attach, listed, lost, monotonic_ns, need_guest, settle, task, tids};

fn second_processor(is_on: bool) {
    let state = if is_on { "1" } else { "0" };
    fs::write("/sys/devices/system/cpu/cpu1/online", state).expect("the guest needs two processors");
}

/// How long the machine has slept since it was started, ns.
fn slept_ns() -> u64 {
    let since_start = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
    (since_start.tv_sec() as u64 * 1_000_000_000 + since_start.tv_nsec() as u64).saturating_sub(monotonic_ns())
}

/// Puts the machine to sleep for as long, as far as its clock is exact.
fn sleep_s(seconds: u32) {
    let alarm = "/sys/class/rtc/rtc0/wakealarm";
    fs::write(alarm, "0").expect("the guest needs a clock that wakes it");
    fs::write(alarm, format!("+{seconds}")).unwrap();
    fs::write("/sys/power/state", "freeze").expect("the guest's kernel needs CONFIG_SUSPEND");
}

#[test]
#[ignore = "takes a processor from the machine: run by `cargo xtask kernels`"]
fn processors_that_go_and_come_back_cost_no_event() {
    need_guest();
    for is_on_at_first in [true, false] {
        let mut program = Program::ready("churn", Variant::Pie);
        settle(program.pid());
        second_processor(is_on_at_first);
        // Snapshots are far apart: what is known between is known by events.
        let leakprobe = attach(&program, &["-i", "1h"]);
        let mut is_on = is_on_at_first;
        for _ in 0..4 {
            is_on = !is_on;
            second_processor(is_on);
            program.ask("churn 24", "done");
        }
        settle(program.pid());
        let recording = leakprobe.stop();
        second_processor(true);
        assert_eq!(listed(&recording), tids(program.pid()));
        assert!(lost(&recording).is_empty(), "{:?}", recording.losses);
        // One of each lot stays.
        assert_eq!((recording.coverage.created, recording.coverage.exited), (4 * 25, 4 * 24));
    }
}

#[test]
#[ignore = "puts the machine to sleep: run by `cargo xtask kernels`"]
fn sleep_of_the_machine_is_no_time_in_which_anybody_waited() {
    need_guest();
    let mut program = Program::ready("churn", Variant::Pie);
    program.ask("churn 8", "done");
    let settled = settle(program.pid());
    let leakprobe: Running = attach(&program, &[]);
    let slept_before = slept_ns();
    sleep_s(20);
    let slept_ms = (slept_ns() - slept_before) / 1_000_000;
    assert!(slept_ms > 10_000, "the machine slept for {slept_ms} ms only");
    program.ask("churn 8", "done");
    let recording = leakprobe.stop();
    let now = monotonic_ns();
    assert_eq!(listed(&recording), tids(program.pid()));
    assert!(lost(&recording).is_empty(), "{:?}", recording.losses);
    // All but the main thread, which has run meanwhile.
    for (&tid, settled) in settled.iter().filter(|&(&tid, _)| tid != u64::from(program.pid())) {
        let waited_ms = task(&recording, tid).wait.as_ref().unwrap().age_ms;
        let most_ms = (now - settled.seen_ns) / 1_000_000 + 5_000;
        assert!(waited_ms <= most_ms && most_ms < slept_ms + 5_000, "{waited_ms} ms, not at most {most_ms} ms");
    }
    assert!(recording.duration_ms < slept_ms, "{} ms, {slept_ms} ms of sleep", recording.duration_ms);
}
