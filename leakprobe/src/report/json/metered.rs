//! A reader that stops where a file is too large, or takes more memory than a file of its size may.

use std::{
    cell::Cell,
    io::{self, BufReader, Read},
    rc::Rc,
};

/// Most bytes of memory that the data may take for each byte that was read.
pub(super) const MEMORY_PER_BYTE: u64 = 3;
/// Beyond that, bytes: small files need not be counted so exactly, and other threads use memory, too.
const ALLOWANCE: u64 = 64 << 20;
/// How often memory is looked at, bytes read.
const STEP: u64 = 1 << 20;
const BUFFER: usize = 64 << 10;

/// Why reading was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Size,
    Memory,
}

/// Reads from another reader as long as limits are kept.
pub(super) struct Metered<R> {
    from: R,
    most_bytes: u64,
    read: u64,
    memory_before: u64,
    reached: Rc<Cell<Option<Limit>>>,
}

impl<R: Read> Metered<R> {
    /// The reader, and where it says which limit was reached.
    pub(super) fn new(from: R, most_bytes: u64) -> (BufReader<Self>, Rc<Cell<Option<Limit>>>) {
        let reached = Rc::default();
        let metered =
            Self { from, most_bytes, read: 0, memory_before: resident().unwrap_or(0), reached: Rc::clone(&reached) };
        (BufReader::with_capacity(BUFFER, metered), reached)
    }

    fn limit(&self, before: u64) -> Option<Limit> {
        if self.read > self.most_bytes {
            return Some(Limit::Size);
        }
        if self.read / STEP == before / STEP {
            return None;
        }
        let grown = resident()?.saturating_sub(self.memory_before);
        (grown > self.read.saturating_mul(MEMORY_PER_BYTE).saturating_add(ALLOWANCE)).then_some(Limit::Memory)
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        let before = self.read;
        self.read = self.read.saturating_add(count as u64);
        if let Some(limit) = self.limit(before) {
            self.reached.set(Some(limit));
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(count)
    }
}

/// Memory of this process, bytes; `None` without /proc.
/// Source: <https://man7.org/linux/man-pages/man5/proc_pid_statm.5.html>.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_not_read() {
        let (mut reader, reached) = Metered::new(io::repeat(b' '), 100_000);
        assert!(io::copy(&mut reader, &mut io::sink()).is_err());
        assert_eq!(reached.get(), Some(Limit::Size));
        let (mut reader, reached) = Metered::new(io::repeat(b' ').take(100_000), 100_000);
        assert_eq!(io::copy(&mut reader, &mut io::sink()).unwrap(), 100_000);
        assert_eq!(reached.get(), None);
    }

    #[test]
    fn what_takes_too_much_memory_is_not_read_on() {
        let (mut reader, reached) = Metered::new(io::repeat(b' '), u64::MAX);
        let mut kept = Vec::new();
        let mut buffer = [0; 1 << 16];
        while reader.read(&mut buffer).is_ok() {
            kept.push(vec![1_u8; 1 << 19]);
        }
        assert_eq!(reached.get(), Some(Limit::Memory));
        assert!(kept.len() < 1000, "{}", kept.len());
    }
}
