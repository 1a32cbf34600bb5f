//! Without BPF: for want of privilege, or because a seccomp filter forbids it. What `/proc` gives is the same as what BPF gives,
//! as far as it goes.

use std::{os::unix::process::CommandExt, path::Path, process::Command};

use leakprobe::model::{Gap, Recording, Source, StackEnd, TaskState, WaitKind};

use crate::support::{
    NOBODY, Program, Running, Variant, chain, forbid, functions, leakprobe, leakprobe_binary, many_of_nobody,
    need_root, open_copy, open_folder, program_path, record, settle, snapshot, task, task_named, wait_for,
};

/// Whether the recording says that it is without BPF, and why.
fn is_said(recording: &Recording, why: &str) {
    let gaps = &recording.coverage.gaps;
    let is_why = |gap: &Gap| matches!(gap, Gap::WithoutBpf { why: said, .. } if said.contains(why));
    assert!(gaps.iter().any(is_why), "{gaps:?}");
    assert_eq!(recording.coverage.sources, [Source::ProcSnapshots]);
}

/// Compares what was seen of each thread with and without BPF; returns how many stacks are as complete.
fn compare(with: &Recording, without: &Recording) -> usize {
    assert_eq!(with.tasks.len(), without.tasks.len());
    let mut complete = 0;
    for full in &with.tasks {
        let part = task(without, full.id);
        assert_eq!((&full.name, full.state), (&part.name, part.state), "{}", full.id);
        let (Some(a), Some(b)) = (&full.wait, &part.wait) else { panic!("{full:?} {part:?}") };
        assert_eq!((a.kind, &a.reason, &a.object), (b.kind, &b.reason, &b.object), "{}", full.name);
        // Taken earlier, so that it may only be longer by what passed between.
        assert!(!b.exact && b.age_ms <= a.age_ms + 60_000, "{a:?} {b:?}");
        let (all, some) = (functions(with, &full.stack), functions(without, &part.stack));
        assert!(!some.is_empty() && all.starts_with(&some), "{some:?} is not the beginning of {all:?}");
        if all == some {
            assert_eq!(full.stack_end, part.stack_end);
            complete += 1;
        } else {
            assert_eq!(part.stack_end, StackEnd::RegisterUnknown, "{some:?} {all:?}");
        }
    }
    complete
}

#[test]
fn proc_tells_the_same_as_bpf() {
    for variant in [Variant::Pie, Variant::Static] {
        let program = Program::ready("waits", variant);
        settle(program.pid());
        let pid = program.pid().to_string();
        let with = snapshot(program.pid());
        let without = record(&["snapshot", "--probe", "proc", "-p", &pid, "-m", "0s"]);
        is_said(&without, "--probe proc");
        // Nothing in this program needs a frame pointer.
        assert!(compare(&with, &without) > with.tasks.len() / 2);
    }
}

#[test]
fn a_frame_that_needs_an_unknown_register_ends_the_stack() {
    // It realigns its stack, so that frames are found by the frame pointer.
    let program = Program::ready("realign", Variant::Pie);
    settle(program.pid());
    let pid = program.pid().to_string();
    let with = snapshot(program.pid());
    let without = record(&["snapshot", "--probe", "proc", "-p", &pid, "-m", "0s"]);
    compare(&with, &without);
}

#[test]
fn as_the_user_of_the_process_without_any_privilege() {
    need_root();
    let (program, folder) = many_of_nobody();
    let ours = open_copy(&leakprobe_binary(), &folder);
    let pid = program.pid().to_string();
    let ended =
        Running::of(Command::new(ours).args(["snapshot", "-m", "0s", "--json", "-p", &pid]).uid(NOBODY).gid(NOBODY))
            .end();
    ended.succeeded();
    assert!(ended.stderr.contains("CAP_BPF") && ended.stderr.contains("without BPF"), "{ended:?}");
    let recording: Recording = serde_json::from_str(&ended.stdout).unwrap();
    is_said(&recording, "CAP_BPF");
    assert_eq!(compare(&snapshot(program.pid()), &recording), 101);
}

#[test]
fn under_a_filter_that_forbids_bpf() {
    need_root();
    let program = Program::ready("many", Variant::Pie);
    settle(program.pid());
    let pid = program.pid().to_string();
    for errno in [libc::EPERM, libc::ENOSYS] {
        let mut command = Command::new(leakprobe_binary());
        command.args(["attach", "-d", "100ms", "-i", "50ms", "-m", "0s", "--json", "-p", &pid]);
        let ended = Running::of(forbid(&mut command, libc::SYS_bpf, errno)).end();
        ended.succeeded();
        let recording: Recording = serde_json::from_str(&ended.stdout).unwrap();
        is_said(&recording, if errno == libc::EPERM { "not permitted" } else { "kernel" });
        assert!(recording.coverage.snapshots >= 2);
        compare(&snapshot(program.pid()), &recording);
    }
}

#[test]
fn a_program_that_is_run_without_bpf_is_noticed_to_begin() {
    need_root();
    let program = program_path("many", Variant::Pie);
    let mut leakprobe =
        Running::record(&["run", "--probe", "proc", "-m", "0s", "-i", "20ms", "--", program.to_str().unwrap()]);
    leakprobe.attached();
    // Its stdin is /dev/null, so that it ends by itself.
    let recording = leakprobe.recording();
    is_said(&recording, "--probe proc");
    assert_eq!(recording.target.execs, 0, "{:?}", recording.target);
}

#[test]
fn exec_is_noticed_without_bpf() {
    need_root();
    let path = program_path("many", Variant::Pie);
    let mut program = Program::start(Command::new("/bin/sh").args(["-c", "read line; exec \"$0\""]).arg(&path));
    let pid = program.pid().to_string();
    let mut leakprobe = Running::record(&["attach", "--probe", "proc", "-p", &pid, "-m", "0s", "-i", "20ms"]);
    leakprobe.attached();
    program.say("go");
    program.expect("ready");
    settle(program.pid());
    leakprobe.has_looked(&path);
    let recording = leakprobe.stop();
    assert_eq!(recording.target.execs, 1, "{:?}", recording.target);
    assert_eq!(recording.tasks.len(), 101);
    assert_eq!(Path::new(&recording.target.exe), path.canonicalize().unwrap());
}

#[test]
fn threads_that_come_and_go_are_seen_without_bpf() {
    let mut program = Program::ready("ends", Variant::Pie);
    settle(program.pid());
    let pid = program.pid().to_string();
    let mut leakprobe = Running::record(&["attach", "--probe", "proc", "-p", &pid, "-m", "0s", "-i", "20ms"]);
    leakprobe.has_looked(&program_path("ends", Variant::Pie));
    program.ask("wait", "waiting ");
    settle(program.pid());
    let recording = leakprobe.stop();
    let waiter = task_named(&recording, "waiter");
    assert_eq!((waiter.state, waiter.wait.as_ref().unwrap().kind), (TaskState::Parked, WaitKind::Futex));
    chain(&recording, &waiter.stack, &["wait_until_woken", "run"]);
    assert!(!waiter.created_by.known && recording.ended_waits.is_empty());
    wait_for("the program to be as it was", || (settle(program.pid()).len() == recording.tasks.len()).then_some(()));
}

#[test]
fn what_may_not_be_read_at_all_is_refused() {
    let program = Program::ready("many", Variant::Pie);
    let folder = open_folder();
    let ours = open_copy(&leakprobe_binary(), &folder);
    let pid = program.pid().to_string();
    for probe in ["proc", "snapshot"] {
        let mut command = Command::new(&ours);
        command.args(["attach", "-d", "1s", "--probe", probe, "-p", &pid]).uid(NOBODY).gid(NOBODY);
        Running::of(&mut command).end().failed(5, &["not permitted", "CAP_SYS_PTRACE"]);
    }
    leakprobe(["snapshot", "--probe", "proc", "-p", "4194305"]).failed(4, &["no process"]);
}
