//! The goroutines that wait for semaphores, in the order in which they will be woken: the trees of `runtime.semtable`.
//!
//! Each root has a tree with one node for each address: the first one to be woken. The others that wait at the same address come
//! behind it. All of this changes while it is read. A tree counts as seen whole only if as many waiters were found as its root says,
//! and if the root is the same afterwards. Otherwise it is read again; if it never settles, its waiters have no place in a queue.
//! Whoever asks has to confirm that a goroutine waits at an address, and that it has not run meanwhile.
//!
//! Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/sema.go> (`queue`, `dequeue`), the same since Go 1.19.

use std::collections::HashMap;

use super::{
    g::mix,
    semtable::{self, Root, root_of},
};
use crate::{
    go::{SudogLayout, memory::word_at},
    model::QueuePlace,
    target::{Memory, Piece},
};

/// Bytes that are read at once, from a multiple of them. Go's allocator puts no `sudog` across the border of two.
const PAGE: usize = 8 << 10;
/// Most pages that are read at once, and that are kept.
const FETCHED: usize = 512;
const KEPT: usize = 4096;
/// How often a tree that changes is read.
const ATTEMPTS: u32 = 4;
/// So many more waiters, and pages, than there are goroutines are looked at.
const SLACK: usize = 4096;

/// A goroutine that waits for a semaphore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Its `sudog`.
    pub(super) sudog: u64,
    /// The semaphore's address.
    pub(super) address: u64,
    /// `None` if the queue changed whenever it was read.
    pub(super) place: Option<QueuePlace>,
}

/// All that wait for semaphores.
#[derive(Clone, Debug, Default)]
pub(super) struct Queues {
    /// By the addresses of their `g`s.
    waiting: HashMap<u64, Waiting>,
    /// What was last seen of each root's tree, as a number that is another one if it has changed; empty if nothing was read yet.
    marks: Vec<u64>,
    /// Roots whose trees were seen to change.
    restless: Vec<bool>,
}

impl Queues {
    /// Reads all of the table at `table`, of a program with so many goroutines. Each page that waiters lie in is read once, unless
    /// trees change.
    pub(super) fn read(&mut self, layout: &SudogLayout, memory: &dyn Memory, table: u64, goroutines: usize) {
        self.waiting.clear();
        self.restless.resize(semtable::ROOTS, false);
        self.read_trees(layout, memory, table, goroutines, vec![true; semtable::ROOTS]);
    }

    /// Reads once more what was seen to change since this was made: for those who have begun to wait since then.
    pub(super) fn read_restless(&mut self, layout: &SudogLayout, memory: &dyn Memory, table: u64, goroutines: usize) {
        self.read_trees(layout, memory, table, goroutines, self.restless.clone());
    }

    fn read_trees(
        &mut self,
        layout: &SudogLayout,
        memory: &dyn Memory,
        table: u64,
        goroutines: usize,
        mut open: Vec<bool>,
    ) {
        let left = goroutines.saturating_add(SLACK);
        let mut walk = Walk { layout, memory, pages: Pages::new(left), left, trees: Vec::new() };
        let is_first = self.marks.is_empty();
        self.marks.resize(semtable::ROOTS, 0);
        for _ in 0..ATTEMPTS {
            let Some(before) = semtable::roots(memory, table) else { break };
            walk.begin(&before, &open);
            let Some(after) = semtable::roots(memory, table) else { break };
            let is_whole = |tree: &Tree, after: &Root| tree.is_whole() && tree.root == *after;
            // One that has changed queues meanwhile may be in two: what is whole counts for more.
            for whole in [false, true] {
                let trees = walk.trees.iter().zip(&after).zip(&mut open).enumerate();
                for (n, ((tree, _), open)) in
                    trees.filter(|(_, ((tree, after), open))| **open && is_whole(tree, after) == whole)
                {
                    take(&mut self.waiting, tree, whole);
                    *open = !whole;
                    if let (Some(restless), Some(mark)) = (self.restless.get_mut(n), self.marks.get_mut(n)) {
                        let before = std::mem::replace(mark, tree.mark());
                        *restless |= !whole || !is_first && before != *mark;
                    }
                }
            }
            if !open.contains(&true) {
                break;
            }
        }
    }

    /// Where a goroutine waits.
    pub(super) fn of(&self, g: u64) -> Option<Waiting> {
        self.waiting.get(&g).copied()
    }
}

/// Takes in what was found at one root.
fn take(waiting: &mut HashMap<u64, Waiting>, tree: &Tree, is_whole: bool) {
    for found in &tree.found {
        let waiters = tree.lengths.get(found.queue as usize).copied().filter(|_| is_whole);
        let place = waiters.map(|waiters| QueuePlace { place: found.place, waiters });
        waiting.insert(found.g, Waiting { sudog: found.sudog, address: found.address, place });
    }
}

/// What is needed of a `sudog`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sudog {
    g: u64,
    address: u64,
    /// In the tree.
    children: [u64; 2],
    parent: u64,
    /// The next one at the same address.
    behind: u64,
}

impl Sudog {
    /// `None` if there is less than all of it, or if it is in no queue of a semaphore.
    fn parse(layout: &SudogLayout, bytes: &[u8]) -> Option<Self> {
        let at = |offset: u16| word_at(bytes, offset);
        let read = Self {
            g: at(layout.g)?,
            address: at(layout.elem)?,
            children: [at(layout.prev)?, at(layout.next)?],
            parent: at(layout.parent)?,
            behind: at(layout.waitlink)?,
        };
        (at(layout.c)? == 0 && read.g != 0 && read.address != 0).then_some(read)
    }
}

/// What was found at one root.
#[derive(Debug, Default)]
struct Tree {
    root: Root,
    found: Vec<Found>,
    /// How many wait in each queue.
    lengths: Vec<u32>,
    /// Something was met that is not part of such a tree.
    is_torn: bool,
}

impl Tree {
    fn mark(&self) -> u64 {
        mix(self.found.iter().flat_map(|found| [found.g, found.sudog, found.address]))
    }

    fn is_whole(&self) -> bool {
        !self.is_torn && self.found.len() == self.root.waiters as usize
    }
}

#[derive(Clone, Copy, Debug)]
struct Found {
    g: u64,
    sudog: u64,
    address: u64,
    queue: u32,
    place: u32,
}

/// A `sudog` that is still to be looked at.
#[derive(Clone, Copy, Debug)]
struct Step {
    tree: usize,
    sudog: u64,
    from: From,
}

/// What has led to it.
#[derive(Clone, Copy, Debug)]
enum From {
    /// Its parent in the tree; 0 for the root.
    Parent(u64),
    /// The one before it in this queue of those that wait at this address.
    Queue(u32, u64),
}

/// On its way through the trees.
struct Walk<'a> {
    layout: &'a SudogLayout,
    memory: &'a dyn Memory,
    pages: Pages,
    /// `sudog`s that may still be looked at: what a hostile process can make us do.
    left: usize,
    trees: Vec<Tree>,
}

impl Walk<'_> {
    /// Goes through the trees that are still open.
    fn begin(&mut self, roots: &[Root], open: &[bool]) {
        self.pages.clear();
        self.trees = roots.iter().map(|&root| Tree { root, ..Tree::default() }).collect();
        // More than there are goroutines wait nowhere.
        let may_be = |root: &Root| root.treap != 0 && root.waiters as usize <= self.left;
        let used = roots.iter().zip(open).enumerate().filter(|(_, (root, open))| **open && may_be(root));
        let first =
            |(tree, (root, _)): (usize, (&Root, &bool))| Step { tree, sudog: root.treap, from: From::Parent(0) };
        let mut steps: Vec<Step> = used.map(first).collect();
        while !steps.is_empty() {
            let mut later = Vec::new();
            for some in steps.chunks(FETCHED) {
                self.pages.fetch(self.memory, some.iter().map(|step| step.sudog));
                some.iter().for_each(|&step| self.follow(step, &mut later));
            }
            steps = later;
        }
    }

    /// Goes on from there as far as what was read reaches. What lies beyond is left for later.
    fn follow(&mut self, step: Step, later: &mut Vec<Step>) {
        let mut steps = vec![step];
        while let Some(step) = steps.pop() {
            let Some(bytes) = self.pages.get(step.sudog) else {
                later.push(step);
                continue;
            };
            let Some(tree) = self.trees.get_mut(step.tree) else { continue };
            let sudog = Sudog::parse(self.layout, bytes).filter(|sudog| root_of(sudog.address) == step.tree);
            // A root knows how many it has: so nothing goes round.
            let is_one_more = tree.found.len() < tree.root.waiters as usize && self.left > 0;
            let Some(sudog) = sudog.filter(|_| is_one_more) else {
                tree.is_torn = true;
                continue;
            };
            let queue = match step.from {
                From::Parent(parent) => {
                    tree.is_torn |= sudog.parent != parent;
                    let children = sudog.children.into_iter().filter(|&child| child != 0);
                    steps.extend(children.map(|child| Step {
                        tree: step.tree,
                        sudog: child,
                        from: From::Parent(step.sudog),
                    }));
                    tree.lengths.push(0);
                    tree.lengths.len() as u32 - 1
                }
                From::Queue(queue, address) if address == sudog.address => queue,
                From::Queue(..) => {
                    tree.is_torn = true;
                    continue;
                }
            };
            self.left -= 1;
            let Some(place) = tree.lengths.get_mut(queue as usize) else { continue };
            *place += 1;
            let place = *place;
            tree.found.push(Found { g: sudog.g, sudog: step.sudog, address: sudog.address, queue, place });
            if sudog.behind != 0 {
                steps.push(Step { tree: step.tree, sudog: sudog.behind, from: From::Queue(queue, sudog.address) });
            }
        }
    }
}

/// Parts of the target's memory, many of which are read by one system call.
#[derive(Debug)]
struct Pages {
    bytes: Vec<u8>,
    /// Where in `bytes` the part that begins at an address lies, and how much of it could be read.
    places: HashMap<u64, (usize, usize)>,
    /// How many may still be read.
    left: usize,
}

impl Pages {
    fn new(left: usize) -> Self {
        Self { bytes: Vec::new(), places: HashMap::new(), left }
    }

    fn clear(&mut self) {
        self.places.clear();
        self.bytes.clear();
    }

    /// Reads what lies around some addresses, [`FETCHED`] at most, unless it is there.
    fn fetch(&mut self, memory: &dyn Memory, addresses: impl Iterator<Item = u64> + Clone) {
        if self.places.len() + FETCHED > KEPT {
            self.clear();
        }
        let start = |address: u64| address - address % PAGE as u64;
        let mut wanted: Vec<u64> = addresses.map(start).filter(|start| !self.places.contains_key(start)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let read = wanted.len().min(self.left);
        self.left -= read;
        let pieces: Vec<Piece> = wanted.iter().take(read).map(|&address| Piece { address, len: PAGE }).collect();
        let begin = self.bytes.len();
        self.bytes.resize(begin + read * PAGE, 0);
        let lengths = memory.read_all(&pieces, self.bytes.get_mut(begin..).unwrap_or_default());
        // What is not read any more is there, and empty.
        let lengths = lengths.into_iter().chain(std::iter::repeat(0));
        self.places.extend(wanted.into_iter().zip((begin..).step_by(PAGE).zip(lengths)));
    }

    /// What can be read of a `sudog`; `None` if its page was not fetched.
    fn get(&self, address: u64) -> Option<&[u8]> {
        let at = (address % PAGE as u64) as usize;
        let &(begin, len) = self.places.get(&(address - at as u64))?;
        Some(self.bytes.get(begin + at..begin + len).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;
    use crate::go::{
        Runtime,
        goroutines::semtable::tests::{TABLE, VERSIONS, g, put, root, runtime, sudog, waiter},
        memory::fake::Fake,
    };

    /// Two that are at the same root, and one that is not.
    const A: u64 = 0xc0_0000_1004;
    const B: u64 = A + 8 * semtable::ROOTS as u64;
    const C: u64 = A + 8;

    /// At A wait 0, 1 and 2, at B 3, at C 4.
    fn crowd(version: &str) -> (Runtime, Fake) {
        let (runtime, mut memory) = runtime(version);
        for (n, address) in [(0, A), (1, A), (2, A), (3, B), (4, C)] {
            waiter(&mut memory, &runtime, n, address);
        }
        let layout = &runtime.layout.sudog;
        for (n, offset, to) in
            [(0, layout.waitlink, 1), (1, layout.waitlink, 2), (0, layout.next, 3), (3, layout.parent, 0)]
        {
            put(&mut memory, layout, n, offset, sudog(to));
        }
        root(&mut memory, A, sudog(0), 4);
        root(&mut memory, C, sudog(4), 1);
        (runtime, memory)
    }

    fn read(runtime: &Runtime, memory: &dyn Memory) -> Queues {
        let mut queues = Queues::default();
        queues.read(&runtime.layout.sudog, memory, TABLE, 16);
        queues
    }

    fn waiting(n: u64, address: u64, place: u32, waiters: u32) -> Option<Waiting> {
        Some(Waiting { sudog: sudog(n), address, place: Some(QueuePlace { place, waiters }) })
    }

    #[test]
    fn each_has_its_address_and_its_place() {
        for version in VERSIONS {
            let (runtime, memory) = crowd(version);
            let queues = read(&runtime, &memory);
            for (n, address, place, waiters) in [(0, A, 1, 3), (1, A, 2, 3), (2, A, 3, 3), (3, B, 1, 1), (4, C, 1, 1)] {
                assert_eq!(queues.of(g(n)), waiting(n, address, place, waiters), "{version}: {n}");
            }
            assert_eq!(queues.waiting.len(), 5, "{version}");
        }
    }

    #[test]
    fn a_queue_over_many_pages_is_read_in_few_calls() {
        /// Counts the calls.
        struct Counting(Fake, Cell<usize>);
        impl Memory for Counting {
            fn read(&self, address: u64, into: &mut [u8]) -> usize {
                self.1.update(|calls| calls + 1);
                self.0.read(address, into)
            }
        }
        let (runtime, mut memory) = runtime("go1.24.11");
        let layout = &runtime.layout.sudog;
        for n in 0..500 {
            waiter(&mut memory, &runtime, n, A);
            put(&mut memory, layout, n, layout.waitlink, if n < 499 { sudog(n + 1) } else { 0 });
        }
        root(&mut memory, A, sudog(0), 500);
        let memory = Counting(memory, Cell::new(0));
        let queues = read(&runtime, &memory);
        assert_eq!(queues.of(g(499)), waiting(499, A, 500, 500));
        assert!(memory.1.get() <= 10, "{}", memory.1.get());
    }

    #[test]
    fn what_changed_meanwhile_has_no_place() {
        let without = |memory: &Fake, runtime: &Runtime, n: u64, address: u64| {
            let found = read(runtime, memory).of(g(n));
            assert_eq!(found, Some(Waiting { sudog: sudog(n), address, place: None }), "{n}");
            assert_eq!(read(runtime, memory).of(g(4)), waiting(4, C, 1, 1), "another root");
        };
        let (runtime, memory) = crowd("go1.24.11");
        let layout = &runtime.layout.sudog;
        // The root has more, or fewer.
        for count in [3, 5, 1000] {
            let mut other = memory.clone();
            root(&mut other, A, sudog(0), count);
            without(&other, &runtime, 0, A);
        }
        // One was woken and waits elsewhere.
        let mut gone = memory.clone();
        put(&mut gone, layout, 1, layout.elem, C);
        without(&gone, &runtime, 0, A);
        assert_eq!(read(&runtime, &gone).of(g(1)), None);
        // One was woken.
        let mut woken = memory.clone();
        put(&mut woken, layout, 3, layout.elem, 0);
        without(&woken, &runtime, 2, A);
        // One is in a queue of a channel.
        let mut sends = memory.clone();
        put(&mut sends, layout, 3, layout.c, 0xc0_0000_0000);
        without(&sends, &runtime, 2, A);
        // The tree was turned.
        let mut turned = memory;
        put(&mut turned, layout, 3, layout.parent, sudog(2));
        without(&turned, &runtime, 2, A);
    }

    #[test]
    fn one_that_changes_is_read_again() {
        /// Memory whose root has another number until it was read so often.
        struct Settling(Fake, Fake, Cell<u32>);
        impl Memory for Settling {
            fn read(&self, address: u64, into: &mut [u8]) -> usize {
                self.2.update(|reads| reads + u32::from(address == TABLE));
                if self.2.get() <= 3 { self.0.read(address, into) } else { self.1.read(address, into) }
            }
        }
        let (runtime, settled) = crowd("go1.21.13");
        let mut before = settled.clone();
        root(&mut before, A, sudog(0), 5);
        let queues = read(&runtime, &Settling(before, settled, Cell::new(0)));
        assert_eq!(queues.of(g(2)), waiting(2, A, 3, 3));
        assert_eq!(queues.of(g(4)), waiting(4, C, 1, 1));
    }

    #[test]
    fn only_what_changes_is_read_once_more() {
        let (runtime, mut memory) = crowd("go1.24.11");
        let layout = &runtime.layout.sudog;
        let mut queues = read(&runtime, &memory);
        // 1 has left and 5 has come: the root is the same.
        waiter(&mut memory, &runtime, 5, A);
        for (n, offset, to) in [(0, layout.waitlink, 2), (2, layout.waitlink, 5)] {
            put(&mut memory, layout, n, offset, sudog(to));
        }
        queues.read_restless(layout, &memory, TABLE, 16);
        assert_eq!(queues.of(g(5)), None, "nothing was seen to change");
        queues.read(layout, &memory, TABLE, 16);
        assert_eq!([1, 5].map(|n| queues.of(g(n))), [None, waiting(5, A, 3, 3)]);
        // The same with the next one, and another root, too.
        waiter(&mut memory, &runtime, 6, A);
        for (n, offset, to) in [(0, layout.waitlink, 5), (5, layout.waitlink, 6)] {
            put(&mut memory, layout, n, offset, sudog(to));
        }
        waiter(&mut memory, &runtime, 7, C);
        root(&mut memory, C, sudog(7), 1);
        queues.read_restless(layout, &memory, TABLE, 16);
        assert_eq!([6, 7, 4].map(|n| queues.of(g(n))), [waiting(6, A, 3, 3), None, waiting(4, C, 1, 1)]);
    }

    #[test]
    fn circles_come_to_an_end() {
        let (runtime, memory) = crowd("go1.27.3");
        let layout = &runtime.layout.sudog;
        for (n, offset, to) in [(2, layout.waitlink, 0), (3, layout.prev, 0), (3, layout.next, 3), (0, layout.prev, 0)]
        {
            let mut circle = memory.clone();
            put(&mut circle, layout, n, offset, sudog(to));
            for waiters in [4, 5, 1000, u64::from(u32::MAX)] {
                root(&mut circle, A, sudog(0), waiters);
                let queues = read(&runtime, &circle);
                assert_eq!(queues.of(g(0)).and_then(|waiting| waiting.place), None, "{waiters}");
                assert_eq!(queues.of(g(4)), waiting(4, C, 1, 1), "{waiters}");
            }
        }
    }

    #[test]
    fn a_sudog_that_is_cut_short_is_none() {
        for version in VERSIONS {
            let (runtime, memory) = crowd(version);
            let layout = &runtime.layout.sudog;
            let mut bytes = vec![0; layout.size.into()];
            memory.read(sudog(0), &mut bytes);
            let whole = Sudog::parse(layout, &bytes);
            assert!(whole.is_some());
            for len in 0..bytes.len() {
                let cut = Sudog::parse(layout, &bytes[..len]);
                assert!(cut.is_none() || cut == whole, "{version}: {len} bytes");
            }
            // Where memory ends within one, all others of other roots are found.
            for len in 0..5 * 128 {
                let mut cut = memory.clone();
                cut.0.iter_mut().filter(|(start, _)| *start == sudog(0)).for_each(|(_, bytes)| bytes.truncate(len));
                let queues = read(&runtime, &cut);
                assert!(queues.of(g(4)).is_none() || len > 4 * 128, "{version}: {len} bytes");
                assert!(queues.waiting.len() <= len / 80, "{version}: {len} bytes");
            }
        }
    }

    proptest! {
        /// Whatever is where the waiters are: it comes to an end, and nothing is found that no root leads to.
        #[test]
        fn hostile_trees_are_survived(
            words in prop::collection::vec(
                prop_oneof![any::<u64>(), Just(0), (0..40u64).prop_map(sudog), Just(A), Just(B)],
                40 * 16,
            ),
            waiters in prop_oneof![0..100u64, Just(u64::from(u32::MAX))],
        ) {
            let (runtime, mut memory) = crowd("go1.24.11");
            (0..40).zip(words.chunks(16)).for_each(|(n, words)| memory.put(sudog(n), words));
            root(&mut memory, A, sudog(0), waiters);
            let queues = read(&runtime, &memory);
            prop_assert!(queues.waiting.len() <= 16 + SLACK);
        }
    }
}
