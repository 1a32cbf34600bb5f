//! The condition variables that goroutines wait on. These are in no table of semaphores: each `sync.Cond` has a list of its own.
//! Since Go 1.26 a waiter leads to it; before, only words on the stack do.

use super::{
    batch::Batch,
    stack_words::{Stack, StackWords},
};
use crate::{
    go::{Layout, memory::Words},
    target::{Memory, Piece},
};

/// How far `notifyList.lock` lies in it.
const NOTIFY_LOCK: u64 = 8;

/// Finds them where the waiter does not lead to them.
#[derive(Debug, Default)]
pub(super) struct Conds {
    batch: Batch,
    words: StackWords,
}

impl Conds {
    /// The address of the `notifyList` that each of these goroutines waits in, if that is certain.
    pub(super) fn read(&mut self, layout: &Layout, memory: &dyn Memory, stacks: &[Stack<'_>]) -> Vec<Option<u64>> {
        let on_stack = self.words.find(memory, stacks);
        // Several, if several words lead to the g.
        let sudogs: Vec<(usize, u64)> =
            (0..).zip(on_stack).flat_map(|(n, found)| found.into_iter().map(move |sudog| (n, sudog))).collect();
        let size = usize::from(layout.sudog.size);
        let pieces: Vec<Piece> = sudogs.iter().map(|&(_, address)| Piece { address, len: size }).collect();
        self.batch.read(memory, &pieces);
        let mut found: Vec<Vec<u64>> = vec![Vec::new(); stacks.len()];
        for (index, &(n, sudog)) in sudogs.iter().enumerate() {
            let at = |offset| self.batch.word(index, offset);
            let (Some(stack), Some(found)) = (stacks.get(n), found.get_mut(n)) else { continue };
            let is_waiter = at(layout.sudog.g) == Some(stack.g) && at(layout.sudog.c) == Some(0);
            if is_waiter && at(layout.sudog.elem) == Some(0) {
                let ticket = at(layout.sudog.ticket).unwrap_or_default() as u32;
                found.extend(notify_list(layout, memory, (sudog, ticket), stack));
            }
        }
        for (stack, _) in stacks.iter().zip(&found).filter(|(_, found)| found.is_empty()) {
            self.words.forget(stack);
        }
        let sure = |mut found: Vec<u64>| {
            found.dedup();
            found.pop().filter(|_| found.is_empty())
        };
        found.into_iter().map(sure).collect()
    }
}

/// The `notifyList` that a waiter is in: the frames that wait have the address of the `sync.Cond`, or that of its list, or that of
/// the list's lock.
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
