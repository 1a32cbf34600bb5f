//! Registers and stack of the thread that runs now, written straight into the ring buffer: enough to unwind it with
//! DWARF in user space, which the kernel cannot do. Used only where a record is streamed anyway, never on the way into a wait.

use aya_ebpf::helpers::{bpf_ktime_get_ns, generated::bpf_probe_read_user};
use leakprobe_common::{
    Plain, arch,
    counter::Counter,
    event::{Capture, Created, Header, PAGE, STACK_MAX, STACK_PAGES, WaitEnded},
};

use crate::{
    config,
    count::{count, lose, window},
    ring, task,
};

/// A record that ends in a [`Capture`].
pub trait Captured: Plain {
    /// Counted when the ring buffer has no room for it.
    const FULL: Counter;
    /// Counted when its stack is left out because there were too many.
    const LIMITED: Counter;
    /// Its rate limit: see [`window`].
    const WINDOW: usize;
    /// Its front.
    fn header(&self) -> &Header;
    /// Its capture.
    fn capture(&mut self) -> &mut Capture;
}

/// A record and its stack, contiguous, as they are streamed.
#[repr(C)]
struct WithStack<T> {
    record: T,
    stack: [u8; STACK_MAX],
}

impl Captured for Created {
    const FULL: Counter = Counter::RingFullCreated;
    const LIMITED: Counter = Counter::CreationStackRateLimited;
    const WINDOW: usize = 0;

    #[inline(always)]
    fn header(&self) -> &Header {
        &self.header
    }

    #[inline(always)]
    fn capture(&mut self) -> &mut Capture {
        &mut self.capture
    }
}

impl Captured for WaitEnded {
    const FULL: Counter = Counter::RingFullWait;
    const LIMITED: Counter = Counter::WaitStackRateLimited;
    const WINDOW: usize = 1;

    #[inline(always)]
    fn header(&self) -> &Header {
        &self.header
    }

    #[inline(always)]
    fn capture(&mut self) -> &mut Capture {
        &mut self.capture
    }
}

#[inline(always)]
fn within_rate(tgid: u32, which: usize) -> bool {
    let Some(window) = window(tgid, which) else {
        return false;
    };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if now.wrapping_sub(window.began_ns) >= config::STACK_WINDOW_NS {
        window.began_ns = now;
        window.taken = 0;
    }
    window.taken += 1;
    window.taken <= config::stacks_per_window()
}

/// Streams `record` with the registers and the stack of the thread that runs now.
/// Whatever keeps the stack from being taken is counted, stands in the record, and the record is streamed without it.
#[inline(always)]
pub fn send_captured<T: Captured>(mut record: T) {
    let &Header { tgid, tid, .. } = record.header();
    let missing = if !within_rate(tgid, T::WINDOW) {
        T::LIMITED
    } else {
        match send_with_stack(&record) {
            Ok(()) => return,
            Err(missing) => missing,
        }
    };
    lose(tgid, tid, missing);
    let capture = record.capture();
    capture.missing = missing as u32 + 1;
    ring::send(tgid, tid, &record, T::FULL);
}

#[inline(always)]
fn send_with_stack<T: Captured>(record: &T) -> Result<(), Counter> {
    if ring::is_half_full() {
        return Err(Counter::RingFullStack);
    }
    let mut entry = ring::reserve::<WithStack<T>>().ok_or(Counter::RingFullStack)?;
    // SAFETY: reserved memory of that type; all of its bit patterns are valid, and the record is written before it is read.
    let place = unsafe { entry.assume_init_mut() };
    place.record = *record;
    let capture = place.record.capture();
    if task::user_regs(task::current(), &mut capture.regs).is_none() {
        entry.discard(0);
        return Err(Counter::RegsUnreadable);
    }
    let len = read_stack(capture.regs[arch::SP], &mut place.stack);
    if len == 0 {
        entry.discard(0);
        return Err(Counter::StackUnreadable);
    }
    let capture = place.record.capture();
    capture.len = len as u32;
    capture.missing = 0;
    entry.submit(0);
    count(record.header().tgid, Counter::Streamed);
    Ok(())
}

/// Reads the stack upwards from `sp`, page by page, until one is not there. Returns how many bytes were read.
#[inline(always)]
fn read_stack(sp: u64, into: &mut [u8; STACK_MAX]) -> usize {
    let base = into.as_mut_ptr();
    // 1 to PAGE bytes: up to the end of the page that the stack pointer is in.
    let first = PAGE - (sp as usize & (PAGE - 1));
    // SAFETY: `first` is at most PAGE, and the buffer is larger; the helper checks the source.
    if unsafe { bpf_probe_read_user(base.cast(), first as u32, sp as *const _) } != 0 {
        return 0;
    }
    let mut len = first;
    for _ in 1..STACK_PAGES {
        if len > STACK_MAX - PAGE {
            break;
        }
        let source = sp.wrapping_add(len as u64);
        // SAFETY: `len` plus a page is at most the buffer's size, as was just checked.
        let into = unsafe { base.add(len) };
        // SAFETY: a page fits there; the helper checks the source.
        if unsafe { bpf_probe_read_user(into.cast(), PAGE as u32, source as *const _) } != 0 {
            break;
        }
        len += PAGE;
    }
    len
}
