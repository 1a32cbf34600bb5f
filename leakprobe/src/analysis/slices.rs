//! Waits from the same stack that follow each other, each ended by nothing but its own timer: a task in them is parked since the
//! first, in slices.
//!
//! What tells is time and the thread's number of context switches. A wait costs one switch; so as many waits as there were switches,
//! each as long as its time-out, fill the time from one snapshot's wait to the next's. If somebody woke the thread early, there are
//! more switches than that, or the wait begins at a moment at which no timer was due.

use crate::model::{Activity, StackId, ThreadSample, WaitKind};

/// By how much the clocks of two waits' beginnings and a time-out may differ, ns.
const SLACK_NS: u64 = 5_000_000;
/// How late each slice may begin, ns: a thread whose timer has fired waits for a processor.
const LATE_NS: u64 = 1_000_000;
/// How long a thread may run or be late in all between two snapshots besides a quarter of each slice, ns.
const BUSY_NS: u64 = 250_000_000;
/// Switches besides those of the waits themselves: contention for the lock of a condition variable, preemption. One, and one more for
/// each fourth wait, up to this many.
const EXTRA: u64 = 3;
/// Of so many waits one more or less does not matter.
const MANY: u64 = 8;
/// One more extra switch for so many waits.
const WAITS_AN_EXTRA: u64 = 16;

/// The waits of one thread, as far as snapshots saw them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Slices {
    last: Option<Slice>,
    /// When the first of them began, `CLOCK_MONOTONIC`, ns.
    first_ns: u64,
    /// How many there were before the last, and how many more switches.
    waits: u64,
    extra: u64,
    longest_ns: u64,
}

/// A wait that ends by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Slice {
    stack: StackId,
    kind: WaitKind,
    since_ns: u64,
    exact: bool,
    timeout_ns: u64,
    switches: u64,
}

impl Slice {
    fn of(sample: &ThreadSample) -> Option<Self> {
        let Activity::Blocked(blocking) = &sample.activity else {
            return None;
        };
        let timeout_ns = blocking.timeout_ms.filter(|&ms| ms > 0)?.saturating_mul(1_000_000);
        let (stack, kind, switches) = (sample.stack, blocking.kind, sample.switches);
        let (since_ns, exact) = (blocking.since_ns, blocking.exact);
        Some(Self { stack, kind, since_ns, exact, timeout_ns, switches })
    }
}

impl Slices {
    /// Takes in what a snapshot saw of the thread.
    pub(super) fn see(&mut self, sample: &ThreadSample) {
        // A thread that runs may be between two slices.
        if !matches!(sample.activity, Activity::Blocked(_)) {
            return;
        }
        let Some(next) = Slice::of(sample) else {
            return *self = Self::default();
        };
        let follows = self.last.filter(|last| (last.stack, last.kind) == (next.stack, next.kind));
        match follows.map(|last| self.between(&last, &next)) {
            Some(Between::SameWait) => {}
            Some(Between::Timers { waits, extra }) => {
                self.waits += waits;
                self.extra += extra;
                self.longest_ns = self.longest_ns.max(next.timeout_ns);
                self.last = Some(next);
            }
            Some(Between::Else) | None => {
                let (first_ns, longest_ns) = (next.since_ns, next.timeout_ns);
                *self = Self { last: Some(next), first_ns, longest_ns, ..Self::default() };
            }
        }
    }

    /// The wait that began at `since_ns` ended at `end_ns`: if no timer was due, what comes next is counted anew.
    pub(super) fn ended(&mut self, since_ns: u64, end_ns: u64) {
        let is_early = |last: Slice| {
            last.since_ns.abs_diff(since_ns) <= SLACK_NS
                && end_ns.saturating_sub(since_ns).saturating_add(SLACK_NS) < last.timeout_ns
        };
        if self.last.is_some_and(is_early) {
            *self = Self::default();
        }
    }

    /// When the first slice began (`CLOCK_MONOTONIC`, ns) and how long the longest lasts (ms), if the thread's wait since `since_ns`
    /// is not the first.
    pub(super) fn of_wait(&self, since_ns: u64) -> Option<(u64, u64)> {
        let is_last = |last: &Slice| last.since_ns.abs_diff(since_ns) <= SLACK_NS;
        (self.waits > 0 && self.last.as_ref().is_some_and(is_last))
            .then_some((self.first_ns, self.longest_ns.div_ceil(1_000_000)))
    }

    /// What happened from one wait to another at the same place.
    fn between(&self, last: &Slice, next: &Slice) -> Between {
        let elapsed_ns = next.since_ns.saturating_sub(last.since_ns);
        let switches = next.switches.saturating_sub(last.switches);
        if switches == 0 || elapsed_ns <= SLACK_NS.min(last.timeout_ns / 2) {
            return Between::SameWait;
        }
        let upto_ns = elapsed_ns.saturating_add(SLACK_NS.min(last.timeout_ns / 4));
        let slice_ns = last.timeout_ns.min(next.timeout_ns);
        // A wait of which only the latest beginning is known may have begun earlier.
        let doubt_ns = if last.exact { 0 } else { last.timeout_ns };
        let is_early = upto_ns.saturating_add(doubt_ns) < last.timeout_ns;
        // The wait that was seen first ended early; or the thread had more to do than to wait.
        if is_early || elapsed_ns > most_ns(switches, last.timeout_ns.max(next.timeout_ns)) {
            return Between::Else;
        }
        let waits = (upto_ns / slice_ns).max(1);
        let extra = switches.saturating_sub(waits);
        if extra == 0 {
            return Between::Timers { waits: switches, extra };
        }
        let is_exact = last.exact && next.exact;
        if !is_exact && waits < MANY {
            return Between::Else;
        }
        let all_extra = self.extra.saturating_add(extra);
        let all_waits = self.waits.saturating_add(waits);
        let most_extra = (1 + all_waits / 4).min(EXTRA) + all_waits / WAITS_AN_EXTRA;
        let is_due = match is_exact && is_same_length(last.timeout_ns, next.timeout_ns) {
            // Which timer was due when cannot be known.
            true if waits.saturating_mul(LATE_NS) <= slice_ns / 4 => upto_ns % slice_ns <= slice_ns / 4,
            _ => true,
        };
        if all_extra <= most_extra && is_due { Between::Timers { waits, extra } } else { Between::Else }
    }
}

/// How long so many slices can take, if the thread does next to nothing between them.
fn most_ns(slices: u64, slice_ns: u64) -> u64 {
    slices.saturating_mul(slice_ns.saturating_add(slice_ns / 4)).saturating_add(BUSY_NS)
}

fn is_same_length(one_ns: u64, other_ns: u64) -> bool {
    one_ns.abs_diff(other_ns) <= one_ns / 16 + 2_000_000
}

/// What is known of two waits of a goroutine at the same place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    /// When a timer would have ended the first, and ends the second, `CLOCK_MONOTONIC`, ns; 0 if none does.
    pub(super) was_ns: u64,
    /// See `was_ns`.
    pub(super) is_ns: u64,
    /// The longest time that was left of any of its waits when it was seen, ns.
    pub(super) left_ns: u64,
    /// How often it stopped running from the one to the other, modulo 256, if that is known.
    pub(super) runs: Option<u8>,
    /// Whether nothing but timers can end the waits.
    pub(super) only_timers: bool,
}

/// How long the waits of a goroutine last at most, ns, if timers alone ended the first of two and those between; `None` if something
/// else may have. The runtime does not keep when a wait began. But waits that timers end are as long as the time from timer to timer
/// divided by their number, and that is not less than what was left of one.
pub(super) fn of_goroutine(due: &Due) -> Option<u64> {
    let elapsed_ns = due.is_ns.checked_sub(due.was_ns).filter(|&ns| ns > 0 && due.was_ns > 0)?;
    match due.runs.filter(|&runs| runs > 0) {
        Some(runs) => {
            let each_ns = elapsed_ns / u64::from(runs);
            let is_long_enough = due.left_ns <= each_ns + each_ns / 4 + 2_000_000;
            is_long_enough.then_some(each_ns.max(due.left_ns))
        }
        None => due.only_timers.then_some(due.left_ns).filter(|&ns| ns > 0),
    }
}

/// What happened between two waits.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Between {
    /// Nothing: they are one.
    SameWait,
    /// Timers alone ended the first and those after it.
    Timers { waits: u64, extra: u64 },
    /// Something else did, or it is not known.
    Else,
}

#[cfg(test)]
#[path = "slices_tests.rs"]
mod tests;
