//! The per-CPU counters of everything that went wrong or was left out.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use leakprobe_common::counter::{COUNTERS, Counter};

#[map(name = "COUNTERS")]
static ARRAY: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Adds one to `counter`.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(slot) = ARRAY.get_ptr_mut(counter as u32) {
        // SAFETY: the pointer is to this CPU's own value, checked not to be null.
        unsafe { *slot += 1 };
    }
}
