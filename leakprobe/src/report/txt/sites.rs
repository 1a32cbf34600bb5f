//! The table of sites, the first site in full, and the waits that ended.

use std::io;

use super::{
    Page,
    paint::Style,
    stacks,
    table::{self, Column, Layout},
};
use crate::{
    model::{EndedWait, Recording, Site, StackEnd, Task, WaitKind},
    report::{evidence as facts, frames, words},
};

/// Rows of the table of sites, unless all are asked for.
const MAX_SITES: usize = 20;

/// Rows of the table of ended waits, likewise.
const MAX_ENDED: usize = 5;

/// Threads of the first site that are named.
const MAX_THREADS: usize = 5;

impl Page<'_> {
    /// Every site in a line, most suspicious first.
    pub(super) fn sites(&mut self) -> io::Result<()> {
        let recording = self.recording;
        let shown = if self.all { usize::MAX } else { MAX_SITES };
        let sites: Vec<(&Site, Option<&Task>)> =
            recording.sites.iter().take(shown).zip(first_tasks(recording)).collect();
        let column = |title: &str, layout, style, text: &dyn Fn(&Site, Option<&Task>) -> String| {
            let cells = sites.iter().map(|(site, task)| text(site, *task));
            Column::new(title, layout, style, cells)
        };
        let nouns = format!("{}s", facts::noun(recording));
        let columns = vec![
            column(&nouns, Layout::Right, Style::Bold, &|site, _| words::thousands(site.count)),
            column("new", Layout::Right, Style::Plain, &|site, _| match site.created_while_watched {
                0 => String::new(),
                new => format!("+{}", words::thousands(new)),
            }),
            column("oldest", Layout::Right, Style::Plain, &|site, _| words::age(site.oldest_ms, site.oldest_exact)),
            column("verdict", Layout::Left, Style::Bold, &|site, _| site.verdict.clone()),
            column("wait", Layout::Name, Style::Plain, &|site, _| wait_words(site)),
            column("created by", Layout::Name, Style::Plain, &|site, task| creator(recording, site, task)),
            column("parked in", Layout::Name, Style::Plain, &|site, task| {
                place(recording, &site.stack, task.map(|task| task.stack_end))
            }),
            column("site", Layout::Left, Style::Dim, &|site, _| site.id.clone()),
        ];
        writeln!(self.out)?;
        table::write(columns, self.width, self.paint, self.out)?;
        let left_out = (recording.sites.len() - sites.len()) as u64;
        self.left_out(left_out, "site")
    }

    /// The stacks of the most suspicious site, and which threads are there.
    pub(super) fn first_site(&mut self) -> io::Result<()> {
        let recording = self.recording;
        let Some(site) = recording.sites.first() else {
            return Ok(());
        };
        let threads: Vec<&Task> = tasks_at(recording, 0).collect();
        let id = words::harmless(&site.id);
        let noun = facts::noun(recording);
        let count = words::count(site.count, noun);
        self.heading(&format!("Site {id}: {count} in {}", wait_words(site)))?;

        writeln!(self.out, "  parked in")?;
        let end = threads.first().map_or(StackEnd::Complete, |task| task.stack_end);
        self.stack(&site.stack, end.explain())?;

        writeln!(self.out, "  created by")?;
        let creation =
            threads.iter().map(|task| &task.created_by).find(|creation| creation.known && !creation.name.is_empty());
        let why = threads.first().and_then(|task| task.created_by.why_unknown.as_deref());
        if site.creation.is_empty() {
            let why = why.unwrap_or("its creation was not seen");
            writeln!(self.out, "    {}", self.note(why))?;
        } else {
            self.stack(&site.creation, "")?;
            if let Some(creator) = creation {
                let name = words::harmless(&creator.name);
                let id = creator.task.map_or(String::new(), |id| format!(" ({id})"));
                writeln!(self.out, "    in {noun} {name}{id}")?;
            }
        }
        let facts = site.evidence.iter().map(|fact| words::harmless(fact));
        for fact in facts.filter(|fact| !fact.is_empty()) {
            writeln!(self.out, "  {fact}")?;
        }

        let named: Vec<String> = threads
            .iter()
            .take(MAX_THREADS)
            .map(|task| format!("{} ({})", words::harmless(&task.name), task.id))
            .collect();
        if named.is_empty() {
            return Ok(());
        }
        let more = match threads.len() - named.len() {
            0 => String::new(),
            more => format!(" and {} more", words::thousands(more as u64)),
        };
        writeln!(self.out, "  {noun}s: {}{more}", named.join(", "))
    }

    /// Waits that were long and ended while we watched: what is slow rather than stuck.
    pub(super) fn ended_waits(&mut self) -> io::Result<()> {
        let recording = self.recording;
        if recording.ended_waits.is_empty() {
            return Ok(());
        }
        let mut waits: Vec<&EndedWait> = recording.ended_waits.iter().collect();
        waits.sort_by_key(|wait| std::cmp::Reverse(wait.total_ms));
        let found = waits.len();
        waits.truncate(if self.all { found } else { MAX_ENDED });
        let column = |title: &str, layout, style, text: &dyn Fn(&EndedWait) -> String| {
            let cells = waits.iter().map(|wait| text(wait));
            Column::new(title, layout, style, cells)
        };
        let columns = vec![
            column("waits", Layout::Right, Style::Bold, &|wait| words::thousands(wait.count)),
            column("longest", Layout::Right, Style::Plain, &|wait| words::age(wait.wait.age_ms, wait.wait.exact)),
            column("together", Layout::Right, Style::Plain, &|wait| words::span(wait.total_ms)),
            column("wait", Layout::Left, Style::Plain, &|wait| wait.wait.reason.clone()),
            column("waited in", Layout::Name, Style::Plain, &|wait| place(recording, &wait.stack, None)),
            column("longest in", Layout::Name, Style::Plain, &|wait| format!("{} ({})", wait.name, wait.task)),
        ];
        let heading = format!("Waits longer than {} that ended meanwhile", self.threshold());
        self.heading(&heading)?;
        table::write(columns, self.width, self.paint, self.out)?;
        self.left_out((found - waits.len()) as u64, "place")
    }

    fn left_out(&mut self, n: u64, noun: &str) -> io::Result<()> {
        if n == 0 {
            return Ok(());
        }
        let them = if n == 1 { "it" } else { "them" };
        let more = words::count(n, &format!("more {noun}"));
        let text = format!("… and {more} (--all or .json shows {them})");
        writeln!(self.out, "{}", self.paint.dim(&text))
    }

    /// A stack, and why it is not whole.
    fn stack(&mut self, stack: &[u32], cut: &str) -> io::Result<()> {
        let (all, width, paint) = (self.all, self.width, self.paint);
        stacks::write(self.recording, stack, all, width, paint, self.out)?;
        if cut.is_empty() {
            return Ok(());
        }
        writeln!(self.out, "    {}", self.note(cut))
    }

    /// Words in the place of frames.
    fn note(&self, why: &str) -> String {
        let note = format!("({})", words::harmless(why));
        self.paint.warning(&note)
    }
}

/// The tasks of the site at `place` in the recording.
fn tasks_at(recording: &Recording, place: usize) -> impl Iterator<Item = &Task> {
    let tasks = recording.tasks.iter();
    tasks.filter(move |task| task.site.is_some_and(|site| site as usize == place))
}

/// For each site its first task, which stands for the others in what a site does not hold itself.
fn first_tasks(recording: &Recording) -> Vec<Option<&Task>> {
    let mut first = vec![None; recording.sites.len()];
    for task in &recording.tasks {
        let slot = task.site.and_then(|site| first.get_mut(site as usize));
        if let Some(slot) = slot {
            slot.get_or_insert(task);
        }
    }
    first
}

/// What is waited for, and whether all of it ends by itself.
fn wait_words(site: &Site) -> String {
    let timeout = if site.count > 0 && site.with_timeout >= site.count {
        let shortest = site.shortest_timeout_ms.map(|ms| format!(" {}", words::short_span(ms)));
        format!(", timeout{}", shortest.unwrap_or_default())
    } else {
        String::new()
    };
    operation(site.kind, &site.wait) + &timeout
}

/// What is waited for.
fn operation(kind: WaitKind, reason: &str) -> String {
    let reason = words::harmless(reason);
    match kind {
        _ if reason.is_empty() => kind.to_string(),
        // The system call alone does not tell what is read or waited for, nor which colour it has in a flame graph.
        WaitKind::Socket | WaitKind::Pipe | WaitKind::File | WaitKind::Child | WaitKind::Signal => {
            format!("{reason} ({kind})")
        }
        WaitKind::Futex | WaitKind::Sleep | WaitKind::Poll | WaitKind::Other => reason,
    }
}

/// Who created the tasks of a site: the user's function that did, or the one that they were started with.
fn creator(recording: &Recording, site: &Site, task: Option<&Task>) -> String {
    if let Some(frame) = frames::innermost_users(recording, &site.creation) {
        return frames::label(frame);
    }
    // The outermost frame of a stack that was cut is not what the thread was started with.
    let is_whole = task.is_some_and(|task| task.stack_end == StackEnd::Complete);
    match frames::outermost_users(recording, &site.stack).filter(|_| is_whole) {
        Some(entry) => format!("entry: {}", frames::label(entry)),
        None => "not seen".into(),
    }
}

/// The user's function on `stack` that waits; or, if there is none, the innermost frame, or why there is no stack.
fn place(recording: &Recording, stack: &[u32], end: Option<StackEnd>) -> String {
    let innermost = || frames::resolve(recording, stack).next();
    match frames::innermost_users(recording, stack).or_else(innermost) {
        Some(frame) => frames::label(frame),
        None => match end {
            Some(StackEnd::Complete) | None => "no stack".into(),
            Some(end) => format!("({})", end.explain()),
        },
    }
}
