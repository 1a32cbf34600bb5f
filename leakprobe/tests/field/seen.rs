//! Programs that were not seen, or seen wrongly: what a snapshot has to show of each.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use leakprobe::model::{Recording, TaskKind, Verdict};

use crate::{
    started::{Started, copy, sites_at, stop, words},
    support::{functions, leakprobe, settle, wait_for},
    table::{FIELD, java_21},
};

/// What the sites of a recording are, without what differs from process to process, and without connections that are being closed.
fn told(recording: &Recording) -> Vec<(TaskKind, u64, Vec<String>, Vec<String>)> {
    let is_of_connection = |function: &String| function.starts_with("net/http.(*conn)");
    let mut told: Vec<_> = recording
        .sites
        .iter()
        // Threads of the runtime wait where they happen to have run out of work.
        .filter(|site| site.role.is_own())
        .filter(|site| !functions(recording, &site.stack).iter().any(is_of_connection))
        .map(|site| (site.task, site.count, functions(recording, &site.stack), functions(recording, &site.creation)))
        .collect();
    told.sort_unstable_by(|a, b| format!("{a:?}").cmp(&format!("{b:?}")));
    told
}

#[test]
fn go_in_a_pid_namespace_is_seen_as_outside() {
    let outside = Started::server(&["go", "pipe-reader", "leak"]);
    let mut command: Vec<String> = ["unshare", "-pf", "--kill-child", "--mount-proc"].map(str::to_owned).to_vec();
    command.extend(words(&["go", "pipe-reader", "leak"]));
    let inside = Started::server_of(&command).its_child();
    for program in [&outside, &inside] {
        program.load(3);
    }
    let (report, inside) = inside.snapshot();
    let readers = sites_at(&inside, "main.readPipe");
    assert_eq!(
        readers.iter().map(|site| (site.task, site.count)).collect::<Vec<_>>(),
        [(TaskKind::Goroutine, 12)],
        "{report}"
    );
    assert_eq!(told(&inside), told(&outside.snapshot().1), "{report}");
}

#[test]
fn go_without_build_information_is_seen_with_its_goroutines() {
    let folder = tempfile::tempdir().unwrap();
    let removed = |path: &Path| {
        let status = Command::new("objcopy").arg("--remove-section=.go.buildinfo").arg(path).status();
        assert!(status.unwrap().success());
    };
    let zeroed = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let magic = b"\xff Go buildinf:";
        let at = bytes.windows(magic.len()).position(|window| window == magic).unwrap();
        bytes[at..at + magic.len()].fill(0);
        fs::write(path, bytes).unwrap();
    };
    let whole = Started::server(&["go", "follower", "leak"]);
    whole.load(5);
    let (_, whole) = whole.snapshot();
    let changes: [&dyn Fn(&Path); 2] = [&removed, &zeroed];
    for change in changes {
        let program = copy("go", folder.path(), change);
        let started = Started::server_of(&[program, "follower".to_owned(), "leak".to_owned()]);
        started.load(5);
        let (report, recording) = started.snapshot();
        assert!(sites_at(&recording, "main.copyEvents").iter().map(|site| site.count).sum::<u64>() == 5, "{report}");
        assert_eq!(told(&recording), told(&whole), "{report}");
    }
}

#[test]
fn one_goroutine_after_a_million_others_is_one() {
    let program = Started::ready(&["go", "past"]);
    let mut leakprobe = program.attach(&["-m", "0s", "-i", "50ms"]);
    leakprobe.has_looked(&FIELD.built().join("go"));
    program.signal(libc::SIGUSR1);
    // It lives for two seconds.
    thread::sleep(Duration::from_millis(500));
    let (report, recording) = stop(leakprobe);
    let go = recording.coverage.go.unwrap();
    assert_eq!((go.created, go.gone), (1, 0), "{report}");
}

#[test]
fn the_other_end_of_a_goroutines_pipe_is_named() {
    let program = Started::ready(&["go", "child-pipe"]);
    let (report, recording) = wait_for("the goroutine to wait", || {
        let (report, recording) = program.snapshot();
        (!sites_at(&recording, "main.readOutput").is_empty()).then_some((report, recording))
    });
    assert_eq!(sites_at(&recording, "main.readOutput").len(), 1, "{report}");
    let is_named = |line: &str| line.contains("other end") && line.contains("fd 1 of ") && line.contains("(sleep");
    assert!(report.lines().any(is_named), "{report}");
}

#[test]
fn a_lock_that_another_process_holds_is_never_proven_dead() {
    for kind in ["plain", "inherit"] {
        let program = Started::ready(&["threads", "shared-lock", kind]);
        wait_for("the thread to wait", || (!sites_at(&program.snapshot().1, "wait_for").is_empty()).then_some(()));
        let (report, recording) = program.snapshot();
        let sites = sites_at(&recording, "wait_for");
        assert!(sites.iter().all(|site| site.verdict < Verdict::Likely), "{kind}: {report}");
        assert!(report.contains("live-holder"), "the holder of the {kind} lock is not named: {report}");
    }
}

#[test]
fn site_ids_survive_another_file_name() {
    let folder = tempfile::tempdir().unwrap();
    let renamed = copy("go", folder.path(), |_| {});
    let id = |started: &Started, function: &str| {
        started.load(2);
        wait_for("the tasks to wait", || {
            let (_, recording) = started.snapshot();
            sites_at(&recording, function).first().map(|site| site.id.clone())
        })
    };
    let deposit = "main.(*account).deposit";
    let one = id(&Started::server(&["go", "pattern-order"]), deposit);
    assert_eq!(one, id(&Started::server_of(&[renamed, "pattern-order".to_owned()]), deposit));
    let renamed = copy("threads", folder.path(), |_| {});
    let one = id(&Started::server(&["threads", "named"]), "await_event");
    assert_eq!(one, id(&Started::server_of(&[renamed, "named".to_owned()]), "await_event"));
}

#[test]
fn a_pool_that_worked_is_the_same_pool() {
    let program = Started::server(&["java", "started-pool"]);
    let folder = tempfile::tempdir().unwrap();
    let [before, after] =
        ["before.json", "after.json"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    let write = |path: &str| {
        let (_, recording) = program.snapshot();
        fs::write(path, serde_json::to_string(&recording).unwrap()).unwrap();
    };
    program.load(1);
    write(&before);
    program.load(20);
    write(&after);
    let ended = leakprobe(["diff", &before, &after]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn tasks_that_are_not_read_are_named() {
    let is_named = |started: &Started, what: &str| {
        started.load(5);
        let (report, recording) = started.snapshot();
        assert!(recording.coverage.unseen.iter().any(|unseen| unseen.what == what), "{:?}", recording.coverage.unseen);
        assert!(report.contains(what), "{report}");
    };
    is_named(&Started::server(&["python", "tasks"]), "asyncio tasks");
    if java_21().is_some() {
        is_named(&Started::server(&["java-21", "virtual-threads"]), "virtual threads");
    }
}

#[test]
fn threads_of_ruby_have_whole_stacks() {
    let ruby = words(&["ruby"]);
    let program = Started::ready_of(&ruby);
    let (report, recording) = program.snapshot();
    let coverage = &recording.coverage;
    assert_eq!((coverage.stacks_complete, coverage.blocked), (coverage.blocked, coverage.threads), "{report}");
}

/// A Python of version 3.12 or later.
fn python_312() -> Option<PathBuf> {
    let on_path = ["python3", "python3.12", "python3.13"].map(PathBuf::from);
    let home = PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".pyenv/versions");
    let of_pyenv = fs::read_dir(home).into_iter().flatten().flatten().map(|entry| entry.path().join("bin/python3"));
    let is_new = |python: &PathBuf| {
        let version = Command::new(python).args(["-c", "import sys; sys.exit(sys.version_info < (3, 12))"]).output();
        version.is_ok_and(|output| output.status.success())
    };
    on_path.into_iter().chain(of_pyenv).find(is_new)
}

#[test]
fn threads_of_python_have_whole_stacks_through_its_trampolines() {
    let Some(python) = python_312() else {
        eprintln!("there is no Python 3.12");
        return;
    };
    let mut command = words(&["python", "abba"]);
    command[0] = python.to_str().unwrap().to_owned();
    command.splice(1..1, ["-X", "perf"].map(str::to_owned));
    let program = Started::ready_of(&command);
    settle(program.pid());
    let (report, recording) = program.snapshot();
    let coverage = &recording.coverage;
    assert_eq!((coverage.stacks_complete, coverage.threads), (coverage.threads, 3), "{report}");
    assert!(!recording.deadlocks.is_empty() || report.contains("debit"), "{report}");
}
