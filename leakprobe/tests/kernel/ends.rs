//! The target ends, is killed, or we are told to stop: what was seen is reported and written all the same.

use std::{fs, path::PathBuf, process::Command};

use leakprobe::model::{Recording, WaitKind};

use crate::support::{
    Ended, Program, Running, Variant, attach, chain, monotonic_ns, need_root, program_path, settle, switches, task,
    task_named, wait_for,
};

/// leakprobe, once it has looked. The cost governor is off: what else runs on the machine would decide whether waits that end are seen.
fn looked(program: &Program, module: &str, options: &[&str]) -> Running {
    let mut leakprobe = attach(program, &[&["-i", "100ms", "--max-overhead", "off"], options].concat());
    leakprobe.has_looked(&program_path(module, Variant::Pie));
    leakprobe
}

/// A run to its end, and what it recorded.
fn files(leakprobe: Running) -> (Ended, Recording) {
    let ended = leakprobe.end();
    ended.succeeded();
    let recording = leakprobe::report::json::read(&ended.directory.path().join("recording.json")).unwrap();
    (ended, recording)
}

#[test]
fn a_target_that_exits_while_watched_is_reported() {
    let mut program = Program::ready("ends", Variant::Pie);
    settle(program.pid());
    let leakprobe = looked(&program, "ends", &["-m", "0s"]);
    program.say("exit 3");
    let (ended, recording) = files(leakprobe);
    assert!(recording.target.ended.is_some(), "{:?}", recording.target);
    assert!(ended.stdout.contains("ended"), "{ended:?}");
    assert_eq!(program.wait().code(), Some(3));
}

#[test]
fn a_target_that_is_killed_while_watched_is_reported() {
    let program = Program::ready("many", Variant::Pie);
    settle(program.pid());
    let leakprobe = looked(&program, "many", &["-m", "0s"]);
    program.kill(libc::SIGKILL);
    let (ended, recording) = files(leakprobe);
    assert!(recording.target.ended.is_some(), "{:?}", recording.target);
    // Threads that were parked when it was killed are what there is to tell.
    assert!(recording.sites.iter().any(|site| site.count == 100), "{:?} {:?}", recording.sites, ended.stdout);
    assert!(ended.stdout.contains("park"), "{ended:?}");
}

#[test]
fn each_signal_that_ends_us_leaves_a_report_and_files() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let program = Program::ready("many", Variant::Pie);
        settle(program.pid());
        let leakprobe = looked(&program, "many", &["-m", "0s", "-o", "picture.svg"]);
        leakprobe.kill(signal);
        let (ended, recording) = files(leakprobe);
        assert_eq!(recording.tasks.len(), 101, "signal {signal}");
        assert!(ended.stdout.contains("park"), "{ended:?}");
        assert!(fs::read_to_string(ended.directory.path().join("picture.svg")).unwrap().contains("</svg>"));
        assert_eq!(switches(program.pid(), u64::from(program.pid())).map(|(_, state)| state), Some('S'));
    }
}

#[test]
fn run_ends_when_its_program_does() {
    need_root();
    let leakprobe = Running::record(&[
        "run",
        "-m",
        "0s",
        "-i",
        "100ms",
        "--",
        program_path("ends", Variant::Pie).to_str().unwrap(),
    ]);
    // Its stdin is that of leakprobe, which is /dev/null: it ends by itself.
    let recording = leakprobe.recording();
    assert_eq!(recording.target.ended.as_deref().map(str::is_empty), Some(false));
}

#[test]
fn attach_ends_after_its_duration_and_writes_a_picture_by_default() {
    let program = Program::ready("many", Variant::Pie);
    need_root();
    let pid = program.pid().to_string();
    let ended = Running::start(["attach", "-p", &pid, "-d", "200ms", "-i", "50ms", "-m", "0s"]).end();
    ended.succeeded();
    let picture = ended.directory.path().join(format!("leakprobe-{pid}.svg"));
    let svg = fs::read_to_string(&picture).unwrap();
    assert!(svg.contains("park") && svg.trim_end().ends_with("</svg>"));
    assert!(ended.stderr.contains(&format!("wrote leakprobe-{pid}.svg")), "{ended:?}");
}

#[test]
fn a_wait_that_ends_after_the_threshold_is_reported_with_its_stack_and_how_long_it_was() {
    let mut program = Program::ready("ends", Variant::Pie);
    settle(program.pid());
    let leakprobe = looked(&program, "ends", &["-m", "20ms"]);
    let line = program.ask("wait", "waiting ");
    let tid = Program::field(&line, "tid") as u64;
    let began = settle(program.pid())[&tid].seen_ns;
    // Past the threshold, by the clock that the wait is measured with.
    wait_for("the threshold to pass", || (monotonic_ns() > began + 50_000_000).then_some(()));
    let woken = monotonic_ns();
    let after = Program::field(&program.ask("wake", "woke "), "after") as u64;
    let leakprobe_ended = leakprobe.stop();
    let waits: Vec<_> = leakprobe_ended.ended_waits.iter().filter(|wait| wait.task == tid).collect();
    let own: Vec<_> = waits
        .iter()
        .filter(|wait| {
            wait.stack.iter().any(|&frame| leakprobe_ended.frames[frame as usize].function == "wait_until_woken")
        })
        .collect();
    assert_eq!(own.len(), 1, "{:?}", leakprobe_ended.ended_waits);
    let wait = own[0];
    chain(&leakprobe_ended, &wait.stack, &["wait_until_woken", "run"]);
    assert_eq!((wait.count, wait.wait.kind, &*wait.wait.reason), (1, WaitKind::Futex, "condition variable"));
    assert_eq!(wait.name, "waiter");
    let before = Program::field(&line, "before") as u64;
    let bounds = (woken - began) / 1_000_000..=(after - before) / 1_000_000;
    assert!(wait.wait.exact && bounds.contains(&wait.wait.age_ms), "{wait:?}, not in {bounds:?}");
    assert_eq!(wait.total_ms, wait.wait.age_ms);
}

#[test]
fn a_wait_shorter_than_the_threshold_is_not_reported() {
    let mut program = Program::ready("ends", Variant::Pie);
    settle(program.pid());
    let leakprobe = looked(&program, "ends", &[]);
    for _ in 0..10 {
        program.ask("wait", "waiting ");
        program.ask("wake", "woke ");
    }
    let recording = leakprobe.stop();
    assert!(recording.ended_waits.is_empty(), "{:?}", recording.ended_waits);
    assert_eq!(task_named(&recording, "waiter").site, None);
}

#[test]
fn a_program_whose_first_thread_ends_at_once_is_watched_to_its_end() {
    need_root();
    let program = program_path("leader_exits", Variant::Pie);
    let leakprobe = Running::record(&["run", "-m", "0s", "-i", "20ms", "-d", "30s", "--", program.to_str().unwrap()]);
    // It ends at once, since its stdin is /dev/null: whatever was seen is told without failure.
    let recording = leakprobe.recording();
    assert!(recording.coverage.created >= 3, "{:?}", recording.coverage);
}

#[test]
fn a_first_thread_that_ends_between_two_snapshots_does_not_end_the_watch() {
    // The shell lets us attach before the program begins.
    let path: PathBuf = program_path("leader_exits", Variant::Pie);
    let mut program = Program::start(Command::new("/bin/sh").args(["-c", "read line; exec \"$0\""]).arg(&path));
    let pid = program.pid().to_string();
    let mut leakprobe = Running::record(&["attach", "-p", &pid, "-m", "0s", "-i", "20ms"]);
    leakprobe.attached();
    program.say("go");
    program.expect("ready");
    settle(program.pid());
    let recording = leakprobe.stop();
    assert_eq!(recording.target.ended, None);
    assert_eq!(recording.tasks.len(), 4, "{:?}", recording.tasks);
    let stays = recording.tasks.iter().filter(|task| &*task.name == "stays");
    for stays in stays {
        chain(&recording, &stays.stack, &["park", "stay", "parked"]);
        assert!(stays.created_by.known, "{stays:?}");
        chain(&recording, &stays.created_by.stack, &["listen_to_stdin"]);
    }
    assert_eq!(task(&recording, u64::from(program.pid())).state, leakprobe::model::TaskState::Exited);
}
