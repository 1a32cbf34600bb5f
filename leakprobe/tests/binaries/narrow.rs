//! 32-bit programs: no stacks, but true waits.

use leakprobe::model::{Gap, StackEnd, TaskState, WaitKind};

use crate::{
    built::cc,
    support::{Program, need_root, settle, snapshot, task_named},
};

#[test]
fn waits_of_32_bit_code_are_named_and_its_stacks_are_not_made_up() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let path = cc("narrow.c", &directory.path().join("narrow"), &["-m32"]);
    let program = Program::ready_at(&path);
    settle(program.pid());
    let recording = snapshot(program.pid());
    let wait = |name: &str| {
        let task = task_named(&recording, name);
        assert_eq!((task.state, task.stack_end), (TaskState::Parked, StackEnd::ThirtyTwoBit), "{name}");
        assert!(task.stack.is_empty(), "{name}");
        task.wait.clone().unwrap()
    };
    for (name, kind) in [
        ("futex", WaitKind::Futex),
        ("sleep", WaitKind::Sleep),
        ("read", WaitKind::Pipe),
        ("recv", WaitKind::Socket),
        ("poll", WaitKind::Poll),
        ("epoll", WaitKind::Poll),
        ("narrow", WaitKind::Pipe),
    ] {
        assert_eq!(wait(name).kind, kind, "{name}: {:?}", wait(name));
    }
    assert!(wait("recv").object.contains("fd "), "{:?}", wait("recv"));
    assert_eq!(wait("poll").timeout_ms, Some(250_000));
    assert_eq!(wait("sleep").timeout_ms, Some(200_000));
    assert_eq!(wait("epoll").timeout_ms, None);
    assert!(recording.coverage.gaps.contains(&Gap::NarrowStacks), "{:?}", recording.coverage.gaps);
}
