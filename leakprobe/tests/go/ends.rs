//! Who is at the other end of what goroutines wait for.

use leakprobe::model::{EndRole, Recording, Task};

use crate::{
    support::{Program, attach, children_of, functions, need_root, snapshot, wait_for},
    target::ready,
};

fn in_function<'a>(recording: &'a Recording, function: &str) -> &'a Task {
    let is_it = |task: &&Task| functions(recording, &task.stack).iter().any(|name| name == function);
    recording.tasks.iter().find(is_it).unwrap_or_else(|| panic!("no task in {function}"))
}

fn check(program: &Program, recording: &Recording, what: &str) {
    let cat = wait_for("the child", || children_of(program.pid()).first().copied());
    let ends = |function: &str| {
        let wait = in_function(recording, function).wait.as_ref().unwrap();
        let ends = wait.other_ends.as_deref().unwrap_or_else(|| panic!("{what}: {wait:?}"));
        ends.known.iter().map(|end| (end.role, end.pid, end.name.clone(), end.fd)).collect::<Vec<_>>()
    };
    assert_eq!(ends("main.readPipe"), [(EndRole::Writer, cat, "cat".to_owned(), Some(1))], "{what}");
    assert_eq!(ends("main.readSocket"), [(EndRole::Peer, cat, "cat".to_owned(), Some(3))], "{what}");
}

#[test]
fn another_program_is_named() {
    for version in ["1.19", "1.21", "1.24", "1.27"] {
        let program = ready(&format!("{version}/default/ends"), &[]);
        check(&program, &snapshot(program.pid()), version);
    }
}

#[test]
fn another_program_is_named_when_waits_have_become_parked() {
    need_root();
    let program = ready("1.27/default/ends", &[]);
    let running = attach(&program, &["-m", "100ms", "-d", "1s"]);
    check(&program, &running.recording(), "attached");
}

#[test]
fn the_program_itself_is_known_by_its_descriptor() {
    let program = ready("1.27/default/waits", &[]);
    let recording = snapshot(program.pid());
    let task = in_function(&recording, "leakprobe.test/programs/kinds.readPipe");
    let ends = task.wait.as_ref().unwrap().other_ends.as_deref().unwrap();
    assert!(matches!(ends.known[..], [ref end] if end.is_target && end.role == EndRole::Writer), "{ends:?}");
}
