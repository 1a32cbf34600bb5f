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
    let gaps = unseen.chain(recording.coverage.gaps.iter().cloned());
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

/// Each loss in words; only what is not 0.
pub(super) fn losses(recording: &Recording) -> impl Iterator<Item = String> {
    let losses = recording.losses.iter();
    losses.filter(|&(name, &n)| n > 0 && name != "events_streamed").map(|(name, &n)| loss(name, n))
}

/// What the loss `name` means, having happened `n` times. A name that is new here is shown as it is.
fn loss(name: &str, n: u64) -> String {
    let ring_full = "the ring buffer was full";
    let (noun, what) = match name {
        "program_skipped" => ("event", "perhaps not recorded: our program was interrupted on that CPU".to_owned()),
        "ring_full_created" => ("creation", format!("not recorded: {ring_full}")),
        "ring_full_exited" => ("exit", format!("not recorded: {ring_full}")),
        "ring_full_exec" => ("exec", format!("not recorded: {ring_full}")),
        "ring_full_renamed" => ("change", format!("of a name not recorded: {ring_full}")),
        "ring_full_wait" => ("ended wait", format!("not recorded: {ring_full}")),
        "ring_full_stack" => ("event", "recorded without a stack: the ring buffer was half full".into()),
        "creation_stack_rate_limited" => ("creation", "recorded without a stack: too many at once".into()),
        "wait_stack_rate_limited" => ("ended wait", "recorded without a stack: too many at once".into()),
        "regs_unreadable" => ("event", "recorded without a stack: registers could not be read".into()),
        "event_stack_unreadable" => ("event", "recorded without a stack: its memory could not be read".into()),
        "stack_unreadable" => ("stack", "whose memory could not be read".into()),
        "thread_memory_unanswered" => (
            "thread",
            "whose stack does not answer: it is memory that a userfaultfd handler or a file server is to provide"
                .into(),
        ),
        "thread_unstable" => ("stack", "not read: the thread ran whenever it was looked at".into()),
        "stack_too_deep" => ("stack", "cut: deeper than what is read of one".into()),
        "stack_register_unknown" => {
            ("stack", "cut: the outer frames could not be found without registers that /proc does not tell".into())
        }
        "stack_no_unwind_info" => ("stack", "cut: the outer frames could not be found".into()),
        "event_stack_too_deep" => ("event", "with its stack cut: deeper than what is read of one".into()),
        "event_stack_no_unwind_info" => ("event", "with its stack cut: the outer frames could not be found".into()),
        "record_malformed" => ("event", "not recorded: what came from the kernel could not be understood".into()),
        "events_made_good_by_snapshot" => ("event", "missed, and made good by a snapshot".into()),
        "ring_full_forked" => ("new process", format!("not recorded: {ring_full}")),
        "wait_slot_taken" => ("wait", "not timed: another thread's wait had its slot".into()),
        "ended_wait_stack_unseen" => ("ended wait", "without a stack: no snapshot was taken while it lasted".into()),
        "events_not_told" => ("creation or exit", "counted, but its record was lost".into()),
        "goroutine_unstable" => ("goroutine stack", "not read: the goroutine ran whenever it was looked at".into()),
        "goroutine_stack_too_deep" => ("goroutine stack", "cut: deeper than what is read of one".into()),
        "goroutine_stack_no_unwind_info" => ("goroutine stack", "cut: the outer frames could not be found".into()),
        "goroutine_stack_unreadable" => ("goroutine stack", "cut: the memory could not be read".into()),
        "goroutine_unreadable" => ("goroutine", "not read: the memory could not be read".into()),
        "go_runtime_unreadable" => ("Go runtime", "whose goroutines could not be read".into()),
        "goroutine_list_unreadable" => ("list", "of goroutines not read: the memory could not be read".into()),
        "goroutine_list_mistaken" => ("list", "of goroutines was another one: some that came were seen late".into()),
        "goroutine_left_out" => ("goroutine", "neither listed nor counted: there are too many".into()),
        "goroutine_channels_cut" => {
            ("list", "of select cases or of a channel's waiters read only in part: too long".into())
        }
        "goroutine_locks_unknown" => {
            ("goroutine", "listed without the lock it waits for: it was not found in the runtime's queues".into())
        }
        "timers_left_out" => ("timer", "not counted: too many, or in a heap that could not be read".into()),
        "goroutines_not_listed" => {
            ("goroutine", "counted at their sites, but not listed one by one: there are too many".into())
        }
        "ended_waits_not_listed" => {
            ("ended wait", "counted at its place, but not listed one by one: there are too many".into())
        }
        "sites_not_listed" => ("task", "at sites that are not listed: there are too many".into()),
        "files_beyond_budget" => {
            ("file", "not read, or not completely: beyond what one run may spend on files of the target".into())
        }
        "task_unreadable" => ("task", "with a field that could not be read".into()),
        _ => {
            let name = words::harmless(&name.replace('_', " "));
            return format!("{name}: {}", words::thousands(n));
        }
    };
    format!("{} {what}", words::count(n, noun))
}

#[cfg(test)]
mod tests {
    use leakprobe_common::counter::Counter;

    use super::*;
    use crate::{
        go::goroutines::Losses,
        model::Wait,
        report::{Options, fixture},
        snapshot,
    };

    fn unknown_ages_of(recording: &Recording) -> Option<String> {
        unknown_ages(&Shown::of(recording, &Options::default()))
    }

    #[test]
    fn every_counter_of_the_kernel_side_has_words() {
        for counter in Counter::ALL {
            let words = loss(counter.name(), 2);
            if counter.is_loss() {
                assert!(words.starts_with("2 "), "{} has no words", counter.name());
            }
        }
        assert_eq!(loss("ring_full_created", 1), "1 creation not recorded: the ring buffer was full");
        assert_eq!(loss("some_new_loss", 1_234), "some new loss: 1,234");
    }

    /// Of losses that are two each.
    fn all_have_words(losses: impl Iterator<Item = (&'static str, u64)>) {
        for (name, n) in losses {
            let words = loss(name, n);
            assert!(words.starts_with("2 "), "{name} has no words: {words}");
        }
    }

    #[test]
    fn every_loss_of_the_goroutine_reader_has_words() {
        let losses = Losses {
            unstable: 2,
            too_deep: 2,
            no_unwind_info: 2,
            stack_unreadable: 2,
            unreadable: 2,
            left_out: 2,
            channels_cut: 2,
            locks_unknown: 2,
            timers_left_out: 2,
        };
        all_have_words(losses.named());
        assert_eq!(loss("goroutine_stack_unreadable", 1), "1 goroutine stack cut: the memory could not be read");
    }

    #[test]
    fn every_loss_of_the_thread_reader_has_words() {
        let losses = snapshot::Losses {
            unstable: 2,
            unreadable: 2,
            unanswered: 2,
            too_deep: 2,
            no_unwind_info: 2,
            register_unknown: 2,
            event_too_deep: 2,
            event_no_unwind_info: 2,
        };
        all_have_words(losses.named());
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
