//! Which pages can be touched without waiting for anybody: those that are there, as `/proc/PID/pagemap` says without touching them.

use std::{fs::File, ops::Range, os::unix::fs::FileExt};

use super::Piece;

const PAGE: u64 = 4096;
/// Most pages of one piece that are looked at; what lies behind counts as absent.
const MOST_PAGES: u64 = 1 << 16;
/// In memory, or in the swap area. What is neither has to be made by whoever serves the page.
/// Source: <https://www.kernel.org/doc/html/v6.12/admin-guide/mm/pagemap.html>
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;

/// Tells which pages of a process are there.
#[derive(Debug)]
pub(super) struct Pagemap(File);

impl Pagemap {
    /// That of a thread's memory. Needs what reading the memory needs.
    pub(super) fn of(thread: i32) -> Option<Self> {
        File::open(format!("/proc/{thread}/pagemap")).ok().map(Self)
    }

    /// For each page of the piece, where it is; fewer if the kernel tells of no more.
    fn places(&self, piece: Piece) -> Vec<u64> {
        let mut entries = vec![[0; 8]; usize::try_from(pages(piece).min(MOST_PAGES)).unwrap_or(0)];
        let at = piece.address / PAGE * 8;
        let read = self.0.read_at(entries.as_flattened_mut(), at).unwrap_or(0);
        entries.iter().take(read / 8).map(|entry| u64::from_le_bytes(*entry) & (PRESENT | SWAPPED)).collect()
    }

    /// Whether all pages of the piece are there; `None` if the kernel does not say: it is too large, or the address space has gone.
    pub(super) fn is_there(&self, piece: Piece) -> Option<bool> {
        let mut entries = [[0; 8]; 16];
        let wanted = entries.get_mut(..usize::try_from(pages(piece)).ok()?)?;
        let bytes = wanted.as_flattened_mut();
        self.0.read_exact_at(bytes, piece.address / PAGE * 8).ok()?;
        Some(wanted.iter().all(|entry| u64::from_le_bytes(*entry) & (PRESENT | SWAPPED) != 0))
    }

    /// Whether a page of the piece is in the swap area, from where it takes time.
    pub(super) fn is_swapped(&self, piece: Piece) -> bool {
        self.places(piece).contains(&SWAPPED)
    }

    /// The pages of a piece that are not there.
    pub(super) fn absent(&self, piece: Piece) -> Vec<u64> {
        let addresses = (piece.address & !(PAGE - 1)..).step_by(PAGE as usize);
        let places = self.places(piece).into_iter().zip(addresses);
        places.filter(|(place, _)| *place == 0).map(|(_, address)| address).collect()
    }

    /// How many bytes of the piece come before the first page that lies in one of `ranges`, which are in order, and is not there.
    pub(super) fn touchable(&self, piece: Piece, ranges: &[Range<u64>]) -> usize {
        if !touches(piece, ranges) {
            return piece.len;
        }
        let places = self.places(piece);
        prefix(piece, ranges, |page| places.get(page).is_some_and(|&place| place != 0))
    }
}

/// How many bytes of the piece come before the first page that lies in one of `ranges`.
pub(super) fn outside(piece: Piece, ranges: &[Range<u64>]) -> usize {
    prefix(piece, ranges, |_| false)
}

/// Whether any part of the piece lies in one of `ranges`, which are in order.
pub(super) fn touches(piece: Piece, ranges: &[Range<u64>]) -> bool {
    let next = ranges.partition_point(|range| range.end <= piece.address);
    ranges.get(next).is_some_and(|range| range.start < piece.end())
}

fn pages(piece: Piece) -> u64 {
    if piece.len == 0 { 0 } else { (piece.end() - 1) / PAGE - piece.address / PAGE + 1 }
}

fn prefix(piece: Piece, ranges: &[Range<u64>], is_there: impl Fn(usize) -> bool) -> usize {
    let mut page = piece.address & !(PAGE - 1);
    for index in 0..usize::try_from(pages(piece)).unwrap_or(0) {
        let is_careful = touches(Piece { address: page, len: 1 }, ranges);
        if is_careful && !is_there(index) {
            return usize::try_from(page.saturating_sub(piece.address)).unwrap_or(0);
        }
        let Some(next) = page.checked_add(PAGE) else { break };
        page = next;
    }
    piece.len
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Pages of our own that were never touched; never given back.
    pub(in crate::target) fn untouched(pages: usize) -> &'static mut [u8] {
        let len = pages * PAGE as usize;
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, of which nobody else knows.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), len, rights, flags, -1, 0) };
        assert_ne!(memory, libc::MAP_FAILED);
        // SAFETY: the mapping from above. That a huge page is not taken for it changes nothing of what it holds.
        unsafe { libc::madvise(memory, len, libc::MADV_NOHUGEPAGE) };
        // SAFETY: it is never unmapped, holds zeros, and is handed out once.
        unsafe { std::slice::from_raw_parts_mut(memory.cast(), len) }
    }

    const fn piece(address: u64, len: usize) -> Piece {
        Piece { address, len }
    }

    #[test]
    fn a_piece_ends_before_the_first_page_that_is_not_there() {
        let ranges = [0x3000..0x5000, 0x9000..0xa000];
        assert_eq!(outside(piece(0x1000, 0x1000), &ranges), 0x1000);
        assert_eq!(outside(piece(0x2800, 0x1000), &ranges), 0x800);
        assert_eq!(outside(piece(0x3800, 8), &ranges), 0);
        assert_eq!(prefix(piece(0x3800, 0x1000), &ranges, |page| page == 0), 0x800);
        assert_eq!(prefix(piece(0x2800, 0x4000), &ranges, |page| page < 4), 0x4000);
        assert_eq!(prefix(piece(u64::MAX - 7, 8), &ranges, |_| false), 8);
        assert_eq!(prefix(piece(0x3000, 0), &ranges, |_| false), 0);
        assert!(touches(piece(0x2fff, 2), &ranges) && !touches(piece(0x2fff, 1), &ranges));
    }

    #[test]
    fn pages_that_were_never_touched_are_not_there() {
        let page = PAGE as usize;
        let memory = untouched(8);
        let start = memory.as_ptr() as u64;
        memory[2 * page] = 1;
        let pagemap = Pagemap::of(nix::unistd::getpid().as_raw()).unwrap();
        let absent = pagemap.absent(piece(start, 8 * page));
        assert_eq!(absent, [0, 1, 3, 4, 5, 6, 7].map(|page| start + page * PAGE));
        let all = [0x1000..0x2000, start..start + 8 * PAGE];
        assert_eq!(pagemap.is_there(piece(start + 2 * PAGE + 7, 9)), Some(true));
        assert_eq!(pagemap.is_there(piece(start + 2 * PAGE, page + 1)), Some(false));
        assert_eq!(pagemap.is_there(piece(start, 17 * page)), None);
        assert_ne!(pagemap.is_there(piece(u64::MAX - 7, 8)), Some(true));
        assert_eq!(pagemap.touchable(piece(start + 2 * PAGE, 2 * page), &all), page);
        assert!(!pagemap.is_swapped(piece(start, 8 * page)));
    }
}
