//! What a futex wait is a part of, in programs of two C libraries, with all the names that there can be and with as few.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use leakprobe::model::{Recording, WaitKind};

use crate::{
    built::build,
    support::{Program, Running, leakprobe_binary, need_root, settle, snapshot, task},
};

/// Each kind that `futexes.c` says, and its name in reports.
const NAMES: [(&str, &str); 18] = [
    ("mutex", "mutex"),
    ("mutex_timed", "mutex"),
    ("recursive", "mutex (recursive)"),
    ("errorcheck", "mutex (error-checking)"),
    ("robust", "mutex (robust)"),
    ("robust_timed", "mutex (robust)"),
    ("pi", "mutex (priority inheritance)"),
    ("rwlock_read", "rwlock (read)"),
    ("rwlock_read_timed", "rwlock (read)"),
    ("rwlock_write", "rwlock (write)"),
    ("cond", "condition variable"),
    ("cond_timed", "condition variable"),
    ("sem", "semaphore"),
    ("sem_timed", "semaphore"),
    ("sem_shared", "semaphore"),
    ("barrier", "barrier"),
    ("join", "join"),
    ("once", "once"),
];

/// `futexes.c`, running; by kind, the thread that waits and the one that holds what it waits for, 0 for nobody.
struct Futexes {
    program: Program,
    said: BTreeMap<String, (u64, u64)>,
    _folder: tempfile::TempDir,
}

impl Futexes {
    fn start(compiler: &str, flags: &[&str]) -> Self {
        need_root();
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = build(compiler, "futexes.c", &folder.path().join("futexes"), flags);
        let mut program = Program::ready_at(&path);
        let lines = program.passed();
        let said = lines.iter().filter(|line| line.starts_with("wait ")).map(|line| {
            let kind = line.split_whitespace().find_map(|word| word.strip_prefix("kind=")).unwrap().to_owned();
            (kind, (Program::field(line, "tid") as u64, Program::field(line, "holder") as u64))
        });
        let said: BTreeMap<_, _> = said.collect();
        assert_eq!(said.len(), NAMES.len(), "{lines:?}");
        settle(program.pid());
        Self { program, said, _folder: folder }
    }

    /// Calls `check` with each kind, its name, and what the recording says: the name and the holder there.
    fn each(&self, recording: &Recording, check: impl Fn(&str, &str, u64, &str, Option<u64>)) {
        for (kind, name) in NAMES {
            let (tid, holder) = self.said[kind];
            let wait = task(recording, tid).wait.as_ref().unwrap_or_else(|| panic!("{kind} does not wait"));
            assert_eq!(wait.kind, WaitKind::Futex, "{kind}");
            check(kind, name, holder, &wait.reason, wait.owner.as_ref().map(|owner| owner.task));
        }
    }

    fn all_are_named(&self, recording: &Recording) {
        self.each(recording, |kind, name, holder, reason, owner| {
            assert_eq!((reason, owner), (name, Some(holder).filter(|holder| *holder != 0)), "{kind}");
        });
    }
}

/// A snapshot by a leakprobe that finds no debug files.
fn snapshot_without_debug_files(pid: u32) -> Recording {
    let script = "mkdir -p /usr/lib/debug && mount -t tmpfs none /usr/lib/debug && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(leakprobe_binary());
    Running::of(command.args(["snapshot", "-q", "-m", "0s", "-o", "recording.json", "-p", &pid.to_string()]))
        .recording()
}

#[test]
fn every_primitive_of_glibc_is_named_with_its_debug_files_and_without() {
    assert!(Path::new("/usr/lib/debug/.build-id").exists(), "libc6-dbg is missing: `cargo xtask test` installs it");
    let futexes = Futexes::start("cc", &[]);
    futexes.all_are_named(&snapshot(futexes.program.pid()));
    futexes.all_are_named(&snapshot_without_debug_files(futexes.program.pid()));
}

/// What glibc's inner functions are called as is told by the calls, of which there are several kinds.
#[test]
fn stripped_programs_tell_by_their_calls_whatever_these_are_like() {
    for flags in [
        &["-s", "-Wl,-z,lazy"][..],
        &["-s", "-Wl,-z,now", "-fcf-protection=full", "-Wl,-z,ibtplt"],
        &["-s", "-fno-plt"],
        &["-s", "-no-pie", "-fno-pie"],
    ] {
        let futexes = Futexes::start("cc", flags);
        futexes.all_are_named(&snapshot_without_debug_files(futexes.program.pid()));
    }
}

#[test]
fn a_static_program_is_as_good() {
    let futexes = Futexes::start("cc", &["-static"]);
    futexes.all_are_named(&snapshot(futexes.program.pid()));
}

/// musl is built without unwind information, so that a stack ends before the function that would tell. Then nothing is claimed.
#[test]
fn of_musl_what_cannot_be_known_is_not_claimed() {
    for flags in [&["-static"][..], &[], &["-s"]] {
        let futexes = Futexes::start("musl-gcc", flags);
        futexes.each(&snapshot(futexes.program.pid()), |kind, name, holder, reason, owner| {
            let is_told = reason != "futex wait";
            // Which kind of mutex it is, is not always known either.
            assert!(!is_told || name.starts_with(reason), "{kind} with {flags:?}: {reason}");
            assert!(owner.is_none_or(|owner| owner == holder), "{kind} with {flags:?}: {owner:?}, not {holder}");
            // Those that make the call themselves.
            assert_eq!(is_told, ["barrier", "pi"].contains(&kind), "{kind} with {flags:?}: {reason}");
        });
    }
}
