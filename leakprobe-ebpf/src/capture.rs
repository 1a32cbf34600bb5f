//! Registers and stack of the thread that runs now: enough to unwind it with DWARF in user space, which the kernel cannot do. Used only
//! where a record is streamed anyway, never on the way into a wait.
//!
//! A stack is read first and streamed then, in a record that is as long as it is: what the ring buffer holds of it has to be known when it
//! is reserved, and how much there is only once it was read.

use core::hint::black_box;

use aya_ebpf::{
    helpers::{bpf_ktime_get_ns, generated::bpf_probe_read_user},
    macros::map,
    maps::PerCpuArray,
};
use leakprobe_common::{
    Plain, arch,
    counter::Counter,
    event::{Capture, Created, Header, PAGE, STACK_MAX, WaitEnded},
};

use crate::{
    config::{self, offset},
    count::{lose, window},
    ring,
    task::{self, Kernel},
};

/// A record that ends in a [`Capture`].
pub trait Captured: Plain {
    /// Counted when the ring buffer has no room for it.
    const FULL: Counter;
    /// Counted when its stack is left out because there were too many.
    const LIMITED: Counter;
    /// Its rate limit: see [`window`].
    const WINDOW: usize;
    /// Where it and its stack are put together.
    fn place() -> Option<*mut WithStack<Self>>;
    /// Its front.
    fn header(&self) -> &Header;
    /// Its capture.
    fn capture(&mut self) -> &mut Capture;
}

/// A record and its stack, contiguous, as they are streamed. Each CPU has one for each kind of record, since no program is interrupted
/// by itself.
#[repr(C)]
pub struct WithStack<T> {
    record: T,
    stack: [u8; STACK_MAX],
}

#[map]
static CREATED: PerCpuArray<WithStack<Created>> = PerCpuArray::with_max_entries(1, 0);

#[map]
static WAIT_ENDED: PerCpuArray<WithStack<WaitEnded>> = PerCpuArray::with_max_entries(1, 0);

impl Captured for Created {
    const FULL: Counter = Counter::RingFullCreated;
    const LIMITED: Counter = Counter::CreationStackRateLimited;
    const WINDOW: usize = 0;

    #[inline(always)]
    fn place() -> Option<*mut WithStack<Self>> {
        CREATED.get_ptr_mut(0)
    }

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
    fn place() -> Option<*mut WithStack<Self>> {
        WAIT_ENDED.get_ptr_mut(0)
    }

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
pub fn send_captured<T: Captured>(record: T) {
    let &Header { tgid, tid, .. } = record.header();
    let Some(place) = T::place() else {
        return;
    };
    // SAFETY: the pointer is to a map value of this CPU, checked not to be null, and all bit patterns are valid; nobody else has it.
    let place = unsafe { &mut *place };
    place.record = record;
    let (len, missing) = match take_stack(tgid, place) {
        Ok(len) => (len, 0),
        Err(missing) => {
            lose(tgid, tid, missing);
            (0, missing as u32 + 1)
        }
    };
    let capture = place.record.capture();
    capture.len = len as u32;
    capture.missing = missing;
    ring::send_bytes(tgid, tid, core::ptr::from_ref(place).cast(), size_of::<T>() + checked(len), T::FULL);
}

/// Puts the registers and the stack of the thread that runs now where its record is. Returns how many bytes of stack there are, 1 or
/// more.
#[inline(always)]
fn take_stack<T: Captured>(tgid: u32, place: &mut WithStack<T>) -> Result<usize, Counter> {
    if !within_rate(tgid, T::WINDOW) {
        return Err(T::LIMITED);
    }
    let capture = place.record.capture();
    task::user_regs(task::current(), &mut capture.regs).ok_or(Counter::RegsUnreadable)?;
    let len = read_stack(capture.regs[arch::SP], &mut place.stack);
    if len == 0 {
        return Err(Counter::StackUnreadable);
    }
    if !ring::has_room_for_stack(len) {
        return Err(Counter::RingFullStack);
    }
    Ok(len)
}

/// Reads the stack upwards from `sp`: at once if all of it is there, else page by page until one is not. Returns how many bytes were read.
#[inline(always)]
fn read_stack(sp: u64, into: &mut [u8; STACK_MAX]) -> usize {
    let base = into.as_mut_ptr();
    let most = checked(most_of_stack(sp));
    // SAFETY: so much fits there; the helper checks the source.
    if unsafe { bpf_probe_read_user(base.cast(), most as u32, sp as *const _) } == 0 {
        return most;
    }
    // 1 to PAGE bytes: up to the end of the page that the stack pointer is in.
    let first = PAGE - (sp as usize & (PAGE - 1));
    // SAFETY: `first` is at most PAGE, and the buffer is larger; the helper checks the source.
    if unsafe { bpf_probe_read_user(base.cast(), first as u32, sp as *const _) } != 0 {
        return 0;
    }
    let mut len = first;
    for _ in 1..STACK_MAX / PAGE {
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

/// The length of a stack, compared with the largest one where the verifier sees it: older ones (6.1) do not follow how it was computed, and
/// the compiler, which does, would leave the comparison out.
#[inline(always)]
fn checked(len: usize) -> usize {
    let len = black_box(len);
    if len > STACK_MAX { 0 } else { len }
}

/// How long the stack of the thread that runs now can be from `sp` upwards: 1 to [`STACK_MAX`]. What lies above the place where its process
/// began, or above its thread-local storage, which libraries put at the upper end of a stack, is not of it.
#[inline(always)]
fn most_of_stack(sp: u64) -> usize {
    let task = Kernel::current();
    let process = task.follow(offset!(task_mm)).and_then(|mm| mm.read::<u64>(offset!(mm_start_stack)));
    let thread = task.read::<u64>(offset!(task_fsbase));
    let mut most = STACK_MAX;
    for end in [process, thread] {
        let len = end.unwrap_or(0).wrapping_sub(sp) as usize;
        if len > 0 && len < most {
            most = len;
        }
    }
    most
}
