//! The memory of a stack, read where the unwinder looks: most frames are small and lie together, but one that holds a large array
//! (Ruby keeps its own stack of 1 MB in one) is passed without reading it.

use crate::target::ProcessMemory;

/// How far from the stack pointer a stack may reach, bytes. Nothing is read in vain up to there, so it is larger than any.
const MAX_STACK: u64 = 1 << 30;
/// Most bytes of one stack that are read: some for each of the frames that are followed, if all of them are large.
const MAX_READ: usize = 2 << 20;
/// Bytes that are read at once when the first piece was not enough; doubled each time.
const FIRST_EXTENSION: usize = 8 << 10;
/// Bytes of a piece beyond a large frame, and how many of them lie below the word that was asked for: other registers are saved there.
const BEYOND: usize = 2 << 10;
const BELOW: u64 = 256;
const PAGE: u64 = 4096;

/// A thread's stack, from its stack pointer upwards.
pub struct StackMemory<'a> {
    base: u64,
    pieces: Vec<Piece>,
    /// How many bytes may still be read.
    left: usize,
    /// Where more can be read; `None` if this is all there is.
    more: Option<&'a ProcessMemory>,
    pub(super) missed: Missed,
    /// Whether it was asked for memory that does not answer.
    pub(super) is_unanswered: bool,
}

/// A piece of it that was read.
struct Piece {
    start: u64,
    bytes: Vec<u8>,
}

/// What the unwinder asked for, and did not get, in the present step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// Nothing, or what is not stack memory.
    Nothing,
    /// Memory that was not captured, not far from what was.
    Uncaptured,
    /// Memory farther from the stack pointer than any that is read, or more than is read of one stack.
    TooFar,
    /// A register that is not known.
    Register,
}

impl Piece {
    fn word(&self, address: u64) -> Option<u64> {
        let offset = usize::try_from(address.checked_sub(self.start)?).ok()?;
        Some(u64::from_le_bytes(*self.bytes.get(offset..)?.first_chunk::<8>()?))
    }

    /// Whether reading on as usual would reach the address.
    fn is_near(&self, address: u64) -> bool {
        let reach = self.bytes.len() + self.next();
        address.checked_sub(self.start).is_some_and(|offset| offset < reach as u64)
    }

    /// How many bytes are read next.
    fn next(&self) -> usize {
        self.bytes.len().max(FIRST_EXTENSION)
    }
}

impl<'a> StackMemory<'a> {
    /// A stack that is still there: `bytes` from `base` on were read, more can be.
    #[must_use]
    pub fn live(base: u64, bytes: &[u8], memory: &'a ProcessMemory) -> Self {
        Self { more: Some(memory), ..Self::captured(base, bytes) }
    }

    /// A stack that was captured: `bytes` from `base` on, and no more.
    #[must_use]
    pub fn captured(base: u64, bytes: &[u8]) -> Self {
        let pieces = vec![Piece { start: base, bytes: bytes.to_vec() }];
        Self { base, pieces, left: MAX_READ, more: None, missed: Missed::Nothing, is_unanswered: false }
    }

    /// The word at an address.
    pub(super) fn word(&mut self, address: u64) -> Result<u64, ()> {
        if address.checked_sub(self.base).ok_or(())? >= MAX_STACK {
            self.missed = Missed::TooFar;
            return Err(());
        }
        loop {
            // Stacks are followed upwards, so it is most often in the last one.
            if let Some(word) = self.pieces.iter().rev().find_map(|piece| piece.word(address)) {
                return Ok(word);
            }
            if !self.read_at(address) {
                return Err(());
            }
        }
    }

    /// Reads towards the address, or there if that is far; false if there is no more.
    fn read_at(&mut self, address: u64) -> bool {
        let Some(memory) = self.more else {
            self.missed = Missed::Uncaptured;
            return false;
        };
        if self.left == 0 {
            self.missed = Missed::TooFar;
            return false;
        }
        let place = self.pieces.iter().rposition(|piece| piece.is_near(address)).unwrap_or_else(|| {
            // Not from the page before, which may be none of the stack.
            let start = address.saturating_sub(BELOW).max(address & !(PAGE - 1)).max(self.base);
            self.pieces.push(Piece { start, bytes: Vec::new() });
            self.pieces.len() - 1
        });
        let Some(piece) = self.pieces.get_mut(place) else {
            return false;
        };
        let have = piece.bytes.len();
        let wanted = if have == 0 { BEYOND } else { piece.next() }.min(self.left);
        piece.bytes.resize(have + wanted, 0);
        let start = piece.start.saturating_add(have as u64);
        let read = memory.read(start, &mut piece.bytes[have..]);
        piece.bytes.truncate(have + read);
        self.left -= read;
        self.is_unanswered |= read == 0 && memory.is_unanswered(start);
        read > 0
    }

    /// The next frame is at `stack_pointer`, perhaps on another stack: a signal handler may have one of its own.
    pub(super) fn switch_to(&mut self, stack_pointer: u64) {
        // Where nothing was read yet there may be a gap: an alternate stack often lies right below the thread's own.
        let is_read = self.pieces.iter().any(|piece| piece.word(stack_pointer).is_some());
        if self.more.is_some() && !is_read {
            self.base = stack_pointer;
            self.pieces.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory of our own, each word of which holds its own address.
    fn words(bytes: usize) -> Vec<u64> {
        let mut words = vec![0_u64; bytes / 8];
        let base = words.as_ptr() as u64;
        words.iter_mut().zip(0..).for_each(|(word, place)| *word = base + 8 * place);
        words
    }

    #[test]
    fn a_large_frame_is_passed_without_reading_it() {
        let own = ProcessMemory::new(std::process::id());
        let words = words(16 << 20);
        let base = words.as_ptr() as u64;
        let mut memory = StackMemory::live(base, &[], &own);
        for offset in [0, 64, 8 << 20, (8 << 20) + 8, (8 << 20) - 8, 12 << 20, 100 << 10, (16 << 20) - 8] {
            assert_eq!(memory.word(base + offset), Ok(base + offset), "{offset}");
        }
        assert!(MAX_READ - memory.left < 128 << 10, "{}", memory.left);
        assert_eq!(memory.missed, Missed::Nothing);
    }

    #[test]
    fn frames_that_lie_together_are_read_together() {
        let own = ProcessMemory::new(std::process::id());
        let words = words(1 << 20);
        let base = words.as_ptr() as u64;
        let mut memory = StackMemory::live(base, &[0; 0], &own);
        for offset in (0..1 << 20).step_by(64) {
            assert_eq!(memory.word(base + offset), Ok(base + offset));
        }
        assert_eq!(memory.pieces.len(), 1);
    }

    #[test]
    fn no_more_is_read_than_the_limit() {
        let own = ProcessMemory::new(std::process::id());
        let words = words(64 << 20);
        let base = words.as_ptr() as u64;
        let mut memory = StackMemory::live(base, &[], &own);
        let read = (0..64 << 20).step_by(32 << 10).take_while(|offset| memory.word(base + offset).is_ok()).count();
        assert!(read >= 512, "{read}");
        assert_eq!((memory.missed, memory.left), (Missed::TooFar, 0));
        assert_eq!(memory.word(base), Ok(base), "what was read is still there");
    }

    #[test]
    fn what_is_not_there_is_not_there() {
        let own = ProcessMemory::new(std::process::id());
        let mut memory = StackMemory::live(4096, &[], &own);
        assert_eq!((memory.word(8192), memory.missed), (Err(()), Missed::Nothing));
        assert_eq!((memory.word(0), memory.missed), (Err(()), Missed::Nothing), "below the stack pointer");
        assert_eq!((memory.word(u64::MAX), memory.missed), (Err(()), Missed::TooFar));
        let mut captured = StackMemory::captured(4096, &7_u64.to_le_bytes());
        assert_eq!((captured.word(4096), captured.missed), (Ok(7), Missed::Nothing));
        assert_eq!((captured.word(4100), captured.missed), (Err(()), Missed::Uncaptured));
    }
}
