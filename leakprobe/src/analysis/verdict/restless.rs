//! Tasks that the load left behind and that never rest. They wait nowhere, so they are at no site and nothing is judged of them; that
//! there are more of them with each round has to be told all the same.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::{Growth, Moment, moment::hash_functions};
use crate::model::{Recording, Task, TaskKind, TaskState, numbers};

/// Whether a task runs, or would if it had a processor. A thread that runs a goroutine is left out: the goroutine counts.
pub(super) fn is_restless(task: &Task) -> bool {
    let runs = matches!(task.state, TaskState::Running | TaskState::Runnable);
    runs && task.site.is_none() && task.runs.is_none() && task.role.is_own()
}

/// By what restless tasks are told apart: what they are, and through which functions they were created.
pub(super) fn origin(task: &Task, recording: &Recording) -> u64 {
    let mut hasher = DefaultHasher::new();
    task.kind.hash(&mut hasher);
    hash_functions(&task.created_by.stack, recording, &mut hasher);
    hasher.finish()
}

/// What is to be said of those whose number grew with every round, a sentence for each origin, in the order in which `recording`, the
/// last moment's, lists them.
#[must_use]
pub fn restless(recording: &Recording, moments: &[Moment]) -> Vec<String> {
    // One round shows nothing: something always runs.
    if moments.len() < 3 {
        return Vec::new();
    }
    let mut origins: Vec<(u64, &Task)> = Vec::new();
    let mut known = HashSet::new();
    for task in recording.tasks.iter().filter(|task| is_restless(task)) {
        let origin = origin(task, recording);
        if known.insert(origin) {
            origins.push((origin, task));
        }
    }
    origins.into_iter().filter_map(|(origin, task)| sentence(origin, task, recording, moments)).collect()
}

fn sentence(origin: u64, task: &Task, recording: &Recording, moments: &[Moment]) -> Option<String> {
    let counts: Vec<u64> = moments.iter().map(|moment| moment.restless(origin)).collect();
    let count = counts.last()?;
    if !Growth::of(&counts).every_round {
        return None;
    }
    let kind = match (task.kind, count) {
        (TaskKind::Thread, 1) => "thread",
        (TaskKind::Thread, _) => "threads",
        (TaskKind::Goroutine, 1) => "goroutine",
        (TaskKind::Goroutine, _) => "goroutines",
    };
    let creator = task.created_by.stack.iter().filter_map(|&index| recording.frames.get(index as usize));
    let by =
        creator.filter(|frame| frame.is_users()).map(|frame| &frame.function).find(|function| !function.is_empty());
    let by = by.map(|function| format!(" created in {function}")).unwrap_or_default();
    Some(format!(
        "{count} {kind}{by} keep running and are more with each round, {} after it: what waits nowhere is not judged",
        numbers(&counts)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Frame, Role},
        report::fixture,
    };

    /// A program of which `count` threads run, besides one that always does.
    fn running(count: u64) -> Recording {
        let mut recording = fixture::checkout();
        let frame = |function: &str| Frame { function: function.into(), module: "/srv/app".into(), ..Frame::default() };
        recording.frames = vec![frame("pthread_create"), frame("handle"), frame("main")];
        let task = recording.tasks.iter().find(|task| task.kind == TaskKind::Thread).unwrap().clone();
        let task = Task { state: TaskState::Running, site: None, runs: None, wait: None, role: Role::Own, ..task };
        let of = |id, creation: &[u32]| {
            let mut task = Task { id, ..task.clone() };
            task.created_by.stack = creation.into();
            task
        };
        recording.tasks = (0..count).map(|id| of(id, &[0, 1, 2])).chain([of(1000, &[0, 2])]).collect();
        recording
    }

    fn said(counts: &[u64]) -> Vec<String> {
        let moments: Vec<Moment> = counts.iter().map(|&count| Moment::of(&running(count))).collect();
        restless(&running(*counts.last().unwrap()), &moments)
    }

    #[test]
    fn those_that_are_more_with_each_round_are_told_with_their_creator() {
        let expected = "6 threads created in handle keep running and are more with each round, 0, 2, 4, 6 after it: what \
                        waits nowhere is not judged";
        assert_eq!(said(&[0, 2, 4, 6]), [expected]);
    }

    #[test]
    fn those_that_run_now_and_then_are_not() {
        assert!(said(&[0, 2, 2, 3]).is_empty());
        assert!(said(&[3, 2, 1]).is_empty());
        assert!(said(&[0, 1]).is_empty());
        assert!(said(&[4, 4, 4, 4]).is_empty());
    }

    #[test]
    fn a_thread_that_runs_a_goroutine_is_not_counted_besides_it() {
        let mut recording = running(1);
        assert!(recording.tasks.iter().all(is_restless));
        recording.tasks[0].runs = Some(7);
        recording.tasks[1].site = Some(0);
        assert!(!recording.tasks.iter().any(is_restless));
    }
}
