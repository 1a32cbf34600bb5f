//! Known ways of leaking: how each looks from outside, what is wrong, and how to mend it.
//!
//! A pattern never makes a verdict: it explains one. It rests on what tasks wait on, on the stacks that runtimes and libraries leave,
//! and on who holds what, never on what a program calls its functions. The table is looked through from its top, so that what is
//! special comes before what is general.

mod go;
mod threads;

use super::held::{Held, awaited};
use crate::model::{Channel, Finding, Frame, Recording, Site, Task, TaskKind, WaitKind};

/// What a pattern is told by.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) site: &'a Site,
    /// Some of the tasks there.
    pub(super) tasks: &'a [&'a Task],
    pub(super) recording: &'a Recording,
    /// How many there were at each moment.
    pub(super) counts: &'a [u64],
    /// Who holds Go's locks.
    pub(super) held: &'a Held<'a>,
}

/// A way of leaking.
pub(super) struct Pattern {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) advice: &'static str,
    /// Whether it is right of waits that all end by themselves: what never happens can be said of others alone.
    ends: bool,
    fits: fn(&Facts<'_>) -> bool,
}

/// The frames of a stack, innermost first.
fn frames<'a>(stack: &'a [u32], recording: &'a Recording) -> impl Iterator<Item = &'a Frame> {
    stack.iter().filter_map(|&index| recording.frames.get(index as usize))
}

/// The names of functions, innermost first.
pub(super) fn functions<'a>(stack: &'a [u32], recording: &'a Recording) -> impl Iterator<Item = &'a str> {
    frames(stack, recording).map(|frame| frame.function.as_str())
}

/// Whether there is code of such a module.
pub(super) fn is_of(stack: &[u32], recording: &Recording, module: &str) -> bool {
    frames(stack, recording).any(|frame| frame.module_name().starts_with(module))
}

fn begins(text: &str, starts: &[&str]) -> bool {
    starts.iter().any(|start| text.starts_with(start))
}

impl Facts<'_> {
    /// Whether a function on the stack begins so.
    fn stack(&self, start: &str) -> bool {
        self.any_stack(&[start])
    }

    fn any_stack(&self, starts: &[&str]) -> bool {
        functions(&self.site.stack, self.recording).any(|function| begins(function, starts))
    }

    /// Whether a function by which it was created begins so.
    fn creation(&self, start: &str) -> bool {
        functions(&self.site.creation, self.recording).any(|function| function.starts_with(start))
    }

    /// Whether the innermost function that is none of Go's runtime and locks begins so: the one that waits.
    fn waits_in(&self, starts: &[&str]) -> bool {
        let inner = ["runtime.", "sync.", "internal/"];
        let waiting = functions(&self.site.stack, self.recording).find(|function| !begins(function, &inner));
        waiting.is_some_and(|function| begins(function, starts))
    }

    /// Whether the innermost function that is none of the language's own begins so: a library's, with none of the program's inside.
    fn is_inside(&self, library: &str) -> bool {
        let innermost = frames(&self.site.stack, self.recording).find(|frame| frame.is_users());
        innermost.is_some_and(|frame| frame.function.starts_with(library))
    }

    /// Whether there is a function of the program's, neither the language's own nor of this library.
    fn has_others_than(&self, library: &str) -> bool {
        frames(&self.site.stack, self.recording).any(|frame| frame.is_users() && !frame.function.starts_with(library))
    }

    /// Whether a goroutine waits for a lock that this function of package sync takes for itself.
    fn waits_for_lock_of(&self, start: &str) -> bool {
        let inner = ["runtime.", "internal/", "sync.runtime_", "sync.(*Mutex)."];
        let taking = functions(&self.site.stack, self.recording).find(|function| !begins(function, &inner));
        self.go(WaitKind::Sync) && self.any_stack(&LOCKS) && taking.is_some_and(|function| function.starts_with(start))
    }

    fn is_go(&self) -> bool {
        self.site.task == TaskKind::Goroutine
    }

    fn is(&self, kind: WaitKind) -> bool {
        self.site.kind == kind
    }

    /// Whether a goroutine waits in this way.
    fn go(&self, kind: WaitKind) -> bool {
        self.is_go() && self.is(kind)
    }

    /// Whether a thread waits for this, by the beginning of the reason.
    fn thread(&self, reason: &str) -> bool {
        !self.is_go() && self.site.wait.starts_with(reason)
    }

    /// Whether all of the waits end by themselves.
    fn all_end(&self) -> bool {
        self.site.with_timeout > 0 && self.site.with_timeout >= self.site.count
    }

    fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.tasks.iter().filter_map(|task| task.goroutine.as_deref()).flat_map(|goroutine| goroutine.channels.iter())
    }

    /// Whether one of the waits ends when a timer fires that fills a channel.
    fn any_timer_is_due(&self) -> bool {
        let is_due = |task: &&&Task| {
            let wait = task.wait.as_ref();
            let of_timer = task.goroutine.as_ref().is_some_and(|it| it.channels.iter().any(|channel| channel.timer));
            of_timer && wait.is_some_and(|wait| wait.timeout_ms.or(wait.due_ms).or(wait.period_ms).is_some())
        };
        self.tasks.iter().any(|task| is_due(&task))
    }

    /// Whether goroutines wait for a lock, and this is so of one of them.
    fn any_waiter(&self, is_so: impl Fn(&Task) -> bool) -> bool {
        self.go(WaitKind::Sync) && self.tasks.iter().any(|task| awaited(task).is_some() && is_so(task))
    }

    /// Whether groups of goroutines wait here, each on a channel of its own that its members share.
    fn groups_share_channels(&self) -> bool {
        let mut addresses: Vec<u64> = self.channels().map(|channel| channel.address).collect();
        let all = addresses.len();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.len() > 1 && all >= 2 * addresses.len() && self.channels().all(|channel| channel.receivers > 1)
    }

    /// Whether each of the tasks waits on another object than the others.
    fn each_waits_alone(&self) -> bool {
        let mut objects: Vec<&str> =
            self.tasks.iter().filter_map(|task| task.wait.as_ref()).map(|wait| &*wait.object).collect();
        let count = objects.len();
        objects.sort_unstable();
        objects.dedup();
        count > 1 && objects.len() == count && !objects.contains(&"")
    }

    /// How many more tasks there are than at the first moment.
    fn grown(&self) -> Option<u64> {
        Some(self.counts.last()?.saturating_sub(*self.counts.first()?))
    }

    /// Tasks that came with each request.
    fn a_request(&self) -> Option<f64> {
        let requests = self.recording.check.as_ref()?.requests()?;
        Some(self.grown()? as f64 / requests as f64)
    }
}

/// Functions in which goroutines wait for a lock.
const LOCKS: [&str; 5] = [
    "sync.(*Mutex).Lock",
    "sync.(*Mutex).lockSlow",
    "sync.(*RWMutex).Lock",
    "sync.(*RWMutex).RLock",
    "internal/sync.(*Mutex)",
];

/// The pattern that the site looks like.
pub(super) fn find(facts: &Facts<'_>) -> Option<Finding> {
    let all_end = facts.all_end();
    let pattern = all().find(|pattern| (pattern.ends || !all_end) && (pattern.fits)(facts))?;
    Some(Finding { pattern: pattern.id.to_owned(), title: pattern.title.to_owned(), advice: pattern.advice.to_owned() })
}

/// Every pattern.
pub(super) fn all() -> impl Iterator<Item = &'static Pattern> {
    go::PATTERNS.iter().chain(threads::PATTERNS)
}
