//! Who holds Go's locks, as far as there is evidence: goroutines with a deferred Unlock that is pending. Package sync itself records
//! no holder.

use std::collections::{HashMap, HashSet};

use crate::model::{Recording, Task, WaitKind};

/// A lock: which of the process's Go runtimes, and the lock's address there.
type Lock = (u32, u64);

/// Most goroutines that are followed from one that waits to the one that holds it up.
const MOST_LINKS: usize = 16;

/// Who holds a lock, as far as it matters: however many they are, this is one word.
#[derive(Clone, Copy, Debug, Default)]
enum Who<'a> {
    #[default]
    NoOne,
    One(&'a Task),
    Several,
}

impl<'a> Who<'a> {
    fn add(&mut self, task: &'a Task) {
        *self = match *self {
            Self::NoOne => Self::One(task),
            Self::One(known) if is_same(known, task) => Self::One(known),
            _ => Self::Several,
        };
    }
}

/// The holders of one lock.
#[derive(Debug, Default)]
struct Holders<'a> {
    all: Who<'a>,
    /// Those that do not share it.
    alone: Who<'a>,
}

/// The locks that goroutines hold and wait for.
#[derive(Debug, Default)]
pub(super) struct Held<'a> {
    holders: HashMap<Lock, Holders<'a>>,
    /// Locks for which a writer waits: those who would read wait behind it.
    awaited_by_writers: HashSet<Lock>,
}

impl<'a> Held<'a> {
    /// What `recording` shows.
    pub(super) fn of(recording: &'a Recording) -> Self {
        let mut held = Self::default();
        for task in &recording.tasks {
            let Some(goroutine) = task.goroutine.as_deref() else { continue };
            for lock in goroutine.holds.iter() {
                // What it waits for in the function that is to release it, it has released before.
                let is_retaken = lock.calls == 0 && awaited(task).is_some_and(|(_, address)| address == lock.address);
                if !is_retaken {
                    let holders = held.holders.entry((goroutine.runtime, lock.address)).or_default();
                    holders.all.add(task);
                    if !lock.shared {
                        holders.alone.add(task);
                    }
                }
            }
            if waits_to_write(task) {
                held.awaited_by_writers.extend(awaited(task));
            }
        }
        held
    }

    /// The goroutine that holds what this one waits for, if there is evidence of one alone.
    pub(super) fn holder(&self, waiter: &Task) -> Option<&'a Task> {
        match self.holders.get(&awaited(waiter)?)?.all {
            Who::One(holder) => Some(holder),
            Who::NoOne | Who::Several => None,
        }
    }

    /// Whether this goroutine itself holds the lock that it waits for: in a function that called the one that waits.
    pub(super) fn holds_itself(&self, waiter: &Task) -> bool {
        let (Some(lock), Some(goroutine)) = (awaited(waiter), waiter.goroutine.as_deref()) else { return false };
        let own = goroutine.holds.iter().any(|held| (goroutine.runtime, held.address) == lock && held.calls > 0);
        // Readers share a lock. Of any other there is one holder: if there seem to be two, one of them has released it.
        own && self.holders.get(&lock).is_some_and(|holders| match holders.alone {
            Who::NoOne => true,
            Who::One(holder) => is_same(holder, waiter),
            Who::Several => false,
        })
    }

    /// Whether this goroutine is one of several that wait in a circle for locks that the next one holds.
    pub(super) fn is_in_circle(&self, waiter: &Task) -> bool {
        let chain = self.chain(waiter);
        chain.last().and_then(|last| self.holder(last)).is_some_and(|next| is_same(next, waiter))
    }

    /// Whoever holds what `waiter` waits for, then whoever holds what that one waits for, and so on; nobody twice.
    pub(super) fn chain(&self, waiter: &'a Task) -> Vec<&'a Task> {
        let mut chain: Vec<&Task> = Vec::new();
        let mut at = waiter;
        while let Some(next) = self.holder(at)
            && chain.len() < MOST_LINKS
            && !is_same(next, waiter)
            && !chain.iter().any(|known| is_same(known, next))
        {
            chain.push(next);
            at = next;
        }
        chain
    }

    /// Whether this goroutine would read, and a writer waits that is to have the lock before.
    pub(super) fn is_behind_writer(&self, waiter: &Task) -> bool {
        !waits_to_write(waiter) && awaited(waiter).is_some_and(|lock| self.awaited_by_writers.contains(&lock))
    }
}

/// The lock that a goroutine waits for.
pub(super) fn awaited(task: &Task) -> Option<Lock> {
    let goroutine = task.goroutine.as_deref()?;
    let wait = task.wait.as_ref().filter(|wait| wait.kind == WaitKind::Sync)?;
    let (name, address) = wait.object.split_once(" 0x")?;
    let address = matches!(name, "sync.Mutex" | "sync.RWMutex").then(|| u64::from_str_radix(address, 16).ok())??;
    Some((goroutine.runtime, address))
}

/// Whether it waits until the readers of a lock that several may read have left: writers that wait for each other do so elsewhere.
fn waits_to_write(task: &Task) -> bool {
    task.wait.as_ref().is_some_and(|wait| &*wait.reason == "sync.RWMutex.Lock")
}

fn is_same(one: &Task, other: &Task) -> bool {
    std::ptr::eq(one, other)
}
