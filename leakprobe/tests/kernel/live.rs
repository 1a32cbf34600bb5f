//! The table of threads stays true: creations, exits, renames, exec, forks, and events that were lost.

use leakprobe::model::{Fact, Gap, Loss, Source, Task, TaskState};

use crate::support::{
    Program, Variant, attach, chain, functions, listed, lost, program_path, record, settle, task, task_named,
    tasks_named, tids, wait_for,
};

#[test]
fn threads_that_come_and_go_are_counted_and_the_table_equals_proc_at_the_end() {
    let mut program = Program::ready("creators", Variant::Pie);
    settle(program.pid());
    let mut leakprobe = attach(&program, &[]);
    // A snapshot before, and one at the end: however slow the machine is.
    leakprobe.has_looked(&program_path("creators", Variant::Pie));
    program.ask("outer stays", "created ");
    for n in 0..5 {
        program.ask(&format!("other goes{n}"), "created ");
        program.ask("end", "ended ");
    }
    settle(program.pid());
    let recording = leakprobe.stop();
    assert_eq!(listed(&recording), tids(program.pid()));
    assert_eq!((recording.coverage.created, recording.coverage.exited), (6, 5));
    assert_eq!(recording.coverage.threads, 3);
    assert!(lost(&recording).is_empty(), "{:?}", recording.losses);
    assert!(recording.coverage.snapshots > 1 && !recording.growth.is_empty());
    assert_eq!(recording.growth.last().map(|sample| sample.tasks), Some(3));
}

#[test]
fn a_burst_of_creations_is_counted_whole_and_stacks_that_were_left_out_are_named() {
    let mut program = Program::ready("creators", Variant::Pie);
    settle(program.pid());
    let leakprobe = attach(&program, &[]);
    program.ask("burst 1000", "done");
    settle(program.pid());
    let recording = leakprobe.stop();
    assert_eq!(listed(&recording), tids(program.pid()));
    assert_eq!(recording.coverage.created, 1000);
    let burst = tasks_named(&recording, "burst");
    assert_eq!(burst.len(), 1000);
    for task in &burst {
        let created = &task.created_by;
        assert!(created.known != created.why_unknown.is_some(), "{created:?}");
        if created.known {
            chain(&recording, &created.stack, &["create", "inner", "middle", "outer", "main"]);
        }
    }
    let unknown = burst.iter().filter(|task| !task.created_by.known).count() as u64;
    let counted: u64 = [Loss::CreationStackRateLimited, Loss::RingFullStack]
        .iter()
        .filter_map(|loss| recording.losses.get(loss))
        .sum();
    assert_eq!(unknown, counted, "{:?}", recording.losses);
}

#[test]
fn events_lost_in_a_tiny_buffer_are_counted_by_name_and_made_good_by_snapshots() {
    let mut program = Program::ready("churn", Variant::Pie);
    settle(program.pid());
    let leakprobe = attach(&program, &["--ring-size", "4096"]);
    program.ask("churn 2000", "done");
    settle(program.pid());
    let recording = leakprobe.stop();
    // Few stacks fit into such a buffer.
    let lost = |loss: Loss| recording.losses.get(&loss).copied().unwrap_or(0);
    assert!(lost(Loss::RingFullStack) > 0, "{:?}", recording.losses);
    // The count is made in the kernel and holds whatever became of the records, but for programs that it did not run.
    let skipped = lost(Loss::ProgramSkipped);
    let coverage = &recording.coverage;
    assert!((2021 - skipped..=2021).contains(&coverage.created), "{coverage:?} {skipped}");
    assert!((2000 - skipped..=2000).contains(&coverage.exited), "{coverage:?} {skipped}");
    assert_eq!(listed(&recording), tids(program.pid()));
    let stays = tasks_named(&recording, "stays");
    assert_eq!(stays.len(), 21);
    for task in stays {
        let created = &task.created_by;
        assert!(created.known != created.why_unknown.is_some(), "{created:?}");
        if created.known {
            chain(&recording, &created.stack, &["churn", "main"]);
        }
        chain(&recording, &task.stack, &["park", "stay"]);
    }
}

#[test]
fn churn_that_the_buffer_holds_loses_no_event() {
    let mut program = Program::ready("churn", Variant::Pie);
    settle(program.pid());
    let leakprobe = attach(&program, &[]);
    // So few that the buffer holds them all, with their stacks, even if leakprobe does not come to read any.
    program.ask("churn 96", "done");
    settle(program.pid());
    let recording = leakprobe.stop();
    assert_eq!(listed(&recording), tids(program.pid()));
    assert!(lost(&recording).is_empty(), "{:?}", recording.losses);
    assert_eq!((recording.coverage.created, recording.coverage.exited), (96 + 1, 96));
}

/// Until each of the sleepers has waited for so many slices more.
fn more_slices(program: &mut Program, more: i64) {
    let mut slept = || program.ask("slept", "slept ").trim_start_matches("slept ").parse::<i64>().unwrap();
    let before = slept();
    wait_for("slices to pass", || (slept() >= before + more).then_some(()));
}

#[test]
fn threads_that_only_their_timers_wake_are_parked_since_the_first_time_and_workers_are_not() {
    let mut program = Program::ready("slices", Variant::Pie);
    program.ask("worker 60000", "done");
    program.ask("slices 2 700", "done");
    let mut leakprobe = attach(&program, &["-i", "300ms", "-m", "1s"]);
    leakprobe.has_looked(&program_path("slices", Variant::Pie));
    program.ask("slices 3 700", "done");
    for _ in 0..3 {
        more_slices(&mut program, 2);
        program.ask("job", "done");
    }
    let recording = leakprobe.stop();
    let sleepers = tasks_named(&recording, "sleeper");
    assert_eq!(sleepers.len(), 5);
    // One or other may be between two slices just then.
    let parked: Vec<&Task> = sleepers.into_iter().filter(|task| task.state == TaskState::Parked).collect();
    assert!(!parked.is_empty(), "{:?}", recording.tasks);
    for sleeper in &parked {
        let wait = sleeper.wait.as_ref().unwrap();
        assert_eq!((wait.slice_ms, wait.exact), (Some(700), false), "{wait:?}");
        assert!(wait.age_ms >= 1_000, "{wait:?}");
        assert_eq!(sleeper.site, parked[0].site);
    }
    let site = &recording.sites[parked[0].site.unwrap() as usize];
    assert_eq!(site.in_slices, parked.len() as u64, "{site:?}");
    assert!(site.created_while_watched > 0, "{site:?}");
    let worker = task_named(&recording, "worker");
    assert_eq!(worker.wait.as_ref().and_then(|wait| wait.slice_ms), None, "{worker:?}");
}

#[test]
fn a_pool_whose_threads_are_replaced_does_not_grow() {
    let mut program = Program::ready("slices", Variant::Pie);
    program.ask("pool 12", "done");
    settle(program.pid());
    // Whoever has just come counts as parked.
    let mut leakprobe = attach(&program, &["-m", "1ms"]);
    leakprobe.has_looked(&program_path("slices", Variant::Pie));
    program.ask("renew", "done");
    settle(program.pid());
    let recording = leakprobe.stop();
    let members = tasks_named(&recording, "member");
    assert_eq!(members.len(), 12);
    let site = &recording.sites[members[0].site.unwrap() as usize];
    assert_eq!((site.count, site.created_while_watched), (12, 12));
    assert_eq!((site.trend.first(), site.trend.last()), (Some(&12), Some(&12)), "{:?}", site.trend);
    assert!(!site.evidence.iter().any(|fact| matches!(fact, Fact::Grew { .. })), "{:?}", site.evidence);
    assert!(lost(&recording).is_empty(), "{:?}", recording.losses);
}

#[test]
fn a_new_name_is_told_whoever_gives_it() {
    let mut program = Program::ready("names", Variant::Pie);
    settle(program.pid());
    let pid = program.pid();
    // Snapshots are an hour apart: what is seen was told by events, until the last one.
    for command in ["self", "main"] {
        let leakprobe = attach(&program, &["-i", "1h"]);
        program.ask(&format!("{command} by-{command}"), "named");
        settle(pid);
        let recording = leakprobe.stop();
        task_named(&recording, &format!("by-{command}"));
        assert_eq!(listed(&recording), tids(pid));
    }
}

#[test]
fn exec_in_the_main_thread_and_in_another_leaves_the_new_programs_threads_with_their_creation() {
    for command in ["main", "thread"] {
        let mut program = Program::ready("execs", Variant::Pie);
        settle(program.pid());
        let leakprobe = attach(&program, &[]);
        program.ask(command, "again");
        settle(program.pid());
        let recording = leakprobe.stop();
        assert_eq!(listed(&recording), tids(program.pid()), "exec by {command}");
        assert_eq!(recording.target.execs, 1);
        assert_eq!(recording.tasks.len(), 2, "{:?}", recording.tasks);
        let main = task(&recording, u64::from(program.pid()));
        assert_eq!(functions(&recording, &main.stack).last().map(String::as_str), Some("_start"));
        assert!(main.created_by.stack.is_empty(), "{:?}", main.created_by);
        let second = task_named(&recording, "second");
        chain(&recording, &second.stack, &["park", "second_life"]);
        chain(&recording, &second.created_by.stack, &["second_program", "main"]);
        assert_eq!(second.created_by.task, Some(u64::from(program.pid())));
        assert_eq!(recording.target.ended, None);
    }
}

#[test]
fn exec_of_another_program_changes_the_targets_name_and_executable() {
    let many = program_path("many", Variant::Static);
    let mut program =
        Program::start(std::process::Command::new("/bin/sh").args(["-c", "read line; exec \"$0\" 5"]).arg(&many));
    let leakprobe = attach(&program, &[]);
    program.say("go");
    program.expect("ready");
    settle(program.pid());
    let recording = leakprobe.stop();
    assert_eq!(recording.target.comm, "many-static");
    assert_eq!(recording.target.exe, many.canonicalize().unwrap().to_str().unwrap());
    assert_eq!(listed(&recording), tids(program.pid()));
    assert_eq!(recording.coverage.creations_known, 5);
}

#[test]
fn a_program_whose_name_is_longer_than_the_kernel_keeps_gives_its_thread_what_the_kernel_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("a-name-of-more-than-15-bytes");
    std::fs::copy(program_path("many", Variant::Static), &long).unwrap();
    let mut program =
        Program::start(std::process::Command::new("/bin/sh").args(["-c", "read line; exec \"$0\" 5"]).arg(&long));
    let leakprobe = attach(&program, &[]);
    program.say("go");
    program.expect("ready");
    settle(program.pid());
    let recording = leakprobe.stop();
    assert_eq!(&*task(&recording, u64::from(program.pid())).name, "a-name-of-more-");
}

#[test]
fn children_of_the_target_are_not_its_threads() {
    let mut program = Program::ready("forks", Variant::Pie);
    settle(program.pid());
    let leakprobe = attach(&program, &[]);
    for _ in 0..3 {
        program.ask("fork", "child ");
    }
    settle(program.pid());
    let recording = leakprobe.stop();
    assert_eq!(listed(&recording), tids(program.pid()));
    assert_eq!((recording.coverage.created, recording.tasks.len()), (0, 2));
}

#[test]
fn attach_leaves_the_target_running_and_untraced() {
    let mut program = Program::ready("creators", Variant::Pie);
    settle(program.pid());
    let status = |key: &str| crate::support::proc_status(program.pid(), key).unwrap();
    let leakprobe = attach(&program, &[]);
    assert_eq!(status("TracerPid"), "0");
    assert!(status("State").starts_with('S'));
    program.ask("outer works", "created ");
    let lp = leakprobe.pid();
    leakprobe.stop();
    // Programs and maps are gone with the process that held them: nothing is pinned.
    wait_for("leakprobe to be gone", || (!std::path::Path::new(&format!("/proc/{lp}")).exists()).then_some(()));
    assert_eq!(crate::support::proc_status(program.pid(), "TracerPid").unwrap(), "0");
    program.ask("end", "ended ");
}

#[test]
fn probe_snapshot_sees_threads_and_creations_without_futex_events_and_says_so() {
    let mut program = Program::ready("creators", Variant::Pie);
    settle(program.pid());
    let leakprobe = attach(&program, &["--probe", "snapshot"]);
    program.ask("outer one", "created ");
    settle(program.pid());
    let recording = leakprobe.stop();
    assert!(task_named(&recording, "one").created_by.known);
    assert!(!recording.coverage.sources.contains(&Source::FutexWaits), "{:?}", recording.coverage);
    assert!(recording.coverage.gaps.contains(&Gap::SnapshotsAlone), "{:?}", recording.coverage);
    assert_eq!(listed(&recording), tids(program.pid()));
}

#[test]
fn ten_thousand_threads_are_seen_whole_in_bounded_memory() {
    // A guest has neither the memory nor the speed for as many.
    let count = if crate::support::in_guest() { 1000 } else { 10_000 };
    let program = Program::ready_with("many", Variant::Pie, &[&count.to_string()]);
    settle(program.pid());
    let pid = program.pid().to_string();
    let recording = record(&["snapshot", "-p", &pid, "-m", "0s"]);
    assert_eq!(listed(&recording), tids(program.pid()));
    assert_eq!(recording.coverage.stacks_complete, count + 1);
    assert_eq!(recording.sites.iter().map(|site| site.count).max(), Some(count));
    // What users run is a release build; a debug build needs more.
    let limit = if std::env::var_os("LEAKPROBE_BIN").is_some() { 80.0 } else { 250.0 };
    assert!(recording.cost.rss_mb > 1.0 && recording.cost.rss_mb < limit, "{:?}", recording.cost);
}
