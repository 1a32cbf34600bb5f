//! `/proc/locks`: who holds the lock on a file that somebody waits for.
//!
//! Source: <https://elixir.bootlin.com/linux/v6.12/source/fs/locks.c#L2713> (`lock_get_status`).

use std::collections::{HashMap, HashSet};

use super::proc;

/// Bytes of the table that are read at most.
const MOST_BYTES: usize = 4 << 20;

/// A file as the table names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) inode: u64,
}

/// One line: a lock that is held, or one that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    /// A lock and those who wait for it have the same.
    group: u64,
    waits: bool,
    /// Who took it, or waits for it; `None` for locks that belong to an open file and not to a process.
    pub(crate) pid: Option<u32>,
    file: File,
    /// All but the group: by this it is known again in `/proc/PID/fdinfo`.
    pub(crate) text: String,
}

/// The locks of the table that somebody waits for, at one moment.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    /// Those who wait, by the file's inode.
    waiters: HashMap<u64, Vec<Lock>>,
    /// What they wait for, by group.
    held: HashMap<u64, Vec<Lock>>,
}

impl Locks {
    /// As the table is now.
    pub(super) fn read() -> Self {
        proc::text("/proc/locks", MOST_BYTES).map(|(table, _)| Self::parse(&table)).unwrap_or_default()
    }

    fn parse(table: &str) -> Self {
        let mut locks = Self::default();
        let waits = |line: &&str| line.contains("->");
        let groups: HashSet<u64> = table.lines().filter(waits).filter_map(group_of).collect();
        for lock in table.lines().filter(|line| may_be_of(line, &groups)).filter_map(Lock::parse) {
            let (place, key) =
                if lock.waits { (&mut locks.waiters, lock.file.inode) } else { (&mut locks.held, lock.group) };
            place.entry(key).or_default().push(lock);
        }
        locks
    }

    /// The locks that `pid` waits for on this file; `None` if that is not certain.
    pub(crate) fn blockers(&self, pid: u32, file: File) -> Option<Vec<Lock>> {
        // Some file systems have another device here than for stat. The inode and who waits are enough, where that is said.
        let is_ours = |lock: &&Lock| lock.pid == Some(pid) || (lock.pid.is_none() && lock.file == file);
        let waiters = self.waiters.get(&file.inode)?.iter();
        let mut groups: Vec<u64> = waiters.filter(is_ours).map(|lock| lock.group).collect();
        groups.dedup();
        // Several locks on one file are waited for: which of them this thread waits for cannot be told.
        let [group] = groups[..] else { return None };
        Some(self.held.get(&group).cloned().unwrap_or_default())
    }
}

/// Whether a line is of one of these groups; what is held without anybody waiting is not looked at any further.
fn may_be_of(line: &str, groups: &HashSet<u64>) -> bool {
    group_of(line).is_some_and(|group| groups.contains(&group))
}

fn group_of(line: &str) -> Option<u64> {
    line.trim_start().split_once(':')?.0.parse().ok()
}

impl Lock {
    /// `1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF`, or with `->` before the type if it is waited for.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace().peekable();
        let group = fields.next()?.strip_suffix(':')?.parse().ok()?;
        let waits = fields.next_if_eq(&"->").is_some();
        let fields: Vec<&str> = fields.collect();
        let pid: i64 = fields.get(3)?.parse().ok()?;
        let mut place = fields.get(4)?.split(':');
        let mut hex = || u32::from_str_radix(place.next()?, 16).ok();
        let (major, minor) = (hex()?, hex()?);
        let inode = place.next()?.parse().ok()?;
        let pid = u32::try_from(pid).ok().filter(|pid| *pid != 0);
        Some(Self { group, waits, pid, file: File { major, minor, inode }, text: fields.join(" ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 400 00:13:11691 0 EOF\n\
        1:  -> FLOCK  ADVISORY  WRITE 401 00:13:11691 0 EOF\n2: OFDLCK ADVISORY  WRITE -1 fd:01:77 0 0\n\
        2: -> OFDLCK ADVISORY  WRITE -1 fd:01:77 0 0\n3: POSIX  ADVISORY  READ 12 fd:01:78 0 9\n3: POSIX  ADVISORY  READ 13 fd:01:78 5 EOF\n";

    fn file(major: u32, minor: u32, inode: u64) -> File {
        File { major, minor, inode }
    }

    #[test]
    fn who_waits_for_a_lock_is_led_to_who_holds_it() {
        let held = |pid, file| {
            Locks::parse(TABLE)
                .blockers(pid, file)
                .map(|locks| locks.into_iter().map(|lock| lock.pid).collect::<Vec<_>>())
        };
        assert_eq!(held(400, file(0, 0x13, 11_691)), Some(vec![Some(359)]));
        assert_eq!(held(401, file(0, 0x99, 11_691)), Some(vec![Some(359)]), "another device than stat's");
        assert_eq!(held(5, file(0xfd, 1, 77)), Some(vec![None]));
        assert_eq!(held(5, file(0xfd, 2, 77)), None, "whose file that is, is not known");
        assert_eq!(held(12, file(0xfd, 1, 78)), None, "nobody waits");
        assert_eq!(Locks::parse(TABLE).held.len(), 2, "only what somebody waits for");
    }

    #[test]
    fn broken_lines_are_no_locks() {
        for end in 0..TABLE.len() {
            let _ = Locks::parse(&TABLE[..end]).blockers(400, file(0, 0x13, 11_691));
        }
        for broken in
            ["", "1:", "x: FLOCK A W 1 0:0:0", "1: -> -> ->", "1: FLOCK A W 1 0:0", "1: FLOCK A W 1 z:0:1 0 EOF"]
        {
            assert_eq!(Lock::parse(broken), None, "{broken}");
        }
    }
}
