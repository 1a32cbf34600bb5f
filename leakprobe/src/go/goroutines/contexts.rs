//! Which `ctx.Done()` channels a deadline closes, and when.
//!
//! Only a timer leads to a context with a deadline: it calls a closure that has captured it. The context leads to its channel and to
//! the contexts derived from it, which end with it.
//!
//! Source: <https://github.com/golang/go/blob/go1.27.0/src/context/context.go> (`cancelCtx`, `WithDeadlineCause`), and the same of
//! Go 1.19. Of maps: <https://github.com/golang/go/blob/go1.27.0/src/internal/runtime/maps/map.go>, and
//! <https://github.com/golang/go/blob/go1.23.0/src/runtime/map.go>.

use std::collections::HashMap;

use super::{batch::Batch, heaps::Timer};
use crate::{
    go::{
        Runtime, Version,
        memory::{Words, word_at},
    },
    target::{Memory, Piece},
};

/// The closure that a deadline's timer calls: its code, then the context.
const CLOSURE: usize = 16;
const CAPTURED: usize = 8;
/// `context.cancelCtx`: its channel, and the map of the contexts derived from it.
const CONTEXT: usize = 48;
const DONE: usize = 32;
const CHILDREN: usize = 40;
/// A key of `map[canceler]struct{}` is an interface: its second word is the child's address.
const KEY: usize = 16;
const KEY_DATA: usize = 8;
/// Keys that lie together in a map, after as many bytes that say which are in use.
const TOGETHER: usize = 8;
/// Most contexts, and most parts of maps, that are looked at.
const MAX_CONTEXTS: usize = 1 << 18;
const MAX_PARTS: usize = 1 << 18;
/// How many are read in one go.
const CHUNK: usize = 4096;
/// Generations of derived contexts, and buckets one behind the other, that are followed.
const MAX_DEPTH: usize = 64;

/// The timer of a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    /// When it fires, in the target's `CLOCK_MONOTONIC`, ns.
    pub(super) when: u64,
    /// The timer's address, and the closure that it calls, by which it is known again.
    pub(super) timer: u64,
    pub(super) closure: u64,
}

/// The channels that deadlines close; the earliest deadline of each.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    channels: HashMap<u64, Deadline>,
    /// Contexts and parts of maps that were not looked at.
    pub(super) left_out: u64,
}

impl Contexts {
    pub(super) fn get(&self, channel: u64) -> Option<Deadline> {
        self.channels.get(&channel).copied()
    }

    /// How many channels are known.
    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    /// Forgets all channels but so many; they count as contexts that were not looked at.
    pub(super) fn keep(&mut self, mut most: u64) {
        let before = self.channels.len();
        self.channels.retain(|_, _| {
            let is_kept = most > 0;
            most = most.saturating_sub(1);
            is_kept
        });
        self.left_out += (before - self.channels.len()) as u64;
    }

    /// Forgets all and follows the contexts whose deadlines have these timers.
    pub(super) fn learn(&mut self, runtime: &Runtime, memory: &dyn Memory, timers: &[Timer]) {
        *self = Self::default();
        let mut batch = Batch::default();
        batch.read(memory, &timers.iter().map(|timer| piece(timer.arg, CLOSURE)).collect::<Vec<_>>());
        let context = |(n, timer): (usize, &Timer)| {
            let deadline = Deadline { when: timer.when, timer: timer.address, closure: timer.arg };
            Some((batch.word(n, CAPTURED as u16)?, deadline))
        };
        let mut open: Vec<(u64, Deadline)> = timers.iter().enumerate().filter_map(context).collect();
        let maps = Maps::of(&runtime.version);
        let (mut earliest, mut parts) = (HashMap::<u64, u64>::new(), MAX_PARTS);
        for _ in 0..MAX_DEPTH {
            open.retain(|(context, deadline)| {
                let is_known = earliest.contains_key(context);
                if !is_known && earliest.len() >= MAX_CONTEXTS {
                    self.left_out += 1;
                    return false;
                }
                let known = earliest.entry(*context).or_insert(u64::MAX);
                let is_earlier = deadline.when < *known;
                *known = (*known).min(deadline.when);
                is_earlier
            });
            if open.is_empty() {
                return;
            }
            let mut derived = Vec::new();
            for chunk in open.chunks(CHUNK) {
                let children = self.contexts(memory, &mut batch, chunk);
                derived.extend(maps.keys(memory, &children, &mut parts, &mut self.left_out));
            }
            open = derived;
        }
        self.left_out += open.len() as u64;
    }

    /// Notes the channels of some contexts, and returns the maps of the contexts derived from them.
    fn contexts(
        &mut self,
        memory: &dyn Memory,
        batch: &mut Batch,
        contexts: &[(u64, Deadline)],
    ) -> Vec<(u64, Deadline)> {
        batch.read(memory, &contexts.iter().map(|&(context, _)| piece(context, CONTEXT)).collect::<Vec<_>>());
        let mut children = Vec::new();
        for (n, &(_, deadline)) in contexts.iter().enumerate() {
            let bytes = batch.get(n);
            let (Some(done), Some(map)) = (word_at(bytes, DONE), word_at(bytes, CHILDREN)) else { continue };
            if done != 0 {
                let known = self.channels.entry(done).or_insert(deadline);
                if deadline.when < known.when {
                    *known = deadline;
                }
            }
            if map != 0 {
                children.push((map, deadline));
            }
        }
        children
    }
}

/// How the runtime keeps a `map[canceler]struct{}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maps {
    /// Buckets with a chain of more of them, up to Go 1.23.
    Buckets,
    /// Groups, in tables if there is more than one.
    Groups,
}

/// A bucket: which of its keys are in use, the keys, and the next bucket.
const BUCKET: usize = 144;
const OVERFLOW: usize = 136;
/// A key is in use from this on.
const MIN_TOP_HASH: u8 = 5;
/// `hmap`: the logarithm of the number of buckets; the buckets; those before it grew.
const HMAP: usize = 32;
const LOG_BUCKETS: usize = 9;
const BUCKETS: usize = 16;
const OLD_BUCKETS: usize = 24;
/// A group: which of its slots are in use, and the slots: the empty value after each key takes 8 bytes.
const GROUP: usize = 200;
const SLOT: usize = 24;
/// A slot is in use if this bit of its byte is not set.
const EMPTY_OR_DELETED: u8 = 0x80;
/// `Map`: the directory of tables, or the only group, and how many tables there are.
const DIRECTORY: usize = 16;
const DIRECTORY_LEN: usize = 24;
/// `table`: its groups, and their number less 1.
const TABLE: usize = 32;
const GROUPS: usize = 16;
const GROUPS_MASK: usize = 24;

impl Maps {
    fn of(version: &Version) -> Self {
        if (version.major, version.minor) >= (1, 24) { Self::Groups } else { Self::Buckets }
    }

    /// The second words of the keys of some maps, each with what is given for its map. `parts` is how many parts of maps may still be
    /// read; what is not read for that is added to `left_out`.
    fn keys(
        self,
        memory: &dyn Memory,
        maps: &[(u64, Deadline)],
        parts: &mut usize,
        left_out: &mut u64,
    ) -> Vec<(u64, Deadline)> {
        let mut batch = Batch::default();
        batch.read(memory, &maps.iter().map(|&(map, _)| piece(map, HMAP)).collect::<Vec<_>>());
        let mut runs = Vec::new();
        for (n, &(_, deadline)) in maps.iter().enumerate() {
            runs.extend(self.runs(memory, batch.get(n)).into_iter().map(|run| (run, deadline)));
        }
        let size = if self == Self::Buckets { BUCKET } else { GROUP };
        let mut open: Vec<(u64, Deadline)> = Vec::new();
        for (Run { address, count }, deadline) in runs {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let most = count.min(*parts);
            *left_out += u64::from(most < count);
            *parts -= most;
            open.extend((0..most).map(|n| (address.saturating_add((n * size) as u64), deadline)));
        }
        let mut keys = Vec::new();
        for _ in 0..MAX_DEPTH {
            let mut next = Vec::new();
            for chunk in open.chunks(CHUNK) {
                batch.read(memory, &chunk.iter().map(|&(part, _)| piece(part, size)).collect::<Vec<_>>());
                for (n, &(_, deadline)) in chunk.iter().enumerate() {
                    let bytes = batch.get(n);
                    keys.extend(self.in_use(bytes).map(|key| (key, deadline)));
                    let more = word_at(bytes, OVERFLOW).filter(|&more| self == Self::Buckets && more != 0);
                    next.extend(more.map(|more| (more, deadline)));
                }
            }
            let most = next.len().min(*parts);
            *left_out += (next.len() - most) as u64;
            *parts -= most;
            next.truncate(most);
            open = next;
            if open.is_empty() {
                break;
            }
        }
        *left_out += open.len() as u64;
        keys
    }

    /// Where the parts of a map lie side by side, from its header.
    fn runs(self, memory: &dyn Memory, header: &[u8]) -> Vec<Run> {
        let at = |offset| word_at(header, offset).unwrap_or(0);
        match self {
            Self::Buckets => {
                let log = header.get(LOG_BUCKETS).copied().unwrap_or(0).min(MAX_PARTS.ilog2() as u8);
                let runs = [(at(BUCKETS), 1 << log), (at(OLD_BUCKETS), (1 << log) >> 1)];
                let real = runs.into_iter().filter(|&(address, _)| address != 0);
                real.map(|(address, count): (u64, u64)| Run { address, count: count.max(1) }).collect()
            }
            Self::Groups if at(DIRECTORY_LEN) == 0 => {
                let only = Some(at(DIRECTORY)).filter(|&group| group != 0);
                only.map(|address| Run { address, count: 1 }).into_iter().collect()
            }
            Self::Groups => {
                const MAX_TABLES: u64 = 1 << 12;
                let len = at(DIRECTORY_LEN).min(MAX_TABLES) as usize;
                let directory = memory.bytes(at(DIRECTORY), 8 * len);
                let mut tables: Vec<u64> = (0..len).filter_map(|n| word_at(&directory, 8 * n)).collect();
                tables.sort_unstable();
                tables.dedup();
                let mut batch = Batch::default();
                batch.read(memory, &tables.iter().map(|&table| piece(table, TABLE)).collect::<Vec<_>>());
                let run = |n| {
                    let table = batch.get(n);
                    let address = word_at(table, GROUPS).filter(|&groups| groups != 0)?;
                    Some(Run { address, count: word_at(table, GROUPS_MASK)?.saturating_add(1) })
                };
                (0..tables.len()).filter_map(run).collect()
            }
        }
    }

    /// The second words of the keys that are in use in a part of a map.
    fn in_use(self, bytes: &[u8]) -> impl Iterator<Item = u64> {
        let stride = if self == Self::Buckets { KEY } else { SLOT };
        let is_used = move |n: &usize| {
            bytes.get(*n).is_some_and(|&byte| match self {
                Self::Buckets => byte >= MIN_TOP_HASH,
                Self::Groups => byte & EMPTY_OR_DELETED == 0,
            })
        };
        let key = move |n: usize| word_at(bytes, TOGETHER + n * stride + KEY_DATA);
        (0..TOGETHER).filter(is_used).filter_map(key).filter(|&key| key != 0)
    }
}

/// Parts of a map that lie side by side.
#[derive(Clone, Copy, Debug)]
struct Run {
    address: u64,
    count: u64,
}

fn piece(address: u64, len: usize) -> Piece {
    Piece { address, len }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::{goroutines::heaps::tests::runtime, memory::fake::Fake};

    const TIMERS: u64 = 0x3000;
    const CONTEXTS: u64 = 0x4000;
    const MAPS: u64 = 0x6000;

    fn timer(n: u64, when: u64) -> Timer {
        Timer { address: 0x9000 + n, when, period: 0, f: 1, arg: TIMERS + 16 * n, owner: 0 }
    }

    /// A context with this channel and, if it is not 0, this map of children.
    fn context(memory: &mut Fake, n: u64, done: u64, children: u64) -> u64 {
        let address = CONTEXTS + 0x100 * n;
        memory.put(address + DONE as u64, &[done, children]);
        address
    }

    /// A map with one part, which holds these keys.
    fn map(memory: &mut Fake, version: &str, n: u64, keys: &[u64]) -> u64 {
        let (address, part) = (MAPS + 0x200 * n, MAPS + 0x200 * n + 0x40);
        let is_old = version < "go1.24";
        memory.put(address + BUCKETS as u64, &[part, 0]);
        let in_use = if is_old { MIN_TOP_HASH } else { 0x11 };
        let unused = if is_old { 0 } else { EMPTY_OR_DELETED };
        let marks: Vec<u8> = (0..TOGETHER).map(|n| if n < keys.len() { in_use } else { unused }).collect();
        memory.put_bytes(part, &marks);
        for (n, &key) in (0..).zip(keys) {
            memory.put(part + 8 + n * (if is_old { KEY } else { SLOT }) as u64, &[0x77, key]);
        }
        address
    }

    #[test]
    fn a_deadline_closes_the_channels_of_all_contexts_below_it_and_the_earliest_counts() {
        for version in ["go1.19.8", "go1.23.1", "go1.24.11", "go1.27.3"] {
            let (runtime, mut memory) = runtime(version);
            let leaf = context(&mut memory, 2, 0x33, 0);
            let below = map(&mut memory, version, 1, &[leaf]);
            let branch = context(&mut memory, 1, 0x22, below);
            // A context whose channel nobody has asked for.
            let silent = context(&mut memory, 3, 0, 0);
            let children = map(&mut memory, version, 0, &[branch, silent]);
            let tree = context(&mut memory, 0, 0x11, children);
            memory.put(TIMERS, &[0x500, tree, 0x500, branch]);
            let mut contexts = Contexts::default();
            for timers in [[timer(0, 90), timer(1, 50)], [timer(1, 50), timer(0, 90)]] {
                contexts.learn(&runtime, &memory, &timers);
                let when = |channel| contexts.get(channel).map(|deadline| deadline.when);
                assert_eq!(
                    [0, 0x11, 0x22, 0x33, 0x44].map(when),
                    [None, Some(90), Some(50), Some(50), None],
                    "{version}"
                );
                assert_eq!(contexts.left_out, 0);
            }
        }
    }

    #[test]
    fn what_is_damaged_comes_to_an_end_and_is_a_loss() {
        for version in ["go1.22.10", "go1.27.3"] {
            let (runtime, mut memory) = runtime(version);
            let timers = [timer(0, 90)];
            // A circle of contexts: no loss, since each is there once.
            let (a, b) = (CONTEXTS, CONTEXTS + 0x100);
            let (of_a, of_b) = (map(&mut memory, version, 0, &[b]), map(&mut memory, version, 1, &[a]));
            context(&mut memory, 0, 0x11, of_a);
            context(&mut memory, 1, 0x22, of_b);
            memory.put(TIMERS, &[0x500, a]);
            let mut contexts = Contexts::default();
            contexts.learn(&runtime, &memory, &timers);
            assert!(contexts.get(0x22).is_some() && contexts.left_out == 0, "{version}");
            let count = contexts.len();
            contexts.keep(1);
            assert_eq!((contexts.len(), contexts.left_out), (1, count as u64 - 1));
            if version < "go1.24" {
                // A bucket that is followed by itself, and a map that claims 2^255 buckets.
                memory.put(of_a + 0x40 + OVERFLOW as u64, &[of_a + 0x40]);
                contexts.learn(&runtime, &memory, &timers);
                assert!(contexts.left_out > 0);
                memory.put(of_a + 0x40 + OVERFLOW as u64, &[0]);
                memory.put_bytes(of_a + LOG_BUCKETS as u64, &[255]);
            } else {
                // As many tables and groups as fit a word.
                memory.put(of_a + DIRECTORY as u64, &[of_a + 0x140, u64::MAX]);
                memory.put(of_a + 0x140, &[of_a + 0x150]);
                memory.put(of_a + 0x150 + GROUPS as u64, &[of_a + 0x40, u64::MAX]);
            }
            contexts.learn(&runtime, &memory, &timers);
            assert!(contexts.get(0x22).is_some() && contexts.left_out > 0, "{version}");
            // What leads nowhere.
            for captured in [0, 7, 0xdead_0000, u64::MAX - 8] {
                memory.put(TIMERS + 8, &[captured]);
                contexts.learn(&runtime, &memory, &timers);
                assert!(contexts.get(0x11).is_none() && contexts.left_out == 0, "{version}");
            }
        }
    }
}
