//! Where the runtime keeps its list of all threads: `runtime.allm`, the head of a linked list.
//!
//! Each `m` is told by its `g0`, which points back to it; the list is the longest chain of such, since all other lists of
//! threads are parts of it. Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/proc.go> (`allm`, `mCommonInit`)

use std::{
    collections::HashSet,
    ops::{ControlFlow, Range},
};

use super::{
    layout::{Layout, Offset},
    memory::Words,
    mentions::Mentions,
};

/// Most threads of a list that are followed.
const MAX_THREADS: usize = 1 << 16;
/// Most words that are looked at.
const MAX_WORDS: usize = 1 << 18;
/// Most heads of lists whose chain is followed.
const MAX_HEADS: usize = 256;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AllM {
    /// Address of the list's head.
    pub(super) address: u64,
    /// Offset of the link.
    pub(super) alllink: Offset,
    /// The list.
    pub(super) threads: Vec<u64>,
}

/// The function that adds to the list, and works on no other.
pub(super) const ADDS: &str = "runtime.mcommoninit";

/// Looks for the list in the data with pointers; `links` are the offsets at which the link may lie, `mentions` what the function
/// [`ADDS`] works on.
pub(super) fn find(
    memory: &impl Words,
    bss: &Range<u64>,
    layout: &Layout,
    links: &[Offset],
    mentions: &Mentions,
) -> Option<AllM> {
    let mut words = Vec::new();
    memory.scan(bss, |address, &[word]| {
        if word != 0 && word.is_multiple_of(8) {
            words.push((address, word));
        }
        if words.len() < MAX_WORDS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let distinct: HashSet<u64> = words.iter().map(|(_, word)| *word).collect();
    let heads = threads_among(memory, distinct.into_iter().collect(), layout);
    let mut best: Option<(Vec<u64>, Offset)> = None;
    for &head in heads.iter().take(MAX_HEADS) {
        for &link in links {
            let chain = chain(memory, head, link, layout).unwrap_or_default();
            if chain.len() > best.as_ref().map_or(0, |(best, _)| best.len()) {
                best = Some((chain, link));
            }
        }
    }
    let (threads, alllink) = best?;
    let head = threads.first()?;
    // Other lists may begin with the same thread: of idle ones, of those for calls from C.
    let mut holders = words.iter().filter(|(_, word)| word == head).map(|(address, _)| *address);
    let named = holders.clone().find(|&holder| mentions.has(holder));
    let address = named.or_else(|| holders.find(|&holder| !is_idle_list(memory, holder, threads.len())))?;
    Some(AllM { address, alllink, threads })
}

/// Those of some addresses at which an `m` lies.
fn threads_among(memory: &impl Words, addresses: Vec<u64>, layout: &Layout) -> Vec<u64> {
    let g0s: Vec<u64> = addresses.iter().map(|address| address.wrapping_add(layout.m.g0.into())).collect();
    let g0s = memory.each_word(&g0s);
    let candidates =
        addresses.into_iter().zip(g0s).filter_map(|(address, g0)| Some((address, g0.filter(|g0| *g0 != 0)?)));
    let (addresses, backs): (Vec<u64>, Vec<u64>) =
        candidates.map(|(address, g0)| (address, g0.wrapping_add(layout.g.m.into()))).unzip();
    let backs = memory.each_word(&backs);
    addresses
        .into_iter()
        .zip(backs)
        .filter(|(address, back)| *back == Some(*address))
        .map(|(address, _)| address)
        .collect()
}

/// The chain from `head` on; `None` if it does not end, or leads to what is no `m`.
fn chain(memory: &impl Words, head: u64, link: Offset, layout: &Layout) -> Option<Vec<u64>> {
    let mut chain = Vec::new();
    let mut seen = HashSet::new();
    let mut at = head;
    while at != 0 {
        if chain.len() == MAX_THREADS || !seen.insert(at) {
            return None;
        }
        let g0 = memory.word(at.checked_add(layout.m.g0.into())?)?;
        if memory.word(g0.checked_add(layout.g.m.into())?)? != at {
            return None;
        }
        chain.push(at);
        at = memory.word(at.checked_add(link.into())?)?;
    }
    Some(chain)
}

/// Whether this is the head of the list of idle threads, which may be the same thread: `sched.midle`, behind which lie the number of
/// idle threads and that of all threads that there ever were.
fn is_idle_list(memory: &impl Words, holder: u64, threads: usize) -> bool {
    let Some([idle, ever]) = holder.checked_add(8).and_then(|behind| memory.words(behind)) else {
        return false;
    };
    let idle = idle & u64::from(u32::MAX);
    ever >= threads as u64 && ever < 1 << 32 && (1..=ever).contains(&idle)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Version, memory::fake::Fake},
        *,
    };

    const BSS: Range<u64> = 0x1000..0x2000;
    const LINKS: [Offset; 2] = [328, 352];

    fn layout() -> Layout {
        Layout::of(&Version::parse("go1.24.11").unwrap()).unwrap()
    }

    /// In a program whose names were made unreadable.
    fn find(memory: &Fake, links: &[Offset]) -> Option<AllM> {
        super::find(memory, &BSS, &layout(), links, &Mentions::default())
    }

    fn thread(index: u64) -> u64 {
        0x1_0000 + index * 0x1000
    }

    /// Five threads, the newest of which is the first of the list; the idle ones are linked eight bytes further.
    fn memory() -> Fake {
        let mut memory = Fake(vec![(0x1000, vec![0; 0x1000]), (0x1_0000, vec![0; 0x1_0000])]);
        for index in 0..5 {
            let (m, g0) = (thread(index), thread(index) + 0x800);
            memory.put(m, &[g0]);
            memory.put(g0 + u64::from(layout().g.m), &[m]);
            memory.put(m + 352, &[if index == 0 { 0 } else { thread(index - 1) }]);
            memory.put(m + 360, &[if index < 3 { 0 } else { thread(index - 1) }]);
        }
        // sched.midle, with the same thread at its head: 3 idle ones of 5.
        memory.put(0x1200, &[thread(4), 3, 5]);
        memory.put(0x1a00, &[thread(4)]);
        memory
    }

    #[test]
    fn the_list_of_all_threads_is_told_from_that_of_idle_ones() {
        let found = find(&memory(), &LINKS).unwrap();
        assert_eq!((found.address, found.alllink), (0x1a00, 352));
        assert_eq!(found.threads, (0..5).rev().map(thread).collect::<Vec<_>>());
    }

    #[test]
    fn of_several_lists_with_the_same_head_that_is_taken_to_which_the_runtime_adds() {
        let mut memory = memory();
        // runtime.extraM
        memory.put(0x1800, &[thread(4)]);
        // movq 0x1a00, %rax, at 0x800
        let mentions = Mentions::in_code(&[0x48, 0x8b, 0x05, 0xf9, 0x11, 0, 0], 0x800, &BSS);
        assert_eq!(super::find(&memory, &BSS, &layout(), &LINKS, &mentions).unwrap().address, 0x1a00);
    }

    #[test]
    fn a_link_that_is_not_known_is_found() {
        let links: Vec<_> = (256..=512).step_by(8).collect();
        assert_eq!(find(&memory(), &links).unwrap().alllink, 352);
    }

    #[test]
    fn a_list_that_goes_round_or_astray_is_none() {
        let mut round = memory();
        round.put(thread(0) + 352, &[thread(4)]);
        round.put(thread(0) + 328, &[thread(0)]);
        let found = find(&round, &[352]);
        assert_eq!(found, None);
        let mut astray = memory();
        astray.put(thread(2) + 352, &[0xdead_0000]);
        assert_eq!(find(&astray, &[352]), None);
        assert_eq!(find(&Fake::default(), &LINKS), None);
    }
}
