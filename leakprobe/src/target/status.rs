//! `/proc/PID/status`: less than `stat` tells, but of any process, also of one that hangs in exec and keeps whoever reads its `stat`
//! waiting.

use super::proc_file;

/// What of it is used.
/// Source: <https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it does, as a letter.
    pub state: u8,
    /// The process that has created it, or has adopted it since.
    pub parent: u32,
    /// Its process group; 0 if the kernel was built without pid namespaces.
    pub group: i32,
    /// How many threads the process has.
    pub threads: u32,
    /// Whether it has memory: threads of the kernel have none, nor has what has ended.
    pub has_memory: bool,
}

impl Status {
    /// Of a process; `None` if it is gone.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        Self::parse(&String::from_utf8_lossy(&proc_file(format!("/proc/{pid}/status")).ok()?))
    }

    fn parse(text: &str) -> Option<Self> {
        // The name, which comes first, cannot hold the end of a line.
        let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim);
        let group = field("NSpgid").and_then(|groups| groups.split_ascii_whitespace().next()?.parse().ok());
        Some(Self {
            state: *field("State")?.as_bytes().first()?,
            parent: field("PPid")?.parse().ok()?,
            group: group.unwrap_or(0),
            threads: field("Threads")?.parse().ok()?,
            has_memory: field("VmSize").is_some(),
        })
    }

    /// Whether it sleeps so that nothing but what it waits for wakes it: so does what hangs.
    #[must_use]
    pub fn is_stuck(self) -> bool {
        self.state == b'D'
    }

    /// Whether it is on a CPU, or waits for one.
    #[must_use]
    pub fn is_on_cpu(self) -> bool {
        self.state == b'R'
    }

    /// Whether it is a process that runs a program: no thread of the kernel, and not over. Its first thread may have exited before others.
    #[must_use]
    pub fn runs_program(self) -> bool {
        self.has_memory || self.state == b'Z' && self.threads > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tPPid:\\n7\nUmask:\t0022\nState:\tD (disk sleep)\nTgid:\t12\nPPid:\t3\nNSpgid:\t12\t1\nVmSize:\t 10 kB\nThreads:\t4\n";

    #[test]
    fn of_a_process() {
        let status = Status::parse(STATUS).unwrap();
        assert_eq!(status, Status { state: b'D', parent: 3, group: 12, threads: 4, has_memory: true });
        assert!(status.is_stuck() && status.runs_program());
        let without = Status { has_memory: false, ..status };
        assert!(!without.runs_program() && Status { state: b'Z', ..without }.runs_program());
        assert!(!Status { state: b'Z', threads: 1, ..without }.runs_program());
        for len in 0..STATUS.len() - "4\n".len() {
            assert_eq!(Status::parse(&STATUS[..len]), None, "{len}");
        }
    }

    #[test]
    fn our_own_is_there() {
        let own = Status::of(std::process::id()).unwrap();
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        assert_eq!(own.group, nix::unistd::getpgrp().as_raw());
        assert!(own.runs_program() && own.threads >= 1);
        assert_eq!(Status::of(u32::MAX), None);
        // A thread of the kernel, unless we are in a pid namespace of our own.
        assert!(Status::of(2).is_none_or(|second| second.parent != 0 || !second.runs_program()));
    }
}
