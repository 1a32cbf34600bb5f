//! Reading the target's memory: `process_vm_readv`, which neither stops nor writes.

use std::io::IoSliceMut;

use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

/// Most pieces that one system call reads (`IOV_MAX`).
const MAX_PIECES: usize = 1024;

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

    /// Reads `size` bytes from each address into one buffer, one piece after another. Returns how many bytes of each piece
    /// could be read. One system call for up to 1024 pieces; another one after each piece that is cut short.
    #[must_use]
    pub fn read_pieces(&self, addresses: &[u64], size: usize, into: &mut [u8]) -> Vec<usize> {
        let mut lengths = Vec::with_capacity(addresses.len());
        while lengths.len() < addresses.len() {
            let begin = lengths.len();
            let end = addresses.len().min(begin + MAX_PIECES);
            let remote: Vec<_> = addresses[begin..end]
                .iter()
                .map(|&address| RemoteIoVec { base: usize::try_from(address).unwrap_or(0), len: size })
                .collect();
            let Some(local) = into.get_mut(begin * size..end * size) else {
                break;
            };
            let read = process_vm_readv(self.pid, &mut [IoSliceMut::new(local)], &remote).unwrap_or(0);
            lengths.extend(std::iter::repeat_n(size, read / size));
            if lengths.len() < end {
                // The kernel stops in the first piece that it cannot read to its end; go on after it.
                lengths.push(read % size);
            }
        }
        lengths.resize(addresses.len(), 0);
        lengths
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
