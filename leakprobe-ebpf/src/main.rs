//! leakprobe's BPF programs. One file a probe: [`lifecycle`] streams creations, exits, execs and renames of the targets'
//! threads, [`futex`] times their futex waits or [`sched`] all of their sleeps, [`calls`] tells what the first of these costs
//! others, [`iterator`] reads all threads at one moment.
//!
//! Each entry is thin: it calls a `try_` function whose error is a named [counter](leakprobe_common::counter::Counter).
//! Nothing on a hot path takes a stack, and the target is compared before anything else.
#![no_std]
#![no_main]
// The target has atomic additions, but no compare-and-exchange in its oldest version, so that `AtomicU64` has neither.
#![expect(internal_features, reason = "atomic additions are to be had in no other way")]
#![feature(core_intrinsics)]

mod calls;
mod capture;
mod config;
mod count;
mod futex;
mod iterator;
mod lifecycle;
mod ring;
mod sched;
mod task;
mod wait;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The verifier rejects a program from which this can be reached.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
