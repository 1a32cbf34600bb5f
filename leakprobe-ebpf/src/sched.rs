//! Sleeps of any kind: when each thread of a target left its CPU to wait, and the sleeps that were longer than the threshold.
//!
//! One BTF tracepoint, kernel 5.5. It costs the whole machine a few ns on each context switch, and the target some 30 ns more; that is
//! less than the futex tracepoints cost where futex calls are many, and it needs no tracefs. Arguments:
//! <https://elixir.bootlin.com/linux/v6.12/source/include/trace/events/sched.h#L223>

use aya_ebpf::{
    bindings::task_struct, helpers::bpf_get_current_pid_tgid, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use leakprobe_common::{
    arch::REG_WORDS,
    counter::Counter,
    event::{Kind, Slept},
    wait::OP_SLEEP,
};

use crate::{
    config::{self, offset},
    ring,
    task::{self, Kernel, Known},
    wait::{self, Ended},
};

/// `PF_EXITING`: on its way out a thread sleeps, too, but its slot has been freed.
const EXITING: u32 = 4;

/// A CPU goes from one thread to another. Runs in the one that leaves.
#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    let current = bpf_get_current_pid_tgid();
    let tgid = (current >> 32) as u32;
    if config::is_target(tgid) {
        leaves(&ctx, tgid, current as u32);
    }
    let next = ctx.arg::<*mut task_struct>(2);
    if let Some(tgid) = Known::from(next).read(offset!(task_tgid))
        && config::is_target(tgid)
    {
        arrives(next, tgid);
    }
    0
}

/// A thread that is preempted, or gives its CPU away, does not wait for anything.
#[inline(always)]
fn leaves(ctx: &BtfTracePointContext, tgid: u32, tid: u32) {
    let is_preempted = ctx.arg::<u8>(0) != 0;
    let prev = Known::from(ctx.arg::<*mut task_struct>(1));
    let word = |offset| prev.read::<u32>(offset).unwrap_or(0);
    if is_preempted || word(offset!(task_state)) == 0 || word(offset!(task_flags)) & EXITING != 0 {
        return;
    }
    wait::begin(tgid, tid, 0, OP_SLEEP);
}

#[inline(always)]
fn arrives(next: *mut task_struct, tgid: u32) {
    let tid = Known::from(next).read(offset!(task_pid)).unwrap_or(0);
    let Some(Ended { wait, now_ns }) = wait::end(tid) else {
        return;
    };
    let thread = Kernel::from(next.cast_const());
    let mut slept = Slept {
        header: task::header(Kind::Slept, thread, thread, tgid, tid, now_ns),
        started_ns: wait.started_ns,
        regs: [0; REG_WORDS],
    };
    // What it waited for stays unknown without them; the record tells that by itself.
    let _ = task::user_regs(next, &mut slept.regs);
    ring::send(tgid, tid, &slept, Counter::RingFullWait);
}
