//! Go programs in pid namespaces, as in every container: the runtime knows its threads by other ids than we do.

use std::process::Command;

use leakprobe::model::{Role, TaskKind};

use crate::{
    compare::differences,
    support::{Program, children_of, functions, need_root, proc_status, snapshot, wait_for},
    target::{built, ours, take, theirs},
};

/// Starts a program in `depth` nested namespaces; returns it, and the process id that it has outside.
fn nested(path: &str, depth: usize) -> (Program, u32) {
    need_root();
    let mut words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"].repeat(depth);
    let path = built(path);
    words.push(path.to_str().unwrap());
    let mut program = Program::start(Command::new(words[0]).args(&words[1..]));
    program.expect("ready");
    let mut pid = program.pid();
    for _ in 0..depth {
        pid = wait_for("the process in the namespace", || children_of(pid).first().copied());
    }
    assert_eq!(proc_status(pid, "NSpid").unwrap().split_whitespace().count(), depth + 1);
    (program, pid)
}

#[test]
fn goroutines_and_threads_are_those_that_they_are_outside() {
    // On each side of where the runtime's note of a thread's id has moved.
    for version in ["1.19", "1.24", "1.27"] {
        for depth in [1, 2] {
            let (mut program, pid) = nested(&format!("{version}/stripped/waits"), depth);
            let (theirs, writer) = theirs(&mut program, "");
            let mut ours = ours(pid);
            take(&mut ours, writer.id);
            let differences = differences(&theirs, &ours);
            assert!(differences.is_empty(), "{version}, {depth} deep:\n{differences}");

            let recording = snapshot(pid);
            let threads = || recording.tasks.iter().filter(|task| task.kind == TaskKind::Thread);
            for thread in threads() {
                assert_ne!(thread.role, Role::Own, "{version}, {depth} deep: {thread:?}");
                assert!(thread.ns_id.is_some_and(|id| id != thread.id), "{version}: {thread:?}");
            }
            // Those in system calls wait as their threads do.
            let mut found = 0;
            for goroutine in recording.tasks.iter().filter(|task| task.kind == TaskKind::Goroutine) {
                let stack = functions(&recording, &goroutine.stack);
                if !stack.iter().any(|name| name.starts_with("syscall.")) || goroutine.role != Role::Own {
                    continue;
                }
                let thread = goroutine.goroutine.as_ref().unwrap().thread.map(u64::from);
                if thread.is_none() {
                    continue;
                }
                let carrier = threads().find(|thread| thread.runs == Some(goroutine.id));
                assert_eq!(carrier.map(|carrier| carrier.id), thread, "{version}: {stack:?}");
                let reason = |task: &leakprobe::model::Task| task.wait.as_ref().map(|wait| wait.reason.clone());
                assert_eq!(reason(goroutine), carrier.and_then(reason), "{version}: {stack:?}");
                found += 1;
            }
            assert!(found > 0, "{version}, {depth} deep");
        }
    }
}
