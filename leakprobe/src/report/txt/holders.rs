//! The holders of what a site's threads wait for, and deadlocks.

use std::io;

use super::{Page, paint::Style, wrap};
use crate::{
    model::{Deadlock, Task},
    report::holders,
};

/// Deadlocks that are told, and tasks of each, unless all are asked for.
const MAX_DEADLOCKS: usize = 5;
const MAX_TASKS: usize = 8;

/// Different holders that are told of a site's threads, and how many if all is asked for.
const MAX_HOLDERS: usize = 3;
const MAX_HOLDERS_ALL: usize = 50;

impl Page<'_> {
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
        writeln!(self.out, "\n{}", self.paint.paint(Style::Warning, &holders::deadlock(deadlock)))?;
        let count = deadlock.tasks.len();
        let told = if self.all { count } else { MAX_TASKS };
        for (text, task) in holders::members(self.shown, deadlock).take(told) {
            self.wrapped("  ", 4, &wrap::sentence(&text), Style::Plain)?;
            if let Some(task) = task {
                self.stack(&task.stack, task.stack_end.explain())?;
            }
        }
        self.left_out_within(count.saturating_sub(told) as u64, "thread")?;
        match holders::behind(deadlock) {
            behind if behind.is_empty() => Ok(()),
            behind => writeln!(self.out, "  {behind}"),
        }
    }

    /// Who holds what the threads of a site wait for: those that most of them wait for first, each with the way on from there and
    /// its stack.
    pub(super) fn holders(&mut self, threads: &[&Task]) -> io::Result<()> {
        let found = holders::holders(self.shown, threads);
        let told = if self.all { MAX_HOLDERS_ALL } else { MAX_HOLDERS };
        for holder in found.iter().take(told) {
            self.wrapped("  ", 4, &wrap::sentence(&holder.text), Style::Plain)?;
            if let Some(task) = holder.task {
                self.stack(&task.stack, task.stack_end.explain())?;
            }
        }
        self.left_out_within(found.len().saturating_sub(told) as u64, "holder")
    }
}
