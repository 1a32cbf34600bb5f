//! What is parked in one recording and not in another, by site.
//!
//! Sites are matched by their ids, which are made from functions and modules alone, so that the two recordings may be of
//! different processes. What cannot be told from the two is never told as "no more": see [`Outcome`].

use std::collections::{BTreeMap, HashMap};

use super::call_path::{self, CallPaths};
use crate::model::{Loss, Recording, Role, Site, TaskKind, WaitKind};

/// Losses that may hide a parked task. Of others it is known at which site the task is, or that it was not parked.
pub(super) const HIDING: &[Loss] = &[
    Loss::GoroutineLeftOut,
    Loss::GoroutineListUnreadable,
    Loss::GoroutineUnreadable,
    Loss::SitesNotListed,
    Loss::TaskUnreadable,
];

/// One of the two recordings, with those of its sites that are compared.
#[derive(Clone, Debug)]
pub struct Side<'a> {
    /// The recording.
    pub recording: &'a Recording,
    /// Its sites.
    pub sites: Vec<&'a Site>,
}

/// Tasks at a site of one recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Tasks that waited there.
    pub count: u64,
    /// Of them parked; of the others it is not known for how long they have waited.
    pub parked: u64,
    /// Age of the oldest wait, ms.
    pub oldest_ms: u64,
    /// Whether that age is exact.
    pub oldest_exact: bool,
}

/// How a site's number changed, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Nothing was there before, and now something is parked.
    New,
    /// More are parked than waited there before.
    Grown,
    /// There may be more: of some it is not known for how long they have waited.
    Unclear,
    /// Fewer wait there.
    Fewer,
    /// None waits there any more.
    Gone,
    /// As many as before.
    Same,
}

impl Change {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Grown => "grown",
            Self::Unclear => "unclear",
            Self::Fewer => "fewer",
            Self::Gone => "gone",
            Self::Same => "same",
        }
    }

    fn of(before: Numbers, after: Numbers) -> Self {
        if after.parked > before.count {
            return if before.count == 0 { Self::New } else { Self::Grown };
        }
        if after.count > before.count || after.parked > before.parked {
            Self::Unclear
        } else if after.count == 0 {
            Self::Gone
        } else if after.count < before.count {
            Self::Fewer
        } else {
            Self::Same
        }
    }
}

/// A site in both recordings.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// Its id.
    pub id: &'a str,
    /// In the first recording.
    pub before: Numbers,
    /// In the second one.
    pub after: Numbers,
    /// How the numbers changed.
    pub change: Change,
    /// The site in the first recording, if it is there; the largest one if there are several that differ only in lines.
    pub was: Option<&'a Site>,
    /// The site in the second one, likewise.
    pub is: Option<&'a Site>,
    /// Whether sites with other creators were taken together, since one of the recordings does not know the creators.
    pub creators_unknown: bool,
}

impl Row<'_> {
    /// How many more are parked than waited there before; 0 if there are not more.
    #[must_use]
    pub fn more(&self) -> u64 {
        self.after.parked.saturating_sub(self.before.count)
    }

    /// How many fewer wait there.
    #[must_use]
    pub fn fewer(&self) -> u64 {
        self.before.count.saturating_sub(self.after.count)
    }
}

/// What the comparison came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// More is parked than before at one site at least.
    More,
    /// At no site is more parked than before.
    NoMore,
    /// The recordings do not tell.
    Incomplete,
}

impl Outcome {
    /// Its name in recordings of a comparison.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::More => "more",
            Self::NoMore => "no more",
            Self::Incomplete => "incomplete",
        }
    }
}

/// Two recordings compared.
#[derive(Clone, Debug)]
pub struct Diff<'a> {
    /// Every site of either, those with most more first.
    pub rows: Vec<Row<'a>>,
    /// What it came to.
    pub outcome: Outcome,
    /// Why it is [`Outcome::Incomplete`], one clause each; empty if it is not.
    pub reasons: Vec<String>,
    /// What else makes the two hard to compare, one clause each.
    pub notes: Vec<String>,
}

impl Diff<'_> {
    /// How many more are parked, at the sites where there are more.
    #[must_use]
    pub fn more(&self) -> u64 {
        self.rows.iter().map(Row::more).fold(0, u64::saturating_add)
    }

    /// How many fewer wait, at the sites where there are fewer.
    #[must_use]
    pub fn fewer(&self) -> u64 {
        self.rows.iter().map(Row::fewer).fold(0, u64::saturating_add)
    }

    /// How many sites changed in that way.
    #[must_use]
    pub fn sites(&self, change: Change) -> usize {
        self.rows.iter().filter(|row| row.change == change).count()
    }
}

/// Compares two recordings: what is parked in `after` and not in `before`.
#[must_use]
pub fn diff<'a>(before: &Side<'a>, after: &Side<'a>) -> Diff<'a> {
    let mut places: BTreeMap<Place, BTreeMap<&'a str, Pair<'a>>> = BTreeMap::new();
    let mut numbers = call_path::Numbers::default();
    let paths = Paths::of(before.recording, &mut numbers);
    for &site in &before.sites {
        let pairs = places.entry(Place::of(site, &paths)).or_default();
        pairs.entry(&site.id).or_default().before.push(site);
    }
    let paths = Paths::of(after.recording, &mut numbers);
    for &site in &after.sites {
        let pairs = places.entry(Place::of(site, &paths)).or_default();
        pairs.entry(&site.id).or_default().after.push(site);
    }
    let mut rows: Vec<Row<'a>> = places.into_values().flat_map(rows).collect();
    rows.sort_by_key(|row| {
        let oldest = row.after.oldest_ms.max(row.before.oldest_ms);
        let by = row.more().max(row.fewer());
        (row.change, u64::MAX - by, u64::MAX - row.after.count.max(row.before.count), u64::MAX - oldest, row.id)
    });
    let more = rows.iter().map(Row::more).fold(0, u64::saturating_add);
    let unclear = rows.iter().filter(|row| row.change == Change::Unclear).count();
    let (outcome, reasons) = judge(before.recording, after.recording, more, unclear);
    Diff { rows, outcome, reasons, notes: notes(before.recording, after.recording) }
}

/// The paths of a recording's stacks, by what can be compared with those of another one.
struct Paths<'a> {
    paths: CallPaths<'a>,
    /// The number of each function.
    numbers: HashMap<u32, u32>,
}

impl<'a> Paths<'a> {
    fn of(recording: &'a Recording, numbers: &mut call_path::Numbers<'a>) -> Self {
        let paths = CallPaths::of(recording);
        Self { numbers: numbers.of(&paths), paths }
    }

    fn path(&self, stack: &[u32]) -> Vec<u32> {
        self.paths.path(stack).iter().filter_map(|place| self.numbers.get(place).copied()).collect()
    }
}

/// Where tasks wait, whoever created them.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Numbers of functions.
    path: Vec<u32>,
    kind: WaitKind,
    task: TaskKind,
    role: Role,
}

impl Place {
    fn of(site: &Site, paths: &Paths<'_>) -> Self {
        Self { path: paths.path(&site.stack), kind: site.kind, task: site.task, role: site.role }
    }
}

/// The sites of one id in both recordings.
#[derive(Default)]
struct Pair<'a> {
    before: Vec<&'a Site>,
    after: Vec<&'a Site>,
}

impl<'a> Pair<'a> {
    fn row(self, id: &'a str, creators_unknown: bool) -> Row<'a> {
        let (before, after) = (numbers(&self.before), numbers(&self.after));
        let largest = |sites: Vec<&'a Site>| sites.into_iter().rev().max_by_key(|site| site.count);
        let (was, is) = (largest(self.before), largest(self.after));
        Row { id, before, after, change: Change::of(before, after), was, is, creators_unknown }
    }

    fn is_more(&self) -> bool {
        numbers(&self.after).count > numbers(&self.before).count
    }

    fn is_fewer(&self) -> bool {
        numbers(&self.after).count < numbers(&self.before).count
    }

    fn creator_is_unknown(&self) -> bool {
        self.before.iter().chain(&self.after).any(|site| site.creation.is_empty())
    }
}

fn numbers(sites: &[&Site]) -> Numbers {
    let mut sum = Numbers { oldest_exact: true, ..Numbers::default() };
    for site in sites {
        // What only came and waits for a moment may be gone in the next.
        sum.count = sum.count.saturating_add(site.count.saturating_sub(site.brief));
        sum.parked = sum.parked.saturating_add(site.parked.min(site.count));
        if (site.oldest_ms, site.oldest_exact) >= (sum.oldest_ms, sum.oldest_exact) || sum.oldest_ms == 0 {
            (sum.oldest_ms, sum.oldest_exact) = (site.oldest_ms, site.oldest_exact);
        }
    }
    sum
}

/// The rows of all sites at one place. Who created a task is known only if it was created while watched: then what seems gone
/// from a site without creator may be what seems new at one with a creator, and they are taken together.
fn rows<'a>(pairs: BTreeMap<&'a str, Pair<'a>>) -> Vec<Row<'a>> {
    let changed = || pairs.values().filter(|pair| pair.is_more() || pair.is_fewer());
    let moved = pairs.values().any(Pair::is_more) && pairs.values().any(Pair::is_fewer);
    if !(moved && changed().any(Pair::creator_is_unknown)) {
        return pairs.into_iter().map(|(id, pair)| pair.row(id, false)).collect();
    }
    let (changed, same): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(_, pair)| pair.is_more() || pair.is_fewer());
    let mut rows: Vec<Row<'a>> = same.into_iter().map(|(id, pair)| pair.row(id, false)).collect();
    let largest = changed.iter().max_by_key(|(_, pair)| numbers(&pair.after).count).map(|&(id, _)| id);
    let mut together = Pair::default();
    for (_, pair) in changed {
        together.before.extend(pair.before);
        together.after.extend(pair.after);
    }
    rows.extend(largest.map(|id| together.row(id, true)));
    rows
}

fn judge(before: &Recording, after: &Recording, more: u64, unclear: usize) -> (Outcome, Vec<String>) {
    let mut reasons = Vec::new();
    let hidden = |recording: &Recording| {
        let losses = HIDING.iter().filter_map(|loss| recording.losses.get(loss));
        losses.fold(0_u64, |sum, &n| sum.saturating_add(n))
    };
    let mut look = |recording: &Recording, which: &str| {
        if recording.coverage.snapshots == 0 {
            reasons.push(format!("the {which} recording holds no snapshot"));
        }
        if recording.coverage.go.is_none() && recording.target.runtime.contains("go1") {
            reasons.push(format!("the {which} recording does not tell of goroutines: they could not be read"));
        }
    };
    let is_more = more > 0;
    // What was not seen before makes more of it afterwards; what is not seen afterwards hides that there is more.
    if is_more {
        look(before, "first");
        if hidden(before) >= more {
            reasons.push("as many tasks may have been parked before without being seen".to_owned());
        }
        if before.min_block_ms > after.min_block_ms {
            reasons.push(
                "the first recording counts only longer waits as parked: record both with the same -m".to_owned(),
            );
        }
    } else {
        look(after, "second");
        if hidden(after) > 0 {
            reasons.push("tasks of the second recording were not seen, and may be parked".to_owned());
        }
        if after.min_block_ms > before.min_block_ms {
            reasons.push(
                "the second recording counts only longer waits as parked: record both with the same -m".to_owned(),
            );
        }
        if unclear > 0 {
            let sites = if unclear == 1 { "1 site".to_owned() } else { format!("{unclear} sites") };
            reasons.push(format!(
                "there may be more at {sites}: for how long some tasks wait is not known; watch for longer than the threshold"
            ));
        }
    }
    match (reasons.is_empty(), is_more) {
        (false, _) => (Outcome::Incomplete, reasons),
        (true, true) => (Outcome::More, reasons),
        (true, false) => (Outcome::NoMore, reasons),
    }
}

fn notes(before: &Recording, after: &Recording) -> Vec<String> {
    let mut notes = Vec::new();
    if before.target.comm != after.target.comm {
        notes.push(format!(
            "the recordings are of different programs: {} and {}",
            before.target.comm, after.target.comm
        ));
    }
    if before.min_block_ms != after.min_block_ms {
        notes.push(format!(
            "the thresholds for parked differ: {} ms before, {} ms after",
            before.min_block_ms, after.min_block_ms
        ));
    }
    let has_lines = |recording: &Recording| recording.frames.iter().any(|frame| frame.inlined || frame.line.is_some());
    if has_lines(before) != has_lines(after) {
        let which = if has_lines(before) { "second" } else { "first" };
        notes.push(format!(
            "the {which} recording has no lines and inlined functions, so that the same site may look like another"
        ));
    }
    for (recording, which) in [(before, "first"), (after, "second")] {
        if recording.target.ended.is_some() {
            notes.push(format!("the process of the {which} recording had ended: it tells what was parked before that"));
        }
    }
    notes
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
