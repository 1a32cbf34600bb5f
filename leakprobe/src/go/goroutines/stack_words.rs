//! What a goroutine waits on, if its `g` does not say: found through a word on its stack.
//!
//! Of a condition variable, until Go 1.25, only the waiting function has the `sudog`; of a descriptor, the address of `pollDesc.rg`
//! or `wg`. Both begin with the address of the `g`: so the word that leads to the address of the own `g`, and is not within the
//! stack itself, is the one. It is looked for in the innermost frames, and then known to be in the same place of all stacks
//! that look the same.

use std::collections::HashMap;

use super::{batch::Batch, g::mix};
use crate::{
    go::memory::word_at,
    target::{Memory, Piece},
};

/// How many frames the word may be in: gopark, perhaps goparkunlock, and the one that waits.
const FRAMES: usize = 4;
/// Most words that are tried.
const MAX_WORDS: usize = 64;
/// Most kinds of stacks that are remembered.
const MAX_HINTS: usize = 1 << 12;

/// A stack to look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stack<'a> {
    /// Address of the `g`.
    pub(super) g: u64,
    /// Its stack, lowest address and end.
    pub(super) lo: u64,
    pub(super) hi: u64,
    /// What was read of it, from the stack pointer on.
    pub(super) bytes: &'a [u8],
    /// Return addresses.
    pub(super) addresses: &'a [u64],
    /// How far from the stack pointer each frame ends.
    pub(super) ends: &'a [u32],
}

impl Stack<'_> {
    fn key(&self) -> u64 {
        mix(self.addresses.iter().take(FRAMES).copied())
    }

    /// Bytes of the innermost frames, so many of them.
    fn inner(&self, frames: usize) -> &[u8] {
        let last = self.ends.get(..frames).unwrap_or(self.ends).last();
        let end = last.map_or(0, |&end| (end as usize).min(8 * MAX_WORDS));
        self.bytes.get(..end).unwrap_or(self.bytes)
    }

    fn is_candidate(&self, word: u64) -> bool {
        // Neither small numbers nor kernel addresses nor what lies on the stack itself.
        word.is_multiple_of(8) && (0x1000..1 << 47).contains(&word) && !(self.lo..self.hi).contains(&word)
    }

    /// The words within the innermost frames, with their offsets.
    fn words(&self) -> impl Iterator<Item = (usize, u64)> {
        self.words_within(FRAMES)
    }

    /// The words of these frames and of the next one, where what they were called with is kept.
    pub(super) fn words_and_arguments(&self) -> impl Iterator<Item = u64> {
        self.words_within(FRAMES + 1).map(|(_, word)| word)
    }

    fn words_within(&self, frames: usize) -> impl Iterator<Item = (usize, u64)> {
        let words = self.inner(frames).chunks_exact(8).filter_map(|bytes| word_at(bytes, 0_u16));
        (0..).step_by(8).zip(words).filter(|&(_, word)| self.is_candidate(word))
    }
}

/// Finds such words.
#[derive(Debug, Default)]
pub(super) struct StackWords {
    batch: Batch,
    /// Where the word is, by the innermost return addresses.
    hints: HashMap<u64, usize>,
}

impl StackWords {
    /// For each stack the addresses, all of them found on it, at which the address of its `g` stands.
    pub(super) fn find(&mut self, memory: &dyn Memory, stacks: &[Stack<'_>]) -> Vec<Vec<u64>> {
        let mut found = vec![Vec::new(); stacks.len()];
        // First where it was in stacks like this one, then everywhere.
        for by_hint in [true, false] {
            let mut tried = Vec::new();
            for (n, stack) in stacks.iter().enumerate().filter(|&(n, _)| found[n].is_empty()) {
                let hint = self.hints.get(&stack.key()).copied();
                if by_hint {
                    let hinted = hint.and_then(|at| Some((n, at, word_at(stack.bytes, at)?)));
                    tried.extend(hinted.filter(|&(_, _, word)| stack.is_candidate(word)));
                } else {
                    let mut words: Vec<_> = stack.words().collect();
                    words.sort_by_key(|&(at, word)| (word, at));
                    words.dedup_by_key(|&mut (_, word)| word);
                    tried.extend(words.into_iter().map(|(at, word)| (n, at, word)));
                }
            }
            if tried.is_empty() {
                continue;
            }
            let pieces: Vec<Piece> = tried.iter().map(|&(_, _, address)| Piece { address, len: 8 }).collect();
            self.batch.read(memory, &pieces);
            for (index, &(n, at, address)) in tried.iter().enumerate() {
                if self.batch.word(index, 0) == Some(stacks[n].g) {
                    found[n].push(address);
                    if !by_hint {
                        if self.hints.len() >= MAX_HINTS {
                            self.hints.clear();
                        }
                        self.hints.insert(stacks[n].key(), at);
                    }
                }
            }
        }
        found
    }

    /// What was found for stacks that look like this one was not what was looked for.
    pub(super) fn forget(&mut self, stack: &Stack<'_>) {
        self.hints.remove(&stack.key());
    }
}
