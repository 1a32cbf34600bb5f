//! Records of the task iterators: a target's threads at one moment.

#[cfg(feature = "user")]
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{arch::Regs, plain, wait::OP_SLEEP};

/// One thread, with everything that a snapshot needs of it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct ThreadRecord {
    /// Thread id, in the initial pid namespace.
    pub tid: u32,
    /// Process id, in the initial pid namespace.
    pub tgid: u32,
    /// `task_struct.__state`: 0 running or runnable, 1 interruptible, 2 uninterruptible, 4 stopped, 8 traced, …
    pub state: u32,
    /// `task_struct.exit_state`: not 0 once the thread has exited.
    pub exit_state: u32,
    /// `task_struct.flags`.
    pub flags: u32,
    /// 1 while a CPU executes the thread: then the registers below are stale.
    pub on_cpu: u32,
    /// Voluntary plus involuntary context switches. Unchanged between two reads, with `on_cpu` 0 in both: the
    /// thread has not run in between.
    pub switches: u64,
    /// When the thread started (`CLOCK_BOOTTIME`, ns).
    pub start_boottime: u64,
    /// When the thread was last accounted as running, in the task clock of its CPU.
    pub exec_start: u64,
    /// When the thread last got a CPU, in the scheduler's clock.
    pub last_arrival: u64,
    /// How long the thread ran since then, ns.
    pub last_slice: u64,
    /// The scheduler's clock of the thread's CPU when it was last updated.
    pub rq_clock: u64,
    /// The task clock of the thread's CPU: `rq_clock` less the time of interrupts and of the hypervisor. Read before it.
    pub rq_clock_task: u64,
    /// `bpf_ktime_get_ns` when the record was made.
    pub ktime: u64,
    /// The scheduler's clock of the CPU that made the record, when it was last updated. Read before `ktime`.
    pub reader_clock: u64,
    /// The thread's name.
    pub comm: [u8; 16],
    /// The saved user registers; all zero if the thread has none.
    pub regs: Regs,
    /// If the first argument of its system call is the descriptor of a socket: after how many jiffies the socket gives up
    /// receiving. [`NO_TIMEOUT`] if it never does; 0 if that is not known.
    pub receive_jiffies: u64,
    /// The same of sending.
    pub send_jiffies: u64,
    /// When a probe saw the thread begin the wait that it is in, `bpf_ktime_get_ns`; 0 if none did.
    pub wait_started: u64,
    /// The futex word of that wait; see [`crate::wait::Slot::word`].
    pub wait_word: u64,
    /// What sort of wait that is; see [`crate::wait::Slot::op`].
    pub wait_op: u32,
    /// Unused, zero.
    pub pad: u32,
}
plain!(ThreadRecord, 24 + 72 + 16 + 8 * crate::arch::REG_WORDS + 16 + 24);

/// `MAX_SCHEDULE_TIMEOUT`: what a socket has that was given no timeout.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/include/linux/sched.h#L298>
pub const NO_TIMEOUT: u64 = i64::MAX as u64;

/// What tells whether a thread has run since it was last looked at.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct ThreadBrief {
    /// Thread id.
    pub tid: u32,
    /// As in [`ThreadRecord`].
    pub tgid: u32,
    /// As in [`ThreadRecord`].
    pub on_cpu: u32,
    /// Unused, zero.
    pub pad: u32,
    /// As in [`ThreadRecord`].
    pub switches: u64,
    /// As in [`ThreadRecord`].
    pub start_boottime: u64,
}
plain!(ThreadBrief, 32);

impl ThreadRecord {
    /// What of it tells whether the thread has run.
    #[must_use]
    pub const fn brief(&self) -> ThreadBrief {
        ThreadBrief {
            tid: self.tid,
            tgid: self.tgid,
            on_cpu: self.on_cpu,
            pad: 0,
            switches: self.switches,
            start_boottime: self.start_boottime,
        }
    }

    /// When the thread began to wait, `CLOCK_MONOTONIC` ns, if a probe saw that. `word` is the futex word that its registers tell that
    /// it waits on, if it does.
    #[must_use]
    pub fn wait_began(&self, word: Option<u64>) -> Option<u64> {
        let is_this = self.wait_op == OP_SLEEP || word == Some(self.wait_word);
        (is_this && self.wait_started != 0).then_some(self.wait_started)
    }
}

impl ThreadBrief {
    /// Whether the thread has not run since `record` was made, which was made while it was on no CPU.
    #[must_use]
    pub const fn is_unmoved(&self, record: &ThreadRecord) -> bool {
        self.on_cpu == 0 && self.switches == record.switches && self.start_boottime == record.start_boottime
    }
}

/// A record of an iterator.
pub trait OfThread {
    /// The process of its thread, in the initial pid namespace.
    fn tgid(&self) -> u32;
}

impl OfThread for ThreadRecord {
    fn tgid(&self) -> u32 {
        self.tgid
    }
}

impl OfThread for ThreadBrief {
    fn tgid(&self) -> u32 {
        self.tgid
    }
}

impl OfThread for KernelStack {
    fn tgid(&self) -> u32 {
        self.tgid
    }
}

/// Most frames of a kernel stack: with them the record fits on a BPF program's stack.
pub const KERNEL_FRAMES: usize = 48;

/// Where a thread is in the kernel.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct KernelStack {
    /// Thread id.
    pub tid: u32,
    /// As in [`ThreadRecord`].
    pub tgid: u32,
    /// How many of `addresses` are filled; 0 if the kernel gave none.
    pub len: u32,
    /// Unused, zero.
    pub pad: u32,
    /// Code addresses in the kernel, innermost first.
    pub addresses: [u64; KERNEL_FRAMES],
}
plain!(KernelStack, 16 + 8 * KERNEL_FRAMES);
