//! What a recording rests on, in words that every format for people shares: what was counted, and what was not seen.

use super::{Kind, shown::Shown, words};
use crate::model::{Pause, Recording, StackEnd, TaskKind, TaskState, UnseenTasks};

/// In shorter runs the start, which costs the same in each, would pass for a lasting share of a core, ms.
const MIN_SHARE_MS: u64 = 10_000;

/// What the tasks that are shown are called: `thread`, `goroutine`, or `task` if there are both.
pub(super) fn noun(shown: &Shown<'_>) -> &'static str {
    match (shown.has(TaskKind::Thread), shown.has(TaskKind::Goroutine)) {
        (true, true) => "task",
        (false, true) => "goroutine",
        (true, false) => "thread",
        (false, false) if shown.kind == Kind::Threads || shown.recording.coverage.go.is_none() => "thread",
        (false, false) => "goroutine",
    }
}

/// What a task of that kind is called.
pub(super) const fn noun_of(kind: TaskKind) -> &'static str {
    match kind {
        TaskKind::Thread => "thread",
        TaskKind::Goroutine => "goroutine",
    }
}

/// How many tasks were alive at the end, of each kind that is shown: `1,203 goroutines and 2 threads`.
pub(super) fn alive(shown: &Shown<'_>) -> String {
    let kinds = [TaskKind::Goroutine, TaskKind::Thread].into_iter().filter(|&kind| shown.has(kind));
    let kinds: Vec<String> = kinds.map(|kind| words::count(shown.alive(kind), noun_of(kind))).collect();
    if kinds.is_empty() { words::count(0, noun(shown)) } else { kinds.join(" and ") }
}

/// How many tasks were parked at the end, and of how many it is not known: `12 parked longer than 1 s, 3 waiting for an unknown
/// time`.
pub(super) fn parked(shown: &Shown<'_>) -> String {
    let threshold = words::short_span(shown.recording.min_block_ms);
    let parked = match shown.parked() {
        0 => "none".to_owned(),
        parked => words::thousands(parked),
    };
    let brief: u64 = shown.sites.iter().map(|site| site.brief).fold(0, u64::saturating_add);
    let new = match brief {
        0 => String::new(),
        brief => format!(", {} new and alive, not parked", words::thousands(brief)),
    };
    format!("{parked} parked longer than {threshold}{}{new}", unknown(shown))
}

/// `, 3 waiting for an unknown time`, or nothing if there are none of those.
pub(super) fn unknown(shown: &Shown<'_>) -> String {
    match at_sites_unknown(shown) {
        0 => String::new(),
        unknown => format!(", {} waiting for an unknown time", words::thousands(unknown)),
    }
}

/// Tasks at sites of which it is not known for how long they wait.
fn at_sites_unknown(shown: &Shown<'_>) -> u64 {
    let unknown = shown.sites.iter().map(|site| site.unknown());
    unknown.fold(0, u64::saturating_add)
}

/// Says that nothing is parked, and neither more nor less than that.
pub(super) fn nothing_parked(shown: &Shown<'_>) -> String {
    let which = if shown.is_filtered() { " of those that --include and --exclude leave" } else { "" };
    format!("no {}{which} was parked for longer than {}", noun(shown), words::short_span(shown.recording.min_block_ms))
}

/// What was not seen, one clause each: gaps, stacks and ages that are not known, losses. Empty if everything was seen.
pub(super) fn unseen(shown: &Shown<'_>) -> Vec<String> {
    let mut unseen: Vec<String> = gaps(shown.recording).collect();
    let cut = stacks(shown).iter().map(|&(_, complete, blocked)| blocked.saturating_sub(complete)).sum();
    if cut > 0 {
        let stacks = words::count(cut, "stack");
        unseen.push(format!("{stacks} could not be read completely"));
    }
    unseen.extend(unknown_ages(shown));
    unseen.extend(losses(shown.recording));
    unseen
}

/// For each kind of tasks that is shown: how many of those that were blocked have a complete stack, and how many there are.
pub(super) fn stacks(shown: &Shown<'_>) -> Vec<(TaskKind, u64, u64)> {
    let coverage = &shown.recording.coverage;
    let mut stacks = Vec::new();
    if let Some(go) = coverage.go.as_ref().filter(|_| shown.kind != Kind::Threads) {
        stacks.push((TaskKind::Goroutine, go.stacks_complete, go.blocked));
    }
    if coverage.go.is_none() || shown.kind == Kind::Threads {
        stacks.push((TaskKind::Thread, coverage.stacks_complete, coverage.blocked));
    } else {
        // Only of those that are no part of Go's runtime.
        let blocked = |end: Option<StackEnd>| {
            let tasks = shown.tasks.iter().filter(|task| {
                task.kind == TaskKind::Thread
                    && matches!(task.state, TaskState::Blocked | TaskState::Parked)
                    && end.is_none_or(|end| task.stack_end == end)
            });
            tasks.count() as u64
        };
        if blocked(None) > 0 {
            stacks.push((TaskKind::Thread, blocked(Some(StackEnd::Complete)), blocked(None)));
        }
    }
    stacks
}

/// What was not watched, and why; kinds of tasks that are not read come first.
pub(super) fn gaps(recording: &Recording) -> impl Iterator<Item = String> {
    let unseen = recording.coverage.unseen.iter().map(UnseenTasks::sentence);
    let gaps = unseen.chain(recording.coverage.gaps.iter().map(ToString::to_string));
    gaps.map(|gap| words::harmless(&gap).trim_end_matches(['.', ' ']).to_owned()).filter(|gap| !gap.is_empty())
}

/// What was paused, when, for how long and why.
pub(super) fn pauses(recording: &Recording) -> impl Iterator<Item = String> {
    recording.coverage.pauses.iter().map(|pause| {
        let Pause { what, from_ms, for_ms, times, percent } = pause;
        let more = if *times > 1 { format!(", {} in all", words::count(*times, "time")) } else { String::new() };
        format!(
            "{} for {} from {} on{more}: watching them cost {} of a core, more than --max-overhead",
            words::harmless(what),
            words::span(*for_ms),
            words::span(*from_ms),
            words::percent(*percent)
        )
    })
}

/// What leakprobe itself took.
pub(super) fn cost(recording: &Recording) -> String {
    let cost = &recording.cost;
    let mut text = format!("{} of CPU", words::span(cost.cpu_ms));
    if recording.duration_ms >= MIN_SHARE_MS {
        let share = cost.cpu_ms as f64 / recording.duration_ms as f64 * 100.0;
        text += &format!(" ({share:.1} % of one core)");
    }
    text += &format!(", {:.1} MB of memory", cost.rss_mb);
    if cost.snapshot_ms > 0.0 {
        text += &format!(", first snapshot read in {:.1} ms", cost.snapshot_ms);
        if cost.repeated_snapshot_ms > 0.0 {
            text += &format!(", later ones in {:.1} ms", cost.repeated_snapshot_ms);
        }
    }
    if let Some(percent) = cost.programs_percent {
        text += &format!("; its programs in the kernel took {} of one core", words::percent(percent));
    }
    text
}

/// How many goroutines came and went while watched; `None` where there are none.
pub(super) fn goroutines_created(shown: &Shown<'_>) -> Option<String> {
    let go = shown.recording.coverage.go.as_ref().filter(|_| shown.kind != Kind::Threads)?;
    let rate = |n: u64| match shown.recording.duration_ms {
        0 => String::new(),
        ms => format!(" ({}/s)", words::rate(n, ms)),
    };
    let (created, gone) = (words::thousands(go.created), words::thousands(go.gone));
    Some(format!("{created} created{}, {gone} ended{}", rate(go.created), rate(go.gone)))
}

/// Tasks that wait, of which it is not known for how long: they may be parked without counting as it. What is at a site is told
/// there.
pub(super) fn unknown_ages(shown: &Shown<'_>) -> Option<String> {
    let unknown = shown.may_be_parked().saturating_sub(at_sites_unknown(shown));
    (unknown > 0).then(|| {
        format!(
            "{} may be parked: when {} wait began is not known",
            words::count(unknown, &format!("more {}", noun(shown))),
            if unknown == 1 { "its" } else { "their" }
        )
    })
}

/// What the first versions counted beside losses, and is none.
const NO_LOSS: &str = "events_streamed";

/// Each loss in words; only what is not 0.
pub(super) fn losses(recording: &Recording) -> impl Iterator<Item = String> {
    let losses = recording.losses.iter().filter(|&(loss, &n)| n > 0 && loss.code() != NO_LOSS);
    losses.map(|(loss, &n)| super::losses::sentence(loss, n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Wait,
        report::{Options, fixture},
    };

    fn unknown_ages_of(recording: &Recording) -> Option<String> {
        unknown_ages(&Shown::of(recording, &Options::default()))
    }

    #[test]
    fn what_may_be_parked_is_not_hidden() {
        let mut recording = fixture::idle();
        assert_eq!(unknown_ages_of(&recording), None);
        for task in &mut recording.tasks {
            task.state = TaskState::Blocked;
            task.wait = Some(Wait { exact: false, ..fixture::wait(crate::model::WaitKind::Poll, 3) });
        }
        assert_eq!(
            unknown_ages_of(&recording).unwrap(),
            "3 more threads may be parked: when their wait began is not known"
        );
    }

    #[test]
    fn tasks_are_called_what_they_are() {
        let noun_of_all = |recording: &Recording| noun(&Shown::of(recording, &Options::default()));
        let mut recording = fixture::idle();
        assert_eq!(noun_of_all(&recording), "thread");
        recording.tasks[0].kind = TaskKind::Goroutine;
        assert_eq!(noun_of_all(&recording), "task");
        recording.tasks.truncate(1);
        assert_eq!(noun_of_all(&recording), "goroutine");
        recording.tasks.clear();
        assert_eq!(noun_of_all(&recording), "thread");
    }
}
