//! Reads the memory around futex words: a few system calls for thousands of waiting threads.

use std::{collections::HashMap, sync::Arc};

use leakprobe_common::event::PAGE;

use crate::{
    model::{BEFORE_WORD, DESCRIPTOR_BEFORE_TID, FROM_WORD, FutexMemory},
    target::{Memory, Piece, ProcessMemory},
};

/// Most words that are read: more than there are threads at almost any time.
const MOST_WORDS: usize = 1 << 17;
/// Words that are read together.
const BATCH: usize = 1024;
/// The descriptor's pointer to itself, twice: `tcb` and `self`.
/// Source: <https://sourceware.org/git/?p=glibc.git;a=blob;f=sysdeps/x86_64/nptl/tls.h;hb=glibc-2.36#l42>
const DESCRIPTOR_HEAD: usize = 24;

/// The memory around the word of each of `waits`, which are threads and words; in their order, without what cannot be read.
/// Threads that wait on the same word share one piece.
pub(super) fn read(memory: &ProcessMemory, waits: &[(u32, u64)]) -> Vec<(u32, Arc<FutexMemory>)> {
    let mut words: Vec<u64> = waits.iter().map(|&(_, word)| word).collect();
    words.sort_unstable();
    words.dedup();
    words.truncate(MOST_WORDS);
    let mut found: HashMap<u64, Arc<FutexMemory>> = HashMap::with_capacity(words.len());
    for batch in words.chunks(BATCH) {
        let from = pieces(memory, batch, |word| word, FROM_WORD);
        let before = pieces(memory, batch, |word| word.saturating_sub(BEFORE_WORD as u64), BEFORE_WORD);
        let heads = pieces(memory, batch, descriptor, DESCRIPTOR_HEAD);
        for (((&word, from), before), head) in batch.iter().zip(from).zip(before).zip(heads) {
            let before = if before.len() == BEFORE_WORD { before } else { within_page(memory, word) };
            let is_thread_id = DESCRIPTOR_BEFORE_TID > 0 && points_to_itself(descriptor(word), &head);
            found.insert(word, Arc::new(FutexMemory { before, from, is_thread_id }));
        }
    }
    waits.iter().map(|(tid, word)| (*tid, found.get(word).cloned().unwrap_or_default())).collect()
}

/// Where the thread descriptor begins if `word` is the thread's id in it.
fn descriptor(word: u64) -> u64 {
    word.saturating_sub(DESCRIPTOR_BEFORE_TID)
}

fn points_to_itself(address: u64, head: &[u8]) -> bool {
    let word = |at: usize| head.get(at..at + 8).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    address > 0 && word(0) == Some(address) && word(16) == Some(address)
}

/// What lies before a word in its page, [`BEFORE_WORD`] at most: a lock may be the first thing that is mapped.
fn within_page(memory: &ProcessMemory, word: u64) -> Vec<u8> {
    let start = (word & !(PAGE as u64 - 1)).max(word.saturating_sub(BEFORE_WORD as u64));
    let mut bytes = vec![0; usize::try_from(word - start).unwrap_or(0)];
    if memory.read(start, &mut bytes) < bytes.len() {
        bytes.clear();
    }
    bytes
}

/// One piece for each word, as much of it as can be read.
fn pieces(memory: &ProcessMemory, words: &[u64], place: impl Fn(u64) -> u64, len: usize) -> Vec<Vec<u8>> {
    let wanted: Vec<Piece> = words.iter().map(|&word| Piece { address: place(word), len }).collect();
    let mut buffer = vec![0; len * wanted.len()];
    let lengths = memory.read_all(&wanted, &mut buffer);
    buffer.chunks(len).zip(lengths).map(|(piece, read)| piece.get(..read).unwrap_or_default().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_with_what_is_around_them_and_shared() {
        let mut block = [0u32; 32];
        block.iter_mut().zip(100..).for_each(|(word, n)| *word = n);
        let word = block.as_ptr() as u64 + 32;
        let memory = ProcessMemory::new(std::process::id());
        let read = read(&memory, &[(7, word), (8, 16), (9, word)]);
        let tids: Vec<u32> = read.iter().map(|(tid, _)| *tid).collect();
        assert_eq!(tids, [7, 8, 9]);
        assert_eq!(
            (read[0].1.u32_at(0), read[0].1.u32_at(-16), read[0].1.u32_at(60)),
            (Some(108), Some(104), Some(123))
        );
        assert!(Arc::ptr_eq(&read[0].1, &read[2].1));
        assert_eq!((read[1].1.u32_at(0), read[1].1.u32_at(-4), read[1].1.is_thread_id), (None, None, false));
    }

    #[test]
    fn what_lies_before_a_word_is_read_from_the_beginning_of_a_mapping_on() {
        let (size, flags) = (2 * PAGE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping.
        let begin = unsafe { libc::mmap(std::ptr::null_mut(), size, access, flags, -1, 0) };
        // SAFETY: the first page of it, to which nothing points.
        unsafe { libc::munmap(begin, PAGE) };
        let page = begin as u64 + PAGE as u64;
        let memory = ProcessMemory::new(std::process::id());
        let read = read(&memory, &[(1, page), (2, page + 12), (3, page + 16)]);
        let before: Vec<usize> = read.iter().map(|(_, memory)| memory.before.len()).collect();
        assert_eq!(before, [0, 12, 16]);
        assert_eq!((read[1].1.u32_at(-12), read[1].1.u32_at(-16)), (Some(0), None));
        // SAFETY: the second page, to which nothing points.
        unsafe { libc::munmap(page as *mut libc::c_void, PAGE) };
    }

    #[test]
    fn a_descriptor_is_known_by_its_pointers_to_itself() {
        let head = |a: u64, b: u64| [a.to_le_bytes(), [0; 8], b.to_le_bytes()].concat();
        assert!(points_to_itself(0x7000, &head(0x7000, 0x7000)));
        assert!(!points_to_itself(0x7000, &head(0x7000, 0x7008)));
        assert!(!points_to_itself(0x7000, &head(0x7000, 0x7000)[..23]));
        assert!(!points_to_itself(0, &head(0, 0)));
    }
}
