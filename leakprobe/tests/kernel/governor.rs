//! Sleeps of any kind through context switches, and the governor, which goes from one source to another.

use std::fs;

use leakprobe::model::{EndedWait, Loss, Recording, Source, WaitKind};

use crate::support::{Program, Running, Variant, attach, chain, monotonic_ns, settle, wait_for};

/// How many BPF links and perf events leakprobe holds: the futex tracepoints are several, `sched_switch` is one.
fn links(leakprobe: &Running) -> usize {
    let fds = fs::read_dir(format!("/proc/{}/fd", leakprobe.pid())).unwrap();
    let link = |fd: fs::DirEntry| fs::read_link(fd.path()).unwrap_or_default().to_string_lossy().into_owned();
    let is_link = |link: &String| link.contains("bpf_link") || link.contains("perf_event");
    fds.flatten().map(link).filter(is_link).count()
}

fn of_kind(recording: &Recording, kind: WaitKind, tid: u64) -> Vec<&EndedWait> {
    recording.ended_waits.iter().filter(|wait| wait.wait.kind == kind && wait.task == tid).collect()
}

#[test]
fn sleeps_of_any_kind_are_told_by_context_switches_with_the_stack_that_a_snapshot_saw() {
    let mut program = Program::ready("ends", Variant::Pie);
    settle(program.pid());
    // Every context switch of the machine counts as cost, also those of other tests: without a limit.
    let options = ["--probe", "sched", "--max-overhead", "off", "-m", "20ms", "-i", "10ms"];
    let leakprobe = attach(&program, &options);
    let line = program.ask("wait", "waiting ");
    let tid = Program::field(&line, "tid") as u64;
    let began = settle(program.pid())[&tid].seen_ns;
    wait_for("the threshold to pass", || (monotonic_ns() > began + 200_000_000).then_some(()));
    let woken = monotonic_ns();
    let after = Program::field(&program.ask("wake", "woke "), "after") as u64;
    let recording = leakprobe.stop();
    assert!(recording.coverage.sources.contains(&Source::ContextSwitches), "{:?}", recording.coverage);

    // The waiter's, by its length: before it, there may be another one.
    let before = Program::field(&line, "before") as u64;
    let bounds = (woken - began) / 1_000_000..=(after - before) / 1_000_000;
    let waits = of_kind(&recording, WaitKind::Futex, tid);
    let wait = waits.iter().find(|wait| bounds.contains(&wait.wait.age_ms));
    let wait = wait.unwrap_or_else(|| panic!("none of {bounds:?} in {:?}", recording.ended_waits));
    assert!(wait.wait.exact && wait.wait.object.starts_with("0x"), "{wait:?}");
    assert_eq!(wait.name, "waiter");

    // The first thread's, which reads what it is told from a pipe.
    let reads = of_kind(&recording, WaitKind::Pipe, u64::from(program.pid()));
    let read = reads.first().unwrap_or_else(|| panic!("no read in {:?}", recording.ended_waits));
    assert!(read.wait.object.starts_with("fd 0 ("), "{read:?}");

    // A stack is that of the wait, or it is counted as not seen.
    let unseen = recording.losses.get(&Loss::EndedWaitStackUnseen).copied().unwrap_or(0);
    match wait.stack.is_empty() {
        false => chain(&recording, &wait.stack, &["wait_until_woken", "run"]),
        true => assert!(unseen > 0, "{:?}", recording.losses),
    }
}

#[test]
fn what_costs_too_much_is_paused_and_resumed_when_it_is_calm() {
    let mut program = Program::ready("pingpong", Variant::Pie);
    settle(program.pid());
    // Other tests make system calls, which count as well.
    let leakprobe = attach(&program, &["--max-overhead", "6%", "-i", "1s"]);
    let all = links(&leakprobe);
    // So long that the programs are measured meanwhile, however slow the machine is.
    let mut fewest = all;
    while fewest == all {
        program.ask("0.5", "");
        fewest = links(&leakprobe);
    }
    assert!(fewest < all, "{fewest} links");
    wait_for("the futex tracepoints to be back", || (links(&leakprobe) == all).then_some(()));
    let recording = leakprobe.stop();
    let pauses = &recording.coverage.pauses;
    let futexes = pauses.iter().find(|pause| pause.what == "futex waits").unwrap_or_else(|| panic!("{pauses:?}"));
    assert!(futexes.percent > 6.0 && futexes.for_ms >= 1_000, "{pauses:?}");
    assert!(futexes.from_ms + futexes.for_ms < recording.duration_ms, "{pauses:?}");
    assert!(recording.cost.programs_percent.is_some_and(|percent| percent > 0.0), "{:?}", recording.cost);
    // Nothing that is parked was missed.
    assert_eq!(recording.coverage.threads, 2);
    assert_eq!(recording.coverage.gaps, []);
}

#[test]
fn with_the_governor_off_nothing_is_paused() {
    let mut program = Program::ready("pingpong", Variant::Pie);
    settle(program.pid());
    let leakprobe = attach(&program, &["--max-overhead", "off", "-i", "1s"]);
    let all = links(&leakprobe);
    program.ask("1", "");
    assert_eq!(links(&leakprobe), all);
    assert!(leakprobe.stop().coverage.pauses.is_empty());
}
