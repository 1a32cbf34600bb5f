//! The locks, condition variables and wait groups that goroutines wait on.

use std::collections::HashMap;

use super::{
    batch::Batch,
    g::{G, mix},
    stack_words::{Stack, StackWords},
    waits::Primitive,
};
use crate::{
    go::{Code, Layout, memory::Words},
    model::GoObject,
    snapshot::{Memory, Piece},
};

/// Frames in which the name of the primitive is looked for, if the wait's reason does not say which it is.
const NAMED_WITHIN: usize = 6;
/// How far `notifyList.lock` lies in it.
const NOTIFY_LOCK: u64 = 8;
/// Most kinds of stacks whose primitives are remembered.
const MAX_KNOWN: usize = 1 << 12;

/// Finds them.
#[derive(Debug, Default)]
pub(super) struct Semaphores {
    batch: Batch,
    words: StackWords,
    /// By the innermost return addresses.
    by_stack: HashMap<u64, Primitive>,
}

impl Semaphores {
    /// What each of these goroutines waits on, if that is certain.
    pub(super) fn read(
        &mut self,
        code: &Code,
        layout: &Layout,
        memory: &dyn Memory,
        waiters: &[(&G, Primitive, Stack<'_>)],
    ) -> Vec<GoObject> {
        let hidden: Vec<usize> = (0..waiters.len()).filter(|&n| waiters[n].0.waiting == 0).collect();
        let stacks: Vec<Stack<'_>> = hidden.iter().map(|&n| waiters[n].2).collect();
        let on_stack = self.words.find(memory, &stacks);
        // Pairs of waiter and sudog: several, if several words lead to the g.
        let mut sudogs: Vec<(usize, u64)> =
            waiters.iter().enumerate().map(|(n, (g, ..))| (n, g.waiting)).filter(|&(_, sudog)| sudog != 0).collect();
        for (&n, found) in hidden.iter().zip(on_stack) {
            sudogs.extend(found.into_iter().map(|sudog| (n, sudog)));
        }
        let size = usize::from(layout.sudog.size);
        let pieces: Vec<Piece> = sudogs.iter().map(|&(_, address)| Piece { address, len: size }).collect();
        self.batch.read(memory, &pieces);
        let mut objects: Vec<Option<GoObject>> = vec![None; waiters.len()];
        let mut sure = vec![false; waiters.len()];
        for (index, &(n, sudog)) in sudogs.iter().enumerate() {
            let (g, primitive, stack) = &waiters[n];
            let at = |offset| self.batch.word(index, offset);
            if at(layout.sudog.g) != Some(g.address) || at(layout.sudog.c) != Some(0) {
                continue;
            }
            let primitive = match primitive {
                Primitive::Unknown => named(code, &mut self.by_stack, stack.addresses),
                known => *known,
            };
            let base = match at(layout.sudog.elem) {
                Some(0) if primitive == Primitive::Cond => {
                    let ticket = at(layout.sudog.ticket).unwrap_or_default() as u32;
                    notify_list(layout, memory, (sudog, ticket), stack)
                }
                elem => elem,
            };
            let Some(object) = base.and_then(|base| object(layout, primitive, base)) else { continue };
            sure[n] = objects[n].as_ref().is_none_or(|other| *other == object);
            objects[n] = Some(object);
        }
        for (&n, stack) in hidden.iter().zip(&stacks) {
            if objects[n].is_none() {
                self.words.forget(stack);
            }
        }
        objects.into_iter().zip(sure).map(|(object, sure)| object.filter(|_| sure).unwrap_or_default()).collect()
    }
}

/// The primitive whose semaphore, or list of waiters, this is.
fn object(layout: &Layout, primitive: Primitive, address: u64) -> Option<GoObject> {
    let sync = &layout.sync;
    let (name, offset) = match primitive {
        Primitive::Mutex => ("sync.Mutex", sync.mutex_sema),
        Primitive::ReadLock => ("sync.RWMutex", sync.rwmutex_reader),
        Primitive::WriteLock => ("sync.RWMutex", sync.rwmutex_writer),
        Primitive::WaitGroup => ("sync.WaitGroup", sync.waitgroup_sema),
        Primitive::Cond => ("sync.Cond", sync.cond_notify),
        Primitive::Unknown => return None,
    };
    let base = address.checked_sub(u64::from(offset))?;
    (base != 0 && address.is_multiple_of(4)).then_some(GoObject::Sync(name, base))
}

/// The `notifyList` that a waiter is in: until Go 1.25 the waiter does not say, but the frames that wait have the address of the
/// `sync.Cond`, or that of its list, or that of the list's lock.
fn notify_list(layout: &Layout, memory: &dyn Memory, sudog: (u64, u32), stack: &Stack<'_>) -> Option<u64> {
    let from_cond = u64::from(layout.sync.cond_notify);
    let near = |word: u64| [Some(word), word.checked_add(from_cond), word.checked_sub(NOTIFY_LOCK)];
    let mut found = stack
        .words_and_arguments()
        .flat_map(near)
        .flatten()
        .filter(|&list| is_in_list(layout, memory, sudog, list).unwrap_or(false));
    let list = found.next()?;
    found.all(|other| other == list).then_some(list)
}

/// Whether a waiter, told by address and ticket, is in what may be a `notifyList`: its ticket is one of the list's, and the
/// list's ends are waiters. What is between the ends is not looked at: a list can be long. The ends alone would not do: in a
/// list of one, they look like those of a list that begins 8 bytes further.
fn is_in_list(layout: &Layout, memory: &dyn Memory, (sudog, ticket): (u64, u32), list: u64) -> Option<bool> {
    let tickets = memory.word(list)?;
    let (next, oldest) = (tickets as u32, (tickets >> 32) as u32);
    let [head, tail] = memory.words(list.checked_add(u64::from(layout.sync.notify_head))?)?;
    let may_be = ticket.wrapping_sub(oldest) < next.wrapping_sub(oldest) && (head != tail || head == sudog);
    Some(may_be && is_end(layout, memory, head)? && is_end(layout, memory, tail)?)
}

/// Whether this is a waiter in some `notifyList`.
fn is_end(layout: &Layout, memory: &dyn Memory, sudog: u64) -> Option<bool> {
    let at = |offset: u16| memory.word(sudog.checked_add(u64::from(offset))?);
    Some(at(layout.sudog.g)? != 0 && at(layout.sudog.elem)? == 0 && at(layout.sudog.c)? == 0)
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
