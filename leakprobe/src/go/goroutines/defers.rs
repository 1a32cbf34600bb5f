//! Which locks a goroutine is to release by deferred calls that are pending: the only trace in memory of who holds a lock of
//! package sync.
//!
//! A function with `defer mu.Unlock()` keeps, at places in its frame that its funcdata names, one byte whose bits say which of its
//! defer statements it has passed, and for each of them the address of a closure: here a wrapper that calls Unlock, followed by the
//! captured address of the lock. Defers in loops, and those of programs that were compiled without optimization, are kept in
//! another way, and are not seen.
//!
//! Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/panic.go> (`initOpenCodedDefers`), and
//! <https://github.com/golang/go/blob/go1.21.13/src/runtime/panic.go> (`runOpenDeferFrame`) for the form before Go 1.22.

use std::{collections::HashMap, ops::Range, sync::Arc};

use super::{
    costs::{Allowance, Costs},
    shared::{LeftOut, Shared},
    stack_words::Stack,
};
use crate::{
    go::{
        Code, Runtime,
        memory::{Words, word_at},
    },
    model::HeldLock,
    target::Memory,
};

/// Most defer statements of one function that are open-coded: its bits are one byte.
const MAX_DEFERS: u32 = 8;
/// Most frames of a stack in which deferred calls are looked for.
const MAX_FRAMES: usize = 256;
/// Most locks of a goroutine, innermost first.
const MAX_HELD: usize = 64;
/// Most code of a wrapper that is looked at, bytes: it does nothing but the call.
const MAX_WRAPPER: u64 = 512;
/// Most return addresses, and most wrappers, that are remembered.
const MAX_KNOWN: usize = 1 << 14;

/// Finds them. What it learned of code holds until there is other code.
#[derive(Debug)]
pub(super) struct Defers {
    frames: HashMap<u64, Known>,
    wrappers: HashMap<u64, Option<Release>>,
    lists: Shared<[HeldLock]>,
    /// Deferred calls that may be looked at in this snapshot.
    left: Allowance,
}

/// The locks that a goroutine is to release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Innermost first.
    pub(super) locks: Option<Arc<[HeldLock]>>,
    /// Whether there are or may be more.
    pub(super) is_cut: bool,
}

/// What is known of a return address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    class: Class,
    /// Calls that were inlined there.
    inlined: u32,
    slots: Option<Slots>,
}

/// Whose function it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Class {
    /// Of the runtime or of package sync.
    Runtime,
    /// `sync.(*Cond).Wait`, which releases the lock while it waits.
    CondWait,
    #[default]
    Other,
}

/// Where a function keeps its deferred calls: bytes below the end of its local variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slots {
    /// The byte whose bits say which are pending.
    bits: u32,
    /// The closure of each; 0 where there is none.
    closures: [u32; MAX_DEFERS as usize],
}

/// What a deferred call releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Release {
    shared: bool,
}

impl Defers {
    pub(super) fn new(costs: &Costs) -> Self {
        let lists = Shared::new(costs.lock_bytes.clone(), size_of_val);
        Self { frames: HashMap::new(), wrappers: HashMap::new(), lists, left: costs.defers_read.clone() }
    }

    /// To be called when a snapshot begins.
    pub(super) fn begin_snapshot(&mut self) {
        self.lists.drop_unused();
    }

    /// There is other code.
    pub(super) fn forget_code(&mut self) {
        self.frames.clear();
        self.wrappers.clear();
    }

    /// The locks that a goroutine with this stack is to release; `sp` is where the stack's bytes begin.
    pub(super) fn held(&mut self, runtime: &Runtime, memory: &dyn Memory, sp: u64, stack: &Stack<'_>) -> Held {
        let mut held = Vec::new();
        let is_cut = self.find(runtime, memory, sp, stack, &mut held).is_err();
        match (!held.is_empty()).then(|| self.lists.share(held.into())).transpose() {
            Ok(locks) => Held { locks, is_cut },
            Err(LeftOut) => Held { locks: None, is_cut: true },
        }
    }

    fn find(
        &mut self,
        runtime: &Runtime,
        memory: &dyn Memory,
        sp: u64,
        stack: &Stack<'_>,
        held: &mut Vec<HeldLock>,
    ) -> Result<(), LeftOut> {
        // Calls below the frame that is looked at, without those of the runtime that wait.
        let mut calls = 0;
        for (&pc, &end) in stack.addresses.iter().zip(stack.ends).take(MAX_FRAMES) {
            let known = self.known(runtime, pc);
            match known.class {
                Class::CondWait => {
                    held.clear();
                    return Ok(());
                }
                Class::Runtime if calls == 0 && known.slots.is_none() => continue,
                Class::Runtime | Class::Other => {}
            }
            calls += known.inlined;
            for closure in known.slots.into_iter().flat_map(|slots| pending(slots, end, stack.bytes)) {
                self.left.take(1).then_some(()).ok_or(LeftOut)?;
                let Some([code, captured]) = closure_at(closure, memory, sp, stack.bytes) else { continue };
                if let Some(Release { shared }) = self.release(&runtime.code, memory, code)
                    && captured != 0
                {
                    if held.len() >= MAX_HELD {
                        return Err(LeftOut);
                    }
                    held.push(HeldLock { address: captured, shared, calls });
                }
            }
            calls += 1;
        }
        Ok(())
    }

    fn known(&mut self, runtime: &Runtime, pc: u64) -> Known {
        if self.frames.len() >= MAX_KNOWN {
            self.frames.clear();
        }
        *self.frames.entry(pc).or_insert_with(|| known(runtime, pc))
    }

    fn release(&mut self, code: &Code, memory: &dyn Memory, wrapper: u64) -> Option<Release> {
        if self.wrappers.len() >= MAX_KNOWN {
            self.wrappers.clear();
        }
        *self.wrappers.entry(wrapper).or_insert_with(|| release(code, memory, wrapper))
    }
}

fn known(runtime: &Runtime, pc: u64) -> Known {
    let Some(function) = runtime.code.find(pc).and_then(|module| module.table.find(pc)) else {
        return Known::default();
    };
    let name = function.name();
    let class = match &*name {
        "sync.(*Cond).Wait" => Class::CondWait,
        name if is_runtimes(name) => Class::Runtime,
        _ => Class::Other,
    };
    let inlined = function.frames_at(function.call_pc(pc)).filter(|frame| frame.inlined);
    let inlined = inlined.filter(|frame| !is_runtimes(&frame.name));
    let is_new = (runtime.version.major, runtime.version.minor) >= (1, 22);
    Known {
        class,
        inlined: u32::try_from(inlined.count()).unwrap_or(u32::MAX),
        slots: function.open_defers().and_then(|info| slots(info, is_new)),
    }
}

fn is_runtimes(function: &str) -> bool {
    ["runtime.", "sync.", "internal/sync."].iter().any(|start| function.starts_with(start))
}

/// What a function's funcdata says of its deferred calls; `is_new`: in the form of Go 1.22 and later.
fn slots(info: &[u8], is_new: bool) -> Option<Slots> {
    let mut rest = info;
    let mut next = || varint(&mut rest);
    let bits = next()?;
    let mut closures = [0; MAX_DEFERS as usize];
    if is_new {
        // They lie one after the other, the first one lowest.
        let first = next()?;
        for (closure, n) in closures.iter_mut().zip(0..) {
            *closure = first.saturating_sub(8 * n);
        }
    } else {
        let count = next().filter(|&count| count <= MAX_DEFERS)?;
        for closure in closures.iter_mut().take(count as usize).rev() {
            *closure = next()?;
        }
    }
    Some(Slots { bits, closures })
}

fn varint(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for shift in (0..32).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// The closures of the deferred calls that are pending in a frame. `end` is where the frame's return address lies in `bytes`.
fn pending(slots: Slots, end: u32, bytes: &[u8]) -> impl Iterator<Item = u64> {
    // Below the return address lies the caller's frame pointer, and below that the local variables.
    let below = move |offset: u32| Some(end.checked_sub(8)?.checked_sub(offset)? as usize);
    let bits = below(slots.bits).and_then(|at| bytes.get(at)).copied().unwrap_or(0);
    let is_pending = move |&(n, offset): &(u32, u32)| bits >> n & 1 != 0 && offset != 0;
    let closures = (0..).zip(slots.closures).filter(is_pending);
    closures.filter_map(move |(_, offset)| word_at(bytes, below(offset)?))
}

/// The first two words of a closure: its code, and what it has captured first.
fn closure_at(address: u64, memory: &dyn Memory, sp: u64, bytes: &[u8]) -> Option<[u64; 2]> {
    let on_stack = address.checked_sub(sp).and_then(|at| usize::try_from(at).ok());
    let words = on_stack.and_then(|at| Some([word_at(bytes, at)?, word_at(bytes, at.checked_add(8)?)?]));
    words.or_else(|| memory.words(address))
}

/// What a function that a closure leads to releases, if it does nothing but that: a call of Unlock, or Unlock itself inlined.
fn release(code: &Code, memory: &dyn Memory, entry: u64) -> Option<Release> {
    let function = code.find(entry)?.table.find(entry).filter(|function| function.entry() == entry)?;
    let range = entry..function.end().min(entry.saturating_add(MAX_WRAPPER));
    let inlined = range.clone().filter_map(|pc| {
        // The outermost of the calls that were inlined, right into the wrapper.
        function.frames_at(pc).filter(|frame| frame.inlined).last()
    });
    let inlined = inlined.filter_map(|frame| released_by(&frame.name)).next();
    inlined.or_else(|| {
        calls(memory, &range).find_map(|target| {
            let called = code.find(target)?.table.find(target).filter(|called| called.entry() == target)?;
            released_by(&called.name())
        })
    })
}

fn released_by(function: &str) -> Option<Release> {
    match function {
        "sync.(*Mutex).Unlock" | "sync.(*RWMutex).Unlock" => Some(Release { shared: false }),
        "sync.(*RWMutex).RUnlock" => Some(Release { shared: true }),
        _ => None,
    }
}

/// Where the call instructions of this code may lead: every byte of it is taken for a call's first one.
fn calls(memory: &dyn Memory, range: &Range<u64>) -> impl Iterator<Item = u64> {
    const CALL: u8 = 0xe8;
    let start = range.start;
    let bytes = memory.bytes(start, usize::try_from(range.end.saturating_sub(start)).unwrap_or(0));
    let starts = 0..bytes.len().saturating_sub(4);
    starts.filter_map(move |at| {
        let &[opcode, a, b, c, d] = bytes.get(at..)?.first_chunk()?;
        let next = start.wrapping_add(at as u64 + 5);
        (opcode == CALL).then(|| next.wrapping_add_signed(i32::from_le_bytes([a, b, c, d]).into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_in_both_forms_and_cut_anywhere() {
        let new = slots(&[0x11, 0x90, 1], true).unwrap();
        assert_eq!((new.bits, &new.closures[..3]), (17, &[144, 136, 128][..]));
        let old = slots(&[0x11, 2, 24, 32], false).unwrap();
        assert_eq!((old.bits, &old.closures[..3]), (17, &[32, 24, 0][..]));
        for cut in 0..3 {
            assert_eq!(slots(&[0x11, 0x90, 1][..cut], true), None);
        }
        for cut in 0..4 {
            assert_eq!(slots(&[0x11, 2, 24, 32][..cut], false), None);
        }
        assert_eq!(slots(&[1, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1], false), None, "more than a byte has bits for");
        assert_eq!(slots(&[0xff; 64], true), None, "a number without end");
    }

    #[test]
    fn only_closures_whose_bits_are_set_are_pending() {
        // From below: two closures, the bits, the caller's frame pointer, the return address.
        let words = |bits: u64| [0x1111u64, 0x2222, bits, 0xb, 0xa].map(u64::to_le_bytes).concat();
        let slots = slots(&[8, 24], true).unwrap();
        for (bits, found) in [(0, &[][..]), (1, &[0x1111]), (2, &[0x2222]), (3, &[0x1111, 0x2222])] {
            assert_eq!(pending(slots, 32, &words(bits)).collect::<Vec<_>>(), found, "{bits}");
        }
        for len in 0..40u32 {
            let _ = pending(slots, 32, &words(3)[..len as usize]).count();
            let _ = pending(slots, len, &words(0xff)).count();
        }
    }
    const CODE: u64 = 0x40_1000;
    const WRAPPER: u64 = 0x40_2000;
    const SP: u64 = 0x1000;

    struct Nothing;

    impl Memory for Nothing {
        fn read(&self, _: u64, _: &mut [u8]) -> usize {
            0
        }
    }

    /// Knows a function with two deferred calls of Unlock, both pending.
    fn defers() -> Defers {
        let known = Known { slots: slots(&[8, 24], true), ..Known::default() };
        let mut defers = Defers::new(&Costs::default());
        defers.frames.insert(CODE, known);
        defers.wrappers.insert(WRAPPER, Some(Release { shared: false }));
        defers
    }

    /// What a goroutine is to release that has called this function so often.
    fn held(defers: &mut Defers, calls: usize, lock: u64) -> Held {
        let closure = SP + 40 * calls as u64;
        let frames = [closure, closure, 3, 0, CODE].repeat(calls);
        let bytes: Vec<u8> = frames.into_iter().chain([WRAPPER, lock]).flat_map(u64::to_le_bytes).collect();
        let ends: Vec<u32> = (32..).step_by(40).take(calls).collect();
        let (g, lo, hi) = (0, SP, SP + bytes.len() as u64);
        let stack = Stack { g, lo, hi, bytes: &bytes, addresses: &vec![CODE; calls], ends: &ends };
        defers.held(super::super::tests::engine().runtime(), &Nothing, SP, &stack)
    }

    #[test]
    fn equal_locks_are_held_once_and_of_one_goroutine_not_too_many() {
        let mut defers = defers();
        let [few, again] = [1; 2].map(|calls| held(&mut defers, calls, 0xc000));
        let lock = |calls| HeldLock { address: 0xc000, shared: false, calls };
        assert_eq!((few.locks.as_deref(), few.is_cut), (Some(&[lock(0); 2][..]), false));
        assert!(Arc::ptr_eq(&few.locks.unwrap(), &again.locks.unwrap()));
        let many = held(&mut defers, 100, 0xc000);
        let locks = many.locks.unwrap();
        assert_eq!((locks.len(), locks[MAX_HELD - 1], many.is_cut), (MAX_HELD, lock(MAX_HELD as u32 / 2 - 1), true));
    }

    #[test]
    fn a_snapshot_looks_at_so_many_deferred_calls_and_keeps_so_many_locks() {
        let mut defers = Defers { left: Allowance::new(3), ..defers() };
        let mut found = || {
            let held = held(&mut defers, 1, 0xc000);
            (held.locks.map_or(0, |locks| locks.len()), held.is_cut)
        };
        assert_eq!([found(), found(), found()], [(2, false), (1, true), (0, true)]);
        let no_room = Shared::new(Allowance::new(0), size_of_val);
        let mut full = Defers { lists: no_room, left: Allowance::new(3), ..defers };
        assert_eq!(held(&mut full, 1, 0xc000), Held { locks: None, is_cut: true });
    }
}
