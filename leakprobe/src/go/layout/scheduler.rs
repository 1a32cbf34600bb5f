//! Where the fields lie of the scheduler: its processors, their timers, the numbers that goroutines get.

use super::Offset;

/// Offsets in `runtime.p`: a processor, which runs goroutines one after the other and keeps timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PLayout {
    /// How many bytes have to be read to have every field that is named here but [`Self::timers`].
    pub size: Offset,
    /// `id`, `i32`: its place in `allp`.
    pub id: Offset,
    /// `status`, `u32`.
    pub status: Offset,
    /// `m`, pointer: the thread that has it, 0 if it is idle.
    pub m: Offset,
    /// `mcache`, pointer: never 0 while it is in `allp`.
    pub mcache: Offset,
    /// `goidcache`, `u64`: the next number that a goroutine gets, if it is less than the following word, `goidcacheend`.
    pub goidcache: Offset,
    /// `timers`: until Go 1.22 a slice of pointers to `timer`, then a struct that has the heap at [`Self::heap`]. `None`: not known
    /// for sure for this runtime.
    pub timers: Option<Offset>,
    /// How far into [`Self::timers`] the slice (pointer, length, capacity) of entries lies.
    pub heap: Offset,
    /// Bytes of an entry, which begins with the pointer to a `timer`.
    pub entry: Offset,
}

/// Offsets in `runtime.schedt`, which has one value: `runtime.sched`. Its first field is `goidgen`, `u64`: how many numbers for
/// goroutines the processors have taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedLayout {
    /// `maxmcount`, `i32`: at how many threads the program is ended.
    pub maxmcount: Offset,
    /// `pidle`, pointer to the first idle `p`.
    pub pidle: Offset,
    /// `npidle`, `i32`: how many are idle.
    pub npidle: Offset,
}

/// Offsets in `runtime.timer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerLayout {
    /// `when`, `i64`: when it fires, `CLOCK_MONOTONIC`, ns. Since Go 1.23 0 if it does not.
    pub when: Offset,
    /// `period`, `i64`: of a ticker, ns; else 0.
    pub period: Offset,
    /// `f`, pointer to a func value, whose first word is the code's address.
    pub f: Offset,
    /// `arg`'s second word, pointer: what `f` is called with.
    pub arg: Offset,
    /// `pp` until Go 1.22, pointer to the `p` in whose heap it is; then `ts`, pointer to that heap.
    pub owner: Offset,
    /// What says whether it is pending.
    pub state: TimerState,
    /// `isFake`, `bool`: its time is that of a bubble of `testing/synctest`; since Go 1.24.
    pub is_fake: Option<Offset>,
    /// Whether timers of channels may be in heaps though no goroutine waits on the channel, and channels not lead to their timers:
    /// until Go 1.22 always, until Go 1.26 with `GODEBUG=asynctimerchan=1`, which is the default for an old `go` line in go.mod.
    pub may_be_async: bool,
    /// Bytes of one.
    pub size: Offset,
}

/// What says whether a timer in a heap is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerState {
    /// Until Go 1.22.
    Status {
        /// `status`, `u32`.
        status: Offset,
        /// `nextwhen`, `i64`: replaces `when` if it was modified.
        nextwhen: Offset,
    },
    /// `state`, `u8`, since Go 1.23.
    Bits(Offset),
}

impl PLayout {
    pub(super) fn of(minor: u16) -> Self {
        // Go 1.23 removed a field in front.
        let m = if minor >= 23 { 48 } else { 56 };
        let goidcache = if matches!(minor, 23..=25) { 376 } else { 384 };
        let timers = match minor {
            ..22 => 8840,
            22 => 8872,
            23 | 24 => 8840,
            25 => 9392,
            _ => 13672,
        };
        let (heap, entry) = if minor >= 23 { (8, 16) } else { (0, 8) };
        let size = goidcache + 16;
        Self { size, id: 0, status: 4, m, mcache: m + 8, goidcache, timers: Some(timers), heap, entry }
    }
}

impl SchedLayout {
    pub(super) fn of(minor: u16) -> Self {
        match minor {
            ..25 => Self { maxmcount: 56, pidle: 80, npidle: 88 },
            25 => Self { maxmcount: 64, pidle: 88, npidle: 96 },
            _ => Self { maxmcount: 80, pidle: 104, npidle: 112 },
        }
    }
}

impl TimerLayout {
    pub(super) fn of(minor: u16, size: Offset) -> Self {
        let when = match minor {
            ..23 => 8,
            23 | 24 => 16,
            _ => 24,
        };
        Self {
            when,
            period: when + 8,
            f: when + 16,
            arg: when + 32,
            owner: if minor >= 23 { when + 48 } else { 0 },
            state: if minor >= 23 { TimerState::Bits(9) } else { TimerState::Status { status: 64, nextwhen: 56 } },
            is_fake: (minor >= 24).then_some(11),
            may_be_async: minor <= 26,
            size,
        }
    }
}
