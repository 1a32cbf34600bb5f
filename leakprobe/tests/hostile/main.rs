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
    sync::atomic::{AtomicU32, Ordering},
};

use leakprobe::model::{Loss, Recording};
use support::{Program, Running, leakprobe_binary};
use tempfile::TempDir;

use elf::{COMPRESSED, Section, write, zeroes};

/// What leakprobe and its helper may use, MB: some 90 for a process without such files, much of it their programs, and 400.
const MOST_MEMORY: u64 = 490;

/// CPU time that they may take, ms; five times as much for a build with checks, which is what cargo alone gives.
fn most_cpu_ms() -> u64 {
    if std::env::var_os("LEAKPROBE_BIN").is_some() { 10_000 } else { 50_000 }
}

/// What leakprobe runs in.
enum Fence {
    /// A control group that kills what takes more memory, by which leakprobe sees how much there is.
    Group(PathBuf),
    /// A limit of each process, by which it sees nothing.
    Rlimit,
}

impl Fence {
    /// `None` where a control group cannot be made, as with version 2 without delegation.
    fn group() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("leakprobe-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let places = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        places.into_iter().find_map(|(mount, limit)| {
            let path = Path::new(mount).join(&name);
            fs::create_dir(&path).ok()?;
            // Removed if it is of no use.
            let group = Self::Group(path.clone());
            fs::write(path.join(limit), (MOST_MEMORY << 20).to_string()).ok()?;
            Some(group)
        })
    }

    /// A command that becomes leakprobe inside.
    fn command(&self) -> Command {
        let mut shell = Command::new("sh");
        match self {
            Self::Group(path) => shell.args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec \"$@\""]).arg(path),
            Self::Rlimit => shell.args(["-c", "ulimit -d \"$0\" && exec \"$@\""]).arg((MOST_MEMORY << 10).to_string()),
        };
        shell.arg(leakprobe_binary());
        shell
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        if let Self::Group(path) = self {
            let _ = fs::remove_dir(path);
        }
    }
}

/// Snapshots of a process that is parked in each of the files: with as much memory as this machine has, and with little.
fn shown(files: &[PathBuf]) -> Vec<Recording> {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("park_in");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/park_in.c");
    let status = Command::new("cc").args(["-O2", "-pthread", "-o"]).arg(&program).arg(source).status().unwrap();
    assert!(status.success());
    let mut program = Program::start(Command::new(&program).args(files));
    program.expect("ready");
    let pid = program.pid().to_string();
    let run = |fence: Fence| {
        let args = ["snapshot", "-p", &pid, "-m", "0s", "-o", "recording.json"];
        let recording = Running::of(fence.command().args(args)).recording();
        assert!(recording.cost.rss_mb < MOST_MEMORY as f64, "{:?}", recording.cost);
        assert!(recording.cost.cpu_ms < most_cpu_ms(), "{:?}", recording.cost);
        assert_eq!(recording.tasks.len(), files.len() + 1, "every thread is shown");
        recording
    };
    [Some(Fence::Rlimit), Fence::group()].into_iter().flatten().map(run).collect()
}

fn files(directory: &TempDir, count: usize, make: impl Fn(&Path)) -> Vec<PathBuf> {
    let path = |n| directory.path().join(format!("file{n}"));
    let files: Vec<PathBuf> = (0..count).map(path).collect();
    files.iter().for_each(|file| make(file));
    files
}

#[track_caller]
fn say(recordings: &[Recording], words: &str) {
    for recording in recordings {
        assert!(
            recording.coverage.gaps.iter().any(|gap| gap.to_string().contains(words)),
            "{:#?}",
            recording.coverage.gaps
        );
    }
}

#[test]
fn sections_that_claim_the_same_zeroes_over_and_over() {
    const SIZE: u64 = 256 << 20;
    let directory = tempfile::tempdir().unwrap();
    let section = |name, address| Section { flags: 2, address, ..Section::plain(name, (0, SIZE)) };
    let sections = [section(".eh_frame", 0x20_0000), section(".eh_frame_hdr", 1 << 30), section(".debug_frame", 0)];
    let recordings = shown(&files(&directory, 12, |path| write(path, &sections, &[], SIZE)));
    say(&recordings, "not read, or not completely: ");
    say(&recordings, "MiB of memory for files of the target of one run is used up");
    assert!(recordings.iter().all(|recording| recording.losses[&Loss::FilesBeyondBudget] >= 11));
}

#[test]
fn many_symbol_tables_over_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    for (tables, size) in [(60_000, 24 << 20), (1, 600 << 20)] {
        let table = Section { kind: 2, entry: 24, ..Section::plain(".symtab", (0, size)) };
        shown(&files(&directory, 2, |path| write(path, &vec![table; tables], &[], size)));
    }
}

#[test]
fn compressed_sections_that_are_larger_than_they_claim() {
    let directory = tempfile::tempdir().unwrap();
    let content = zeroes(1024, 4096);
    let section = |name| Section { flags: COMPRESSED, ..Section::plain(name, (0, content.len() as u64)) };
    let sections = [".debug_info", ".debug_abbrev", ".debug_line", ".debug_str"].map(section);
    let recordings = shown(&files(&directory, 3, |path| write(path, &sections, &content, 0)));
    say(&recordings, ".debug_info: it has more bytes than the 4096 that it claims");
}

#[test]
fn compressed_sections_that_are_as_large_as_they_claim() {
    let directory = tempfile::tempdir().unwrap();
    let content = zeroes(100, 100 << 20);
    let section = |name| Section { flags: COMPRESSED, ..Section::plain(name, (0, content.len() as u64)) };
    let sections =
        [".debug_info", ".debug_abbrev", ".debug_line", ".debug_str", ".debug_frame", ".eh_frame"].map(section);
    let recordings = shown(&files(&directory, 4, |path| write(path, &sections, &content, 0)));
    say(&recordings, "MiB of memory for files of the target of one run is used up");
}

#[test]
fn debug_information_that_makes_its_reader_take_memory() {
    // Units of 13 bytes, for each of which a reader keeps some hundred.
    let unit = [&[9, 0, 0, 0, 4, 0, 0, 0, 0, 0, 8, 1, 0][..]].concat();
    let abbreviations = [1, 0x11, 0, 0, 0, 0];
    let content = [&abbreviations[..], &unit.repeat(3_000_000)].concat();
    let directory = tempfile::tempdir().unwrap();
    let sections = [
        Section::plain(".debug_abbrev", (0, abbreviations.len() as u64)),
        Section::plain(".debug_info", (abbreviations.len() as u64, (content.len() - abbreviations.len()) as u64)),
    ];
    let recordings = shown(&files(&directory, 1, |path| write(path, &sections, &content, 0)));
    say(&recordings, "MiB of memory for files of the target is used up");
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
    shown(&files(&directory, 1, |path| write(path, &sections, &content, 0)));
}
