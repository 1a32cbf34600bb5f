//! Looking things up in a recording.

use std::collections::BTreeMap;

use leakprobe::model::{Frame, Loss, Recording, Task};

/// The task with that id.
pub fn task(recording: &Recording, id: u64) -> &Task {
    let found = recording.tasks.iter().find(|task| task.id == id);
    found.unwrap_or_else(|| {
        panic!("no task {id} among {:?}", recording.tasks.iter().map(|task| task.id).collect::<Vec<_>>())
    })
}

/// All losses but two sorts. Stacks that snapshots could not read or follow: whom a snapshot meets on the way in or out of something
/// is a matter of speed. And as many events made good as the kernel itself says that it did not give us.
pub fn lost(recording: &Recording) -> BTreeMap<&Loss, u64> {
    let skipped = recording.losses.get(&Loss::ProgramSkipped).copied().unwrap_or(0);
    let losses = recording.losses.iter().map(|(loss, count)| (loss, *count));
    losses
        .filter(|&(loss, count)| match loss {
            Loss::ProgramSkipped
            | Loss::ThreadUnstable
            | Loss::ThreadMemoryUnanswered
            | Loss::StackUnreadable
            | Loss::StackTooDeep
            | Loss::StackNoUnwindInfo
            | Loss::StackRegisterUnknown => false,
            Loss::EventsMadeGoodBySnapshot => count > skipped,
            _ => true,
        })
        .collect()
}

/// The ids of all tasks.
pub fn listed(recording: &Recording) -> Vec<u64> {
    recording.tasks.iter().map(|task| task.id).collect()
}

/// The tasks of that name.
pub fn tasks_named<'a>(recording: &'a Recording, name: &str) -> Vec<&'a Task> {
    recording.tasks.iter().filter(|task| *task.name == *name).collect()
}

/// The only task of that name.
pub fn task_named<'a>(recording: &'a Recording, name: &str) -> &'a Task {
    match tasks_named(recording, name)[..] {
        [task] => task,
        ref others => panic!("{} tasks are called {name}: {:?}", others.len(), recording.tasks),
    }
}

/// The frames of a stack.
pub fn stack_of<'a>(recording: &'a Recording, stack: &[u32]) -> Vec<&'a Frame> {
    stack.iter().map(|&frame| &recording.frames[frame as usize]).collect()
}

/// The labels of a stack, innermost first.
pub fn functions(recording: &Recording, stack: &[u32]) -> Vec<String> {
    stack_of(recording, stack).into_iter().map(Frame::label).collect()
}

/// A label for messages.
pub fn label(frame: &Frame) -> String {
    format!("{} ({} {})", frame.label(), frame.module_name(), frame.address)
}

/// Checks that `expected` occur in the stack in this order, one right after the other.
pub fn chain(recording: &Recording, stack: &[u32], expected: &[&str]) {
    let there = functions(recording, stack);
    assert!(
        there
            .windows(expected.len())
            .any(|window| window.iter().zip(expected).all(|(there, expected)| there == expected)),
        "no {expected:?} in {there:?}"
    );
}
