//! What reading the goroutines of all runtimes of one process may cost, however many it has: each library that is written in Go has a
//! runtime of its own, and the target decides how many there are.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    pool::{Pool, Share},
    target::Budget,
};

/// Once a run is to end, goroutines are read for so long at most: a last look at those of nearly every program.
const AFTER_THE_END: Duration = Duration::from_millis(300);
/// So many of each runtime are read however long ago the run was to end, on a machine that is busy: some 10 ms.
pub(super) const READ_AT_LEAST: usize = super::CHUNK;

/// Most goroutines, dead ones included, that are looked at: others are counted.
const SLOTS: u64 = 4_000_000;
/// About what each of them takes, here and in the live table, bytes.
const OF_SLOT: u64 = 256;
/// So many can be looked at however little memory is left for it.
const SLOTS_AT_LEAST: u64 = 1024;
/// Most goroutines that cannot be read, or are listed twice, after which a snapshot looks at no others: what they cost is not worth it,
/// and a list of the runtime's own leads to none.
pub(super) const UNREAD: u64 = 1 << 14;
/// Frames beyond [`super::unwind::FEWER_FRAMES`] of a stack that one snapshot follows, over all its stacks: 32 MB of addresses, and some
/// 50 ms, even if each of a million goroutines is endlessly deep.
pub(super) const DEEP_FRAMES: u64 = 4 << 20;
/// Frames that one snapshot follows before it follows [`super::unwind::FEWEST_FRAMES`] of each stack alone, as few programs with a
/// million goroutines have: some 100 ms.
pub(super) const FRAMES: u64 = 16 << 20;
/// Bytes of stacks that one snapshot reads beyond what it reads of each at first: 4 KiB of each of a million, more than most have, and
/// some 1 s.
pub(super) const STACK_BYTES: u64 = 4 << 30;
/// Most labels and buckets of labels that one snapshot reads: each is one or two calls of the kernel.
const LABELS_READ: u64 = 1 << 19;
/// Most ancestors that one snapshot reads: each takes some 2 µs.
const ANCESTORS_READ: u64 = 1 << 20;
/// Most deferred calls that one snapshot looks at: each can be a call of the kernel.
const DEFERS_READ: u64 = 1 << 22;
/// Most bytes that what goroutines have besides their stacks and waits may take, of each kind.
const DETAIL_BYTES: u64 = 32 << 20;
/// So many of them can be had however little memory is left for it.
const DETAIL_FLOOR: u64 = 32 << 10;
/// Most channels of timers and of deadlines that are remembered.
const CHANNELS: u64 = 5 << 18;
/// About what each of them takes, bytes.
pub(super) const OF_CHANNEL: u64 = 48;

/// So much of something, for all runtimes of a process together. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    left: Arc<AtomicU64>,
    most: u64,
    /// Where it is memory: what it is taken from, which all targets share.
    kept: Option<Arc<Share>>,
}

impl Allowance {
    /// Nothing of it is taken yet.
    pub(super) fn new(most: u64) -> Self {
        Self { left: Arc::new(AtomicU64::new(most)), most, kept: None }
    }

    /// The same of this memory, bytes.
    fn of(kept: &Pool, most: u64) -> Self {
        Self { kept: Some(Arc::new(kept.share(DETAIL_FLOOR))), ..Self::new(most) }
    }

    /// What is left.
    pub(super) fn left(&self) -> u64 {
        let left = self.left.load(Ordering::Relaxed);
        self.kept.as_ref().map_or(left, |kept| kept.left().min(left))
    }

    /// Takes all of `amount`, or nothing if there is not so much left. Returns whether it was taken.
    pub(super) fn take(&self, amount: u64) -> bool {
        if self.left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(amount)).is_err() {
            return false;
        }
        let is_there = self.kept.as_ref().is_none_or(|kept| kept.grow(amount).is_ok());
        if !is_there {
            self.add(amount);
        }
        is_there
    }

    /// Takes `amount`, or what is left of it. Returns how much.
    pub(super) fn take_up_to(&self, amount: u64) -> u64 {
        let left = self.left.update(Ordering::Relaxed, Ordering::Relaxed, |left| left.saturating_sub(amount));
        let wanted = left.min(amount);
        let taken = self.kept.as_ref().map_or(wanted, |kept| kept.grow_up_to(wanted));
        self.add(wanted - taken);
        taken
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&self, amount: u64) {
        if let Some(kept) = &self.kept {
            kept.shrink(amount);
        }
        self.add(amount);
    }

    fn add(&self, amount: u64) {
        self.left.update(Ordering::Relaxed, Ordering::Relaxed, |left| left.saturating_add(amount).min(self.most));
    }

    /// Gives back all that was taken.
    fn renew(&self) {
        self.left.store(self.most, Ordering::Relaxed);
    }
}

/// What is left of it; the same for all runtimes of a process.
#[derive(Debug)]
pub struct Costs {
    budget: Budget,
    /// Of one snapshot.
    pub(super) slots: Allowance,
    pub(super) unread: Allowance,
    pub(super) deep_frames: Allowance,
    pub(super) frames: Allowance,
    pub(super) stack_bytes: Allowance,
    pub(super) labels_read: Allowance,
    pub(super) ancestors_read: Allowance,
    pub(super) defers_read: Allowance,
    /// Of memory, bytes.
    pub(super) label_bytes: Allowance,
    pub(super) ancestor_bytes: Allowance,
    pub(super) lock_bytes: Allowance,
    pub(super) channel_bytes: Allowance,
}

/// The memory for the goroutines of one runtime.
#[derive(Debug)]
pub(super) struct Slots(Share);

impl Slots {
    /// Takes it for `slots`, or as many as there is memory for; returns for how many.
    pub(super) fn set_up_to(&self, slots: u64) -> u64 {
        self.0.set_up_to(slots.saturating_mul(OF_SLOT)) / OF_SLOT
    }
}

impl Default for Costs {
    fn default() -> Self {
        Self::new(Budget::default())
    }
}

impl Costs {
    /// For a process of a run that has this budget.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        let of_memory = |most| Allowance::of(budget.kept(), most);
        Self {
            label_bytes: of_memory(DETAIL_BYTES),
            ancestor_bytes: of_memory(DETAIL_BYTES),
            lock_bytes: of_memory(DETAIL_BYTES),
            channel_bytes: of_memory(CHANNELS * OF_CHANNEL),
            budget,
            slots: Allowance::new(SLOTS),
            unread: Allowance::new(UNREAD),
            deep_frames: Allowance::new(DEEP_FRAMES),
            frames: Allowance::new(FRAMES),
            stack_bytes: Allowance::new(STACK_BYTES),
            labels_read: Allowance::new(LABELS_READ),
            ancestors_read: Allowance::new(ANCESTORS_READ),
            defers_read: Allowance::new(DEFERS_READ),
        }
    }

    /// The memory for the goroutines of one of the runtimes.
    pub(super) fn memory_of_slots(&self) -> Slots {
        Slots(self.budget.kept().share(SLOTS_AT_LEAST * OF_SLOT))
    }

    /// To be called before a snapshot of all runtimes.
    pub fn begin_snapshot(&self) {
        let Self { slots, unread, deep_frames, frames, stack_bytes, labels_read, ancestors_read, defers_read, .. } =
            self;
        let each = [slots, unread, deep_frames, frames, stack_bytes, labels_read, ancestors_read, defers_read];
        each.into_iter().for_each(Allowance::renew);
    }

    /// Whether it is time to give up what is not read yet of a runtime of which so many goroutines were read.
    pub(super) fn is_over(&self, read: usize) -> bool {
        read >= READ_AT_LEAST && self.budget.is_over(AFTER_THE_END)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::budget::Limits;

    #[test]
    fn what_one_runtime_takes_another_does_not_have() {
        let (one, most) = (Allowance::new(10), 10);
        let other = one.clone();
        assert!(one.take(7) && !other.take(4) && other.take(2));
        assert_eq!((other.left(), one.take_up_to(5), one.take_up_to(5)), (1, 1, 0));
        other.give_back(3);
        assert_eq!(one.left(), 3);
        other.give_back(u64::MAX);
        assert_eq!(one.left(), most);
    }

    #[test]
    fn each_snapshot_has_as_much_to_spend_and_no_more_memory() {
        let costs = Costs::default();
        assert!(costs.frames.take(FRAMES) && costs.label_bytes.take(DETAIL_BYTES));
        costs.begin_snapshot();
        assert_eq!((costs.frames.left(), costs.label_bytes.left()), (FRAMES, 0));
    }

    #[test]
    fn memory_is_that_of_all_targets_and_each_has_some() {
        let limits = Limits { kept: 64 << 10, ..Limits::of_memory(0) };
        let (one, budget) = (Costs::new(Budget::new(limits)), Budget::new(limits));
        let two_thirds = |of: u64| of / 3 * 2;
        assert_eq!(one.label_bytes.take_up_to(u64::MAX), DETAIL_FLOOR + two_thirds(limits.kept));
        assert_eq!((one.label_bytes.left(), one.label_bytes.take(1)), (0, false));
        one.label_bytes.give_back(10);
        assert_eq!((one.label_bytes.take(11), one.label_bytes.take(10)), (false, true));
        let [greedy, late] = [Costs::new(budget.for_target()), Costs::new(budget.for_target())];
        let slots = greedy.memory_of_slots();
        let more = two_thirds(limits.kept);
        assert_eq!(slots.set_up_to(u64::MAX), SLOTS_AT_LEAST + more / OF_SLOT);
        let less = two_thirds(limits.kept - more);
        assert_eq!(late.memory_of_slots().set_up_to(SLOTS), SLOTS_AT_LEAST + less / OF_SLOT);
        assert_eq!((slots.set_up_to(7), budget.kept().left()), (7, 64 << 10));
    }
}
