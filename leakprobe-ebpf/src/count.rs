//! What is counted and limited for each target: everything that went wrong or was left out, by name, and how many stacks were taken.

use core::intrinsics::{AtomicOrdering::Relaxed, atomic_xadd};

use aya_ebpf::{macros::map, maps::HashMap};
use aya_log_ebpf::debug;
use leakprobe_common::{
    counter::Counter,
    target::{Account, Window},
};

use crate::config;

/// By process id. User space adds and removes them, before and after the target is watched, and says how many there may be.
#[map]
static ACCOUNTS: HashMap<u32, Account> = HashMap::with_max_entries(1, 0);

/// Adds one to `counter` of the target `tgid`.
#[inline(always)]
pub fn count(tgid: u32, counter: Counter) {
    let Some(account) = ACCOUNTS.get_ptr_mut(tgid) else {
        return;
    };
    // SAFETY: the pointer is to a map value, checked not to be null.
    let place = unsafe { &raw mut (*account).counters[counter as usize] };
    // SAFETY: an aligned u64 of the same value, which programs on other CPUs change by atomic operations alone.
    unsafe { atomic_xadd::<u64, u64, { Relaxed }>(place, 1) };
}

/// Counts a loss of the thread `tid` of the target `tgid`, and tells of it where that is wanted: else the verifier removes what tells.
#[inline(always)]
pub fn lose(tgid: u32, tid: u32, loss: Counter) {
    count(tgid, loss);
    if config::tells_losses() {
        tell(loss as u32, tgid, tid);
    }
}

/// A function of its own, with a stack frame of its own. User space gives the loss its name: `leakprobe/src/probes/log.rs`.
#[inline(never)]
fn tell(loss: u32, tgid: u32, tid: u32) {
    debug!((), "{} {} {}", loss, tgid, tid);
}

/// The rate limit for stacks of the target `tgid`: that of creations (0) or of waits (1).
#[inline(always)]
pub fn window(tgid: u32, which: usize) -> Option<&'static mut Window> {
    let account = ACCOUNTS.get_ptr_mut(tgid)?;
    // SAFETY: the pointer is to a map value, checked not to be null; other CPUs may write it at the same time, which can only make the
    // limit less exact.
    let account = unsafe { &mut *account };
    account.windows.get_mut(which)
}
