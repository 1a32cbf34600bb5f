//! What a recording rests on, in words that every format for people shares: what was counted, and what was not seen.

use super::words;
use crate::model::{Recording, TaskKind, TaskState};

/// What the recording's tasks are called: `thread`, `goroutine`, or `task` if there are both.
pub(super) fn noun(recording: &Recording) -> &'static str {
    let has = |kind| recording.tasks.iter().any(|task| task.kind == kind);
    match (has(TaskKind::Thread), has(TaskKind::Goroutine)) {
        (true, true) => "task",
        (false, true) => "goroutine",
        (_, false) => "thread",
    }
}

/// Tasks that were alive at the end.
pub(super) fn alive(recording: &Recording) -> u64 {
    let alive = |state| state != TaskState::Exited;
    let tasks = recording.tasks.iter();
    tasks.filter(|task| alive(task.state)).count() as u64
}

/// Tasks that were parked at the end.
pub(super) fn parked(recording: &Recording) -> u64 {
    let tasks = recording.tasks.iter();
    tasks.filter(|task| task.state == TaskState::Parked).count() as u64
}

/// Says that nothing is parked, and neither more nor less than that.
pub(super) fn nothing_parked(recording: &Recording) -> String {
    format!("no {} was parked for longer than {}", noun(recording), words::short_span(recording.min_block_ms))
}

/// What was not seen, one clause each: gaps, stacks and ages that are not known, losses. Empty if everything was seen.
pub(super) fn unseen(recording: &Recording) -> Vec<String> {
    let mut unseen: Vec<String> = gaps(recording).collect();
    let coverage = &recording.coverage;
    let cut = coverage.blocked.saturating_sub(coverage.stacks_complete);
    if cut > 0 {
        let stacks = words::count(cut, "stack");
        unseen.push(format!("{stacks} could not be read completely"));
    }
    unseen.extend(unknown_ages(recording));
    unseen.extend(losses(recording));
    unseen
}

/// What was not watched, and why.
pub(super) fn gaps(recording: &Recording) -> impl Iterator<Item = String> {
    let gaps = recording.coverage.gaps.iter();
    gaps.map(|gap| words::harmless(gap).trim_end_matches(['.', ' ']).to_owned()).filter(|gap| !gap.is_empty())
}

/// Blocked tasks whose wait has only a lower bound below the threshold: they may be parked without counting as it.
pub(super) fn unknown_ages(recording: &Recording) -> Option<String> {
    let unknown = recording.tasks.iter().filter(|task| {
        let wait = task.wait.as_ref();
        task.state == TaskState::Blocked && wait.is_some_and(|wait| !wait.exact)
    });
    let unknown = unknown.count() as u64;
    (unknown > 0).then(|| {
        format!(
            "{} may be parked: when {} wait began is not known",
            words::count(unknown, &format!("more {}", noun(recording))),
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
        "ring_full_stack" => ("event", format!("recorded without a stack: {ring_full}")),
        "creation_stack_rate_limited" => ("creation", "recorded without a stack: too many at once".into()),
        "wait_stack_rate_limited" => ("ended wait", "recorded without a stack: too many at once".into()),
        "regs_unreadable" => ("event", "recorded without a stack: registers could not be read".into()),
        "event_stack_unreadable" => ("event", "recorded without a stack: its memory could not be read".into()),
        "stack_unreadable" => ("stack", "whose memory could not be read".into()),
        "futex_slot_taken" => ("futex wait", "not timed: another thread's wait had its slot".into()),
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
    use crate::{model::Wait, report::fixture};

    #[test]
    fn every_counter_of_the_kernel_side_has_words() {
        for counter in Counter::ALL {
            let words = loss(counter.name(), 2);
            if *counter != Counter::Streamed {
                assert!(words.starts_with("2 "), "{} has no words", counter.name());
            }
        }
        assert_eq!(loss("ring_full_created", 1), "1 creation not recorded: the ring buffer was full");
        assert_eq!(loss("some_new_loss", 1_234), "some new loss: 1,234");
    }

    #[test]
    fn what_may_be_parked_is_not_hidden() {
        let mut recording = fixture::idle();
        assert_eq!(unknown_ages(&recording), None);
        for task in &mut recording.tasks {
            task.state = TaskState::Blocked;
            task.wait = Some(Wait { exact: false, ..fixture::wait(crate::model::WaitKind::Poll, 3) });
        }
        assert_eq!(
            unknown_ages(&recording).unwrap(),
            "3 more threads may be parked: when their wait began is not known"
        );
    }

    #[test]
    fn tasks_are_called_what_they_are() {
        let mut recording = fixture::idle();
        assert_eq!(noun(&recording), "thread");
        recording.tasks[0].kind = TaskKind::Goroutine;
        assert_eq!(noun(&recording), "task");
        recording.tasks.truncate(1);
        assert_eq!(noun(&recording), "goroutine");
        recording.tasks.clear();
        assert_eq!(noun(&recording), "thread");
    }
}
