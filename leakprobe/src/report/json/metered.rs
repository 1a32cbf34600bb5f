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

/// Most bytes of one text, as it is written: reports hold several copies of a name at a time.
pub(super) const MOST_TEXT: u64 = 1 << 20;

/// Why reading was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Size,
    Memory,
    Text,
}

/// How long the text is that a JSON document is in the middle of.
#[derive(Debug, Default)]
struct Text {
    /// `None` between texts.
    length: Option<u64>,
    is_escaped: bool,
}

impl Text {
    /// Goes on over the next bytes; whether no text was too long.
    fn is_short(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            self.length = match (self.length, byte) {
                (None, b'"') => Some(0),
                (Some(_), b'"') if !self.is_escaped => None,
                (Some(MOST_TEXT), _) => return false,
                (Some(length), _) => {
                    self.is_escaped = byte == b'\\' && !self.is_escaped;
                    Some(length + 1)
                }
                (None, _) => None,
            };
        }
        true
    }
}

/// Reads from another reader as long as limits are kept.
pub(super) struct Metered<R> {
    from: R,
    most_bytes: u64,
    read: u64,
    memory_before: u64,
    text: Text,
    reached: Rc<Cell<Option<Limit>>>,
}

impl<R: Read> Metered<R> {
    /// The reader, and where it says which limit was reached.
    pub(super) fn new(from: R, most_bytes: u64) -> (BufReader<Self>, Rc<Cell<Option<Limit>>>) {
        let reached = Rc::default();
        let metered = Self {
            from,
            most_bytes,
            read: 0,
            memory_before: resident().unwrap_or(0),
            text: Text::default(),
            reached: Rc::clone(&reached),
        };
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
        let is_short = self.text.is_short(buffer.get(..count).unwrap_or_default());
        let limit = if is_short { self.limit(before) } else { Some(Limit::Text) };
        if let Some(limit) = limit {
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
    fn a_text_is_bounded_and_others_are_not() {
        let most = usize::try_from(MOST_TEXT).unwrap();
        let long = |length: usize| format!("\"{}\"", "x".repeat(length));
        assert!(Text::default().is_short(long(most).as_bytes()));
        assert!(!Text::default().is_short(long(most + 1).as_bytes()));
        let mut text = Text::default();
        for _ in 0..100 {
            assert!(text.is_short(br#" ["a\\", "\"b", 1234567890, "","#) && text.length.is_none());
            assert!(text.is_short(long(most / 2).as_bytes()));
        }
        assert!(text.is_short(br#""\""#) && text.length == Some(2), "it has not ended");
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
