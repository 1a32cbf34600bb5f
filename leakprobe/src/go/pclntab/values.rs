//! Tables of values by program counter: line, file, frame size or inlined call at each instruction of a function.
//!
//! A table is a chain of pairs of variable-length integers: by how much the value changes (zigzag), and for how many
//! instruction units it then holds. It begins with the value -1 at the function's entry and ends with a zero.
//!
//! Source: `pcvalue` and `step` in <https://github.com/golang/go/blob/go1.27.0/src/runtime/symtab.go>.
//!
//! A walk is bounded: every pair leads forward (no linker writes one that does not), none is read behind the end of the
//! bytes, and there are at most [`MAX_PAIRS`].

/// Most pairs that are read in one walk, some milliseconds of work. A function with so many would have megabytes of code;
/// the longest table of the `go` command itself has 5,108.
const MAX_PAIRS: u32 = 1 << 20;

/// Longest variable-length integer: 32 bits, 7 in a byte.
const MAX_VARINT: usize = 5;

/// The spans of one table, in order.
pub(super) struct Spans<'a> {
    rest: &'a [u8],
    quantum: u32,
    value: i32,
    /// End of the last span: bytes from the function's entry.
    end: u32,
    left: u32,
}

impl<'a> Spans<'a> {
    /// `bytes` begin with the table; they may go on behind it.
    pub(super) fn new(bytes: &'a [u8], quantum: u8) -> Self {
        Self { rest: bytes, quantum: u32::from(quantum), value: -1, end: 0, left: MAX_PAIRS }
    }

    /// The value at `offset` bytes from the function's entry, if one of the next `most` spans is the first to reach that far.
    pub(super) fn value_at(&mut self, offset: u32, most: usize) -> Option<i32> {
        self.by_ref().take(most).find(|&(_, end)| offset < end).map(|(value, _)| value)
    }

    /// Whether the table has ended.
    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    fn varint(&mut self) -> Option<u32> {
        // Most have one byte.
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Some(u32::from(*byte));
        }
        let mut value = 0;
        for index in 0..MAX_VARINT {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u32::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn read(&mut self) -> Option<(i32, u32)> {
        let change = self.varint()?;
        if change == 0 && self.end != 0 {
            return None;
        }
        let length = self.varint().filter(|&length| length != 0)?;
        self.value = self.value.wrapping_add((change >> 1).cast_signed() ^ -((change & 1).cast_signed()));
        self.end = self.end.checked_add(length.checked_mul(self.quantum)?)?;
        Some((self.value, self.end))
    }
}

impl Iterator for Spans<'_> {
    /// A value, and where its span ends: bytes from the function's entry.
    type Item = (i32, u32);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let span = self.read();
        if span.is_none() {
            self.left = 0; // nothing behind the end is a table
        }
        span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_they_were_written() {
        // +1 for 3 units, -300 for 200 units, then the end.
        let table = [2, 3, 0xd7, 4, 0xc8, 1, 0, 9, 9];
        assert_eq!(Spans::new(&table, 1).collect::<Vec<_>>(), [(0, 3), (-300, 203)]);
        assert_eq!(Spans::new(&table, 4).collect::<Vec<_>>(), [(0, 12), (-300, 812)]);
        let at = |offset| Spans::new(&table, 1).value_at(offset, 9);
        assert_eq!([at(0), at(2), at(3), at(202), at(203)], [Some(0), Some(0), Some(-300), Some(-300), None]);
    }

    #[test]
    fn the_first_value_may_be_unchanged() {
        assert_eq!(Spans::new(&[0, 5, 4, 5, 0], 1).collect::<Vec<_>>(), [(-1, 5), (1, 10)]);
    }

    #[test]
    fn a_walk_ends_with_the_bytes_and_at_its_bound() {
        for cut in 0..6 {
            assert_eq!(Spans::new(&[2, 3, 0xd7, 4, 0xc8, 1][..cut], 1).count(), [0, 0, 1, 1, 1, 1][cut]);
        }
        let endless = vec![2; 4 << 20];
        assert_eq!(Spans::new(&endless, 1).count(), MAX_PAIRS as usize);
        assert_eq!(Spans::new(&[0x80; 100], 1).count(), 0, "an integer without end");
        assert_eq!(Spans::new(&[2, 0, 2, 0], 1).count(), 0, "a span of nothing");
        assert_eq!(Spans::new(&[2, 0xff, 0xff, 0xff, 0xff, 0xf, 2, 1], 4).count(), 0, "a span beyond 32 bits");
    }
}
