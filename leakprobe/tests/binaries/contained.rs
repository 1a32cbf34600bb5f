//! Java and Python in pid namespaces, as in every container: threads are what they are outside.

use std::{collections::BTreeSet, path::Path, process::Command};

use leakprobe::model::StackEnd;

use crate::{
    built::run,
    support::{Program, children_of, functions, need_root, settle, snapshot, tasks_named, wait_for},
};

const PYTHON: &str = "import sys, threading
def parked(): threading.Event().wait()
for _ in range(3): threading.Thread(target=parked, daemon=True).start()
print('ready', flush=True)
sys.stdin.read()";

/// The stacks of the threads of that name, in as many namespaces as `depth` says, one in the other.
fn stacks(command: &[&str], name: &str, depth: usize) -> BTreeSet<Vec<String>> {
    let mut words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"].repeat(depth);
    words.extend(command);
    let mut program = Program::start(Command::new(words[0]).args(&words[1..]));
    program.expect("ready");
    let mut pid = program.pid();
    for _ in 0..depth {
        pid = wait_for("the process in the namespace", || children_of(pid).first().copied());
    }
    settle(pid);
    let recording = snapshot(pid);
    let tasks = tasks_named(&recording, name);
    for task in &tasks {
        assert_eq!((task.stack_end, task.ns_id.is_some()), (StackEnd::Complete, depth > 0), "{task:?}");
    }
    // What has no name has an address, which is another one each time.
    let is_named = |label: &String| label.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    tasks.iter().map(|task| functions(&recording, &task.stack).into_iter().filter(is_named).collect()).collect()
}

fn alike(command: &[&str], name: &str) {
    need_root();
    let outside = stacks(command, name, 0);
    assert!(!outside.is_empty() && outside.iter().all(|stack| stack.len() > 3), "{outside:?}");
    for depth in [1, 2] {
        assert_eq!(stacks(command, name, depth), outside, "{command:?}, {depth} deep");
    }
}

#[test]
fn python() {
    alike(&["/usr/bin/python3", "-c", PYTHON], "python3");
}

#[test]
fn java() {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/binaries/Parked.java");
    run(Command::new("javac").arg("-d").arg(folder.path()).arg(source));
    // Interpreted, so that frames do not depend on when the compiler comes.
    let path = folder.path().to_str().unwrap();
    alike(&["java", "-Xint", "-Xmx64m", "-XX:+UseSerialGC", "-cp", path, "Parked"], "compiled");
}
