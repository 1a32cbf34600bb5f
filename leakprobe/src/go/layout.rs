//! Where the fields lie in the Go runtime's structures: one row a version, in one table.
//!
//! A new Go version is one new row in [`ROWS`]. What two versions have in common is said by a relation in [`Layout::of_row`], not
//! by a number of its own. All offsets are the same on amd64 and arm64.
//!
//! Source: the debug information of programs that were built with each version, e.g. for the structures of Go 1.27
//! <https://github.com/golang/go/blob/go1.27.0/src/runtime/runtime2.go>.

mod scheduler;

use super::Version;

pub use scheduler::{PLayout, SchedLayout, TimerLayout, TimerState};

/// How far into a structure a field lies, bytes.
pub type Offset = u16;

/// Where the fields lie that leakprobe reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `runtime.g`: a goroutine.
    pub g: GLayout,
    /// `runtime.m`: a thread.
    pub m: MLayout,
    /// `runtime.sudog`: a goroutine in a queue of waiters.
    pub sudog: SudogLayout,
    /// `runtime.hchan`: a channel.
    pub hchan: HchanLayout,
    /// `runtime.p`: a processor of the scheduler.
    pub p: PLayout,
    /// `runtime.sched`.
    pub sched: SchedLayout,
    /// `runtime.timer`.
    pub timer: TimerLayout,
    /// `runtime.pollDesc`: a file descriptor that the runtime polls. `None`: unknown for this version.
    pub poll: Option<PollLayout>,
    /// `runtime.ancestorInfo`.
    pub ancestor: AncestorLayout,
    /// `synctestBubble.id`, `u64`, since Go 1.25.
    pub bubble_id: Option<Offset>,
    /// What [`GLayout::labels`] leads to.
    pub labels: Labels,
    /// How the primitives of package sync are made up.
    pub sync: SyncLayout,
}

/// Offsets in `runtime.g`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GLayout {
    /// How many bytes have to be read to have every field that is named here.
    pub size: Offset,
    /// `stack.lo`, `u64`: the lowest address of its stack.
    pub stack_lo: Offset,
    /// `stack.hi`, `u64`: the end of its stack.
    pub stack_hi: Offset,
    /// `m`, pointer: the thread that runs it, 0 if none does.
    pub m: Offset,
    /// `sched.sp`, `u64`: its stack pointer when it was last switched away from.
    pub sched_sp: Offset,
    /// `sched.pc`, `u64`.
    pub sched_pc: Offset,
    /// `sched.g`, pointer: the goroutine itself, in all but the first moments of its life.
    pub sched_g: Offset,
    /// `sched.lr`, `u64`: the link register, on arm64.
    pub sched_lr: Offset,
    /// `sched.bp`, `u64`: its frame pointer.
    pub sched_bp: Offset,
    /// `syscallsp`, `u64`: the stack pointer at which it entered a system call or C code; 0 if it is in neither.
    pub syscallsp: Offset,
    /// `syscallpc`, `u64`.
    pub syscallpc: Offset,
    /// `syscallbp`, `u64`, since Go 1.23.
    pub syscallbp: Option<Offset>,
    /// `param`, pointer: what whoever wakes it hands over.
    pub param: Offset,
    /// `atomicstatus`, `u32`.
    pub atomicstatus: Offset,
    /// `goid`, `u64`.
    pub goid: Offset,
    /// `waitsince`, `i64`: about when its wait began, `CLOCK_MONOTONIC`, ns; set by the garbage collector, 0 until then.
    pub waitsince: Offset,
    /// `waitreason`, `u8`: index into [`super::Runtime::reasons`].
    pub waitreason: Offset,
    /// `trackingSeq`, `u8`: goes up by one whenever it stops running (from Go 1.26 on: running or being in a system call).
    /// `None`: not known for sure for this runtime, so that nothing tells whether it has run.
    pub tracking_seq: Option<Offset>,
    /// `lockedm`, pointer: the thread that it is tied to. `None`: not known for sure for this runtime.
    pub lockedm: Option<Offset>,
    /// `parentGoid`, `u64`, since Go 1.21.
    pub parent_goid: Option<Offset>,
    /// `gopc`, `u64`: where it was created.
    pub gopc: Offset,
    /// `ancestors`, pointer to a slice of `ancestorInfo`.
    pub ancestors: Offset,
    /// `startpc`, `u64`: the entry of its function.
    pub startpc: Offset,
    /// `waiting`, pointer to `sudog`: what it waits on, in lock order. Linked by [`SudogLayout::waitlink`].
    pub waiting: Offset,
    /// `labels`, pointer, see [`Labels`].
    pub labels: Offset,
    /// `timer`, pointer to `timer`: that of its sleep.
    pub timer: Offset,
    /// `sleepWhen`, `i64`: when its sleep ends, `CLOCK_MONOTONIC`, ns; since Go 1.23. Stays when it is over.
    pub sleep_when: Option<Offset>,
    /// `coroarg`, pointer to `coro`: set while it passes control to a coroutine or gets it; since Go 1.22.
    pub coroarg: Option<Offset>,
    /// `bubble` (Go 1.24: `syncGroup`), pointer: that of `testing/synctest`; since Go 1.24.
    pub bubble: Option<Offset>,
}

/// Offsets in `runtime.m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MLayout {
    /// How many bytes have to be read to have every field that is named here.
    pub size: Offset,
    /// `g0`, pointer to the `g` whose stack is the thread's own.
    pub g0: Offset,
    /// `procid`, `u64`: the thread's id, in the innermost pid namespace that the process is in.
    pub procid: Offset,
    /// `curg`, pointer: the goroutine that it runs; 0 if none. Not checked for a version that the table does not have: `g.m` of
    /// that goroutine must lead back.
    pub curg: Offset,
    /// `p`, pointer: the processor that it has, 0 if it has none.
    pub p: Offset,
    /// `alllink`, pointer to the next `m` of the list `allm`. `None`: unknown for this runtime, as is
    /// [`super::Runtime::allm`] then.
    pub alllink: Option<Offset>,
    /// `lockedg`, pointer: the goroutine that is tied to it. `None`: unknown for this runtime.
    pub lockedg: Option<Offset>,
}

/// Offsets in `runtime.sudog`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SudogLayout {
    /// Bytes of one.
    pub size: Offset,
    /// `g`, pointer: who waits.
    pub g: Offset,
    /// `next`, pointer: the next one in the queue of a channel.
    pub next: Offset,
    /// `prev`, pointer.
    pub prev: Offset,
    /// `elem`, pointer: for a semaphore its address, for a channel where the value is or goes to. From Go 1.26 on the second
    /// word of a `maybeTraceablePtr`, which the collector does not hide.
    pub elem: Offset,
    /// `ticket`, `u32`.
    pub ticket: Offset,
    /// `isSelect`, `bool`.
    pub is_select: Offset,
    /// `success`, `bool`.
    pub success: Offset,
    /// `parent`, pointer: in the tree of semaphores.
    pub parent: Offset,
    /// `waitlink`, pointer: the next one of the same goroutine, or of the same semaphore.
    pub waitlink: Offset,
    /// `c`, pointer to `hchan`; 0 for a semaphore. From Go 1.26 on as [`Self::elem`].
    pub c: Offset,
}

/// Offsets in `runtime.hchan`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HchanLayout {
    /// How many bytes have to be read to have every field that is named here.
    pub size: Offset,
    /// `qcount`, `u64`: values in the buffer.
    pub qcount: Offset,
    /// `dataqsiz`, `u64`: values that the buffer can hold.
    pub dataqsiz: Offset,
    /// `elemsize`, `u16`: bytes of a value.
    pub elemsize: Offset,
    /// `closed`, `u32`: 0 if it is not.
    pub closed: Offset,
    /// `timer`, pointer: the timer that fills it; since Go 1.23.
    pub timer: Option<Offset>,
    /// `recvq.first`, pointer to `sudog`.
    pub recvq: Offset,
    /// `sendq.first`, pointer to `sudog`.
    pub sendq: Offset,
}

/// Offsets in `runtime.pollDesc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollLayout {
    /// How many bytes have to be read to have every field that is named here.
    pub size: Offset,
    /// `fd`, `u64`: the descriptor.
    pub fd: Offset,
    /// `rg`: the goroutine that waits to read; 1: there is something to read, 2: somebody is about to wait.
    pub rg: Offset,
    /// `wg`: the goroutine that waits to write, likewise.
    pub wg: Offset,
    /// `rd`, `i64`: the deadline for reading, `CLOCK_MONOTONIC`, ns; 0: none, negative: over.
    pub rd: Offset,
    /// `wd`, `i64`: the deadline for writing, likewise.
    pub wd: Offset,
}

/// Offsets in `runtime.ancestorInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AncestorLayout {
    /// Bytes of one.
    pub size: Offset,
    /// `pcs`, slice (pointer, length, capacity) of return addresses.
    pub pcs: Offset,
    /// `goid`, `u64`.
    pub goid: Offset,
    /// `gopc`, `u64`: where it was created.
    pub gopc: Offset,
}

/// What the pointer in `g.labels` leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// Until Go 1.23: to a pointer to a `runtime.hmap` (a `map[string]string`).
    Map,
    /// Since Go 1.24: to a slice (pointer, length, capacity) of pairs of strings, each a pointer and a length.
    Pairs,
}

/// How far the semaphores lie in the primitives of package sync: a goroutine that waits has the semaphore's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncLayout {
    /// In `sync.Mutex`.
    pub mutex_sema: Offset,
    /// In `sync.RWMutex`: what writers wait on.
    pub rwmutex_writer: Offset,
    /// In `sync.RWMutex`: what readers wait on.
    pub rwmutex_reader: Offset,
    /// In `sync.WaitGroup`.
    pub waitgroup_sema: Offset,
    /// In `sync.Cond`: `notify`, a `notifyList`, whose list of waiters begins at [`Self::notify_head`].
    pub cond_notify: Offset,
    /// In `notifyList`: `head`, pointer to `sudog`.
    pub notify_head: Offset,
}

/// What differs from version to version, under the names that the fields have there.
#[derive(Debug)]
struct Row {
    /// The first release that it holds for: minor version, patch.
    since: (u16, u16),
    /// `g.atomicstatus`.
    status: Offset,
    /// `g.startpc`.
    startpc: Offset,
    /// `g.trackingSeq`.
    tracking_seq: Offset,
    /// `g.lockedm`.
    lockedm: Offset,
    /// `m.alllink`; several if it moved in a patch release: the live list tells which.
    alllink: &'static [Offset],
    /// Bytes of a `timer`.
    timer: Offset,
    /// `pollDesc.rg`, if it is known.
    poll_rg: Option<Offset>,
    /// `moduledata.gofunc`.
    gofunc: Offset,
    /// `moduledata.next`.
    next: Offset,
}

/// The table. Go 1.20 is derived from the sources of its neighbours; all others are measured.
#[rustfmt::skip]
static ROWS: [Row; 10] = [
    Row { since: (19, 0), status: 144, startpc: 312, tracking_seq: 189, lockedm: 232, alllink: &[336],
          timer: 72, poll_rg: Some(24), gofunc: 304, next: 544 },
    Row { since: (20, 0), status: 144, startpc: 312, tracking_seq: 189, lockedm: 232, alllink: &[336],
          timer: 72, poll_rg: None, gofunc: 320, next: 560 },
    Row { since: (21, 0), status: 144, startpc: 296, tracking_seq: 188, lockedm: 208, alllink: &[336],
          timer: 72, poll_rg: Some(32), gofunc: 320, next: 584 },
    Row { since: (22, 0), status: 144, startpc: 296, tracking_seq: 191, lockedm: 208, alllink: &[328],
          timer: 72, poll_rg: Some(32), gofunc: 320, next: 584 },
    Row { since: (23, 0), status: 152, startpc: 304, tracking_seq: 199, lockedm: 216, alllink: &[328],
          timer: 80, poll_rg: Some(32), gofunc: 320, next: 576 },
    Row { since: (23, 3), status: 152, startpc: 304, tracking_seq: 199, lockedm: 216, alllink: &[328],
          timer: 88, poll_rg: Some(32), gofunc: 320, next: 576 },
    Row { since: (24, 0), status: 152, startpc: 304, tracking_seq: 199, lockedm: 216, alllink: &[328, 352],
          timer: 88, poll_rg: Some(32), gofunc: 320, next: 576 },
    Row { since: (25, 0), status: 144, startpc: 296, tracking_seq: 191, lockedm: 208, alllink: &[344],
          timer: 96, poll_rg: Some(32), gofunc: 320, next: 576 },
    Row { since: (26, 0), status: 144, startpc: 304, tracking_seq: 191, lockedm: 208, alllink: &[352],
          timer: 96, poll_rg: Some(32), gofunc: 320, next: 584 },
    Row { since: (27, 0), status: 144, startpc: 304, tracking_seq: 191, lockedm: 208, alllink: &[352],
          timer: 96, poll_rg: Some(32), gofunc: 344, next: 560 },
];

/// The oldest minor version that the table has.
pub(super) const OLDEST: u16 = 19;
/// The newest minor version that the table has.
pub(super) const NEWEST: u16 = 27;
/// Where `m.alllink` is looked for if the table does not have the version: multiples of 8.
const ALLLINK_RANGE: std::ops::RangeInclusive<Offset> = 256..=512;

/// What is known of a version before the live process has been looked at.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The layout; that of the newest known version for one that is newer. [`MLayout::alllink`] is still open.
    pub(super) layout: Layout,
    /// Where `m.alllink` may be.
    pub(super) alllink: Vec<Offset>,
    /// `moduledata.gofunc`.
    pub(super) gofunc: Offset,
    /// `moduledata.next`.
    pub(super) next: Offset,
    /// Whether the table has the version.
    pub(super) exact: bool,
}

impl Known {
    /// What is known of the newest version.
    pub(super) fn newest() -> Self {
        let [.., row] = &ROWS;
        Self::of_row(row, true)
    }

    /// What is known of `version`; `None` if it is older than the table.
    pub(super) fn of(version: &Version) -> Option<Self> {
        let minor = if version.major > 1 { u16::MAX } else { version.minor };
        let row = ROWS.iter().rev().find(|row| row.since <= (minor, version.patch))?;
        Some(Self::of_row(row, minor <= NEWEST))
    }

    fn of_row(row: &Row, exact: bool) -> Self {
        let alllink = if exact { row.alllink.to_vec() } else { ALLLINK_RANGE.step_by(8).collect() };
        let (gofunc, next) = (row.gofunc, row.next);
        Self { layout: Layout::of_row(row), alllink, gofunc, next, exact }
    }
}

impl Layout {
    /// The layout of `version` by the table, with [`MLayout::alllink`] where it is in the newest patch release; `None` if the
    /// table does not have it.
    #[must_use]
    pub fn of(version: &Version) -> Option<Self> {
        let Known { mut layout, alllink, exact, .. } = Known::of(version)?;
        layout.set_alllink(alllink.last().copied(), version.minor);
        exact.then_some(layout)
    }

    /// Takes in where `m.alllink` was found; `lockedg` follows it, until Go 1.25 after one field, then after three.
    pub(super) fn set_alllink(&mut self, alllink: Option<Offset>, minor: u16) {
        self.m.alllink = alllink;
        let known = alllink.filter(|_| minor <= NEWEST);
        self.m.lockedg = known.map(|at| at + if minor >= 26 { 32 } else { 16 });
    }

    fn of_row(row: &Row) -> Self {
        let minor = row.since.0;
        // gobuf.ret was removed in 1.25; in `m`, too, all that follows its gobuf moved.
        let gone = if minor >= 25 { 8 } else { 0 };
        let sudog = if minor >= 26 { SUDOG_TRACEABLE } else { SUDOG };
        let hchan = match minor {
            ..23 => HchanLayout { recvq: 56, sendq: 72, timer: None, ..HCHAN },
            _ => HCHAN,
        };
        // pollDesc: rg, wg, [lock and flags], rseq, rt, rd, wseq, wt, wd.
        let poll = row.poll_rg.map(|rg| {
            let rd = rg + 40 + row.timer;
            let wd = rd + 16 + row.timer;
            PollLayout { size: wd + 8, fd: 8, rg, wg: rg + 8, rd, wd }
        });
        let curg = 192 - gone;
        let p = curg + if minor >= 26 { 24 } else { 16 };
        Self {
            g: GLayout::of(minor, row.status, row.startpc, Some(row.tracking_seq), Some(row.lockedm)),
            m: MLayout { size: M_SIZE, g0: 0, procid: 72 - gone, curg, p, alllink: None, lockedg: None },
            sudog,
            hchan,
            p: PLayout::of(minor),
            sched: SchedLayout::of(minor),
            timer: TimerLayout::of(minor, row.timer),
            poll,
            ancestor: AncestorLayout { size: 40, pcs: 0, goid: 24, gopc: 32 },
            bubble_id: (minor >= 25).then_some(BUBBLE_ID),
            labels: if minor >= 24 { Labels::Pairs } else { Labels::Map },
            sync: SyncLayout {
                mutex_sema: 4,
                rwmutex_writer: 8,
                rwmutex_reader: 12,
                waitgroup_sema: 8,
                cond_notify: 16,
                notify_head: 16,
            },
        }
    }

    /// The same with `g.atomicstatus` and `g.startpc` elsewhere, as calibration has found them in a version that the table does
    /// not have. What lies before the status moves with it, what lies behind the creation site with that; what lies between
    /// cannot be known.
    pub(super) fn moved(&self, status: Offset, startpc: Offset) -> Self {
        Self { g: GLayout::of(NEWEST, status, startpc, None, None), ..self.clone() }
    }
}

/// Bytes of a `g` that hold every field that is named here, in every version.
const G_SIZE: Offset = 400;
/// Bytes of an `m` that do so.
const M_SIZE: Offset = 544;

/// `synctestBubble.id`, behind the lock and the timers.
const BUBBLE_ID: Offset = 72;

impl GLayout {
    /// Two groups of fields always move together: those around the status, and those around the function's entry.
    fn of(minor: u16, status: Offset, startpc: Offset, tracking_seq: Option<Offset>, lockedm: Option<Offset>) -> Self {
        // Between them and the status lie stktopsp and param, since 1.23 syscallbp, too.
        let syscallsp = if minor >= 23 { status - 40 } else { status - 32 };
        Self {
            size: G_SIZE,
            stack_lo: 0,
            stack_hi: 8,
            m: 48,
            sched_sp: 56,
            sched_pc: 64,
            sched_g: 72,
            sched_lr: syscallsp - 16,
            sched_bp: syscallsp - 8,
            syscallsp,
            syscallpc: syscallsp + 8,
            syscallbp: (minor >= 23).then_some(syscallsp + 16),
            param: status - 8,
            atomicstatus: status,
            goid: status + 8,
            waitsince: status + 24,
            waitreason: status + 32,
            tracking_seq,
            lockedm,
            parent_goid: (minor >= 21).then_some(startpc - 24),
            gopc: startpc - 16,
            ancestors: startpc - 8,
            startpc,
            waiting: startpc + 16,
            labels: startpc + 48,
            timer: startpc + 56,
            sleep_when: (minor >= 23).then_some(startpc + 64),
            coroarg: match minor {
                ..22 => None,
                22 => Some(startpc + 72),
                _ => Some(startpc + 80),
            },
            bubble: (minor >= 24).then_some(startpc + 88),
        }
    }
}

const SUDOG: SudogLayout = SudogLayout {
    size: 88,
    g: 0,
    next: 8,
    prev: 16,
    elem: 24,
    ticket: 48,
    is_select: 52,
    success: 53,
    parent: 56,
    waitlink: 64,
    c: 80,
};

/// Since Go 1.26 `elem` and `c` have two words each, of which the second always holds the address.
const SUDOG_TRACEABLE: SudogLayout = SudogLayout {
    size: 104,
    elem: 32,
    ticket: 56,
    is_select: 60,
    success: 61,
    parent: 64,
    waitlink: 72,
    c: 96,
    ..SUDOG
};

const HCHAN: HchanLayout =
    HchanLayout { size: 96, qcount: 0, dataqsiz: 8, elemsize: 24, closed: 28, timer: Some(32), recvq: 64, sendq: 80 };

#[cfg(test)]
mod tests;
