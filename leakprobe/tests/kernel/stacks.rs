//! Stacks that are hard to follow, and names that are hard to find.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt};

use leakprobe::model::{Recording, StackEnd, Task, WaitKind};

use crate::support::{
    Program, Variant, chain, functions, in_guest, label, program_path, settle, snapshot, stack_of, task_named,
    tasks_named, tids,
};

/// A snapshot of a test program, all of whose threads sleep.
fn snapshot_of(program: &Program) -> Recording {
    settle(program.pid());
    let recording = snapshot(program.pid());
    let listed: Vec<u64> = recording.tasks.iter().map(|task| task.id).collect();
    assert_eq!(listed, tids(program.pid()));
    recording
}

fn complete<'a>(recording: &'a Recording, task: &'a Task) -> Vec<String> {
    let shown = functions(recording, &task.stack);
    assert_eq!(task.stack_end, StackEnd::Complete, "{} in {shown:?}", task.name);
    shown
}

/// Variants that have names to look for. How a program is linked does not depend on the kernel: two will do in a guest, which
/// is slow.
fn named() -> &'static [Variant] {
    let all = &[Variant::Pie, Variant::Static, Variant::NoPie, Variant::StaticPie];
    if in_guest() { &all[..2] } else { all }
}

#[test]
fn a_stack_leads_through_a_signal_handler_into_what_it_interrupted() {
    for &variant in named() {
        let program = Program::ready("signal_handler", variant);
        let recording = snapshot_of(&program);
        let task = task_named(&recording, "own-stack");
        let shown = complete(&recording, task);
        chain(&recording, &task.stack, &["block_in_handler", "on_signal"]);
        chain(&recording, &task.stack, &["interrupted", "caller", "on_own_stack"]);
        let handler = shown.iter().position(|name| name == "on_signal");
        assert!(handler < shown.iter().position(|name| name == "interrupted"), "{variant:?}: {shown:?}");
    }
}

#[test]
fn a_stack_leads_from_an_alternate_signal_stack_back_to_the_threads_own() {
    for &variant in named() {
        let program = Program::ready("signal_handler", variant);
        let recording = snapshot_of(&program);
        let task = task_named(&recording, "alternate");
        complete(&recording, task);
        chain(&recording, &task.stack, &["block_in_handler", "on_signal"]);
        chain(&recording, &task.stack, &["interrupted", "caller", "on_alternate_stack"]);
    }
}

#[test]
fn a_stack_leads_through_functions_that_realign_it() {
    for &variant in named() {
        let program = Program::ready("realign", variant);
        let recording = snapshot_of(&program);
        let tasks = tasks_named(&recording, "realigned");
        assert_eq!(tasks.len(), 5);
        for task in tasks {
            complete(&recording, task);
            chain(
                &recording,
                &task.stack,
                &["park", "wait_here", "realigned", "aligned_and_variable", "variable", "run"],
            );
        }
    }
}

#[test]
fn a_stack_leads_through_frames_that_are_larger_than_what_is_read_of_one() {
    for &variant in named() {
        let program = Program::ready("frames", variant);
        let recording = snapshot_of(&program);
        let task = task_named(&recording, "large");
        complete(&recording, task);
        chain(&recording, &task.stack, &["wait_here", "variable", "fixed", "large"]);
    }
}

#[test]
fn a_stack_leads_through_trampolines_of_which_only_their_code_tells() {
    for &variant in named() {
        let program = Program::ready("frames", variant);
        let recording = snapshot_of(&program);
        let task = task_named(&recording, "trampolines");
        let shown = complete(&recording, task);
        let at =
            |name: &str| shown.iter().position(|shown| shown == name).unwrap_or_else(|| panic!("{name}: {shown:?}"));
        assert_eq!([at("inner"), at("outer")], [at("wait_here") + 2, at("wait_here") + 4], "{variant:?}: {shown:?}");
    }
}

#[test]
fn a_stack_leads_through_code_made_at_run_time() {
    let program = Program::ready("jit", Variant::Pie);
    let recording = snapshot_of(&program);
    let task = task_named(&recording, "made");
    let shown = complete(&recording, task);
    let called = shown.iter().position(|name| name == "called_by_made_code").unwrap();
    assert_eq!(shown[called + 2], "calls_made_code", "{shown:?}");
    let made = stack_of(&recording, &task.stack)[called + 1];
    assert!(made.function.is_empty() && made.module == "[anon]", "{made:?}");
    let why = format!("anonymous memory, such as JIT code, and no /tmp/perf-{}.map", program.pid());
    assert_eq!(made.unknown, Some(why));
}

#[test]
fn all_variants_of_a_program_have_the_same_stacks() {
    for &variant in named() {
        let program = Program::ready("many", variant);
        let recording = snapshot_of(&program);
        assert_eq!(recording.tasks.len(), 101);
        for task in recording.tasks.iter().filter(|task| task.id != u64::from(program.pid())) {
            complete(&recording, task);
            chain(&recording, &task.stack, &["park", "run"]);
        }
        assert_eq!(recording.sites.iter().map(|site| site.count).max(), Some(100), "{variant:?}");
    }
}

#[test]
fn threads_of_cpp_have_demangled_names() {
    for &variant in named() {
        let program = Program::ready("templates", variant);
        let recording = snapshot_of(&program);
        let all: BTreeSet<String> = recording.tasks.iter().flat_map(|task| complete(&recording, task)).collect();
        for expected in [
            "shop::Queue<shop::Order>::take()",
            "shop::Queue<int>::take()",
            "shop::Worker<shop::Order, 3>::operator()()",
            "shop::Worker<int, 7>::operator()()",
            "shop::lock_it(std::mutex&)",
        ] {
            assert!(all.contains(expected), "{variant:?}: no {expected} in {all:#?}");
        }
        assert!(
            all.iter().any(|name| name.starts_with("shop::get_answer(std::future<int>&)")),
            "{variant:?}: {all:#?}"
        );
        assert!(!all.iter().any(|name| name.starts_with("_Z")), "{variant:?}: {all:#?}");
    }
}

#[test]
fn threads_of_rust_have_demangled_names_and_known_waits() {
    for &variant in named() {
        let program = Program::ready("rust_threads", variant);
        let recording = snapshot_of(&program);
        for (name, function, kind) in [
            ("channel", "receive_order", WaitKind::Futex),
            ("condvar", "wait_for_change", WaitKind::Futex),
            ("lock", "take_lock", WaitKind::Futex),
            ("park", "park_for_ever", WaitKind::Futex),
            ("join", "join_the_other", WaitKind::Futex),
            ("sleep", "sleep_an_hour", WaitKind::Sleep),
        ] {
            let task = task_named(&recording, name);
            let shown = complete(&recording, task);
            assert!(shown.contains(&format!("rust_threads::{function}")), "{variant:?}: no {function} in {shown:?}");
            assert_eq!(task.wait.as_ref().map(|wait| wait.kind), Some(kind), "{task:?}");
            assert!(!shown.iter().any(|name| name.starts_with("_R") || name.contains("17h")), "{shown:?}");
        }
    }
}

#[test]
fn a_stripped_program_has_whole_stacks_without_names() {
    let program = Program::ready("realign", Variant::Stripped);
    let recording = snapshot_of(&program);
    let tasks = tasks_named(&recording, "realigned");
    assert_eq!(tasks.len(), 5);
    for task in tasks {
        let shown = complete(&recording, task);
        let own: Vec<_> = stack_of(&recording, &task.stack)
            .into_iter()
            .filter(|frame| frame.module_name() == "realign-stripped")
            .collect();
        assert_eq!(own.len(), 6, "{shown:?}");
        assert!(own.iter().all(|frame| frame.function.is_empty() && frame.unknown.is_some()), "{own:?}");
    }
}

#[test]
fn a_program_whose_file_was_deleted_or_replaced_still_has_its_names() {
    let folder = tempfile::tempdir().unwrap();
    for replaced in [false, true] {
        let copy = folder.path().join("program");
        fs::copy(program_path("realign", Variant::Pie), &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        let program = Program::ready_at(&copy);
        fs::remove_file(&copy).unwrap();
        if replaced {
            fs::copy(program_path("many", Variant::Pie), &copy).unwrap();
        }
        let recording = snapshot_of(&program);
        for task in tasks_named(&recording, "realigned") {
            chain(
                &recording,
                &task.stack,
                &["park", "wait_here", "realigned", "aligned_and_variable", "variable", "run"],
            );
        }
    }
}

#[test]
fn threads_of_a_process_whose_first_thread_has_ended_have_stacks_and_names() {
    for &variant in named() {
        let program = Program::ready("leader_exits", variant);
        let recording = snapshot_of(&program);
        assert_eq!(recording.tasks.len(), 4);
        let tasks = tasks_named(&recording, "stays");
        assert_eq!(tasks.len(), 2);
        for task in tasks {
            let shown = complete(&recording, task);
            chain(&recording, &task.stack, &["park", "stay", "parked"]);
            assert_eq!(task.wait.as_ref().map(|wait| wait.kind), Some(WaitKind::Futex), "{shown:?}");
        }
        let leader = recording.tasks.iter().find(|task| task.id == u64::from(program.pid())).unwrap();
        assert_eq!(leader.state, leakprobe::model::TaskState::Exited, "{leader:?}");
        assert!(!recording.target.exe.is_empty(), "{:?}", recording.target);
    }
}

#[test]
fn every_frame_has_a_module_and_an_address_or_says_why_not() {
    for &variant in named().iter().chain(&[Variant::Stripped]) {
        let program = Program::ready("creators", variant);
        let recording = snapshot_of(&program);
        for frame in &recording.frames {
            assert!(frame.address.starts_with("0x"), "{}", label(frame));
            assert!(!frame.function.is_empty() || frame.unknown.is_some(), "{frame:?}");
            assert!(!frame.module.is_empty(), "{frame:?}");
        }
    }
}
