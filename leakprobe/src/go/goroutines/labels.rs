//! Profiler labels (`pprof.Do`) of goroutines. Many goroutines have the same: what one creates, inherits.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
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
/// Most different sets that are remembered at one time.
const MAX_KNOWN: usize = 1 << 16;
/// Entries of a bucket of a map.
const BUCKET: usize = 8;
/// Most buckets of a map that are read.
const MAX_BUCKETS: usize = 64;

type Set = Arc<BTreeMap<String, String>>;

/// Reads labels. To be made anew for each snapshot: addresses are used again.
#[derive(Debug)]
pub(super) struct Labels {
    form: Form,
    known: HashMap<u64, Option<Set>>,
}

impl Labels {
    pub(super) fn new(form: Form) -> Self {
        Self { form, known: HashMap::new() }
    }

    /// The labels that `g.labels` leads to, if there are any.
    pub(super) fn at(&mut self, memory: &dyn Memory, address: u64) -> Option<Set> {
        if address == 0 {
            return None;
        }
        if let Some(known) = self.known.get(&address) {
            return known.clone();
        }
        let set = match self.form {
            Form::Pairs => pairs(memory, address),
            Form::Map => map(memory, address),
        };
        let set = set.filter(|set| !set.is_empty()).map(Arc::new);
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(address, set.clone());
        set
    }
}

/// Since Go 1.24: <https://github.com/golang/go/blob/go1.27.0/src/internal/runtime/pprof/label/labelset.go>
fn pairs(memory: &dyn Memory, address: u64) -> Option<BTreeMap<String, String>> {
    let [start, len] = memory.words(address)?;
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(MAX_LABELS);
    let mut bytes = vec![0; 32 * len];
    let read = memory.read(start, &mut bytes);
    Some(bytes.get(..read)?.chunks_exact(32).filter_map(|pair| entry(memory, pair)).collect())
}

/// Until Go 1.23, a `map[string]string` with buckets of 8 entries:
/// <https://github.com/golang/go/blob/go1.23.0/src/runtime/map.go> (`hmap`, `bmap`).
fn map(memory: &dyn Memory, address: u64) -> Option<BTreeMap<String, String>> {
    /// Entries that are not there: empty, or moved to a new table.
    const NO_ENTRY: u8 = 4;
    const SIZE: usize = BUCKET + BUCKET * 32 + 8;
    let [hmap] = memory.words(address)?;
    let [_, flags, buckets] = memory.words(hmap)?;
    let bits = (flags >> 8) as u8;
    let mut found = BTreeMap::new();
    let mut left = MAX_BUCKETS;
    let first = 1usize.checked_shl(u32::from(bits)).unwrap_or(usize::MAX).min(MAX_BUCKETS);
    for n in 0..first {
        let mut at = buckets.checked_add((n * SIZE) as u64)?;
        while at != 0 && left > 0 && found.len() < MAX_LABELS {
            left -= 1;
            let mut bucket = [0; SIZE];
            if memory.read(at, &mut bucket) != SIZE {
                break;
            }
            let (hashes, rest) = bucket.split_at(BUCKET);
            let (keys, rest) = rest.split_at(16 * BUCKET);
            let (values, overflow) = rest.split_at(16 * BUCKET);
            let entries = keys.chunks_exact(16).zip(values.chunks_exact(16)).zip(hashes);
            found.extend(
                entries
                    .filter(|&(_, &hash)| hash > NO_ENTRY)
                    .filter_map(|((key, value), _)| entry(memory, &[key, value].concat())),
            );
            at = word_at(overflow, 0_u16)?;
        }
    }
    Some(found)
}

/// A key and a value, each a pointer and a length.
fn entry(memory: &dyn Memory, pair: &[u8]) -> Option<(String, String)> {
    Some((text(memory, pair, 0)?, text(memory, pair, 16)?))
}

fn text(memory: &dyn Memory, pair: &[u8], at: usize) -> Option<String> {
    let text = Piece { address: word_at(pair, at)?, len: usize::try_from(word_at(pair, at + 8)?).ok()? };
    let mut bytes = vec![0; text.len.min(MAX_TEXT)];
    (memory.read(text.address, &mut bytes) == bytes.len()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}
