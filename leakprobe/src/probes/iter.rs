//! Running a task iterator over the threads of one process.
//!
//! aya attaches iterators to all tasks only; limiting one to a process is a field of the link (kernel 6.1), so link and
//! iterator are made by the system call itself. An older kernel ignores the field, and hands out the threads of all targets.

use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
};

use aya::programs::ProgramFd;
use leakprobe_common::{Plain, read_plain, thread::OfThread};

/// How often a pass is made that does not list all threads.
const PASSES: u32 = 3;

/// `enum bpf_cmd`. Source: <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/bpf.h#L922>
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ITER_CREATE: libc::c_long = 33;
/// `enum bpf_attach_type`.
const BPF_TRACE_ITER: u32 = 28;

/// A task iterator that is attached to one process and can be run again and again.
pub(super) struct TaskIter {
    link: OwnedFd,
    /// The process.
    pid: u32,
}

/// The part of `union bpf_attr` that `BPF_LINK_CREATE` reads for an iterator.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    iter_info: u64,
    iter_info_len: u32,
    pad: u32,
}

/// `union bpf_iter_link_info`, its `task` arm.
#[repr(C)]
struct TaskLinkInfo {
    tid: u32,
    pid: u32,
    pid_fd: u32,
    pad: u32,
}

#[repr(C)]
struct IterCreate {
    link_fd: u32,
    flags: u32,
}

impl TaskIter {
    /// Attaches the loaded iterator `program` to the threads of the process `pid`.
    ///
    /// # Errors
    /// What the kernel says; `EPERM` without `CAP_BPF` and `CAP_PERFMON`.
    pub(super) fn attach(program: &ProgramFd, pid: u32) -> io::Result<Self> {
        Self::link(program, pid, &TaskLinkInfo { tid: 0, pid, pid_fd: 0, pad: 0 })
    }

    /// Attaches it to one thread of the process `pid`.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub(super) fn attach_thread(program: &ProgramFd, pid: u32, tid: u32) -> io::Result<Self> {
        Self::link(program, pid, &TaskLinkInfo { tid, pid: 0, pid_fd: 0, pad: 0 })
    }

    fn link(program: &ProgramFd, pid: u32, info: &TaskLinkInfo) -> io::Result<Self> {
        let attr = LinkCreate {
            prog_fd: raw(program.as_fd()),
            target_fd: 0,
            attach_type: BPF_TRACE_ITER,
            flags: 0,
            iter_info: std::ptr::from_ref(info) as u64,
            iter_info_len: size_of::<TaskLinkInfo>() as u32,
            pad: 0,
        };
        let link = bpf(BPF_LINK_CREATE, &attr)?;
        Ok(Self { link, pid })
    }

    /// Runs the program over all threads and returns its records of the process. `expected` is how many there may be; it saves
    /// reallocation.
    ///
    /// # Errors
    /// What the kernel says when the iterator is made or read.
    pub(super) fn run<T: Plain + OfThread>(&self, expected: usize) -> io::Result<Vec<T>> {
        let attr = IterCreate { link_fd: raw(self.link.as_fd()), flags: 0 };
        let mut file = File::from(bpf(BPF_ITER_CREATE, &attr)?);
        let mut records = Vec::with_capacity(expected);
        // The kernel hands out at most 32 KiB a read; a record may be split between two.
        let mut buffer = vec![0u8; (expected * size_of::<T>()).clamp(4 << 10, 64 << 10)];
        let mut filled = 0;
        loop {
            let read = match file.read(&mut buffer[filled..]) {
                Ok(0) => return Ok(records),
                Ok(read) => read,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            filled += read;
            let whole = filled - filled % size_of::<T>();
            let read = buffer[..whole].chunks_exact(size_of::<T>()).filter_map(read_plain::<T>);
            records.extend(read.filter(|record| record.tgid() == self.pid));
            buffer.copy_within(whole..filled, 0);
            filled -= whole;
        }
    }
}

/// Makes a pass over the threads of `pid` again if it did not list them all. The kernel hands the list out in pieces, and ends
/// it early if the thread at which a piece ended is gone when the next is asked for.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/kernel/bpf/task_iter.c> (`task_group_seq_get_next`).
///
/// # Errors
/// Those of the pass.
pub(super) fn whole<T>(pid: u32, pass: impl FnMut() -> io::Result<Vec<T>>) -> io::Result<Vec<T>> {
    longest(|| thread_count(pid), pass)
}

fn longest<T>(
    mut count: impl FnMut() -> Option<u64>,
    mut pass: impl FnMut() -> io::Result<Vec<T>>,
) -> io::Result<Vec<T>> {
    let mut longest = Vec::new();
    for _ in 0..PASSES {
        let before = count();
        let records = pass()?;
        // Threads come and go during the pass. One that was there all the time is among the fewer.
        let expected = before.zip(count()).map_or(0, |(before, after)| before.min(after));
        let is_whole = records.len() as u64 >= expected;
        if is_whole || records.len() > longest.len() {
            longest = records;
        }
        if is_whole {
            break;
        }
    }
    Ok(longest)
}

/// How many threads the process has; `None` if it cannot be told. A directory has two links, and one more for each directory
/// in it.
fn thread_count(pid: u32) -> Option<u64> {
    std::fs::metadata(format!("/proc/{pid}/task")).ok()?.nlink().checked_sub(2)
}

/// Whether the process has a thread of this id.
pub(crate) fn is_there(pid: u32, tid: u32) -> bool {
    std::fs::metadata(format!("/proc/{pid}/task/{tid}")).is_ok()
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

/// `bpf(command, attr)` for the commands that return a descriptor.
fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attr` is a valid, initialised attribute of the size given, and the pointers in it outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    let fd = i32::try_from(result).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_counted() {
        assert!(thread_count(std::process::id()).unwrap() >= 1);
        assert_eq!(thread_count(u32::MAX), None);
    }

    #[test]
    fn a_pass_that_ended_early_is_made_again() {
        let list = |lengths: &[usize], counts: &[u64]| {
            let (mut lengths, mut counts) = (lengths.iter(), counts.iter());
            longest(|| counts.next().copied(), || Ok(vec![(); *lengths.next().unwrap()])).unwrap().len()
        };
        assert_eq!(list(&[5], &[5, 5]), 5);
        assert_eq!(list(&[2, 5], &[5, 5, 5, 5]), 5);
        assert_eq!(list(&[5], &[7, 5]), 5, "two threads exited meanwhile");
        assert_eq!(list(&[5], &[5, 9]), 5, "four threads were created meanwhile");
        assert_eq!(list(&[2, 4, 3], &[5; 6]), 4, "the best of three");
        assert_eq!(list(&[3], &[]), 3, "the process has just ended");
    }
}
