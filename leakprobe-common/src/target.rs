//! What the programs keep for each target, and how several targets are told from other processes.

#[cfg(feature = "user")]
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{counter::COUNTERS, plain};

/// Process ids in one word of the bit map that tells targets from other processes.
pub const BITS: u32 = u64::BITS;
/// Words of that bit map: room for any process id that a kernel can be told to use (`PID_MAX_LIMIT`).
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/include/linux/threads.h#L33>
pub const WORDS: u32 = (4 << 20) / BITS;

/// The key of the [`Account`] for what cannot be told to be of any target.
pub const NOBODY: u32 = 0;

/// What is counted and limited for one target.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct Account {
    /// By [`crate::counter::Counter`].
    pub counters: [u64; COUNTERS as usize],
    /// How many stacks were taken, of creations and of waits.
    pub windows: [Window; 2],
}
plain!(Account, 8 * COUNTERS as usize + 2 * size_of::<Window>());

impl Account {
    /// That of a target of which nothing has been seen.
    pub const EMPTY: Self = Self { counters: [0; COUNTERS as usize], windows: [Window { began_ns: 0, taken: 0 }; 2] };
}

/// How many stacks were taken in the present step of the rate limit. Not exact when CPUs meet: a few more may pass.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[cfg_attr(feature = "user", derive(FromBytes, Immutable, IntoBytes))]
pub struct Window {
    /// When the step began, `bpf_ktime_get_ns`.
    pub began_ns: u64,
    /// Stacks asked for in it.
    pub taken: u64,
}
plain!(Window, 16);
