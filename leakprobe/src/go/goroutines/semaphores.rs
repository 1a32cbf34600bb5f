//! The locks, wait groups and other semaphores that goroutines wait for, and their places in the queues; condition variables, too.
//!
//! Since Go 1.26 a goroutine that waits leads to its `sudog`, which has the address. Before, only the runtime's table of semaphores
//! does ([`Queues`]); the order is there in all versions. The table is read in each round of a snapshot, at another moment than the
//! goroutine, which may have waited elsewhere then. So the `sudog` is read twice more while the goroutine waits. One that names it
//! and the same address both times is its own: a semaphore writes the new `g` before the new address, and this goroutine
//! takes none while it waits.

use std::collections::HashMap;

use super::{
    batch::Batch,
    conds::Conds,
    g::{G, mix},
    queues::Queues,
    semtable,
    stack_words::Stack,
    waits::Primitive,
};
use crate::{
    go::{Code, Layout, Runtime},
    model::{GoObject, QueuePlace},
    target::{Memory, Piece},
};

/// Frames in which the name of the primitive is looked for, if the wait's reason does not say which it is.
const NAMED_WITHIN: usize = 6;
/// Most kinds of stacks whose primitives are remembered.
const MAX_KNOWN: usize = 1 << 12;
/// If the table is not found, it is looked for again in every 2nd, 4th, … snapshot, at least in every 64th.
const MAX_FAILURES: u32 = 6;

/// Finds them.
#[derive(Debug, Default)]
pub(super) struct Semaphores {
    batch: Batch,
    conds: Conds,
    /// By the innermost return addresses.
    by_stack: HashMap<u64, Primitive>,
    table: Table,
    /// Who waits, if somebody has asked in this snapshot.
    queues: Queues,
    /// Whether somebody has asked in this round of it, which may be the last one.
    is_current: bool,
    is_last: bool,
    /// How many goroutines there are, for what a hostile process can make us do.
    goroutines: usize,
}

/// The runtime's table of semaphores.
#[derive(Debug, Default)]
struct Table {
    address: Option<u64>,
    failures: u32,
    /// Snapshots in which it is not looked for.
    pause: u32,
    /// Whether a waiter of this snapshot was in it, and whether one was not.
    has_one: bool,
    lacks_one: bool,
}

/// A goroutine that waits, why, and where.
pub(super) type Waiter<'a> = (&'a G, Primitive, Stack<'a>);

/// What one of them waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) object: GoObject,
    /// It was in no queue: it has begun to wait since these were read, or it is just being woken. To be tried again.
    pub(super) is_missing: bool,
}

/// A waiter's `sudog`.
#[derive(Clone, Copy, Debug)]
struct Own {
    waiter: usize,
    sudog: u64,
    /// What the table has at this `sudog`.
    address: Option<u64>,
}

impl Semaphores {
    /// A snapshot of so many goroutines begins.
    pub(super) fn begin_snapshot(&mut self, goroutines: usize) {
        let table = &mut self.table;
        if table.lacks_one && !table.has_one {
            table.address = None;
        }
        table.pause = table.pause.saturating_sub(1);
        (table.has_one, table.lacks_one) = (false, false);
        self.goroutines = goroutines;
        self.end_snapshot();
    }

    /// The queues are to be read again. In the last round those that change are read once more for whoever is in none.
    pub(super) fn begin_round(&mut self, is_last: bool) {
        (self.is_current, self.is_last) = (false, is_last);
    }

    /// What was read of the queues is of no use any more.
    pub(super) fn end_snapshot(&mut self) {
        self.queues = Queues::default();
        self.begin_round(false);
    }

    /// Whether the queues were read in this round.
    pub(super) fn is_current(&self) -> bool {
        self.is_current
    }

    /// Who waits in the runtime's table of semaphores, as it was when it was first asked for in this round; `None` if the table is
    /// not known.
    pub(super) fn queues(&mut self, runtime: &Runtime, memory: &dyn Memory) -> Option<&Queues> {
        let table = self.table.find(runtime, memory)?;
        if !self.is_current {
            self.queues.read(&runtime.layout.sudog, memory, table, self.goroutines);
            self.is_current = true;
        }
        Some(&self.queues)
    }

    /// What each of these goroutines waits for, if that is certain.
    pub(super) fn read(&mut self, runtime: &Runtime, memory: &dyn Memory, waiters: &[Waiter<'_>]) -> Vec<Found> {
        let mut found = self.look_up(runtime, memory, waiters);
        if self.is_last && found.iter().any(|found| found.is_missing) {
            if let Some(table) = self.table.address {
                self.queues.read_restless(&runtime.layout.sudog, memory, table, self.goroutines);
            }
            let again = self.look_up(runtime, memory, waiters);
            found.iter_mut().zip(again).filter(|(found, _)| found.is_missing).for_each(|(found, again)| *found = again);
        }
        found
    }

    fn look_up(&mut self, runtime: &Runtime, memory: &dyn Memory, waiters: &[Waiter<'_>]) -> Vec<Found> {
        let layout = &runtime.layout;
        let is_asked = waiters.iter().any(|(_, primitive, _)| *primitive != Primitive::Cond);
        let queues = if is_asked { self.queues(runtime, memory) } else { None };
        let is_known = queues.is_some();
        let in_table: Vec<_> = waiters.iter().map(|(g, ..)| queues.and_then(|queues| queues.of(g.address))).collect();
        let own =
            waiters.iter().zip(&in_table).enumerate().filter_map(|(waiter, ((g, primitive, _), in_table))| {
                match (g.waiting, in_table) {
                    (0, Some(waiting)) if *primitive != Primitive::Cond => {
                        Some(Own { waiter, sudog: waiting.sudog, address: Some(waiting.address) })
                    }
                    (0, _) => None,
                    (sudog, _) => Some(Own { waiter, sudog, address: None }),
                }
            });
        let own: Vec<Own> = own.collect();
        let mut addresses = self.addresses(layout, memory, waiters, &own);
        if own.iter().any(|own| own.address.is_some()) {
            let again = self.addresses(layout, memory, waiters, &own);
            addresses.iter_mut().zip(again).for_each(|(first, second)| *first = first.filter(|_| *first == second));
        }
        let is_cond = |n: &usize| {
            waiters.get(*n).is_some_and(|(g, primitive, _)| g.waiting == 0 && *primitive == Primitive::Cond)
        };
        let conds: Vec<usize> = (0..waiters.len()).filter(is_cond).collect();
        if !conds.is_empty() {
            let stacks: Vec<Stack<'_>> = conds.iter().filter_map(|&n| Some(waiters.get(n)?.2)).collect();
            for (n, list) in conds.into_iter().zip(self.conds.read(layout, memory, &stacks)) {
                if let Some(address) = addresses.get_mut(n) {
                    *address = list;
                }
            }
        }
        let mut found = Vec::with_capacity(waiters.len());
        for (((_, primitive, stack), address), in_table) in waiters.iter().zip(addresses).zip(in_table) {
            let is_semaphore = *primitive != Primitive::Cond;
            let primitive = match primitive {
                Primitive::Unknown => named(&runtime.code, &mut self.by_stack, stack.addresses),
                known => *known,
            };
            let place = in_table.filter(|waiting| Some(waiting.address) == address).and_then(|waiting| waiting.place);
            let object = address.and_then(|address| object(layout, primitive, address, place));
            let is_missing = is_known && is_semaphore && address.is_none();
            if is_semaphore {
                self.table.has_one |= in_table.is_some();
                self.table.lacks_one |= in_table.is_none();
            }
            found.push(Found { object: object.unwrap_or_default(), is_missing });
        }
        found
    }

    /// The address that each waiter waits at, by its `sudog`, if that is in a queue now. If the table led to it: only if it still is
    /// in the same queue.
    fn addresses(
        &mut self,
        layout: &Layout,
        memory: &dyn Memory,
        waiters: &[Waiter<'_>],
        own: &[Own],
    ) -> Vec<Option<u64>> {
        let size = usize::from(layout.sudog.size);
        let pieces: Vec<Piece> = own.iter().map(|own| Piece { address: own.sudog, len: size }).collect();
        self.batch.read(memory, &pieces);
        let mut addresses = vec![None; waiters.len()];
        for (index, own) in own.iter().enumerate() {
            let at = |offset| self.batch.word(index, offset);
            let (Some((g, ..)), Some(into)) = (waiters.get(own.waiter), addresses.get_mut(own.waiter)) else {
                continue;
            };
            let is_own = at(layout.sudog.g) == Some(g.address) && at(layout.sudog.c) == Some(0);
            let address = at(layout.sudog.elem).filter(|&address| is_own && address != 0);
            *into = address.filter(|address| own.address.is_none_or(|known| known == *address));
        }
        addresses
    }
}

impl Table {
    fn find(&mut self, runtime: &Runtime, memory: &dyn Memory) -> Option<u64> {
        if self.address.is_none() && self.pause == 0 {
            self.address = semtable::find(runtime, memory);
            if self.address.is_none() {
                self.failures = (self.failures + 1).min(MAX_FAILURES);
                self.pause = 1 << self.failures;
            }
        }
        self.address
    }
}

/// The primitive whose semaphore, or list of waiters, this is; a semaphore by itself where that is not known.
fn object(layout: &Layout, primitive: Primitive, address: u64, queue: Option<QueuePlace>) -> Option<GoObject> {
    let sync = &layout.sync;
    let (name, offset) = match primitive {
        Primitive::Mutex => ("sync.Mutex", sync.mutex_sema),
        Primitive::ReadLock => ("sync.RWMutex", sync.rwmutex_reader),
        Primitive::WriteLock => ("sync.RWMutex", sync.rwmutex_writer),
        Primitive::WaitGroup => ("sync.WaitGroup", sync.waitgroup_sema),
        Primitive::Cond => ("sync.Cond", sync.cond_notify),
        Primitive::Unknown => ("semaphore", 0),
    };
    let address = address.checked_sub(u64::from(offset)).filter(|&base| base != 0 && address.is_multiple_of(4))?;
    Some(GoObject::Sync { name, address, queue })
}

/// The primitive by the function of package sync that waits.
fn named(code: &Code, known: &mut HashMap<u64, Primitive>, addresses: &[u64]) -> Primitive {
    let inner = addresses.get(..NAMED_WITHIN).unwrap_or(addresses);
    let key = mix(inner.iter().copied());
    if let Some(&primitive) = known.get(&key) {
        return primitive;
    }
    let functions = inner.iter().filter_map(|&pc| code.find(pc)?.table.find(pc).map(|function| (function, pc)));
    let primitive = functions
        .flat_map(|(function, pc)| function.frames_at(function.call_pc(pc)))
        .find_map(|frame| match &*frame.name {
            "sync.(*Mutex).Lock" | "sync.(*Mutex).lockSlow" | "internal/sync.(*Mutex).lockSlow" => {
                Some(Primitive::Mutex)
            }
            "sync.(*RWMutex).RLock" => Some(Primitive::ReadLock),
            "sync.(*RWMutex).Lock" => Some(Primitive::WriteLock),
            "sync.(*WaitGroup).Wait" => Some(Primitive::WaitGroup),
            _ => None,
        })
        .unwrap_or(Primitive::Unknown);
    if known.len() >= MAX_KNOWN {
        known.clear();
    }
    known.insert(key, primitive);
    primitive
}
