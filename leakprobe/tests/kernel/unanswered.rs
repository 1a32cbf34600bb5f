//! Memory and files that never answer cost their own threads and names, and nothing else: other threads, other targets, the clock and
//! signals go on.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use leakprobe::{
    model::{Gap, Loss, Recording, TaskKind},
    report::json,
};

use crate::support::{
    Program, Running, Variant, attach, chain, leakprobe, need_root, program_path, settle, snapshot, tasks_named,
};

/// The threads of the program `unanswered` whose stacks lie in memory that does not answer.
const TRAPPED: usize = 3;
/// By when whatever depends on nobody's answer is done, on a machine that is busy.
const SOON: Duration = Duration::from_secs(20);
const LOSS: Loss = Loss::ThreadMemoryUnanswered;

/// The program; `None` if this kernel was built without userfaultfd or FUSE, whichever it needs.
fn unanswered(mode: &str) -> Option<Program> {
    need_root();
    let mut program = Program::start(Command::new(program_path("unanswered", Variant::Pie)).arg(mode));
    if program.expect("") == "cannot" {
        return None;
    }
    // A thread that makes pages vanish never rests, nor does one that waits for a page count as at rest.
    if mode != "vanish" && mode != "mapped" {
        settle(program.pid());
    }
    Some(program)
}

/// Whoever else lives in the process is seen whole.
fn others_are_complete(recording: &Recording) {
    let bystanders = tasks_named(recording, "bystander");
    assert_eq!(bystanders.len(), 2);
    bystanders.iter().for_each(|task| chain(recording, &task.stack, &["park", "bystander"]));
    let trapped = tasks_named(recording, "trapped");
    assert_eq!(trapped.len(), TRAPPED);
    assert!(trapped.iter().all(|task| task.stack.is_empty() && task.kind == TaskKind::Thread));
}

#[test]
fn memory_that_never_answers_costs_its_own_threads_alone() {
    for mode in ["uffd", "mapped"] {
        let Some(program) = unanswered(mode) else { return };
        let began = Instant::now();
        let recording = snapshot(program.pid());
        assert!(began.elapsed() < SOON, "{mode}");
        others_are_complete(&recording);
        assert_eq!(recording.losses.get(&LOSS), Some(&(TRAPPED as u64)), "{mode}: {:?}", recording.losses);
        let pid = program.pid().to_string();
        let text = leakprobe(["snapshot", "-p", &pid, "-m", "0s"]).succeeded().stdout.replace("\n               ", " ");
        assert!(text.contains("3 threads whose stack does not answer"), "{text}");
    }
}

#[test]
fn the_clock_and_signals_are_served_whatever_hangs() {
    let Some(program) = unanswered("uffd") else { return };
    let began = Instant::now();
    let recording = attach(&program, &["-d", "1s"]).recording();
    assert!(began.elapsed() < SOON);
    others_are_complete(&recording);
    let leakprobe = attach(&program, &[]);
    let began = Instant::now();
    others_are_complete(&leakprobe.stop());
    assert!(began.elapsed() < SOON);
}

#[test]
fn another_target_misses_no_snapshot() {
    let Some(hung) = unanswered("uffd") else { return };
    let many = Program::ready_with("many", Variant::Pie, &["3"]);
    settle(many.pid());
    let list = format!("{},{}", hung.pid(), many.pid());
    let ended = Running::record(&["attach", "-p", &list, "-d", "3s", "-i", "300ms", "-m", "0s"]).end();
    let read = |pid: u32| json::read(&ended.directory.path().join(format!("recording-{pid}.json"))).unwrap();
    ended.succeeded();
    let [hung, many] = [&hung, &many].map(|program| read(program.pid()));
    others_are_complete(&hung);
    let [theirs, ours] = [&hung, &many].map(|recording| recording.coverage.snapshots);
    assert_eq!(many.tasks.len(), 4);
    assert!(ours + 1 >= theirs && ours >= 2, "{ours} and {theirs}");
}

#[test]
fn pages_that_vanish_while_they_are_read_stop_nobody() {
    let Some(program) = unanswered("vanish") else { return };
    let began = Instant::now();
    let leakprobe = attach(&program, &["-d", "2s", "-i", "20ms"]);
    let recording = leakprobe.recording();
    assert!(began.elapsed() < SOON);
    assert_eq!(tasks_named(&recording, "trapped").len(), TRAPPED);
    tasks_named(&recording, "bystander").iter().for_each(|task| chain(&recording, &task.stack, &["park", "bystander"]));
}

/// The file is that of the program itself. What can be known without it is: its threads, what they wait for, its libraries.
#[test]
fn a_program_whose_file_system_hangs_is_seen_without_it() {
    let Some(mut program) = unanswered("file") else { return };
    let recording = snapshot(program.pid());
    assert_eq!(recording.losses.get(&LOSS), None);
    tasks_named(&recording, "bystander").iter().for_each(|task| chain(&recording, &task.stack, &["park", "bystander"]));
    program.ask("hang", "hangs");
    let began = Instant::now();
    let pid = program.pid().to_string();
    let ended = Running::record(&["attach", "-p", &pid, "-d", "1s", "-m", "0s"]).end();
    assert!(began.elapsed() < SOON);
    let recording = json::read(&ended.succeeded().directory.path().join("recording.json")).unwrap();
    assert_eq!(recording.tasks.len(), 3);
    let gap = Gap::FileUnanswered { path: "/tmp/f".to_owned(), filesystem: "fuse".to_owned() };
    assert!(recording.coverage.gaps.contains(&gap), "{:?}", recording.coverage.gaps);
    // Ctrl-C reports, too.
    let leakprobe = attach(&program, &[]);
    let began = Instant::now();
    assert_eq!(leakprobe.stop().tasks.len(), 3);
    assert!(began.elapsed() < SOON);
}
