//! What user space sets before the programs are loaded. The verifier sees constants.

use aya_ebpf::{Global, macros::map, maps::Array};
use leakprobe_common::{
    offsets::KernelOffsets,
    target::{BITS, WORDS},
    wait::Settings,
};

/// The only target's process id, in the initial pid namespace; 0 if there may be several.
#[unsafe(no_mangle)]
static ONLY_TARGET: Global<u32> = Global::new(0);

/// If there may be several, a bit for each process id: set for those of targets. User space sets and clears them.
#[map]
static TARGETS: Array<u64> = Array::with_max_entries(WORDS, 0);

/// Shortest futex wait that is streamed when it ends, ns.
#[unsafe(no_mangle)]
static MIN_BLOCK_NS: Global<u64> = Global::new(1_000_000_000);

/// Whether other processes that targets create are told of: 0 or 1.
#[unsafe(no_mangle)]
static FORKS: Global<u32> = Global::new(0);

/// Whether it is told of which thread something was lost: 0 or 1.
#[unsafe(no_mangle)]
static TELLS_LOSSES: Global<u32> = Global::new(0);

/// Where this kernel keeps the fields that we read.
#[unsafe(no_mangle)]
static OFFSETS: Global<KernelOffsets> = Global::new(KernelOffsets::NONE);

/// The step of the rate limit for stacks.
pub const STACK_WINDOW_NS: u64 = 100_000_000;

/// Whether a process is watched. A single target is a constant, so that the verifier removes all but one comparison.
#[inline(always)]
pub fn is_target(tgid: u32) -> bool {
    let only = ONLY_TARGET.load();
    if only != 0 {
        return tgid == only;
    }
    let Some(word) = TARGETS.get_ptr(tgid / BITS) else {
        return false;
    };
    // SAFETY: the pointer is to a map value, checked not to be null. Volatile, because user space writes it.
    let word = unsafe { word.read_volatile() };
    word >> (tgid % BITS) & 1 != 0
}

#[inline(always)]
pub fn min_block_ns() -> u64 {
    MIN_BLOCK_NS.load()
}

#[inline(always)]
pub fn wants_forks() -> bool {
    FORKS.load() != 0
}

#[inline(always)]
pub fn tells_losses() -> bool {
    TELLS_LOSSES.load() != 0
}

/// What user space changes while the programs run: one entry.
#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

#[inline(always)]
fn settings() -> Settings {
    SETTINGS.get(0).copied().unwrap_or_default()
}

#[inline(always)]
pub fn stacks_per_window() -> u64 {
    settings().stacks_per_window
}

#[inline(always)]
pub fn watched_since_ns() -> u64 {
    settings().watched_since_ns
}

/// One offset, by the place of its field in [`KernelOffsets`].
macro_rules! offset {
    ($field:ident) => {
        $crate::config::offset_at(core::mem::offset_of!(leakprobe_common::offsets::KernelOffsets, $field))
    };
}
pub(crate) use offset;

#[inline(always)]
pub fn offset_at(place: usize) -> u32 {
    let base = (&raw const OFFSETS).cast::<u8>();
    // SAFETY: `place` comes from offset_of! on the type of OFFSETS, all of whose fields are u32.
    let field = unsafe { base.add(place) };
    // SAFETY: as above. Volatile, because user space replaces the value that the compiler sees.
    unsafe { core::ptr::read_volatile(field.cast::<u32>()) }
}
