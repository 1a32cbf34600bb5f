//! How many system calls the machine makes, counted for some ms at a time: what tracepoints of system calls cost besides their
//! programs depends on it.

use aya_ebpf::{
    macros::{btf_tracepoint, map},
    maps::PerCpuArray,
    programs::BtfTracePointContext,
};

#[map]
static CALLS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Any system call of any process.
#[btf_tracepoint(function = "sys_enter")]
pub fn sys_enter(_: BtfTracePointContext) -> i32 {
    if let Some(calls) = CALLS.get_ptr_mut(0) {
        // SAFETY: the pointer is to this CPU's own value, checked not to be null.
        unsafe { *calls += 1 };
    }
    0
}
