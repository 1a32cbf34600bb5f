//! Where the running kernel keeps the fields that the programs read. User space looks them up in the kernel's BTF
//! at load, because rustc emits no CO-RE relocations.

#[cfg(feature = "user")]
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::plain;

/// Stands for a field that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Byte offsets of kernel struct fields; [`ABSENT`] where the kernel has no such field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct KernelOffsets {
    /// `task_struct.pid`: the thread id.
    pub task_pid: u32,
    /// `task_struct.tgid`: the process id.
    pub task_tgid: u32,
    /// `task_struct.__state` (`state` before 5.14).
    pub task_state: u32,
    /// `task_struct.exit_state`.
    pub task_exit_state: u32,
    /// `task_struct.flags`.
    pub task_flags: u32,
    /// `task_struct.on_cpu`: an int, in newer kernels (7.2) a byte; its lowest byte is read.
    pub task_on_cpu: u32,
    /// `task_struct.nvcsw`.
    pub task_nvcsw: u32,
    /// `task_struct.nivcsw`.
    pub task_nivcsw: u32,
    /// `task_struct.start_boottime`.
    pub task_start_boottime: u32,
    /// `task_struct.comm`.
    pub task_comm: u32,
    /// `task_struct.group_leader`: the process's first thread.
    pub task_group_leader: u32,
    /// `task_struct.mm`: the process's memory.
    pub task_mm: u32,
    /// `mm_struct.start_stack`: where its first thread's stack began.
    pub mm_start_stack: u32,
    /// `task_struct.thread.fsbase`: where the thread-local storage of the thread is. Only x86-64 has it.
    pub task_fsbase: u32,
    /// `task_struct.signal`: what the threads of a process share.
    pub task_signal: u32,
    /// `signal_struct.flags`.
    pub signal_flags: u32,
    /// `task_struct.se.exec_start`.
    pub se_exec_start: u32,
    /// `task_struct.se.sum_exec_runtime`.
    pub se_sum_exec_runtime: u32,
    /// `task_struct.se.prev_sum_exec_runtime`.
    pub se_prev_sum_exec_runtime: u32,
    /// `task_struct.se.cfs_rq`.
    pub se_cfs_rq: u32,
    /// `task_struct.sched_info.last_arrival`.
    pub sched_last_arrival: u32,
    /// `cfs_rq.rq`.
    pub cfs_rq_rq: u32,
    /// `rq.clock`.
    pub rq_clock: u32,
    /// `rq.clock_task`.
    pub rq_clock_task: u32,
    /// `task_struct.files`: the table of descriptors.
    pub task_files: u32,
    /// `files_struct.fdt`.
    pub files_fdt: u32,
    /// `fdtable.max_fds`: how many descriptors there is room for.
    pub fdtable_max_fds: u32,
    /// `fdtable.fd`: what they lead to, by number.
    pub fdtable_fd: u32,
    /// `file.f_inode`.
    pub file_inode: u32,
    /// `inode.i_mode`: what sort of file it is.
    pub inode_mode: u32,
    /// `file.private_data`: of a socket's file the socket.
    pub file_private_data: u32,
    /// `socket.sk`.
    pub socket_sk: u32,
    /// `sock.sk_rcvtimeo`: after how many jiffies those who receive give up (`SO_RCVTIMEO`).
    pub sock_rcvtimeo: u32,
    /// `sock.sk_sndtimeo`: the same of those who send (`SO_SNDTIMEO`).
    pub sock_sndtimeo: u32,
}
plain!(KernelOffsets, 34 * 4);

impl KernelOffsets {
    /// All fields absent.
    pub const NONE: Self = Self {
        task_pid: ABSENT,
        task_tgid: ABSENT,
        task_state: ABSENT,
        task_exit_state: ABSENT,
        task_flags: ABSENT,
        task_on_cpu: ABSENT,
        task_nvcsw: ABSENT,
        task_nivcsw: ABSENT,
        task_start_boottime: ABSENT,
        task_comm: ABSENT,
        task_group_leader: ABSENT,
        task_mm: ABSENT,
        mm_start_stack: ABSENT,
        task_fsbase: ABSENT,
        task_signal: ABSENT,
        signal_flags: ABSENT,
        se_exec_start: ABSENT,
        se_sum_exec_runtime: ABSENT,
        se_prev_sum_exec_runtime: ABSENT,
        se_cfs_rq: ABSENT,
        sched_last_arrival: ABSENT,
        cfs_rq_rq: ABSENT,
        rq_clock: ABSENT,
        rq_clock_task: ABSENT,
        task_files: ABSENT,
        files_fdt: ABSENT,
        fdtable_max_fds: ABSENT,
        fdtable_fd: ABSENT,
        file_inode: ABSENT,
        inode_mode: ABSENT,
        file_private_data: ABSENT,
        socket_sk: ABSENT,
        sock_rcvtimeo: ABSENT,
        sock_sndtimeo: ABSENT,
    };
}
