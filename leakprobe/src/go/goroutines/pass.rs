//! One snapshot on its way through the goroutines.

use std::collections::HashSet;

use super::{
    Goroutines, InSyscall, Record,
    batch::Batch,
    callbacks::{self, Call, Callback},
    defers::Held,
    g::G,
    objects::{Blocked, Context, Found},
    read_gs, stack_words,
    unwind::{self, Outcome},
    waits::{Class, Reason},
};
use crate::{
    go::memory::Words,
    model::{GoObject, GoStatus, GoWait, GoroutineSample, GoroutineSink, Stack, StackEnd, StackTable},
    target::Piece,
};

/// Bytes of each stack that are read at first: parked goroutines seldom use more.
const FIRST_READ: usize = 512;
/// Most bytes of stacks that are held at one time.
const MAX_BYTES: usize = 4 << 20;

/// What lasts for one snapshot.
pub(super) struct Pass<'a> {
    pub(super) engine: &'a mut Goroutines,
    pub(super) context: Context<'a>,
    /// Slots that could not be read in the snapshot before.
    pub(super) unread: HashSet<u32>,
    pub(super) stacks: &'a mut StackTable,
    pub(super) sink: &'a mut dyn GoroutineSink,
    pub(super) summary: &'a mut super::Summary,
    /// Of goroutines that were not begun, but stand for threads that call Go from C, how many there are, and how many are alive.
    pub(super) foreign: (u64, u64),
    /// Whether each goroutine is seen for the first time.
    pub(super) is_first: bool,
    /// Slots that are to be tried again, with the addresses of their `g`s.
    pub(super) again: Vec<(u32, u64)>,
    /// Slots that were looked at before those that are looked at now.
    pub(super) read: usize,
    /// Goroutines that were not read, since the run was to end.
    pub(super) given_up: u64,
    /// Whether what is unstable is given up.
    pub(super) is_last: bool,
    /// For what is read, so that not every chunk has to ask for memory.
    pub(super) gs: Batch,
    pub(super) stack_bytes: Batch,
}

/// A goroutine that is to be looked at.
#[derive(Clone, Copy, Debug)]
struct Item {
    slot: u32,
    g: G,
    status: GoStatus,
    /// Bytes of its stack that are read.
    want: usize,
}

/// What an unwind brought: places in vectors that all of a group share.
#[derive(Clone, Copy, Debug)]
struct Unwound {
    outcome: Outcome,
    begin: usize,
    end: usize,
}

impl Item {
    fn has_stack(&self) -> bool {
        !matches!(self.status, GoStatus::Running | GoStatus::Idle)
    }

    /// The part of its stack that is read: not more than there is.
    fn piece(&self) -> Piece {
        let (_, sp) = self.g.start();
        let used = self.g.stack_hi.saturating_sub(sp);
        let len = usize::try_from(used).unwrap_or(usize::MAX).min(self.want);
        Piece { address: sp, len: if self.has_stack() { len } else { 0 } }
    }

    /// The same goroutine, with more of its stack: at least so many bytes.
    fn deeper(&self, want: usize) -> Self {
        Self { want: want.max(8 * self.want), ..*self }
    }
}

impl Pass<'_> {
    /// Whether no more is to be read.
    pub(super) fn is_over(&self) -> bool {
        self.engine.costs.is_over(self.read)
    }

    /// Looks at these slots: finds out which have changed, and tells what has become of them.
    pub(super) fn look(&mut self, slots: &[(u32, u64)]) {
        let mut gs = read_gs(self.context.runtime, self.context.memory, &mut self.gs, slots);
        if !self.engine.objects.semaphores.is_current() && self.asks_for_queues(slots, &gs) {
            // That takes a while, in which many of them run.
            self.engine.objects.semaphores.queues(self.context.runtime, self.context.memory);
            gs = read_gs(self.context.runtime, self.context.memory, &mut self.gs, slots);
        }
        // Whatever is found to wait, has waited at this moment.
        self.context.clock = self.context.clock.later();
        let mut items = Vec::new();
        for (&(slot, address), g) in slots.iter().zip(gs) {
            let Some(g) = g else {
                // A place of the list that is not filled yet has no address.
                if address != 0 {
                    self.engine.losses.unreadable += 1;
                    self.engine.unread.insert(slot);
                }
                continue;
            };
            let status = g.status();
            if self.is_first && g.is_foreign() {
                self.foreign.0 += 1;
                self.foreign.1 += u64::from(status.is_some());
            }
            let Some(status) = status else {
                self.forget(slot);
                continue;
            };
            let Some(known) = self.engine.records.get(slot as usize) else { continue };
            if known.id == g.id && known.signature == g.signature() && status != GoStatus::Running {
                self.summary.count(status);
                if status == GoStatus::Syscall {
                    self.note_syscall(slot, &g);
                }
                continue;
            }
            if status == GoStatus::Copystack && !self.is_last {
                self.again.push((slot, address));
                continue;
            }
            items.push(Item { slot, g, status, want: FIRST_READ });
        }
        let ms: Vec<u64> = items.iter().map(|item| item.g.m).collect();
        let layout = &self.context.runtime.layout;
        self.engine.threads.add(&layout.m, &layout.g, self.context.memory, &ms);
        while !items.is_empty() {
            if self.is_over() {
                self.given_up += items.len() as u64;
                return;
            }
            let mut bytes = 0;
            let fits = |item: &&Item| {
                bytes += item.want;
                bytes <= MAX_BYTES.max(item.want)
            };
            let count = items.iter().take_while(fits).count().max(1);
            let rest = items.split_off(count.min(items.len()));
            let deeper = self.look_at(&items);
            items = rest;
            items.extend(deeper);
        }
    }

    /// Whether one of these goroutines has begun to wait for a semaphore.
    fn asks_for_queues(&self, slots: &[(u32, u64)], gs: &[Option<G>]) -> bool {
        slots.iter().zip(gs).any(|(&(slot, _), g)| {
            let known = self.engine.records.get(slot as usize);
            let new = g.filter(|g| known.is_none_or(|known| known.id != g.id || known.signature != g.signature()));
            let waits = new.filter(|g| matches!(g.status(), Some(GoStatus::Waiting | GoStatus::Leaked)));
            let reason = waits.and_then(|g| self.engine.reasons.get(usize::from(g.waitreason)));
            reason.is_some_and(|reason| reason.class.is_semaphore())
        })
    }

    /// Reads stacks and objects of goroutines, and tells of those that have not run meanwhile. Returns those whose stacks are
    /// deeper.
    fn look_at(&mut self, items: &[Item]) -> Vec<Item> {
        let mut stacks = std::mem::take(&mut self.stack_bytes);
        stacks.read(self.context.memory, &items.iter().map(Item::piece).collect::<Vec<_>>());
        let (mut addresses, mut ends) = (Vec::with_capacity(8 * items.len()), Vec::with_capacity(8 * items.len()));
        let mut deeper = Vec::new();
        let unwound: Vec<Unwound> = items
            .iter()
            .enumerate()
            .map(|(n, item)| self.unwind(item, stacks.get(n), &mut addresses, &mut ends))
            .collect();
        let mut blocked = Vec::new();
        let mut places = Vec::new();
        let mut holds = vec![Held::default(); items.len()];
        for (n, (item, unwound)) in items.iter().zip(&unwound).enumerate() {
            if let Outcome::More(_) = unwound.outcome {
                continue;
            }
            let range = unwound.begin..unwound.end;
            let stack = stack_words::Stack {
                g: item.g.address,
                lo: item.g.stack_lo,
                hi: item.g.stack_hi,
                bytes: stacks.get(n),
                addresses: addresses.get(range.clone()).unwrap_or_default(),
                ends: ends.get(range).unwrap_or_default(),
            };
            let (_, sp) = item.g.start();
            holds[n] = self.engine.defers.held(self.context.runtime, self.context.memory, sp, &stack);
            let Some(reason) = self.reason(item) else { continue };
            places.push(n);
            blocked.push(Blocked { g: &item.g, class: reason.class, stack });
        }
        let objects = self.engine.objects.read(&mut self.context, &blocked);
        let mut found = vec![Found::default(); items.len()];
        for (n, object) in places.into_iter().zip(objects) {
            found[n] = object;
        }
        let slots: Vec<(u32, u64)> = items.iter().map(|item| (item.slot, item.g.address)).collect();
        let after = read_gs(self.context.runtime, self.context.memory, &mut self.gs, &slots);
        let mut stack = Stack::of_goroutine(Vec::new(), StackEnd::None);
        for (n, ((item, unwound), (found, after))) in
            items.iter().zip(&unwound).zip(found.into_iter().zip(after)).enumerate()
        {
            if after.is_some_and(|after| after.status().is_none()) {
                self.forget(item.slot);
                continue;
            }
            let is_same = after.is_some_and(|after| after.signature() == item.g.signature());
            let is_moved = item.status == GoStatus::Copystack || !is_same && item.has_stack();
            stack.addresses.clear();
            stack.end = match unwound.outcome {
                _ if is_moved && !self.is_last => {
                    self.again.push((item.slot, item.g.address));
                    continue;
                }
                Outcome::End(_) if found.is_missing && !is_moved && !self.is_last => {
                    self.again.push((item.slot, item.g.address));
                    continue;
                }
                _ if is_moved => StackEnd::Unstable,
                Outcome::More(want) => {
                    deeper.push(item.deeper(want));
                    continue;
                }
                Outcome::End(end) => {
                    stack.addresses.extend(addresses.get(unwound.begin..unwound.end).unwrap_or_default());
                    end
                }
            };
            let holds = holds.get_mut(n).map(std::mem::take).unwrap_or_default();
            self.tell(item, &stack, found, holds);
        }
        self.stack_bytes = stacks;
        deeper
    }

    fn unwind(&mut self, item: &Item, bytes: &[u8], addresses: &mut Vec<u64>, ends: &mut Vec<u32>) -> Unwound {
        let begin = addresses.len();
        let outcome = if item.status == GoStatus::Running {
            Outcome::End(StackEnd::Running)
        } else if !item.has_stack() {
            Outcome::End(StackEnd::None)
        } else if bytes.is_empty() {
            Outcome::End(StackEnd::Unreadable)
        } else {
            let (pc, sp) = item.g.start();
            let is_syscall = item.g.syscallsp != 0;
            let stack = unwind::Memory { pc, sp, is_syscall, hi: item.g.stack_hi, bytes };
            match self.engine.unwinder.unwind(stack, addresses, ends) {
                // More was asked for than could be read.
                Outcome::More(_) if bytes.len() < item.piece().len => Outcome::End(StackEnd::Unreadable),
                Outcome::More(want) if !self.may_read(item.deeper(want)) => Outcome::End(StackEnd::TooDeep),
                outcome => outcome,
            }
        };
        Unwound { outcome, begin, end: addresses.len() }
    }

    /// Whether so much of a stack may be read, in the place of what was read of it at first.
    fn may_read(&self, item: Item) -> bool {
        self.engine.costs.stack_bytes.take(item.piece().len as u64)
    }

    /// There is no goroutine in this slot, or no longer.
    fn forget(&mut self, slot: u32) {
        if let Some(known) = self.engine.records.get_mut(slot as usize).filter(|known| known.id != 0) {
            *known = Record::default();
            self.sink.remove(slot);
            self.engine.callbacks.remove(&slot);
        }
    }

    /// Why a goroutine waits, if it does.
    fn reason(&self, item: &Item) -> Option<Reason> {
        let waits = matches!(item.status, GoStatus::Waiting | GoStatus::Leaked);
        let number = item.g.waitreason;
        waits.then(|| {
            let known = self.engine.reasons.get(usize::from(number)).cloned();
            let reason = known.unwrap_or_else(|| Reason::new(format!("wait reason {number}").into()));
            let in_bubble = item.g.bubble != 0 && item.status == GoStatus::Waiting;
            if in_bubble && self.context.runtime.layout.bubble_id.is_some() { reason.in_bubble() } else { reason }
        })
    }

    /// Tells of a goroutine.
    fn tell(&mut self, item: &Item, stack: &Stack, found: Found, holds: Held) {
        let (g, slot) = (&item.g, item.slot);
        self.summary.count(item.status);
        self.summary.changed += 1;
        self.count_losses(stack.end);
        let is_unstable = stack.end == StackEnd::Unstable;
        let reason = self.reason(item).filter(|_| !is_unstable);
        if found.object == GoObject::None && reason.as_ref().is_some_and(|reason| reason.class.is_semaphore()) {
            self.engine.losses.locks_unknown += 1;
        }
        let (since_ns, not_before_ns) = self.since(slot, g, reason.is_some());
        if let Some(known) = self.engine.records.get_mut(slot as usize) {
            *known = Record {
                id: g.id,
                signature: if is_unstable || found.is_missing { 0 } else { g.signature() },
                since: since_ns,
                not_before: not_before_ns.unwrap_or(0),
                course: if is_unstable { 0 } else { g.course() },
                object: found.mark(),
            };
        }
        let layout = &self.context.runtime.layout;
        let memory = self.context.memory;
        let thread = matches!(item.status, GoStatus::Running | GoStatus::Syscall);
        let callback = self.callback(item, stack);
        // What a thread does that has returned to C is not Go's.
        let is_at_rest = callback.is_some_and(|callback| callback.call.is_none());
        let code = &self.context.runtime.code;
        let system = is_at_rest || self.engine.system.is_system(code, g.startpc, item.status, reason.as_ref());
        match callback {
            Some(callback) => self.engine.callbacks.insert(slot, callback),
            None => self.engine.callbacks.remove(&slot),
        };
        let labels = self.engine.labels.at(layout.labels, memory, g.labels);
        let ancestors = self.engine.ancestors.at(&layout.ancestor, memory, g.ancestors, self.stacks);
        self.engine.losses.details_left_out += u64::from(labels.is_err() || ancestors.is_err() || holds.is_cut);
        let sample = GoroutineSample {
            id: g.id,
            status: item.status,
            wait: reason.map(|reason| GoWait {
                kind: found.kind.unwrap_or_else(|| reason.class.kind()),
                // A select whose channels are all nil has nobody who could wake it.
                forever: reason.class.is_forever() || reason.class == Class::Select && g.waiting == 0,
                reason: reason.text,
                object: found.object,
                since_ns,
                not_before_ns,
                // A bubble has a clock of its own.
                until_ns: found.until_ns.filter(|_| g.bubble == 0),
                period_ns: found.period_ns.filter(|_| g.bubble == 0),
            }),
            stack: self.stacks.intern_ref(stack),
            thread: thread.then(|| self.engine.threads.tid(g.m)).flatten(),
            // What is noted of the first one is where the runtime began.
            creation: (g.gopc != 0 && g.id != 1).then(|| self.stacks.intern_ref(&Stack::of_go_statement(g.gopc))),
            parent: g.parent,
            runs: layout.g.tracking_seq.map(|_| g.tracking_seq),
            system,
            locked: g.lockedm != 0,
            labels: labels.ok().flatten(),
            ancestors: ancestors.ok().flatten(),
            bubble: layout
                .bubble_id
                .filter(|_| g.bubble != 0)
                .and_then(|id| memory.word(g.bubble.checked_add(u64::from(id))?)),
            holds: holds.locks,
        };
        self.sink.put(slot, sample);
        if item.status == GoStatus::Syscall && !is_unstable {
            self.note_syscall(slot, g);
        }
    }

    /// The latest and the earliest moment at which a wait can have begun that is seen now.
    fn since(&self, slot: u32, g: &G, waits: bool) -> (u64, Option<u64>) {
        let Some(known) = self.engine.records.get(slot as usize).filter(|_| waits) else { return (0, None) };
        if known.id == g.id && known.since != 0 && known.course == g.course() {
            return (known.since, Some(known.not_before).filter(|&at| at != 0));
        }
        let not_before = self.engine.previous.filter(|_| !self.unread.contains(&slot));
        let clock = self.context.clock;
        // The runtime's own note is about when its garbage collector first found it waiting.
        let noted = clock.past(g.waitsince).filter(|&at| at >= not_before.unwrap_or(0));
        (noted.map_or(clock.now, |at| at.min(clock.now)), not_before)
    }

    /// What is known of a goroutine that C has called, if it is one and is at rest, or in a call.
    fn callback(&self, item: &Item, stack: &Stack) -> Option<Callback> {
        let g = &item.g;
        let is_one = callbacks::is_callback(g) && item.status != GoStatus::Running && stack.end == StackEnd::Complete;
        // One that waits has left its thread, which waits for it.
        let m = Some(if g.m == 0 { g.lockedm } else { g.m }).filter(|&m| is_one && m != 0)?;
        let runtime = self.context.runtime;
        let call = Call::of(&runtime.code, &runtime.layout, self.context.memory, m, &stack.addresses);
        let thread = self.engine.threads.tid(m)?;
        Some(Callback { id: g.id, thread, call, slot: item.slot, address: g.address, signature: g.signature() })
    }

    fn note_syscall(&mut self, slot: u32, g: &G) {
        let thread = self.engine.threads.tid(g.m);
        let signature = g.signature();
        self.engine.in_syscalls.push(InSyscall { slot, id: g.id, thread, address: g.address, signature });
    }

    fn count_losses(&mut self, end: StackEnd) {
        let losses = &mut self.engine.losses;
        match end {
            StackEnd::Unstable => losses.unstable += 1,
            StackEnd::TooDeep => losses.too_deep += 1,
            StackEnd::NoUnwindInfo | StackEnd::RegisterUnknown => losses.no_unwind_info += 1,
            StackEnd::Unreadable => losses.stack_unreadable += 1,
            StackEnd::Complete | StackEnd::Running | StackEnd::LeftOut | StackEnd::ThirtyTwoBit | StackEnd::None => {}
        }
    }
}
