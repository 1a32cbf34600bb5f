//! `/proc/PID/stat`, and that of a thread.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    time::Duration,
};

use super::silent;

/// Longest that is read: it has some fifty numbers.
const MOST_BYTES: u64 = 4096;
/// `PF_KTHREAD`.
const KERNELS: u32 = 0x0020_0000;

/// How long a process may take to tell its `stat` that is wanted for certain.
const PATIENCE_WITH_TARGET: Duration = Duration::from_secs(3);

/// What of it is used.
/// Source: <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The name, without a zero at its end.
    pub comm: Vec<u8>,
    /// What it does, as a letter.
    pub state: u8,
    /// The process that has created it, or has adopted it since.
    pub parent: u32,
    /// Its process group.
    pub group: i32,
    /// The kernel's flags, `PF_*`.
    pub flags: u32,
    /// How many threads the process has.
    pub threads: u32,
    /// When it began, clock ticks since boot.
    pub start_ticks: u64,
    /// Where its program's code begins: 1 if we may not know, 0 if it has no address space, or one that is being made.
    pub start_code: u64,
    /// Where its first stack begins; 0 if we may not know, or as above.
    pub start_stack: u64,
    /// The CPU that it ran on last.
    pub cpu: u32,
}

impl Stat {
    /// Of a process; `None` if it is gone, or does not answer.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        Self::read_within(pid, silent::PATIENCE).ok()
    }

    /// Of a process that is wanted for certain, and may wait for its program to come from a slow disk.
    ///
    /// # Errors
    /// What the kernel says: `ENOENT` or `ESRCH` if it is gone; [`io::ErrorKind::TimedOut`] if it says nothing for three seconds, and from
    /// then on until it does; or if it seems to hang and too many others do.
    pub fn read(pid: u32) -> io::Result<Self> {
        Self::read_within(pid, PATIENCE_WITH_TARGET)
    }

    fn read_within(pid: u32, patience: Duration) -> io::Result<Self> {
        let read = move || Self::at(format!("/proc/{pid}/stat"));
        let no_answer = || io::Error::new(io::ErrorKind::TimedOut, "it does not answer");
        silent::ask(pid, patience, read).unwrap_or_else(|| Err(no_answer()))
    }

    /// Of a thread of a process; `None` if it is gone.
    #[must_use]
    pub fn of_thread(pid: u32, tid: u32) -> Option<Self> {
        Self::at(format!("/proc/{pid}/task/{tid}/stat")).ok()
    }

    fn at(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut text = Vec::new();
        File::open(path)?.take(MOST_BYTES).read_to_end(&mut text)?;
        Self::parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its stat has another shape"))
    }

    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        // The name may hold anything, so the last parenthesis counts.
        let open = text.iter().position(|&byte| byte == b'(')?;
        let close = text.iter().rposition(|&byte| byte == b')')?;
        let comm = text.get(open + 1..close)?.to_vec();
        let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // The third field of the file is the first one here.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            comm,
            state: *field(3)?.as_bytes().first()?,
            parent: field(4)?.parse().ok()?,
            group: field(5)?.parse().ok()?,
            flags: field(9)?.parse().ok()?,
            threads: field(20)?.parse().ok()?,
            start_ticks: field(22)?.parse().ok()?,
            start_code: field(26)?.parse().ok()?,
            start_stack: field(28)?.parse().ok()?,
            cpu: field(39)?.parse().ok()?,
        })
    }

    /// The name, for people.
    #[must_use]
    pub fn name(&self) -> String {
        String::from_utf8_lossy(&self.comm).into_owned()
    }

    /// Whether it has ended: of a process its first thread, which others may outlive.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Whether a process has ended with all its threads.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.has_exited() && self.threads <= 1
    }

    /// Whether it is a thread of the kernel.
    #[must_use]
    pub fn is_kernels(&self) -> bool {
        self.flags & KERNELS != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &[u8] = b"1234 (a) b (c) S 1 -7 1234 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 3 0 55443 1000 20 18446744073709551615 94000 1 140735000 0 0 0 0 0 0 1 0 0 17 5 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

    #[test]
    fn a_name_may_hold_parentheses() {
        let stat = Stat::parse(STAT).unwrap();
        assert_eq!((&stat.comm[..], stat.state, stat.parent, stat.group), (&b"a) b (c"[..], b'S', 1, -7));
        assert_eq!((stat.flags, stat.start_ticks, stat.cpu), (4_194_304, 55443, 5));
        assert_eq!((stat.start_code, stat.start_stack), (94_000, 140_735_000));
        assert_eq!((stat.name().as_str(), stat.threads), ("a) b (c", 3));
        assert!(!stat.has_exited() && !stat.is_kernels());
        let ended = |threads| Stat { state: b'Z', threads, ..stat.clone() };
        assert!(ended(2).has_exited() && !ended(2).is_over() && ended(1).is_over());
        let other = String::from_utf8_lossy(STAT).replace("(a) b (c) S", "(x) Z 9 9\n) D");
        let other = Stat::parse(other.as_bytes()).unwrap();
        assert_eq!((&other.comm[..], other.state), (&b"x) Z 9 9\n"[..], b'D'));
    }

    #[test]
    fn what_is_cut_short_is_nothing() {
        let whole = Stat::parse(STAT);
        let cpu = STAT.len() - b" 0 0 0 0 0 0 0 0 0 0 0 0 0\n".len();
        for len in 0..STAT.len() {
            assert_eq!(Stat::parse(&STAT[..len]), whole.clone().filter(|_| len >= cpu), "{len}");
        }
        for broken in ["", ")", "1 (a", "1 (a) S x 1", "1 )a( S 1 1"] {
            assert_eq!(Stat::parse(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn our_own_is_there() {
        let own = Stat::of(std::process::id()).unwrap();
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        assert_eq!(Stat::of_thread(std::process::id(), std::process::id()).unwrap().start_ticks, own.start_ticks);
        assert_eq!(Stat::of(u32::MAX), None);
    }
}
