//! Records of the ring buffer: what happens to the targets' threads while we watch.
//!
//! Every record begins with a [`Header`]. [`Created`] and [`WaitEnded`] end in a [`Capture`], which `len` bytes of stack follow.

#[cfg(feature = "user")]
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{arch::Regs, plain};

/// Most bytes of stack that one record carries.
pub const STACK_MAX: usize = 6 * PAGE;
/// The step in which a stack is read that is not there as a whole.
pub const PAGE: usize = 4096;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// A thread was created: [`Created`].
    Created = 1,
    /// A thread exited: [`Exited`].
    Exited = 2,
    /// The target began another program: [`Exec`].
    Exec = 3,
    /// A thread got another name: [`Renamed`].
    Renamed = 4,
    /// A futex wait ended that was longer than the threshold: [`WaitEnded`].
    WaitEnded = 5,
    /// A thread slept for longer than the threshold: [`Slept`].
    Slept = 6,
    /// The target created another process: [`Forked`].
    Forked = 7,
}

impl Kind {
    /// The kind that a record's number stands for.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            1 => Self::Created,
            2 => Self::Exited,
            3 => Self::Exec,
            4 => Self::Renamed,
            5 => Self::WaitEnded,
            6 => Self::Slept,
            7 => Self::Forked,
            _ => return None,
        })
    }
}

/// The front of every record.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct Header {
    /// A [`Kind`].
    pub kind: u32,
    /// The thread that it is about.
    pub tid: u32,
    /// The target whose record it is, in the initial pid namespace.
    pub tgid: u32,
    /// Unused, zero.
    pub pad: u32,
    /// When the target started, `CLOCK_BOOTTIME`, ns; with its id it names a process for good. 0 if it could not be read.
    pub process_start: u64,
    /// When the thread started, likewise; with its id it names a thread for good. 0 if it could not be read.
    pub thread_start: u64,
    /// When it happened, by `bpf_ktime_get_ns` (`CLOCK_MONOTONIC`).
    pub time_ns: u64,
}
plain!(Header, 40);

/// Registers and stack of a thread, enough to unwind it in user space.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct Capture {
    /// The thread's user registers; all zero if they could not be read.
    pub regs: Regs,
    /// Bytes of stack that follow, from the stack pointer upwards; 0 if none could be read.
    pub len: u32,
    /// Why there is no stack: a [`crate::counter::Counter`] plus one, or 0.
    pub missing: u32,
}
plain!(Capture, 8 * crate::arch::REG_WORDS + 8);

/// A thread of the target was created.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct Created {
    /// `tid` is the new thread.
    pub header: Header,
    /// The thread that called clone.
    pub creator: u32,
    /// Unused, zero.
    pub pad: u32,
    /// The creator's name.
    pub creator_comm: [u8; 16],
    /// The creator, at the moment of the call.
    pub capture: Capture,
}
plain!(Created, 40 + 8 + 16 + size_of::<Capture>());

/// A thread exited.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct Exited {
    /// `tid` is the thread.
    pub header: Header,
    /// 1 if it exits because its whole process does.
    pub with_process: u32,
    /// Unused, zero.
    pub pad: u32,
}
plain!(Exited, 48);

/// The target began another program.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct Exec {
    /// `tid` is the thread id from now on (that of the process), whose start the thread takes over as well.
    pub header: Header,
    /// The thread that called exec, under its id until then.
    pub old_tid: u32,
    /// Unused, zero.
    pub pad: u32,
}
plain!(Exec, 48);

/// A thread got another name.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct Renamed {
    /// `tid` is the renamed thread.
    pub header: Header,
    /// The new name, NUL-terminated.
    pub comm: [u8; 16],
}
plain!(Renamed, 56);

/// A futex wait ended that had lasted longer than the threshold.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct WaitEnded {
    /// `tid` is the thread that waited; the time is the wait's end.
    pub header: Header,
    /// The wait's beginning, same clock.
    pub started_ns: u64,
    /// The futex word's address.
    pub word: u64,
    /// What the system call returned.
    pub result: i64,
    /// The operation, as given to the system call.
    pub op: u32,
    /// Unused, zero.
    pub pad: u32,
    /// The thread, at the end of the wait: the stack that it waited with.
    pub capture: Capture,
}
plain!(WaitEnded, 40 + 24 + 8 + size_of::<Capture>());

/// A thread slept for longer than the threshold, and has just been given a CPU again. Its stack is not here: it has not run yet, and
/// its memory is not that of the thread which runs.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct Slept {
    /// `tid` is the thread; the time is the end of its sleep.
    pub header: Header,
    /// When the sleep began, same clock.
    pub started_ns: u64,
    /// Its user registers: what it waited for. All zero if they could not be read.
    pub regs: Regs,
}
plain!(Slept, 40 + 8 + 8 * crate::arch::REG_WORDS);

/// The target created another process.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct Forked {
    /// `tid` is the id of the new process, and its first thread.
    pub header: Header,
    /// The thread that created it.
    pub creator: u32,
    /// Unused, zero.
    pub pad: u32,
}
plain!(Forked, 48);
