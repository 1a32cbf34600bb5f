//! Reads of memory that may never answer. `process_vm_readv` neither stops nor writes, but it waits for whoever provides a page: the
//! handler of a userfaultfd (QEMU while a guest migrates, CRIU while a process is restored), or the server of a file system.
//!
//! Three lines of defence:
//! 1. In mappings of files that others serve, only pages are touched that are there already (`careful.rs`).
//! 2. Each read is done aside. What does not come back is left behind, and the mapping becomes one of those of 1.
//! 3. When pages vanish between look and touch, over and over, such mappings are not touched any more, and at last nothing is.

use std::{
    io::IoSliceMut,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

use super::{
    Piece,
    careful::{Pagemap, outside, touches},
};
use crate::{
    aside::{Aside, Pending},
    target::{Filesystems, Served, kinds_at},
};

/// Most pieces that one system call reads (`IOV_MAX`).
const MAX_PIECES: usize = 1024;
/// How long is waited for pages that come from a disk or the swap area: seconds where that is busy.
const LONGEST: Duration = Duration::from_secs(10);
/// How long is waited for the lock of an address space, without which not even the list of its pages can be had.
const LONGEST_LOCKED: Duration = Duration::from_secs(2);
/// So many reads of one process may hang: after the first number the mappings that made them hang are touched no more, after the
/// second nothing is.
const CAREFUL_LEFT: usize = 2;
const MOST_LEFT: usize = 6;
/// Most mappings that are remembered to have made a read hang.
const MOST_HUNG: usize = 1 << 10;

/// Reads one process's memory, and knows what of it does not answer.
#[derive(Debug, Default)]
pub(super) struct Answers {
    aside: Aside,
    known: Mutex<Known>,
    /// Whether the address space as a whole did not answer the last time, while reads are still left behind.
    is_silent: AtomicBool,
    /// Room for the next read: what hangs keeps its own.
    room: Mutex<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Mappings of files that others serve.
    served_by_others: Vec<Range<u64>>,
    /// Mappings that have made a read hang.
    hung: Vec<Range<u64>>,
    /// Both, in order and without overlaps.
    all: Arc<[Range<u64>]>,
}

impl Known {
    fn join(&mut self) {
        let mut ranges: Vec<Range<u64>> = self.served_by_others.iter().chain(&self.hung).cloned().collect();
        ranges.sort_unstable_by_key(|range| range.start);
        // Mappings may have changed between the looks at which they were found.
        ranges.dedup_by(|next, last| {
            let is_one = next.start <= last.end;
            last.end = if is_one { last.end.max(next.end) } else { last.end };
            is_one
        });
        self.all = ranges.into();
    }
}

/// How a read ended that did not come back.
enum Hangs {
    /// In one of these mappings.
    In(Vec<Range<u64>>),
    /// Nobody knows where.
    Somewhere,
}

impl Answers {
    pub(super) fn set_served_by_others(&self, ranges: Vec<Range<u64>>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.served_by_others != ranges {
            known.served_by_others = ranges;
            known.join();
        }
    }

    pub(super) fn is_unanswered(&self, address: u64) -> bool {
        self.is_silent() || touches(Piece { address, len: 1 }, &self.careful())
    }

    fn careful(&self) -> Arc<[Range<u64>]> {
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner).all)
    }

    fn is_silent(&self) -> bool {
        let left = self.aside.left();
        left >= MOST_LEFT || left > 0 && self.is_silent.load(Ordering::Relaxed)
    }

    /// See [`super::Memory::read_all`].
    pub(super) fn read_all(&self, pid: Pid, pieces: &[Piece], into: &mut [u8]) -> Vec<usize> {
        // Each time that it hangs, one more is left behind.
        while !self.is_silent() {
            let careful = self.careful();
            let work = Work {
                pid,
                pieces: pieces.to_vec(),
                careful: if pieces.iter().any(|&piece| touches(piece, &careful)) { careful } else { Arc::default() },
                is_touched: self.aside.left() < CAREFUL_LEFT,
            };
            let mut room = std::mem::take(&mut *self.room.lock().unwrap_or_else(PoisonError::into_inner));
            room.resize(into.len().max(room.len()), 0);
            let len = into.len();
            let (mut suspects, mut hangs) = (None, None);
            let done = self.aside.run(
                move || {
                    let lengths = work.read_all(&mut room[..len]);
                    (lengths, room)
                },
                |pending| {
                    hangs = self.hangs(pid, pieces, pending, &mut suspects);
                    hangs.is_none()
                },
            );
            if let Some((lengths, room)) = done {
                if self.aside.left() == 0 {
                    self.is_silent.store(false, Ordering::Relaxed);
                }
                into.copy_from_slice(&room[..len]);
                *self.room.lock().unwrap_or_else(PoisonError::into_inner) = room;
                return lengths;
            }
            match hangs {
                Some(Hangs::In(ranges)) => {
                    let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                    let new = ranges.into_iter().filter(|range| !known.hung.contains(range)).collect::<Vec<_>>();
                    known.hung.extend(new);
                    known.hung.truncate(MOST_HUNG);
                    known.join();
                }
                Some(Hangs::Somewhere) => self.is_silent.store(true, Ordering::Relaxed),
                None => break, // too much is left behind already
            }
        }
        vec![0; pieces.len()]
    }

    /// Whether a read that has not come back will not: asked over and over. Two looks, since a page may just be about to come.
    fn hangs(
        &self,
        pid: Pid,
        pieces: &[Piece],
        pending: Pending,
        suspects: &mut Option<Vec<Range<u64>>>,
    ) -> Option<Hangs> {
        if pending.runs && pending.since < LONGEST {
            return None;
        }
        let pieces = pieces.to_vec();
        // That takes the lock of the address space, which may be held for as long as a page does not come.
        match self.aside.within(LONGEST_LOCKED, move || absent_from(pid, &pieces)) {
            Some(found) if !found.is_empty() => {
                if suspects.as_ref() == Some(&found) {
                    return Some(Hangs::In(found));
                }
                *suspects = Some(found);
                None
            }
            Some(_) if pending.since < LONGEST => None,
            _ => Some(Hangs::Somewhere),
        }
    }
}

/// The mappings that others provide the pages of, or may do so, and in which pages of these pieces are not there.
fn absent_from(pid: Pid, pieces: &[Piece]) -> Vec<Range<u64>> {
    let Some(pagemap) = Pagemap::of(pid.as_raw()) else { return Vec::new() };
    let absent: Vec<u64> = pieces.iter().flat_map(|&piece| pagemap.absent(piece)).collect();
    let thread = u32::try_from(pid.as_raw()).unwrap_or(0);
    let found = if absent.is_empty() { Vec::new() } else { kinds_at(thread, &absent).unwrap_or_default() };
    let mut systems = None;
    let others = found.into_iter().filter(|(_, device)| {
        // userfaultfd is for memory; a page of a file on a disk of ours is on its way.
        device.is_none_or(|device| {
            systems.get_or_insert_with(|| Filesystems::of(thread)).served(device) != Served::ByDisk
        })
    });
    others.map(|(range, _)| range).collect()
}

/// A read, with all that it needs.
struct Work {
    pid: Pid,
    pieces: Vec<Piece>,
    /// Mappings to be careful with.
    careful: Arc<[Range<u64>]>,
    /// Whether pages of those are touched that are there.
    is_touched: bool,
}

impl Work {
    fn read_all(&self, into: &mut [u8]) -> Vec<usize> {
        if self.careful.is_empty() {
            return read_all(self.pid, &self.pieces, into);
        }
        let pagemap = Pagemap::of(self.pid.as_raw()).filter(|_| self.is_touched);
        let mut lengths = Vec::with_capacity(self.pieces.len());
        let mut rest = into;
        for &piece in &self.pieces {
            let (own, others) = rest.split_at_mut(piece.len.min(rest.len()));
            rest = others;
            let touchable = match &pagemap {
                _ if !touches(piece, &self.careful) => piece.len,
                Some(pagemap) => pagemap.touchable(piece, &self.careful),
                None => outside(piece, &self.careful),
            };
            let piece = Piece { len: touchable.min(own.len()), ..piece };
            lengths.extend(read_all(self.pid, &[piece], &mut own[..piece.len]));
        }
        lengths
    }
}

fn read_all(pid: Pid, pieces: &[Piece], into: &mut [u8]) -> Vec<usize> {
    let mut lengths = Vec::with_capacity(pieces.len());
    let mut rest = into;
    while lengths.len() < pieces.len() {
        let batch = pieces.get(lengths.len()..).unwrap_or_default();
        let batch = batch.get(..MAX_PIECES).unwrap_or(batch);
        let remote: Vec<_> = batch
            .iter()
            .map(|piece| RemoteIoVec { base: usize::try_from(piece.address).unwrap_or(0), len: piece.len })
            .collect();
        let size = batch.iter().map(|piece| piece.len).sum::<usize>().min(rest.len());
        let mut left = process_vm_readv(pid, &mut [IoSliceMut::new(&mut rest[..size])], &remote).unwrap_or(0);
        let mut passed = 0;
        for piece in batch {
            let read = left.min(piece.len);
            left -= read;
            passed += piece.len;
            lengths.push(read);
            if read < piece.len {
                // The kernel stops in the first piece that it cannot read to its end; go on after it.
                break;
            }
        }
        rest = &mut rest[passed.min(size)..];
    }
    lengths
}
