//! The table of sites, sites in full, and the waits that ended.

use std::{cmp::Reverse, collections::HashMap, io};

use super::{
    Page, goroutines,
    paint::Style,
    stacks,
    table::{self, Column, Layout},
    wrap,
};
use crate::{
    model::{CreatedBy, EndedWait, Site, StackEnd, Task, TaskKind, WaitKind, growth},
    report::{Kind, checked, evidence as facts, frames, shown::Shown, words},
};

/// Rows of the table of sites, unless all are asked for; and how many it may become if so many grew.
const MAX_SITES: usize = 20;
const MAX_GROWN_SITES: usize = 100;

/// Rows of the table of ended waits, likewise.
const MAX_ENDED: usize = 5;

/// Threads of a site that are named, and how many if all is asked for: enough to find each, and still readable.
const MAX_THREADS: usize = 5;
const MAX_THREADS_ALL: usize = 50;

/// Things that the threads of a site wait on that are named.
const MAX_OBJECTS: usize = 3;

/// Characters of what threads wait on in the table: descriptors in full are told with each site.
const MAX_OBJECT_WIDTH: usize = 38;

/// Characters of a site's sparkline, and how many moments it needs at least.
const SPARK_WIDTH: usize = 24;
const MIN_TREND: usize = 5;

/// So many waits that ended at one place are no accident: its threads wake and wait again.
const AGAIN_AND_AGAIN: u64 = 3;

impl Page<'_> {
    /// Every site in a line, most suspicious first.
    pub(super) fn sites(&mut self) -> io::Result<()> {
        let shown = self.shown;
        let grown = shown.sites.iter().filter(|site| growth(&site.trend) > 0).count().min(MAX_GROWN_SITES);
        let rows = if self.all { usize::MAX } else { grown.max(MAX_SITES) };
        let members = shown.members();
        let sites: Vec<(&Site, &[&Task])> =
            shown.sites.iter().copied().zip(members.iter().map(Vec::as_slice)).take(rows).collect();
        let column = |title: &str, layout, style, text: &dyn Fn(&Site, &[&Task]) -> String| {
            let cells = sites.iter().map(|(site, tasks)| text(site, tasks));
            Column::new(title, layout, style, cells)
        };
        let nouns = format!("{}s", facts::noun(shown));
        let both = shown.has(TaskKind::Thread) && shown.has(TaskKind::Goroutine);
        // Cut in the middle, the length of slices would tell nothing.
        let wait_layout = match sites.iter().any(|(site, _)| site.in_slices > 0) {
            true => Layout::Left,
            false => Layout::Name,
        };
        let columns = vec![
            column(&nouns, Layout::Right, Style::Bold, &|site, _| words::thousands(site.count)),
            column("kind", Layout::Left, Style::Plain, &|site, _| match both {
                true => facts::noun_of(site.task).to_owned(),
                false => String::new(),
            }),
            column("parked", Layout::Right, Style::Plain, &|site, _| match site.parked == site.count {
                true => String::new(),
                false => words::thousands(site.parked),
            }),
            column("rounds", Layout::Right, Style::Plain, &|site, _| checked::counts(site)),
            column("new", Layout::Right, Style::Plain, &|site, _| match site.created_while_watched {
                0 => String::new(),
                _ if site.course.is_some() => String::new(), // the rounds tell
                new => format!("+{}", words::thousands(new)),
            }),
            column("growth", Layout::Right, Style::Plain, &|site, _| match site.course {
                Some(_) => String::new(),
                None => growth_of(shown, site),
            }),
            column("oldest", Layout::Right, Style::Plain, &|site, _| oldest(shown, site)),
            column("verdict", Layout::Left, Style::Bold, &|site, _| site.verdict.name().to_owned()),
            column("wait", wait_layout, Style::Plain, &|site, _| wait_words(site)),
            column("on", Layout::Name, Style::Plain, &|site, tasks| match site.course {
                Some(_) => String::new(), // the rounds take its room; told of each site that was found
                None => waits_on(site, tasks),
            }),
            column("created by", Layout::Name, Style::Plain, &|site, tasks| {
                creator(shown, site, tasks.first().copied())
            }),
            column("parked in", Layout::Name, Style::Plain, &|site, tasks| {
                place_of_site(shown, site, tasks.first().map(|task| task.stack_end))
            }),
            column("site", Layout::Left, Style::Dim, &|site, _| site.id.clone()),
        ];
        writeln!(self.out)?;
        table::write(columns, self.width, self.paint, self.out)?;
        let left_out = (shown.sites.len() - sites.len()) as u64;
        self.left_out(left_out, "site")
    }

    /// The most suspicious site with its stacks and tasks, or every site.
    pub(super) fn sites_in_full(&mut self) -> io::Result<()> {
        let shown = self.shown;
        let in_full = self.in_full();
        for ((site, tasks), in_full) in shown.sites.iter().zip(&shown.members()).zip(in_full) {
            if self.all || in_full {
                self.site(site, tasks)?;
            }
        }
        Ok(())
    }

    /// A site's stacks, the facts that speak for it, and which tasks are there.
    fn site(&mut self, site: &Site, threads: &[&Task]) -> io::Result<()> {
        let id = words::harmless(&site.id);
        let noun = facts::noun_of(site.task);
        let count = words::count(site.count, noun);
        self.heading(&format!("Site {id}: {count} in {}", wait_words(site)))?;
        self.verdict(site)?;
        if let Some(text) = unknown_ages(self.shown, site) {
            self.wrapped("  ", 4, &wrap::sentence(&text), Style::Warning)?;
        }

        writeln!(self.out, "  {}", where_words(site))?;
        let end = threads.first().map_or(StackEnd::Complete, |task| task.stack_end);
        self.in_kernel(threads)?;
        self.stack(&site.stack, end.explain())?;

        writeln!(self.out, "  created by")?;
        let why = threads.first().and_then(|task| task.created_by.why_unknown.as_deref());
        if site.creation.is_empty() {
            let why = why.unwrap_or("its creation was not seen");
            writeln!(self.out, "    {}", self.note(why))?;
        } else {
            self.stack(&site.creation, "")?;
            if let Some(creator) = creator_task(threads) {
                writeln!(self.out, "    in {noun} {creator}")?;
            }
            self.parents(threads)?;
        }
        self.trend(site)?;
        for fact in &site.evidence {
            self.wrapped("  ", 4, &wrap::sentence(&words::harmless(&fact.to_string())), Style::Plain)?;
        }
        self.advice(site)?;
        self.objects(site, threads)?;
        self.holders(threads)?;
        self.other_ends(threads)?;
        self.labels(threads)?;
        let shown = if self.all { MAX_THREADS_ALL } else { MAX_THREADS };
        let named: Vec<String> = threads.iter().take(shown).map(|task| name_in_list(task)).collect();
        let more = usize::try_from(site.count).unwrap_or(usize::MAX).max(threads.len()) - named.len();
        self.list(&format!("{noun}s:"), named, more)
    }

    /// What the threads of a site wait on, what most of them wait on first.
    fn objects(&mut self, site: &Site, threads: &[&Task]) -> io::Result<()> {
        let mut named = objects(site, threads);
        let more = named.len().saturating_sub(MAX_OBJECTS);
        named.truncate(MAX_OBJECTS);
        self.list(&format!("{} on", bare_operation(site.kind, &site.wait)), named, more)
    }

    /// How the number of a site's tasks went, if it changed.
    fn trend(&mut self, site: &Site) -> io::Result<()> {
        let (Some(first), Some(last)) = (site.trend.first(), site.trend.last()) else {
            return Ok(());
        };
        if site.trend.len() < MIN_TREND || site.trend.iter().all(|number| number == first) {
            return Ok(());
        }
        let spark = words::spark(&site.trend, SPARK_WIDTH);
        let growth = growth_of(self.shown, site);
        let growth = if growth.is_empty() { growth } else { format!(" ({growth})") };
        writeln!(self.out, "  trend {spark} {} → {}{growth}", words::thousands(*first), words::thousands(*last))
    }

    /// `label` and a list of what is not empty, with the number of what is left out.
    pub(super) fn list(&mut self, label: &str, mut items: Vec<String>, more: usize) -> io::Result<()> {
        let Some(last) = items.last_mut() else {
            return Ok(());
        };
        if more > 0 {
            *last += &format!(" and {} more", words::thousands(more as u64));
        }
        let label = format!("  {label} ");
        let is_long = items.iter().any(|item| item.chars().count() + label.len() > self.width);
        let pieces = if is_long { wrap::sentence(&items.join(", ")) } else { wrap::list(&items) };
        self.wrapped(&label, 4, &pieces, Style::Plain)
    }

    /// Waits that were long and ended while we watched: what is slow rather than stuck.
    pub(super) fn ended_waits(&mut self) -> io::Result<()> {
        let recording = self.recording;
        // They are threads' waits.
        if recording.ended_waits.is_empty() || self.shown.kind == Kind::Goroutines {
            return Ok(());
        }
        let mut waits: Vec<&EndedWait> = recording.ended_waits.iter().collect();
        waits.sort_by_key(|wait| Reverse(wait.total_ms));
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
            column("wait", Layout::Left, Style::Plain, &|wait| wait.wait.reason.to_string()),
            column("waited in", Layout::Name, Style::Plain, &|wait| place(self.shown, &wait.stack, None)),
            column("longest in", Layout::Name, Style::Plain, &|wait| format!("{} ({})", wait.name, wait.task)),
        ];
        let heading = format!("Waits longer than {} that ended meanwhile", self.threshold());
        self.heading(&heading)?;
        table::write(columns, self.width, self.paint, self.out)?;
        self.left_out((found - waits.len()) as u64, "place")?;
        let again = |wait: &EndedWait| wait.count >= AGAIN_AND_AGAIN && wait.total_ms > 0;
        if !recording.ended_waits.iter().any(again) {
            return Ok(());
        }
        let hint = "A thread that others wake is not parked; -m lowers the threshold.";
        self.wrapped("", 0, &wrap::sentence(hint), Style::Plain)
    }

    /// What is left out within a site or a deadlock.
    pub(super) fn left_out_within(&mut self, n: u64, noun: &str) -> io::Result<()> {
        if n > 0 {
            write!(self.out, "  ")?;
        }
        self.left_out(n, noun)
    }

    pub(super) fn left_out(&mut self, n: u64, noun: &str) -> io::Result<()> {
        if n == 0 {
            return Ok(());
        }
        let them = if n == 1 { "it" } else { "them" };
        let more = words::count(n, &format!("more {noun}"));
        let text = format!("… and {more} (--all or .json shows {them})");
        writeln!(self.out, "{}", self.paint.dim(&text))
    }

    /// A stack, and why it is not whole.
    pub(super) fn stack(&mut self, stack: &[u32], cut: &str) -> io::Result<()> {
        let (all, width, paint) = (self.all, self.width, self.paint);
        stacks::write(self.shown, stack, all, width, paint, &mut self.texts, self.out)?;
        if cut.is_empty() {
            return Ok(());
        }
        writeln!(self.out, "    {}", self.note(cut))
    }

    /// Where the tasks of a site wait in the kernel, as one of them does.
    fn in_kernel(&mut self, threads: &[&Task]) -> io::Result<()> {
        let (stack, others) = in_kernel(threads);
        if stack.is_empty() {
            return Ok(());
        }
        self.stack(stack, "")?;
        if !others.is_empty() {
            writeln!(self.out, "    {}", self.note(&others))?;
        }
        Ok(())
    }

    /// Words in the place of frames.
    pub(super) fn note(&self, why: &str) -> String {
        let note = format!("({})", words::harmless(why));
        self.paint.warning(&note)
    }
}

/// What the tasks of a site wait on, as far as there is room for it in a table.
pub(in crate::report) fn waits_on(site: &Site, tasks: &[&Task]) -> String {
    match site.task {
        TaskKind::Goroutine => goroutines::object_in_short(site.count, tasks),
        // The address of a futex tells nothing in a table.
        TaskKind::Thread if site.kind == WaitKind::Futex => String::new(),
        TaskKind::Thread => in_table(&goroutines::object_in_short(site.count, tasks)),
    }
}

/// How fast the number of a site's tasks grew; empty if it did not.
pub(in crate::report) fn growth_of(shown: &Shown<'_>, site: &Site) -> String {
    match growth(&site.trend) {
        0 => String::new(),
        _ if shown.recording.duration_ms == 0 => String::new(),
        grown => format!("+{}/s", words::rate(grown, shown.recording.duration_ms)),
    }
}

/// What the stack of a site is headed by.
pub(in crate::report) fn where_words(site: &Site) -> &'static str {
    match () {
        () if site.parked > 0 => "parked in",
        () if site.stack.is_empty() && site.brief == site.count => "running",
        () => "waiting in",
    }
}

/// That it is not known for how long some of a site's tasks wait; `None` if it is.
pub(in crate::report) fn unknown_ages(shown: &Shown<'_>, site: &Site) -> Option<String> {
    let unknown = site.unknown();
    (unknown > 0).then(|| {
        format!(
            "{} parked longer than {}; {} waiting for an unknown time: nobody saw the wait begin",
            words::thousands(site.parked),
            words::short_span(shown.recording.min_block_ms),
            words::thousands(unknown),
        )
    })
}

/// The task that created one of `tasks`, as `name (id)`.
pub(in crate::report) fn creator_task(tasks: &[&Task]) -> Option<String> {
    let known = |creation: &&CreatedBy| creation.known && !creation.name.is_empty();
    let creator = tasks.iter().map(|task| &task.created_by).find(known)?;
    let id = creator.task.map_or(String::new(), |id| format!(" ({id})"));
    Some(format!("{}{id}", words::harmless(&creator.name)))
}

/// What the tasks of a site wait on, what most of them wait on first.
pub(in crate::report) fn objects(site: &Site, tasks: &[&Task]) -> Vec<String> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut places: HashMap<String, String> = HashMap::new();
    for task in tasks {
        let place = task.wait.as_ref().and_then(|wait| wait.queue).and_then(words::place);
        for object in goroutines::objects(task) {
            places.extend(place.iter().map(|place| (object.clone(), place.clone())));
            *counts.entry(object).or_default() += 1;
        }
    }
    counts.remove("");
    let mut objects: Vec<(String, u64)> = counts.into_iter().collect();
    objects.sort_by(|(a, most), (b, least)| least.cmp(most).then_with(|| a.cmp(b)));
    let noun = facts::noun_of(site.task);
    let named = objects.into_iter().map(|(object, count)| match (count, places.get(&object)) {
        (1, Some(place)) => format!("{object} ({place})"),
        (1, None) => object,
        _ => format!("{object} ({})", words::count(count, noun)),
    });
    named.collect()
}

/// Where the tasks of a site wait in the kernel, as one of them does, and how many are elsewhere; empty if nobody looked.
pub(in crate::report) fn in_kernel<'a>(tasks: &[&'a Task]) -> (&'a [u32], String) {
    let mut stacks = tasks.iter().map(|task| &task.kernel_stack).filter(|stack| !stack.is_empty());
    let Some(first) = stacks.next() else {
        return (&[], String::new());
    };
    match stacks.filter(|stack| *stack != first).count() as u64 {
        0 => (first, String::new()),
        others => (first, format!("{} elsewhere in the kernel", words::count(others, "more task"))),
    }
}

/// A task as tables name it.
pub(in crate::report) fn task_name(task: &Task) -> String {
    match task.kind {
        TaskKind::Goroutine => format!("goroutine {}", task.id),
        TaskKind::Thread => match task.ns_id {
            Some(inside) => format!("{}, {inside} inside)", name_and_id(&task.name, task.id).trim_end_matches(')')),
            None => name_and_id(&task.name, task.id),
        },
    }
}

/// `name (id)`.
pub(in crate::report) fn name_and_id(name: &str, id: u64) -> String {
    format!("{} ({id})", words::harmless(name)).trim_start().into()
}

/// A task as a list of its kind names it.
pub(in crate::report) fn name_in_list(task: &Task) -> String {
    match task.kind {
        TaskKind::Goroutine => task.id.to_string(),
        TaskKind::Thread => task_name(task),
    }
}

/// What is waited for, and whether all of it ends by itself.
pub(in crate::report) fn wait_words(site: &Site) -> String {
    let all = site.count > 0 && site.with_timeout >= site.count;
    let end = match site.slice_ms.filter(|_| 2 * site.in_slices >= site.count) {
        Some(ms) => format!(", {}", in_slices(ms)),
        None if all => timeout_words(site.shortest_timeout_ms),
        None => String::new(),
    };
    operation(site.kind, &site.wait) + &end
}

/// That a task waits again and again, and for how long each time.
pub(in crate::report) fn in_slices(ms: u64) -> String {
    format!("in slices of {}", words::short_span(ms))
}

/// The age of the oldest wait of a site.
pub(in crate::report) fn oldest(shown: &Shown<'_>, site: &Site) -> String {
    if site.parked == 0 && site.brief == site.count && site.oldest_ms == 0 {
        return String::new(); // they run
    }
    if site.parked == 0 && !site.oldest_exact && site.oldest_ms < shown.recording.min_block_ms {
        return "unknown".to_owned();
    }
    words::age(site.oldest_ms, site.oldest_exact)
}

/// That a wait ends by itself, and after what time if that is known.
pub(super) fn timeout_words(ms: Option<u64>) -> String {
    let ms = ms.map(|ms| format!(" {}", words::short_span(ms)));
    format!(", timeout{}", ms.unwrap_or_default())
}

/// What is waited for.
pub(in crate::report) fn operation(kind: WaitKind, reason: &str) -> String {
    let reason = words::harmless(reason);
    match kind {
        _ if reason.is_empty() => kind.to_string(),
        // The system call alone does not tell what is read or waited for, nor which colour it has in a flame graph.
        WaitKind::Socket
        | WaitKind::Pipe
        | WaitKind::File
        | WaitKind::Disk
        | WaitKind::Event
        | WaitKind::Lock
        | WaitKind::Ipc
        | WaitKind::Child
        | WaitKind::Signal => {
            format!("{reason} ({kind})")
        }
        _ => reason,
    }
}

/// What is waited on, where there is little room: of a connection the other end, and of its state only what is not usual.
fn in_table(object: &str) -> String {
    let short = match object.split_once(" → ") {
        Some((before, after)) => match before.rsplit_once(' ') {
            Some((before, own)) if !own.starts_with('(') => format!("{before} {after}"),
            _ => format!("{before} {after}"),
        },
        None => object.to_owned(),
    };
    words::cut_end(&short.replace(", established", ""), MAX_OBJECT_WIDTH)
}

/// What is waited for, where what it is waited on follows: `read (pipe) on fd 3 (pipe:[48122])` would say it twice.
pub(in crate::report) fn bare_operation(kind: WaitKind, reason: &str) -> String {
    let reason = words::harmless(reason);
    if reason.is_empty() { kind.to_string() } else { reason }
}

/// Who created the tasks of a site: the user's function that did, or the one that they were started with.
pub(in crate::report) fn creator(shown: &Shown<'_>, site: &Site, task: Option<&Task>) -> String {
    let innermost = || shown.frames(&site.creation).first().copied().filter(|_| site.task == TaskKind::Goroutine);
    if let Some(frame) = frames::innermost_users(shown, &site.creation).or_else(innermost) {
        return frames::label(frame);
    }
    // The outermost frame of a stack that was cut is not what the thread was started with.
    let is_whole = task.is_some_and(|task| task.stack_end == StackEnd::Complete);
    match frames::outermost_users(shown, &site.stack).filter(|_| is_whole) {
        Some(entry) => format!("entry: {}", frames::label(entry)),
        None => "not seen".into(),
    }
}

/// Where the tasks of a site are: the place of most of them, and how many more there are.
pub(in crate::report) fn place_of_site(shown: &Shown<'_>, site: &Site, end: Option<StackEnd>) -> String {
    let first = place(shown, &site.stack, end);
    match site.places.len() {
        0 | 1 => first,
        2 => format!("{first} and 1 more place"),
        places => format!("{first} and {} more places", places - 1),
    }
}

/// The user's function on `stack` that waits; or, if there is none, the innermost frame, or why there is no stack.
pub(in crate::report) fn place(shown: &Shown<'_>, stack: &[u32], end: Option<StackEnd>) -> String {
    let innermost = || shown.frames(stack).first().copied();
    match frames::innermost_users(shown, stack).or_else(innermost) {
        Some(frame) => frames::label(frame),
        None => match end {
            Some(StackEnd::Complete) | None => "no stack".into(),
            Some(end) => format!("({})", end.explain()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_connection_the_other_end_stands_in_the_table() {
        let full = "fd 17 (tcp 10.0.0.1:41312 → 10.0.0.2:5432, established, idle 3h 0m)";
        assert_eq!(in_table(full), "fd 17 (tcp 10.0.0.2:5432, idle 3h 0m)");
        assert_eq!(in_table("fd 3 (unix → /run/x, established)"), "fd 3 (unix /run/x)");
        assert_eq!(
            in_table("fd 3 (/a/path/that/is/longer/than/there/is/room)"),
            "fd 3 (/a/path/that/is/longer/than/the…"
        );
        assert_eq!(in_table(""), "");
    }
}
