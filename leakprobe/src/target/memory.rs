//! Reading the target's memory.

use std::{ops::Range, sync::Arc};

use nix::unistd::Pid;

use super::answers::Answers;

/// A piece of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins.
    pub address: u64,
    /// How many bytes it has.
    pub len: usize,
}

impl Piece {
    /// Where it ends.
    #[must_use]
    pub fn end(self) -> u64 {
        self.address.saturating_add(self.len as u64)
    }
}

/// Memory that can be read, though perhaps not all of it.
pub trait Memory {
    /// Reads from `address` on; returns how many bytes could be read, which is fewer where the mapping ends.
    fn read(&self, address: u64, into: &mut [u8]) -> usize;

    /// Reads each piece to its place in one buffer, in which each has all of its length, one after another. Returns how
    /// many bytes of each could be read.
    fn read_all(&self, pieces: &[Piece], into: &mut [u8]) -> Vec<usize> {
        let mut rest = into;
        let mut lengths = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let (own, others) = rest.split_at_mut(piece.len.min(rest.len()));
            lengths.push(self.read(piece.address, own));
            rest = others;
        }
        lengths
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        Self::read(self, address, into)
    }

    /// One system call for up to 1024 pieces; another one after each piece that is cut short.
    fn read_all(&self, pieces: &[Piece], into: &mut [u8]) -> Vec<usize> {
        self.answers.read_all(self.pid, pieces, into)
    }
}

/// The memory of a process, as a thread of it sees it.
///
/// Memory may never answer: what is read from a page that a userfaultfd handler or a file system is to provide, and does not, sleeps
/// as long as our process lives. So it is read aside, and the caller gets an answer within half a second (see `target/answers.rs`).
#[derive(Clone, Debug)]
pub struct ProcessMemory {
    pid: Pid,
    answers: Arc<Answers>,
}

impl ProcessMemory {
    /// The memory of `pid`. Reading needs `CAP_SYS_PTRACE`, or the same user and no ptrace restrictions.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self { pid: raw(pid), answers: Arc::default() }
    }

    /// The same memory, read through another thread.
    #[must_use]
    pub fn through(&self, thread: u32) -> Self {
        Self { pid: raw(thread), answers: Arc::clone(&self.answers) }
    }

    /// From now on, of these mappings only pages are touched that are in the target's memory already: they are of files that may never
    /// answer.
    pub(crate) fn set_served_by_others(&self, ranges: Vec<Range<u64>>) {
        self.answers.set_served_by_others(ranges);
    }

    /// Whether memory at this address could not be read since whoever is to provide it does not answer.
    #[must_use]
    pub fn is_unanswered(&self, address: u64) -> bool {
        self.answers.is_unanswered(self.pid, address)
    }

    /// Reads from `address` on; returns how many bytes could be read, which is fewer where the mapping ends.
    #[must_use]
    pub fn read(&self, address: u64, into: &mut [u8]) -> usize {
        let piece = Piece { address, len: into.len() };
        self.answers.read_all(self.pid, &[piece], into).first().copied().unwrap_or(0)
    }

    /// Reads `size` bytes from each address into one buffer, one piece after another; see [`Memory::read_all`].
    #[must_use]
    pub fn read_pieces(&self, addresses: &[u64], size: usize, into: &mut [u8]) -> Vec<usize> {
        let pieces: Vec<Piece> = addresses.iter().map(|&address| Piece { address, len: size }).collect();
        self.read_all(&pieces, into)
    }

    /// Reads one little-endian word.
    #[must_use]
    pub fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        (self.read(address, &mut bytes) == bytes.len()).then(|| u64::from_le_bytes(bytes))
    }
}

fn raw(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap_or(-1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_around_an_unreadable_one_are_read() {
        let memory = ProcessMemory::new(std::process::id());
        let (a, b) = ([7u8; 16], [9u8; 16]);
        let mut into = [0; 48];
        let lengths = memory.read_pieces(&[a.as_ptr() as u64, 8, b.as_ptr() as u64], 16, &mut into);
        assert_eq!(lengths, [16, 0, 16]);
        assert_eq!((into[0], into[47]), (7, 9));
    }

    #[test]
    fn a_process_that_is_not_there_reads_as_nothing() {
        assert_eq!(ProcessMemory::new(u32::MAX).read(0x1000, &mut [0; 8]), 0);
    }
}
