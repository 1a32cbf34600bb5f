//! Code that is made at run time, and the perf maps that name it.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::chown,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use leakprobe::model::{Frame, Gap, Recording, StackEnd};

use crate::support::{Program, Running, Variant, children_of, need_root, program_path, snapshot, stack_of, wait_for};

/// A perf map that is gone with its test.
pub(crate) struct Map(PathBuf);

impl Map {
    pub(crate) fn of(pid: u32) -> Self {
        Self(PathBuf::from(format!("/tmp/perf-{pid}.map")))
    }

    fn add(&self, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(&self.0).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The frame of the code that the test program has made.
fn made(recording: &Recording) -> Frame {
    let stacks = recording.tasks.iter().map(|task| (task.stack_end, stack_of(recording, &task.stack)));
    let is_called = |frame: &&Frame| frame.function == "called_by_made_code";
    let mut found = stacks.filter_map(|(end, frames)| Some((frames.iter().position(is_called)?, end, frames)));
    let (called, end, frames) = found.next().unwrap_or_else(|| panic!("nothing calls made code: {recording:?}"));
    assert_eq!(end, StackEnd::Complete);
    assert_eq!(frames[called + 2].function, "calls_made_code");
    frames[called + 1].clone()
}

fn address(frame: &Frame) -> u64 {
    u64::from_str_radix(frame.address.trim_start_matches("0x"), 16).unwrap()
}

#[test]
fn names_come_from_the_last_line_of_a_map_that_is_the_processes_own() {
    need_root();
    let program = Program::ready("jit", Variant::Pie);
    let map = Map::of(program.pid());
    let unnamed = made(&snapshot(program.pid()));
    assert!(unnamed.unknown.unwrap().contains(&format!("no {}", map.0.display())));
    let page = address(&made(&snapshot(program.pid()))) & !0xfff;
    map.add(&format!("{page:x} 1000 old\n{page:x} 8 Lazy*:fun;ction file.js:1\n{page:x} 8 cut o"));
    let named = made(&snapshot(program.pid()));
    assert_eq!((named.function.as_str(), named.module.as_str()), ("Lazy*:fun;ction file.js:1", "[jit]"));
    assert_eq!(named.unknown, None);

    chown(&map.0, Some(12345), None).unwrap();
    let recording = snapshot(program.pid());
    let why = made(&recording).unknown.unwrap();
    assert!(why.contains("is ignored: it belongs to user 12345"), "{why}");
    let is_said = |gap: &Gap| matches!(gap, Gap::JitNames { why } if why.contains("user 12345"));
    assert!(recording.coverage.gaps.iter().any(is_said), "{:?}", recording.coverage.gaps);
}

#[test]
fn names_that_come_while_watched_are_found() {
    need_root();
    let program = Program::ready("jit", Variant::Pie);
    let map = Map::of(program.pid());
    let page = address(&made(&snapshot(program.pid()))) & !0xfff;
    let mut running = Running::record(&["attach", "-p", &program.pid().to_string(), "-i", "50ms", "-m", "0s"]);
    running.has_looked(&program_path("jit", Variant::Pie));
    map.add(&format!("{page:x} 8 late\n"));
    assert_eq!(made(&running.stop()).function, "late");
}

#[test]
fn the_map_lies_in_the_processes_own_tmp_under_its_own_id() {
    need_root();
    let root = tempfile::tempdir().unwrap();
    let path = program_path("jit", Variant::Static);
    fs::create_dir_all(root.path().join("tmp")).unwrap();
    fs::copy(path, root.path().join("jit")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--root"]).arg(root.path()).arg("/jit");
    let mut shell = Program::start(&mut command);
    shell.expect("ready");
    let pid = wait_for("the program in its own namespace", || children_of(shell.pid()).first().copied());
    let page = address(&made(&snapshot(pid))) & !0xfff;
    fs::write(root.path().join("tmp/perf-1.map"), format!("{page:x} 8 inside\n")).unwrap();
    assert_eq!(made(&snapshot(pid)).function, "inside");
    drop(shell);
}

#[test]
fn a_map_that_grows_while_it_is_read_is_read_to_where_it_ended_at_first() {
    need_root();
    let program = Program::ready("jit", Variant::Pie);
    let map = Map::of(program.pid());
    let page = address(&made(&snapshot(program.pid()))) & !0xfff;
    map.add(&format!("{page:x} 8 known\n"));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Lines of other code, of which half a one is there now and then; less than is read of a map.
            let filler = "1000 10 other\n".repeat(4096) + "1000 1";
            while !stop.load(Relaxed) && fs::metadata(&map.0).is_ok_and(|file| file.len() < 32 << 20) {
                map.add(&filler);
                thread::sleep(Duration::from_millis(2));
                map.add("0 other\n");
            }
        });
        let named = (0..3).map(|_| made(&snapshot(program.pid())).function).collect::<Vec<_>>();
        stop.store(true, Relaxed);
        assert_eq!(named, ["known"; 3]);
    });
}

#[test]
fn of_a_huge_map_the_end_is_read_in_little_memory() {
    need_root();
    let program = Program::ready("jit", Variant::Pie);
    let map = Map::of(program.pid());
    let page = address(&made(&snapshot(program.pid()))) & !0xfff;
    let before = snapshot(program.pid()).cost.rss_mb;
    // A hole of 10 GiB, which has no line.
    map.add(&format!("{page:x} 8 too early\n"));
    OpenOptions::new().write(true).open(&map.0).unwrap().set_len(10 << 30).unwrap();
    let why = made(&snapshot(program.pid())).unknown.unwrap();
    assert!(why.contains("the rest was not read"), "{why}");
    map.add(&format!("\n{page:x} 8 last\n"));
    let recording = snapshot(program.pid());
    assert_eq!(made(&recording).function, "last");
    assert!(recording.cost.rss_mb < before + 16.0, "{} MB after {before} MB", recording.cost.rss_mb);
}
