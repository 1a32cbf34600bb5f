//! Following lists in the target's memory: what one object lies beside is likely to be wanted next.

use crate::target::{Memory, Piece};

/// Bytes that are read at once, from a multiple of them: a span of small objects.
const SIZE: usize = 8 << 10;
/// How many such pieces are kept.
const KEPT: usize = 64;

/// The parts of memory that were read last.
#[derive(Debug, Default)]
pub(super) struct Pages {
    kept: Vec<(u64, Vec<u8>)>,
    /// For an object on the border of two, or behind what cannot be read.
    single: Vec<u8>,
}

impl Pages {
    /// Forgets what was read.
    pub(super) fn clear(&mut self) {
        self.kept.iter_mut().for_each(|(_, bytes)| bytes.clear());
    }

    /// The memory of an object, if all of it can be read. As it was when its neighbourhood was first read
    /// since [`Self::clear`].
    pub(super) fn get(&mut self, memory: &dyn Memory, object: Piece) -> Option<&[u8]> {
        let at = (object.address % SIZE as u64) as usize;
        if at + object.len > SIZE {
            return self.single(memory, object);
        }
        let start = object.address - at as u64;
        self.kept.resize_with(KEPT, Default::default);
        let (known, bytes) = self.kept.get_mut((start / SIZE as u64) as usize % KEPT)?;
        if *known != start || bytes.is_empty() {
            bytes.resize(SIZE, 0);
            let read = memory.read(start, bytes);
            bytes.truncate(read);
            *known = start;
        }
        if at + object.len > bytes.len() {
            return self.single(memory, object);
        }
        self.kept.get((start / SIZE as u64) as usize % KEPT)?.1.get(at..at + object.len)
    }

    fn single(&mut self, memory: &dyn Memory, object: Piece) -> Option<&[u8]> {
        self.single.resize(object.len, 0);
        (memory.read(object.address, &mut self.single) == object.len).then_some(&self.single)
    }
}
