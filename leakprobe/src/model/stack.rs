//! Stacks before they are symbolised: code addresses, each distinct stack held once.

use std::{collections::HashMap, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pool::{Pool, Share};

/// How the reading of a stack ended. Everything but [`StackEnd::Complete`] means that outer frames are, or may be, missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StackEnd {
    /// The outermost frame was reached.
    Complete,
    /// Memory ended before the stack did: it is deeper than what was read.
    TooDeep,
    /// No unwind information led on from the last frame.
    NoUnwindInfo,
    /// The last frame can only be left by a register that is not known: without BPF only two of them are.
    RegisterUnknown,
    /// There is no stack: the task was running, so its registers are not at rest.
    Running,
    /// There is no stack: the task ran each time that we read it.
    Unstable,
    /// There is no stack: the memory could not be read.
    Unreadable,
    /// There is no stack: those that were kept by then may take no more memory.
    LeftOut,
    /// There is no stack: the task runs 32-bit code, whose stacks are not read.
    ThirtyTwoBit,
    /// There is no stack: the task is a kernel worker or has exited.
    None,
}

impl StackEnd {
    /// What a report says about it; empty for a complete stack.
    #[must_use]
    pub const fn explain(self) -> &'static str {
        match self {
            Self::Complete => "",
            Self::TooDeep => "stack is deeper than what was read",
            Self::NoUnwindInfo => "no unwind information for the last frame",
            Self::RegisterUnknown => "the last frame can only be left by a register that /proc does not tell",
            Self::Running => "was running: no stack while it runs",
            Self::Unstable => "ran each time it was read",
            Self::Unreadable => "stack memory could not be read",
            Self::LeftOut => "not kept: the stacks of one run may take no more memory",
            Self::ThirtyTwoBit => "runs 32-bit code, whose stacks are not read",
            Self::None => "has no user stack",
        }
    }
}

/// Whose stack it is, which decides what its addresses mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StackKind {
    /// A thread's: the first address is where it is, the others are return addresses.
    Thread,
    /// A goroutine's that does not run: all are return addresses, as all that it left off at is a call.
    Goroutine,
    /// As `runtime.Callers` has saved it: return addresses, one for each function, inlined ones as well.
    Callers,
    /// A thread's in the kernel, below its own: all are return addresses.
    Kernel,
    /// The `go` statement that created a goroutine: the one address that its call returns to.
    GoStatement,
    /// A function that nobody is in: the one address is its entry.
    Function,
}

/// A stack: code addresses, innermost first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stack {
    /// What the addresses mean.
    pub kind: StackKind,
    /// The addresses, as they were in the target's memory.
    pub addresses: Vec<u64>,
    /// How the reading ended.
    pub end: StackEnd,
}

impl Stack {
    /// A thread's stack.
    #[must_use]
    pub const fn of_thread(addresses: Vec<u64>, end: StackEnd) -> Self {
        Self { kind: StackKind::Thread, addresses, end }
    }

    /// A thread's stack in the kernel.
    #[must_use]
    pub const fn of_kernel(addresses: Vec<u64>) -> Self {
        Self { kind: StackKind::Kernel, addresses, end: StackEnd::Complete }
    }

    /// A goroutine's stack.
    #[must_use]
    pub const fn of_goroutine(addresses: Vec<u64>, end: StackEnd) -> Self {
        Self { kind: StackKind::Goroutine, addresses, end }
    }

    /// A stack as `runtime.Callers` has saved it.
    #[must_use]
    pub const fn of_callers(addresses: Vec<u64>, end: StackEnd) -> Self {
        Self { kind: StackKind::Callers, addresses, end }
    }

    /// Where a goroutine was created: `address` is what the call of its `go` statement returns to.
    #[must_use]
    pub fn of_go_statement(address: u64) -> Self {
        Self { kind: StackKind::GoStatement, addresses: vec![address], end: StackEnd::Complete }
    }

    /// A function that nobody is in, e.g. one that a timer is to call, by its entry.
    #[must_use]
    pub fn of_function(entry: u64) -> Self {
        Self { kind: StackKind::Function, addresses: vec![entry], end: StackEnd::Complete }
    }

    /// Whether the address at this depth is a return address: the call is before it.
    #[must_use]
    pub const fn is_return(&self, depth: usize) -> bool {
        depth > 0 || !matches!(self.kind, StackKind::Thread | StackKind::Function)
    }
}

/// A stack in a [`StackTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(u32);

impl StackId {
    /// Its place in the table's order.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Holds each distinct stack once: a million parked tasks at a few hundred sites need a few hundred stacks.
///
/// A program can make new ones as long as it is watched, so there are limits: 128 MiB, and what all targets of a run leave of the pool
/// that they share. What comes later is a stack without addresses, with [`StackEnd::LeftOut`], and is counted.
#[derive(Debug)]
pub struct StackTable {
    ids: HashMap<Arc<Stack>, StackId>,
    stacks: Vec<Arc<Stack>>,
    /// What they take, bytes.
    size: Share,
    left_out: u64,
}

/// Most that the stacks of a target take, bytes.
const MOST: u64 = 128 << 20;
/// What they may take however little is left for it, bytes: some 400 stacks.
const FLOOR: u64 = 256 << 10;
/// What an address takes, with its frame once it is symbolised, bytes.
const OF_ADDRESS: usize = size_of::<u64>() + 2 * size_of::<u32>();
/// What a stack takes besides its addresses, bytes.
const BESIDES: usize = 384;

impl Default for StackTable {
    /// One that shares with nobody.
    fn default() -> Self {
        Self::within(&Pool::new(2 * MOST))
    }
}

impl StackTable {
    /// One that has a share of this memory.
    #[must_use]
    pub fn within(kept: &Pool) -> Self {
        Self { ids: HashMap::new(), stacks: Vec::new(), size: kept.share(FLOOR), left_out: 0 }
    }

    /// The id of `stack`, which is stored if it is new.
    pub fn intern(&mut self, stack: Stack) -> StackId {
        if let Some(&id) = self.ids.get(&stack) {
            return id;
        }
        // Those that stand for others are few.
        if stack.end != StackEnd::LeftOut && !self.has_room(&stack) {
            self.left_out += 1;
            return self.intern(Stack { addresses: Vec::new(), end: StackEnd::LeftOut, ..stack });
        }
        let id = StackId(u32::try_from(self.stacks.len()).unwrap_or(u32::MAX));
        let stack = Arc::new(stack);
        self.stacks.push(Arc::clone(&stack));
        self.ids.insert(stack, id);
        id
    }

    /// Takes what a new one takes, if there is so much.
    fn has_room(&self, stack: &Stack) -> bool {
        let more = (BESIDES + OF_ADDRESS * stack.addresses.len()) as u64;
        self.size.amount() + more <= MOST && self.size.grow(more).is_ok()
    }

    /// As [`Self::intern`]; nothing is copied unless it is new.
    pub fn intern_ref(&mut self, stack: &Stack) -> StackId {
        match self.ids.get(stack) {
            Some(&id) => id,
            None => self.intern(stack.clone()),
        }
    }

    /// From now on equal addresses may mean other code: the process has begun another program, or a library was loaded where
    /// another one was. What is held stays.
    pub fn forget_addresses(&mut self) {
        self.ids.clear();
    }

    /// The stack with that id.
    #[must_use]
    pub fn get(&self, id: StackId) -> Option<&Stack> {
        self.stacks.get(id.0 as usize).map(AsRef::as_ref)
    }

    /// How often a stack was not kept because of the limit.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// How many distinct stacks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stacks.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stacks.is_empty()
    }

    /// All stacks with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (StackId, &Stack)> {
        (0..).map(StackId).zip(self.stacks.iter().map(AsRef::as_ref))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_stacks_are_held_once() {
        let mut table = StackTable::default();
        let stack = Stack::of_thread(vec![1, 2, 3], StackEnd::Complete);
        let first = table.intern(stack.clone());
        let cut = table.intern(Stack { end: StackEnd::TooDeep, ..stack.clone() });
        assert_eq!(table.intern(stack.clone()), first);
        assert_ne!(cut, first, "a cut stack is another stack");
        assert_eq!(table.get(first), Some(&stack));
        assert_ne!(
            table.intern(Stack::of_goroutine(vec![1, 2, 3], StackEnd::Complete)),
            first,
            "addresses mean another"
        );
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn what_stacks_take_is_limited() {
        let mut table = StackTable::default();
        let stack = |n: u64| Stack::of_thread((n..n + 1000).collect(), StackEnd::Complete);
        let first = table.intern(stack(0));
        let fit = MOST as usize / (1000 * OF_ADDRESS + BESIDES);
        for n in 1..fit as u64 {
            table.intern(stack(n));
        }
        assert_eq!((table.len(), table.left_out()), (fit, 0));
        let left_out = table.intern(stack(fit as u64));
        assert_eq!(table.get(left_out), Some(&Stack::of_thread(Vec::new(), StackEnd::LeftOut)));
        assert_eq!(table.intern_ref(&stack(fit as u64 + 1)), left_out);
        assert_eq!((table.len(), table.left_out()), (fit + 1, 2));
        assert_eq!(table.intern(stack(0)), first, "what is kept stays so");
    }

    #[test]
    fn what_the_stacks_of_all_targets_take_is_limited_and_each_has_some() {
        let stack = |n: u64| Stack::of_thread((n..n + 20).collect(), StackEnd::Complete);
        let kept = Pool::new(16 << 20);
        let mut tables: Vec<StackTable> = (0..7).map(|_| StackTable::within(&kept)).collect();
        for n in 0..20_000 {
            tables.iter_mut().for_each(|table| {
                table.intern(stack(n));
            });
        }
        let taken: u64 = tables.iter().map(|table| table.size.amount() - FLOOR).sum();
        assert!(taken <= 16 << 20 && tables.iter().all(|table| table.left_out() > 0), "{taken}");
        let mut late = StackTable::within(&kept);
        (0..300).for_each(|n| {
            late.intern(stack(n));
        });
        assert_eq!((late.len(), late.left_out()), (300, 0), "a common target notices nothing");
    }
}
