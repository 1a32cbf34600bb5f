//! Creation, exit, exec and rename of the target's threads.
//!
//! BTF tracepoints, kernel 5.5. Arguments:
//! <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/task.h#L9> and
//! <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/sched.h#L327>

use aya_ebpf::{
    bindings::task_struct,
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use leakprobe_common::{
    arch::REG_WORDS,
    counter::Counter,
    event::{Capture, Created, Exec, Exited, Forked, Header, Kind, Renamed},
};

use crate::{
    capture::send_captured,
    config::{self, offset},
    count::count,
    ring,
    task::Kernel,
    wait,
};

/// The whole process exits: `exit_group`, or a signal that kills.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/include/linux/sched/signal.h#L255>
const SIGNAL_GROUP_EXIT: u32 = 4;

/// A thread or process was created. Runs in the creator.
#[btf_tracepoint(function = "task_newtask")]
pub fn task_newtask(ctx: BtfTracePointContext) -> i32 {
    run(try_newtask(&ctx))
}

/// A thread exits. Runs in that thread.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    run(try_exit(&ctx))
}

/// A process begins another program. Runs in the thread that called exec, already under its new id.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    run(try_exec(&ctx))
}

/// A thread gets another name. Runs in the thread that gives it.
#[btf_tracepoint(function = "task_rename")]
pub fn task_rename(ctx: BtfTracePointContext) -> i32 {
    run(try_rename(&ctx))
}

#[inline(always)]
fn run(result: Result<(), Counter>) -> i32 {
    if let Err(counter) = result {
        count(counter);
    }
    0
}

#[inline(always)]
fn header(kind: Kind, tid: u32) -> Header {
    Header {
        kind: kind as u32,
        tid,
        // SAFETY: the helper has no preconditions.
        time_ns: unsafe { bpf_ktime_get_ns() },
    }
}

/// Thread and process id of `task`.
#[inline(always)]
fn ids(task: Kernel) -> Result<(u32, u32), Counter> {
    let tid = task.read(offset!(task_pid)).ok_or(Counter::TaskUnreadable)?;
    let tgid = task.read(offset!(task_tgid)).ok_or(Counter::TaskUnreadable)?;
    Ok((tid, tgid))
}

#[inline(always)]
fn try_newtask(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let current = bpf_get_current_pid_tgid();
    if (current >> 32) as u32 != config::target() {
        return Ok(());
    }
    let task = Kernel::from(ctx.arg::<*const task_struct>(0));
    let (tid, tgid) = ids(task)?;
    if tgid != config::target() {
        // Another process, not one of our threads.
        if config::wants_forks() {
            let record = Forked { header: header(Kind::Forked, tgid), creator: current as u32, pad: 0 };
            ring::send(&record, Counter::RingFullForked);
        }
        return Ok(());
    }
    count(Counter::Created);
    send_captured(Created {
        header: header(Kind::Created, tid),
        creator: current as u32,
        pad: 0,
        start_boottime: task.read(offset!(task_start_boottime)).unwrap_or(0),
        creator_comm: bpf_get_current_comm().unwrap_or([0; 16]),
        capture: Capture { regs: [0; REG_WORDS], len: 0, missing: 0 },
    });
    Ok(())
}

#[inline(always)]
fn try_exit(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let current = bpf_get_current_pid_tgid();
    if (current >> 32) as u32 != config::target() {
        return Ok(());
    }
    let tid = current as u32;
    wait::forget(tid);
    let signal = Kernel::from(ctx.arg::<*const task_struct>(0)).follow(offset!(task_signal));
    let flags: u32 = signal.and_then(|signal| signal.read(offset!(signal_flags))).unwrap_or(0);
    let with_process = flags & SIGNAL_GROUP_EXIT != 0;
    if !with_process {
        count(Counter::Exited);
    }
    let record = Exited { header: header(Kind::Exited, tid), with_process: with_process as u32, pad: 0 };
    ring::send(&record, Counter::RingFullExited);
    Ok(())
}

#[inline(always)]
fn try_exec(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let current = bpf_get_current_pid_tgid();
    if (current >> 32) as u32 != config::target() {
        return Ok(());
    }
    let record = Exec { header: header(Kind::Exec, current as u32), old_tid: ctx.arg::<i32>(1) as u32, pad: 0 };
    ring::send(&record, Counter::RingFullExec);
    Ok(())
}

#[inline(always)]
fn try_rename(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let (tid, tgid) = ids(Kernel::from(ctx.arg::<*const task_struct>(0)))?;
    if tgid != config::target() {
        return Ok(());
    }
    let comm = Kernel(ctx.arg::<*const u8>(1)).read(0).ok_or(Counter::TaskUnreadable)?;
    let record = Renamed { header: header(Kind::Renamed, tid), comm };
    ring::send(&record, Counter::RingFullRenamed);
    Ok(())
}
