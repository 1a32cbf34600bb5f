//! What can never wake a task, by what is known of it at a single moment.

use crate::model::{CannotWake, GoStatus, Owner, Relation, Task, TaskState, WaitKind};

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
