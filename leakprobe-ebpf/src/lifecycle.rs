//! Creation, exit, exec and rename of the targets' threads.
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
    target::NOBODY,
};

use crate::{
    capture::send_captured,
    config::{self, offset},
    count::{count, lose},
    ring,
    task::{self, Kernel},
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
        lose(NOBODY, bpf_get_current_pid_tgid() as u32, counter);
    }
    0
}

/// Process and thread id of the thread that runs now, if it is one of a target's.
#[inline(always)]
fn target_thread() -> Option<(u32, u32)> {
    let current = bpf_get_current_pid_tgid();
    let tgid = (current >> 32) as u32;
    config::is_target(tgid).then_some((tgid, current as u32))
}

/// The front of a record of this moment; see [`task::header`].
#[inline(always)]
fn header(kind: Kind, task: Kernel, about: Kernel, tgid: u32, tid: u32) -> Header {
    // SAFETY: the helper has no preconditions.
    task::header(kind, task, about, tgid, tid, unsafe { bpf_ktime_get_ns() })
}

/// The front of a record about the thread that runs now.
#[inline(always)]
fn own_header(kind: Kind, tgid: u32, tid: u32) -> Header {
    let current = Kernel::current();
    header(kind, current, current, tgid, tid)
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
    let Some((target, creator)) = target_thread() else {
        return Ok(());
    };
    let task = Kernel::from(ctx.arg::<*const task_struct>(0));
    let (tid, tgid) = ids(task)?;
    if tgid != target {
        // Another process, not one of our threads.
        if config::wants_forks() {
            let header = header(Kind::Forked, Kernel::current(), task, target, tgid);
            ring::send(target, tgid, &Forked { header, creator, pad: 0 }, Counter::RingFullForked);
        }
        return Ok(());
    }
    count(target, Counter::Created);
    send_captured(Created {
        header: header(Kind::Created, Kernel::current(), task, target, tid),
        creator,
        pad: 0,
        creator_comm: bpf_get_current_comm().unwrap_or([0; 16]),
        capture: Capture { regs: [0; REG_WORDS], len: 0, missing: 0 },
    });
    Ok(())
}

#[inline(always)]
fn try_exit(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let Some((tgid, tid)) = target_thread() else {
        return Ok(());
    };
    wait::forget(tid);
    let signal = Kernel::from(ctx.arg::<*const task_struct>(0)).follow(offset!(task_signal));
    let flags: u32 = signal.and_then(|signal| signal.read(offset!(signal_flags))).unwrap_or(0);
    let with_process = flags & SIGNAL_GROUP_EXIT != 0;
    if !with_process {
        count(tgid, Counter::Exited);
    }
    let header = own_header(Kind::Exited, tgid, tid);
    ring::send(tgid, tid, &Exited { header, with_process: with_process as u32, pad: 0 }, Counter::RingFullExited);
    Ok(())
}

#[inline(always)]
fn try_exec(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let Some((tgid, tid)) = target_thread() else {
        return Ok(());
    };
    let header = own_header(Kind::Exec, tgid, tid);
    ring::send(tgid, tid, &Exec { header, old_tid: ctx.arg::<i32>(1) as u32, pad: 0 }, Counter::RingFullExec);
    Ok(())
}

#[inline(always)]
fn try_rename(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let task = Kernel::from(ctx.arg::<*const task_struct>(0));
    let (tid, tgid) = ids(task)?;
    if !config::is_target(tgid) {
        return Ok(());
    }
    let mut comm: [u8; 16] = Kernel(ctx.arg::<*const u8>(1)).read(0).ok_or(Counter::TaskUnreadable)?;
    // That of a program may be longer: the kernel cuts it when it takes it over, after this.
    comm[15] = 0;
    let header = header(Kind::Renamed, task, task, tgid, tid);
    ring::send(tgid, tid, &Renamed { header, comm }, Counter::RingFullRenamed);
    Ok(())
}
