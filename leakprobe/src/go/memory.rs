//! Reading words, strings and whole ranges of a process's memory, always bounded.

use std::ops::{ControlFlow, Range};

use crate::target::{Memory, Piece};

/// Bytes that one read of a scan asks for.
const CHUNK: usize = 256 << 10;
/// Longest range that is scanned: what lies behind is not looked at. Data of large programs has some 10 MB.
pub(super) const MAX_SCAN: u64 = 256 << 20;
const PAGE: u64 = 4096;
/// No process has memory beyond, on any machine that Linux runs on.
const USER_SPACE: u64 = 1 << 57;

/// What memory holds, as words. It may change at any time, and comes from whom we do not trust.
pub(super) trait Words: Memory {
    /// Reads `N` words; `None` if not all can be read.
    fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        let mut bytes = [[0; 8]; N];
        let flat = bytes.as_flattened_mut();
        (self.read(address, flat) == flat.len()).then(|| bytes.map(u64::from_le_bytes))
    }

    /// Reads one word.
    fn word(&self, address: u64) -> Option<u64> {
        self.words(address).map(|[word]| word)
    }

    /// Reads one word from each address; `None` where there is none.
    fn each_word(&self, addresses: &[u64]) -> Vec<Option<u64>> {
        let pieces: Vec<Piece> = addresses.iter().map(|&address| Piece { address, len: 8 }).collect();
        let mut bytes = vec![0; 8 * addresses.len()];
        let lengths = self.read_all(&pieces, &mut bytes);
        words_of(&bytes).zip(lengths).map(|(word, len)| (len == 8).then_some(word)).collect()
    }

    /// Reads up to `len` bytes, as many as there are.
    fn bytes(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let read = self.read(address, &mut bytes);
        bytes.truncate(read);
        bytes
    }

    /// Goes through a range by 8-aligned words, `N` neighbours at a time, until `visit` breaks. Pages that cannot be read are
    /// left out. Returns what `visit` broke with, or whether anything could be read.
    fn scan<const N: usize, T>(
        &self,
        range: &Range<u64>,
        mut visit: impl FnMut(u64, &[u64; N]) -> ControlFlow<T>,
    ) -> Scan<T> {
        let start = range.start.min(USER_SPACE).next_multiple_of(8);
        let end = range.end.min(start + MAX_SCAN).min(USER_SPACE);
        let mut chunk = vec![0; CHUNK];
        let mut words: Vec<u64> = Vec::with_capacity(CHUNK / 8 + N);
        let (mut at, mut any) = (start, false);
        while at < end {
            let len = usize::try_from(end - at).map_or(CHUNK, |left| left.min(CHUNK));
            let read = chunk.get_mut(..len).map_or(0, |into| self.read(at, into)) & !7;
            any |= read > 0;
            // Neighbours may lie in two chunks.
            let base = at - 8 * words.len() as u64;
            words.extend(words_of(chunk.get(..read).unwrap_or_default()));
            for (address, window) in (base..).step_by(8).zip(words.array_windows::<N>()) {
                if let ControlFlow::Break(found) = visit(address, window) {
                    return Scan::Found(found);
                }
            }
            if read == len & !7 {
                words.drain(..words.len().saturating_sub(N - 1));
                at += len.next_multiple_of(8) as u64;
            } else {
                words.clear();
                at = (at + read as u64 + 1).next_multiple_of(PAGE);
            }
        }
        if any { Scan::Nothing } else { Scan::Unreadable }
    }
}

/// What a scan has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan<T> {
    /// It was found.
    Found(T),
    /// It is not there.
    Nothing,
    /// Nothing could be read.
    Unreadable,
}

impl<M: Memory + ?Sized> Words for M {}

/// The little-endian words of some bytes.
fn words_of(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks::<8>().0.iter().copied().map(u64::from_le_bytes)
}

/// The integer of `N` bytes at an offset into a buffer.
pub(super) fn field<const N: usize>(bytes: &[u8], offset: impl Into<usize>) -> Option<[u8; N]> {
    bytes.get(offset.into()..)?.first_chunk().copied()
}

/// The little-endian word at an offset into a buffer.
pub(super) fn word_at(bytes: &[u8], offset: impl Into<usize>) -> Option<u64> {
    field(bytes, offset).map(u64::from_le_bytes)
}

#[cfg(test)]
pub(super) mod fake {
    use super::*;

    /// Memory that a test has made up.
    #[derive(Clone, Debug, Default)]
    pub(in super::super) struct Fake(pub(in super::super) Vec<(u64, Vec<u8>)>);

    impl Fake {
        /// Puts words there, over what was there before.
        pub(in super::super) fn put(&mut self, address: u64, words: &[u64]) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            self.put_bytes(address, &bytes);
        }

        pub(in super::super) fn put_bytes(&mut self, address: u64, bytes: &[u8]) {
            for (start, content) in &mut self.0 {
                if let Some(at) = address.checked_sub(*start).map(|at| at as usize)
                    && let Some(place) = content.get_mut(at..at + bytes.len())
                {
                    place.copy_from_slice(bytes);
                    return;
                }
            }
            self.0.push((address, bytes.to_vec()));
        }
    }

    impl Memory for Fake {
        fn read(&self, address: u64, into: &mut [u8]) -> usize {
            for (start, content) in &self.0 {
                if let Some(at) = address.checked_sub(*start)
                    && let Some(rest) = content.get(usize::try_from(at).unwrap_or(usize::MAX)..)
                    && !rest.is_empty()
                {
                    let len = rest.len().min(into.len());
                    into[..len].copy_from_slice(&rest[..len]);
                    return len;
                }
            }
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{fake::Fake, *};

    fn find(memory: &Fake, range: Range<u64>, wanted: [u64; 2]) -> Scan<u64> {
        memory.scan(
            &range,
            |address, words| {
                if *words == wanted { ControlFlow::Break(address) } else { ControlFlow::Continue(()) }
            },
        )
    }

    #[test]
    fn neighbours_are_found_across_chunks_and_holes() {
        let mut memory = Fake(vec![(0x1000, vec![0; 2 * CHUNK])]);
        let border = 0x1000 + CHUNK as u64 - 8;
        memory.put(border, &[7, 9]);
        let behind = 0x1000 + 2 * CHUNK as u64 + 5 * PAGE;
        memory.put(behind, &[3, 4]);
        assert_eq!(find(&memory, 0x1000..behind + 16, [7, 9]), Scan::Found(border));
        assert_eq!(find(&memory, 0x1000..behind + 16, [3, 4]), Scan::Found(behind));
        assert_eq!(find(&memory, 0x1000..behind + 16, [5, 6]), Scan::Nothing);
    }

    #[test]
    fn a_range_that_cannot_be_read_ends_however_long_it_is() {
        assert_eq!(find(&Fake::default(), 0..u64::MAX, [1, 2]), Scan::Unreadable);
        assert_eq!(find(&Fake::default(), u64::MAX - 64..u64::MAX, [1, 2]), Scan::Unreadable);
    }
}
