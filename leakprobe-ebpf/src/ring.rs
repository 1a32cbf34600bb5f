//! The ring buffer that everything streams through.

use aya_ebpf::{
    macros::map,
    maps::{RingBuf, ring_buf::RingBufEntry},
};
use leakprobe_common::{Plain, counter::Counter};

use crate::count::{count, lose};

/// `BPF_RB_AVAIL_DATA` and `BPF_RB_RING_SIZE`.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/bpf.h#L6093>
const AVAILABLE_DATA: u64 = 0;
const RING_SIZE: u64 = 1;

#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Streams a record of fixed size about the thread or process `id`, of the target `tgid`; `full` is lost if there is no room.
#[inline(always)]
pub fn send<T: Plain>(tgid: u32, id: u32, record: &T, full: Counter) {
    // SAFETY: a plain record is its bytes.
    let bytes = unsafe { core::slice::from_raw_parts(core::ptr::from_ref(record).cast::<u8>(), size_of::<T>()) };
    match EVENTS.output::<[u8]>(bytes, 0) {
        Ok(()) => count(tgid, Counter::Streamed),
        Err(_) => lose(tgid, id, full),
    }
}

/// Whether half of the buffer is taken by records that were not read yet.
#[inline(always)]
pub fn is_half_full() -> bool {
    EVENTS.query(AVAILABLE_DATA) > EVENTS.query(RING_SIZE) / 2
}

/// Room for a `T`, to be filled in place; `None` if there is none.
#[inline(always)]
pub fn reserve<T: 'static>() -> Option<RingBufEntry<T>> {
    EVENTS.reserve(0)
}
