//! Where the runtime keeps its list of all goroutines: `runtime.allgs`, found by what it looks like.
//!
//! A slice in the data with pointers of which each element leads to something with an ordered stack that points to itself
//! (`g.sched.g`). While the garbage collector marks, it has a slice of the very same list (`work.stackRoots`), which is empty
//! afterwards: what tells `allgs` is the code that appends to it.
//!
//! Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/proc.go> (`allgs`, `allgadd`),
//! <https://github.com/golang/go/blob/go1.27.0/src/runtime/mgc.go> (`stackRoots`)

use std::ops::{ControlFlow, Range};

use super::{
    layout::Layout,
    memory::{Words, word_at},
    mentions::Mentions,
};

/// Most goroutines that a list can have: more than memory holds.
const MAX_LEN: u64 = 1 << 32;
/// So many elements are looked at before a slice is taken for the list.
const LOOKED_AT: usize = 16;
/// Most slices that are looked at.
const MAX_SLICES: usize = 1 << 16;
/// So often it is looked again if lists have moved meanwhile. They double when they grow, so that this is soon over.
const TRIES: usize = 8;

/// The function that appends to the list, and works on no other.
pub(super) const APPENDS: &str = "runtime.allgadd";

/// The address of the slice; `None` if there is none, as before the runtime has started. `mentions` is what the function
/// [`APPENDS`] works on.
pub(super) fn find(memory: &impl Words, bss: &Range<u64>, layout: &Layout, mentions: &Mentions) -> Option<u64> {
    let mut best = None;
    for _ in 0..TRIES {
        let is_settled;
        (best, is_settled) = look_once(memory, bss, layout, mentions);
        if is_settled {
            break;
        }
    }
    best
}

/// The best slice that is there, and whether all of them stayed where they were meanwhile.
fn look_once(memory: &impl Words, bss: &Range<u64>, layout: &Layout, mentions: &Mentions) -> (Option<u64>, bool) {
    let mut slices = 0;
    let mut found: Vec<Slice> = Vec::new();
    memory.scan(bss, |address, &[first, len, capacity]| {
        if first != 0 && first.is_multiple_of(8) && (1..=capacity).contains(&len) && capacity <= MAX_LEN {
            slices += 1;
            if is_list(memory, first, len, layout) {
                found.push(Slice { address, first, len, capacity });
            }
        }
        if slices < MAX_SLICES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    // Where functions have other names, the list is told from slices of some goroutines by its first element, whose address is
    // once more in `allgptr`, and from that of the collector by its capacity, which mostly is larger than its length.
    let mut twins = vec![0usize; found.len()];
    memory.scan(bss, |_, &[word]| {
        for (twins, slice) in twins.iter_mut().zip(&found) {
            *twins += usize::from(slice.first == word);
        }
        ControlFlow::<()>::Continue(())
    });
    // A list that has grown lies elsewhere by now, so that its twin was not met. What else looks like a list would win, e.g. the
    // scheduler's pointer to a thread, which begins with that thread's own goroutine, and the number of such threads behind it.
    let is_settled = found.iter().all(|slice| memory.word(slice.address) == Some(slice.first));
    let rank = |slice: &Slice, twins| (mentions.has(slice.address), twins > 1, slice.len, slice.capacity);
    let best = found.iter().zip(twins).max_by_key(|(slice, twins)| rank(slice, *twins));
    (best.map(|(slice, _)| slice.address), is_settled)
}

/// A slice in the data.
#[derive(Clone, Copy, Debug)]
struct Slice {
    address: u64,
    first: u64,
    len: u64,
    capacity: u64,
}

/// Whether a slice holds goroutines.
fn is_list(memory: &impl Words, first: u64, len: u64, layout: &Layout) -> bool {
    let goroutines = pointers(memory, first, len, LOOKED_AT);
    let looks: Vec<_> = goroutines.iter().map(|&goroutine| look(memory, goroutine, layout)).collect();
    let is = looks.iter().filter(|look| **look != Look::Nothing).count();
    // One that is just being made does not point to itself yet; the first one has long been.
    !looks.is_empty()
        && looks.first() != Some(&Look::Nothing)
        && 2 * is > looks.len()
        && looks.contains(&Look::WithStack)
}

/// The first elements of a slice of pointers.
pub(super) fn pointers(memory: &(impl Words + ?Sized), first: u64, len: u64, most: usize) -> Vec<u64> {
    let count = usize::try_from(len).map_or(most, |len| len.min(most));
    let bytes = memory.bytes(first, 8 * count);
    bytes.as_chunks::<8>().0.iter().copied().map(u64::from_le_bytes).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    WithStack,
    /// An ended goroutine has given its stack back.
    Ended,
    Nothing,
}

fn look(memory: &impl Words, goroutine: u64, layout: &Layout) -> Look {
    let bytes = if goroutine.is_multiple_of(8) {
        memory.bytes(goroutine, usize::from(layout.g.sched_g) + 8)
    } else {
        Vec::new()
    };
    let word = |offset| word_at(&bytes, offset);
    match (word(layout.g.sched_g), word(layout.g.stack_lo), word(layout.g.stack_hi)) {
        (Some(itself), Some(low), Some(high)) if itself == goroutine && low < high => Look::WithStack,
        (Some(itself), Some(0), Some(0)) if itself == goroutine && goroutine != 0 => Look::Ended,
        _ => Look::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{
        super::{Version, memory::fake::Fake},
        *,
    };
    use crate::target::Memory;

    const BSS: Range<u64> = 0x1000..0x3000;

    fn layout() -> Layout {
        Layout::of(&Version::parse("go1.27.3").unwrap()).unwrap()
    }

    /// In a program whose names were made unreadable.
    fn find(memory: &impl Memory) -> Option<u64> {
        super::find(memory, &BSS, &layout(), &Mentions::default())
    }

    /// Data with a list of `len` goroutines at 0x1800, of which the last one has ended, and `allgptr`.
    fn memory(len: u64) -> Fake {
        let mut memory = Fake(vec![(0x1000, vec![0; 0x2000]), (0x1_0000, vec![0; 0x10_0000])]);
        let layout = layout();
        for index in 0..len {
            let goroutine = 0x2_0000 + index * 0x200;
            memory.put(0x1_0000 + 8 * index, &[goroutine]);
            let stack = if index + 1 == len && len > 1 { [0, 0] } else { [0xc000, 0xc800] };
            memory.put(goroutine + u64::from(layout.g.stack_lo), &stack);
            memory.put(goroutine + u64::from(layout.g.sched_g), &[goroutine]);
        }
        memory.put(0x1800, &[0x1_0000, len, len + 3]);
        memory.put(0x2ff0, &[0x1_0000]);
        memory
    }

    #[test]
    fn the_list_is_found_whatever_its_length() {
        for len in [1, 2, 16, 300] {
            assert_eq!(find(&memory(len)), Some(0x1800), "{len}");
        }
    }

    #[test]
    fn of_two_lists_the_one_with_a_second_pointer_to_it_is_taken() {
        let mut memory = memory(20);
        // A longer list of the same goroutines, kept for something else.
        memory.put(0x1100, &[0x1_0000 - 0x400, 40, 40]);
        memory.put(0x1_0000 - 0x400, &[0x2_0000; 40]);
        assert_eq!(find(&memory), Some(0x1800));
    }

    /// The collector's slice of the list, behind or before it.
    fn with_stack_roots(place: u64, len: u64) -> Fake {
        let mut memory = memory(len);
        memory.put(place, &[0x1_0000, len, len]);
        memory
    }

    #[test]
    fn the_collectors_slice_of_the_list_is_not_taken_for_it() {
        for place in [0x1100, 0x2000] {
            assert_eq!(find(&with_stack_roots(place, 20)), Some(0x1800), "{place:#x}");
            // A list that is full looks the same.
            let mut full = with_stack_roots(place, 20);
            full.put(0x1800, &[0x1_0000, 20, 20]);
            // movq 0x1800, %rax, at 0x800
            let mentions = Mentions::in_code(&[0x48, 0x8b, 0x05, 0xf9, 0x0f, 0, 0], 0x800, &BSS);
            assert_eq!(super::find(&full, &BSS, &layout(), &mentions), Some(0x1800), "{place:#x}");
        }
    }

    /// Memory that becomes other memory when the data is read for the second time.
    struct Changing(Fake, Fake, Cell<u32>);

    impl Memory for Changing {
        fn read(&self, address: u64, into: &mut [u8]) -> usize {
            self.2.update(|scans| scans + u32::from(address == BSS.start));
            if self.2.get() < 2 { self.0.read(address, into) } else { self.1.read(address, into) }
        }
    }

    #[test]
    fn a_list_that_grows_while_it_is_looked_for_is_found() {
        let mut before = memory(16);
        // Threads that are idle, the first of which begins with a goroutine of its own, and another pointer to it.
        before.put(0x1100, &[0x3_0000, 1, 3]);
        before.put(0x1200, &[0x3_0000]);
        before.put(0x3_0000, &[0x2_0000]);
        let mut after = before.clone();
        let list: Vec<u64> = (0..16).map(|index| 0x2_0000 + index * 0x200).collect();
        after.put(0x4_0000, &list);
        after.put(0x1800, &[0x4_0000, 17, 32]);
        after.put(0x2ff0, &[0x4_0000]);
        assert_eq!(find(&Changing(before, after, Cell::new(0))), Some(0x1800));
    }

    #[test]
    fn what_looks_like_a_list_only_at_first_is_none() {
        let empty = Fake(vec![(0x1000, vec![0; 0x2000])]);
        assert_eq!(find(&empty), None, "before the runtime has started");
        let mut hostile = Fake(vec![(0x1000, vec![0; 0x2000])]);
        for at in (0x1000..0x2fe0).step_by(24) {
            hostile.put(at, &[0x1000, 1 << 31, 1 << 32]);
        }
        assert_eq!(find(&hostile), None);
        let mut ended = memory(1);
        ended.put(0x2_0000, &[0, 0]);
        assert_eq!(find(&ended), None, "somebody has a stack");
    }
}
