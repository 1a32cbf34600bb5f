//! Taking snapshots, again and again, at the cost of what has changed.
//!
//! 1. One pass of the task iterator: registers, states and switch counts of all threads.
//! 2. The stack of each blocked thread that is new or has run is read and unwound.
//! 3. A second, cheap pass: a thread whose switch count is the same, and which is on no CPU, has not run in between, so its registers
//!    and its stack belong together. Others are tried again, and at last counted as lost.
//!
//! From the second snapshot on the cheap pass comes first, and often is all. And if the process has used no CPU time at all since
//! the last one, not even that is needed: nothing has changed.
//!
//! That 3. suffices rests on an order. The scheduler counts a switch before it marks the thread as off its CPU. The first look
//! must read the count before the mark and the registers; the second must read the mark before the count. Then a thread
//! that ran in between is either seen on a CPU or has another count.
//! Source: <https://elixir.bootlin.com/linux/v6.12/source/kernel/sched/core.c> (`__schedule`, `finish_task`).

mod sleepers;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use leakprobe_common::{
    arch::Regs,
    event::PAGE,
    thread::{ThreadBrief, ThreadRecord},
};
use nix::{
    time::{ClockId, clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

pub use self::sleepers::FutexTwice;
use super::{
    FrameSizes, StackMemory, Unwinder, arch, channels,
    clock::SchedClock,
    losses::Losses,
    socket_timeouts, stack_pointer,
    waits::{self, Context, Now, Waiting},
};
use crate::{
    model::{
        Activity, Blocking, News, Snapshot, Stack, StackEnd, StackId, StackTable, Subject, ThreadSample, WaitKind,
    },
    probes::{ProbeError, Source, event, is_there},
    target::{Modules, ProcessMemory, clock_ns, has_memory},
};

/// How often a thread that keeps running is tried.
const ROUNDS: u32 = 4;
/// Bytes of each stack that are read at first: parked threads are seldom deeper.
const FIRST_READ: usize = 1024;
/// Up to so many threads are looked at one by one, rather than all threads at once.
const FEW: usize = 32;
/// Threads whose stacks are read by one system call.
const BATCH: usize = 128;
/// Most threads that are remembered to have memory that does not answer.
const MOST_COUNTED: usize = 1 << 20;
/// `TASK_INTERRUPTIBLE`.
const SLEEPING: u32 = 1;
/// `PF_KTHREAD | PF_USER_WORKER | PF_IO_WORKER`: workers of the kernel within the process, which have no user stack.
const WORKER: u32 = 0x0020_0000 | 0x4000 | 0x10;

/// What is remembered of a thread.
#[derive(Clone, Copy, Debug)]
struct Known {
    start_boottime: u64,
    switches: u64,
    /// Whether it was blocked, and its stack was read, at that switch count.
    settled: bool,
    /// The futex word that it waits on, if it is settled in such a wait.
    futex: Option<u64>,
}

/// What one snapshot has found so far.
#[derive(Default)]
struct Found {
    /// The threads that there are.
    alive: Vec<u32>,
    changed: Vec<ThreadSample>,
    /// The threads to look at, in order; `None`: all.
    again: Option<Vec<u32>>,
    /// What was last seen of those that ran while they were looked at.
    unstable: Vec<ThreadRecord>,
}

/// Takes snapshots of one process.
pub struct Engine {
    pid: u32,
    /// Whether registers come from `/proc`: see [`Unwinder::from_proc`].
    from_proc: bool,
    memory: ProcessMemory,
    modules: Modules,
    /// The generation of the mappings by which stacks were unwound that need no second look.
    generation: u64,
    /// Threads that began to wait after the mappings had been read by which their stacks were unwound.
    by_older_code: Vec<u32>,
    unwinder: Unwinder,
    known: HashMap<u32, Known>,
    losses: Losses,
    /// Threads with a stack in memory that does not answer.
    unanswered: HashSet<u32>,
    snapshots: u64,
    /// The CPU time of the whole process, read just before the last pass, ns.
    cpu_time: Option<u64>,
}

impl Engine {
    /// For the process `pid`. Reads its mappings.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn new(pid: u32) -> std::io::Result<Self> {
        let modules = Modules::of(pid)?;
        Ok(Self {
            pid,
            from_proc: false,
            memory: modules.memory().unwrap_or_else(|| ProcessMemory::new(pid)),
            generation: modules.generation(),
            modules,
            by_older_code: Vec::new(),
            unwinder: Unwinder::default(),
            known: HashMap::new(),
            losses: Losses::default(),
            unanswered: HashSet::new(),
            snapshots: 0,
            cpu_time: None,
        })
    }

    /// The same for threads of which only `/proc` tells.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn from_proc(pid: u32) -> std::io::Result<Self> {
        Ok(Self { from_proc: true, unwinder: Unwinder::from_proc(), ..Self::new(pid)? })
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The target's code.
    pub fn modules(&mut self) -> &mut Modules {
        &mut self.modules
    }

    /// See [`Unwinder::set_made_frame_sizes`].
    pub fn set_made_frame_sizes(&mut self, made: Option<Arc<dyn FrameSizes>>) {
        self.unwinder.set_made_frame_sizes(made);
    }

    /// See [`Unwinder::set_frame_sizes`].
    pub fn set_frame_sizes(&mut self, own: Vec<Arc<dyn FrameSizes>>) {
        self.unwinder.set_frame_sizes(own);
    }

    /// What was not seen so far.
    #[must_use]
    pub fn losses(&self) -> Losses {
        Losses { unanswered: self.unanswered.len() as u64, ..self.losses }
    }

    /// Snapshots taken so far.
    #[must_use]
    pub fn snapshots(&self) -> u64 {
        self.snapshots
    }

    /// Forgets everything: the process has begun another program.
    ///
    /// # Errors
    /// If the new mappings cannot be read.
    pub fn restart(&mut self) -> std::io::Result<()> {
        let fresh = if self.from_proc { Self::from_proc(self.pid)? } else { Self::new(self.pid)? };
        let (losses, snapshots) = (self.losses, self.snapshots);
        let unanswered = std::mem::take(&mut self.unanswered);
        let budget = self.modules.budget().clone();
        *self = Self { losses, unanswered, snapshots, ..fresh };
        self.modules.set_budget(budget);
        Ok(())
    }

    /// Lets the next snapshot list the threads even if none has run since the last one: an event that was read after that may
    /// be about a thread that was already gone, and the event of its exit may be lost.
    pub fn expect_news(&mut self) {
        self.cpu_time = None;
    }

    /// Lets the next snapshot look at every thread, as the first one does.
    pub fn forget_threads(&mut self) {
        self.known.clear();
        self.expect_news();
    }

    /// Unwinds a stack that was captured in the kernel, and puts it into `stacks`.
    pub fn intern_captured(&mut self, regs: &Regs, bytes: &[u8], stacks: &mut StackTable) -> StackId {
        let stack = self.unwind_captured(regs, bytes);
        if self.modules.take_reuse() {
            stacks.forget_addresses();
        }
        stacks.intern(stack)
    }

    /// Unwinds a stack of the process from these values of its registers on, and puts it into `stacks`. Whether the thread has run
    /// meanwhile, the caller has to find out.
    pub fn intern_from(&mut self, (ip, sp, bp): (u64, u64, u64), stacks: &mut StackTable) -> StackId {
        let mut bytes = [0; FIRST_READ];
        let read = self.memory.read(sp, &mut bytes);
        let mut memory = StackMemory::live(sp, bytes.get(..read).unwrap_or_default(), &self.memory);
        let (stack, _) = self.unwinder.unwind(&mut self.modules, &arch::native_regs(ip, sp, bp), &mut memory);
        self.losses.count(&stack);
        stacks.intern(stack)
    }

    /// Reads the mappings again if they are old.
    fn follow_code(&mut self) {
        if let Err(error) = self.modules.refresh_if_old() {
            tracing::debug!("mappings: {error}");
        }
    }

    /// Reads mappings that were too young in the last snapshot, and has the stacks looked at again that may have been unwound by
    /// code that was no more. A wait that is older than the mappings then used stays as it is: its code was right, even if other
    /// code lies there now.
    fn follow_new_code(&mut self) {
        self.modules.refresh_if_due();
        if self.modules.is_due() {
            return;
        }
        let generation = self.modules.generation();
        let is_new = std::mem::replace(&mut self.generation, generation) != generation;
        for tid in self.by_older_code.drain(..).filter(|_| is_new) {
            self.known.remove(&tid);
            self.cpu_time = None;
        }
    }

    fn unwind_captured(&mut self, regs: &Regs, bytes: &[u8]) -> Stack {
        self.follow_code();
        let base = stack_pointer(regs);
        let mut memory = StackMemory::captured(base, bytes);
        let (stack, unknown_code) = self.unwinder.unwind(&mut self.modules, regs, &mut memory);
        let stack = if unknown_code && self.modules.refresh_for_unknown() {
            let mut memory = StackMemory::captured(base, bytes);
            self.unwinder.unwind(&mut self.modules, regs, &mut memory).0
        } else {
            stack
        };
        match stack.end {
            StackEnd::TooDeep => self.losses.event_too_deep += 1,
            StackEnd::NoUnwindInfo => self.losses.event_no_unwind_info += 1,
            _ => {}
        }
        stack
    }

    /// What a thread with these registers waited for, which had slept since `since_ns`.
    pub fn sleep(&self, regs: &Regs, since_ns: u64) -> Blocking {
        let task = self.modules.reader().unwrap_or(self.pid);
        let context = Context { task, memory: &self.memory, now: Now::read() };
        // No thread has this id: what the kernel says of one now is not about that wait.
        let mut wait = context.blocking(0, SLEEPING, regs, since_ns, true);
        // What lay in memory has changed since.
        wait.timeout_ms = None;
        let lay_in_memory = match wait.subject {
            Subject::Poll { .. } => true,
            Subject::None => matches!(wait.kind, WaitKind::Signal | WaitKind::File),
            _ => false,
        };
        if lay_in_memory {
            wait.object.clear();
        }
        wait
    }

    /// Takes a snapshot; stacks go into `stacks`.
    ///
    /// # Errors
    /// If the kernel does not let us iterate over the threads.
    pub fn snapshot(&mut self, probes: &Source, stacks: &mut StackTable) -> Result<Snapshot, ProbeError> {
        self.snapshots += 1;
        self.follow_new_code();
        // Exact to the ns, and threads that have exited still count: the same time means that not one thread has run.
        // Read first: what runs during the passes below is found next time.
        let cpu_time = process_cpu_time(self.pid);
        if cpu_time.is_some() && cpu_time == self.cpu_time {
            return Ok(Snapshot { taken_ns: clock_ns(ClockId::CLOCK_MONOTONIC), news: None });
        }
        self.cpu_time = cpu_time;
        let mut found = Found::default();
        if !self.known.is_empty() {
            let briefs = probes.briefs(self.known.len())?;
            let ran: Vec<u32> = briefs.iter().filter(|brief| !self.is_settled(brief)).map(|brief| brief.tid).collect();
            if ran.len() <= FEW {
                self.are_alive(briefs.iter().map(|brief| brief.tid), &mut found);
                found.again = Some(sorted(ran.into_iter()));
            }
        }
        for round in 1..=ROUNDS {
            let records = match &found.again {
                Some(few) if few.is_empty() => break,
                Some(few) if few.len() <= FEW => probes.threads_of(few)?,
                _ => probes.threads(self.known.len() + 16)?,
            };
            let records = self.without_those_gone(records, &mut found, stacks);
            let clock = SchedClock::of_pass(&records);
            let (wanted, others): (Vec<_>, Vec<_>) = match &found.again {
                None => {
                    self.are_alive(records.iter().map(|record| record.tid), &mut found);
                    records
                        .iter()
                        .filter(|record| !self.is_settled(&record.brief()))
                        .partition(|record| is_at_rest(record))
                }
                Some(again) => records
                    .iter()
                    .filter(|record| again.binary_search(&record.tid).is_ok())
                    .partition(|record| is_at_rest(record)),
            };
            for record in others {
                // What has exited will not run again.
                self.remember(record, record.exit_state != 0 && record.on_cpu == 0);
                found.changed.push(self.sample_without_stack(record, stacks));
            }
            if wanted.is_empty() {
                break;
            }
            self.look_at(&wanted, clock, round == ROUNDS, probes, &mut found, stacks)?;
            if found.unstable.is_empty() {
                break;
            }
            found.again = Some(sorted(found.unstable.iter().map(|record| record.tid)));
        }
        let Found { mut alive, mut changed, .. } = found;
        // A thread that exited between two rounds has no sample; the next snapshot does not list it.
        alive.retain(|tid| self.known.contains_key(tid));
        let futexes = self.read_futexes();
        // One moment for all: ages and lifetimes count up to it.
        let taken_ns = clock_ns(ClockId::CLOCK_MONOTONIC);
        let boottime = clock_ns(ClockId::CLOCK_BOOTTIME);
        for sample in &mut changed {
            sample.lifetime_ns = boottime.saturating_sub(sample.start_boottime);
        }
        Ok(Snapshot { taken_ns, news: Some(News { alive, changed, futexes }) })
    }

    /// All threads are listed: others are gone.
    fn are_alive(&mut self, listed: impl Iterator<Item = u32>, found: &mut Found) {
        found.alive = sorted(listed);
        self.known.retain(|tid, _| found.alive.binary_search(tid).is_ok());
    }

    /// Of those that were to be looked at again, forgets the ones that are gone. Not listed is not gone: what a thread did last is told
    /// of it then, and it is looked at the next time.
    fn without_those_gone(
        &mut self,
        mut records: Vec<ThreadRecord>,
        found: &mut Found,
        stacks: &mut StackTable,
    ) -> Vec<ThreadRecord> {
        let listed = sorted(records.iter().map(|record| record.tid));
        // A thread that has exited is gone, even if it is still listed. Only the first stays, for as long as there are others.
        records.retain(|record| record.exit_state == 0 || record.tid == self.pid);
        for &tid in found.again.iter().flatten() {
            if listed.binary_search(&tid).is_err() && is_there(self.pid, tid) {
                self.cpu_time = None;
                self.known.entry(tid).and_modify(|known| known.settled = false);
                if let Some(record) = found.unstable.iter().find(|record| record.tid == tid) {
                    self.losses.unstable += 1;
                    self.remember(record, false);
                    let stack = Stack::of_thread(Vec::new(), StackEnd::Unstable);
                    found.changed.push(sample(record, Activity::Runnable, stacks.intern(stack)));
                }
            } else if !records.iter().any(|record| record.tid == tid) {
                self.known.remove(&tid);
            }
        }
        records
    }

    /// Reads what threads at rest wait for, and where. Those that ran meanwhile are to be tried again, unless this is the last time.
    fn look_at(
        &mut self,
        wanted: &[&ThreadRecord],
        clock: Option<SchedClock>,
        is_last: bool,
        probes: &Source,
        found: &mut Found,
        stacks: &mut StackTable,
    ) -> Result<(), ProbeError> {
        let reader = self.modules.find_reader().unwrap_or(self.pid);
        self.memory = self.memory.through(reader);
        let (code_read_ns, read) = self.read_stacks(wanted);
        if self.modules.take_reuse() {
            stacks.forget_addresses();
        }
        // If the thread that we read through has exited meanwhile, nothing of this round counts.
        let is_read = has_memory(reader);
        let mut in_kernel = in_kernel(probes, wanted)?;
        let after = self.look_again(probes, wanted)?;
        let context = Context { task: reader, memory: &self.memory, now: Now::read() };
        found.unstable.clear();
        for (&record, stack) in wanted.iter().zip(read) {
            let ran = !is_read || after.get(&record.tid).is_none_or(|after| !after.is_unmoved(record));
            if ran && !is_last {
                found.unstable.push(*record);
                continue;
            }
            let stack = if ran {
                self.losses.unstable += 1;
                Stack::of_thread(Vec::new(), StackEnd::Unstable)
            } else {
                stack
            };
            if !self.unanswered.contains(&record.tid) {
                self.losses.count(&stack);
            }
            let activity = blocking(record, clock, &context, probes);
            let mut futex = None;
            if let Activity::Blocked(blocking) = &activity {
                futex = blocking.futex.as_ref().map(|futex| futex.word);
                if blocking.since_ns >= code_read_ns {
                    self.by_older_code.push(record.tid);
                }
            }
            let kernel_stack = in_kernel.remove(&record.tid).filter(|_| !ran).map(Stack::of_kernel);
            let kernel_stack = kernel_stack.map(|stack| stacks.intern(stack));
            found.changed.push(ThreadSample { kernel_stack, ..sample(record, activity, stacks.intern(stack)) });
            let (start_boottime, switches) = (record.start_boottime, record.switches);
            self.known.insert(record.tid, Known { start_boottime, switches, settled: !ran, futex });
        }
        Ok(())
    }

    /// The second look at threads whose stacks were just read.
    fn look_again(&self, probes: &Source, read: &[&ThreadRecord]) -> Result<HashMap<u32, ThreadBrief>, ProbeError> {
        let briefs = if read.len() <= FEW {
            let tids: Vec<u32> = read.iter().map(|record| record.tid).collect();
            probes.threads_of(&tids)?.iter().map(ThreadRecord::brief).collect()
        } else {
            probes.briefs(self.known.len() + read.len())?
        };
        Ok(briefs.into_iter().map(|brief| (brief.tid, brief)).collect())
    }

    fn is_settled(&self, brief: &ThreadBrief) -> bool {
        self.known.get(&brief.tid).is_some_and(|known| {
            known.settled
                && brief.on_cpu == 0
                && known.switches == brief.switches
                && known.start_boottime == brief.start_boottime
        })
    }

    fn remember(&mut self, record: &ThreadRecord, settled: bool) {
        let (start_boottime, switches) = (record.start_boottime, record.switches);
        let known = Known { start_boottime, switches, settled, futex: None };
        self.known.insert(record.tid, known);
    }

    fn sample_without_stack(&self, record: &ThreadRecord, stacks: &mut StackTable) -> ThreadSample {
        let (activity, end) = if record.exit_state != 0 {
            (Activity::Exited, StackEnd::None)
        } else if record.on_cpu != 0 {
            (Activity::Running, StackEnd::Running)
        } else {
            (Activity::Runnable, StackEnd::None)
        };
        sample(record, activity, stacks.intern(Stack::of_thread(Vec::new(), end)))
    }

    /// Reads and unwinds the stacks of threads that are at rest, a batch at a time. Also says when the mappings had been read by
    /// which it was begun.
    fn read_stacks(&mut self, records: &[&ThreadRecord]) -> (u64, Vec<Stack>) {
        let mut stacks = Vec::with_capacity(records.len());
        let mut buffer = vec![0; BATCH * FIRST_READ];
        if !records.is_empty() {
            self.follow_code();
        }
        let age = u64::try_from(self.modules.age().as_nanos()).unwrap_or(u64::MAX);
        let code_read_ns = clock_ns(ClockId::CLOCK_MONOTONIC).saturating_sub(age);
        for batch in records.chunks(BATCH) {
            let pointers: Vec<u64> = batch.iter().map(|record| stack_pointer(&record.regs)).collect();
            let lengths = self.memory.read_pieces(&pointers, FIRST_READ, &mut buffer);
            for ((record, piece), len) in batch.iter().zip(buffer.chunks(FIRST_READ)).zip(lengths) {
                let bytes = &piece[..len];
                let (mut stack, unknown_code) = self.unwind(record, bytes);
                if unknown_code && self.modules.refresh_for_unknown() {
                    stack = self.unwind(record, bytes).0;
                }
                stacks.push(stack);
            }
        }
        (code_read_ns, stacks)
    }

    fn unwind(&mut self, record: &ThreadRecord, bytes: &[u8]) -> (Stack, bool) {
        if record.flags & WORKER != 0 {
            return (Stack::of_thread(Vec::new(), StackEnd::None), false);
        }
        let sp = stack_pointer(&record.regs);
        if bytes.is_empty() {
            self.count_unanswered(record.tid, self.memory.is_unanswered(sp));
            return (Stack::of_thread(Vec::new(), StackEnd::Unreadable), false);
        }
        let mut memory = StackMemory::live(sp, bytes, &self.memory);
        let unwound = self.unwinder.unwind(&mut self.modules, &record.regs, &mut memory);
        let is_unanswered = memory.is_unanswered;
        self.count_unanswered(record.tid, is_unanswered);
        unwound
    }

    fn count_unanswered(&mut self, tid: u32, is_unanswered: bool) {
        if is_unanswered && self.unanswered.len() < MOST_COUNTED {
            self.unanswered.insert(tid);
        }
    }
}

/// CPU time of all of a process's threads, those that have exited included, ns: exact to the ns, so that if it has not changed
/// nothing has run. Source: <https://elixir.bootlin.com/linux/v6.12/source/kernel/sched/cputime.c#L313>
/// (`thread_group_cputime`).
#[must_use]
pub fn process_cpu_time(pid: u32) -> Option<u64> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?);
    let time = clock_gettime(clock_getcpuclockid(pid).ok()?).ok()?;
    Some(u64::try_from(time.tv_sec()).ok()? * 1_000_000_000 + u64::try_from(time.tv_nsec()).ok()?)
}

/// Whether the thread is neither on a CPU nor about to get one nor gone: then its saved registers are its last ones.
fn is_at_rest(record: &ThreadRecord) -> bool {
    record.state != 0 && record.on_cpu == 0 && record.exit_state == 0
}

fn blocking(record: &ThreadRecord, clock: Option<SchedClock>, context: &Context<'_>, probes: &Source) -> Activity {
    let (mut since_ns, mut exact) = clock.map_or((record.ktime, false), |clock| clock.wait_began(record));
    if let Some(began_ns) = record.wait_began(waits::futex_word(&record.regs)) {
        (since_ns, exact) = (began_ns, true);
    }
    if let Some(channel) = probes.wait_channel(record) {
        let waiting = channels::waiting(&channel);
        return Activity::Blocked(waiting.since(since_ns, exact));
    }
    let mut wait = context.blocking(record.tid, record.state, &record.regs, since_ns, exact);
    if let Some(timeout) = socket_timeouts::of_wait(record, &wait) {
        (wait.timeout_ms, wait.late_ms) = (Some(timeout.ms), timeout.late_ms);
    }
    Activity::Blocked(wait)
}

impl Context<'_> {
    fn blocking(&self, tid: u32, state: u32, regs: &Regs, since_ns: u64, exact: bool) -> Blocking {
        self.classify(tid, state, regs, since_ns).since(since_ns, exact)
    }
}

impl Waiting {
    fn since(self, since_ns: u64, exact: bool) -> Blocking {
        let Self { kind, reason, object, timeout_ms, subject, futex } = self;
        Blocking {
            kind,
            reason,
            object,
            since_ns,
            exact,
            timeout_ms,
            late_ms: 0,
            timer: None,
            subject,
            other_ends: None,
            futex,
        }
    }
}

fn sample(record: &ThreadRecord, activity: Activity, stack: StackId) -> ThreadSample {
    ThreadSample {
        tid: record.tid,
        name: event::name(&record.comm),
        start_boottime: record.start_boottime,
        lifetime_ns: 0, // set when the snapshot is complete
        activity,
        stack,
        kernel_stack: None,
        switches: record.switches,
    }
}

/// Where threads are in the kernel, if that was asked for. To be read between the two looks at them, as their other stacks are.
fn in_kernel(probes: &Source, threads: &[&ThreadRecord]) -> Result<HashMap<u32, Vec<u64>>, ProbeError> {
    let tids: Vec<u32> = threads.iter().map(|record| record.tid).collect();
    Ok(probes.kernel_stacks(&tids)?.into_iter().collect())
}

fn sorted(ids: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut ids: Vec<u32> = ids.collect();
    ids.sort_unstable();
    ids
}

const _: () = assert!(FIRST_READ <= PAGE);
