//! Libraries that are loaded and unloaded while leakprobe watches, and after.

use std::path::{Path, PathBuf};

use leakprobe::model::{Gap, Recording, StackEnd};

use crate::{
    built::cc,
    support::{Program, Running, need_root, snapshot, stack_of, task_named, wait_for},
};

struct Loader {
    program: Program,
    libraries: [PathBuf; 2],
    _directory: tempfile::TempDir,
}

impl Loader {
    fn start() -> Self {
        need_root();
        let directory = tempfile::tempdir().unwrap();
        let library = |name: &str| {
            let flags = ["-shared", "-fPIC", &format!("-DNAME={name}")];
            cc("library.c", &directory.path().join(format!("lib_{name}.so")), &flags)
        };
        let libraries = [library("in_a"), library("in_b")];
        let path = cc("loader.c", &directory.path().join("loader"), &[]);
        Self { program: Program::ready_at(&path), libraries, _directory: directory }
    }

    fn load(&mut self, which: usize) -> String {
        self.program.ask(&format!("load {}", self.libraries[which].display()), "loaded ")
    }

    /// Has a thread call into the library, and waits until it is parked there.
    fn call(&mut self, name: &str) -> u64 {
        let tid = self.program.ask(&format!("call {name}"), "called ").parse().unwrap();
        let file = format!("/proc/{}/task/{tid}/syscall", self.program.pid());
        wait_for("a thread to wait in futex", || {
            std::fs::read_to_string(&file).ok()?.starts_with("202 ").then_some(())
        });
        tid
    }

    fn attach(&self) -> Running {
        Running::record(&["attach", "-p", &self.program.pid().to_string(), "-i", "50ms", "-m", "0s"])
    }
}

/// The functions of a thread between its parking and its first one, each with the file of its module and its address there.
fn middle(recording: &Recording, thread: &str) -> Vec<(String, String, String)> {
    let task = task_named(recording, thread);
    let frames = stack_of(recording, &task.stack);
    let from = frames.iter().position(|frame| frame.function == "park_here").expect("it parks");
    let to = frames.iter().position(|frame| frame.function == "run").unwrap_or(frames.len());
    let of = |frame: &&leakprobe::model::Frame| {
        (frame.function.clone(), frame.module_name().to_owned(), frame.address.clone())
    };
    frames[from + 1..to].iter().map(of).collect()
}

fn names(frames: &[(String, String, String)]) -> Vec<(&str, &str)> {
    frames.iter().map(|(function, module, _)| (function.as_str(), module.as_str())).collect()
}

/// Waits until leakprobe has opened a library, which it does when it meets it on a stack.
fn has_met(running: &mut Running, library: &Path) {
    running.has_looked(library);
}

#[test]
fn a_library_loaded_where_another_one_was_has_its_own_names_and_old_stacks_keep_theirs() {
    let mut loader = Loader::start();
    let at = loader.load(0);
    loader.call("first");
    let mut running = loader.attach();
    has_met(&mut running, &loader.libraries[0]);
    // Unmapped though a thread is to return there: the program is broken, and is looked at all the same.
    loader.program.ask("unload", "unloaded");
    assert_eq!(loader.load(1), at, "the second library lies where the first one did");
    loader.call("second");
    has_met(&mut running, &loader.libraries[1]);
    let recording = running.stop();
    let (first, second) = (middle(&recording, "first"), middle(&recording, "second"));
    assert_eq!(names(&first), [("in_a", "lib_in_a.so"), ("enter", "lib_in_a.so")]);
    assert_eq!(names(&second), [("in_b", "lib_in_b.so"), ("enter", "lib_in_b.so")]);
    // Equal addresses in memory, of other code.
    assert_eq!(first[0].2, second[0].2);
    for thread in ["first", "second"] {
        assert_eq!(task_named(&recording, thread).stack_end, StackEnd::Complete);
    }
}

#[test]
fn a_library_that_is_loaded_while_watched_is_met() {
    let mut loader = Loader::start();
    let mut running = loader.attach();
    running.attached();
    loader.load(0);
    loader.call("late");
    has_met(&mut running, &loader.libraries[0]);
    let recording = running.stop();
    assert_eq!(names(&middle(&recording, "late")), [("in_a", "lib_in_a.so"), ("enter", "lib_in_a.so")]);
}

#[test]
fn a_thread_that_is_to_return_to_unloaded_code_is_told_as_far_as_it_is_known() {
    let mut loader = Loader::start();
    loader.load(0);
    let tid = loader.call("waiting");
    let mut running = loader.attach();
    has_met(&mut running, &loader.libraries[0]);
    loader.program.ask("unload", "unloaded");
    // Its wait goes on, but it has run: so its stack is read again.
    let before = crate::support::switches(loader.program.pid(), tid);
    loader.program.kill(libc::SIGSTOP);
    wait_for("the program to stop", || (crate::support::switches(loader.program.pid(), tid)?.1 == 'T').then_some(()));
    loader.program.kill(libc::SIGCONT);
    wait_for("the thread to wait again", || {
        let after = crate::support::switches(loader.program.pid(), tid)?;
        (Some(after) != before && after.1 == 'S').then_some(())
    });
    let recording = running.stop();
    // Known from before: names, and how to get on from there.
    assert_eq!(names(&middle(&recording, "waiting")), [("in_a", "lib_in_a.so"), ("enter", "lib_in_a.so")]);
    assert_eq!(task_named(&recording, "waiting").stack_end, StackEnd::Complete);
    let gap = Gap::UnloadedCode { threads: 1, path: loader.libraries[0].display().to_string() };
    assert!(recording.coverage.gaps.contains(&gap), "{:?}", recording.coverage.gaps);

    // Who comes later can only say where it will return to.
    let recording = snapshot(loader.program.pid());
    let task = task_named(&recording, "waiting");
    let frames = stack_of(&recording, &task.stack);
    let last = frames.last().unwrap();
    assert_eq!(frames[frames.len() - 2].function, "park_here");
    assert_eq!(task.stack_end, StackEnd::NoUnwindInfo);
    assert!(last.label().starts_with("[unknown 0x"), "{last:?}");
    assert_eq!(last.unknown.as_deref(), Some("address lies in no mapping: its code was unloaded, or is none"));
}
