//! What can never wake a task, by what is known of it at a single moment.

use std::collections::HashSet;

use crate::model::{CannotWake, GoStatus, Owner, Recording, Relation, Task, TaskKind, TaskState, WaitKind};

/// The tasks of the program's own that nothing can ever wake, and why.
pub(super) fn all(recording: &Recording) -> impl Iterator<Item = (&Task, CannotWake)> {
    let deadlocked: HashSet<u64> =
        recording.deadlocks.iter().flat_map(|deadlock| &deadlock.tasks).map(|task| task.task).collect();
    let stuck: HashSet<u64> = recording.deadlocks.iter().flat_map(|deadlock| &deadlock.stuck).copied().collect();
    recording.tasks.iter().filter(|task| task.role.is_own()).filter_map(move |task| {
        let is_waiting_thread = task.kind == TaskKind::Thread && task.wait.is_some();
        let by_others = || match task.id {
            _ if !is_waiting_thread => None,
            id if deadlocked.contains(&id) => Some(CannotWake::Deadlock),
            id => stuck.contains(&id).then_some(CannotWake::BehindDeadlock),
        };
        hopeless(task).or_else(by_others).map(|why| (task, why))
    })
}

/// Whether that holds only as long as nobody but its holder gives up a lock. The C library lets any thread unlock a plain mutex: to
/// program so is an error by POSIX, and is done.
pub(super) fn is_by_locks(why: CannotWake) -> bool {
    matches!(why, CannotWake::Deadlock | CannotWake::BehindDeadlock | CannotWake::HolderExited)
}

/// Whether nothing can ever wake this task, by what is known of it alone.
pub(super) fn hopeless(task: &Task) -> Option<CannotWake> {
    let goroutine = task.goroutine.as_deref();
    if goroutine.is_some_and(|it| it.status == GoStatus::Leaked) {
        return Some(CannotWake::Marked);
    }
    // The main goroutine may wait for ever: so programs wait for signals, and their other goroutines work on.
    if goroutine.is_some_and(|it| it.forever) && task.id != 1 {
        let is_select = task.wait.as_ref().is_some_and(|wait| wait.kind == WaitKind::Select);
        return Some(if is_select { CannotWake::EmptySelect } else { CannotWake::NilChannel });
    }
    let owner = task.wait.as_ref().and_then(|wait| wait.owner.as_deref());
    let is_gone = |owner: &Owner| owner.relation.is_holds() && owner.state == Some(TaskState::Exited);
    match owner {
        Some(owner) if owner.relation == Relation::NoOne => Some(CannotWake::NoOneCanWake),
        Some(owner) if is_gone(owner) => Some(CannotWake::HolderExited),
        _ => None,
    }
}
