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
    counter::Counter,
    target::NOBODY,
    thread::{KERNEL_FRAMES, KernelStack, ThreadBrief, ThreadRecord},
};

use crate::{
    config::{self, offset},
    count::count,
    task::{self, Kernel},
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
fn visit(ctx: *mut TaskContext, write: impl Fn(*mut task_struct, Ids, *mut seq_file) -> Result<(), Counter>) -> i32 {
    // SAFETY: the kernel passes a valid context; the verifier checks the access.
    let TaskContext { meta, task } = unsafe { *ctx };
    if task.is_null() {
        return 0; // the end of the iteration
    }
    let fields = Kernel::from(task.cast_const());
    let Some(ids) = ids(fields) else {
        count(NOBODY, Counter::TaskUnreadable);
        return 0;
    };
    if !config::is_target(ids.tgid) {
        return 0;
    }
    // SAFETY: `meta` is valid for as long as the context is.
    let seq = unsafe { (*meta).seq };
    if let Err(counter) = write(task, ids, seq) {
        count(ids.tgid, counter);
    }
    0
}

/// The only way for this to fail is a full buffer. Then the kernel hands that out and visits the same thread again, with an
/// empty one. Source: <https://elixir.bootlin.com/linux/v6.12/source/kernel/bpf/bpf_iter.c#L157>
#[inline(always)]
fn emit<T: Plain>(seq: *mut seq_file, record: &T) {
    // SAFETY: the record is plain data of the size given; `seq` came with the context.
    unsafe { bpf_seq_write(seq, core::ptr::from_ref(record).cast(), size_of::<T>() as u32) };
}

/// The task's name. Read as words: as bytes it would be on the stack twice, which has no room for that.
#[inline(always)]
fn comm(task: Kernel) -> [u8; 16] {
    let [first, second] = task.read::<[u64; 2]>(offset!(task_comm)).unwrap_or([0; 2]);
    let mut comm = [0; 16];
    comm[..8].copy_from_slice(&first.to_ne_bytes());
    comm[8..].copy_from_slice(&second.to_ne_bytes());
    comm
}

/// Whether a CPU executes the task: 0 or 1, in a field whose size depends on the kernel.
#[inline(always)]
fn on_cpu(task: Kernel) -> u32 {
    task.read::<u8>(offset!(task_on_cpu)).unwrap_or(0).into()
}

/// Thread and process id.
#[derive(Clone, Copy)]
struct Ids {
    tid: u32,
    tgid: u32,
}

/// Each read of kernel memory costs some 20 ns, ten thousand threads a second: fields that lie side by
/// side, as these do in every kernel so far, are read at once.
#[inline(always)]
fn ids(task: Kernel) -> Option<Ids> {
    if offset!(task_tgid) == offset!(task_pid).wrapping_add(4) {
        let [tid, tgid] = task.read::<[u32; 2]>(offset!(task_pid))?;
        return Some(Ids { tid, tgid });
    }
    Some(Ids { tid: task.read(offset!(task_pid))?, tgid: task.read(offset!(task_tgid))? })
}

/// What tells whether the thread has run: its context switches; and its start, `CLOCK_BOOTTIME`, ns.
#[inline(always)]
fn counts(task: Kernel) -> Option<(u64, u64)> {
    let first = offset!(task_nvcsw);
    // nvcsw, nivcsw, start_time, start_boottime:
    // https://elixir.bootlin.com/linux/v6.12/source/include/linux/sched.h#L1100
    let adjacent =
        offset!(task_nivcsw) == first.wrapping_add(8) && offset!(task_start_boottime) == first.wrapping_add(24);
    let (voluntary, involuntary, start) = if adjacent {
        let [voluntary, involuntary, _, start] = task.read::<[u64; 4]>(first)?;
        (voluntary, involuntary, start)
    } else {
        let start = task.read(offset!(task_start_boottime)).unwrap_or(0);
        (task.read::<u64>(first)?, task.read::<u64>(offset!(task_nivcsw))?, start)
    };
    Some((voluntary.wrapping_add(involuntary), start))
}

#[inline(always)]
fn brief(task: *mut task_struct, Ids { tid, tgid }: Ids, seq: *mut seq_file) -> Result<(), Counter> {
    let fields = Kernel::from(task.cast_const());
    // Before the count: a thread that goes off its CPU in between has been counted then. The other way round, one that had
    // run would look as if it had not.
    let on_cpu = on_cpu(fields);
    let (switches, start_boottime) = counts(fields).ok_or(Counter::TaskUnreadable)?;
    let record = ThreadBrief { tid, tgid, on_cpu, pad: 0, switches, start_boottime };
    emit(seq, &record);
    Ok(())
}

#[inline(always)]
fn full(task: *mut task_struct, Ids { tid, tgid }: Ids, seq: *mut seq_file) -> Result<(), Counter> {
    let fields = Kernel::from(task.cast_const());
    // The switch count is read before the rest: if the thread runs while that is read, the second look sees another count.
    // And the mark before it, too, since a full record may be the second look; see `brief`.
    let was_on_cpu = on_cpu(fields);
    let (switches, start_boottime) = counts(fields).ok_or(Counter::TaskUnreadable)?;
    let ran: u64 = fields.read(offset!(se_sum_exec_runtime)).unwrap_or(0);
    let ran_before: u64 = fields.read(offset!(se_prev_sum_exec_runtime)).unwrap_or(ran);
    let queue = run_queue(fields);
    // Of two clocks the one that must not be ahead of the other is read first: anything may happen in between, e.g. an
    // interrupt, or a hypervisor that runs somebody else. See `snapshot/clock.rs`.
    let rq_clock_task = queue.read(offset!(rq_clock_task)).unwrap_or(0);
    let reader_clock = run_queue(Kernel::current()).read(offset!(rq_clock)).unwrap_or(0);
    let mut record = ThreadRecord {
        tid,
        tgid,
        state: fields.read(offset!(task_state)).ok_or(Counter::TaskUnreadable)?,
        exit_state: fields.read(offset!(task_exit_state)).unwrap_or(0),
        flags: fields.read(offset!(task_flags)).unwrap_or(0),
        on_cpu: was_on_cpu | on_cpu(fields),
        switches,
        start_boottime,
        exec_start: fields.read(offset!(se_exec_start)).unwrap_or(0),
        last_arrival: fields.read(offset!(sched_last_arrival)).unwrap_or(0),
        last_slice: ran.wrapping_sub(ran_before),
        rq_clock: queue.read(offset!(rq_clock)).unwrap_or(0),
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
        record.exit_state = fields.read(offset!(task_exit_state)).unwrap_or(0);
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
    Ok(())
}

/// The `struct sock` that a descriptor of the task leads to; `None` if it is no socket's. Most arguments are no descriptors but
/// addresses: those cost nothing.
#[inline(always)]
fn socket(task: Kernel, fd: u64) -> Option<Kernel> {
    /// `S_IFMT` and `S_IFSOCK`. Source: <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/stat.h#L9>
    const TYPE: u16 = 0o170_000;
    const SOCKET: u16 = 0o140_000;
    if fd > i32::MAX as u64 {
        return None;
    }
    let table = task.follow(offset!(task_files))?.follow(offset!(files_fdt))?;
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
fn kernel_stack(task: *mut task_struct, Ids { tid, tgid }: Ids, seq: *mut seq_file) -> Result<(), Counter> {
    let mut record = KernelStack { tid, tgid, len: 0, pad: 0, addresses: [0; KERNEL_FRAMES] };
    let room = size_of_val(&record.addresses) as u32;
    // SAFETY: the verifier checks that `task` is a valid task_struct; the array has the size given (kernel 5.9).
    let bytes = unsafe { bpf_get_task_stack(task.cast(), record.addresses.as_mut_ptr().cast(), room, 0) };
    record.len = u32::try_from(bytes).unwrap_or(0) / size_of::<u64>() as u32;
    emit(seq, &record);
    Ok(())
}

/// The run queue of the CPU that `task` last ran on; null if this kernel does not lead us there.
#[inline(always)]
fn run_queue(task: Kernel) -> Kernel {
    task.follow(offset!(se_cfs_rq))
        .and_then(|queue| queue.follow(offset!(cfs_rq_rq)))
        .unwrap_or(Kernel(core::ptr::null()))
}
