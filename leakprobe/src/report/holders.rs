//! Who would have to act, in words: the holders of what threads wait for, the chains on from there, and deadlocks.

use std::collections::{HashMap, HashSet};

use super::{shown::Shown, txt::sites, words};
use crate::model::{Deadlock, Link, LinkWait, Owner, Relation, Task, TaskState, Wait};

/// Somebody whom threads of a site wait for.
pub(super) struct Holder<'a> {
    /// Who it is, the way on from there, and of how many threads that is true.
    pub(super) text: String,
    /// Its task, if its stack is worth telling: it is not one of the threads that wait.
    pub(super) task: Option<&'a Task>,
}

/// Who holds what `threads` wait for, whom most of them wait for first.
pub(super) fn holders<'a>(shown: &Shown<'a>, threads: &[&Task]) -> Vec<Holder<'a>> {
    let mut found: Vec<(String, &Wait, u64)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for wait in threads.iter().filter_map(|task| task.wait.as_ref()) {
        let Some(text) = held_by(wait) else {
            continue;
        };
        match places.get(&text).and_then(|&place| found.get_mut(place)) {
            Some((_, _, count)) => *count += 1,
            None => {
                places.insert(text.clone(), found.len());
                found.push((text, wait, 1));
            }
        }
    }
    found.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
    let waiting: HashSet<u64> = threads.iter().map(|task| task.id).collect();
    let holder = |(text, wait, count): (String, &Wait, u64)| Holder {
        text: if threads.len() > 1 { format!("{text} ({})", words::count(count, "thread")) } else { text },
        task: wait
            .owner
            .as_deref()
            .filter(|owner| owner.process.is_none())
            .and_then(|owner| shown.thread(owner.task))
            .filter(|holder| !waiting.contains(&holder.id)),
    };
    found.into_iter().map(holder).collect()
}

/// What a deadlock is.
pub(super) fn deadlock(deadlock: &Deadlock) -> String {
    match deadlock.tasks.len() {
        1 => "Deadlock: a thread waits for itself".to_owned(),
        2 => "Deadlock: 2 threads wait for each other".to_owned(),
        count => format!("Deadlock: {} wait for each other in a circle", words::count(count as u64, "thread")),
    }
}

/// Each of the threads of a deadlock: what it waits for and for whom, and its task, if that is listed.
pub(super) fn members<'a>(
    shown: &Shown<'a>,
    deadlock: &'a Deadlock,
) -> impl Iterator<Item = (String, Option<&'a Task>)> {
    let nexts = deadlock.tasks.iter().cycle().skip(1);
    deadlock.tasks.iter().zip(nexts).map(|(member, next)| {
        let task = shown.thread(member.task);
        let relation = task.and_then(|task| task.wait.as_ref()?.owner.as_deref()).map(|owner| owner.relation);
        let holder = match relation {
            Some(Relation::Joined) => format!("for the exit of {}", named(&next.name, next.task)),
            _ if deadlock.tasks.len() == 1 => "held by itself".to_owned(),
            _ => format!("held by {}", named(&next.name, next.task)),
        };
        (format!("{} waits {}, {holder}", named(&member.name, member.task), waits_for(&member.wait)), task)
    })
}

/// Who waits for the threads of a deadlock; empty if nobody does.
pub(super) fn behind(deadlock: &Deadlock) -> String {
    match deadlock.behind {
        0 => String::new(),
        1 => "1 other thread waits for these".to_owned(),
        behind => format!("{} wait for these", words::count(behind, "other thread")),
    }
}

/// Who would have to end a wait, and the chain on from there; `None` if nothing is known.
fn held_by(wait: &Wait) -> Option<String> {
    let Some(owner) = wait.owner.as_deref() else {
        return wait.owner_note.as_deref().map(words::harmless);
    };
    let mut text = whose(owner);
    match wait.chain.split_first() {
        Some((first, rest)) => {
            text += &which_waits(first);
            for link in rest {
                text += &format!(", {}{}", whose(&link.owner), which_waits(link));
            }
        }
        None => text += state(owner),
    }
    Some(text)
}

/// `held by writer (1234)`.
fn whose(owner: &Owner) -> String {
    let who = match (owner.process, owner.state) {
        (None, Some(TaskState::Exited)) if owner.name.is_empty() => {
            format!("a thread that has exited ({})", owner.task)
        }
        (None, _) => named(&owner.name, owner.task),
        (Some(process), _) if u64::from(process) == owner.task => {
            format!("{} (process {process})", words::harmless(&owner.name))
        }
        (Some(process), _) => format!("{} of process {process}", named(&owner.name, owner.task)),
    };
    match owner.relation {
        Relation::Holds => format!("held by {who}"),
        Relation::Joined => format!("until the exit of {who}"),
        Relation::OtherEnd => format!("the other end has {who}"),
        Relation::NoOne => "no one can wake it: it waits on a word of its own stack".to_owned(),
    }
}

fn which_waits(link: &Link) -> String {
    match &link.wait {
        Some(wait) => format!(", which waits {}", waits_for(wait)),
        None => state(&link.owner).to_owned(),
    }
}

fn state(owner: &Owner) -> &'static str {
    match owner.state {
        Some(TaskState::Exited) => match owner.name.is_empty() {
            true => "",
            false => ", which has exited",
        },
        Some(TaskState::Running) => ", which is running",
        Some(TaskState::Runnable) => ", which is ready to run",
        Some(TaskState::Parked | TaskState::Blocked) | None => "",
    }
}

/// `3.1 s in recvfrom on fd 3 (socket:[1234])`.
fn waits_for(wait: &LinkWait) -> String {
    let reason = words::harmless(&wait.reason);
    let age = words::age(wait.age_ms, wait.exact);
    let object = words::harmless(&wait.object);
    if object.is_empty() { format!("{age} in {reason}") } else { format!("{age} in {reason} on {object}") }
}

fn named(name: &str, id: u64) -> String {
    sites::name_and_id(name, id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Options, fixture};

    #[test]
    fn each_of_many_holders_is_found_at_once() {
        const TASKS: u64 = 100_000;
        let mut recording = fixture::idle();
        let wait = fixture::wait(crate::model::WaitKind::Lock, 5_000);
        let owner = |task| Owner { task, name: "holder".into(), ..Owner::default() };
        let task = fixture::checkout().tasks.swap_remove(0);
        let with = |id| Task {
            id,
            wait: Some(Wait { owner: Some(Box::new(owner(2 * TASKS - id))), ..wait.clone() }),
            ..task.clone()
        };
        recording.tasks = (0..2 * TASKS).map(with).collect();
        let shown = Shown::of(&recording, &Options::default());
        let waiting: Vec<&Task> = recording.tasks.iter().take(TASKS as usize).collect();
        let found = holders(&shown, &waiting);
        assert_eq!(found.len(), waiting.len());
        // That of the first has no task; all others are none of those that wait.
        let ids = found.iter().map(|holder| holder.task.map(|task| task.id));
        assert!(ids.eq((0..TASKS).map(|id| Some(2 * TASKS - id).filter(|&holder| holder < 2 * TASKS))));
    }
}
