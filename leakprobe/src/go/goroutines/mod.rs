//! Every goroutine of a live Go process, read from outside, again and again, at the cost of what has changed.
//!
//! A snapshot goes through `runtime.allgs`, some thousand goroutines at a time:
//!
//! 1. Their `g`s are read. One whose signature (number, status, stack pointer, …) is that of the last snapshot has not run
//!    since, and nothing more is done about it.
//! 2. The stacks of the others are read and unwound, and what they wait on is looked up.
//! 3. Their `g`s are read again. If the signature is still the same, all that was read belongs together. Others are tried
//!    again when all are through, three times in all, and then told as unstable.
//!
//! Nothing is stopped, and nothing is held of a goroutine but 40 bytes: what is found goes to a [`GoroutineSink`] at once.

mod ancestors;
mod batch;
mod callbacks;
mod channels;
mod clock;
mod conds;
mod contexts;
mod costs;
mod counts;
mod defers;
mod g;
mod heaps;
mod labels;
mod netpoll;
mod objects;
mod pages;
mod pass;
mod queues;
mod semaphores;
mod semtable;
mod shared;
mod stack_words;
mod system;
#[cfg(test)]
mod tests;
mod threads;
mod timers;
mod unwind;
mod waits;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use self::{
    ancestors::Ancestors,
    batch::Batch,
    channels::{Channels, Waiter},
    clock::Clock,
    costs::Slots,
    defers::Defers,
    g::G,
    labels::Labels,
    objects::{Context, Objects},
    pass::Pass,
    system::System,
    threads::Threads,
    unwind::Unwinder,
    waits::{Class, Reason},
};
use crate::{
    go::{
        Runtime,
        memory::{Words, word_at},
    },
    model::{GoObject, GoStatus, GoroutineSink, Loss, Stack, StackTable, TimerSample},
    snapshot::Descriptors,
    target::{Memory, Piece},
};

pub use self::{
    callbacks::{Call, Callback, Caller},
    costs::Costs,
    threads::MThread,
};

/// Goroutines that are looked at in one go.
const CHUNK: usize = 2048;
/// How often a goroutine that keeps running is tried.
const ROUNDS: u32 = 3;
/// How often the list of goroutines is tried, which moves when it grows.
const ATTEMPTS: u32 = 8;

/// Why no goroutines could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The process has ended, or begun another program, or what was taken for its list is none.
    #[error("the list of goroutines at {0:#x} cannot be read: the process has ended or begun another program")]
    List(u64),
    /// What was taken for its list has become shorter, which that never does: it is to be looked for again.
    #[error("what was taken for the list of goroutines at {0:#x} is another one")]
    Shrunk(u64),
}

/// What is remembered of a goroutine.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// Its number; 0: there was none in this slot.
    id: u64,
    /// See [`G::signature`]; 0: to be looked at again in any case.
    signature: u64,
    /// The latest and the earliest moment at which its wait can have begun. 0: not known.
    since: u64,
    not_before: u64,
    /// See [`G::course`].
    course: u32,
    /// See [`objects::Found::mark`].
    object: u32,
}

const _: () = assert!(size_of::<Record>() == 40);

/// What a snapshot has found, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Goroutines that are alive.
    pub alive: u64,
    by_status: [u64; STATUSES.len()],
    /// How many goroutines the runtime has created and how many have ended, its own included, as it counts them itself; `None` if
    /// that cannot be read.
    pub ever: Option<Turnover>,
    /// Goroutines that were looked at, because they were new or had run.
    pub changed: u64,
    /// Goroutines beyond the limit, dead ones included, that were not looked at.
    pub left_out: u64,
    /// When it began, `CLOCK_MONOTONIC`, ns.
    pub taken_ns: u64,
    /// How long it took.
    pub took: Duration,
}

const STATUSES: [GoStatus; 8] = [
    GoStatus::Idle,
    GoStatus::Runnable,
    GoStatus::Running,
    GoStatus::Syscall,
    GoStatus::Waiting,
    GoStatus::Copystack,
    GoStatus::Preempted,
    GoStatus::Leaked,
];

impl Summary {
    /// How many goroutines do that.
    #[must_use]
    pub fn of(&self, status: GoStatus) -> u64 {
        self.by_status.get(status as usize).copied().unwrap_or(0)
    }

    /// How many goroutines do what, without what none does.
    pub fn by_status(&self) -> impl Iterator<Item = (GoStatus, u64)> {
        STATUSES.into_iter().zip(self.by_status).filter(|&(_, count)| count > 0)
    }

    fn count(&mut self, status: GoStatus) {
        self.alive += 1;
        if let Some(count) = self.by_status.get_mut(status as usize) {
            *count += 1;
        }
    }
}

/// How many goroutines have come and gone since the program began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turnover {
    /// Created.
    pub created: u64,
    /// Of them ended.
    pub ended: u64,
}

/// What was not seen, over all snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Goroutines that ran each time they were read.
    pub unstable: u64,
    /// Stacks deeper than what was read.
    pub too_deep: u64,
    /// Stacks whose outer frames could not be found.
    pub no_unwind_info: u64,
    /// Stacks that could not be read.
    pub stack_unreadable: u64,
    /// Goroutines that could not be read.
    pub unreadable: u64,
    /// Goroutines beyond the limit.
    pub left_out: u64,
    /// Goroutines that were not read in the last snapshot, since the run was to end.
    pub not_read: u64,
    /// Selects with more cases than were looked at, and queues of channels that were not counted to their end.
    pub channels_cut: u64,
    /// Goroutines that wait for a lock, wait group or other semaphore whose address could not be found.
    pub locks_unknown: u64,
    /// Goroutines listed without their labels, ancestors or some of the locks that they hold: the bound of these was reached.
    pub details_left_out: u64,
    /// Timers that were not looked at.
    pub timers_left_out: u64,
}

impl Losses {
    /// The losses that are not 0, with the codes that recordings have for them.
    pub fn named(&self) -> impl Iterator<Item = (Loss, u64)> {
        [
            (Loss::GoroutineUnstable, self.unstable),
            (Loss::GoroutineStackTooDeep, self.too_deep),
            (Loss::GoroutineStackNoUnwindInfo, self.no_unwind_info),
            (Loss::GoroutineStackUnreadable, self.stack_unreadable),
            (Loss::GoroutineUnreadable, self.unreadable),
            (Loss::GoroutineLeftOut, self.left_out),
            (Loss::GoroutineNotRead, self.not_read),
            (Loss::GoroutineChannelsCut, self.channels_cut),
            (Loss::GoroutineLocksUnknown, self.locks_unknown),
            (Loss::GoroutineDetailsLeftOut, self.details_left_out),
            (Loss::TimersLeftOut, self.timers_left_out),
        ]
        .into_iter()
        .filter(|&(_, count)| count > 0)
    }
}

/// A goroutine that was in a system call or in C code when the snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InSyscall {
    /// Its slot.
    pub slot: u32,
    /// Its number.
    pub id: u64,
    /// The thread that it is on, if that is known.
    pub thread: Option<u32>,
    address: u64,
    signature: u64,
}

/// Reads the goroutines of one runtime.
#[derive(Debug)]
pub struct Goroutines {
    pid: u32,
    costs: Arc<Costs>,
    slots: Slots,
    runtime: Arc<Runtime>,
    reasons: Vec<Reason>,
    unwinder: Unwinder,
    objects: Objects,
    defers: Defers,
    labels: Labels,
    ancestors: Ancestors,
    system: System,
    /// Address of the list that was read last; 0: none yet.
    list: u64,
    records: Vec<Record>,
    /// Slots that could not be read in the last snapshot: of them it tells nothing.
    unread: HashSet<u32>,
    /// Addresses of the `g`s in the list, of which each is there once in a list of the runtime's own.
    addresses: HashSet<u64>,
    /// Slots that lead to one that is in the list already: they are never looked at.
    repeated: HashSet<u32>,
    /// When the last snapshot began.
    previous: Option<u64>,
    threads: Threads,
    in_syscalls: Vec<InSyscall>,
    /// Goroutines that C has called, by their slots.
    callbacks: HashMap<u32, Callback>,
    losses: Losses,
}

impl Goroutines {
    /// For a runtime of the process `pid`, whose clock and descriptors are looked up in `/proc`. `costs`: the same for all of its runtimes.
    #[must_use]
    pub fn new(pid: u32, runtime: Runtime, costs: Arc<Costs>) -> Self {
        Self {
            pid,
            reasons: runtime.reasons.iter().map(|text| Reason::new(Arc::clone(text))).collect(),
            unwinder: Unwinder::new(Arc::clone(&runtime.code), Arc::clone(&costs)),
            objects: Objects::new(&costs),
            defers: Defers::new(&costs),
            labels: Labels::new(&costs),
            ancestors: Ancestors::new(&costs),
            slots: costs.memory_of_slots(),
            costs,
            system: System::default(),
            list: 0,
            records: Vec::new(),
            unread: HashSet::new(),
            addresses: HashSet::new(),
            repeated: HashSet::new(),
            previous: None,
            threads: Threads::default(),
            in_syscalls: Vec::new(),
            callbacks: HashMap::new(),
            losses: Losses::default(),
            runtime: Arc::new(runtime),
        }
    }

    /// The same runtime, looked for again: it has other code since a plugin was loaded, or another list.
    pub fn update(&mut self, runtime: Runtime) {
        self.unwinder = Unwinder::new(Arc::clone(&runtime.code), Arc::clone(&self.costs));
        self.system = System::default();
        self.defers.forget_code();
        self.runtime = Arc::new(runtime);
    }

    /// Takes a snapshot: what is new goes into `sink`, stacks into `stacks`.
    ///
    /// Costs about 1 µs for each goroutine that is new or has run, a third of that for each other one.
    ///
    /// # Errors
    /// If the list of goroutines cannot be read, as when the process has ended, or is another one. What was read until then has
    /// gone into `sink`.
    pub fn snapshot(
        &mut self,
        memory: &dyn Memory,
        stacks: &mut StackTable,
        sink: &mut dyn GoroutineSink,
    ) -> Result<Summary, ReadError> {
        let summary = self.read_list(memory, stacks, sink);
        // A list may be shorter than it claims.
        self.slots.set_up_to(self.records.len() as u64);
        summary
    }

    fn read_list(
        &mut self,
        memory: &dyn Memory,
        stacks: &mut StackTable,
        sink: &mut dyn GoroutineSink,
    ) -> Result<Summary, ReadError> {
        let clock = Clock::of(self.pid);
        let len = self.len(memory)?;
        let known = self.records.len() as u64;
        if len < known && self.list == self.runtime.allgs {
            return Err(ReadError::Shrunk(self.list));
        }
        let slots = self.slots.set_up_to(self.costs.slots.take_up_to(len));
        if slots < known {
            // What was taken for the list was longer, or there is less room for this runtime than there was.
            let gone = self.records.split_off(slots as usize);
            let gone = (slots as u32..).zip(gone).filter(|(_, record)| record.id != 0);
            gone.for_each(|(slot, _)| sink.remove(slot));
            self.callbacks.retain(|&slot, _| u64::from(slot) < slots);
            self.repeated.retain(|&slot| u64::from(slot) < slots);
            self.addresses.clear();
        }
        self.list = self.runtime.allgs;
        let mut summary = Summary { taken_ns: clock.now, left_out: len - slots, ..Summary::default() };
        self.losses.left_out = self.losses.left_out.max(summary.left_out);
        let slots = slots as usize;
        self.threads = Threads::read(&self.runtime, memory);
        self.in_syscalls.clear();
        self.labels.begin_snapshot();
        self.ancestors.begin_snapshot();
        self.defers.begin_snapshot();
        // The first may be the only one.
        self.objects.timers.begin(self.previous.is_none());
        self.objects.semaphores.begin_snapshot(slots);
        let before = counts::given_out(&self.runtime, memory);
        let unread = std::mem::take(&mut self.unread);
        let runtime = Arc::clone(&self.runtime);
        let mut pass = Pass {
            context: self.context(&runtime, memory, clock, slots),
            engine: self,
            unread,
            stacks,
            sink,
            summary: &mut summary,
            foreign: (0, 0),
            is_first: true,
            again: Vec::new(),
            read: 0,
            given_up: 0,
            is_last: false,
            gs: Batch::default(),
            stack_bytes: Batch::default(),
        };
        let (mut looked_at, mut repeated) = (0, 0);
        let mut is_over = false;
        let mut useless = 0;
        while looked_at < slots && pass.engine.costs.unread.left() > 0 && !is_over {
            let mut chunk = chunk(memory, runtime.allgs, looked_at, slots)?;
            looked_at += chunk.len();
            // Its length is only believed as far as there is a list.
            let known = pass.engine.records.len();
            pass.engine.records.resize(known.max(looked_at), Record::default());
            repeated += pass.engine.leave_out_repeated(&mut chunk, known);
            pass.look(&chunk);
            let before = std::mem::replace(&mut useless, pass.engine.unread.len() + repeated);
            pass.engine.costs.unread.take_up_to((useless - before) as u64);
            pass.read = looked_at;
            is_over = pass.is_over();
        }
        pass.is_first = false;
        for round in 2..=ROUNDS {
            pass.is_last = round == ROUNDS;
            pass.engine.objects.semaphores.begin_round(pass.is_last);
            let again = std::mem::take(&mut pass.again);
            for chunk in again.chunks(CHUNK) {
                pass.look(chunk);
            }
        }
        let not_looked_at = (slots - looked_at) as u64;
        let (not_read, left_out) = if is_over { (not_looked_at, 0) } else { (0, not_looked_at) };
        let not_read = not_read + pass.given_up;
        let (cut, foreign) = (pass.context.channels.cut, pass.foreign);
        self.objects.semaphores.end_snapshot();
        self.losses.channels_cut += cut;
        self.losses.timers_left_out = self.losses.timers_left_out.max(self.objects.timers.left_out);
        // Those that came while the others were read have not ended, though they were not seen.
        let is_whole = looked_at == slots && repeated == 0 && not_read == 0;
        let before = before.filter(|_| is_whole);
        summary.ever = before.zip(counts::given_out(&self.runtime, memory)).map(|(before, after)| {
            let (all, alive) = foreign;
            let own = summary.alive.saturating_sub(alive);
            Turnover { created: after.saturating_sub(all), ended: before.saturating_sub(all).saturating_sub(own) }
        });
        self.losses.not_read = not_read;
        summary.left_out += left_out + repeated as u64;
        self.losses.left_out = self.losses.left_out.max(summary.left_out);
        // Nothing is known of what was not looked at.
        self.previous = is_whole.then_some(clock.now);
        summary.took = Duration::from_nanos(clock.later().now.saturating_sub(clock.now));
        Ok(summary)
    }

    /// Looks again at the channels and descriptors that goroutines wait on, and at the queues of semaphores: others may have sent,
    /// received, closed or been woken, though the goroutine has not run. What has changed since it was last told goes into `sink`.
    /// Goroutines that have run are left as they are.
    ///
    /// # Errors
    /// As [`Self::snapshot`].
    pub fn refresh_objects(&mut self, memory: &dyn Memory, sink: &mut dyn GoroutineSink) -> Result<(), ReadError> {
        let len = self.len(memory)?;
        let slots = self.records.len().min(usize::try_from(len).unwrap_or(usize::MAX));
        let runtime = Arc::clone(&self.runtime);
        let clock = Clock::of(self.pid);
        self.objects.timers.begin(true);
        self.objects.semaphores.end_snapshot();
        let mut channels = Channels::new(slots);
        let mut descriptors = Descriptors::new(self.pid);
        let mut batch = Batch::default();
        for start in (0..slots).step_by(CHUNK) {
            if self.costs.is_over(start) {
                // They are as they were seen last.
                break;
            }
            let chunk = chunk(memory, runtime.allgs, start, slots)?;
            let mut gs = read_gs(&runtime, memory, &mut batch, &chunk);
            let class = |g: &G| self.reasons.get(usize::from(g.waitreason)).map(|reason| reason.class);
            if !self.objects.semaphores.is_current() && gs.iter().flatten().filter_map(class).any(Class::is_semaphore) {
                // Whoever has not run until afterwards was in that queue.
                self.objects.semaphores.queues(&runtime, memory);
                gs = read_gs(&runtime, memory, &mut batch, &chunk);
            }
            let (places, waiters): (Vec<(u32, bool)>, Vec<Waiter>) = chunk
                .iter()
                .zip(gs)
                .filter_map(|(&(slot, _), g)| {
                    let g = g?;
                    let known = self.records.get(slot as usize)?;
                    let is_same = known.id != 0 && known.signature == g.signature();
                    let reason = self.reasons.get(usize::from(g.waitreason)).filter(|_| is_same)?;
                    if reason.class == Class::Descriptor
                        && let Some((fd, access)) = objects::marked_descriptor(known.object)
                    {
                        let words = descriptors.describe(fd).words;
                        sink.set_object(slot, GoObject::Descriptor { fd, access, words });
                    }
                    if reason.class.is_semaphore()
                        && let Some(queues) = self.objects.semaphores.queues(&runtime, memory)
                    {
                        sink.set_queue(slot, queues.of(g.address).and_then(|waiting| waiting.place));
                    }
                    Some(((slot, g.bubble != 0), objects::waiter(&g, reason.class)?))
                })
                .unzip();
            let read = channels.read(&runtime, memory, &mut self.objects.timers, &waiters);
            for (((slot, in_bubble), waiter), found) in places.into_iter().zip(&waiters).zip(read) {
                if !found.is_empty() && !in_bubble {
                    let (until_ns, period_ns) = objects::first(clock, &found);
                    sink.set_timer(slot, until_ns, period_ns);
                }
                let object = objects::object(waiter, found.into_iter().map(|(channel, _)| channel).collect());
                let fingerprint = objects::fingerprint(&object);
                let Some(known) = self.records.get_mut(slot as usize) else { continue };
                // None could be read: it is just about to go on.
                if fingerprint != 0 && fingerprint != known.object {
                    known.object = fingerprint;
                    sink.set_object(slot, object);
                }
            }
        }
        self.objects.semaphores.end_snapshot();
        self.losses.channels_cut += channels.cut;
        self.losses.timers_left_out = self.losses.timers_left_out.max(self.objects.timers.left_out);
        Ok(())
    }

    /// The timers that are pending now and for which no goroutine waits, by what they are for. Costs some 100 ns for each timer.
    pub fn pending_timers(&mut self, memory: &dyn Memory, stacks: &mut StackTable) -> Vec<TimerSample> {
        let runtime = Arc::clone(&self.runtime);
        let pending = self.objects.timers.pending(&runtime, memory, Clock::of(self.pid));
        self.losses.timers_left_out = self.losses.timers_left_out.max(self.objects.timers.left_out);
        let sample = |group: timers::Pending| TimerSample {
            usage: group.usage,
            callback: (group.function != 0).then(|| stacks.intern(Stack::of_function(group.function))),
            count: group.count,
            soonest_ms: group.soonest_ms,
            latest_ms: group.latest_ms,
            periodic: group.periodic,
        };
        pending.into_iter().map(sample).collect()
    }

    /// Those of some slots whose goroutines have not run since the last snapshot.
    #[must_use]
    pub fn still_waiting(&self, memory: &dyn Memory, slots: &[u32]) -> HashSet<u32> {
        let Some([list, len]) = memory.words(self.runtime.allgs) else { return HashSet::new() };
        let slots: Vec<u32> = slots.iter().copied().filter(|&slot| u64::from(slot) < len).collect();
        let places: Vec<u64> = slots.iter().map(|&slot| list.saturating_add(8 * u64::from(slot))).collect();
        let pieces: Vec<(u32, u64)> =
            slots.into_iter().zip(memory.each_word(&places)).filter_map(|(slot, g)| Some((slot, g?))).collect();
        let mut still = HashSet::new();
        let mut batch = Batch::default();
        for chunk in pieces.chunks(CHUNK) {
            for (&(slot, _), g) in chunk.iter().zip(read_gs(&self.runtime, memory, &mut batch, chunk)) {
                let known = self.records.get(slot as usize);
                let is_same =
                    g.zip(known).is_some_and(|(g, known)| known.id == g.id && known.signature == g.signature());
                still.extend(is_same.then_some(slot));
            }
        }
        still
    }

    /// The runtime's threads as they were at the last snapshot; `None` if the list of all of them is not known.
    #[must_use]
    pub fn threads(&self) -> Option<&[MThread]> {
        self.threads.is_whole.then_some(self.threads.list.as_slice())
    }

    /// The goroutines that were in a system call or in C code at the last snapshot, and still are in the same: what their threads
    /// were seen doing in between, they did for these goroutines. To be called after the threads were looked at.
    #[must_use]
    pub fn confirm_syscalls(&self, memory: &dyn Memory) -> Vec<InSyscall> {
        let pieces: Vec<(u32, u64)> = self.in_syscalls.iter().map(|one| (one.slot, one.address)).collect();
        let gs = read_gs(&self.runtime, memory, &mut Batch::default(), &pieces);
        let still = self.in_syscalls.iter().zip(gs);
        still.filter(|(one, g)| g.is_some_and(|g| g.signature() == one.signature)).map(|(one, _)| *one).collect()
    }

    /// The goroutines that C has called, as they were at the last snapshot.
    pub fn callbacks(&self) -> impl Iterator<Item = &Callback> {
        self.callbacks.values()
    }

    /// Those of some callbacks that have not run since they were seen.
    #[must_use]
    pub fn confirm_callbacks(&self, memory: &dyn Memory) -> Vec<Callback> {
        let callbacks: Vec<Callback> = self.callbacks.values().copied().collect();
        let pieces: Vec<(u32, u64)> = callbacks.iter().map(|one| (one.slot, one.address)).collect();
        let gs = read_gs(&self.runtime, memory, &mut Batch::default(), &pieces);
        let still = callbacks.into_iter().zip(gs);
        still.filter(|(one, g)| g.is_some_and(|g| g.signature() == one.signature)).map(|(one, _)| one).collect()
    }

    /// What was not seen so far.
    #[must_use]
    pub fn losses(&self) -> Losses {
        self.losses
    }

    /// The runtime that is read.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Takes out of a chunk what leads to a `g` that is in the list already; returns how many these are. `known`: how many slots were
    /// looked at before.
    fn leave_out_repeated(&mut self, chunk: &mut Vec<(u32, u64)>, known: usize) -> usize {
        let len = chunk.len();
        for &(slot, address) in chunk.iter() {
            if slot as usize >= known && !self.addresses.insert(address) {
                self.repeated.insert(slot);
            }
        }
        if !self.repeated.is_empty() {
            chunk.retain(|(slot, _)| !self.repeated.contains(slot));
        }
        len - chunk.len()
    }

    /// How long the list of goroutines is.
    fn len(&self, memory: &dyn Memory) -> Result<u64, ReadError> {
        memory.words(self.runtime.allgs).map(|[_, len]: [u64; 2]| len).ok_or(ReadError::List(self.runtime.allgs))
    }

    fn context<'a>(&self, runtime: &'a Runtime, memory: &'a dyn Memory, clock: Clock, slots: usize) -> Context<'a> {
        let (channels, descriptors) = (Channels::new(slots), Descriptors::new(self.pid));
        Context { runtime, memory, clock, channels, descriptors }
    }
}

/// The slots from `start` on, and the addresses of the `g`s in them.
fn chunk(memory: &dyn Memory, allgs: u64, start: usize, slots: usize) -> Result<Vec<(u32, u64)>, ReadError> {
    let mut pointers = vec![0; 8 * CHUNK.min(slots - start)];
    for _ in 0..ATTEMPTS {
        let Some([list]) = memory.words(allgs) else { break };
        let is_read = memory.read(list.saturating_add(8 * start as u64), &mut pointers) == pointers.len();
        // When the list grows, it moves, and what was there before is used for something else.
        if memory.words(allgs) == Some([list]) && is_read {
            let pointers = pointers.chunks_exact(8).filter_map(|bytes| word_at(bytes, 0_u16));
            return Ok((start as u32..).zip(pointers).collect());
        }
    }
    Err(ReadError::List(allgs))
}

fn read_gs(runtime: &Runtime, memory: &dyn Memory, batch: &mut Batch, slots: &[(u32, u64)]) -> Vec<Option<G>> {
    let size = usize::from(runtime.layout.g.size);
    let pieces: Vec<Piece> = slots.iter().map(|&(_, address)| Piece { address, len: size }).collect();
    batch.read(memory, &pieces);
    let parse = |(n, &(_, address)): (usize, &(u32, u64))| G::parse(&runtime.layout.g, address, batch.get(n));
    slots.iter().enumerate().map(parse).collect()
}
