//! Where the runtime keeps who waits for semaphores: `runtime.semtable`, found by what it looks like.
//!
//! It is a table of roots, in the data with pointers: each has a tree of waiters (`sudog`s) and their number. The address that a
//! goroutine waits at decides at which root it does. So every root in use says where the table begins, and all of them say
//! the same. Nothing can be found while no goroutine waits for a semaphore, and nothing is needed then.
//!
//! Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/sema.go> (`semTable`, `semaRoot`), the same since Go 1.19.

use std::{collections::BTreeMap, ops::ControlFlow};

use super::batch::Batch;
use crate::{
    go::{
        Runtime,
        memory::{Words, word_at},
        mentions::Mentions,
    },
    target::{Memory, Piece},
};

/// How many roots the table has.
pub(super) const ROOTS: usize = 251;
/// Bytes from one root to the next: a cache line, as Go takes it (`internal/cpu.CacheLinePadSize`).
pub(super) const STRIDE: usize = if cfg!(target_arch = "aarch64") { 128 } else { 64 };
/// Offsets in a root: `treap`, pointer to `sudog`, and `nwait`, `u32`. Nothing else is in it but a lock at its beginning.
const TREAP: usize = 8;
const NWAIT: usize = 16;
/// Words of a root without its end, which on some processors is longer, and the first one behind `nwait`.
const WORDS: usize = 8;
/// Most words of the data that are looked at closely.
const MAX_CANDIDATES: usize = 1 << 16;
/// So many roots may just be being changed: a waiter is counted before it is in the tree.
const MAX_CHANGING: usize = 16;
/// A function that works on the table.
const ACQUIRES: &str = "runtime.semacquire1";

/// A root of the table, as it was at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Root {
    /// Its tree; 0 if nobody waits there.
    pub(super) treap: u64,
    /// How many goroutines wait there.
    pub(super) waiters: u32,
}

impl Root {
    /// Whether the two fields say the same: they do while nobody works on it.
    fn is_settled(self) -> bool {
        (self.treap == 0) == (self.waiters == 0)
    }
}

/// At which root those are that wait at an address.
pub(super) fn root_of(address: u64) -> usize {
    ((address >> 3) % ROOTS as u64) as usize
}

/// The roots of the table at `table`; `None` if it cannot be read.
pub(super) fn roots(memory: &dyn Memory, table: u64) -> Option<Vec<Root>> {
    let bytes = memory.bytes(table, ROOTS * STRIDE);
    (bytes.len() == ROOTS * STRIDE).then(|| parse(&bytes)).map(|(roots, _)| roots)
}

/// The roots that lie in these bytes, and whether there is nothing but zeros between them.
fn parse(bytes: &[u8]) -> (Vec<Root>, bool) {
    let mut is_padded = true;
    let root = |bytes: &[u8]| {
        is_padded &= bytes.get(NWAIT + 4..)?.iter().all(|&byte| byte == 0);
        Some(Root { treap: word_at(bytes, TREAP)?, waiters: word_at(bytes, NWAIT)? as u32 })
    };
    let roots = bytes.chunks_exact(STRIDE).filter_map(root).collect();
    (roots, is_padded)
}

/// The address of the table; `None` if nobody waits, or if it is not certain which one it is. Goes through the data with pointers
/// once: some ms.
pub(super) fn find(runtime: &Runtime, memory: &dyn Memory) -> Option<u64> {
    let mut roots: Vec<(u64, u64)> = Vec::new();
    memory.scan(&runtime.bss, |root, &[_, treap, waiters, ref rest @ ..]: &[u64; WORDS]| {
        let is_counted = (1..=u64::from(u32::MAX)).contains(&waiters);
        if is_counted && treap != 0 && treap.is_multiple_of(8) && *rest == [0; WORDS - 3] {
            roots.push((root, treap));
        }
        if roots.len() < MAX_CANDIDATES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let votes = votes(runtime, memory, &roots);
    let mut tables: Vec<(u32, u64)> = votes.into_iter().map(|(table, votes)| (votes, table)).collect();
    tables.retain(|&(_, table)| is_table(memory, table));
    if let [_, _, ..] = tables[..] {
        let mentions = Mentions::of(memory, &runtime.code, ACQUIRES, &runtime.bss);
        if tables.iter().any(|&(_, table)| mentions.has(table)) {
            tables.retain(|&(_, table)| mentions.has(table));
        }
    }
    tables.sort_unstable();
    match tables[..] {
        [.., (second, _), (best, _)] if best == second => None,
        [.., (_, table)] => Some(table),
        [] => None,
    }
}

/// Where the table begins according to what seem to be its roots, and according to how many of them.
fn votes(runtime: &Runtime, memory: &dyn Memory, roots: &[(u64, u64)]) -> BTreeMap<u64, u32> {
    let sudog = &runtime.layout.sudog;
    let mut batch = Batch::default();
    let pieces: Vec<Piece> = roots.iter().map(|&(_, treap)| Piece { address: treap, len: sudog.size.into() }).collect();
    batch.read(memory, &pieces);
    let table = |(n, &(root, _)): (usize, &(u64, u64))| {
        let at = |offset| batch.word(n, offset);
        let (g, address) = (at(sudog.g)?, at(sudog.elem).filter(|&address| address != 0)?);
        let is_top = at(sudog.c)? == 0 && at(sudog.parent)? == 0;
        let table = root.checked_sub((root_of(address) * STRIDE) as u64)?;
        let end = table.checked_add((ROOTS * STRIDE) as u64)?;
        let is_within = runtime.bss.start <= table && end <= runtime.bss.end;
        (is_top && is_within).then_some((g, table))
    };
    let (goroutines, tables): (Vec<u64>, Vec<u64>) = roots.iter().enumerate().filter_map(table).unzip();
    let themselves: Vec<u64> = goroutines.iter().map(|g| g.saturating_add(runtime.layout.g.sched_g.into())).collect();
    let mut votes = BTreeMap::new();
    for ((g, itself), table) in goroutines.iter().zip(memory.each_word(&themselves)).zip(tables) {
        if itself == Some(*g) {
            *votes.entry(table).or_default() += 1;
        }
    }
    votes
}

/// Whether there is a table of roots at `table`.
fn is_table(memory: &dyn Memory, table: u64) -> bool {
    let (roots, is_padded) = parse(&memory.bytes(table, ROOTS * STRIDE));
    let changing = roots.iter().filter(|root| !root.is_settled()).count();
    is_padded && roots.len() == ROOTS && changing <= MAX_CHANGING
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::go::{SudogLayout, goroutines::heaps::tests::runtime as with_processors, memory::fake::Fake};

    pub(in super::super) const VERSIONS: [&str; 6] =
        ["go1.19.8", "go1.21.13", "go1.24.11", "go1.25.5", "go1.26.6", "go1.27.3"];
    const BSS: u64 = 0x40_0000;
    pub(in super::super) const TABLE: u64 = BSS + 0x1020;
    const BSS_LEN: usize = 0x8000;
    const GS: u64 = 0xc0_0010_0000;
    const SUDOGS: u64 = 0xc0_0020_0000;

    pub(in super::super) fn g(n: u64) -> u64 {
        GS + n * 512
    }

    /// As the allocator has them: none lies across the border of two pages.
    pub(in super::super) fn sudog(n: u64) -> u64 {
        SUDOGS + (n / 64) * 8192 + (n % 64) * 128
    }

    /// A runtime of this version, and memory with an empty table.
    pub(in super::super) fn runtime(version: &str) -> (Runtime, Fake) {
        let (mut runtime, mut memory) = with_processors(version);
        runtime.bss = BSS..BSS + BSS_LEN as u64;
        memory.put_bytes(BSS, &vec![0; BSS_LEN]);
        memory.put_bytes(GS, &vec![0; 512 * 512]);
        memory.put_bytes(SUDOGS, &vec![0; 8 * 8192]);
        (runtime, memory)
    }

    /// Puts a waiter into memory, without links.
    pub(in super::super) fn waiter(memory: &mut Fake, runtime: &Runtime, n: u64, address: u64) {
        let layout = &runtime.layout;
        memory.put(g(n) + u64::from(layout.g.sched_g), &[g(n)]);
        put(memory, &layout.sudog, n, layout.sudog.g, g(n));
        put(memory, &layout.sudog, n, layout.sudog.elem, address);
    }

    pub(in super::super) fn put(memory: &mut Fake, layout: &SudogLayout, n: u64, offset: u16, value: u64) {
        assert!(offset < layout.size);
        memory.put(sudog(n) + u64::from(offset), &[value]);
    }

    pub(in super::super) fn root(memory: &mut Fake, address: u64, treap: u64, waiters: u64) {
        memory.put(TABLE + (root_of(address) * STRIDE + TREAP) as u64, &[treap, waiters]);
    }

    #[test]
    fn one_waiter_is_enough() {
        for version in VERSIONS {
            for address in [0xc0_0000_1004, 0xc0_0000_1234, BSS + 8] {
                let (runtime, mut memory) = runtime(version);
                assert_eq!(find(&runtime, &memory), None);
                waiter(&mut memory, &runtime, 0, address);
                root(&mut memory, address, sudog(0), 1);
                assert_eq!(find(&runtime, &memory), Some(TABLE), "{version}: {address:#x}");
            }
        }
    }

    #[test]
    fn what_is_not_sure_is_not_told() {
        let (runtime, mut memory) = runtime("go1.24.11");
        let address = 0xc0_0000_1004;
        waiter(&mut memory, &runtime, 0, address);
        root(&mut memory, address, sudog(0), 1);
        // What lies beside it is no part of a table.
        let mut beside = memory.clone();
        beside.put(TABLE + (3 * STRIDE + STRIDE - 8) as u64, &[7]);
        assert_eq!(find(&runtime, &beside), None);
        // Another word that leads to the waiter, as if it were a root, which would make for another table.
        let mut twice = memory.clone();
        twice.put(TABLE + 0x40 + (root_of(address) * STRIDE + TREAP) as u64, &[sudog(0), 1]);
        assert_eq!(find(&runtime, &twice), None);
        for (offset, value) in [
            (runtime.layout.sudog.c, 0xc0_0000_0000),
            (runtime.layout.sudog.g, sudog(9)),
            (runtime.layout.sudog.elem, 0),
        ] {
            let mut other = memory.clone();
            put(&mut other, &runtime.layout.sudog, 0, offset, value);
            assert_eq!(find(&runtime, &other), None, "{offset}");
        }
    }

    #[test]
    fn a_table_that_is_cut_short_is_none() {
        let (runtime, mut memory) = runtime("go1.24.11");
        let address = 0xc0_0000_1004;
        waiter(&mut memory, &runtime, 0, address);
        root(&mut memory, address, sudog(0), 1);
        for len in (0..BSS_LEN).step_by(56) {
            let mut cut = memory.clone();
            cut.0.iter_mut().filter(|(start, _)| *start == BSS).for_each(|(_, bytes)| bytes.truncate(len));
            let end = TABLE + (ROOTS * STRIDE) as u64;
            let expected = (BSS + len as u64 >= end).then_some(TABLE);
            assert_eq!(find(&runtime, &cut), expected, "{len}");
            assert_eq!(roots(&cut, TABLE).is_some(), expected.is_some(), "{len}");
        }
        for table in [u64::MAX, u64::MAX - 64, 0] {
            assert_eq!(roots(&memory, table), None);
        }
    }
}
