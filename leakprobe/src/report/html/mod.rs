//! One page with everything: what hangs, where, who made it, who would have to act, flame graphs that can be zoomed and searched,
//! and what all of that rests on. It needs no network, and nothing beside itself.

mod check;
mod diff;
mod page;

use std::io;

pub(super) use self::diff::write as write_diff;
use self::page::{Cell, Page};
use super::{
    Options, Report, View, Weight, checked, ends, evidence, groups, holders,
    shown::Shown,
    svg, timers,
    txt::{goroutines, sites},
    waits::Graph,
    words,
};
use crate::model::{GrowthSample, Recording, Site, StackEnd, Task, TaskKind};

/// Sites that are told; the recording has all.
const MAX_SITES: usize = 200;

/// Rows of other tables, tasks of a site that are named, objects that they wait on, and what else there is several of.
const MAX_ROWS: usize = 100;
const MAX_TASKS: usize = 50;
const MAX_OBJECTS: usize = 10;

/// Deadlocks, threads of one, and holders of a site: each with its stack.
const MAX_DEADLOCKS: usize = 20;
const MAX_DEADLOCKED: usize = 50;
const MAX_HOLDERS: usize = 10;

/// Characters of a small chart.
const SPARK_WIDTH: usize = 40;

/// The `.html` format.
pub(super) struct Html;

impl Report for Html {
    fn write(&self, recording: &Recording, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
        write(recording, None, options, out)
    }
}

/// The page of `recording`; with the difference to `before`, if there is such a recording.
pub(super) fn write(
    recording: &Recording,
    before: Option<&Recording>,
    options: &Options,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let shown = &Shown::of(recording, options);
    let target = &recording.target;
    let inside = target.ns_pid.map_or(String::new(), |pid| format!(", {pid} in its namespace"));
    let mut page = Page::begin(out, &format!("{} (pid {}{inside})", target.comm, target.pid))?;
    check::outcome(&mut page, shown)?;
    summary(&mut page, shown)?;
    check::in_full(&mut page, shown)?;
    deadlocks(&mut page, shown)?;
    who_waits_for_whom(&mut page, shown, options)?;
    pictures(&mut page, shown, before, options)?;
    if let Some(by) = &options.group_by {
        group_table(&mut page, shown, by)?;
    }
    site_table(&mut page, shown)?;
    let members = shown.members();
    for (place, (site, tasks)) in shown.sites.iter().zip(&members).take(MAX_SITES).enumerate() {
        site_in_full(&mut page, shown, site, tasks, place == 0)?;
    }
    pending_timers(&mut page, shown)?;
    unparked(&mut page, shown)?;
    ended_waits(&mut page, shown)?;
    growth(&mut page, shown)?;
    rests_on(&mut page, shown)?;
    page.end()
}

fn summary(page: &mut Page<'_>, shown: &Shown<'_>) -> io::Result<()> {
    let recording = shown.recording;
    let target = &recording.target;
    let execs = match target.execs {
        0 => String::new(),
        1 => "; began another program once".to_owned(),
        execs => format!("; began another program {}", words::count(execs, "time")),
    };
    let ended = target.ended.as_ref().map_or_else(String::new, |ended| format!("; the process {ended}"));
    let ended = execs + &ended;
    let started = words::utc(&recording.started);
    let watched = match recording.duration_ms {
        0 => format!("seen once, at {started}{ended}"),
        ms => format!("watched for {} from {started}{ended}", words::span(ms)),
    };
    page.sentence("dim", &format!("{} · {} · {watched}", target.exe, target.runtime))?;
    let at = words::count(shown.sites.len() as u64, "site");
    page.sentence("lead", &format!("{}, {}, at {at}", evidence::alive(shown), evidence::parked(shown)))?;
    if shown.sites.is_empty() {
        page.sentence("", &words::capitalized(&evidence::nothing_parked(shown)))?;
    }
    let not_shown = shown.not_shown();
    if !not_shown.is_empty() {
        page.sentence("dim", &format!("not shown: {}", not_shown.join(", ")))?;
    }
    page.sentence("warn", &shown.filtered_words().unwrap_or_default())?;
    let unseen: Vec<String> = evidence::unseen(shown).into_iter().map(|clause| format!("not seen: {clause}")).collect();
    page.list("warn", &unseen)
}

/// Tasks that wait for each other for ever, each with its stack.
fn deadlocks(page: &mut Page<'_>, shown: &Shown<'_>) -> io::Result<()> {
    let found = &shown.recording.deadlocks;
    for (place, deadlock) in found.iter().take(MAX_DEADLOCKS).enumerate() {
        page.details(&format!("-deadlock-{place}"), &holders::deadlock(deadlock), true, |page| {
            for (text, task) in holders::members(shown, deadlock).take(MAX_DEADLOCKED) {
                page.sentence("alarm", &text)?;
                if let Some(task) = task {
                    page.frames(shown, &task.stack, task.stack_end.explain())?;
                }
            }
            left_out(page, deadlock.tasks.len(), MAX_DEADLOCKED, "thread")?;
            page.sentence("", &holders::behind(deadlock))
        })?;
    }
    left_out(page, found.len(), MAX_DEADLOCKS, "deadlock")
}

fn who_waits_for_whom(page: &mut Page<'_>, shown: &Shown<'_>, options: &Options) -> io::Result<()> {
    // Two nodes are enough to know whether there are any.
    if Graph::of(shown, 2).nodes.is_empty() {
        return Ok(());
    }
    page.heading("Who waits for whom")?;
    let mut picture = Vec::new();
    svg::Waits.write(shown.recording, &Options { width: None, ..options.clone() }, &mut picture)?;
    page.natural_picture("who waits for whom", &picture)
}

fn pictures(page: &mut Page<'_>, shown: &Shown<'_>, before: Option<&Recording>, options: &Options) -> io::Result<()> {
    if shown.sites.is_empty() && shown.parked() == 0 {
        return Ok(());
    }
    page.heading("Flame graphs")?;
    if let Some(before) = before {
        let mut picture = Vec::new();
        diff::picture([before, shown.recording], options, &mut picture)?;
        let name = "What came since the baseline (red) and what has gone (blue)";
        page.details("-difference", name, true, |page| page.picture(name, &picture))?;
    }
    for ((id, name), options) in [
        ("parked", "Where they are parked, by number"),
        ("time", "Where they are parked, by time"),
        ("creation", "Where they were created"),
    ]
    .into_iter()
    .zip(views(options))
    {
        let mut picture = Vec::new();
        svg::Svg.write(shown.recording, &options, &mut picture)?;
        page.details(&format!("-{id}"), name, id == "parked", |page| page.picture(name, &picture))?;
    }
    Ok(())
}

/// Of each of the flame graphs, which are drawn one after the other.
pub(super) fn views(options: &Options) -> [Options; 3] {
    [(View::Parked, Weight::Tasks), (View::Parked, Weight::Time), (View::Creation, Weight::Tasks)]
        .map(|(view, weight)| Options { view, weight, width: None, ..options.clone() })
}

fn group_table(page: &mut Page<'_>, shown: &Shown<'_>, by: &super::GroupBy) -> io::Result<()> {
    let groups = groups::groups(shown, by);
    page.heading("Groups")?;
    let rows: Vec<Vec<Cell>> = groups
        .iter()
        .take(MAX_ROWS)
        .map(|group| {
            vec![
                Cell::Number(words::thousands(group.count)),
                Cell::Number(words::thousands(group.parked)),
                Cell::Function(group.name.clone()),
                Cell::Number(words::thousands(group.sites.len() as u64)),
            ]
        })
        .collect();
    page.table(&["tasks", "parked", "group", "sites"], &rows)?;
    left_out(page, groups.len(), MAX_ROWS, "group")
}

fn site_table(page: &mut Page<'_>, shown: &Shown<'_>) -> io::Result<()> {
    if shown.sites.is_empty() {
        return Ok(());
    }
    page.heading("Sites")?;
    let members = shown.members();
    let both = shown.has(TaskKind::Thread) && shown.has(TaskKind::Goroutine);
    let rows: Vec<Vec<Cell>> = shown
        .sites
        .iter()
        .zip(&members)
        .take(MAX_SITES)
        .map(|(site, tasks)| {
            let task = tasks.first().copied();
            let is_counted = site.course.is_some(); // the rounds tell
            let new = match site.created_while_watched {
                new if new > 0 && !is_counted => format!("+{}", words::thousands(new)),
                _ => String::new(),
            };
            let growth = if is_counted { String::new() } else { sites::growth_of(shown, site) };
            vec![
                Cell::Number(words::thousands(site.count)),
                Cell::Text(if both { evidence::noun_of(site.task).to_owned() } else { String::new() }),
                Cell::Number(words::thousands(site.parked)),
                Cell::Number(checked::counts(site)),
                Cell::Number(new),
                Cell::Number(growth),
                Cell::Number(sites::oldest(shown, site)),
                Cell::Text(site.verdict.name().to_owned()),
                Cell::Text(sites::wait_words(site)),
                Cell::Text(sites::waits_on(site, tasks)),
                Cell::Function(sites::creator(shown, site, task)),
                Cell::Function(sites::place_of_site(shown, site, task.map(|task| task.stack_end))),
                Cell::Link(site.id.clone()),
            ]
        })
        .collect();
    let nouns = format!("{}s", evidence::noun(shown));
    let titles = [
        &nouns,
        "kind",
        "parked",
        "rounds",
        "new",
        "growth",
        "oldest",
        "verdict",
        "wait",
        "on",
        "created by",
        "parked in",
        "site",
    ];
    page.table(&titles, &rows)?;
    left_out(page, shown.sites.len(), MAX_SITES, "site")
}

fn site_in_full(page: &mut Page<'_>, shown: &Shown<'_>, site: &Site, tasks: &[&Task], open: bool) -> io::Result<()> {
    let noun = evidence::noun_of(site.task);
    let title = format!("Site {}: {} in {}", site.id, words::count(site.count, noun), sites::wait_words(site));
    page.details(&site.id, &title, open, |page| {
        check::verdict(page, site)?;
        page.sentence("warn", &sites::unknown_ages(shown, site).unwrap_or_default())?;
        let facts: Vec<String> = site.evidence.iter().map(ToString::to_string).collect();
        page.list("", &facts)?;
        check::advice(page, site)?;
        if site.trend.len() > 1 {
            let (first, last) = (site.trend.first().copied(), site.trend.last().copied());
            let spark = words::spark(&site.trend, SPARK_WIDTH);
            let (first, last) = (words::thousands(first.unwrap_or(0)), words::thousands(last.unwrap_or(0)));
            page.sentence("", &format!("trend {spark} {first} → {last}"))?;
        }
        page.sentence("dim", sites::where_words(site))?;
        let (kernel, elsewhere) = sites::in_kernel(tasks);
        page.frames(shown, kernel, &elsewhere)?;
        let end = tasks.first().map_or(StackEnd::Complete, |task| task.stack_end);
        page.frames(shown, &site.stack, end.explain())?;
        created_by(page, shown, site, tasks)?;
        let wait = sites::bare_operation(site.kind, &site.wait);
        listed(page, &format!("{wait} on"), &sites::objects(site, tasks), MAX_OBJECTS, 0)?;
        who_would_have_to_act(page, shown, tasks)?;
        listed(page, "labels:", &goroutines::labels(tasks), MAX_OBJECTS, 0)?;
        let names: Vec<String> = tasks.iter().take(MAX_TASKS).map(|task| sites::name_in_list(task)).collect();
        let all = usize::try_from(site.count).unwrap_or(usize::MAX).max(tasks.len());
        listed(page, &format!("{noun}s:"), &names, MAX_TASKS, all)
    })
}

fn created_by(page: &mut Page<'_>, shown: &Shown<'_>, site: &Site, tasks: &[&Task]) -> io::Result<()> {
    let why = tasks.first().and_then(|task| task.created_by.why_unknown.as_deref());
    let why = if site.creation.is_empty() { why.unwrap_or("its creation was not seen") } else { "" };
    page.stack("created by", shown, &site.creation, why)?;
    if site.creation.is_empty() {
        return Ok(());
    }
    let creator = sites::creator_task(tasks).map(|name| format!("in {} {name}", evidence::noun_of(site.task)));
    page.sentence("", &creator.unwrap_or_default())?;
    let parents = goroutines::parents(tasks);
    let noun = if parents.len() == 1 { "in goroutine" } else { "in goroutines" };
    listed(page, noun, &parents, MAX_TASKS, 0)
}

/// The holders of what is waited for, with their stacks, and those at other ends.
fn who_would_have_to_act(page: &mut Page<'_>, shown: &Shown<'_>, tasks: &[&Task]) -> io::Result<()> {
    let found = holders::holders(shown, tasks);
    for holder in found.iter().take(MAX_HOLDERS) {
        page.sentence("alarm", &holder.text)?;
        if let Some(task) = holder.task {
            page.frames(shown, &task.stack, task.stack_end.explain())?;
        }
    }
    left_out(page, found.len(), MAX_HOLDERS, "holder")?;
    for ends::Ends { label, named } in ends::other_ends(tasks) {
        listed(page, label, &named, MAX_OBJECTS, 0)?;
    }
    Ok(())
}

/// The first of `items` in one sentence, and how many more there are of them, or of `all` if that is more.
fn listed(page: &mut Page<'_>, label: &str, items: &[String], most: usize, all: usize) -> io::Result<()> {
    let told = items.get(..most).unwrap_or(items);
    if told.is_empty() {
        return Ok(());
    }
    let more = all.max(items.len()) - told.len();
    let more = if more > 0 { format!(" and {} more", words::thousands(more as u64)) } else { String::new() };
    page.sentence("", &format!("{label} {}{more}", told.join(", ")))
}

/// The tasks that are at no site.
fn unparked(page: &mut Page<'_>, shown: &Shown<'_>) -> io::Result<()> {
    let tasks: Vec<&&Task> = shown.tasks.iter().filter(|task| shown.site_of(task).is_none()).collect();
    if tasks.is_empty() {
        return Ok(());
    }
    let title = format!("{} at no site", words::count(tasks.len() as u64, &format!("more {}", evidence::noun(shown))));
    page.details("-others", &title, false, |page| {
        let rows: Vec<Vec<Cell>> = tasks
            .iter()
            .take(MAX_ROWS)
            .map(|task| {
                let wait = task.wait.as_ref();
                vec![
                    Cell::Text(sites::task_name(task)),
                    Cell::Text(task.state.name().to_owned()),
                    Cell::Number(wait.map_or_else(String::new, |wait| words::age(wait.age_ms, wait.exact))),
                    Cell::Text(wait.map_or_else(String::new, |wait| sites::operation(wait.kind, &wait.reason))),
                    Cell::Function(sites::place(shown, &task.stack, Some(task.stack_end))),
                ]
            })
            .collect();
        page.table(&["task", "state", "for", "wait", "in"], &rows)?;
        left_out(page, tasks.len(), MAX_ROWS, "task")
    })
}

fn pending_timers(page: &mut Page<'_>, shown: &Shown<'_>) -> io::Result<()> {
    let rows = timers::rows(shown);
    if rows.is_empty() {
        return Ok(());
    }
    page.heading("Pending timers, for which no task waits")?;
    let cells = |row: &timers::Row<'_>| {
        let [count, verdict, course, fires, usage, calls, id] = row.cells();
        let texts = [verdict, course, fires, usage].map(Cell::Text);
        let mut cells = vec![Cell::Number(count)];
        cells.extend(texts);
        cells.extend([Cell::Function(calls), Cell::Text(id)]);
        cells
    };
    page.table(&timers::TITLES, &rows.iter().take(MAX_ROWS).map(cells).collect::<Vec<_>>())?;
    for (called, facts) in rows.iter().take(MAX_ROWS).filter_map(timers::Row::judged) {
        page.sentence("", &format!("{called}:"))?;
        page.list("", &facts)?;
    }
    left_out(page, rows.len(), MAX_ROWS, "row")
}

fn ended_waits(page: &mut Page<'_>, shown: &Shown<'_>) -> io::Result<()> {
    let waits: Vec<_> = shown.recording.ended_waits.iter().filter(|wait| shown.shows_ended(wait)).collect();
    if waits.is_empty() {
        return Ok(());
    }
    page.heading(&format!("Waits over {} that ended meanwhile", words::short_span(shown.recording.min_block_ms)))?;
    let rows: Vec<Vec<Cell>> = waits
        .iter()
        .take(MAX_ROWS)
        .map(|ended| {
            vec![
                Cell::Number(words::thousands(ended.count)),
                Cell::Number(words::span(ended.wait.age_ms)),
                Cell::Number(words::span(ended.total_ms)),
                Cell::Text(sites::operation(ended.wait.kind, &ended.wait.reason)),
                Cell::Function(sites::place(shown, &ended.stack, None)),
                Cell::Text(format!("{} ({})", ended.name, ended.task)),
            ]
        })
        .collect();
    page.table(&["waits", "longest", "together", "wait", "in", "longest by"], &rows)?;
    left_out(page, waits.len(), MAX_ROWS, "place")
}

fn growth(page: &mut Page<'_>, shown: &Shown<'_>) -> io::Result<()> {
    let growth = &shown.recording.growth;
    if growth.len() < 2 {
        return Ok(());
    }
    page.heading("Growth")?;
    type Number = fn(&GrowthSample) -> u64;
    let columns: [(&str, Number); 4] = [
        ("goroutines", |sample| sample.goroutines),
        ("goroutines parked", |sample| sample.goroutines_parked),
        ("threads", |sample| sample.tasks),
        ("threads parked", |sample| sample.parked),
    ];
    let rows: Vec<Vec<Cell>> = columns
        .iter()
        .map(|(name, number)| (name, growth.iter().map(number).collect::<Vec<u64>>()))
        .filter(|(_, numbers)| numbers.iter().any(|&number| number > 0))
        .map(|(name, numbers)| {
            let number = |number: Option<&u64>| Cell::Number(words::thousands(number.copied().unwrap_or(0)));
            vec![
                Cell::Text((*name).to_owned()),
                number(numbers.first()),
                number(numbers.last()),
                Cell::Text(words::spark(&numbers, SPARK_WIDTH)),
            ]
        })
        .collect();
    page.table(&["", "first", "last", "between"], &rows)?;
    let created = evidence::goroutines_created(shown).map(|words| format!("goroutines: {words}"));
    page.sentence("", &created.unwrap_or_default())
}

/// What was looked at, how completely, and at what cost.
fn rests_on(page: &mut Page<'_>, shown: &Shown<'_>) -> io::Result<()> {
    let recording = shown.recording;
    let coverage = &recording.coverage;
    page.heading("Evidence")?;
    let sources: Vec<String> = coverage.sources.iter().map(ToString::to_string).collect();
    let mut facts = vec![format!(
        "watched: {}: {}, {}",
        sources.join(", "),
        words::count(coverage.snapshots, "snapshot"),
        words::count(coverage.events, "event")
    )];
    for (kind, complete, blocked) in evidence::stacks(shown) {
        let blocked = words::count(blocked, &format!("blocked {}", evidence::noun_of(kind)));
        facts.push(format!("stacks: complete for {} of {blocked}", words::thousands(complete)));
    }
    let known = words::thousands(coverage.creations_known);
    let mut creations =
        format!("creations: seen with stack for {known} of {}", words::count(coverage.threads, "thread"));
    if recording.duration_ms > 0 {
        let (created, exited) = (words::thousands(coverage.created), words::thousands(coverage.exited));
        creations += &format!(" ({created} created, {exited} exited meanwhile)");
    }
    facts.push(creations);
    if let Some(go) = &coverage.go {
        let known = words::thousands(go.creations_known);
        facts.push(format!("creations: known for {known} of {}", words::count(go.goroutines, "goroutine")));
    }
    facts.extend(evidence::pauses(recording).map(|pause| format!("paused: {pause}")));
    facts.push(format!("own cost: {}", evidence::cost(recording)));
    facts.push(format!("written by leakprobe {}", recording.tool.version));
    page.list("", &facts)?;
    let unseen = evidence::unseen(shown);
    page.sentence(
        "",
        if unseen.is_empty() { "Nothing was lost." } else { "What was not seen stands at the top of the page." },
    )
}

fn left_out(page: &mut Page<'_>, all: usize, most: usize, noun: &str) -> io::Result<()> {
    let more = all.saturating_sub(most) as u64;
    let sentence = format!("{} not shown; the recording (.json) has all", words::count(more, noun));
    page.sentence("warn", if more > 0 { &sentence } else { "" })
}

#[cfg(test)]
pub(super) mod tests;
