//! Debug information whose equal parts dwz has moved into a file that several programs share (`.gnu_debugaltlink`), as
//! distributions do.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use leakprobe::model::Frame;

use crate::{
    built::{cc, run},
    support::{Program, need_root, settle, snapshot, stack_of},
};

/// Two programs, and what dwz has moved out of both. `options` say how the one is found from the other.
fn deduplicated(directory: &Path, options: &[&str]) -> ([PathBuf; 2], PathBuf) {
    let programs = ["one", "two"].map(|name| {
        cc("deduplicated.c", &directory.join(name), &["-g", "-no-pie", "-fno-pie", &format!("-DOWN=own_{name}")])
    });
    let shared = directory.join("shared.debug");
    run(Command::new("dwz").args(options).arg("-m").arg(&shared).args(&programs));
    (programs, shared)
}

/// The functions of the thread that waits, from the first one of the program's own on.
fn own_functions(program: &Program) -> Vec<Frame> {
    settle(program.pid());
    let recording = snapshot(program.pid());
    let stacks = recording.tasks.iter().map(|task| stack_of(&recording, &task.stack));
    let mut of_thread = stacks.filter(|frames| frames.iter().any(|frame| frame.function.starts_with("own_")));
    let frames = of_thread.next().unwrap_or_else(|| panic!("no thread waits: {recording:?}"));
    let is_own = |frame: &&&Frame| frame.module_name() == "one" || frame.module_name() == "two";
    frames.iter().filter(is_own).map(|&frame| frame.clone()).collect()
}

/// The number of the first line of the program's source that has `text`.
fn line_of(text: &str) -> Option<u32> {
    let source = include_str!("deduplicated.c");
    let at = source.lines().position(|line| line.contains(text))?;
    u32::try_from(at + 1).ok()
}

#[test]
fn inlined_functions_have_the_names_that_dwz_has_moved_into_another_file() {
    need_root();
    // By an absolute path, and by one that begins where the program lies.
    for options in [&[][..], &["--relative"]] {
        let directory = tempfile::tempdir().unwrap();
        let (programs, shared) = deduplicated(directory.path(), options);
        for (path, own) in programs.iter().zip(["own_one", "own_two"]) {
            let program = Program::ready_at(path);
            let frames = own_functions(&program);
            let names: Vec<_> = frames.iter().map(|frame| (frame.function.as_str(), frame.inlined)).collect();
            assert_eq!(names, [("shared_inner", true), ("shared_outer", true), (own, false), ("run", false)]);
            let lines: Vec<_> = frames.iter().take(3).map(|frame| frame.line).collect();
            let calls = ["pthread_cond_wait(&condition", "shared_inner(mutex)", "shared_outer(&lock)"];
            assert_eq!(lines, calls.map(|call| line_of(&format!("    {call}"))), "{frames:?}");
            for frame in &frames[..3] {
                assert!(frame.file.as_deref().is_some_and(|file| file.ends_with("deduplicated.c")), "{frame:?}");
            }
        }
        // That is where the names come from: without it only those of the symbol table are known.
        fs::remove_file(&shared).unwrap();
        let names = own_functions(&Program::ready_at(&programs[0])).into_iter().map(|frame| frame.function);
        assert_eq!(names.filter(|name| name.starts_with("shared_")).count(), 0);
    }
}

#[test]
fn a_damaged_shared_file_costs_the_names_in_it_and_nothing_else() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let (programs, shared) = deduplicated(directory.path(), &[]);
    let whole = fs::read(&shared).unwrap();
    let program = Program::ready_at(&programs[0]);
    let damages = (0..8).map(|part| {
        let mut damaged = whole.clone();
        damaged[part * whole.len() / 8..][..whole.len() / 8].fill(0xff);
        damaged
    });
    let cuts = (1..4).map(|part| whole[..part * whole.len() / 4].to_vec());
    for damaged in damages.chain(cuts) {
        fs::write(&shared, damaged).unwrap();
        let frames = own_functions(&program);
        let outer: Vec<_> = frames.iter().filter(|frame| !frame.inlined).map(|frame| frame.function.as_str()).collect();
        assert_eq!(outer, ["own_one", "run"]);
        for frame in frames {
            assert!(frame.function.is_empty() == frame.unknown.is_some(), "{frame:?}");
        }
    }
}
