//! The last line of defence against what hangs: a target whose reading does not come to an end is given up.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    time::{ClockId, clock_gettime},
    unistd::gettid,
};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::super::{ExitCode, Failure};
use crate::aside;

/// From one look at whether a target is still being read to the next.
const LOOK: Duration = Duration::from_secs(1);
/// Reading a target may go on for so long without our thread using a CPU, and without anything coming to an end anywhere.
const PATIENCE: Duration = Duration::from_secs(8);
/// The same, whatever else our thread, or others, do. What it computes has limits of its own, in CPU time, which last longer on a busy
/// machine.
const LONGEST: Duration = Duration::from_secs(300);

/// The processes that are being read, in the order in which that began; one may be there more than once.
static AT_WORK: Mutex<Vec<Reading>> = Mutex::new(Vec::new());

fn at_work() -> MutexGuard<'static, Vec<Reading>> {
    AT_WORK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process that is being read, and our thread that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    pid: u32,
    thread: i32,
    began: Instant,
}

/// A target is being read until this is dropped.
pub(in crate::commands) struct AtWork(Reading);

impl AtWork {
    /// From now on.
    pub(in crate::commands) fn on(pid: u32) -> Self {
        aside::beat();
        let reading = Reading { pid, thread: gettid().as_raw(), began: Instant::now() };
        at_work().push(reading);
        Self(reading)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        aside::beat();
        let mut at_work = at_work();
        if let Some(place) = at_work.iter().rposition(|reading| *reading == self.0) {
            at_work.remove(place);
        }
    }
}

/// Notices a target whose reading does not come to an end.
pub(super) struct Guard {
    looks: Interval,
    progress: Option<Progress>,
}

impl Guard {
    pub(super) fn new() -> Self {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { looks, progress: None }
    }

    /// Waits until there is one. `is_due`: whether there is something to wait for.
    pub(super) async fn stuck(&mut self, is_due: impl Fn() -> bool) -> Stuck {
        loop {
            self.looks.tick().await;
            // What hangs began before whatever comes to an end.
            let first = at_work().first().copied().filter(|_| is_due());
            let Some(first) = first else {
                self.progress = None;
                continue;
            };
            let progress = self.progress.take().filter(|progress| progress.of == first);
            let mut progress = progress.unwrap_or_else(|| Progress::of(first));
            let why = progress.stuck(aside::beats(), cpu_time(first.thread));
            let since = progress.since;
            self.progress = Some(progress);
            if let Some(why) = why {
                return Stuck { pid: first.pid, why, after: since.elapsed() };
            }
        }
    }
}

/// CPU time of a thread of ours; nothing if it has ended.
fn cpu_time(thread: i32) -> Duration {
    // The clock of a thread, made of its id: `CPUCLOCK_SCHED` and `CPUCLOCK_PERTHREAD`.
    // Source: <https://elixir.bootlin.com/linux/v6.12/source/include/linux/posix-timers_types.h>
    let clock = ClockId::from_raw(!thread << 3 | 2 | 4);
    clock_gettime(clock).map(Duration::from).unwrap_or_default()
}

/// A target whose reading does not come to an end.
#[derive(Debug)]
pub(super) struct Stuck {
    pub(super) pid: u32,
    why: Why,
    after: Duration,
}

/// Why nothing comes to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Our thread waits for something that does not answer.
    Unanswered,
    /// It computes.
    Busy,
}

impl From<Stuck> for Failure {
    fn from(Stuck { pid, why, after }: Stuck) -> Self {
        let seconds = after.as_secs();
        let what = match why {
            Why::Unanswered => format!(
                "process {pid} does not answer: reading it has made no progress for {seconds} s, and there is no report of it; a file \
                 system or another program that it depends on may be gone"
            ),
            Why::Busy => format!(
                "reading process {pid} has not come to an end in {seconds} s of computing, and there is no report of it; please report \
                 this"
            ),
        };
        Self::new(ExitCode::Unanswered, what)
    }
}

/// Since when nothing has come to an end.
struct Progress {
    of: Reading,
    beats: u64,
    since: Instant,
    /// Since when our thread has not used any CPU time, and how much it had used until then.
    idle: Instant,
    used: Duration,
}

impl Progress {
    fn of(of: Reading) -> Self {
        let now = Instant::now();
        Self { of, beats: aside::beats(), since: now, idle: now, used: cpu_time(of.thread) }
    }

    /// Whether it is time to give up: how often something has come to an end so far, and CPU time of the thread that reads.
    fn stuck(&mut self, beats: u64, used: Duration) -> Option<Why> {
        let now = Instant::now();
        if beats != self.beats {
            (self.beats, self.since) = (beats, now);
        }
        if used != self.used {
            (self.used, self.idle) = (used, now);
        }
        let [quiet, idle] = [self.since, self.idle].map(|since| now.saturating_duration_since(since));
        if quiet.min(idle) >= PATIENCE || idle >= LONGEST {
            return Some(Why::Unanswered);
        }
        (quiet >= LONGEST).then_some(Why::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_without_progress_is_stuck() {
        let ms = Duration::from_millis;
        let earlier = |since: Duration, idle: Duration| {
            let moment = |before: Duration| Instant::now().checked_sub(before).unwrap();
            let of = Reading { pid: 1, thread: 2, began: Instant::now() };
            Progress { of, beats: 7, since: moment(since), idle: moment(idle), used: ms(1) }
        };
        assert_eq!(earlier(PATIENCE, PATIENCE).stuck(7, ms(1)), Some(Why::Unanswered));
        assert_eq!(earlier(PATIENCE, PATIENCE).stuck(8, ms(1)), None, "something has come to an end");
        assert_eq!(
            earlier(PATIENCE, LONGEST).stuck(8, ms(1)),
            Some(Why::Unanswered),
            "others come to an end, not this one"
        );
        assert_eq!(
            earlier(PATIENCE, PATIENCE).stuck(7, ms(2)),
            None,
            "what computes does not keep us waiting for an answer"
        );
        assert_eq!(earlier(LONGEST, PATIENCE).stuck(7, ms(2)), Some(Why::Busy));
    }

    #[test]
    fn a_thread_that_computes_uses_cpu_time() {
        let own = gettid().as_raw();
        let before = cpu_time(own);
        let began = Instant::now();
        while cpu_time(own) == before {
            assert!(began.elapsed() < Duration::from_secs(60));
        }
        // No thread has a higher id: `PID_MAX_LIMIT`.
        assert_eq!(cpu_time((1 << 22) + 1), Duration::ZERO);
    }
}
