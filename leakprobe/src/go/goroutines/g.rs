//! One `runtime.g`, as it was at one moment.

use crate::{
    go::{GLayout, memory::word_at},
    model::GoStatus,
};

/// `_Gscan`: set while the garbage collector looks at the stack.
const SCAN: u32 = 0x1000;

/// What is read of a goroutine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct G {
    pub(super) address: u64,
    pub(super) id: u64,
    /// `atomicstatus` without the scan bit.
    pub(super) status: u32,
    pub(super) stack_lo: u64,
    pub(super) stack_hi: u64,
    pub(super) m: u64,
    pub(super) sched_sp: u64,
    pub(super) sched_pc: u64,
    pub(super) syscallsp: u64,
    pub(super) syscallpc: u64,
    pub(super) waitsince: u64,
    pub(super) waitreason: u8,
    pub(super) tracking_seq: u8,
    pub(super) lockedm: u64,
    pub(super) parent: u64,
    pub(super) gopc: u64,
    pub(super) ancestors: u64,
    pub(super) startpc: u64,
    pub(super) waiting: u64,
    pub(super) labels: u64,
    pub(super) timer: u64,
    pub(super) sleep_when: Option<u64>,
    pub(super) bubble: u64,
}

impl G {
    /// The `g` at `address` from its memory; `None` if there is less than all of it.
    pub(super) fn parse(layout: &GLayout, address: u64, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..usize::from(layout.size))?;
        let at = |offset| word_at(bytes, offset);
        let byte = |offset: u16| bytes.get(usize::from(offset)).copied();
        Some(Self {
            address,
            id: at(layout.goid)?,
            status: at(layout.atomicstatus)? as u32 & !SCAN,
            stack_lo: at(layout.stack_lo)?,
            stack_hi: at(layout.stack_hi)?,
            m: at(layout.m)?,
            sched_sp: at(layout.sched_sp)?,
            sched_pc: at(layout.sched_pc)?,
            syscallsp: at(layout.syscallsp)?,
            syscallpc: at(layout.syscallpc)?,
            waitsince: at(layout.waitsince)?,
            waitreason: byte(layout.waitreason)?,
            tracking_seq: layout.tracking_seq.map_or(Some(0), byte)?,
            lockedm: layout.lockedm.map_or(Some(0), at)?,
            parent: layout.parent_goid.map_or(Some(0), at)?,
            gopc: at(layout.gopc)?,
            ancestors: at(layout.ancestors)?,
            startpc: at(layout.startpc)?,
            waiting: at(layout.waiting)?,
            labels: at(layout.labels)?,
            timer: at(layout.timer)?,
            sleep_when: match layout.sleep_when {
                Some(offset) => Some(at(offset)?),
                None => None,
            },
            bubble: layout.bubble.map_or(Some(0), at)?,
        })
    }

    /// What it does; `None` for one that has ended or is not in use.
    ///
    /// Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/runtime2.go> (`_Gidle` and following). 7 is gone
    /// since Go 1.4, 6 and 11 are dead ones.
    pub(super) fn status(&self) -> Option<GoStatus> {
        // Before it has a number it has not been in use.
        if self.id == 0 {
            return None;
        }
        Some(match self.status {
            0 => GoStatus::Idle,
            1 => GoStatus::Runnable,
            2 => GoStatus::Running,
            3 => GoStatus::Syscall,
            4 => GoStatus::Waiting,
            8 => GoStatus::Copystack,
            9 => GoStatus::Preempted,
            10 => GoStatus::Leaked,
            _ => return None,
        })
    }

    /// Whether it was not begun by another one, but stands for a thread that calls Go from C, or may do so.
    pub(super) fn is_foreign(&self) -> bool {
        self.id != 0 && self.startpc == 0
    }

    /// Where its stack is to be unwound from: program counter and stack pointer.
    pub(super) fn start(&self) -> (u64, u64) {
        if self.syscallsp != 0 { (self.syscallpc, self.syscallsp) } else { (self.sched_pc, self.sched_sp) }
    }

    /// A number that is another one if the goroutine has run, or its stack was moved, or it does something else: except for
    /// one case in 2^64.
    pub(super) fn signature(&self) -> u64 {
        // Not the reason of the wait: it is set after the status.
        let state = u64::from(self.status) << 8 | u64::from(self.tracking_seq);
        mix([self.id, state, self.sched_sp, self.sched_pc, self.syscallsp, self.stack_lo])
    }

    /// As [`Self::signature`], but the same if only its stack was moved or the garbage collector has called it leaked: a
    /// number that is another one if it has run, except for one case in 2^32.
    pub(super) fn course(&self) -> u32 {
        let depth = |sp: u64| if sp == 0 { 0 } else { self.stack_hi.wrapping_sub(sp) };
        let seq = u64::from(self.tracking_seq);
        let is_blocked = u64::from(matches!(self.status, 4 | 8 | 10));
        mix([self.id, seq, is_blocked, depth(self.sched_sp), self.sched_pc, depth(self.syscallsp)]) as u32
    }
}

/// A hash. Nobody gains by finding two equal ones but to be shown wrong what is their own.
pub(super) fn mix(words: impl IntoIterator<Item = u64>) -> u64 {
    words.into_iter().fold(0x9e37_79b9_7f4a_7c15, |hash: u64, word| {
        let product = u128::from(hash ^ word) * 0xd6e8_feb8_6659_fd93_u128;
        (product as u64) ^ ((product >> 64) as u64).rotate_left(23) ^ word.rotate_left(41)
    })
}
