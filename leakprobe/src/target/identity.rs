//! Which process it is, for sure: held by a pidfd, so that a reused pid is never mistaken for it.

use std::{
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::PathBuf,
    process,
};

use caps::Capability::CAP_SYS_PTRACE;

use super::Stat;
use crate::privilege;

/// Why a process cannot be watched. One sentence each.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// There is none with that id.
    #[error("no process with pid {0}; it may have ended, `ps -e` lists those that run")]
    NoSuchProcess(u32),
    /// The id is that of a thread.
    #[error("{tid} is a thread of process {pid}; give the process: -p {pid}")]
    IsThread {
        /// The id that was given.
        tid: u32,
        /// The process that it belongs to.
        pid: u32,
    },
    /// It is a kernel thread.
    #[error("{pid} ({name}) is a kernel thread, which has no user stack; choose a user process")]
    KernelThread {
        /// Its id.
        pid: u32,
        /// Its name.
        name: String,
    },
    /// It has ended, and its parent has not noticed.
    #[error(
        "{pid} ({name}) has already ended and is a zombie: there is nothing left to look at; its parent, {parent}, has not collected it"
    )]
    Zombie {
        /// Its id.
        pid: u32,
        /// Its name.
        name: String,
        /// Its parent's id.
        parent: u32,
    },
    /// It is leakprobe.
    #[error("{0} is leakprobe itself, which would only watch itself watching; give another pid")]
    Ourselves(u32),
    /// It belongs to somebody else.
    #[error("cannot read process {pid} of user {user}: not permitted; run with sudo, or grant CAP_SYS_PTRACE")]
    NotPermitted {
        /// Its id.
        pid: u32,
        /// Its user's id.
        user: u32,
    },
    /// The kernel keeps whoever reads it waiting.
    #[error(
        "process {0} does not answer: it may hang while it begins another program, or ends; try again, and see what file it waits for"
    )]
    Silent(u32),
    /// /proc says something else.
    #[error("cannot read /proc/{pid}: {reason}; is /proc mounted?")]
    Proc {
        /// Its id.
        pid: u32,
        /// What was said.
        reason: String,
    },
}

/// A process, held so that it cannot be mistaken for another.
#[derive(Debug)]
pub struct Target {
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Path of its executable as the process sees it; empty if it could not be read.
    pub exe: PathBuf,
    pidfd: OwnedFd,
}

impl Target {
    /// Takes hold of the process `pid`. Needs `CAP_SYS_PTRACE` for a process of another user.
    ///
    /// # Errors
    /// If there is no such process, or it is not one that can be watched.
    pub fn open(pid: u32) -> Result<Self, TargetError> {
        if pid == process::id() {
            return Err(TargetError::Ourselves(pid));
        }
        let signed = i32::try_from(pid).map_err(|_| TargetError::NoSuchProcess(pid))?;
        // pidfd_open refuses ids of threads with EINVAL, or ENOENT from 6.9 on; /proc then tells of which process.
        let pidfd = match pidfd_open(signed) {
            Ok(pidfd) => pidfd,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Err(TargetError::NoSuchProcess(pid)),
            Err(_) => return Err(thread_or_nothing(pid)),
        };
        let stat = Stat::read(pid).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => TargetError::Silent(pid),
            _ => proc_error(pid, &error),
        })?;
        let name = stat.name();
        if stat.is_kernels() {
            return Err(TargetError::KernelThread { pid, name });
        }
        if stat.is_over() {
            return Err(TargetError::Zombie { pid, name, parent: stat.parent });
        }
        let user = fs::metadata(format!("/proc/{pid}")).map_err(|error| proc_error(pid, &error))?.uid();
        let ours = nix::unistd::geteuid().as_raw() == user;
        if !ours && !privilege::may(CAP_SYS_PTRACE) {
            return Err(TargetError::NotPermitted { pid, user });
        }
        Ok(Self { pid, comm: name, exe: executable(pid).unwrap_or_default(), pidfd })
    }

    /// Reads name and executable again: the process has begun another program.
    pub fn refresh(&mut self) {
        if let Ok(comm) = fs::read_to_string(format!("/proc/{}/comm", self.pid)) {
            self.comm = comm.trim_end().to_owned();
        }
        if let Some(exe) = executable(self.pid) {
            self.exe = exe;
        }
    }

    /// Whether the process still runs. What was read before this returned true was read from this very process.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd, no time to wait.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
        ready == 0
    }

    /// The ids of its threads, as `/proc` lists them.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn thread_ids(&self) -> io::Result<Vec<u32>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
        }
        ids.sort_unstable();
        Ok(ids)
    }
}

impl AsFd for Target {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// The executable, by any thread that still has one: an exited first thread has none.
pub(super) fn executable(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok().or_else(|| {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        threads.flatten().find_map(|thread| fs::read_link(thread.path().join("exe")).ok())
    })
}

/// A descriptor of a process, which outlives it and never comes to mean another one.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers; kernel 5.3.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn thread_or_nothing(id: u32) -> TargetError {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let tgid = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    match tgid.and_then(|tgid| tgid.trim().parse().ok()) {
        Some(pid) if pid != id => TargetError::IsThread { tid: id, pid },
        _ => TargetError::NoSuchProcess(id),
    }
}

fn proc_error(pid: u32, error: &io::Error) -> TargetError {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => TargetError::NoSuchProcess(pid),
        _ => TargetError::Proc { pid, reason: error.to_string() },
    }
}
