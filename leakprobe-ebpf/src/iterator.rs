//! The task iterator: all of a target's threads at one moment, without touching them.
//!
//! Kernel 5.15, for `bpf_task_pt_regs`. The link limits it to one process from 6.1 on; before, all targets' threads are written.

use aya_ebpf::{
    bindings::{seq_file, task_struct},
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_get_task_stack, bpf_seq_write},
    },
};
use leakprobe_common::{
    Plain,
    arch::{ARGS, REG_WORDS},
    thread::{KERNEL_FRAMES, KernelStack, ThreadBrief, ThreadRecord},
};

use crate::{
    config::{self, offset},
    task::{self, Kernel, Known},
    wait,
};

/// What the kernel gives to a task iterator.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/kernel/bpf/task_iter.c#L180>
#[derive(Clone, Copy)]
#[repr(C)]
pub struct TaskContext {
    meta: *mut Meta,
    task: *mut task_struct,
}

/// The front of `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    seq: *mut seq_file,
}

/// Writes a [`ThreadRecord`] for each thread of a target.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn iter_threads(ctx: *mut TaskContext) -> i32 {
    visit(ctx, full)
}

/// Writes a [`ThreadBrief`] for each thread of a target.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn iter_briefs(ctx: *mut TaskContext) -> i32 {
    visit(ctx, brief)
}

/// Writes a [`KernelStack`] for each thread of a target.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn iter_kernel_stacks(ctx: *mut TaskContext) -> i32 {
    visit(ctx, kernel_stack)
}

#[inline(always)]
fn visit(ctx: *mut TaskContext, write: impl Fn(*mut task_struct, Ids, *mut seq_file)) -> i32 {
    // SAFETY: the kernel passes a valid context; the verifier checks the access.
    let TaskContext { meta, task } = unsafe { *ctx };
    if task.is_null() {
        return 0; // the end of the iteration
    }
    let Some(ids) = ids(task.into()).filter(|ids| config::is_target(ids.tgid)) else {
        return 0;
    };
    // SAFETY: `meta` is valid for as long as the context is.
    let seq = unsafe { (*meta).seq };
    write(task, ids, seq);
    0
}

/// The only way for this to fail is a full buffer. Then the kernel hands that out and visits the same thread again, with an
/// empty one. Source: <https://elixir.bootlin.com/linux/v6.12/source/kernel/bpf/bpf_iter.c#L157>
#[inline(always)]
fn emit<T: Plain>(seq: *mut seq_file, record: &T) {
    // SAFETY: the record is plain data of the size given; `seq` came with the context.
    unsafe { bpf_seq_write(seq, core::ptr::from_ref(record).cast(), size_of::<T>() as u32) };
}

/// The task's name, read as words.
#[inline(always)]
fn comm(task: Known) -> [u8; 16] {
    let word = |place| task.read::<u64>(offset!(task_comm) + place).unwrap_or(0).to_ne_bytes();
    let mut comm = [0; 16];
    comm[..8].copy_from_slice(&word(0));
    comm[8..].copy_from_slice(&word(8));
    comm
}

/// Whether a CPU executes the task: 0 or 1, in a field whose size depends on the kernel.
#[inline(always)]
fn on_cpu(task: Known) -> u32 {
    task.read::<u8>(offset!(task_on_cpu)).unwrap_or(0).into()
}

/// Thread and process id.
#[derive(Clone, Copy)]
struct Ids {
    tid: u32,
    tgid: u32,
}

#[inline(always)]
fn ids(task: Known) -> Option<Ids> {
    Some(Ids { tid: task.read(offset!(task_pid))?, tgid: task.read(offset!(task_tgid))? })
}

/// How often the thread was switched away from: what tells whether it has run.
#[inline(always)]
fn switches(task: Known) -> u64 {
    let count = |offset| task.read::<u64>(offset).unwrap_or(0);
    count(offset!(task_nvcsw)).wrapping_add(count(offset!(task_nivcsw)))
}

#[inline(always)]
fn brief(task: *mut task_struct, Ids { tid, tgid }: Ids, seq: *mut seq_file) {
    let fields = Known::from(task);
    // Before the count: a thread that goes off its CPU in between has been counted then. The other way round, one that had
    // run would look as if it had not.
    let on_cpu = on_cpu(fields);
    let switches = switches(fields);
    let start_boottime = fields.read(offset!(task_start_boottime)).unwrap_or(0);
    emit(seq, &ThreadBrief { tid, tgid, on_cpu, pad: 0, switches, start_boottime });
}

#[inline(always)]
fn full(task: *mut task_struct, Ids { tid, tgid }: Ids, seq: *mut seq_file) {
    let fields = Known::from(task);
    let word = |offset| fields.read::<u32>(offset).unwrap_or(0);
    // The switch count is read before the rest: if the thread runs while that is read, the second look sees another count.
    // And the mark before it, too, since a full record may be the second look; see `brief`.
    let was_on_cpu = on_cpu(fields);
    let switches = switches(fields);
    let ran: u64 = fields.read(offset!(se_sum_exec_runtime)).unwrap_or(0);
    let ran_before: u64 = fields.read(offset!(se_prev_sum_exec_runtime)).unwrap_or(ran);
    // Of two clocks the one that must not be ahead of the other is read first: anything may happen in between, e.g. an
    // interrupt, or a hypervisor that runs somebody else. See `snapshot/clock.rs`.
    let rq_clock_task = clock(fields, offset!(rq_clock_task));
    let reader_clock = clock(task::current().into(), offset!(rq_clock));
    let mut record = ThreadRecord {
        tid,
        tgid,
        state: word(offset!(task_state)),
        exit_state: word(offset!(task_exit_state)),
        flags: word(offset!(task_flags)),
        on_cpu: was_on_cpu | on_cpu(fields),
        switches,
        start_boottime: fields.read(offset!(task_start_boottime)).unwrap_or(0),
        exec_start: fields.read(offset!(se_exec_start)).unwrap_or(0),
        last_arrival: fields.read(offset!(sched_last_arrival)).unwrap_or(0),
        last_slice: ran.wrapping_sub(ran_before),
        rq_clock: clock(fields, offset!(rq_clock)),
        rq_clock_task,
        // SAFETY: the helper has no preconditions.
        ktime: unsafe { bpf_ktime_get_ns() },
        reader_clock,
        comm: comm(fields),
        regs: [0; REG_WORDS],
        receive_jiffies: 0,
        send_jiffies: 0,
        wait_started: 0,
        wait_word: 0,
        wait_op: 0,
        pad: 0,
    };
    // A thread that has exited has no stack in the kernel any more, and so no registers; it is listed all the same: the
    // process's first thread stays as a zombie for as long as others run.
    if record.exit_state == 0 && task::user_regs(task, &mut record.regs).is_none() {
        // It may have exited since we looked. If not, it is listed all the same: without registers no stack is found, which is
        // counted.
        record.exit_state = word(offset!(task_exit_state));
    }
    if let Some(socket) = socket(fields, record.regs[ARGS[0]]) {
        record.receive_jiffies = socket.read(offset!(sock_rcvtimeo)).unwrap_or(0);
        record.send_jiffies = socket.read(offset!(sock_sndtimeo)).unwrap_or(0);
    }
    if let Some(wait) = wait::open(tid) {
        record.wait_started = wait.started_ns;
        record.wait_word = wait.word;
        record.wait_op = wait.op;
    }
    emit(seq, &record);
}

/// The `struct sock` that a descriptor of the task leads to; `None` if it is no socket's. Most arguments are no descriptors but
/// addresses: those cost nothing.
#[inline(always)]
fn socket(task: Known, fd: u64) -> Option<Kernel> {
    /// `S_IFMT` and `S_IFSOCK`. Source: <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/stat.h#L9>
    const TYPE: u16 = 0o170_000;
    const SOCKET: u16 = 0o140_000;
    if fd > i32::MAX as u64 {
        return None;
    }
    let table = Kernel(task.read(offset!(task_files))?).follow(offset!(files_fdt))?;
    if fd >= u64::from(table.read::<u32>(offset!(fdtable_max_fds))?) {
        return None;
    }
    let file = table.follow(offset!(fdtable_fd))?.follow(fd as u32 * size_of::<u64>() as u32)?;
    if file.follow(offset!(file_inode))?.read::<u16>(offset!(inode_mode))? & TYPE != SOCKET {
        return None;
    }
    // Of one that was opened as a path alone there is no socket: a null pointer, of which nothing is read.
    file.follow(offset!(file_private_data))?.follow(offset!(socket_sk))
}

#[inline(always)]
fn kernel_stack(task: *mut task_struct, Ids { tid, tgid }: Ids, seq: *mut seq_file) {
    let mut record = KernelStack { tid, tgid, len: 0, pad: 0, addresses: [0; KERNEL_FRAMES] };
    let room = size_of_val(&record.addresses) as u32;
    // SAFETY: the verifier checks that `task` is a valid task_struct; the array has the size given (kernel 5.9).
    let bytes = unsafe { bpf_get_task_stack(task.cast(), record.addresses.as_mut_ptr().cast(), room, 0) };
    record.len = u32::try_from(bytes).unwrap_or(0) / size_of::<u64>() as u32;
    emit(seq, &record);
}

/// A clock of the run queue of the CPU that `task` last ran on; 0 if this kernel does not lead us there.
#[inline(always)]
fn clock(task: Known, offset: u32) -> u64 {
    let queue = task.follow(offset!(se_cfs_rq)).and_then(|queue| queue.follow(offset!(cfs_rq_rq)));
    queue.and_then(|queue| queue.read(offset)).unwrap_or(0)
}
