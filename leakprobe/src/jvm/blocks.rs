//! Where the blocks of a heap of HotSpot's code cache begin.
//!
//! A heap is cut into segments, with a byte for each that says how many segments before it the block begins that it belongs to, or as
//! far as a byte reaches.
//! Source: <https://github.com/openjdk/jdk/blob/jdk-17%2B35/src/hotspot/share/memory/heap.cpp#L291>

use std::{collections::HashMap, ops::Range};

use crate::target::Memory;

/// The byte of a segment that belongs to no block.
const FREE: u8 = 0xff;
/// Most bytes of segments that are looked at: 64 MiB of code with the smallest segments.
const MOST_SEGMENTS: u64 = 1 << 20;
/// Most of them that lead to another one: blocks that were joined have some more than they need, and HotSpot mends that once there are
/// 10,000 in a heap.
const MOST_HOPS: usize = 1 << 15;
/// Bytes of segments that are read at once.
const PIECE: usize = 4 << 10;
/// Most addresses that are remembered.
const MOST_KNOWN: usize = 1 << 16;

/// The segments of a heap.
pub(super) struct Segments {
    /// The code that they cut.
    pub(super) code: Range<u64>,
    /// Where the bytes lie that say where blocks begin.
    pub(super) bytes: u64,
    /// A segment has two to the power of this bytes.
    pub(super) log2_size: u32,
}

impl Segments {
    /// Where the block begins that an address of this code lies in. Costs some µs, at most some 100 µs.
    pub(super) fn block(&self, address: u64, memory: &impl Memory) -> Option<u64> {
        let first = address.checked_sub(self.code.start)? >> self.log2_size;
        let mut segment = first;
        // The bytes up to the one that is looked at, and which is the first of them.
        let (mut bytes, mut base) = ([0; PIECE], u64::MAX);
        for _ in 0..MOST_HOPS {
            if first - segment >= MOST_SEGMENTS {
                break;
            }
            if !(base..base.saturating_add(bytes.len() as u64)).contains(&segment) {
                base = segment.saturating_sub(bytes.len() as u64 - 1);
                let wanted = usize::try_from(segment - base + 1).ok()?;
                let into = bytes.get_mut(..wanted)?;
                if memory.read(self.bytes.checked_add(base)?, into) != wanted {
                    return None;
                }
            }
            match *bytes.get(usize::try_from(segment - base).ok()?)? {
                FREE => return None,
                0 => return self.code.start.checked_add(segment << self.log2_size),
                back => segment = segment.checked_sub(back.into())?,
            }
        }
        None
    }
}

/// Where the blocks begin that addresses lie in, as far as that was looked for.
#[derive(Default)]
pub(super) struct Blocks(HashMap<u64, Option<u64>>);

impl Blocks {
    /// What is known of an address: its block, or that there was none.
    pub(super) fn get(&self, address: u64) -> Option<Option<u64>> {
        self.0.get(&address).copied()
    }

    pub(super) fn insert(&mut self, address: u64, block: Option<u64>) {
        if self.0.len() >= MOST_KNOWN {
            self.0.clear();
        }
        self.0.insert(address, block);
    }

    /// Forgets where there was none.
    pub(super) fn forget_misses(&mut self) {
        self.0.retain(|_, block| block.is_some());
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    /// Memory that holds these bytes at 0x5000 and nothing else.
    struct Bytes(Vec<u8>);

    impl Memory for Bytes {
        fn read(&self, address: u64, into: &mut [u8]) -> usize {
            let from = address.checked_sub(0x5000).and_then(|from| usize::try_from(from).ok()).unwrap_or(usize::MAX);
            let there = self.0.get(from..).unwrap_or_default();
            let read = there.len().min(into.len());
            into[..read].copy_from_slice(&there[..read]);
            read
        }
    }

    /// Memory that holds nothing but ones, and counts how often it is read.
    struct Counted<'a>(&'a Cell<usize>);

    impl Memory for Counted<'_> {
        fn read(&self, _: u64, into: &mut [u8]) -> usize {
            self.0.set(self.0.get() + 1);
            into.fill(1);
            into.len()
        }
    }

    fn heap(segments: u64) -> Segments {
        Segments { code: 0x10_0000..0x10_0000 + segments * 128, bytes: 0x5000, log2_size: 7 }
    }

    #[test]
    fn blocks_begin_where_the_segments_lead_to() {
        let mut bytes = vec![0, 1, 2, FREE, 0, 1];
        // A block of a thousand segments; a byte reaches over 254.
        bytes.extend((0..1000u64).map(|n| if n == 0 { 0 } else { u8::try_from((n - 1) % 254 + 1).unwrap() }));
        let heap = heap(bytes.len() as u64);
        let memory = Bytes(bytes);
        let block = |segment: u64| heap.block(0x10_0000 + segment * 128 + 5, &memory);
        assert_eq!([0, 1, 2].map(block), [Some(0x10_0000); 3]);
        assert_eq!(block(3), None);
        assert_eq!(block(5), Some(0x10_0000 + 4 * 128));
        assert_eq!([6, 7, 259, 260, 261, 1005].map(block), [Some(0x10_0000 + 6 * 128); 6]);
    }

    #[test]
    fn a_long_way_to_a_block_is_given_up() {
        let count = Cell::new(0);
        let memory = Counted(&count);
        // All of them lead to the one before.
        assert_eq!(heap(1 << 21).block(0x10_0000 + (1 << 20) * 128, &memory), None);
        assert!(count.get() <= MOST_HOPS / PIECE + 1, "{}", count.get());
    }

    #[test]
    fn what_is_known_of_addresses_is_bounded_and_misses_are_looked_for_again() {
        let mut blocks = Blocks::default();
        (0..=MOST_KNOWN as u64).for_each(|address| blocks.insert(address, None));
        assert!(blocks.0.len() <= MOST_KNOWN);
        blocks.insert(1, Some(2));
        blocks.insert(3, None);
        assert_eq!([1, 3, 4].map(|address| blocks.get(address)), [Some(Some(2)), Some(None), None]);
        blocks.forget_misses();
        assert_eq!([1, 3].map(|address| blocks.get(address)), [Some(Some(2)), None]);
    }

    proptest! {
        #[test]
        fn whatever_the_segments_say_it_ends(bytes in proptest::collection::vec(any::<u8>(), 0..600), segment in 0u64..700) {
            heap(700).block(0x10_0000 + segment * 128, &Bytes(bytes));
        }
    }
}
