//! Reading the target's memory: `process_vm_readv`, which neither stops nor writes.

use std::io::IoSliceMut;

use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

/// Most pieces that one system call reads (`IOV_MAX`).
const MAX_PIECES: usize = 1024;

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
        let mut lengths = Vec::with_capacity(pieces.len());
        let mut rest = into;
        while lengths.len() < pieces.len() {
            let batch = pieces.get(lengths.len()..).unwrap_or_default();
            let batch = batch.get(..MAX_PIECES).unwrap_or(batch);
            let remote: Vec<_> = batch
                .iter()
                .map(|piece| RemoteIoVec { base: usize::try_from(piece.address).unwrap_or(0), len: piece.len })
                .collect();
            let size = batch.iter().map(|piece| piece.len).sum::<usize>().min(rest.len());
            let mut left = process_vm_readv(self.pid, &mut [IoSliceMut::new(&mut rest[..size])], &remote).unwrap_or(0);
            let mut passed = 0;
            for piece in batch {
                let read = left.min(piece.len);
                left -= read;
                passed += piece.len;
                lengths.push(read);
                if read < piece.len {
                    // The kernel stops in the first piece that it cannot read to its end; go on after it.
                    break;
                }
            }
            rest = &mut rest[passed.min(size)..];
        }
        lengths
    }
}

/// The memory of a process.
#[derive(Clone, Copy, Debug)]
pub struct ProcessMemory {
    pid: Pid,
}

impl ProcessMemory {
    /// The memory of `pid`. Reading needs `CAP_SYS_PTRACE`, or the same user and no ptrace restrictions.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self { pid: Pid::from_raw(i32::try_from(pid).unwrap_or(-1)) }
    }

    /// Reads from `address` on; returns how many bytes could be read, which is fewer where the mapping ends.
    #[must_use]
    pub fn read(&self, address: u64, into: &mut [u8]) -> usize {
        let Ok(base) = usize::try_from(address) else {
            return 0;
        };
        let remote = [RemoteIoVec { base, len: into.len() }];
        process_vm_readv(self.pid, &mut [IoSliceMut::new(into)], &remote).unwrap_or(0)
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
