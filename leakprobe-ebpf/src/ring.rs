//! The ring buffer that everything streams through.

use aya_ebpf::{macros::map, maps::RingBuf};
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
    send_bytes(tgid, id, core::ptr::from_ref(record).cast(), size_of::<T>(), full);
}

/// Streams a record that has `len` bytes.
#[inline(always)]
pub fn send_bytes(tgid: u32, id: u32, record: *const u8, len: usize, full: Counter) {
    // SAFETY: the verifier checks that there are so many bytes at the place.
    let bytes = unsafe { core::slice::from_raw_parts(record, len) };
    match EVENTS.output::<[u8]>(bytes, 0) {
        Ok(()) => count(tgid, Counter::Streamed),
        Err(_) => lose(tgid, id, full),
    }
}

/// Whether `len` bytes of stack leave half of the buffer to records.
#[inline(always)]
pub fn has_room_for_stack(len: usize) -> bool {
    EVENTS.query(AVAILABLE_DATA) + len as u64 <= EVENTS.query(RING_SIZE) / 2
}
