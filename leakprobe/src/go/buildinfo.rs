//! Which Go a program was built with: the blob `.go.buildinfo`, which stripping does not remove.
//!
//! Source: <https://github.com/golang/go/blob/go1.27.0/src/debug/buildinfo/buildinfo.go>

use std::ops::{ControlFlow, Range};

use super::{
    Version,
    memory::{Scan, Words, word_at},
};

/// What the blob begins with.
const MAGIC: [u8; 14] = *b"\xff Go buildinf:";
/// The blob's header; the version follows it, or is pointed to from it.
const HEADER: u16 = 32;
/// Longest text of a version that is read, bytes.
const MAX_VERSION: usize = 256;
/// Flag: the version follows the header, as a number of bytes and that many bytes. Since Go 1.18.
const INLINE: u8 = 2;

/// What a program says of its Go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BuildInfo {
    /// A version.
    Version(Version),
    /// It is a Go program, but says something else, e.g. `unknown`.
    Other(String),
    /// It is Go, but says nothing: a plugin of Go 1.20 or older, or the blob was removed or overwritten.
    Nothing,
}

/// The version in the blob that begins at `address`; `None` if none does.
pub(super) fn at(memory: &impl Words, address: u64) -> Option<BuildInfo> {
    let blob = memory.bytes(address, usize::from(HEADER) + 1 + MAX_VERSION);
    if !blob.starts_with(&MAGIC) {
        return None;
    }
    let flags = *blob.get(15)?;
    let text = if flags & INLINE != 0 {
        let (&len, rest) = blob.get(usize::from(HEADER)..)?.split_first()?;
        // A length of 128 or more would be written in two bytes; no version is so long.
        rest.get(..usize::from(len))?.to_vec()
    } else {
        let [pointer, len] = memory.words(word_at(&blob, 16_u16)?)?;
        memory.bytes(pointer, usize::try_from(len).ok()?.min(MAX_VERSION))
    };
    let text = String::from_utf8_lossy(&text);
    Some(Version::parse(&text).map_or_else(
        || BuildInfo::Other(text.chars().filter(char::is_ascii_graphic).take(MAX_VERSION).collect()),
        BuildInfo::Version,
    ))
}

/// Looks for the blob in a segment: it is 16-aligned.
pub(super) fn find(memory: &impl Words, segment: &Range<u64>) -> Option<BuildInfo> {
    let magic = word_at(&MAGIC, 0_u16)?;
    let found = memory.scan(segment, |address, &[word]| match address.is_multiple_of(16) && word == magic {
        true => at(memory, address).map_or(ControlFlow::Continue(()), ControlFlow::Break),
        false => ControlFlow::Continue(()),
    });
    match found {
        Scan::Found(info) => Some(info),
        Scan::Nothing | Scan::Unreadable => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::memory::fake::Fake, *};

    fn inline(version: &str) -> Vec<u8> {
        let mut blob = MAGIC.to_vec();
        blob.extend([8, INLINE]);
        blob.resize(HEADER.into(), 0);
        blob.push(u8::try_from(version.len()).unwrap());
        blob.extend(version.bytes());
        blob
    }

    fn is(info: Option<BuildInfo>, minor: u16) -> bool {
        matches!(info, Some(BuildInfo::Version(version)) if version.minor == minor)
    }

    #[test]
    fn the_version_is_found_in_a_segment_at_any_aligned_place() {
        for place in [0x5000, 0x5010, 0x5000 + (256 << 10) - 16] {
            let mut memory = Fake(vec![(0x5000, vec![0; 1 << 20])]);
            memory.put_bytes(place, &inline("go1.26.6"));
            assert!(is(find(&memory, &(0x5000..0x10_5000)), 26), "{place:#x}");
        }
    }

    #[test]
    fn an_old_blob_points_to_its_version() {
        let mut memory = Fake::default();
        let mut blob = MAGIC.to_vec();
        blob.extend([8, 0]);
        blob.extend(0x9000u64.to_le_bytes());
        blob.resize(512, 0);
        memory.put_bytes(0x5000, &blob);
        memory.put(0x9000, &[0xa000, 8]);
        memory.put_bytes(0xa000, b"go1.15.8rest");
        assert!(is(at(&memory, 0x5000), 15));
    }

    #[test]
    fn a_blob_that_is_cut_or_damaged_is_none_or_says_something_else() {
        let whole = inline("go1.27.3");
        for len in 0..whole.len() {
            let memory = Fake(vec![(0x5000, whole[..len].to_vec())]);
            assert_eq!(at(&memory, 0x5000), None, "{len} bytes");
        }
        let memory = Fake(vec![(0x5000, inline("unknown"))]);
        assert_eq!(at(&memory, 0x5000), Some(BuildInfo::Other("unknown".into())));
        for at_byte in 0..whole.len() {
            let mut blob = whole.clone();
            blob[at_byte] ^= 0xff;
            let _ = at(&Fake(vec![(0x5000, blob)]), 0x5000);
        }
    }
}
