//! Reading small files of `/proc`, whose length others decide.

use std::{fmt::Display, fs::File, io::Read, path::Path};

/// Reads at most `most` bytes of a file below `/proc`; the flag says whether that was all.
///
/// Files of `/proc` never block and have no end that could be known before; what is in them may be as long as the process likes.
pub(crate) fn read_bounded(path: impl AsRef<Path>, most: usize) -> Option<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(most as u64 + 1).read_to_end(&mut bytes).ok()?;
    let is_whole = bytes.len() <= most;
    bytes.truncate(most);
    Some((bytes, is_whole))
}

/// The same as text.
pub(crate) fn text(path: impl AsRef<Path>, most: usize) -> Option<(String, bool)> {
    let (bytes, is_whole) = read_bounded(path, most)?;
    Some((String::from_utf8_lossy(&bytes).into_owned(), is_whole))
}

/// The name of a process or thread; `None` if it is gone.
pub(crate) fn comm(pid: impl Display) -> Option<String> {
    let (name, _) = text(format!("/proc/{pid}/comm"), 64)?;
    Some(name.trim_end_matches('\n').to_owned())
}

/// A field of `/proc/PID/status`.
pub(crate) fn status_field(pid: impl Display, key: &str) -> Option<String> {
    let (status, _) = text(format!("/proc/{pid}/status"), 1 << 14)?;
    field(&status, key).map(str::to_owned)
}

/// The value of `key:` at the beginning of a line.
pub(crate) fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_asked_for() {
        assert_eq!(read_bounded("/proc/self/status", 5).unwrap(), (b"Name:".to_vec(), false));
        assert!(read_bounded("/proc/self/comm", 64).unwrap().1);
        assert_eq!(status_field("self", "Tgid"), Some(std::process::id().to_string()));
        assert_eq!(comm(u32::MAX), None);
    }
}
