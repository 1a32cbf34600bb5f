//! Many small objects read at once: neighbours by one piece, all pieces by few system calls.
//!
//! Go keeps objects of one size side by side, so that what was allocated together lies together. A piece costs the kernel
//! more than the bytes of a small gap do.

use crate::{
    go::memory::word_at,
    target::{Memory, Piece},
};

/// Gaps up to so many bytes are read, too.
const MAX_GAP: u64 = 512;
/// Most bytes of what is put together: a gap within cannot make more of it.
const MAX_RUN: u64 = 64 << 10;

/// Objects that were read, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Where each object lies in `bytes`, and how much of it could be read.
    places: Vec<(usize, usize)>,
    order: Vec<u32>,
    runs: Vec<Piece>,
}

impl Batch {
    /// Reads all `objects`. One at address 0, without length, or beyond the end of memory is left out.
    pub(super) fn read(&mut self, memory: &dyn Memory, objects: &[Piece]) {
        self.order.clear();
        let is_real = |object: &Piece| object.address != 0 && object.len > 0 && object.end() < u64::MAX;
        self.order.extend((0u32..).zip(objects).filter(|(_, object)| is_real(object)).map(|(n, _)| n));
        self.order.sort_unstable_by_key(|&n| objects[n as usize].address);
        self.places.clear();
        self.places.resize(objects.len(), (0, 0));
        self.runs.clear();
        let mut begin = 0; // of the last run, in `bytes`
        for &n in &self.order {
            let object = objects[n as usize];
            let joined = self.runs.last_mut().filter(|run| {
                object.address <= run.end().saturating_add(MAX_GAP)
                    && object.end().saturating_sub(run.address) <= MAX_RUN.max(run.len as u64)
            });
            match joined {
                Some(run) => run.len = run.len.max((object.end() - run.address) as usize),
                None => {
                    begin += self.runs.last().map_or(0, |run| run.len);
                    self.runs.push(object);
                }
            }
            let start = self.runs.last().map_or(0, |run| run.address);
            self.places[n as usize].0 = begin + (object.address - start) as usize;
        }
        let size = begin + self.runs.last().map_or(0, |run| run.len);
        if self.bytes.len() < size {
            self.bytes.resize(size, 0);
        }
        let lengths = memory.read_all(&self.runs, &mut self.bytes[..size]);
        self.divide(memory, objects, &lengths);
    }

    /// Says how much there is of each object, and reads those by themselves that lie in a run that was cut short before them.
    fn divide(&mut self, memory: &dyn Memory, objects: &[Piece], lengths: &[usize]) {
        let mut runs = self.runs.iter().zip(lengths).peekable();
        for &n in &self.order {
            let object = objects[n as usize];
            while runs.peek().is_some_and(|(run, _)| run.end() < object.end()) {
                runs.next();
            }
            let Some(&(run, &read)) = runs.peek() else { break };
            let (at, len) = &mut self.places[n as usize];
            let read_end = run.address.saturating_add(read as u64);
            *len = (read_end.saturating_sub(object.address) as usize).min(object.len);
            if *len < object.len && run.len > object.len {
                *len = memory.read(object.address, &mut self.bytes[*at..*at + object.len]);
            }
        }
    }

    /// What could be read of the object of this index; empty if nothing.
    pub(super) fn get(&self, index: usize) -> &[u8] {
        self.places.get(index).and_then(|&(at, len)| self.bytes.get(at..at + len)).unwrap_or_default()
    }

    /// A word of the object of this index.
    pub(super) fn word(&self, index: usize, offset: u16) -> Option<u64> {
        word_at(self.get(index), offset)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;

    /// Every byte of the given ranges holds the lowest bits of its address. Notes what it is asked for.
    struct Ranges(Vec<std::ops::Range<u64>>, RefCell<usize>);

    impl Memory for Ranges {
        fn read(&self, address: u64, into: &mut [u8]) -> usize {
            *self.1.borrow_mut() += 1;
            let is_there = |at: u64| self.0.iter().any(|range| range.contains(&at));
            let there = (address..).zip(into.iter_mut()).take_while(|(at, _)| is_there(*at));
            there.map(|(at, byte)| *byte = at as u8).count()
        }
    }

    #[test]
    fn neighbours_are_read_as_one() {
        let memory = Ranges(vec![0x1000..0x5000, 0x5000..0x9000], RefCell::default());
        let objects: Vec<Piece> = (0..32).rev().map(|n| Piece { address: 0x1000 + n * 448, len: 400 }).collect();
        let mut batch = Batch::default();
        batch.read(&memory, &objects);
        assert!((0..32).all(|n| batch.get(n).len() == 400 && batch.get(n)[0] == objects[n].address as u8));
        assert_eq!(*memory.1.borrow(), 1);
    }

    proptest! {
        /// As if each had been read by itself.
        #[test]
        fn objects_are_what_they_are_whatever_lies_between(
            objects in prop::collection::vec((0..0x4000u64, 0..600usize), 0..40),
            far in prop::collection::vec(any::<u64>(), 0..4),
            holes in prop::collection::vec((0..0x4000u64, 0..0x400u64), 1..6),
        ) {
            let memory = Ranges(holes.iter().map(|&(start, len)| start..start + len).collect(), RefCell::default());
            let mut pieces: Vec<Piece> = objects.iter().map(|&(address, len)| Piece { address, len }).collect();
            pieces.extend(far.iter().map(|&address| Piece { address, len: 64 }));
            let mut batch = Batch::default();
            batch.read(&memory, &pieces);
            for (n, piece) in pieces.iter().enumerate() {
                let mut alone = vec![0; piece.len];
                let read = if piece.address == 0 { 0 } else { memory.read(piece.address, &mut alone) };
                prop_assert_eq!(batch.get(n), &alone[..read]);
            }
        }
    }
}
