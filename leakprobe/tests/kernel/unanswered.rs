//! Memory and files that never answer cost their own threads and names, and nothing else: other threads, other targets, the clock and
//! signals go on.

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use leakprobe::{
    model::{Gap, Loss, Recording, TaskKind},
    report::json,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{
    Program, Running, Variant, attach, chain, children_of, leakprobe, need_root, proc_status, program_path, settle,
    snapshot, tasks_named, wait_for,
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
    if mode != "vanish" && mode != "mapped" && mode != "exec" {
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

/// A program that hangs in exec: most kernels let nobody see what it has open, maps or runs. It cannot even be killed before the server
/// of its file ends.
struct Hung(Program);

impl Hung {
    fn start() -> Option<Self> {
        unanswered("exec").map(Self)
    }

    /// Returns whether the kernel keeps whoever looks into it waiting: Linux 7.2 does not.
    fn hang(&mut self) -> bool {
        self.0.ask("hang", "hangs");
        // It has ended its other threads, and does not come to start new ones.
        let pid = self.0.pid();
        let is_alone = || (proc_status(pid, "Threads").as_deref() == Some("1")).then_some(());
        wait_for("its other threads to end", is_alone);
        thread::sleep(Duration::from_millis(300));
        assert!(is_alone().is_some(), "it has begun the program");
        let mut reader =
            Command::new("readlink").arg(format!("/proc/{pid}/exe")).stdout(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_secs(1));
        let waits = reader.try_wait().unwrap().is_none();
        reader.kill().unwrap();
        reader.wait().unwrap();
        waits
    }

    fn pid(&self) -> u32 {
        self.0.pid()
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        for server in children_of(self.pid()).into_iter().filter_map(|id| i32::try_from(id).ok()) {
            let _ = kill(Pid::from_raw(server), Signal::SIGKILL);
        }
    }
}

#[test]
fn a_process_that_hangs_in_exec_is_left_out_and_others_are_not() {
    let Some(mut hung) = Hung::start() else { return };
    if !hung.hang() {
        assert_eq!(snapshot(hung.pid()).tasks.len(), 1, "it is seen as others are");
        return;
    }
    // Its wait has other ends, which are looked for among all processes.
    let waiting = Program::start(Command::new("cat").stdin(Stdio::piped()));
    settle(waiting.pid());
    let [hung, pid] = [hung.pid(), waiting.pid()].map(|pid| pid.to_string());
    for command in [&["snapshot"][..], &["attach", "-d", "1s"]] {
        let began = Instant::now();
        let alone = leakprobe(command.iter().copied().chain(["-p", &hung]));
        assert_eq!(alone.code, Some(7), "{}", alone.stderr);
        assert!(alone.stderr.contains(&format!("process {hung} does not answer")), "{}", alone.stderr);
        let ended = Running::record(&[command, &["-m", "0s", "-p", &format!("{hung},{pid}")]].concat()).end();
        assert!(ended.stderr.contains(&format!("process {hung} does not answer")), "{}", ended.stderr);
        assert!(began.elapsed() < SOON, "{command:?}");
        let recording = json::read(&ended.succeeded().directory.path().join("recording.json")).unwrap();
        let object = recording.tasks[0].wait.as_ref().map(|wait| wait.object.clone());
        assert!(object.as_ref().is_some_and(|object| object.contains("pipe:")), "{object:?}");
    }
}

#[test]
fn a_target_that_begins_to_hang_costs_its_own_report_alone() {
    let Some(mut hung) = Hung::start() else { return };
    let many = Program::ready_with("many", Variant::Pie, &["3"]);
    settle(many.pid());
    let list = format!("{},{}", many.pid(), hung.pid());
    let mut leakprobe = Running::record(&["attach", "-p", &list, "-d", "5s", "-i", "300ms", "-m", "0s"]);
    leakprobe.attached();
    let waits = hung.hang();
    let began = Instant::now();
    let ended = leakprobe.end();
    if !waits {
        ended.succeeded();
        return;
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert!(ended.stderr.contains(&format!("process {} does not answer", hung.pid())), "{}", ended.stderr);
    let recording = json::read(&ended.succeeded().directory.path().join("recording.json")).unwrap();
    assert_eq!(recording.tasks.len(), 4);
    assert!(recording.coverage.snapshots > 3, "{}", recording.coverage.snapshots);
    assert!(
        recording.coverage.gaps.contains(&Gap::ProcessUnanswered { pid: hung.pid() }),
        "{:?}",
        recording.coverage.gaps
    );
}
