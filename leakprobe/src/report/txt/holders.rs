//! Who would have to act: the holders of what a site's threads wait for, the chains on from there, and deadlocks.

use std::{collections::HashMap, io};

use super::{Page, paint::Style, sites, wrap};
use crate::{
    model::{Deadlock, Link, LinkWait, Owner, Relation, Task, TaskKind, TaskState, Wait},
    report::words,
};

/// Deadlocks that are told, and tasks of each, unless all are asked for.
const MAX_DEADLOCKS: usize = 5;
const MAX_TASKS: usize = 8;

/// Different holders that are told of a site's threads, and how many if all is asked for.
const MAX_HOLDERS: usize = 3;
const MAX_HOLDERS_ALL: usize = 50;

impl<'a> Page<'a> {
    /// Tasks that wait for each other for ever: what nobody but the programmer can help.
    pub(super) fn deadlocks(&mut self) -> io::Result<()> {
        let recording = self.recording;
        let found = recording.deadlocks.len();
        let told = if self.all { found } else { MAX_DEADLOCKS };
        for deadlock in recording.deadlocks.iter().take(told) {
            self.deadlock(deadlock)?;
        }
        self.left_out(found.saturating_sub(told) as u64, "deadlock")
    }

    fn deadlock(&mut self, deadlock: &Deadlock) -> io::Result<()> {
        let count = deadlock.tasks.len();
        let text = match count {
            1 => "Deadlock: a thread waits for itself".to_owned(),
            2 => "Deadlock: 2 threads wait for each other".to_owned(),
            _ => format!("Deadlock: {} wait for each other in a circle", words::count(count as u64, "thread")),
        };
        writeln!(self.out, "\n{}", self.paint.paint(Style::Warning, &text))?;
        let told = if self.all { count } else { MAX_TASKS };
        for (place, member) in deadlock.tasks.iter().enumerate().take(told) {
            let next = deadlock.tasks.get((place + 1) % count).unwrap_or(member);
            let holder = if count == 1 {
                "held by itself".to_owned()
            } else {
                format!("held by {}", thread(&next.name, next.task))
            };
            let task = self.thread(member.task);
            let relation = task.and_then(|task| task.wait.as_ref()?.owner.as_deref()).map(|owner| owner.relation);
            let holder = match relation {
                Some(Relation::Joined) => format!("for the exit of {}", thread(&next.name, next.task)),
                _ => holder,
            };
            let text = format!("{} waits {}, {holder}", thread(&member.name, member.task), waits_for(&member.wait));
            self.wrapped("  ", 4, &wrap::sentence(&text), Style::Plain)?;
            if let Some(task) = task {
                self.stack(&task.stack, task.stack_end.explain())?;
            }
        }
        self.left_out_within(count.saturating_sub(told) as u64, "thread")?;
        if deadlock.behind > 0 {
            let others = words::count(deadlock.behind, "other thread");
            let wait = if deadlock.behind == 1 { "waits" } else { "wait" };
            writeln!(self.out, "  {others} {wait} for these")?;
        }
        Ok(())
    }

    /// Who holds what the threads of a site wait for: those that most of them wait for first, each with the way on from there and
    /// its stack.
    pub(super) fn holders(&mut self, threads: &[&Task]) -> io::Result<()> {
        let mut found: Vec<(&Wait, u64)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for wait in threads.iter().filter_map(|task| task.wait.as_ref()) {
            let Some(text) = held_by(wait) else {
                continue;
            };
            match places.get(&text) {
                Some(&place) => found[place].1 += 1,
                None => {
                    places.insert(text, found.len());
                    found.push((wait, 1));
                }
            }
        }
        found.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let told = if self.all { MAX_HOLDERS_ALL } else { MAX_HOLDERS };
        let more = found.len().saturating_sub(told);
        for (wait, count) in found.into_iter().take(told) {
            let mut text = held_by(wait).unwrap_or_default();
            if threads.len() > 1 {
                text += &format!(" ({})", words::count(count, "thread"));
            }
            self.wrapped("  ", 4, &wrap::sentence(&text), Style::Plain)?;
            // Its own place is shown anyway if it is one of these, or is known from above if it is on a circle.
            let holder =
                wait.owner.as_deref().filter(|owner| owner.process.is_none()).and_then(|owner| self.thread(owner.task));
            if let Some(holder) = holder.filter(|holder| !threads.iter().any(|task| task.id == holder.id)) {
                self.stack(&holder.stack, holder.stack_end.explain())?;
            }
        }
        self.left_out_within(more as u64, "holder")
    }

    /// The thread with that id.
    fn thread(&self, id: u64) -> Option<&'a Task> {
        self.recording.tasks.iter().find(|task| task.kind == TaskKind::Thread && task.id == id)
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
        (None, _) => thread(&owner.name, owner.task),
        (Some(process), _) if u64::from(process) == owner.task => {
            format!("{} (process {process})", words::harmless(&owner.name))
        }
        (Some(process), _) => format!("{} of process {process}", thread(&owner.name, owner.task)),
    };
    match owner.relation {
        Relation::Holds => format!("held by {who}"),
        Relation::Joined => format!("until the exit of {who}"),
        Relation::OtherEnd => format!("the other end has {who}"),
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

fn thread(name: &str, id: u64) -> String {
    sites::name_and_id(name, id)
}
