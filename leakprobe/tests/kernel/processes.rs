//! Several processes at once: named, found, and followed as they are forked.

use std::{collections::BTreeSet, fs, path::Path};

use leakprobe::{model::Recording, report::json};

use crate::support::{
    Program, Running, Variant, chain, leakprobe, need_root, program_path, settle, task_named, wait_for,
};

/// What was written for each process: `recording-PID.json`.
fn recordings(folder: &Path) -> Vec<Recording> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let is_json = |path: &&std::path::PathBuf| path.extension().is_some_and(|extension| extension == "json");
    paths.iter().filter(is_json).map(|path| json::read(path).unwrap()).collect()
}

fn pids(recordings: &[Recording]) -> BTreeSet<u32> {
    recordings.iter().map(|recording| recording.target.pid).collect()
}

#[test]
fn several_processes_have_a_report_and_files_each() {
    need_root();
    let programs = [3, 5].map(|count| Program::ready_with("many", Variant::Pie, &[&count.to_string()]));
    programs.iter().for_each(|program| drop(settle(program.pid())));
    let list = format!("{},{}", programs[0].pid(), programs[1].pid());
    let ended = leakprobe(["snapshot", "-p", &list, "-m", "0s", "-o", "recording.json", "-o", "a.svg"]);
    let ended = ended.succeeded();
    assert!(ended.stdout.starts_with("2 processes\n"), "{}", ended.stdout);
    for (program, count) in programs.iter().zip([3, 5]) {
        let pid = program.pid();
        assert!(ended.stdout.contains(&format!("(pid {pid})")), "{}", ended.stdout);
        assert!(ended.directory.path().join(format!("a-{pid}.svg")).exists());
        let recording = json::read(&ended.directory.path().join(format!("recording-{pid}.json"))).unwrap();
        assert_eq!((recording.target.pid, recording.tasks.len()), (pid, count + 1));
    }
    assert!(!ended.directory.path().join("recording.json").exists());
}

#[test]
fn processes_are_found_by_name_and_executable_and_nobody_is_told_apart_from_a_wrong_pattern() {
    need_root();
    // A name of its own: other tests run the same program.
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("found-by-name");
    fs::copy(program_path("many", Variant::Static), &copy).unwrap();
    let start = || {
        let mut program = Program::start(std::process::Command::new(&copy).arg("2"));
        program.expect("ready");
        settle(program.pid());
        program
    };
    let programs = [start(), start()];
    let expected: BTreeSet<u32> = programs.iter().map(Program::pid).collect();
    let exe = format!("^{}$", copy.canonicalize().unwrap().display());
    for pattern in [["--comm", "^found-by-name$"], ["--exe", &exe]] {
        let args = ["snapshot", "-q", "-m", "0s", "-o", "recording.json"];
        let ended = leakprobe(args.iter().chain(&pattern));
        assert_eq!(pids(&recordings(ended.succeeded().directory.path())), expected, "{pattern:?}");
    }
    leakprobe(["snapshot", "--comm", "^no such name$"]).failed(4, &["no process matches --comm ^no such name$"]);
    leakprobe(["snapshot", "--comm", "("]).failed(2, &["--comm"]);
    leakprobe(["attach", "-p", "4000000000,4000000001"]).failed(4, &["no process with pid"]);
}

#[test]
fn a_process_is_found_after_its_first_thread_has_ended() {
    need_root();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("leader-has-gone");
    fs::copy(program_path("leader_exits", Variant::Pie), &copy).unwrap();
    let mut program = Program::start(&mut std::process::Command::new(&copy));
    program.expect("ready");
    let stat = || fs::read_to_string(format!("/proc/{}/stat", program.pid())).unwrap();
    wait_for("the first thread to end", || stat().contains(") Z ").then_some(()));
    let exe = format!("^{}$", copy.canonicalize().unwrap().display());
    let ended = leakprobe(["snapshot", "-q", "-m", "0s", "-o", "recording.json", "--exe", &exe]);
    assert_eq!(pids(&recordings(ended.succeeded().directory.path())), [program.pid()].into());
}

#[test]
fn forked_children_are_watched_with_their_threads_and_their_end() {
    need_root();
    let mut program = Program::ready("forks", Variant::Pie);
    settle(program.pid());
    let pid = program.pid().to_string();
    let mut leakprobe = Running::record(&["attach", "-p", &pid, "-m", "0s", "-i", "50ms", "--follow-forks"]);
    leakprobe.attached();
    let mut expected: BTreeSet<u32> = [program.pid()].into();
    for _ in 0..2 {
        let line = program.ask("fork", "child ");
        let child: u32 = line.split_whitespace().last().unwrap().parse().unwrap();
        settle(child);
        expected.insert(child);
    }
    // Each target is held by a pidfd.
    let held = || {
        let fds = fs::read_dir(format!("/proc/{}/fdinfo", leakprobe.pid())).ok()?;
        let info = fds.flatten().filter_map(|fd| fs::read_to_string(fd.path()).ok());
        let ids = info.filter_map(|info| info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok()));
        (ids.collect::<BTreeSet<u32>>().is_superset(&expected)).then_some(())
    };
    wait_for("the children to be watched", held);
    leakprobe.kill(libc::SIGINT);
    let ended = leakprobe.end();
    let recordings = recordings(ended.succeeded().directory.path());
    assert_eq!(pids(&recordings), expected);
    for recording in &recordings {
        let own = recording.target.pid == program.pid();
        assert_eq!(recording.target.parent, (!own).then_some(program.pid()));
        assert_eq!(recording.coverage.gaps, []);
        if !own {
            let theirs = task_named(recording, "theirs");
            chain(recording, &theirs.stack, &["park", "parked"]);
        }
    }
}
