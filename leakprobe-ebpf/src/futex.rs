//! Futex waits: when each thread began its present one, and those that ended after the threshold.
//!
//! System call tracepoints. `futex` is everywhere, `futex_waitv` from 5.16, `futex_wait` from 6.7. The order on the way in
//! is: target, operation, one array slot. Both tracepoints cost the target; whatever is added here is paid on every wait.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user},
    macros::tracepoint,
    programs::TracePointContext,
};
use leakprobe_common::{
    arch::REG_WORDS,
    event::{Capture, Kind, WaitEnded},
    futex::{OP_WAIT2, OP_WAITV, is_wait},
};

use crate::{
    capture::send_captured,
    config,
    task::{self, Kernel},
    wait::{self, Ended, begin},
};

/// First argument of the system call in a `sys_enter_*` record; each takes 8 bytes.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/include/trace/syscall.h#L28>
const ARG0: usize = 16;
/// Result of the system call in a `sys_exit_*` record.
const RESULT: usize = 16;

/// Argument `n` of the system call that a `sys_enter_*` record is about.
#[inline(always)]
fn arg(ctx: &TracePointContext, n: usize) -> u64 {
    field(ctx, ARG0 + 8 * n)
}

#[inline(always)]
fn field(ctx: &TracePointContext, offset: usize) -> u64 {
    // SAFETY: the context of a system call tracepoint is at least as long as its record; the verifier checks it.
    let place = unsafe { ctx.as_ptr().cast::<u8>().add(offset) };
    // SAFETY: as above, and records are aligned to 8 bytes.
    unsafe { place.cast::<u64>().read() }
}

/// Process and thread id of the thread that runs now, if it is one of a target's.
#[inline(always)]
fn target_thread() -> Option<(u32, u32)> {
    let current = bpf_get_current_pid_tgid();
    let tgid = (current >> 32) as u32;
    config::is_target(tgid).then_some((tgid, current as u32))
}

/// Enters `futex(word, op, …)`.
#[tracepoint]
pub fn sys_enter_futex(ctx: TracePointContext) -> u32 {
    if let Some((tgid, tid)) = target_thread() {
        let op = arg(&ctx, 1) as u32;
        if is_wait(op) {
            begin(tgid, tid, arg(&ctx, 0), op);
        }
    }
    0
}

/// Enters `futex_waitv(waiters, count, …)`: the first word stands for all.
#[tracepoint]
pub fn sys_enter_futex_waitv(ctx: TracePointContext) -> u32 {
    if let Some((tgid, tid)) = target_thread() {
        // struct futex_waitv: u64 val, u64 uaddr, u32 flags, u32 reserved
        let first = arg(&ctx, 0).wrapping_add(8) as *const u64;
        // SAFETY: the helper checks the address.
        let word = unsafe { bpf_probe_read_user(first) }.unwrap_or(0);
        begin(tgid, tid, word, OP_WAITV);
    }
    0
}

/// Enters `futex_wait(word, …)`.
#[tracepoint]
pub fn sys_enter_futex_wait(ctx: TracePointContext) -> u32 {
    if let Some((tgid, tid)) = target_thread() {
        begin(tgid, tid, arg(&ctx, 0), OP_WAIT2);
    }
    0
}

/// Leaves any of the three.
#[tracepoint]
pub fn sys_exit_futex(ctx: TracePointContext) -> u32 {
    if let Some((tgid, tid)) = target_thread() {
        end(tgid, tid, field(&ctx, RESULT) as i64);
    }
    0
}

/// A futex wait ends here; it is streamed if it was long.
#[inline(always)]
fn end(tgid: u32, tid: u32, result: i64) {
    let Some(Ended { wait, now_ns }) = wait::end(tid) else {
        return;
    };
    let current = Kernel::current();
    send_captured(WaitEnded {
        header: task::header(Kind::WaitEnded, current, current, tgid, tid, now_ns),
        started_ns: wait.started_ns,
        word: wait.word,
        result,
        op: wait.op,
        pad: 0,
        capture: Capture { regs: [0; REG_WORDS], len: 0, missing: 0 },
    });
}
