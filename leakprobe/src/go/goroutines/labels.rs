//! Profiler labels (`pprof.Do`) of goroutines. Many goroutines have the same: what one creates, inherits.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    costs::{Allowance, Costs},
    shared::{LeftOut, Shared},
};
use crate::{
    go::{
        Labels as Form,
        memory::{Words, word_at},
    },
    target::{Memory, Piece},
};

/// Most labels of a goroutine, and most bytes of a key or value, that are read.
const MAX_LABELS: usize = 64;
const MAX_TEXT: usize = 256;
/// Most addresses of sets that are remembered at one time.
const MAX_KNOWN: usize = 1 << 16;
/// Entries of a node of a [`BTreeMap`], and the bytes of one.
const NODE: usize = 11;
const NODE_BYTES: usize = 560;
/// What a text takes besides its length when it was allocated.
const TEXT_BYTES: usize = 32;
/// Entries of a bucket of a map.
const BUCKET: usize = 8;
/// Most buckets of a map that are read.
const MAX_BUCKETS: usize = 64;

type Texts = BTreeMap<String, String>;
/// Labels of a goroutine, if it has any.
type Found = Result<Option<Arc<Texts>>, LeftOut>;

/// Reads labels.
#[derive(Debug)]
pub(super) struct Labels {
    /// What was found at which address in this snapshot.
    known: HashMap<u64, Found>,
    sets: Shared<Texts>,
    /// Labels and buckets that may be read in this snapshot.
    left: Allowance,
}

impl Labels {
    pub(super) fn new(costs: &Costs) -> Self {
        let sets = Shared::new(costs.label_bytes.clone(), bytes_of);
        Self { known: HashMap::new(), sets, left: costs.labels_read.clone() }
    }

    /// To be called when a snapshot begins: addresses are used again.
    pub(super) fn begin_snapshot(&mut self) {
        self.known.clear();
        self.sets.drop_unused();
    }

    /// The labels that `g.labels` leads to, if there are any.
    pub(super) fn at(&mut self, form: Form, memory: &dyn Memory, address: u64) -> Found {
        if address == 0 {
            return Ok(None);
        }
        if let Some(known) = self.known.get(&address) {
            return known.clone();
        }
        if !self.left.take(1) {
            return Err(LeftOut);
        }
        let mut reader = Reader { memory, left: self.left.clone() };
        let set = match form {
            Form::Pairs => reader.pairs(address),
            Form::Map => reader.map(address),
        };
        let set = set.filter(|set| !set.is_empty());
        let found = set.map(|set| self.sets.share(Arc::new(set))).transpose();
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(address, found.clone());
        found
    }
}

fn bytes_of(set: &Texts) -> usize {
    let texts = set.iter().map(|(key, value)| key.len() + value.len() + 2 * TEXT_BYTES);
    set.len().div_ceil(NODE) * NODE_BYTES + texts.sum::<usize>()
}

struct Reader<'a> {
    memory: &'a dyn Memory,
    /// See [`Labels::left`]: one set more than that at most is read.
    left: Allowance,
}

impl Reader<'_> {
    /// Since Go 1.24: <https://github.com/golang/go/blob/go1.27.0/src/internal/runtime/pprof/label/labelset.go>
    fn pairs(&mut self, address: u64) -> Option<Texts> {
        let [start, len] = self.memory.words(address)?;
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(MAX_LABELS);
        let mut bytes = vec![0; 32 * len];
        let read = self.memory.read(start, &mut bytes);
        Some(bytes.get(..read)?.chunks_exact(32).filter_map(|pair| self.entry(pair)).collect())
    }

    /// Until Go 1.23, a `map[string]string` with buckets of 8 entries:
    /// <https://github.com/golang/go/blob/go1.23.0/src/runtime/map.go> (`hmap`, `bmap`).
    fn map(&mut self, address: u64) -> Option<Texts> {
        /// Entries that are not there: empty, or moved to a new table.
        const NO_ENTRY: u8 = 4;
        const SIZE: usize = BUCKET + BUCKET * 32 + 8;
        let [hmap] = self.memory.words(address)?;
        let [_, flags, buckets] = self.memory.words(hmap)?;
        let bits = (flags >> 8) as u8;
        let mut found = BTreeMap::new();
        let mut left = MAX_BUCKETS;
        let first = 1usize.checked_shl(u32::from(bits)).unwrap_or(usize::MAX).min(MAX_BUCKETS);
        for n in 0..first {
            let mut at = buckets.checked_add((n * SIZE) as u64)?;
            while at != 0 && left > 0 && found.len() < MAX_LABELS {
                left -= 1;
                self.left.take_up_to(1);
                let mut bucket = [0; SIZE];
                if self.memory.read(at, &mut bucket) != SIZE {
                    break;
                }
                let (hashes, rest) = bucket.split_at(BUCKET);
                let (keys, rest) = rest.split_at(16 * BUCKET);
                let (values, overflow) = rest.split_at(16 * BUCKET);
                let entries = keys.chunks_exact(16).zip(values.chunks_exact(16)).zip(hashes);
                found.extend(
                    entries
                        .filter(|&(_, &hash)| hash > NO_ENTRY)
                        .filter_map(|((key, value), _)| self.entry(&[key, value].concat())),
                );
                at = word_at(overflow, 0_u16)?;
            }
        }
        Some(found)
    }

    /// A key and a value, each a pointer and a length.
    fn entry(&mut self, pair: &[u8]) -> Option<(String, String)> {
        self.left.take_up_to(1);
        Some((text(self.memory, pair, 0)?, text(self.memory, pair, 16)?))
    }
}

fn text(memory: &dyn Memory, pair: &[u8], at: usize) -> Option<String> {
    let text = Piece { address: word_at(pair, at)?, len: usize::try_from(word_at(pair, at + 8)?).ok()? };
    let mut bytes = vec![0; text.len.min(MAX_TEXT)];
    (memory.read(text.address, &mut bytes) == bytes.len()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory that begins at 0.
    struct Flat(Vec<u8>);

    impl Memory for Flat {
        fn read(&self, address: u64, into: &mut [u8]) -> usize {
            let there = self.0.get(address as usize..).unwrap_or_default();
            let len = there.len().min(into.len());
            into[..len].copy_from_slice(&there[..len]);
            len
        }
    }

    /// Sets of labels, as many as `texts`, each with one label: the first word of each set is at 64 times its number, from 1 on.
    fn sets(texts: &[[u8; 8]]) -> Flat {
        let set = |(at, text): (u64, &[u8; 8])| {
            let words = [at + 16, 1, at + 48, 8, at + 48, 8];
            [words.map(u64::to_le_bytes).as_flattened(), text, &[0; 8]].concat()
        };
        Flat([0; 64].into_iter().chain((64..).step_by(64).zip(texts).flat_map(set)).collect())
    }

    #[test]
    fn equal_labels_of_different_goroutines_are_held_once() {
        let memory = sets(&[*b"requests", *b"timeouts", *b"requests"]);
        let mut labels = Labels::new(&Costs::default());
        let [first, other, again] = [64, 128, 192].map(|at| labels.at(Form::Pairs, &memory, at).unwrap().unwrap());
        assert_eq!((&*first["requests"], &*other["timeouts"]), ("requests", "timeouts"));
        assert!(Arc::ptr_eq(&first, &again));
        labels.begin_snapshot();
        assert!(
            Arc::ptr_eq(&first, &labels.at(Form::Pairs, &memory, 192).unwrap().unwrap()),
            "in later snapshots, too"
        );
    }

    #[test]
    fn a_snapshot_reads_so_many_and_no_more() {
        let memory = sets(&[*b"requests"; 8]);
        let costs = Costs::default();
        costs.labels_read.take(costs.labels_read.left() - 5);
        let mut labels = Labels::new(&costs);
        let mut found = || (1..=8).map(|n| labels.at(Form::Pairs, &memory, 64 * n).is_ok()).collect::<Vec<_>>();
        assert_eq!(found(), [true, true, true, false, false, false, false, false]);
        assert_eq!(found(), [true, true, true, false, false, false, false, false], "what is known is not read");
        costs.begin_snapshot();
        labels.begin_snapshot();
        assert!(labels.at(Form::Pairs, &memory, 512).is_ok());
    }

    #[test]
    fn what_labels_take_is_not_underestimated() {
        let set: Texts = (0..64).map(|n| (format!("{n:256}"), "v".repeat(256))).collect();
        assert!((64 * 512..64 * 700).contains(&bytes_of(&set)), "{}", bytes_of(&set));
        assert!(bytes_of(&[("k".to_owned(), "v".to_owned())].into()) > 600);
    }
}
