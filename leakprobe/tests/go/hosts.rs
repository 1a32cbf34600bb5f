//! Programs in C that have Go in them keep what is theirs: threads, their stacks, and who created them.

use std::process::Command;

use leakprobe::model::{Recording, Role, StackEnd, Task, TaskKind};

use crate::{
    support::{Program, attach, functions, need_root, snapshot},
    target::built,
};

/// Until Go 1.20 a goroutine that C has called ends with the call.
const SOME: [&str; 3] = ["1.19", "1.21", "1.27"];

fn host(version: &str) -> Program {
    need_root();
    let mut program = Program::start(&mut Command::new(built(&format!("{version}/c-shared/host"))));
    program.expect("ready");
    program
}

/// The goroutines that C has called, with their stacks.
fn callbacks(recording: &Recording) -> Vec<(&Task, Vec<String>)> {
    let goroutines = recording.tasks.iter().filter(|task| task.kind == TaskKind::Goroutine && task.role == Role::Own);
    let all = goroutines.map(|task| (task, functions(recording, &task.stack)));
    all.filter(|(_, stack)| stack.iter().any(|name| name == "main.GoWait")).collect()
}

#[test]
fn a_thread_that_has_returned_from_go_is_a_thread() {
    for version in SOME {
        let program = host(version);
        let recording = snapshot(program.pid());
        let own: Vec<&Task> =
            recording.tasks.iter().filter(|task| task.kind == TaskKind::Thread && task.role == Role::Own).collect();
        let [main] = own[..] else { panic!("{version}: {own:?}") };
        assert_eq!((main.id, main.stack_end), (program.pid().into(), StackEnd::Complete), "{version}");
        let stack = functions(&recording, &main.stack);
        assert!(stack.iter().any(|name| name == "main"), "{version}: {stack:?}");
        // Its goroutine is listed, but at no site: what it stands for is told by the thread.
        let at_rest: Vec<&Task> =
            recording.tasks.iter().filter(|t| t.kind == TaskKind::Goroutine && t.role == Role::Carrier).collect();
        assert!(
            at_rest.len() == usize::from(version != "1.19") && at_rest.iter().all(|task| task.site.is_none()),
            "{version}"
        );
    }
}

#[test]
fn a_call_from_c_has_the_stack_of_its_caller_and_his_creator() {
    for version in SOME {
        let mut program = host(version);
        let running = attach(&program, &["-d", "60s"]);
        program.ask("call", "called");
        // Until it waits there.
        crate::support::wait_for("the call", || {
            let recording = snapshot(program.pid());
            (callbacks(&recording).len() == 2).then_some(())
        });
        let recording = running.stop();
        let callbacks = callbacks(&recording);
        assert_eq!(callbacks.len(), 2, "{version}");
        let mut creators = Vec::new();
        for (task, stack) in &callbacks {
            let outer: Vec<&str> = stack.iter().rev().take(3).rev().map(String::as_str).collect();
            assert!(
                matches!(outer[..], ["GoWait", "start_thread", "clone3" | "clone" | "__clone3"]),
                "{version}: {stack:?}"
            );
            assert_eq!(task.stack_end, StackEnd::Complete, "{version}");
            assert_eq!(task.wait.as_ref().map(|wait| &*wait.reason), Some("chan receive"), "{version}");
            creators
                .push(functions(&recording, &task.created_by.stack).iter().any(|name| name.starts_with("make_caller")));
        }
        creators.sort_unstable();
        assert_eq!(creators, [false, true], "{version}: the first was created before");
    }
}
