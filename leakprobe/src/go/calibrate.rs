//! Whether the layout that the table has is that of the live process, and which it is if the table does not know.
//!
//! Two offsets tell where all fields of a `g` lie that are read: that of its status and that of its function's entry. Both can be
//! found out from the goroutines that there are:
//!
//! - `startpc`: nearly all goroutines hold the exact entry of a function there. No other field does.
//! - `atomicstatus`: nearly all hold one of a dozen numbers there, behind it one that no other goroutine holds (`goid`), and a bit
//!   further the number of a reason. One of the goroutines has the id 1.
//!
//! Everything else follows by relations that hold in all versions of the table, see `layout.rs`.

use std::{collections::HashSet, ops::RangeInclusive};

use super::{
    layout::{Layout, Offset},
    memory::{field, word_at},
};

/// Where `startpc` may lie.
const STARTPC: RangeInclusive<Offset> = 256..=384;
/// Where `atomicstatus` may lie.
const STATUS: RangeInclusive<Offset> = 120..=192;
/// Bytes of a goroutine that are looked at.
pub(super) const LOOKED_AT: usize = 400;
/// From so many goroutines on, it counts as an answer that an offset does not fit.
const ENOUGH: usize = 3;
/// The bit of a status that says that the collector looks at the goroutine.
const SCAN: u32 = 0x1000;
/// The largest status: `_Gdeadextra` of Go 1.26.
const MAX_STATUS: u32 = 11;
/// Goroutine ids are counted from one; no process gets that far.
const MAX_GOID: u64 = 1 << 48;

/// What the goroutines say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The layout holds.
    Holds,
    /// There are too few goroutines to say.
    Unsure,
    /// The fields lie elsewhere: where `atomicstatus` and `startpc` do.
    Moved(Offset, Offset),
    /// The layout does not hold, and no other one does.
    Broken,
}

/// Looks at some goroutines, each with [`LOOKED_AT`] bytes or as many as could be read. `reasons` is the number of reasons that
/// there are, 0 if it is unknown.
pub(super) fn check(
    goroutines: &[Vec<u8>],
    layout: &Layout,
    is_entry: impl Fn(u64) -> bool,
    reasons: usize,
) -> Verdict {
    let has_entry = |offset: Offset| {
        // Those that wait for calls from C have no function.
        let entries = goroutines.iter().filter_map(|bytes| word_at(bytes, offset).filter(|entry| *entry != 0));
        share(&entries.collect::<Vec<_>>(), |entry| is_entry(*entry))
    };
    let has_status = |offset: Offset| {
        let mut seen = HashSet::new();
        share(goroutines, |bytes| {
            let goid = word_at(bytes, offset + 8).unwrap_or(0);
            is_status(bytes, offset, reasons) && (1..MAX_GOID).contains(&goid) && seen.insert(goid)
        })
    };
    let (status, startpc) = (layout.g.atomicstatus, layout.g.startpc);
    if has_status(status) && has_entry(startpc) {
        return Verdict::Holds;
    }
    let only = |range: RangeInclusive<Offset>, fits: &dyn Fn(Offset) -> bool| {
        let mut fitting = range.step_by(8).filter(|&offset| fits(offset));
        fitting.next().filter(|_| fitting.next().is_none())
    };
    let enough = goroutines.len() >= ENOUGH;
    // Other fields may look like that, too. But there is a first goroutine.
    let is_first = |bytes: &Vec<u8>, offset: Offset| word_at(bytes, offset + 8) == Some(1);
    let is_certain = |offset: Offset| has_status(offset) && goroutines.iter().any(|bytes| is_first(bytes, offset));
    match (only(STATUS, &is_certain), only(STARTPC, &has_entry)) {
        (Some(status), Some(startpc)) if enough => Verdict::Moved(status, startpc),
        _ if enough => Verdict::Broken,
        _ => Verdict::Unsure,
    }
}

/// Whether something holds for nearly all, since goroutines come and go while they are read.
fn share<T>(of: &[T], holds: impl FnMut(&T) -> bool) -> bool {
    let count = of.iter().map(holds).filter(|holds| *holds).count();
    !of.is_empty() && 4 * count >= 3 * of.len()
}

fn is_status(bytes: &[u8], offset: Offset, reasons: usize) -> bool {
    let status = field(bytes, offset).map(u32::from_le_bytes);
    let reason = field(bytes, offset + 32).map(u8::from_le_bytes);
    let is_reason = |reason: u8| usize::from(reason) < if reasons == 0 { 64 } else { reasons };
    status.is_some_and(|status| status & !SCAN <= MAX_STATUS) && reason.is_some_and(is_reason)
}

#[cfg(test)]
mod tests {
    use super::{super::Version, *};

    const ENTRY: u64 = 0x40_1000;

    fn layout(version: &str) -> Layout {
        Layout::of(&Version::parse(version).unwrap()).unwrap()
    }

    /// Goroutines as they lie in memory by `layout`, all waiting.
    fn goroutines(layout: &Layout, count: u64) -> Vec<Vec<u8>> {
        let one = |goid: u64| {
            let mut bytes = vec![0; LOOKED_AT];
            let mut put =
                |offset: Offset, value: u64| bytes[offset.into()..][..8].copy_from_slice(&value.to_le_bytes());
            put(layout.g.stack_lo, 0xc0_0000_0000 + goid * 0x1000);
            put(layout.g.stack_hi, 0xc0_0000_0800 + goid * 0x1000);
            put(layout.g.atomicstatus, 4);
            put(layout.g.goid, goid);
            put(layout.g.waitreason, 14);
            put(layout.g.gopc, ENTRY + 0x123);
            put(layout.g.startpc, ENTRY);
            bytes
        };
        (1..=count).map(one).collect()
    }

    fn verdict(goroutines: &[Vec<u8>], layout: &Layout) -> Verdict {
        check(goroutines, layout, |pc| pc == ENTRY, 40)
    }

    #[test]
    fn a_layout_holds_for_its_own_goroutines_however_few() {
        for version in ["go1.19.8", "go1.20", "go1.21.13", "go1.22.10", "go1.23.9", "go1.24.11", "go1.25.5", "go1.27.3"]
        {
            for count in [1, 2, 5, 200] {
                let layout = layout(version);
                assert_eq!(verdict(&goroutines(&layout, count), &layout), Verdict::Holds, "{version}, {count}");
            }
        }
    }

    #[test]
    fn a_layout_that_does_not_hold_is_found_out_and_the_right_one_told() {
        let (real, taken) = (layout("go1.24.11"), layout("go1.27.3"));
        let moved = Verdict::Moved(real.g.atomicstatus, real.g.startpc);
        assert_eq!(verdict(&goroutines(&real, 5), &taken), moved);
        assert_eq!(verdict(&goroutines(&real, 2), &taken), Verdict::Unsure, "two are too few to say so");
        assert_eq!(verdict(&vec![vec![0x41; LOOKED_AT]; 9], &taken), Verdict::Broken);
        assert_eq!(verdict(&[], &taken), Verdict::Unsure);
    }

    #[test]
    fn goroutines_that_come_and_go_do_not_spoil_it() {
        let layout = layout("go1.26.6");
        let mut all = goroutines(&layout, 20);
        for goroutine in all.iter_mut().take(4) {
            goroutine.fill(0xee);
        }
        assert_eq!(verdict(&all, &layout), Verdict::Holds);
        // Those that wait for calls from C, which may be most, have no function.
        let mut all = goroutines(&layout, 20);
        for goroutine in all.iter_mut().take(18) {
            goroutine[layout.g.startpc.into()..][..8].fill(0);
        }
        assert_eq!(verdict(&all, &layout), Verdict::Holds);
    }

    #[test]
    fn goroutines_that_are_cut_short_are_no_answer() {
        let layout = layout("go1.26.6");
        for len in 0..LOOKED_AT {
            let cut: Vec<_> = goroutines(&layout, 5).iter().map(|goroutine| goroutine[..len].to_vec()).collect();
            let needed = usize::from(layout.g.startpc) + 8;
            assert_eq!(verdict(&cut, &layout) == Verdict::Holds, len >= needed, "{len} bytes");
        }
    }
}
