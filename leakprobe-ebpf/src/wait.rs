//! Open waits: when each thread began its present one. Whatever probe tells of them, there is one slot a thread.

use aya_ebpf::{
    helpers::{bpf_ktime_get_ns, generated::bpf_jiffies64},
    macros::map,
    maps::Array,
};
use leakprobe_common::{
    counter::Counter,
    wait::{SLOTS, Slot},
};

use crate::{config, count::lose};

/// `BPF_F_MMAPABLE`: the values begin on a page, so that each slot is a cache line of its own.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/kernel/bpf/arraymap.c#L118>
const MMAPABLE: u32 = 1 << 10;

#[map]
static WAIT_SLOTS: Array<Slot> = Array::with_max_entries(SLOTS, MMAPABLE);

/// The longest tick that a kernel can be built with (`CONFIG_HZ_100`).
const TICK_NS: u64 = 10_000_000;
/// So few that their time in ns is no overflow.
const MOST_TICKS: u64 = 1 << 32;

#[inline(always)]
fn slot_of(tid: u32) -> Option<&'static mut Slot> {
    let slot = WAIT_SLOTS.get_ptr_mut(tid & (SLOTS - 1))?;
    // SAFETY: the pointer is to a map value, checked not to be null. Only the thread that has the slot writes it, or the CPU that
    // switches to or from that thread.
    Some(unsafe { &mut *slot })
}

/// The thread `tid` of the target `tgid` begins to wait.
#[inline(always)]
pub fn begin(tgid: u32, tid: u32, word: u64, op: u32) {
    let Some(slot) = slot_of(tid) else {
        return;
    };
    if slot.started_ns != 0 && slot.tid != tid {
        return lose(tgid, tid, Counter::WaitSlotTaken);
    }
    slot.word = word;
    slot.tid = tid;
    slot.op = op;
    // SAFETY: the helper has no preconditions.
    slot.started_ticks = unsafe { bpf_jiffies64() };
    // SAFETY: the helper has no preconditions.
    slot.started_ns = unsafe { bpf_ktime_get_ns() };
}

/// A wait that has ended.
pub struct Ended {
    pub wait: Slot,
    pub now_ns: u64,
}

/// `tid` waits no more. Its wait, if that was longer than the threshold.
#[inline(always)]
pub fn end(tid: u32) -> Option<Ended> {
    let slot = slot_of(tid)?;
    if slot.started_ns == 0 || slot.tid != tid {
        return None;
    }
    let wait = *slot;
    slot.started_ns = 0;
    // Nearly all waits are short, which ticks can tell for a load, where the exact clock costs a call of some 20 ns.
    // SAFETY: the helper has no preconditions.
    let ticks = unsafe { bpf_jiffies64() }.wrapping_sub(wait.started_ticks);
    if ticks < MOST_TICKS && (ticks + 1) * TICK_NS < config::min_block_ns() {
        return None;
    }
    // SAFETY: the helper has no preconditions.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    let is_long = now_ns.saturating_sub(wait.started_ns) >= config::min_block_ns();
    // Another wait's beginning may be left from before a break.
    (is_long && wait.started_ns >= config::watched_since_ns()).then_some(Ended { wait, now_ns })
}

/// The open wait of `tid`, if its beginning was seen and nothing since can have been missed.
#[inline(always)]
pub fn open(tid: u32) -> Option<&'static Slot> {
    // Not copied: a program's stack is 512 bytes, of which the iterator's record takes nearly all.
    let slot = &*slot_of(tid)?;
    let is_open = slot.started_ns != 0 && slot.tid == tid && slot.started_ns >= config::watched_since_ns();
    is_open.then_some(slot)
}

/// Frees the slot of a thread that exits.
#[inline(always)]
pub fn forget(tid: u32) {
    if let Some(slot) = slot_of(tid)
        && slot.tid == tid
    {
        slot.started_ns = 0;
    }
}
