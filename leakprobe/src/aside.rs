//! Work that may never come back: it is done by threads that own nothing else, and that are left behind if it does not.
//!
//! Memory behind userfaultfd, a file system whose server is gone, a lock that is never released: whoever touches them sleeps in the
//! kernel, where only the end of the whole process reaches it. So whoever serves signals and the clock must not touch them.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::{Pid, gettid},
};

use crate::shared::lock;

/// From one look at whether work that has not come back is to be waited for to the next.
const LOOK: Duration = Duration::from_millis(200);
/// So many threads may be left behind, of all targets together, and one of each target besides: what hangs keeps nobody else from being
/// read.
const MOST_LEFT: usize = 64;
/// What such a thread needs for what it does.
const STACK_BYTES: usize = 512 << 10;
/// What a thread has that does something large, as the first thread of a process has.
const LARGE_STACK_BYTES: usize = 8 << 20;

/// How long something large may take in all, if it is not the target's to say when it ends.
const LONGEST: Duration = Duration::from_secs(300);

/// Most threads that do one kind of work for many items at once.
const MOST_AT_ONCE: usize = 128;
/// If no item is done for so long, the number of these threads is doubled.
const OVERDUE: Duration = Duration::from_millis(100);

/// Threads that have nothing to do.
static IDLE: Mutex<Vec<Worker>> = Mutex::new(Vec::new());
/// Threads that were left behind and have not come back.
static LEFT: AtomicUsize = AtomicUsize::new(0);
/// How often something has come to an end that could have gone on and on.
static BEATS: AtomicU64 = AtomicU64::new(0);

/// What becomes of a piece of work.
const WORKS: u8 = 0;
const DONE: u8 = 1;
const LEFT_BEHIND: u8 = 2;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that does one thing after another.
struct Worker {
    tid: u32,
    jobs: mpsc::Sender<Job>,
    /// The CPU on which it runs.
    cpu: Option<usize>,
}

impl Worker {
    fn start(stack_bytes: usize) -> Option<Self> {
        let (jobs, received) = mpsc::channel::<Job>();
        let (says, told) = mpsc::sync_channel(1);
        let work = move || {
            let _ = says.send(u32::try_from(gettid().as_raw()).unwrap_or(0));
            // Until whoever gives it work leaves it behind.
            received.into_iter().for_each(|job| job());
        };
        thread::Builder::new().name("leakprobe-aside".to_owned()).stack_size(stack_bytes).spawn(work).ok()?;
        Some(Self { tid: told.recv().ok()?, jobs, cpu: None })
    }

    /// Moves it to the CPU of its caller, who waits: to wake another CPU takes ten times as long as what there is to do.
    fn follow(&mut self) {
        let cpu = sched_getcpu().ok();
        if cpu == self.cpu {
            return;
        }
        let mut only = CpuSet::new();
        let thread = Pid::from_raw(i32::try_from(self.tid).unwrap_or(0));
        if cpu.is_some_and(|cpu| only.set(cpu).is_ok()) && sched_setaffinity(thread, &only).is_ok() {
            self.cpu = cpu;
        }
    }
}

/// Whether a thread of ours, or a process that we have started, is on a CPU or waits for one, rather than for what it has asked for.
pub(crate) fn runs(thread: u32) -> bool {
    let stat = fs::read(format!("/proc/{thread}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything.
    let after = stat.iter().rposition(|&byte| byte == b')').and_then(|at| stat.get(at + 2));
    after == Some(&b'R')
}

/// CPU time of a thread of ours; nothing if it has ended.
pub(crate) fn cpu_time(thread: i32) -> Duration {
    // The clock of a thread, made of its id: `CPUCLOCK_SCHED` and `CPUCLOCK_PERTHREAD`.
    // Source: <https://elixir.bootlin.com/linux/v6.12/source/include/linux/posix-timers_types.h>
    let clock = ClockId::from_raw(!thread << 3 | 2 | 4);
    clock_gettime(clock).map(Duration::from).unwrap_or_default()
}

/// Work that has not come back for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    /// How long it has been at work, without the time in which we may have been stopped ourselves.
    pub(crate) since: Duration,
    /// Whether it makes use of a CPU, or waits for one.
    pub(crate) runs: bool,
    /// CPU time of the thread that does it, so far: what hangs uses none.
    pub(crate) used: Duration,
}

/// For how long the thread of [`Aside::run_large`] has made no progress. A thread that waits for a CPU counts as making some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quiet {
    /// Without any CPU time: whatever of ours it may have to wait for wakes it several times a second.
    pub(crate) silent: Duration,
    /// With hardly any, as if it did nothing but wait.
    pub(crate) idle: Duration,
    used: Duration,
}

impl Quiet {
    /// After another look.
    fn next(self, pending: Pending) -> Self {
        let used = pending.used.saturating_sub(self.used);
        let lasts =
            |before: Duration, goes_on: bool| if goes_on { Duration::ZERO } else { before.saturating_add(LOOK) };
        Self {
            silent: lasts(self.silent, pending.runs || !used.is_zero()),
            idle: lasts(self.idle, pending.runs || used > LOOK / 50),
            used: pending.used,
        }
    }
}

/// Does work aside for one target, and knows how much of it has not come back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aside {
    left: Arc<AtomicUsize>,
}

impl Aside {
    /// Does `work` on another thread, at the cost of two switches between threads (5 to 10 µs). While it does not come back, `wait` is
    /// asked five times a second whether to go on waiting. `None`: it was left behind, or not begun since too much was left behind already, of
    /// this target as well.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        wait: impl FnMut(Pending) -> bool,
    ) -> Option<T> {
        let idle = lock(&IDLE).pop();
        if idle.is_none() && !self.may_begin() {
            return None;
        }
        // Where no thread can be had, nothing else can be done than to do it here.
        let Some(mut worker) = idle.or_else(|| Worker::start(STACK_BYTES)) else { return Some(work()) };
        worker.follow();
        let done = self.hand(&worker, work, wait);
        if done.is_some() {
            lock(&IDLE).push(worker);
        }
        done
    }

    /// Does something large on a thread that is for that alone, and has the rights of this one: it may start threads and processes of
    /// its own. `wait` decides whether to wait on, by how long there was no progress; after five minutes the work is left behind anyway.
    /// `None`: as for [`Self::run`].
    pub(crate) fn run_large<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        mut wait: impl FnMut(Quiet) -> bool,
    ) -> Option<T> {
        if !self.may_begin() {
            return None;
        }
        let Some(worker) = Worker::start(LARGE_STACK_BYTES) else { return Some(work()) };
        let mut quiet = Quiet::default();
        self.hand(&worker, work, |pending| {
            quiet = quiet.next(pending);
            wait(quiet) && pending.since < LONGEST
        })
    }

    /// Whether one more may be left behind.
    fn may_begin(&self) -> bool {
        self.left() == 0 || LEFT.load(Ordering::Relaxed) < MOST_LEFT
    }

    /// Has `work` done by `worker`.
    fn hand<T: Send + 'static>(
        &self,
        worker: &Worker,
        work: impl FnOnce() -> T + Send + 'static,
        mut wait: impl FnMut(Pending) -> bool,
    ) -> Option<T> {
        let state = Arc::new(AtomicU8::new(WORKS));
        let (reply, replied) = mpsc::sync_channel(1);
        let (left, its_state) = (Arc::clone(&self.left), Arc::clone(&state));
        let job = move || {
            let _ = reply.send(work());
            if its_state.swap(DONE, Ordering::AcqRel) == LEFT_BEHIND {
                left.fetch_sub(1, Ordering::Relaxed);
                LEFT.fetch_sub(1, Ordering::Relaxed);
            }
        };
        worker.jobs.send(Box::new(job)).ok()?;
        let mut since = Duration::ZERO;
        let done = loop {
            match replied.recv_timeout(LOOK) {
                Ok(done) => break Some(done),
                // It has panicked, and its thread with it.
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            since += LOOK;
            let runs = runs(worker.tid);
            let used = cpu_time(i32::try_from(worker.tid).unwrap_or(0));
            if wait(Pending { since, runs, used }) {
                // Whoever waits for us is to know that it goes on.
                if runs {
                    beat();
                }
                continue;
            }
            self.left.fetch_add(1, Ordering::Relaxed);
            LEFT.fetch_add(1, Ordering::Relaxed);
            if state.swap(LEFT_BEHIND, Ordering::AcqRel) == DONE {
                self.left.fetch_sub(1, Ordering::Relaxed);
                LEFT.fetch_sub(1, Ordering::Relaxed);
                break replied.recv().ok();
            }
            break None;
        };
        beat();
        done
    }

    /// Does `work` on another thread, and waits for it for `patience`, and for as long as it makes use of a CPU beyond that.
    pub(crate) fn within<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.within_or(patience, work, || false)
    }

    /// Does `work` on another thread, and waits for it for `patience`; beyond that as long as it makes use of a CPU, or `goes_on` is true.
    pub(crate) fn within_or<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
        goes_on: impl Fn() -> bool,
    ) -> Option<T> {
        self.run(work, |pending| {
            let goes_on = goes_on();
            if goes_on {
                beat();
            }
            pending.runs || pending.since < patience || goes_on
        })
    }

    /// How much of its work was left behind and has not come back.
    pub(crate) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }
}

/// Does `work` for each of `items`, begun in their order, on as many threads as there are CPUs, and on more where these hang. A result is `None`
/// if the work was not done when `is_over` became true, which is asked ten times a second, or if it panicked.
pub(crate) fn map_all<I: Send + 'static, T: Send + 'static>(
    items: Vec<I>,
    work: impl Fn(I) -> T + Send + Sync + 'static,
    mut is_over: impl FnMut() -> bool,
) -> Vec<Option<T>> {
    let mut results: Vec<Option<T>> = items.iter().map(|_| None).collect();
    let mut left = items.len();
    let queue = Arc::new(Mutex::new(items.into_iter().enumerate()));
    let (done, received) = mpsc::channel();
    let work = Arc::new(work);
    let take_turns = {
        let queue = Arc::clone(&queue);
        move || {
            loop {
                let next = lock(&queue).next();
                let Some((place, item)) = next else { return };
                let result = catch_unwind(AssertUnwindSafe(|| (*work)(item))).ok();
                // Nobody waits any more.
                if done.send((place, result)).is_err() {
                    return;
                }
            }
        }
    };
    let mut threads = 0;
    let mut wanted = thread::available_parallelism().map_or(1, usize::from);
    while left > 0 && !is_over() {
        while threads < wanted.min(MOST_AT_ONCE) && lock(&queue).len() > 0 {
            let thread = thread::Builder::new().name("leakprobe-many".to_owned()).stack_size(LARGE_STACK_BYTES);
            if thread.spawn(take_turns.clone()).is_err() {
                break;
            }
            threads += 1;
        }
        if threads == 0 {
            take_turns.clone()();
        }
        match received.recv_timeout(OVERDUE) {
            Ok((place, result)) => {
                left -= 1;
                if let Some(of) = results.get_mut(place) {
                    *of = result;
                }
            }
            Err(_) => wanted = 2 * threads,
        }
    }
    // Whoever has not begun does not begin any more.
    lock(&queue).by_ref().for_each(drop);
    results
}

/// Says that something has come to an end that could have gone on and on.
pub(crate) fn beat() {
    BEATS.fetch_add(1, Ordering::Relaxed);
}

/// How often that was said.
pub(crate) fn beats() -> u64 {
    BEATS.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_comes_back_is_answered_and_what_does_not_is_left_behind() {
        let aside = Aside::default();
        assert_eq!(aside.run(|| 7, |_| true), Some(7));
        let (go, waits) = mpsc::channel::<()>();
        let mut asked = 0;
        let hangs = aside.run(
            move || waits.recv().is_ok(),
            |pending| {
                assert!(!pending.runs);
                asked += 1;
                asked < 3
            },
        );
        assert_eq!((hangs, asked, aside.left()), (None, 3, 1));
        assert_eq!(aside.within(Duration::ZERO, || 8), Some(8), "others go on");
        go.send(()).unwrap();
        let began = Instant::now();
        while aside.left() > 0 {
            assert!(began.elapsed().as_secs() < 60, "what has come back counts no more");
            thread::yield_now();
        }
    }

    #[test]
    fn what_works_hard_is_waited_for() {
        let work = || {
            let began = Instant::now();
            while began.elapsed() < 2 * LOOK {
                std::hint::spin_loop();
            }
            9
        };
        assert_eq!(Aside::default().within(Duration::ZERO, work), Some(9));
    }

    #[test]
    fn something_large_is_waited_for_while_it_goes_on() {
        let aside = Aside::default();
        let (go, waits) = mpsc::channel::<()>();
        let sleeps = || {
            (0..3).for_each(|_| thread::sleep(LOOK));
            5
        };
        assert_eq!(aside.run_large(sleeps, |quiet| quiet.silent < 60 * LOOK), Some(5));
        assert_eq!(aside.run_large(move || waits.recv(), |quiet| quiet.silent < 2 * LOOK), None, "it is left behind");
        drop(go);
        // However long it has been: we may have been stopped meanwhile.
        let pending = |used, runs| Pending { since: LONGEST, runs, used };
        let earlier = Quiet { silent: LOOK, idle: 8 * LOOK, used: LOOK };
        let after = |used, runs| {
            let Quiet { silent, idle, .. } = earlier.next(pending(used, runs));
            (silent, idle)
        };
        assert_eq!(after(LOOK, false), (2 * LOOK, 9 * LOOK));
        assert_eq!(after(LOOK, true), (Duration::ZERO, Duration::ZERO));
        assert_eq!(after(2 * LOOK, false), (Duration::ZERO, Duration::ZERO));
        assert_eq!(after(LOOK + LOOK / 100, false), (Duration::ZERO, 9 * LOOK), "it only looks whether to wait on");
    }

    #[test]
    fn what_hangs_keeps_nobody_of_many_waiting() {
        let (go, waits) = mpsc::channel::<()>();
        let waits = Mutex::new(waits);
        let work = move |n: u32| {
            assert!(n != 3, "one panics");
            // The lock makes all of those hang behind the first.
            if n.is_multiple_of(2) {
                let _ = lock(&waits).recv();
            }
            n
        };
        let began = Instant::now();
        let is_over = move || began.elapsed() > 10 * OVERDUE;
        let results = map_all((0..10).collect(), work, is_over);
        assert_eq!(results, [None, Some(1), None, None, None, Some(5), None, Some(7), None, Some(9)]);
        drop(go);
        assert_eq!(map_all(vec![1, 2], |n| n + 1, || false), [Some(2), Some(3)]);
        assert_eq!(map_all(vec![1], |n| n + 1, || true), [None]);
    }

    #[test]
    fn a_panic_is_no_answer() {
        let aside = Aside::default();
        assert_eq!(aside.run(|| assert!(std::hint::black_box(false)), |_| true), None);
        assert_eq!(aside.run(|| 1, |_| true), Some(1));
    }
}
