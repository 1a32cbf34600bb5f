//! How large Zstandard data can become at most, without decompressing it.
//!
//! A frame is a list of blocks, each of which says how long it is and makes 128 KiB at most:
//! <https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1.2>

use object::ReadRef;

/// What a block makes at most.
const BLOCK: u64 = 128 << 10;
/// How much less than [`most_bytes`] honest data may make: its last block need not be full.
pub(super) const SLACK: u64 = BLOCK;
const FRAME: u32 = 0xfd2f_b528;
/// The magic numbers of frames that hold no data are these sixteen.
const SKIPPABLE: u32 = 0x184d_2a50;

/// The most bytes that the `length` bytes at `offset` can stand for; `None` if they are no whole Zstandard frames.
pub(super) fn most_bytes<'data, R: ReadRef<'data>>(data: R, offset: u64, length: u64) -> Option<u64> {
    let mut place = Place { data, at: offset, end: offset.checked_add(length)? };
    let mut most = 0u64;
    while place.at < place.end {
        let magic = place.number(4)?;
        if magic & 0xffff_fff0 == u64::from(SKIPPABLE) {
            let size = place.number(4)?;
            place.skip(size)?;
        } else if magic == u64::from(FRAME) {
            most = most.saturating_add(frame(&mut place)?);
        } else {
            return None;
        }
    }
    Some(most)
}

fn frame<'data, R: ReadRef<'data>>(place: &mut Place<R>) -> Option<u64> {
    let descriptor = place.number(1)?;
    let is_single = descriptor & 0x20 != 0;
    let dictionary = [0, 1, 2, 4][usize::try_from(descriptor & 3).ok()?];
    let content = match descriptor >> 6 {
        0 => u64::from(is_single),
        flag => 1 << flag,
    };
    place.skip(u64::from(!is_single) + dictionary + content)?;
    let mut most = 0u64;
    loop {
        let header = place.number(3)?;
        let (is_last, kind, size) = (header & 1 != 0, header >> 1 & 3, header >> 3);
        let (stored, makes) = match kind {
            0 => (size, size),
            1 => (1, size),
            2 => (size, BLOCK),
            _ => return None,
        };
        place.skip(stored)?;
        most = most.saturating_add(makes);
        if is_last {
            let has_checksum = descriptor & 4 != 0;
            place.skip(if has_checksum { 4 } else { 0 })?;
            return Some(most);
        }
    }
}

struct Place<R> {
    data: R,
    at: u64,
    end: u64,
}

impl<'data, R: ReadRef<'data>> Place<R> {
    /// A little-endian number of `size` bytes.
    fn number(&mut self, size: u64) -> Option<u64> {
        let from = self.at;
        self.skip(size)?;
        let bytes = self.data.read_bytes_at(from, size).ok()?;
        Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn skip(&mut self, size: u64) -> Option<()> {
        self.at = self.at.checked_add(size).filter(|&at| at <= self.end)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(data: &[u8]) -> Option<u64> {
        most_bytes(data, 0, data.len() as u64)
    }

    /// A frame without content size: two blocks that repeat a byte, 5 and 131072 times.
    const REPEATED: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0, 0x50, 0x2a, 0, 0, b'a', 0x03, 0, 0x10, b'b'];

    #[test]
    fn blocks_are_added_up() {
        assert_eq!(most(REPEATED), Some(5 + 131_072));
        let skipped = [&[0x5f, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9][..], REPEATED, REPEATED].concat();
        assert_eq!(most(&skipped), Some(2 * (5 + 131_072)));
        assert_eq!(most(&[]), Some(0));
    }

    #[test]
    fn cut_and_damaged_frames_are_none_or_bounded() {
        for cut in 1..REPEATED.len() {
            assert_eq!(most(&REPEATED[..cut]), None, "{cut}");
        }
        for at in 0..REPEATED.len() {
            for value in 0..=255 {
                let mut damaged = REPEATED.to_vec();
                damaged[at] = value;
                assert!(most(&damaged).unwrap_or(0) <= 4 << 20);
            }
        }
    }
}
