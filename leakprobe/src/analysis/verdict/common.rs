//! What tells the workers of one queue from as many queues with one worker each: whether tasks wait on one object or each on its own,
//! and whether their numbered names are those of one pool.

use std::collections::{BTreeSet, HashSet};

use crate::model::{Fact, Task, TaskKind};

/// Facts about tasks that were judged together; none about a single one.
pub(super) fn of(tasks: &[&Task]) -> Vec<Fact> {
    if tasks.len() < 2 {
        return Vec::new();
    }
    objects(tasks).into_iter().chain(names(tasks)).collect()
}

/// How many objects they wait on, if that is known of each.
fn objects(tasks: &[&Task]) -> Option<Fact> {
    let mut objects = HashSet::new();
    for task in tasks {
        let object = task.wait.as_ref().map_or("", |wait| &wait.object);
        if object.is_empty() {
            return None;
        }
        objects.insert(identity(object));
    }
    Some(Fact::Objects { tasks: tasks.len() as u64, objects: objects.len() as u64 })
}

/// An object without what may change of it: the notes in parentheses, such as how full a channel is.
fn identity(object: &str) -> String {
    let mut depth = 0_usize;
    let keep = |&c: &char| {
        match c {
            '(' => depth += 1,
            ')' => {
                depth = depth.saturating_sub(1);
                return false;
            }
            _ => {}
        }
        depth == 0
    };
    object.chars().filter(keep).collect()
}

/// The name that all threads bear but for some numbers in it, with `*` for those: `pool-*-thread-1`.
fn names(tasks: &[&Task]) -> Option<Fact> {
    let names: BTreeSet<&str> = tasks.iter().map(|task| &*task.name).collect();
    if names.len() < 2 || tasks.iter().any(|task| task.kind != TaskKind::Thread) {
        return None;
    }
    let mut names = names.into_iter().map(parts);
    let mut common = names.next()?;
    for name in names {
        if name.len() != common.len() {
            return None;
        }
        for (part, other) in common.iter_mut().zip(name) {
            let are_numbers =
                [*part, other].iter().all(|part| *part == "*" || part.starts_with(|c: char| c.is_ascii_digit()));
            match *part == other {
                true => {}
                false if are_numbers => *part = "*",
                false => return None,
            }
        }
    }
    Some(Fact::Named { pattern: common.concat() })
}

/// A name as numbers and what is between them.
fn parts(name: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let is_digit = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != is_digit).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        parts.push(part);
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Wait, WaitKind};

    fn waiting(name: &str, object: &str) -> Task {
        let wait = Wait { object: object.into(), ..Wait::lasting(WaitKind::Futex, 1_000) };
        Task { name: name.into(), wait: Some(wait), ..Task::parked(TaskKind::Thread, 1) }
    }

    fn of_all(tasks: &[Task]) -> Vec<Fact> {
        of(&tasks.iter().collect::<Vec<_>>())
    }

    #[test]
    fn one_queue_is_told_from_one_for_each() {
        let on = |object: &dyn Fn(u64) -> String| (0..12).map(|n| waiting("worker", &object(n))).collect::<Vec<_>>();
        assert_eq!(
            of_all(&on(&|n| format!("chan 0x10 ({n}/16, 12 receivers)"))),
            [Fact::Objects { tasks: 12, objects: 1 }]
        );
        assert_eq!(of_all(&on(&|n| format!("0x{n:x}"))), [Fact::Objects { tasks: 12, objects: 12 }]);
        assert_eq!(of_all(&on(&|n| format!("fd {} (pipe:[7])", n % 3))), [Fact::Objects { tasks: 12, objects: 3 }]);
        assert_eq!(of_all(&on(&|n| if n == 5 { String::new() } else { "0x1".to_owned() })), []);
        assert_eq!(of_all(&on(&|_| "0x1".to_owned())[..1]), []);
    }

    fn named_as(pattern: &str) -> Fact {
        Fact::Named { pattern: pattern.to_owned() }
    }

    #[test]
    fn numbered_names_are_one_pool() {
        let named = |names: &[&str]| of_all(&names.iter().map(|name| waiting(name, "")).collect::<Vec<_>>());
        assert_eq!(named(&["pool-1-thread-1", "pool-2-thread-1", "pool-31-thread-1"]), [named_as("pool-*-thread-1")]);
        assert_eq!(named(&["pool-2-thread-7", "pool-2-thread-8"]), [named_as("pool-2-thread-*")]);
        assert_eq!(named(&["7", "8", "8"]), [named_as("*")]);
        for differ in [&["a1", "b2"][..], &["a1", "a"], &["same", "same"], &["", "1"], &["é1", "ü1"]] {
            assert_eq!(named(differ), []);
        }
    }
}
