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

/// What `/proc/PID/stat` says of a process: its parent, its process group and its state's letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) parent: u32,
    pub(crate) group: i32,
    pub(crate) state: char,
}

/// Reads it.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&text(format!("/proc/{pid}/stat"), 4096)?.0)
}

/// The name stands in brackets and may have brackets, blanks and line ends in it.
fn parse_stat(text: &str) -> Option<Stat> {
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some(Stat { parent: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()?, state })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_whatever_its_name() {
        let stat = |state, parent, group| Some(Stat { parent, group, state });
        assert_eq!(parse_stat("12 (a b) S 1 12 12 0"), stat('S', 1, 12));
        assert_eq!(parse_stat("12 (x) Z 99 5\n) D 7 -1 0"), stat('D', 7, -1));
        let whole = "12 (a) S 1 12 12 0";
        for end in 0..whole.len() {
            let _ = parse_stat(&whole[..end]);
        }
        for broken in ["", ")", "1 (a", "1 (a) S x 1", "1 (a) S 1 99999999999999"] {
            assert_eq!(parse_stat(broken), None, "{broken}");
        }
        let own = super::stat(std::process::id()).unwrap();
        assert_eq!(own.parent, std::os::unix::process::parent_id());
    }

    #[test]
    fn no_more_is_read_than_asked_for() {
        assert_eq!(read_bounded("/proc/self/status", 5).unwrap(), (b"Name:".to_vec(), false));
        assert!(read_bounded("/proc/self/comm", 64).unwrap().1);
        assert_eq!(status_field("self", "Tgid"), Some(std::process::id().to_string()));
        assert_eq!(comm(u32::MAX), None);
    }
}
