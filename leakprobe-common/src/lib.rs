//! What leakprobe's BPF programs and its user side both speak.
//!
//! One concept a file: [`arch`] the saved registers, [`event`] what is streamed through the ring buffer,
//! [`thread`] what the task iterators return, [`target`] what is kept for each target, [`wait`] the per-thread wait slots, [`futex`] the operations of the futex
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
pub mod target;
pub mod thread;
pub mod wait;

/// What proves that a type is plain data, where the derives of zerocopy are to be had: the user side. The kernel side is built
/// from the same declarations, and needs no crate more.
#[cfg(feature = "user")]
pub trait Proof: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable {}
#[cfg(feature = "user")]
impl<T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable> Proof for T {}
/// See the user side.
#[cfg(not(feature = "user"))]
pub trait Proof {}
#[cfg(not(feature = "user"))]
impl<T> Proof for T {}

/// Marks a type as plain data: any bit pattern is a valid value and it holds no padding.
///
/// # Safety
/// The type must be declared by `plain!`, whose build for the user side proves it.
pub unsafe trait Plain: Proof + Copy + 'static {}

/// Declares a shared type as plain data and pins its size.
macro_rules! plain {
    ($type:ty, $size:expr) => {
        const _: () = assert!(size_of::<$type>() == $size);
        // SAFETY: `Proof` holds of the same declaration.
        unsafe impl $crate::Plain for $type {}
        #[cfg(feature = "user")]
        // SAFETY: as above; aya asks for the same properties.
        unsafe impl aya::Pod for $type {}
    };
}
pub(crate) use plain;

/// Reads a `T` from the front of `bytes`; `None` if there are too few.
#[cfg(feature = "user")]
#[must_use]
pub fn read_plain<T: Plain>(bytes: &[u8]) -> Option<T> {
    T::read_from_prefix(bytes).ok().map(|(value, _)| value)
}
