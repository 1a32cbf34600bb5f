//! What leakprobe's BPF programs and its user side both speak.
//!
//! One concept a file: [`arch`] the saved registers, [`event`] what is streamed through the ring buffer,
//! [`thread`] what the task iterators return, [`wait`] the per-thread wait slots, [`futex`] the operations of the futex
//! system calls, [`offsets`] where the running kernel keeps the fields that the programs read, [`counter`] the names of everything
//! that is counted in the kernel.
//!
//! All types are `repr(C)` and made of integers alone; their sizes are asserted at compile time, so that
//! the two sides, built by two compilers, cannot drift apart.
#![no_std]
#![allow(unexpected_cfgs, reason = "bpf_target_arch is set for the BPF build")]

pub mod arch;
pub mod counter;
pub mod event;
pub mod futex;
pub mod offsets;
pub mod thread;
pub mod wait;

/// Marks a type as plain data: any bit pattern is a valid value and it holds no padding.
///
/// # Safety
/// The type must be `repr(C)`, without padding bytes, and made of integers only.
pub unsafe trait Plain: Copy + 'static {}

/// Declares a shared type as plain data and pins its size.
macro_rules! plain {
    ($type:ty, $size:expr) => {
        const _: () = assert!(size_of::<$type>() == $size);
        // SAFETY: repr(C), made of integers only; the size assertion above leaves no room for padding.
        unsafe impl $crate::Plain for $type {}
        #[cfg(feature = "user")]
        // SAFETY: as above; aya asks for the same properties.
        unsafe impl aya::Pod for $type {}
    };
}
pub(crate) use plain;

/// Reads a `T` from the front of `bytes`; `None` if there are too few.
#[must_use]
pub fn read_plain<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: there are enough bytes, the read is unaligned, and every bit pattern is a valid `T`.
    Some(unsafe { core::ptr::read_unaligned(bytes.as_ptr().cast::<T>()) })
}
