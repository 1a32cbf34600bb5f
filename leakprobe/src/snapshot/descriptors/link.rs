//! What a descriptor leads to.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};

use crate::model::WaitKind;

/// What a descriptor leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// A socket, by inode.
    Socket(u64),
    /// A pipe, with the path if it is a FIFO.
    Pipe(PipeId, Option<String>),
    /// What has no name anywhere, and its type: `[eventpoll]`, `inotify`.
    Anonymous(String),
    /// A file, directory or device, by path.
    File(String),
}

/// A pipe among all of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PipeId {
    /// By inode.
    Anonymous(u64),
    /// A FIFO, by device and inode.
    Named(u64, u64),
}

impl Link {
    /// What `fd` of the task leads to; `None` if it is not open, or may not be looked at.
    pub(crate) fn read(task: u32, fd: i32) -> Option<Self> {
        let path = PathBuf::from(format!("/proc/{task}/fd/{fd}"));
        let link = fs::read_link(&path).ok()?;
        let text = link.to_string_lossy();
        Some(match Self::of_text(&text) {
            Some(link) => link,
            None => match fifo(&path) {
                Some(id) => Self::Pipe(id, Some(text.into_owned())),
                None => Self::File(text.into_owned()),
            },
        })
    }

    /// What can be said by the link alone; `None` if it is a path.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let inode = |kind: &str| text.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok();
        if let Some(inode) = inode("socket") {
            return Some(Self::Socket(inode));
        }
        if let Some(inode) = inode("pipe") {
            return Some(Self::Pipe(PipeId::Anonymous(inode), None));
        }
        Some(Self::Anonymous(text.strip_prefix("anon_inode:")?.to_owned()))
    }

    /// The kind of a wait for it.
    pub(crate) fn kind(&self) -> WaitKind {
        match self {
            Self::Socket(_) => WaitKind::Socket,
            Self::Pipe(..) => WaitKind::Pipe,
            Self::File(_) => WaitKind::File,
            Self::Anonymous(name) => match name.as_str() {
                "[signalfd]" => WaitKind::Signal,
                "[eventpoll]" => WaitKind::Poll,
                "[io_uring]" => WaitKind::IoUring,
                _ => WaitKind::Event,
            },
        }
    }

    /// Whether its inode may be this one, as far as that is known.
    pub(crate) fn may_have_inode(&self, inode: u64) -> bool {
        match self {
            Self::Socket(own) | Self::Pipe(PipeId::Anonymous(own) | PipeId::Named(_, own), _) => *own == inode,
            Self::Anonymous(_) | Self::File(_) => true,
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(inode) => write!(f, "socket:[{inode}]"),
            Self::Pipe(PipeId::Anonymous(inode), _) => write!(f, "pipe:[{inode}]"),
            Self::Pipe(_, path) => f.write_str(path.as_deref().unwrap_or("FIFO")),
            Self::Anonymous(name) => f.write_str(name.trim_start_matches('[').trim_end_matches(']')),
            Self::File(path) => f.write_str(path),
        }
    }
}

/// Which FIFO a descriptor leads to, if it leads to one. The file is not opened, and no server is asked for its attributes: one
/// that hangs would have us hang with the target.
pub(crate) fn fifo(path: &Path) -> Option<PipeId> {
    let stat = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE | StatxFlags::INO).ok()?;
    if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::Fifo {
        return None;
    }
    Some(PipeId::Named(u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor), stat.stx_ino))
}

/// How many descriptors the task has open; if the kernel does not tell (before 6.2), how many its table has room for.
pub(crate) fn open_descriptors(task: u32) -> Option<u64> {
    let open = fs::metadata(format!("/proc/{task}/fd")).ok()?.len();
    if open > 0 {
        return Some(open);
    }
    crate::snapshot::proc::status_field(task, "FDSize")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_told_apart() {
        let of = |text| Link::of_text(text);
        assert_eq!(of("socket:[12]"), Some(Link::Socket(12)));
        assert_eq!(of("pipe:[7]"), Some(Link::Pipe(PipeId::Anonymous(7), None)));
        assert_eq!(of("anon_inode:inotify").unwrap().kind(), WaitKind::Event);
        assert_eq!(of("anon_inode:[signalfd]").unwrap().kind(), WaitKind::Signal);
        // Files may be called anything; paths of the kernel begin with a slash.
        for path in
            ["/socket:[12]", "socket:[x]", "socket:[12", "pipe:12", "", "/dev/tty", "socket:[99999999999999999999]"]
        {
            assert_eq!(of(path), None, "{path}");
        }
    }

    #[test]
    fn a_fifo_is_told_by_its_inode_and_not_opened() {
        use std::os::{fd::AsRawFd, unix::fs::OpenOptionsExt};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let id = fifo(&path).unwrap();
        assert!(matches!(id, PipeId::Named(..)));
        let reader = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        let link = Link::read(std::process::id(), reader.as_raw_fd()).unwrap();
        assert_eq!(link, Link::Pipe(id, Some(path.to_string_lossy().into_owned())));
        assert!(open_descriptors(std::process::id()).unwrap() > 2);
        assert_eq!(Link::read(std::process::id(), i32::MAX), None);
    }
}
