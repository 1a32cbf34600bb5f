//! Little-endian words and C strings in bytes that nobody vouches for.

use std::borrow::Cow;

/// Longest name or path that is read. The compiler shortens what gets much longer than this, so a longer one is damage.
pub(super) const MAX_STRING: usize = 64 << 10;

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The string that begins at `at` and ends before a zero.
pub(super) fn string_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    let rest = rest.get(..MAX_STRING).unwrap_or(rest);
    rest.iter().position(|&byte| byte == 0).and_then(|end| rest.get(..end))
}

/// A string as text; `?`, as the runtime prints it, where there is none.
pub(super) fn text(string: Option<&[u8]>) -> Cow<'_, str> {
    string.map_or(Cow::Borrowed("?"), String::from_utf8_lossy)
}
