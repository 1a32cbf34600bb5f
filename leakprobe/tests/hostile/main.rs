//! Files that were made to exhaust whoever reads them: a process that has code of theirs in use must be shown, in bounded memory
//! and time, with what was not read of them.
//!
//! Needs root and cc. Never run in guests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod elf;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use leakprobe::model::Recording;
use support::{Program, Running, leakprobe_binary};
use tempfile::TempDir;

use elf::{COMPRESSED, Section, write, zeroes};

/// What leakprobe may use, MB: some 60 for a process without such files, and 400.
const MOST_MEMORY: u64 = 460;
/// CPU time that it may take, ms. It is 10 s for a build that is given out, and five times as much for one with checks.
const MOST_CPU_MS: u64 = if cfg!(debug_assertions) { 50_000 } else { 10_000 };

/// A control group that kills what takes more memory. `None` where it cannot be made, as with version 2 without delegation: then the
/// peak that leakprobe reports is what is checked.
struct Group(PathBuf);

impl Group {
    fn new() -> Option<Self> {
        let path = PathBuf::from(format!("/sys/fs/cgroup/memory/leakprobe-test-{}", std::process::id()));
        fs::create_dir_all(&path).ok()?;
        let group = Self(path);
        fs::write(group.0.join("memory.limit_in_bytes"), (MOST_MEMORY << 20).to_string()).ok()?;
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// A snapshot of a process that is parked in each of the files.
fn shown(files: &[PathBuf], group: Option<&Group>) -> Recording {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("park_in");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/park_in.c");
    let status = Command::new("cc").args(["-O2", "-pthread", "-o"]).arg(&program).arg(source).status().unwrap();
    assert!(status.success());
    let mut program = Program::start(Command::new(&program).args(files));
    program.expect("ready");
    let pid = program.pid().to_string();
    let args = ["snapshot", "-p", &pid, "-m", "0s", "-o", "recording.json"];
    let mut command = match group {
        Some(Group(path)) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec \"$@\""]).arg(path).arg(leakprobe_binary());
            shell
        }
        None => Command::new(leakprobe_binary()),
    };
    let recording = Running::of(command.args(args)).recording();
    assert!(recording.cost.rss_mb < MOST_MEMORY as f64, "{:?}", recording.cost);
    assert!(recording.cost.cpu_ms < MOST_CPU_MS, "{:?}", recording.cost);
    assert_eq!(recording.tasks.len(), files.len() + 1, "every thread is shown");
    recording
}

fn files(directory: &TempDir, count: usize, make: impl Fn(&Path)) -> Vec<PathBuf> {
    let path = |n| directory.path().join(format!("file{n}"));
    let files: Vec<PathBuf> = (0..count).map(path).collect();
    files.iter().for_each(|file| make(file));
    files
}

#[track_caller]
fn says(recording: &Recording, words: &str) {
    assert!(recording.coverage.gaps.iter().any(|gap| gap.contains(words)), "{:#?}", recording.coverage.gaps);
}

#[test]
fn sections_that_claim_the_same_zeroes_over_and_over() {
    const SIZE: u64 = 256 << 20;
    let directory = tempfile::tempdir().unwrap();
    let section = |name, address| Section { flags: 2, address, ..Section::plain(name, (0, SIZE)) };
    let sections = [section(".eh_frame", 0x20_0000), section(".eh_frame_hdr", 1 << 30), section(".debug_frame", 0)];
    let files = files(&directory, 12, |path| write(path, &sections, &[], SIZE));
    for group in [None, Group::new()] {
        let recording = shown(&files, group.as_ref());
        says(&recording, "not read, or not completely: ");
        says(&recording, "MiB of memory for files of the target of one run is used up");
        assert!(recording.losses["files_beyond_budget"] >= 11);
    }
}

#[test]
fn many_symbol_tables_over_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    for (tables, size) in [(60_000, 24 << 20), (1, 600 << 20)] {
        let table = Section { kind: 2, entry: 24, ..Section::plain(".symtab", (0, size)) };
        let files = files(&directory, 2, |path| write(path, &vec![table; tables], &[], size));
        let group = Group::new();
        shown(&files, group.as_ref());
    }
}

#[test]
fn compressed_sections_that_are_larger_than_they_claim() {
    let directory = tempfile::tempdir().unwrap();
    let content = zeroes(1024, 4096);
    let section = |name| Section { flags: COMPRESSED, ..Section::plain(name, (0, content.len() as u64)) };
    let sections = [".debug_info", ".debug_abbrev", ".debug_line", ".debug_str"].map(section);
    let files = files(&directory, 3, |path| write(path, &sections, &content, 0));
    let group = Group::new();
    says(&shown(&files, group.as_ref()), ".debug_info: it has more bytes than the 4096 that it claims");
}

#[test]
fn a_link_to_other_debug_information_opens_no_device() {
    // What opens this one waits until somebody writes to it.
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let link = [fifo.to_str().unwrap().as_bytes(), &[0], &[7; 20]].concat();
    let mut content = vec![0; 64];
    content.extend(&link);
    let link = Section::plain(".gnu_debugaltlink", (64, link.len() as u64));
    let sections = [Section::plain(".debug_info", (0, 64)), link];
    let files = files(&directory, 1, |path| write(path, &sections, &content, 0));
    let recording = shown(&files, None);
    assert!(recording.cost.cpu_ms < MOST_CPU_MS);
}
