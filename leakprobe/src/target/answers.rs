//! Reads of memory that may never answer. `process_vm_readv` neither stops nor writes, but it waits for whoever provides a page: the
//! handler of a userfaultfd (QEMU while a guest migrates, CRIU while a process is restored), or the server of a file system.
//!
//! Four lines of defence:
//! 1. A read of a few pieces whose pages are all there (`careful.rs`), as nearly all are, waits for nobody and is done at once.
//! 2. In mappings of files that others serve, only pages are touched that are there.
//! 3. Every other read is done aside. What does not come back is left behind, and from then on all of the process's memory is read
//!    aside, and as in 2.
//! 4. When pages vanish between look and touch, the mappings in which they do are not touched any more, and at last nothing is.
//!
//! What this leaves: a page that vanishes in the microsecond between look and touch of the first kind, with one who provides it and
//! never does, holds the thread that reads.

use std::{
    fmt,
    io::IoSliceMut,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

use super::{
    Filesystems, Piece, Served,
    careful::{Pagemap, outside, touches},
    kinds_at,
};
use crate::aside::{self, Aside, Pending};

/// Most pieces that one system call reads (`IOV_MAX`).
const MAX_PIECES: usize = 1024;
/// Most pieces whose pages are looked at, at some 1 µs each, to save the two switches between threads of a read that is done aside.
const MOST_LOOKED_AT: usize = 4;
/// How long is waited for pages that come from a disk or the swap area: seconds where that is busy.
const LONGEST: Duration = Duration::from_secs(10);
/// How long is waited for the lock of an address space, without which not even the list of its pages can be had.
const LONGEST_LOCKED: Duration = Duration::from_secs(2);
/// So many reads of one process may hang: after the first number the mappings that made them hang are touched no more, after the
/// second nothing is.
const CAREFUL_LEFT: usize = 2;
const MOST_LEFT: usize = 16;
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
    /// Which pages of the process are in memory, as read through the thread with this id; opened when it is first needed.
    pagemap: Mutex<Option<(Pid, Pagemap)>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Mappings of files that others serve, in order.
    served_by_others: Vec<Range<u64>>,
    /// Mappings that have made a read hang, in order and without overlaps.
    hung: Arc<[Range<u64>]>,
    /// Where only pages are touched that are there, likewise: `served_by_others`, or all memory once a read has hung.
    careful: Arc<[Range<u64>]>,
}

impl Known {
    fn set_served_by_others(&mut self, ranges: Vec<Range<u64>>) {
        if self.served_by_others != ranges {
            self.careful = if self.hung.is_empty() { joined(ranges.clone()) } else { everywhere() };
            self.served_by_others = ranges;
        }
    }

    fn add_hung(&mut self, ranges: Vec<Range<u64>>) {
        let all = self.hung.iter().cloned().chain(ranges).take(MOST_HUNG).collect();
        self.hung = joined(all);
        self.careful = everywhere();
    }
}

fn everywhere() -> Arc<[Range<u64>]> {
    std::iter::once(0..u64::MAX).collect()
}

/// In order. Mappings may have changed between the looks at which they were found, so that they overlap.
fn joined(mut ranges: Vec<Range<u64>>) -> Arc<[Range<u64>]> {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let is_one = next.start <= last.end;
        last.end = if is_one { last.end.max(next.end) } else { last.end };
        is_one
    });
    ranges.into()
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
        self.known().set_served_by_others(ranges);
    }

    pub(super) fn is_unanswered(&self, pid: Pid, address: u64) -> bool {
        let piece = Piece { address, len: 1 };
        let has_hung = {
            let known = self.known();
            if touches(piece, &known.hung) || touches(piece, &known.served_by_others) {
                return true;
            }
            !known.hung.is_empty()
        };
        if self.is_silent() {
            return true;
        }
        if !has_hung {
            return false;
        }
        // Is it mapped, and was not touched since it is not there?
        self.aside.within(LONGEST_LOCKED, move || Absent::from(pid, &[piece])).is_none_or(|absent| {
            let is_none = absent.ranges.is_empty();
            self.known().add_hung(absent.ranges);
            !is_none
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_silent(&self) -> bool {
        let left = self.aside.left();
        left >= MOST_LEFT || left > 0 && self.is_silent.load(Ordering::Relaxed)
    }

    /// Whether these are few pieces of which all pages are there, in mappings that need no care.
    fn are_there(&self, pid: Pid, pieces: &[Piece]) -> bool {
        if pieces.len() > MOST_LOOKED_AT || self.aside.left() > 0 {
            return false;
        }
        let careful = Arc::clone(&self.known().careful);
        if pieces.iter().any(|&piece| touches(piece, &careful)) {
            return false;
        }
        let mut kept = self.pagemap.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|(of, _)| *of != pid) {
            *kept = Pagemap::of(pid.as_raw()).map(|pagemap| (pid, pagemap));
        }
        let mut answers = pieces.iter().map(|&piece| kept.as_ref().and_then(|(_, pagemap)| pagemap.is_there(piece)));
        match answers.find(|answer| *answer != Some(true)) {
            None => true,
            Some(Some(_)) => false,
            Some(None) => {
                *kept = None;
                false
            }
        }
    }

    /// Reads all pieces, one after another, into one buffer that has room for all of them. Returns how many bytes of each were read: 0
    /// for those that do not answer. Through the thread `pid`.
    pub(super) fn read_all(&self, pid: Pid, pieces: &[Piece], into: &mut [u8]) -> Vec<usize> {
        if self.are_there(pid, pieces) {
            let lengths = read_all(pid, pieces, into);
            aside::beat();
            return lengths;
        }
        // Each time that it hangs, one more is left behind.
        while !self.is_silent() {
            let (careful, hung) = {
                let known = self.known();
                (Arc::clone(&known.careful), Arc::clone(&known.hung))
            };
            let work = Work {
                pid,
                pieces: pieces.to_vec(),
                careful: if pieces.iter().any(|&piece| touches(piece, &careful)) { careful } else { Arc::default() },
                untouched: if self.aside.left() < CAREFUL_LEFT { Arc::default() } else { hung },
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
                Some(Hangs::In(ranges)) => self.known().add_hung(ranges),
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
        suspects: &mut Option<(Vec<Range<u64>>, Duration)>,
    ) -> Option<Hangs> {
        if pending.runs && pending.since < LONGEST {
            return None;
        }
        let pieces = pieces.to_vec();
        // That takes the lock of the address space, which may be held for as long as a page does not come.
        match self.aside.within(LONGEST_LOCKED, move || Absent::from(pid, &pieces)) {
            Some(Absent { ranges, are_others_slow }) if !ranges.is_empty() => {
                let is_settled = !are_others_slow || pending.since >= LONGEST_LOCKED;
                // Who has used a CPU since then was waiting for something that came, like the lock of the address space.
                let suspected = Some((ranges, pending.used));
                if is_settled && *suspects == suspected {
                    return suspected.map(|(ranges, _)| Hangs::In(ranges));
                }
                *suspects = suspected;
                None
            }
            Some(_) if pending.since < LONGEST => None,
            _ => Some(Hangs::Somewhere),
        }
    }
}

/// Pages that are not there.
struct Absent {
    /// The mappings in which they are, as far as others provide their pages, or may do so.
    ranges: Vec<Range<u64>>,
    /// Whether other pages come from the swap area: perhaps it is these that take so long.
    are_others_slow: bool,
}

impl Absent {
    /// Those of these pieces.
    fn from(pid: Pid, pieces: &[Piece]) -> Self {
        let Some(pagemap) = Pagemap::of(pid.as_raw()) else {
            return Self { ranges: Vec::new(), are_others_slow: false };
        };
        let mut absent: Vec<u64> = pieces.iter().flat_map(|&piece| pagemap.absent(piece)).collect();
        absent.sort_unstable();
        let thread = u32::try_from(pid.as_raw()).unwrap_or(0);
        let found = if absent.is_empty() { Vec::new() } else { kinds_at(thread, &absent).unwrap_or_default() };
        let mut systems = None;
        let others = found.into_iter().filter(|mapping| {
            // userfaultfd is for memory; a page of a file on a disk of ours is on its way.
            mapping.device.is_none_or(|device| {
                systems.get_or_insert_with(|| Filesystems::of(thread)).served(device) != Served::Disk
            })
        });
        let ranges = others.map(|mapping| mapping.range).collect();
        Self { ranges, are_others_slow: pieces.iter().any(|&piece| pagemap.is_swapped(piece)) }
    }
}

/// A read, with all that it needs.
struct Work {
    pid: Pid,
    pieces: Vec<Piece>,
    /// Where only pages are touched that are there.
    careful: Arc<[Range<u64>]>,
    /// Where none is.
    untouched: Arc<[Range<u64>]>,
}

impl Work {
    fn read_all(&self, into: &mut [u8]) -> Vec<usize> {
        if self.careful.is_empty() {
            return read_all(self.pid, &self.pieces, into);
        }
        let pagemap = Pagemap::of(self.pid.as_raw());
        let mut lengths = Vec::with_capacity(self.pieces.len());
        let mut rest = into;
        for &piece in &self.pieces {
            let (own, others) = rest.split_at_mut(piece.len.min(rest.len()));
            rest = others;
            let piece = Piece { len: outside(piece, &self.untouched).min(own.len()), ..piece };
            let touchable = match &pagemap {
                Some(pagemap) => pagemap.touchable(piece, &self.careful),
                None => outside(piece, &self.careful),
            };
            let piece = Piece { len: touchable, ..piece };
            lengths.extend(read_all(self.pid, &[piece], &mut own[..piece.len]));
        }
        lengths
    }
}

fn read_all(pid: Pid, pieces: &[Piece], into: &mut [u8]) -> Vec<usize> {
    tracing::trace!("reads {}", Listed(pieces));
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

/// Pieces as the log has them: `ADDRESS+LENGTH …`. Tests learn from it what is read of a process.
struct Listed<'a>(&'a [Piece]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| write!(f, "{:#x}+{} ", piece.address, piece.len))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::careful::tests::untouched, *};

    fn own() -> Pid {
        nix::unistd::getpid()
    }

    fn piece(of: &[u8]) -> Piece {
        Piece { address: of.as_ptr() as u64, len: of.len() }
    }

    #[test]
    fn once_a_read_has_hung_only_pages_are_touched_that_are_there() {
        let (answers, here) = (Answers::default(), [7_u8; 16]);
        let pieces = || [piece(&here), piece(&untouched(1)[..16]), piece(&here)];
        let mut into = [1; 48];
        assert_eq!(answers.read_all(own(), &pieces(), &mut into), [16, 16, 16]);
        assert!(!answers.is_unanswered(own(), piece(&here).address));
        let pieces = pieces();
        answers.known().add_hung(vec![0x1000..0x2000, 0x8000..0x9000]);
        assert_eq!(answers.read_all(own(), &pieces, &mut into), [16, 0, 16]);
        assert_eq!((into[0], into[47]), (7, 7));
        assert!(answers.is_unanswered(own(), pieces[1].address) && answers.is_unanswered(own(), 0x1fff));
        assert!(!answers.is_unanswered(own(), pieces[0].address) && !answers.is_unanswered(own(), 0x2000));
    }

    #[test]
    fn files_of_others_are_touched_only_where_they_are_there() {
        let (answers, here) = (Answers::default(), [7_u8; 16]);
        let absent = piece(&untouched(1)[..16]);
        answers.set_served_by_others(vec![0x1000..0x2000, absent.address..absent.end()]);
        assert_eq!(answers.read_all(own(), &[absent, piece(&here)], &mut [0; 32]), [0, 16]);
        assert!(answers.is_unanswered(own(), absent.address));
        answers.set_served_by_others(Vec::new());
        assert_eq!(answers.read_all(own(), &[absent, piece(&here)], &mut [0; 32]), [16, 16]);
    }

    #[test]
    fn ranges_are_in_order_and_do_not_overlap() {
        assert_eq!(joined(vec![8..9, 1..3, 2..5, 5..6])[..], [1..6, 8..9]);
    }
}
