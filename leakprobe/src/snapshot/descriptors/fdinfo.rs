//! `/proc/PID/fdinfo/FD`: what the kernel says of an open descriptor.
//!
//! Source: <https://elixir.bootlin.com/linux/v6.12/source/Documentation/filesystems/proc.rst#L1943>

use crate::{
    model::{Access, WaitTimer},
    snapshot::proc,
};

/// Most members of an epoll that are looked at. The kernel takes some 0.2 µs for each.
pub(crate) const MOST_MEMBERS: u64 = 1 << 14;
/// Bytes that are read at most: enough for so many members.
const MOST_BYTES: usize = 128 * MOST_MEMBERS as usize;

/// What a descriptor is open for, and what there is to tell of its type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FdInfo {
    /// The flags that it was opened with.
    pub(crate) flags: u32,
    /// The inode of what it leads to (kernel 5.14).
    pub(super) inode: Option<u64>,
    /// An eventfd's count.
    pub(super) count: Option<u64>,
    /// A timerfd's time left, ns; 0 if it is not set.
    pub(super) timer_ns: Option<u64>,
    /// After how many ns a timerfd fires again and again; 0 if it fires once.
    pub(super) interval_ns: Option<u64>,
    /// A signalfd's signals.
    pub(super) signals: Option<u64>,
    /// What an epoll watches.
    pub(crate) members: Vec<Member>,
    /// How many things an inotify or fanotify watches.
    pub(super) watches: u64,
    /// The process of a pidfd; -1 if it is gone.
    pub(crate) process: Option<i32>,
    /// Entries of an io_uring that the kernel has not taken, and results that the program has not.
    pub(super) ring: Option<[u32; 2]>,
    /// Locks on the file that were taken by this descriptor, as lines of `/proc/locks`.
    pub(crate) locks: Vec<String>,
}

/// A descriptor in an epoll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) fd: i32,
    pub(crate) inode: u64,
    /// Whether it is watched for something to be read.
    pub(crate) is_read: bool,
}

impl FdInfo {
    /// What is said of `fd` of the task; `None` if it is not open, or may not be looked at.
    pub(crate) fn read(task: u32, fd: i32) -> Option<Self> {
        let (text, is_whole) = proc::text(format!("/proc/{task}/fdinfo/{fd}"), MOST_BYTES)?;
        // The last line of what was cut is none.
        let text = if is_whole { text.as_str() } else { text.rsplit_once('\n').map_or("", |(whole, _)| whole) };
        Some(Self::parse(text))
    }

    /// Whether something can be taken out of a pipe by it, or put into it.
    pub(crate) fn allows(&self, access: Access) -> bool {
        match self.flags as i32 & libc::O_ACCMODE {
            libc::O_RDONLY => access == Access::Read,
            libc::O_WRONLY => access == Access::Write,
            _ => access != Access::Other,
        }
    }

    /// The timer of a timerfd as it was read at `now_ns` (`CLOCK_MONOTONIC`), if it is set.
    pub(super) fn timer(&self, now_ns: u64) -> Option<WaitTimer> {
        let due_ns = now_ns.saturating_add(self.timer_ns.filter(|&ns| ns > 0)?);
        Some(WaitTimer { due_ns, period_ns: self.interval_ns.filter(|&ns| ns > 0) })
    }

    fn parse(text: &str) -> Self {
        let mut info = Self::default();
        let mut ring = [None; 4];
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                // `inotify wd:1 ino:…` has its colon later; other lines without one say nothing to us.
                continue;
            };
            let value = value.trim();
            match key.trim() {
                "flags" => info.flags = u32::from_str_radix(value, 8).unwrap_or(0),
                "ino" => info.inode = value.parse().ok(),
                "eventfd-count" => info.count = u64::from_str_radix(value, 16).ok(),
                "it_value" => info.timer_ns = timer_ns(value),
                "it_interval" => info.interval_ns = timer_ns(value),
                "sigmask" => info.signals = u64::from_str_radix(value, 16).ok(),
                "tfd" => info.members.extend(member(value)),
                "inotify wd" | "fanotify ino" | "fanotify mnt_id" | "fanotify sdev" => info.watches += 1,
                "Pid" => info.process = value.parse().ok(),
                "SqHead" => ring[0] = value.parse().ok(),
                "SqTail" => ring[1] = value.parse().ok(),
                "CqHead" => ring[2] = value.parse().ok(),
                "CqTail" => ring[3] = value.parse().ok(),
                "lock" => info.locks.push(value.to_owned()),
                _ => {}
            }
        }
        if let [Some(sq_head), Some(sq_tail), Some(cq_head), Some(cq_tail)] = ring {
            info.ring = Some([u32::wrapping_sub(sq_tail, sq_head), u32::wrapping_sub(cq_tail, cq_head)]);
        }
        info
    }
}

/// `(3599, 999000000)`: seconds and ns.
fn timer_ns(value: &str) -> Option<u64> {
    let (seconds, ns) = value.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    let seconds: u64 = seconds.trim().parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(ns.trim().parse().ok()?)
}

/// `5 events: 19 data: … pos:0 ino:61ef sdev:a`, the inode hexadecimal.
fn member(value: &str) -> Option<Member> {
    let fd = value.split_ascii_whitespace().next()?.parse().ok()?;
    let inode = value.split_ascii_whitespace().find_map(|word| word.strip_prefix("ino:"))?;
    let events = value.split_ascii_whitespace().skip_while(|word| *word != "events:").nth(1)?;
    let is_read = u32::from_str_radix(events, 16).ok()? & libc::EPOLLIN as u32 != 0;
    Some(Member { fd, inode: u64::from_str_radix(inode, 16).ok()?, is_read })
}

#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(text: &str) {
    let _ = FdInfo::parse(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: &str = "pos:\t0\nflags:\t02004002\nmnt_id:\t15\nino:\t1057\neventfd-count:               1f\n\
        clockid: 1\nticks: 0\nsettime flags: 00\nit_value: (3599, 5)\nit_interval: (2, 7)\nsigmask:\t0000000000000a00\n\
        tfd:        5 events:       19 data:                5  pos:0 ino:61ef sdev:a\n\
        tfd:        7 events: 80000018 data: ffffffffffffffff  pos:0 ino:10 sdev:a\n\
        inotify wd:2 ino:7e9 sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8\ninotify wd:1 ino:1 sdev:1\n\
        Pid:\t4711\nNSpid:\t4711\nSqMask:\t0x7\nSqHead:\t3\nSqTail:\t5\nCachedSqHead:\t5\nCqHead:\t4294967295\nCqTail:\t1\n\
        lock:\t1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF\n";

    #[test]
    fn every_type_is_read() {
        let info = FdInfo::parse(EVERYTHING);
        assert_eq!(info.flags, 0o2_004_002);
        assert_eq!(info.inode, Some(1057));
        assert_eq!(info.interval_ns, Some(2_000_000_007));
        assert_eq!((info.count, info.timer_ns, info.signals), (Some(31), Some(3_599_000_000_005), Some(0xa00)));
        assert_eq!(
            info.members,
            [Member { fd: 5, inode: 0x61ef, is_read: true }, Member { fd: 7, inode: 0x10, is_read: false }]
        );
        assert_eq!((info.watches, info.process, info.ring), (2, Some(4711), Some([2, 2])));
        assert_eq!(info.locks, ["1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF"]);
    }

    #[test]
    fn what_it_is_open_for_is_known() {
        let allows = |flags| {
            let info = FdInfo { flags, ..FdInfo::default() };
            [info.allows(Access::Read), info.allows(Access::Write)]
        };
        assert_eq!(allows(0o0_000_000), [true, false]);
        assert_eq!(allows(0o0_004_001), [false, true]);
        assert_eq!(allows(0o0_000_002), [true, true]);
    }

    #[test]
    fn a_timer_that_is_not_set_is_none() {
        let timer = |value: u64, interval: u64| {
            FdInfo::parse(&format!("it_value: ({value}, 0)\nit_interval: ({interval}, 0)\n")).timer(2_000_000_000)
        };
        let once = WaitTimer { due_ns: 5_000_000_000, period_ns: None };
        assert_eq!(timer(3, 0), Some(once));
        assert_eq!(timer(3, 1), Some(WaitTimer { period_ns: Some(1_000_000_000), ..once }));
        assert_eq!((timer(0, 0), timer(0, 1), FdInfo::default().timer(1)), (None, None, None));
        assert_eq!(timer(18_446_744_073, 0).map(|timer| timer.due_ns), Some(u64::MAX));
    }

    #[test]
    fn what_is_cut_or_broken_does_no_harm() {
        for end in 0..=EVERYTHING.len() {
            let _ = FdInfo::parse(&EVERYTHING[..end]);
        }
        for place in 0..EVERYTHING.len() {
            let mut bytes = EVERYTHING.as_bytes().to_vec();
            for byte in [0, b'\n', b':', b'(', 0xff, b'9'] {
                bytes[place] = byte;
                let _ = FdInfo::parse(&String::from_utf8_lossy(&bytes));
            }
        }
        let huge = "it_value: (99999999999999999999, 0)\ntfd: 99999999999 ino:1\nflags: 8\nSqHead: -1\n";
        assert_eq!(FdInfo::parse(huge), FdInfo::default());
    }

    #[test]
    fn our_own_are_read() {
        use std::os::fd::AsRawFd;
        let (read, write) = nix::unistd::pipe().unwrap();
        let id = std::process::id();
        assert!(FdInfo::read(id, read.as_raw_fd()).unwrap().allows(Access::Read));
        assert!(!FdInfo::read(id, write.as_raw_fd()).unwrap().allows(Access::Read));
        assert_eq!(FdInfo::read(id, i32::MAX), None);
    }
}
