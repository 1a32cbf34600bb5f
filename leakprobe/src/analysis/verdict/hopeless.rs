//! What can never wake a task, by what is known of it at a single moment.

use crate::model::{GoStatus, Owner, Relation, Task, TaskState, WaitKind};

/// Whether nothing can ever wake this task, by what is known of it alone.
pub(super) fn hopeless(task: &Task) -> Option<Hopeless> {
    let goroutine = task.goroutine.as_deref();
    if goroutine.is_some_and(|it| it.status == GoStatus::Leaked) {
        return Some(Hopeless::Marked);
    }
    // The main goroutine may wait for ever: so programs wait for signals, and their other goroutines work on.
    if goroutine.is_some_and(|it| it.forever) && task.id != 1 {
        let is_select = task.wait.as_ref().is_some_and(|wait| wait.kind == WaitKind::Select);
        return Some(if is_select { Hopeless::EmptySelect } else { Hopeless::NilChannel });
    }
    let owner = task.wait.as_ref().and_then(|wait| wait.owner.as_deref());
    let is_gone = |owner: &Owner| owner.relation.is_holds() && owner.state == Some(TaskState::Exited);
    match owner {
        Some(owner) if owner.relation == Relation::NoOne => Some(Hopeless::NoOneCanWake),
        Some(owner) if is_gone(owner) => Some(Hopeless::HolderExited),
        _ => None,
    }
}

/// Why a task can never wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hopeless {
    /// The target's own garbage collector has found out.
    Marked,
    NilChannel,
    EmptySelect,
    /// It is one of those that wait for each other.
    Deadlock,
    /// It waits for one of those, or for one that does.
    BehindDeadlock,
    /// It waits for a lock whose holder has exited.
    HolderExited,
    /// It waits on what nothing else knows.
    NoOneCanWake,
}

impl Hopeless {
    /// What is so of `count` of `all` tasks.
    pub(super) fn sentence(self, count: u64, all: u64) -> String {
        let whose = match (count == all, all) {
            (true, 1) => "this task".to_owned(),
            (true, _) => format!("each of these {all} tasks"),
            (false, _) => format!("{count} of these {all} tasks"),
        };
        match self {
            Self::Marked => format!("the target's own garbage collector has marked {whose} as leaked"),
            Self::NilChannel => format!("{whose} waits on a nil channel, which nothing can ever end"),
            Self::EmptySelect => format!(
                "{whose} waits in a select without cases, or with nil channels alone, which nothing can ever end"
            ),
            Self::Deadlock => {
                format!("{whose} is part of a deadlock: a circle of tasks, each of which holds what another waits for")
            }
            Self::BehindDeadlock => format!("{whose} waits for a lock that a deadlocked thread holds"),
            Self::NoOneCanWake => format!(
                "{whose} waits on a word of its own stack, where nothing can wake it: so the C library parks a thread that asks for a priority-inheritance mutex whose holder has exited, or that it holds itself"
            ),
            Self::HolderExited => format!("{whose} waits for a lock whose holder has exited without releasing it"),
        }
    }
}
