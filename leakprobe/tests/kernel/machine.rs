//! What happens to the machine while leakprobe watches. These tests take a processor away and put the machine to sleep, so they run
//! in the guests of `cargo xtask kernels` alone.

use std::fs;

use nix::time::{ClockId, clock_gettime};

use crate::support::{Program, Variant, attach, listed, lost, monotonic_ns, need_guest, settle, task, tids};

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
    fs::write("/sys/power/state", "mem").expect("the guest needs ACPI's S3");
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
    let started = monotonic_ns();
    let mut program = Program::ready("churn", Variant::Pie);
    program.ask("churn 8", "done");
    let settled = settle(program.pid());
    let attached = monotonic_ns();
    let leakprobe = attach(&program, &[]);
    let slept_before = slept_ns();
    sleep_s(15);
    let slept_ms = (slept_ns() - slept_before) / 1_000_000;
    assert!(slept_ms > 10_000, "the machine slept for {slept_ms} ms only");
    program.ask("churn 8", "done");
    let recording = leakprobe.stop();
    let ended = monotonic_ns();
    assert_eq!(listed(&recording), tids(program.pid()));
    assert!(lost(&recording).is_empty(), "{:?}", recording.losses);
    // Some kernels (6.1) have every thread run for a moment before they sleep and after it, so that its wait begins anew.
    for &tid in settled.keys() {
        let waited_ms = task(&recording, tid).wait.as_ref().unwrap().age_ms;
        let most_ms = (ended - started) / 1_000_000;
        assert!(waited_ms <= most_ms, "{waited_ms} ms, not in {most_ms} ms");
    }
    let watched_ms = (ended - attached) / 1_000_000;
    assert!(recording.duration_ms <= watched_ms, "{} ms, not in {watched_ms} ms", recording.duration_ms);
}
