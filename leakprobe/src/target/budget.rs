//! What a run may spend on its targets: memory, bytes read, CPU time.
//!
//! Limits of one section or one file do not add up to a limit of a run: a process can map any number of files, each of which
//! claims as much as a single honest one may. So all that read such files draw on one budget, and whatever is not read because
//! of it is reported by the file's name. What is kept of targets besides their files is one pool for all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::modules::own_cpu_time;
use crate::{
    model::{FileLimit, Gap},
    pool::{Full, Held, Pool},
};

/// Most memory that is held for files of targets, bytes, however much there is: 2 GB of debug information with small units take 350 MB.
const MOST_HELD: u64 = 384 << 20;
/// One part in so many of the memory that there is.
const SHARE_OF_MEMORY: u64 = 8;
/// Most memory for what is kept of targets besides their files, bytes, however much there is: a million goroutines of one
/// target take two thirds of it.
const MOST_KEPT: u64 = 384 << 20;
/// What is kept of a target with some thousand stacks takes some MiB.
const LEAST_KEPT: u64 = 64 << 20;
/// Less is no use: the C library's unwind information and symbols alone take some MiB.
const LEAST_HELD: u64 = 16 << 20;
/// Most files that are named.
const MOST_NAMED: usize = 1 << 12;
/// Steps of some work between two looks at the clock: each look is a system call.
const STEPS_A_LAP: usize = 1 << 14;
/// Files that one sentence names.
const NAMES_IN_GAP: usize = 3;

/// How much a run may spend.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of memory that are held for files at any time.
    pub held: u64,
    /// Bytes of memory for what is kept of all targets besides: see [`Budget::kept`].
    pub kept: u64,
    /// Bytes that are read.
    pub read: u64,
    /// Bytes that may be read besides for each second that passes: what is new in a long run is read, too.
    pub read_per_second: u64,
    /// CPU time.
    pub cpu: Duration,
    /// CPU time that may be spent besides: one part in so many of the time that passes.
    pub cpu_share: u32,
}

impl Limits {
    /// What is sensible on a machine, or in a control group, that has so much memory, bytes.
    #[must_use]
    pub fn of_memory(memory: u64) -> Self {
        Self {
            held: (memory / SHARE_OF_MEMORY).clamp(LEAST_HELD, MOST_HELD),
            kept: (memory / SHARE_OF_MEMORY).clamp(LEAST_KEPT, MOST_KEPT),
            read: 8 << 30,
            read_per_second: 32 << 20,
            cpu: Duration::from_secs(8),
            cpu_share: 10,
        }
    }
}

/// What there was not enough of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scarce {
    /// Memory for files.
    Memory,
    /// Memory for what is kept of targets besides files.
    Kept,
    /// Bytes to read.
    Reading,
    /// CPU time.
    Time,
    /// File descriptors: so many files of one target may be open, or fewer where fewer are free.
    OpenFiles(usize),
}

/// Shared by all that read files of targets in one run. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Budget {
    run: Arc<Run>,
    left_out: Arc<Mutex<LeftOut>>,
    /// How often something was left out.
    times: Arc<AtomicU64>,
}

/// By what there was not enough of, the files that were not read, or not all of them.
type LeftOut = BTreeMap<Scarce, BTreeSet<String>>;

#[derive(Debug)]
struct Run {
    limits: Limits,
    began: Instant,
    held: Pool,
    kept: Pool,
    read: AtomicU64,
    cpu_ns: AtomicU64,
    /// When the run is to end, ns after it began; `u64::MAX`: not known.
    end_ns: AtomicU64,
}

impl Default for Budget {
    /// By the memory that this machine, or our control group, has.
    fn default() -> Self {
        // Each target has one for a moment, before it gets that of the run.
        static MEMORY: LazyLock<u64> = LazyLock::new(memory_here);
        Self::new(Limits::of_memory(*MEMORY))
    }
}

impl Budget {
    /// What all targets of this run together may cost in memory and time for their files.
    #[must_use]
    pub fn of_run() -> &'static Self {
        static OF_RUN: LazyLock<Budget> = LazyLock::new(Budget::default);
        &OF_RUN
    }

    /// Nothing of it is spent yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let zero = AtomicU64::default;
        let run = Run {
            limits,
            began: Instant::now(),
            held: Pool::new(limits.held),
            kept: Pool::new(limits.kept),
            read: zero(),
            cpu_ns: zero(),
            end_ns: AtomicU64::new(u64::MAX),
        };
        Self { run: Arc::new(run), left_out: Arc::default(), times: Arc::default() }
    }

    /// The same budget, for another target of the run: what is left out is reported for each by itself.
    #[must_use]
    pub fn for_target(&self) -> Self {
        Self { run: Arc::clone(&self.run), left_out: Arc::default(), times: Arc::default() }
    }

    /// Takes so much memory until the result is dropped.
    ///
    /// # Errors
    /// If there is not so much left.
    pub fn hold(&self, bytes: u64) -> Result<Held, Scarce> {
        let mut held = self.nothing();
        held.grow(bytes)?;
        Ok(held)
    }

    /// No memory of it yet, for what takes some later.
    #[must_use]
    pub fn nothing(&self) -> Held {
        self.run.held.nothing()
    }

    /// Memory for what is kept of all targets of the run, bytes: frames, stacks, goroutines. Each has shares of it with floors, so that
    /// a common target notices nothing of one that has more than enough.
    #[must_use]
    pub fn kept(&self) -> &Pool {
        &self.run.kept
    }

    /// Memory that may still be taken, bytes.
    #[must_use]
    pub fn memory_left(&self) -> u64 {
        self.run.held.left()
    }

    /// Counts bytes that are about to be read.
    ///
    /// # Errors
    /// If there is not so much left.
    pub fn read(&self, bytes: u64) -> Result<(), Scarce> {
        let Run { limits, began, read, .. } = &*self.run;
        let more = limits.read_per_second.saturating_mul(began.elapsed().as_secs());
        take(read, bytes, limits.read.saturating_add(more)).then_some(()).ok_or(Scarce::Reading)
    }

    /// Does some work and counts the CPU time that this thread takes for it.
    pub fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = own_cpu_time();
        let result = work();
        self.spend(own_cpu_time().saturating_sub(before));
        result
    }

    /// Does some work on what this file says and counts its CPU time; if none is left, remembers that the file was not read, or not
    /// all of it. The work must end by itself, in some ms.
    pub fn timed_of<T>(&self, file: &str, work: impl FnOnce() -> T) -> Option<T> {
        if self.time_left().is_zero() {
            self.leave_out(file, Scarce::Time);
            return None;
        }
        Some(self.timed(work))
    }

    /// Counts CPU time.
    pub fn spend(&self, cpu: Duration) {
        let ns = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        // No overflow: five hundred years of it.
        self.run.cpu_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Counts the CPU time of work that consists of many small steps, from now on.
    #[must_use]
    pub fn stopwatch(&self) -> Stopwatch<'_> {
        Stopwatch { budget: self, lap: own_cpu_time(), steps: 0 }
    }

    /// How much CPU time is left.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        let Run { limits, began, cpu_ns, .. } = &*self.run;
        let allowed = limits.cpu + began.elapsed() / limits.cpu_share.max(1);
        allowed.saturating_sub(Duration::from_nanos(cpu_ns.load(Ordering::Relaxed)))
    }

    /// The run is to end at that moment, unless it is to end earlier already: who asked for that, or waits for it, is to be served soon.
    pub fn end_at(&self, moment: Instant) {
        let Run { began, end_ns, .. } = &*self.run;
        let after = moment.saturating_duration_since(*began).as_nanos();
        end_ns.fetch_min(u64::try_from(after).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether the run was to end so long ago.
    #[must_use]
    pub fn is_over(&self, for_so_long: Duration) -> bool {
        let Run { began, end_ns, .. } = &*self.run;
        let end = Duration::from_nanos(end_ns.load(Ordering::Relaxed)).saturating_add(for_so_long);
        began.elapsed() >= end
    }

    /// Remembers that this file was not read, or not all of it.
    pub fn leave_out(&self, file: &str, scarce: Scarce) {
        self.times.fetch_add(1, Ordering::Relaxed);
        let mut left_out = self.left_out();
        if left_out.get(&scarce).is_some_and(|files| files.contains(file)) {
            return;
        }
        if left_out.values().map(BTreeSet::len).sum::<usize>() < MOST_NAMED {
            left_out.entry(scarce).or_default().insert(file.to_owned());
        }
    }

    /// Whether that was said of this file.
    #[must_use]
    pub fn has_left_out(&self, file: &str) -> bool {
        self.left_out().values().any(|files| files.contains(file))
    }

    /// How often something was left out for this target so far: what is found meanwhile may lack something.
    #[must_use]
    pub fn times_left_out(&self) -> u64 {
        self.times.load(Ordering::Relaxed)
    }

    /// How many files were not read, or not all of them.
    #[must_use]
    pub fn count_left_out(&self) -> u64 {
        let left_out = self.left_out();
        left_out.values().flatten().collect::<BTreeSet<_>>().len() as u64
    }

    /// The same by name, for each limit.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        let gap = |(&scarce, files): (&Scarce, &BTreeSet<String>)| {
            let named: Vec<String> = files.iter().take(NAMES_IN_GAP).cloned().collect();
            let more = files.len().saturating_sub(named.len()) as u64;
            Gap::FilesBeyondBudget { files: named, more, limit: self.limit(scarce) }
        };
        self.left_out().iter().map(gap).collect()
    }

    fn limit(&self, scarce: Scarce) -> FileLimit {
        let limits = &self.run.limits;
        match scarce {
            Scarce::Memory => FileLimit::MemoryMib(limits.held >> 20),
            Scarce::Kept => FileLimit::Kept,
            Scarce::Reading => FileLimit::ReadMib(limits.read >> 20),
            Scarce::Time => FileLimit::CpuS(limits.cpu.as_secs()),
            Scarce::OpenFiles(most) => FileLimit::OpenFiles(most as u64),
        }
    }

    /// What there is not enough of, in one phrase.
    #[must_use]
    pub fn what(&self, scarce: Scarce) -> String {
        let limits = &self.run.limits;
        match scarce {
            Scarce::Memory => format!("the limit of {} MiB of memory for files of the target", limits.held >> 20),
            Scarce::Kept => "the memory for what is kept of targets".to_owned(),
            Scarce::Reading => format!("the limit of {} MiB read of files of the target", limits.read >> 20),
            Scarce::Time => format!("the limit of {} s of CPU time for files of the target", limits.cpu.as_secs()),
            Scarce::OpenFiles(most) => format!("the limit of {most} open files of the target"),
        }
    }

    fn left_out(&self) -> MutexGuard<'_, LeftOut> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts the CPU time of one thread's work until it is dropped.
#[derive(Debug)]
pub struct Stopwatch<'a> {
    budget: &'a Budget,
    lap: Duration,
    steps: usize,
}

impl Stopwatch<'_> {
    /// To be called at each step. The clock is looked at once in 16,384 of them.
    ///
    /// # Errors
    /// If there is no time left.
    pub fn step(&mut self) -> Result<(), Scarce> {
        self.steps += 1;
        if !self.steps.is_multiple_of(STEPS_A_LAP) {
            return Ok(());
        }
        self.count();
        if self.budget.time_left().is_zero() { Err(Scarce::Time) } else { Ok(()) }
    }

    fn count(&mut self) {
        let now = own_cpu_time();
        self.budget.spend(now.saturating_sub(self.lap));
        self.lap = now;
    }
}

impl Drop for Stopwatch<'_> {
    fn drop(&mut self) {
        self.count();
    }
}

impl From<Full> for Scarce {
    /// Of memory for files.
    fn from(Full: Full) -> Self {
        Self::Memory
    }
}

/// Adds to what was taken, unless that would be more than there is.
fn take(taken: &AtomicU64, bytes: u64, most: u64) -> bool {
    let add = |taken: u64| taken.checked_add(bytes).filter(|&sum| sum <= most);
    taken.try_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
}

/// The memory that this process can have, bytes: the machine's, or less if one of its control groups is limited.
fn memory_here() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text)).unwrap_or(u64::MAX);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().filter_map(limit_file).flat_map(|(mount, group, file)| {
        let limit = move |group: &Path| {
            let path = Path::new(mount).join(group.strip_prefix("/").ok()?).join(file);
            fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()
        };
        group.ancestors().filter_map(limit).collect::<Vec<_>>()
    });
    limits.fold(machine, u64::min)
}

/// `MemTotal` of /proc/meminfo, bytes.
fn total_memory(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Of a line of /proc/self/cgroup: where the hierarchy that limits memory is usually mounted, the group in it, and the file that
/// says its limit. <https://man7.org/linux/man-pages/man7/cgroups.7.html>, "/proc files"
fn limit_file(line: &str) -> Option<(&'static str, &Path, &'static str)> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, group) = (parts.next()?, parts.next()?, Path::new(parts.next()?));
    match controllers {
        "" => Some(("/sys/fs/cgroup", group, "memory.max")),
        _ if controllers.split(',').any(|controller| controller == "memory") => {
            Some(("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Budget {
        let limits = Limits {
            held: 100,
            kept: 20,
            read: 1000,
            read_per_second: 0,
            cpu: Duration::from_secs(1),
            cpu_share: 1000,
        };
        Budget::new(limits)
    }

    #[test]
    fn memory_is_one_budget_for_all_targets() {
        let budget = small();
        let held = budget.hold(60).unwrap();
        assert_eq!(budget.for_target().hold(41).err(), Some(Scarce::Memory));
        let kept = budget.kept().share(5);
        kept.grow(15).unwrap();
        assert_eq!((budget.memory_left(), budget.for_target().kept().left()), (40, 10));
        drop((held, kept));
        assert_eq!((budget.memory_left(), budget.kept().left()), (100, 20));
    }

    #[test]
    fn what_is_read_and_computed_adds_up() {
        let budget = small();
        assert_eq!([budget.read(600), budget.read(401), budget.read(400)], [Ok(()), Err(Scarce::Reading), Ok(())]);
        let mut stopwatch = budget.stopwatch();
        assert_eq!((0..STEPS_A_LAP).find_map(|_| stopwatch.step().err()), None);
        budget.spend(Duration::from_secs(2));
        assert_eq!(budget.time_left(), Duration::ZERO);
        assert_eq!((1..=STEPS_A_LAP).find(|_| stopwatch.step().is_err()), Some(STEPS_A_LAP));
    }

    #[test]
    fn no_work_is_begun_without_time() {
        let budget = small();
        assert_eq!((budget.timed_of("/a", || 1), budget.count_left_out()), (Some(1), 0));
        budget.spend(Duration::from_secs(2));
        assert_eq!((budget.timed_of("/a", || 1), budget.count_left_out()), (None, 1));
    }

    #[test]
    fn a_run_ends_when_it_is_first_to_end() {
        let (budget, now) = (small(), Instant::now());
        let hour = Duration::from_secs(3600);
        assert!(!budget.is_over(Duration::ZERO));
        budget.end_at(now + hour);
        assert!(!budget.is_over(Duration::ZERO));
        let target = budget.for_target();
        target.end_at(now);
        budget.end_at(now + hour);
        assert!(budget.is_over(Duration::ZERO) && target.is_over(Duration::ZERO) && !budget.is_over(hour));
    }

    #[test]
    fn what_is_left_out_is_named_for_each_target() {
        let (budget, other) = (small(), small());
        for file in ["/d", "/a", "/b", "/c", "/a"] {
            budget.leave_out(file, Scarce::Memory);
        }
        budget.leave_out("/a", Scarce::Time);
        assert_eq!(
            budget.gaps(),
            [
                Gap::FilesBeyondBudget {
                    files: ["/a", "/b", "/c"].map(str::to_owned).into(),
                    more: 1,
                    limit: FileLimit::MemoryMib(0),
                },
                Gap::FilesBeyondBudget { files: vec!["/a".to_owned()], more: 0, limit: FileLimit::CpuS(1) },
            ]
        );
        assert_eq!((budget.count_left_out(), other.count_left_out()), (4, 0));
        assert_eq!(budget.for_target().count_left_out(), 0);
    }

    #[test]
    fn limits_of_machine_and_groups_are_read() {
        assert_eq!(total_memory("MemTotal:       24684544 kB\nMemFree: 1 kB\n"), Some(24_684_544 << 10));
        assert_eq!(total_memory("MemTotal: 99999999999999999999 kB"), None);
        assert_eq!(limit_file("0::/a/b"), Some(("/sys/fs/cgroup", Path::new("/a/b"), "memory.max")));
        let old = limit_file("4:cpu,memory:/x:y").unwrap();
        assert_eq!(old, ("/sys/fs/cgroup/memory", Path::new("/x:y"), "memory.limit_in_bytes"));
        assert_eq!([limit_file("3:cpuset:/"), limit_file("3"), limit_file("")], [None; 3]);
        assert!(memory_here() >= 1 << 20);
        assert_eq!([0, 1 << 30, u64::MAX].map(|memory| Limits::of_memory(memory).held >> 20), [16, 128, 384]);
        assert_eq!([0, 1 << 30, u64::MAX].map(|memory| Limits::of_memory(memory).kept >> 20), [64, 128, 384]);
    }
}
