//! The threads that are not parked: counted in a line, or in a table if all is asked for.

use std::{cmp::Reverse, collections::HashMap, io};

use super::{
    Page,
    paint::Style,
    sites,
    table::{self, Column, Layout},
    wrap,
};
use crate::{
    model::{StackEnd, Task, TaskKind, TaskState, Wait, WaitKind},
    report::{evidence as facts, words},
};

/// In the order of lines and tables: what waits first, since it may become parked.
const STATES: [TaskState; 4] = [TaskState::Blocked, TaskState::Running, TaskState::Runnable, TaskState::Exited];

/// A wait of which only a lower bound is known may be longer than the threshold.
const BLOCKED_UNKNOWN: &str = "blocked for an unknown time";

/// Threads with the same key are one row of the table. What they wait on is not part of it: it often differs where nothing
/// else does.
type Key<'a> = (TaskState, Option<(WaitKind, &'a str)>, &'a [u32], StackEnd);

impl Page<'_> {
    /// Every task that is not parked: how many are in which state, or which.
    pub(super) fn unparked(&mut self) -> io::Result<()> {
        let shown = self.shown;
        let is_told = |task: &Task| task.state == TaskState::Parked || shown.site_of(task).is_some();
        let tasks: Vec<&Task> = shown.tasks.iter().copied().filter(|task| !is_told(task)).collect();
        match (tasks.is_empty(), self.all) {
            (true, _) => Ok(()),
            (false, false) => self.count_unparked(&tasks),
            (false, true) => self.list_unparked(&tasks),
        }
    }

    fn count_unparked(&mut self, tasks: &[&Task]) -> io::Result<()> {
        let min_block_ms = self.recording.min_block_ms;
        let short = format!("blocked for less than {}", self.threshold());
        let doing = |task: &Task| match task.state {
            TaskState::Blocked if task.may_be_parked(min_block_ms) => BLOCKED_UNKNOWN,
            TaskState::Blocked if task.wait.is_some() => short.as_str(),
            TaskState::Blocked => BLOCKED_UNKNOWN,
            state => state.name(),
        };
        let order = [&short, BLOCKED_UNKNOWN, "running", "runnable", "exited"];
        let count = |what: &str| tasks.iter().filter(|task| doing(task) == what).count();
        let states = order.iter().map(|what| (count(what), what)).filter(|&(count, _)| count > 0);
        let states: Vec<String> = states.map(|(n, what)| format!("{} {what}", words::thousands(n as u64))).collect();
        let more = if !self.shown.sites.is_empty() { "more " } else { "" };
        let count = words::count(tasks.len() as u64, &format!("{more}{}", noun(tasks)));
        let them = if tasks.len() == 1 { "it" } else { "them" };
        let sentence = format!("{count}: {} (--all shows {them})", states.join(", "));
        writeln!(self.out)?;
        self.wrapped("", 2, &wrap::sentence(&sentence), Style::Plain)
    }

    fn list_unparked(&mut self, tasks: &[&Task]) -> io::Result<()> {
        let shown = self.shown;
        let nouns = format!("{}s", noun(tasks));
        let groups = groups(tasks);
        let column = |title: &str, layout, style, text: &dyn Fn(&[&Task]) -> String| {
            Column::new(title, layout, style, groups.iter().map(|group| text(group)))
        };
        let first =
            |group: &[&Task], text: &dyn Fn(&Task) -> String| group.first().map_or_else(String::new, |task| text(task));
        let columns = vec![
            column(&nouns, Layout::Right, Style::Bold, &|group| words::thousands(group.len() as u64)),
            column("state", Layout::Left, Style::Plain, &|group| first(group, &|task| task.state.name().into())),
            column("longest", Layout::Right, Style::Plain, &|group| {
                longest(group).map_or_else(String::new, |wait| words::age(wait.age_ms, wait.exact))
            }),
            column("wait", Layout::Name, Style::Plain, &wait_words),
            column("in", Layout::Name, Style::Plain, &|group| {
                first(group, &|task| sites::place(shown, &task.stack, Some(task.stack_end)))
            }),
            column("name (id)", Layout::Name, Style::Plain, &|group| {
                let name = first(group, &sites::task_name);
                if group.len() > 1 { format!("{name}, …") } else { name }
            }),
        ];
        let heading = match self.shown.sites.len() {
            0 => words::count(tasks.len() as u64, noun(tasks)),
            _ => words::count(tasks.len() as u64, &format!("more {}", noun(tasks))),
        };
        self.heading(&format!("{heading} not parked"))?;
        table::write(columns, self.width, self.paint, self.out)
    }
}

/// What these tasks are called.
fn noun(tasks: &[&Task]) -> &'static str {
    let mut kinds = tasks.iter().map(|task| task.kind);
    match kinds.next() {
        Some(first) if kinds.all(|kind| kind == first) => facts::noun_of(first),
        _ => "task",
    }
}

/// `tasks` by what makes them equal: by state, then the largest group first.
fn groups<'a>(tasks: &[&'a Task]) -> Vec<Vec<&'a Task>> {
    let mut groups: HashMap<Key<'a>, Vec<&'a Task>> = HashMap::new();
    for &task in tasks {
        let wait = task.wait.as_ref().map(|wait| (wait.kind, &*wait.reason));
        groups.entry((task.state, wait, &task.stack, task.stack_end)).or_default().push(task);
    }
    let mut groups: Vec<Vec<&Task>> = groups.into_values().collect();
    groups.sort_by_key(|group| {
        let first = group.first();
        let state = first.and_then(|task| STATES.iter().position(|&state| state == task.state));
        (state, Reverse(group.len()), first.map(|task| task.id))
    });
    groups
}

/// The longest of the waits.
fn longest<'a>(group: &[&'a Task]) -> Option<&'a Wait> {
    group.iter().filter_map(|task| task.wait.as_ref()).max_by_key(|wait| (wait.age_ms, wait.exact))
}

/// What the threads wait for: what on, if that is the same for all, and the shortest timeout, if all have one.
fn wait_words(group: &[&Task]) -> String {
    let waits: Vec<&Wait> = group.iter().filter_map(|task| task.wait.as_ref()).collect();
    let Some(first) = waits.first() else {
        return String::new();
    };
    let same = waits.iter().all(|wait| wait.object == first.object);
    let operation = if first.object.is_empty() || !same {
        sites::operation(first.kind, &first.reason)
    } else {
        format!("{} on {}", sites::bare_operation(first.kind, &first.reason), first.object)
    };
    if waits.iter().any(|wait| wait.timeout_ms.is_none()) {
        return operation;
    }
    let timeout = |task: &&Task| match task.kind {
        TaskKind::Thread => task.wait.as_ref()?.timeout_ms,
        TaskKind::Goroutine => task.wait.as_ref()?.goroutine_timeout_ms(),
    };
    let timeouts: Vec<u64> = group.iter().filter_map(timeout).collect();
    let shortest = timeouts.iter().min().copied().filter(|_| timeouts.len() == waits.len());
    operation + &sites::timeout_words(shortest)
}
