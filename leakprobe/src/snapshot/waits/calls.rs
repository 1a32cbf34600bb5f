//! System calls other than futex that block: the kind of each, what it waits on, and until when.

use syscalls::Sysno;

use super::{Context, Waiting, arguments, milliseconds};
use crate::{
    model::{Access, Children, Subject, WaitKind},
    snapshot::descriptors,
};

/// `TIMER_ABSTIME`.
const ABSOLUTE: u64 = 1;
/// `IORING_ENTER_EXT_ARG`, `IORING_ENTER_REGISTERED_RING` and `IORING_ENTER_ABS_TIMER`.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/io_uring.h#L535>
const URING_EXT_ARG: u64 = 1 << 3;
const URING_REGISTERED: u64 = 1 << 4;
const URING_ABSOLUTE: u64 = 1 << 5;
/// Where the timeout's address stands in `struct io_uring_getevents_arg`.
const URING_TIMEOUT: u64 = 16;
/// `F_OFD_SETLKW`.
const OFD_SETLKW: i32 = 38;

impl Context<'_> {
    /// Adds to `waiting` what is waited for by a `call` with these arguments, since `since` (`CLOCK_MONOTONIC`, ns).
    pub(super) fn not_a_futex(&self, call: Sysno, args: &[u64; 6], since: u64, waiting: &mut Waiting) {
        let known = self.passing_of_time(call, args, since, waiting)
            || self.any_of_several(call, args, waiting)
            || self.child(call, args, waiting)
            || self.signal(call, args, waiting)
            || self.message(call, args, since, waiting)
            || self.completion(call, args, since, waiting)
            || self.path(call, args, waiting);
        if !known {
            self.descriptor(call, args, waiting);
        }
    }

    fn passing_of_time(&self, call: Sysno, args: &[u64; 6], since: u64, waiting: &mut Waiting) -> bool {
        waiting.timeout_ms = match call {
            Sysno::nanosleep => self.timespec_ms(args[0]),
            Sysno::clock_nanosleep if args[1] & ABSOLUTE != 0 => {
                self.deadline(args[2], args[0] == libc::CLOCK_REALTIME as u64, since)
            }
            Sysno::clock_nanosleep => self.timespec_ms(args[2]),
            _ => return false,
        };
        waiting.kind = WaitKind::Sleep;
        true
    }

    /// poll, select and epoll.
    fn any_of_several(&self, call: Sysno, args: &[u64; 6], waiting: &mut Waiting) -> bool {
        let (fds, timeout_ms) = match call {
            Sysno::poll => {
                (Some(arguments::pollfds(self.memory, args[0], u64::from(args[1] as u32))), milliseconds(args[2]))
            }
            Sysno::ppoll => {
                (Some(arguments::pollfds(self.memory, args[0], u64::from(args[1] as u32))), self.timespec_ms(args[2]))
            }
            Sysno::select => (self.selected(args), self.timeval_ms(args[4])),
            Sysno::pselect6 => (self.selected(args), self.timespec_ms(args[4])),
            Sysno::epoll_wait | Sysno::epoll_pwait | Sysno::epoll_pwait2 => {
                let timeout_ms =
                    if call == Sysno::epoll_pwait2 { self.timespec_ms(args[3]) } else { milliseconds(args[3]) };
                waiting.timeout_ms = timeout_ms;
                self.on_fd(args[0], Access::Read, waiting);
                waiting.kind = WaitKind::Poll;
                return true;
            }
            _ => return false,
        };
        waiting.timeout_ms = timeout_ms;
        waiting.kind = WaitKind::Poll;
        match fds {
            // With no descriptor it is a way to sleep, or to wait for a signal.
            Some((_, 0)) => waiting.kind = if timeout_ms.is_some() { WaitKind::Sleep } else { WaitKind::Signal },
            Some((fds, total)) => {
                waiting.object = descriptors::count(total);
                waiting.subject = Subject::Poll { fds, total };
            }
            None => waiting.object = format!("descriptors below {}", args[0]),
        }
        true
    }

    fn selected(&self, args: &[u64; 6]) -> Option<(Vec<i32>, u64)> {
        arguments::fd_sets(self.memory, [args[1], args[2], args[3]], args[0])
    }

    fn child(&self, call: Sysno, args: &[u64; 6], waiting: &mut Waiting) -> bool {
        /// `CLONE_VFORK`.
        const VFORK: u64 = 0x4000;
        let children = match call {
            Sysno::wait4 => match args[0] as i32 {
                -1 => Children::Any,
                pid if pid > 0 => Children::One(pid),
                group => Children::Group(group.saturating_neg()),
            },
            Sysno::waitid => match (args[0] as u32, args[1] as i32) {
                (libc::P_PID, pid) => Children::One(pid),
                (libc::P_PGID, group) => Children::Group(group),
                (libc::P_PIDFD, fd) => Children::Pidfd(fd),
                _ => Children::Any,
            },
            Sysno::vfork | Sysno::clone | Sysno::clone3 => {
                let flags = if call == Sysno::clone3 { self.memory.word(args[0]) } else { Some(args[0]) };
                if call != Sysno::vfork && flags.is_none_or(|flags| flags & VFORK == 0) {
                    return false;
                }
                (waiting.kind, waiting.subject) = (WaitKind::Child, Subject::Vfork);
                "its child ends or calls exec".clone_into(&mut waiting.object);
                return true;
            }
            _ => return false,
        };
        waiting.kind = WaitKind::Child;
        waiting.object = child_words(children);
        waiting.subject = Subject::Child(children);
        true
    }

    fn signal(&self, call: Sysno, args: &[u64; 6], waiting: &mut Waiting) -> bool {
        let set = |address| self.memory.word(address);
        waiting.object = match call {
            Sysno::pause => String::new(),
            // The mask says what does not end it.
            Sysno::rt_sigsuspend => set(args[0]).map(|mask| arguments::signal_set(!mask)).unwrap_or_default(),
            Sysno::rt_sigtimedwait => {
                waiting.timeout_ms = self.timespec_ms(args[2]);
                set(args[0]).map(arguments::signal_set).unwrap_or_default()
            }
            _ => return false,
        };
        waiting.kind = WaitKind::Signal;
        true
    }

    /// Message queues and semaphores.
    fn message(&self, call: Sysno, args: &[u64; 6], since: u64, waiting: &mut Waiting) -> bool {
        match call {
            Sysno::mq_timedreceive | Sysno::mq_timedsend => {
                let access = if call == Sysno::mq_timedreceive { Access::Read } else { Access::Write };
                self.on_fd(args[0], access, waiting);
                waiting.timeout_ms = self.deadline(args[4], true, since);
            }
            Sysno::semop | Sysno::semtimedop => {
                waiting.object = format!("semaphore set {}", args[0] as i32);
                waiting.timeout_ms = if call == Sysno::semtimedop { self.timespec_ms(args[3]) } else { None };
            }
            Sysno::msgrcv | Sysno::msgsnd => waiting.object = format!("message queue {}", args[0] as i32),
            _ => return false,
        }
        waiting.kind = WaitKind::Ipc;
        true
    }

    /// What was begun and goes on by itself.
    fn completion(&self, call: Sysno, args: &[u64; 6], since: u64, waiting: &mut Waiting) -> bool {
        match call {
            Sysno::io_uring_enter => {
                if args[3] & URING_REGISTERED == 0 {
                    self.on_fd(args[0], Access::Read, waiting);
                }
                waiting.kind = WaitKind::IoUring;
                if args[3] & URING_EXT_ARG != 0 {
                    let timeout = args[4].checked_add(URING_TIMEOUT).and_then(|at| self.memory.word(at)).unwrap_or(0);
                    waiting.timeout_ms = if args[3] & URING_ABSOLUTE != 0 {
                        self.deadline(timeout, false, since)
                    } else {
                        self.timespec_ms(timeout)
                    };
                }
            }
            Sysno::io_getevents | Sysno::io_pgetevents => {
                waiting.kind = WaitKind::Event;
                waiting.object = format!("asynchronous I/O {:#x}", args[0]);
                waiting.timeout_ms = self.timespec_ms(args[4]);
            }
            _ => return false,
        }
        true
    }

    fn path(&self, call: Sysno, args: &[u64; 6], waiting: &mut Waiting) -> bool {
        let address = match call {
            Sysno::open
            | Sysno::creat
            | Sysno::stat
            | Sysno::lstat
            | Sysno::access
            | Sysno::mkdir
            | Sysno::rmdir
            | Sysno::unlink
            | Sysno::rename
            | Sysno::truncate
            | Sysno::readlink
            | Sysno::statfs
            | Sysno::chdir
            | Sysno::execve => args[0],
            Sysno::openat
            | Sysno::openat2
            | Sysno::newfstatat
            | Sysno::statx
            | Sysno::faccessat
            | Sysno::faccessat2
            | Sysno::mkdirat
            | Sysno::unlinkat
            | Sysno::renameat
            | Sysno::renameat2
            | Sysno::readlinkat
            | Sysno::execveat => args[1],
            _ => return false,
        };
        waiting.kind = WaitKind::File;
        waiting.object = arguments::path(self.memory, address).unwrap_or_default();
        true
    }

    fn descriptor(&self, call: Sysno, args: &[u64; 6], waiting: &mut Waiting) {
        match call {
            Sysno::read
            | Sysno::readv
            | Sysno::pread64
            | Sysno::preadv
            | Sysno::preadv2
            | Sysno::recvfrom
            | Sysno::recvmsg
            | Sysno::recvmmsg
            | Sysno::accept
            | Sysno::accept4
            | Sysno::getdents64 => self.on_fd(args[0], Access::Read, waiting),
            Sysno::write
            | Sysno::writev
            | Sysno::pwrite64
            | Sysno::pwritev
            | Sysno::pwritev2
            | Sysno::sendto
            | Sysno::sendmsg
            | Sysno::sendmmsg
            | Sysno::connect
            | Sysno::vmsplice => self.on_fd(args[0], Access::Write, waiting),
            Sysno::ioctl
            | Sysno::fstat
            | Sysno::fsync
            | Sysno::fdatasync
            | Sysno::syncfs
            | Sysno::fallocate
            | Sysno::ftruncate
            | Sysno::fadvise64
            | Sysno::readahead
            | Sysno::close
            | Sysno::sync_file_range => self.on_fd(args[0], Access::Other, waiting),
            Sysno::flock => self.file_lock(args[0], waiting),
            Sysno::fcntl if matches!(args[1] as i32, libc::F_SETLKW | OFD_SETLKW) => self.file_lock(args[0], waiting),
            Sysno::fcntl => self.on_fd(args[0], Access::Other, waiting),
            Sysno::splice | Sysno::copy_file_range => self.copy(args[0], args[2], waiting),
            Sysno::tee => self.copy(args[0], args[1], waiting),
            Sysno::sendfile => self.copy(args[1], args[0], waiting),
            _ => {}
        }
    }

    fn on_fd(&self, fd: u64, access: Access, waiting: &mut Waiting) {
        let fd = fd as i32;
        (waiting.kind, waiting.object) = descriptors::describe(self.task, fd);
        waiting.subject = Subject::Fd { fd, access };
    }

    fn file_lock(&self, fd: u64, waiting: &mut Waiting) {
        self.on_fd(fd, Access::Other, waiting);
        waiting.kind = WaitKind::Lock;
        waiting.subject = Subject::Lock { fd: fd as i32 };
    }

    fn copy(&self, from: u64, to: u64, waiting: &mut Waiting) {
        let (from, to) = (from as i32, to as i32);
        let [(from_kind, from_words), (to_kind, to_words)] = [from, to].map(|fd| descriptors::describe(self.task, fd));
        // A file is seldom what is waited for.
        waiting.kind = if from_kind == WaitKind::File { to_kind } else { from_kind };
        waiting.object = format!("{from_words} to {to_words}");
        waiting.subject = Subject::Copy { from, to };
    }
}

/// Which children are waited for, in words.
pub(crate) fn child_words(children: Children) -> String {
    match children {
        Children::Any => "any child".to_owned(),
        Children::One(pid) => format!("process {pid}"),
        Children::Group(0) => "any child of its process group".to_owned(),
        Children::Group(group) => format!("any child of process group {group}"),
        Children::Pidfd(fd) => format!("process of fd {fd}"),
    }
}
