//! The leak tests of Go's own toolchain: GOROOT/src/runtime/testdata/testgoroutineleakprofile, of Go 1.27.
//!
//! They are two programs, one of small cases and one of bugs of real projects (`goker`); the argument names the case. A
//! case leaks goroutines and writes the profile `goroutineleak` with debug=2 to stdout: the runtime looks for goroutines
//! that nothing can wake any more, gives them the status "leaked", and lists all goroutines, those marked `(leaked)`. The
//! runtime's own test, src/runtime/goroutineleakprofile_test.go, has the list of cases; it takes what is marked, and
//! compares the outermost function and the wait with patterns. It runs the small cases and some others (`makeTest`) with
//! GOMAXPROCS=1, and all with GODEBUG=asyncpreemptoff=1; in many of the others (`makeFlakyTest`) chance decides which
//! goroutines leak, so that here, too, only what the very run says counts.
//!
//! Stdout is a pipe that is full: the case stops when it writes its leaks, and all of them are still there.

use std::{
    fs,
    io::{PipeReader, Read, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use leakprobe::model::{Recording, TaskKind, TaskState};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::{
    compare::differences,
    dump::{Goroutine, parse},
    support::{Ended, leakprobe, need_root, wait_for},
    target::built,
};

struct Case {
    name: String,
    program: PathBuf,
    /// On one processor, so that it comes out the same each time.
    simple: bool,
}

/// The cases that the runtime's test runs.
fn cases() -> Vec<Case> {
    let text = fs::read_to_string(built("1.27/leak-suite/cases.txt")).unwrap();
    let (small, goker) = text.split_once("gokerTestCases := ").unwrap();
    let named = |text: &str, program: &str| -> Vec<Case> {
        let name = |line: &str| {
            let flaky = line.trim_start().strip_prefix("makeFlakyTest(\"");
            let call = flaky.or_else(|| line.trim_start().strip_prefix("makeTest(\""))?;
            let name = call.split('"').next().unwrap().to_owned();
            Some(Case { name, program: built(&format!("1.27/leak-suite/{program}")), simple: flaky.is_none() })
        };
        text.lines().filter_map(name).collect()
    };
    named(small, "small").into_iter().chain(named(goker, "goker")).collect()
}

/// A case that is stopped while it writes its leaks. Killed when dropped.
struct Stopped {
    child: Child,
    output: PipeReader,
    /// What filled the pipe before.
    filler: usize,
    /// How much the case writes.
    size: usize,
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stopped {
    fn start(case: &Case) -> Self {
        let (output, mut input) = std::io::pipe().unwrap();
        fcntl(&input, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut filler = 0;
        while let Ok(written) = input.write(&[b'.'; 4096]) {
            filler += written;
        }
        fcntl(&input, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        let mut command = Command::new(&case.program);
        command.arg(&case.name).env("GODEBUG", "asyncpreemptoff=1").stdout(input).stderr(Stdio::null());
        if case.simple {
            command.env("GOMAXPROCS", "1");
        }
        let mut child = command.spawn().unwrap();
        let size = wait_for(&format!("{} to write its leaks", case.name), || {
            assert!(child.try_wait().unwrap().is_none(), "{} ended without a word", case.name);
            writes(child.id())
        });
        Self { child, output, filler, size }
    }

    /// Lets it go on; what it says are leaks.
    fn leaks(mut self) -> Vec<Goroutine> {
        let mut bytes = vec![0; self.filler + self.size];
        self.output.read_exact(&mut bytes).unwrap();
        let text = String::from_utf8(bytes.split_off(self.filler)).unwrap();
        let mut goroutines = parse(&text).unwrap();
        goroutines.retain(|goroutine| goroutine.status.ends_with(" (leaked)"));
        goroutines
    }
}

/// How much a process that is stopped in a write to stdout writes.
fn writes(pid: u32) -> Option<usize> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    tasks.filter_map(Result::ok).find_map(|task| {
        let call = fs::read_to_string(task.path().join("syscall")).ok()?;
        // E.g. `1 0x1 0xc000100000 0x2a8 …`: write(1, …, 680).
        let mut words = call.split(' ');
        let is_write = words.next()? == libc::SYS_write.to_string() && words.next()? == "0x1";
        let size = usize::from_str_radix(words.nth(1)?.strip_prefix("0x")?, 16).ok()?;
        is_write.then_some(size)
    })
}

/// A snapshot, in which no goroutine was lost if that can be had: the case waits in its write, but its collector may still be at work
/// on the others, and what it is at cannot be read. That is said, and then it is looked again.
fn snapshot(pid: &str) -> (Ended, Recording) {
    let mut looks = (0..5).map(|_| {
        let ended = leakprobe(["snapshot", "-p", pid, "-m", "0s", "-o", "all.goroutines.txt", "-o", "all.json"]);
        ended.succeeded();
        let recording = leakprobe::report::json::read(&ended.directory.path().join("all.json")).unwrap();
        (ended, recording)
    });
    let mut last = looks.next().unwrap();
    while last.1.losses.keys().any(|loss| loss.code().starts_with("go"))
        && let Some(next) = looks.next()
    {
        last = next;
    }
    last
}

/// Every goroutine that Go calls leaked is in leakprobe's list, parked, at the same place, with the same reason.
#[test]
fn what_go_calls_leaked_is_found() {
    need_root();
    let cases = cases();
    assert!(cases.len() >= 75, "only {} cases", cases.len());
    let mut with_leaks = 0;
    for case in &cases {
        let stopped = Stopped::start(case);
        let pid = stopped.child.id().to_string();
        let (ended, recording) = snapshot(&pid);
        let text = fs::read_to_string(ended.directory.path().join("all.goroutines.txt")).unwrap();
        let mut ours = parse(&text).unwrap();
        let leaks = stopped.leaks();
        ours.retain(|ours| leaks.iter().any(|leak| leak.id == ours.id));
        let differences = differences(&leaks, &ours);
        assert!(differences.is_empty(), "{}:\n{differences}\n{:?}", case.name, recording.losses);
        for leak in &leaks {
            let parked = |task: &&leakprobe::model::Task| {
                task.kind == TaskKind::Goroutine && task.id == leak.id && task.state == TaskState::Parked
            };
            assert!(recording.tasks.iter().any(|task| parked(&task)), "{}: not parked: {leak:?}", case.name);
        }
        with_leaks += usize::from(!leaks.is_empty());
        eprintln!("{}: {} of {} leaked goroutines", case.name, ours.len(), leaks.len());
    }
    // Two have none, and chance decides about some.
    assert!(with_leaks >= 60, "only {with_leaks} of {} cases leaked", cases.len());
}
