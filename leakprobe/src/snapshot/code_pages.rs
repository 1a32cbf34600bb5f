//! Code of the target for the unwinding of one stack: a deep one returns to the same few pages over and over.

use crate::target::Memory;

const PAGE: usize = 4096;
/// Most pages that are held.
const MOST: usize = 8;

/// Pages that were read since [`Self::forget`].
#[derive(Default)]
pub(super) struct CodePages {
    pages: Vec<Page>,
    /// The one that the next replaces.
    oldest: usize,
}

struct Page {
    start: u64,
    /// Shorter than a page where its end could not be read.
    bytes: Vec<u8>,
}

impl CodePages {
    /// Forgets what was read: the process may have other code there by now.
    pub(super) fn forget(&mut self) {
        self.pages.clear();
        self.oldest = 0;
    }

    /// Fills `into` from `address` on, as far as it can be read. Returns how far.
    pub(super) fn read(&mut self, memory: &impl Memory, address: u64, into: &mut [u8]) -> usize {
        let mut done = 0;
        while done < into.len() {
            let Some(address) = address.checked_add(done as u64) else { break };
            let in_page = (address % PAGE as u64) as usize;
            let page = self.page(memory, address - in_page as u64);
            let there = page.get(in_page..).unwrap_or_default();
            let length = there.len().min(into.len() - done);
            if length == 0 {
                break;
            }
            into[done..done + length].copy_from_slice(&there[..length]);
            done += length;
        }
        done
    }

    fn page(&mut self, memory: &impl Memory, start: u64) -> &[u8] {
        let place = self.pages.iter().position(|page| page.start == start).unwrap_or_else(|| {
            let mut bytes = vec![0; PAGE];
            let length = memory.read(start, &mut bytes);
            bytes.truncate(length);
            let page = Page { start, bytes };
            if self.pages.len() < MOST {
                self.pages.push(page);
                return self.pages.len() - 1;
            }
            let place = self.oldest;
            self.oldest = (place + 1) % MOST;
            self.pages[place] = page;
            place
        });
        &self.pages[place].bytes
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Memory of 20 pages from address 0x1000 on that counts how often it is read.
    #[derive(Default)]
    struct Counted(Cell<usize>);

    impl Memory for Counted {
        fn read(&self, address: u64, into: &mut [u8]) -> usize {
            self.0.set(self.0.get() + 1);
            let there = (0x1000_u64..0x1000 + 20 * 0x1000).skip_while(|&at| at != address);
            let bytes = there.zip(into.iter_mut()).map(|(at, byte)| *byte = (at / 7) as u8);
            bytes.count()
        }
    }

    #[test]
    fn reads_are_those_of_the_memory_and_each_page_is_read_once() {
        let (memory, mut pages) = (Counted::default(), CodePages::default());
        let mut into = [0; 32];
        assert_eq!(pages.read(&memory, 0x1ff0, &mut into), 32, "over the end of a page");
        assert!((0x1ff0_u64..).zip(into).all(|(at, byte)| byte == (at / 7) as u8));
        for address in [0x1000, 0x1fff, 0x2fe0, 0x2000] {
            assert_eq!(pages.read(&memory, address, &mut into), 32);
            assert!((address..).zip(into).all(|(at, byte)| byte == (at / 7) as u8));
        }
        assert_eq!(memory.0.get(), 2);
        pages.forget();
        pages.read(&memory, 0x1000, &mut into);
        assert_eq!(memory.0.get(), 3);
    }

    #[test]
    fn it_ends_where_memory_does() {
        let (memory, mut pages) = (Counted::default(), CodePages::default());
        let mut into = [0; 32];
        assert_eq!(pages.read(&memory, 0x14ff8, &mut into), 8);
        assert_eq!(pages.read(&memory, 0x15000, &mut into), 0);
        assert_eq!(pages.read(&memory, u64::MAX - 3, &mut into), 0);
    }

    #[test]
    fn only_so_many_are_held() {
        let (memory, mut pages) = (Counted::default(), CodePages::default());
        for start in (0x1000..0x15000).step_by(PAGE) {
            let mut into = [0; 4];
            assert_eq!(pages.read(&memory, start, &mut into), 4);
            assert_eq!(into[0], (start / 7) as u8);
        }
        assert_eq!(pages.pages.len(), MOST);
    }
}
