//! The last line of defence against what hangs: a target whose reading does not come to an end is given up.

use std::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use nix::unistd::gettid;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Error, ErrorKind};
use crate::{aside, shared::lock, target::Status};

/// From one look at whether a target is still being read to the next.
const LOOK: Duration = Duration::from_secs(1);
/// In so many looks, one after another, our thread may neither use a CPU nor wait for one while it reads a target. Whatever of ours it
/// may have to wait for wakes it several times a second. Looks are counted, not time, in which we may have been stopped ourselves.
const PATIENCE: u32 = 8;
/// In so many looks nothing may come to an end anywhere, whatever our thread does. What it computes has limits of its own, in CPU time,
/// which last longer on a busy machine.
const LONGEST: u32 = 300;

/// The processes that are being read, in the order in which that began; one may be there more than once.
static AT_WORK: Mutex<Vec<Reading>> = Mutex::new(Vec::new());

fn at_work() -> MutexGuard<'static, Vec<Reading>> {
    lock(&AT_WORK)
}

/// A process that is being read, and our thread that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    pid: u32,
    thread: i32,
    began: Instant,
}

/// A target is being read until this is dropped.
pub(super) struct AtWork(Reading);

impl AtWork {
    /// From now on.
    pub(super) fn on(pid: u32) -> Self {
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
            // A target that waits for a CPU itself may hold what our thread waits for.
            let is_on_cpu = u32::try_from(first.thread).is_ok_and(aside::runs)
                || Status::of(first.pid).is_some_and(Status::is_on_cpu);
            let why = progress.stuck(aside::beats(), aside::cpu_time(first.thread), is_on_cpu);
            self.progress = Some(progress);
            if let Some(why) = why {
                return Stuck { pid: first.pid, why, after: first.began.elapsed() };
            }
        }
    }
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

impl From<Stuck> for Error {
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
        Self::new(ErrorKind::Unanswered, what)
    }
}

/// What has gone on since the last looks.
struct Progress {
    of: Reading,
    beats: u64,
    /// Looks at which nothing had come to an end.
    quiet: u32,
    used: Duration,
    /// Looks at which our thread had not used any CPU time; and nobody had waited for one either.
    unused: u32,
    idle: u32,
}

impl Progress {
    fn of(of: Reading) -> Self {
        Self { of, beats: aside::beats(), quiet: 0, used: aside::cpu_time(of.thread), unused: 0, idle: 0 }
    }

    /// Whether it is time to give up: how often something has come to an end so far, CPU time of the thread that reads, and whether that, or
    /// the target, is on a CPU or waits for one.
    fn stuck(&mut self, beats: u64, used: Duration, is_on_cpu: bool) -> Option<Why> {
        self.quiet = if beats == self.beats { self.quiet + 1 } else { 0 };
        self.unused = if used == self.used { self.unused + 1 } else { 0 };
        self.idle = if is_on_cpu { 0 } else { self.unused.min(self.idle + 1) };
        (self.beats, self.used) = (beats, used);
        if self.idle >= PATIENCE || self.unused >= LONGEST {
            return Some(Why::Unanswered);
        }
        (self.quiet >= LONGEST).then_some(Why::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_without_progress_is_stuck() {
        let ms = Duration::from_millis;
        let after = |quiet: u32, idle: u32| {
            let of = Reading { pid: 1, thread: 2, began: Instant::now() };
            Progress { of, beats: 7, quiet, used: ms(1), unused: idle, idle }
        };
        let last = PATIENCE - 1;
        assert_eq!(after(0, last).stuck(7, ms(1), false), Some(Why::Unanswered));
        assert_eq!(after(0, last).stuck(8, ms(1), false), Some(Why::Unanswered), "others come to an end, not this one");
        assert_eq!(after(0, last).stuck(7, ms(2), false), None, "what computes does not keep us waiting for an answer");
        assert_eq!(after(0, last).stuck(7, ms(1), true), None, "nor does what waits for a CPU");
        assert_eq!(after(0, LONGEST - 1).stuck(8, ms(1), true), Some(Why::Unanswered), "not for ever");
        assert_eq!(after(0, last - 1).stuck(7, ms(1), false), None);
        assert_eq!(after(LONGEST - 1, 0).stuck(7, ms(2), true), Some(Why::Busy));
        assert_eq!(after(LONGEST - 1, 0).stuck(8, ms(2), true), None, "something has come to an end");
    }

    #[test]
    fn a_thread_that_computes_uses_cpu_time() {
        let own = gettid().as_raw();
        let before = aside::cpu_time(own);
        let began = Instant::now();
        while aside::cpu_time(own) == before {
            assert!(began.elapsed() < Duration::from_secs(60));
        }
        // No thread has a higher id: `PID_MAX_LIMIT`.
        assert_eq!(aside::cpu_time((1 << 22) + 1), Duration::ZERO);
    }
}
