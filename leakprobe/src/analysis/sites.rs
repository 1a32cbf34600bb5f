//! Grouping tasks that wait: same creation stack, same park stack, same kind of wait.
//!
//! Stacks are the same if they lead through the same functions (see [`super::call_path`]), whichever lines of these they are at:
//! that is what a site's id is made of, and an id that somebody passes on must mean one site. How many of its tasks are at other
//! lines is told with it.
//!
//! A site is counted from the live tables and not from the tasks of a recording, which need not list every one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

use super::{
    call_path::CallPaths,
    former::{Followed, Former},
    history,
    interned::Interned,
};
use crate::model::{Fact, Frame, Role, Site, Still, TaskKind, Verdict, WaitKind, growth};

/// Most names of tasks that a site keeps.
const MAX_NAMES: usize = 5;

/// Most different names that are counted for each site.
const MAX_COUNTED_NAMES: usize = 4096;

/// Most sites that are told.
const MAX_SITES: usize = 20_000;

/// What makes tasks belong to one site, up to the lines of its stacks. There may be as many as tasks, and they are passed around: so
/// stacks are shared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SiteKey {
    pub(super) task: TaskKind,
    pub(super) role: Role,
    pub(super) creation: Arc<[u32]>,
    pub(super) stack: Arc<[u32]>,
    pub(super) kind: WaitKind,
}

/// Why a task belongs to a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is parked.
    Parked,
    /// It may be parked: nobody saw its wait begin.
    Unknown,
    /// It is not parked, but was created while we watched and has lived for at least the threshold.
    Lasting,
    /// It was created while we watched, for less than the threshold: it counts where others are.
    Young,
}

/// One task at a site.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    pub(super) standing: Standing,
    /// Whether it was created while we watched.
    pub(super) new: bool,
    /// Whether its creation was seen with its stack.
    pub(super) creator_seen: bool,
    /// Whether it waits at all: it may run.
    pub(super) waits: bool,
    pub(super) slice_ms: Option<u64>,
    /// Whether it has waited here, in slices, for as long as we have watched.
    pub(super) from_start: bool,
    pub(super) age_ms: u64,
    pub(super) exact: bool,
    pub(super) timeout_ms: Option<u64>,
    /// Whether that is known: if not, the wait may have begun earlier.
    pub(super) timeout_is_known: bool,
    pub(super) reason: &'a str,
    pub(super) name: &'a str,
}

/// What is counted of the tasks at one site.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    count: u64,
    parked: u64,
    lasting: u64,
    young: u64,
    waits: u64,
    in_slices: u64,
    from_start: u64,
    slice_ms: Option<u64>,
    creators_seen: u64,
    new: u64,
    /// Age, whether it is exact, and the wait's reason.
    oldest: Option<(u64, bool, String)>,
    total_ms: u64,
    with_timeout: u64,
    shortest_timeout_ms: Option<u64>,
    /// Whether a timeout is not known, so that the shortest is not, either.
    unknown_timeout: bool,
    names: BTreeMap<String, u64>,
    /// By what their numbers over time are known.
    trends: BTreeSet<history::Key>,
}

impl Tally {
    /// Counts a task; `trend` is by what its number over time is known.
    pub(super) fn add(&mut self, member: &Member<'_>, trend: Option<history::Key>) {
        self.count += 1;
        self.parked += u64::from(member.standing == Standing::Parked);
        self.lasting += u64::from(member.standing == Standing::Lasting);
        self.young += u64::from(member.standing == Standing::Young);
        self.new += u64::from(member.new);
        self.waits += u64::from(member.waits);
        self.in_slices += u64::from(member.slice_ms.is_some());
        self.from_start += u64::from(member.from_start);
        self.slice_ms = self.slice_ms.max(member.slice_ms);
        self.creators_seen += u64::from(member.creator_seen);
        let is_older = |(age, exact, _): &(u64, bool, String)| (member.age_ms, member.exact) >= (*age, *exact);
        if self.oldest.as_ref().is_none_or(is_older) {
            let known = self.oldest.take().map(|(_, _, reason)| reason).filter(|reason| reason == member.reason);
            let reason = known.unwrap_or_else(|| member.reason.to_owned());
            self.oldest = Some((member.age_ms, member.exact, reason));
        }
        self.total_ms = self.total_ms.saturating_add(member.age_ms);
        if let Some(ms) = member.timeout_ms {
            self.with_timeout += 1;
            self.unknown_timeout |= !member.timeout_is_known;
            self.shortest_timeout_ms = self.shortest_timeout_ms.into_iter().chain([ms]).min();
        }
        self.name(member.name, 1);
        if let Some(trend) = trend {
            self.trends.insert(trend);
        }
    }

    fn name(&mut self, name: &str, count: u64) {
        if name.is_empty() {
            return;
        }
        if let Some(known) = self.names.get_mut(name) {
            *known += count;
        } else if self.names.len() < MAX_COUNTED_NAMES {
            self.names.insert(name.to_owned(), count);
        }
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.parked += other.parked;
        self.lasting += other.lasting;
        self.young += other.young;
        self.waits += other.waits;
        self.in_slices += other.in_slices;
        self.from_start += other.from_start;
        self.slice_ms = self.slice_ms.max(other.slice_ms);
        self.creators_seen += other.creators_seen;
        self.new += other.new;
        let age = |oldest: &Option<(u64, bool, String)>| oldest.as_ref().map(|(age, exact, _)| (*age, *exact));
        if age(&other.oldest) > age(&self.oldest) {
            self.oldest = other.oldest;
        }
        self.total_ms = self.total_ms.saturating_add(other.total_ms);
        self.with_timeout += other.with_timeout;
        self.shortest_timeout_ms = self.shortest_timeout_ms.into_iter().chain(other.shortest_timeout_ms).min();
        self.unknown_timeout |= other.unknown_timeout;
        for (name, count) in &other.names {
            self.name(name, *count);
        }
        self.trends.extend(other.trends);
    }
}

impl Tally {
    /// Whether tasks are here that are or may be parked.
    fn is_parked(&self) -> bool {
        self.count > self.lasting + self.young
    }
}

/// Tasks by site.
#[derive(Debug, Default)]
pub(super) struct Sites {
    tallies: HashMap<SiteKey, Tally>,
    followed: Vec<Followed>,
}

/// All sites, in their order.
pub(super) struct Ordered {
    pub(super) sites: Vec<Site>,
    places: HashMap<SiteKey, u32>,
    /// Tasks at sites that were too many to be told.
    pub(super) left_out: u64,
}

impl Ordered {
    /// The site's place in `sites`.
    pub(super) fn place(&self, key: &SiteKey) -> Option<u32> {
        self.places.get(key).copied()
    }
}

impl Sites {
    /// Adds what was counted.
    pub(super) fn add(&mut self, key: SiteKey, tally: Tally) {
        self.tallies.entry(key).or_default().merge(tally);
    }

    /// All that is followed over time.
    pub(super) fn follow(&mut self, followed: Vec<Followed>) {
        self.followed = followed;
    }

    /// The sites, most suspicious first. `exe` is the path of the target's executable, `trend` gives numbers over time.
    pub(super) fn order(mut self, frames: &[Frame], exe: &str, trend: impl Fn(history::Key) -> Vec<u64>) -> Ordered {
        let paths = CallPaths::new(frames, exe);
        let followed = std::mem::take(&mut self.followed);
        let mut alike = self.by_functions(&paths);
        let present = alike.iter().flat_map(|site| &site.tally.trends).copied().collect();
        let former = Former::of(followed, &present, &paths);
        for site in &mut alike {
            let SiteKey { task, creation, stack, .. } = &site.functions;
            site.tally.trends.extend(former.at(*task, creation, stack));
        }
        let alike = folded(with_strangers(alike, &former, &trend), &trend);
        let sites = alike.into_iter();
        let mut sites: Vec<(Site, Vec<SiteKey>)> =
            sites.map(|alike| (site(&alike, &paths, &trend), alike.keys)).collect();
        sites.sort_by(|(a, a_keys), (b, b_keys)| {
            suspicion(b).cmp(&suspicion(a)).then_with(|| a.id.cmp(&b.id)).then_with(|| a_keys.cmp(b_keys))
        });
        let left_out = sites.drain(sites.len().min(MAX_SITES)..).map(|(site, _)| site.count).sum();
        let (sites, keys): (Vec<Site>, Vec<Vec<SiteKey>>) = sites.into_iter().unzip();
        let places = keys.into_iter().zip(0..).flat_map(|(keys, place)| keys.into_iter().map(move |key| (key, place)));
        Ordered { sites, places: places.collect(), left_out }
    }

    /// What was counted, together where only the lines differ.
    fn by_functions(self, paths: &CallPaths<'_>) -> Vec<Alike> {
        let mut tallies: Vec<(SiteKey, Tally)> = self.tallies.into_iter().collect();
        tallies.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut sites: HashMap<SiteKey, Alike> = HashMap::new();
        let mut interned = Interned::default();
        let mut path = |stack: &[u32]| interned.of(&paths.path(stack));
        for (key, tally) in tallies {
            let functions = SiteKey { creation: path(&key.creation), stack: path(&key.stack), ..key.clone() };
            match sites.entry(functions.clone()) {
                Entry::Occupied(site) => site.into_mut().add(key, tally),
                Entry::Vacant(none) => {
                    let most = (key.clone(), tally.count);
                    none.insert(Alike { functions, most, keys: vec![key], tally, away: 0, strangers: Vec::new() });
                }
            }
        }
        sites.into_values().collect()
    }
}

/// What differs in lines alone: one site.
struct Alike {
    /// What is the same for all, with the first frame of each function.
    functions: SiteKey,
    /// The lines of most tasks, and how many these are.
    most: (SiteKey, u64),
    keys: Vec<SiteKey>,
    tally: Tally,
    /// Tasks of the same creator that count here, but are at other places.
    away: u64,
    /// Its part of the numbers over time of tasks at the same place whose creators were not seen.
    strangers: Vec<u64>,
}

impl Alike {
    fn add(&mut self, key: SiteKey, tally: Tally) {
        if tally.count > self.most.1 {
            self.most = (key.clone(), tally.count);
        }
        self.keys.push(key);
        self.tally.merge(tally);
    }
}

/// Sites that differ only in whether the creator was seen are one; and as tasks of creators that nobody saw end, those that take
/// their place are no more than before. Where several creators are known, such tasks stand for themselves, and their numbers over
/// time are taken to have been the creators' in the proportion of today.
fn with_strangers(sites: Vec<Alike>, former: &Former, trend: &impl Fn(history::Key) -> Vec<u64>) -> Vec<Alike> {
    let is_stranger = |site: &Alike| site.most.0.task == TaskKind::Thread && site.most.0.creation.is_empty();
    let place = |key: &SiteKey| SiteKey { creation: Arc::default(), ..key.clone() };
    let (strangers, mut known): (Vec<Alike>, Vec<Alike>) = sites.into_iter().partition(is_stranger);
    // By the first stack of each: that of the same functions.
    let mut at_place: HashMap<SiteKey, Vec<usize>> = HashMap::new();
    for (n, site) in known.iter().enumerate().filter(|(_, site)| site.most.0.task == TaskKind::Thread) {
        at_place.entry(place(&site.functions)).or_default().push(n);
    }
    for (place, sites) in &at_place {
        let all: u64 = sites.iter().filter_map(|&n| known.get(n)).map(|site| site.tally.count).sum();
        let here = strangers.iter().find(|site| site.functions == *place);
        let unseen: BTreeSet<history::Key> = sites
            .iter()
            .filter_map(|&n| known.get(n))
            .flat_map(|site| &site.tally.trends)
            .map(|&(task, _, stack)| (task, None, stack))
            .chain(here.into_iter().flat_map(|site| site.tally.trends.iter().copied()))
            .chain(former.at(TaskKind::Thread, &[], &place.stack))
            .collect();
        let still_here = here.map_or(0, |site| site.tally.count);
        let unseen = sum(unseen.into_iter().map(trend));
        for site in sites {
            let Some(site) = known.get_mut(*site) else { continue };
            let is_alone = sites.len() == 1;
            let part = |&number: &u64| match is_alone {
                true => number,
                // Those that are still here are in a row of their own.
                false => number.saturating_sub(still_here).saturating_mul(site.tally.count) / all.max(1),
            };
            site.strangers = unseen.iter().map(part).collect();
        }
    }
    for stranger in strangers {
        match at_place.get(&stranger.functions).map(Vec::as_slice) {
            Some(&[only]) if known.get(only).is_some() => {
                if let Some(site) = known.get_mut(only) {
                    // Its numbers over time are those of the strangers.
                    let tally = Tally { trends: BTreeSet::new(), ..stranger.tally };
                    site.keys.extend(stranger.keys);
                    site.tally.merge(tally);
                }
            }
            _ => known.push(stranger),
        }
    }
    known
}

/// By how much the number of tasks that live for less than the threshold must have grown to be told: there is always one or other.
const MIN_GROWTH: u64 = 5;

/// Tasks that are not parked but live on count where others of their creator are: by place they would be scattered. What has come
/// just now and is alone is left out, unless there were more and more of it.
fn folded(sites: Vec<Alike>, trend: &impl Fn(history::Key) -> Vec<u64>) -> Vec<Alike> {
    // Not only when we came: attaching to a process slows it down.
    let grew = |site: &Alike| {
        let numbers = numbers(site, trend);
        numbers.get(numbers.len() / 2..).is_some_and(|later| growth(later) >= MIN_GROWTH)
    };
    let (mut rows, mut brief): (Vec<Alike>, Vec<Alike>) = sites.into_iter().partition(|site| site.tally.is_parked());
    brief.retain(|site| site.tally.lasting > 0 || grew(site));
    brief.sort_by(|a, b| b.tally.count.cmp(&a.tally.count).then_with(|| a.functions.cmp(&b.functions)));
    let mut of_creator: HashMap<(TaskKind, Role, Arc<[u32]>), usize> = HashMap::new();
    let creator = |site: &Alike| {
        let SiteKey { task, role, creation, .. } = &site.functions;
        (!creation.is_empty()).then(|| (*task, *role, creation.clone()))
    };
    for (n, row) in rows.iter().enumerate() {
        if let Some(creator) = creator(row) {
            let count = |n: usize| rows.get(n).map_or(0, |row| row.tally.count);
            let largest = of_creator.entry(creator).or_insert(n);
            if count(n) > count(*largest) {
                *largest = n;
            }
        }
    }
    for site in brief {
        let row = creator(&site).map(|creator| *of_creator.entry(creator).or_insert(rows.len()));
        match row.and_then(|row| rows.get_mut(row)) {
            Some(row) => {
                row.away += site.tally.count;
                row.strangers = sum([std::mem::take(&mut row.strangers), site.strangers].into_iter());
                row.keys.extend(site.keys);
                row.tally.merge(site.tally);
            }
            None => rows.push(site),
        }
    }
    rows
}

/// Numbers over time of a site.
fn numbers(site: &Alike, trend: &impl Fn(history::Key) -> Vec<u64>) -> Vec<u64> {
    let mut numbers = sum(site.tally.trends.iter().copied().map(trend).chain([site.strangers.clone()]));
    // Whoever waits in slices may have run between two of them when it was looked at.
    numbers.iter_mut().for_each(|number| *number = (*number).max(site.tally.from_start));
    numbers
}

/// What makes a site suspicious, in this order: its number grew while we watched; waits that nothing but somebody else will
/// end; their age. The program's own tasks come before those of its runtime.
fn suspicion(site: &Site) -> (bool, u64, u64, u64) {
    (site.role.is_own(), growth(&site.trend), site.count - site.with_timeout, site.oldest_ms)
}

/// A site, with the stacks of most of its tasks.
fn site(alike: &Alike, paths: &CallPaths<'_>, trend: impl Fn(history::Key) -> Vec<u64>) -> Site {
    let Alike { most: (key, at_these_lines), tally, .. } = alike;
    let mut names: Vec<(&String, &u64)> = tally.names.iter().collect();
    names.sort_by(|(a, most), (b, least)| least.cmp(most).then_with(|| a.cmp(b)));
    let (oldest_ms, oldest_exact, wait) = tally.oldest.clone().unwrap_or((0, true, String::new()));
    let mut site = Site {
        id: stable_id(key, paths),
        task: key.task,
        role: key.role,
        kind: key.kind,
        count: tally.count,
        parked: tally.parked,
        brief: tally.lasting + tally.young,
        in_slices: tally.in_slices,
        slice_ms: tally.slice_ms,
        created_while_watched: tally.new,
        oldest_ms,
        oldest_exact,
        total_ms: tally.total_ms,
        wait,
        with_timeout: tally.with_timeout,
        shortest_timeout_ms: tally.shortest_timeout_ms.filter(|_| !tally.unknown_timeout),
        stack: key.stack.to_vec(),
        creation: key.creation.to_vec(),
        places: Vec::new(),
        names: names.into_iter().take(MAX_NAMES).map(|(name, _)| name.clone()).collect(),
        trend: numbers(alike, &trend),
        verdict: Verdict::Unjudged,
        course: None,
        finding: None,
        ground: None,
        accepted: None,
        evidence: Vec::new(),
    };
    let known = site.task == TaskKind::Thread && tally.creators_seen > 0;
    let strangers = if known { tally.count - tally.creators_seen } else { 0 };
    let elsewhere = tally.count.saturating_sub(*at_these_lines).saturating_sub(alike.away).saturating_sub(strangers);
    site.evidence = evidence(&site, tally.waits, Others { lines: elsewhere, away: alike.away, strangers });
    site
}

/// Numbers over time, added up; all end at the same moment.
pub(super) fn sum(trends: impl Iterator<Item = Vec<u64>>) -> Vec<u64> {
    trends.fold(Vec::new(), |sum, trend| {
        let (mut longer, shorter) = if sum.len() < trend.len() { (trend, sum) } else { (sum, trend) };
        for (number, more) in longer.iter_mut().rev().zip(shorter.iter().rev()) {
            *number = number.saturating_add(*more);
        }
        longer
    })
}

/// How a site's number grew while we watched: the first of its facts, if there is such a one.
fn grown(site: &Site) -> Option<Fact> {
    let (&from, &to) = (site.trend.first()?, site.trend.last()?);
    (growth(&site.trend) > 0).then_some(Fact::Grew { from, to, waiting: site.brief == 0 })
}

/// Tasks of a site that differ from what it shows.
#[derive(Clone, Copy, Debug)]
struct Others {
    /// At other lines of the same functions.
    lines: u64,
    /// Elsewhere.
    away: u64,
    /// Whose creation was not seen.
    strangers: u64,
}

/// The facts that speak for a site, of whose tasks so many wait.
fn evidence(site: &Site, waits: u64, others: Others) -> Vec<Fact> {
    let (mut facts, of) = (Vec::from_iter(grown(site)), site.count);
    if site.created_while_watched > 0 {
        let still = match () {
            () if site.parked == of => Still::Parked,
            () if site.brief > 0 => Still::Alive,
            () => Still::Waiting,
        };
        facts.push(Fact::CreatedWhileWatched { tasks: site.created_while_watched, of, still });
    }
    if site.in_slices > 0 {
        facts.push(Fact::InSlices { tasks: site.in_slices, of });
    } else if waits == 0 {
        facts.push(Fact::NoneWaits);
    } else if site.with_timeout == 0 {
        facts.push(Fact::NoTimeout);
    } else if site.with_timeout == of {
        facts.push(Fact::AllTimeOut { shortest_ms: site.shortest_timeout_ms });
    }
    if others.lines > 0 {
        facts.push(Fact::AtOtherLines { tasks: others.lines, of });
    }
    if others.away > 0 {
        facts.push(Fact::Elsewhere { tasks: others.away, of });
    }
    if others.strangers > 0 {
        facts.push(Fact::CreationSeen { tasks: of - others.strangers, of });
    }
    facts
}

/// The id of all tasks of one creator, made as those of sites are.
pub(super) fn id_of_creator(task: TaskKind, creation: &[u32], paths: &CallPaths<'_>) -> String {
    let (creation, stack) = (paths.creator(creation).into(), Arc::default());
    let key = SiteKey { task, role: Role::Own, creation, stack, kind: WaitKind::Other };
    stable_id(&key, paths)
}

/// Eight hex digits from functions and modules alone, so that they are the same in the next run: FNV-1a, 64 bits, folded.
fn stable_id(key: &SiteKey, paths: &CallPaths<'_>) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |text: &str| {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for part in [&key.creation, &key.stack] {
        for function in paths.functions(part) {
            add(&function.module);
            add(function.name);
        }
        add("");
    }
    add(key.kind.name());
    if key.task == TaskKind::Goroutine {
        add("goroutine");
    }
    if !key.role.is_own() {
        add("runtime");
    }
    format!("{:08x}", (hash >> 32) as u32 ^ hash as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Stack, StackEnd, StackTable};

    fn member(timeout_ms: Option<u64>) -> Member<'static> {
        Member {
            standing: Standing::Parked,
            new: false,
            creator_seen: false,
            waits: true,
            slice_ms: None,
            from_start: false,
            age_ms: 2_000,
            exact: true,
            timeout_ms,
            timeout_is_known: true,
            reason: "futex wait",
            name: "worker",
        }
    }

    fn key(task: TaskKind) -> SiteKey {
        SiteKey { task, role: Role::Own, creation: Arc::default(), stack: Arc::default(), kind: WaitKind::Futex }
    }

    fn site_of(timeouts: &[Option<u64>], trend: &[u64]) -> Site {
        let mut tally = Tally::default();
        let stack = StackTable::default().intern(Stack::of_thread(vec![1], StackEnd::Complete));
        for &timeout in timeouts {
            tally.add(&member(timeout), Some((TaskKind::Thread, None, Some(stack))));
        }
        let mut sites = Sites::default();
        sites.add(key(TaskKind::Thread), tally);
        let mut ordered = sites.order(&[], "", |_| trend.to_vec());
        assert_eq!((ordered.sites.len(), ordered.place(&key(TaskKind::Thread))), (1, Some(0)));
        ordered.sites.remove(0)
    }

    #[test]
    fn threads_and_goroutines_never_share_a_site() {
        let mut sites = Sites::default();
        for kind in [TaskKind::Thread, TaskKind::Goroutine] {
            let mut tally = Tally::default();
            tally.add(&member(None), None);
            sites.add(key(kind), tally);
        }
        let ordered = sites.order(&[], "", |_| Vec::new());
        assert_eq!(ordered.sites.len(), 2);
        assert_ne!(ordered.sites[0].id, ordered.sites[1].id);
    }

    #[test]
    fn what_may_be_parked_counts_but_not_as_parked() {
        let mut tally = Tally::default();
        tally.add(&Member { standing: Standing::Unknown, age_ms: 0, exact: false, ..member(None) }, None);
        let mut more = Tally::default();
        more.add(&Member { age_ms: 3_000, exact: false, reason: "select", name: "", ..member(None) }, None);
        tally.merge(more);
        let mut sites = Sites::default();
        sites.add(key(TaskKind::Goroutine), tally);
        let ordered = sites.order(&[], "", |_| Vec::new());
        let site = &ordered.sites[0];
        assert_eq!((site.count, site.parked, site.oldest_ms, site.oldest_exact), (2, 1, 3_000, false));
        assert_eq!((site.wait.as_str(), &site.names[..]), ("select", &["worker".to_owned()][..]));
    }

    #[test]
    fn lines_of_the_same_functions_are_one_site_and_other_functions_another() {
        let frame = |function: &str, line| Frame {
            function: function.into(),
            module: "/bin/a".into(),
            line: Some(line),
            address: format!("{line:#x}"),
            ..Frame::default()
        };
        let frames =
            [frame("park", 10), frame("park", 12), frame("run", 3), frame("other", 3), frame("", 7), frame("", 8)];
        // Three at line 10, one at line 12, one whose creator is at another line; one in another function, and two that have none.
        let stacks: [(&[u32], &[u32], u64); 6] = [
            (&[0, 2], &[2], 3),
            (&[1, 2], &[2], 1),
            (&[1, 2], &[3], 1),
            (&[3, 2], &[2], 1),
            (&[4], &[], 1),
            (&[5], &[], 1),
        ];
        let key_of = |stack: &[u32], creation: &[u32]| SiteKey {
            stack: stack.into(),
            creation: creation.into(),
            ..key(TaskKind::Thread)
        };
        let mut sites = Sites::default();
        for (stack, creation, count) in stacks {
            let mut tally = Tally::default();
            (0..count).for_each(|_| tally.add(&member(None), None));
            sites.add(key_of(stack, creation), tally);
        }
        let ordered = sites.order(&frames, "", |_| Vec::new());
        let ids: BTreeSet<&str> = ordered.sites.iter().map(|site| site.id.as_str()).collect();
        assert_eq!((ids.len(), ordered.sites.len()), (5, 5), "each has an id of its own");
        let place = |n: usize| ordered.place(&key_of(stacks[n].0, stacks[n].1)).unwrap();
        assert_eq!(place(0), place(1));
        let site = &ordered.sites[place(0) as usize];
        assert_eq!((site.count, &*site.stack), (4, &[0, 2][..]), "with the lines of most");
        assert_eq!(site.evidence, [Fact::NoTimeout, Fact::AtOtherLines { tasks: 1, of: 4 }]);
        let others: BTreeSet<u32> = (0..6).map(place).collect();
        assert_eq!(others.len(), 5);
    }

    /// Tasks at a place of a creator: how many, and why they count.
    fn group(creation: &[u32], stack: &[u32], count: u64, standing: Standing) -> (SiteKey, Tally) {
        let mut tally = Tally::default();
        let creator_seen = !creation.is_empty();
        let mut stacks = StackTable::default();
        let mut id = |part: &[u32]| {
            let address = part.iter().fold(0, |sum, &place| sum * 100 + u64::from(place) + 1);
            (0..=address).map(|n| stacks.intern(Stack::of_thread(vec![n], StackEnd::Complete))).last()
        };
        let trend = (TaskKind::Thread, creator_seen.then(|| id(creation)).flatten(), id(stack));
        let new = creator_seen;
        for _ in 0..count {
            tally.add(&Member { standing, new, creator_seen, ..member(None) }, Some(trend));
        }
        let key = SiteKey { creation: creation.into(), stack: stack.into(), ..key(TaskKind::Thread) };
        (key, tally)
    }

    fn ordered(groups: Vec<(SiteKey, Tally)>, trend: impl Fn(history::Key) -> Vec<u64>) -> Vec<Site> {
        followed(groups, Vec::new(), trend)
    }

    fn followed(
        groups: Vec<(SiteKey, Tally)>,
        follow: Vec<Followed>,
        trend: impl Fn(history::Key) -> Vec<u64>,
    ) -> Vec<Site> {
        let mut sites = Sites::default();
        sites.follow(follow);
        groups.into_iter().for_each(|(key, tally)| sites.add(key, tally));
        // From 10 on other lines of the same functions.
        let frame = |n: u32| Frame {
            function: format!("f{}", n % 10),
            module: "/bin/a".into(),
            line: Some(n),
            ..Frame::default()
        };
        sites.order(&(0..20).map(frame).collect::<Vec<_>>(), "", trend).sites
    }

    #[test]
    fn those_whose_creator_was_seen_and_the_others_at_the_place_are_one_row_and_no_growth() {
        let groups = vec![group(&[1], &[2], 9, Standing::Parked), group(&[], &[2], 3, Standing::Parked)];
        let turnover = |key: history::Key| if key.1.is_some() { vec![0, 3, 6, 9] } else { vec![12, 9, 6, 3] };
        let sites = ordered(groups, turnover);
        assert_eq!((sites.len(), sites[0].count, &sites[0].trend[..]), (1, 12, &[12; 4][..]));
        assert_eq!(
            sites[0].evidence,
            [
                Fact::CreatedWhileWatched { tasks: 9, of: 12, still: Still::Parked },
                Fact::NoTimeout,
                Fact::CreationSeen { tasks: 9, of: 12 },
            ]
        );
        // All of the others are gone; the creators that are known have them in equal parts.
        let groups = vec![group(&[1], &[2], 6, Standing::Parked), group(&[3], &[2], 6, Standing::Parked)];
        let turnover = |key: history::Key| if key.1.is_some() { vec![0, 2, 4, 6] } else { vec![12, 8, 4, 0] };
        let trends: Vec<Vec<u64>> = ordered(groups, turnover).into_iter().map(|site| site.trend).collect();
        assert_eq!(trends, [vec![6; 4], vec![6; 4]]);
    }

    #[test]
    fn tasks_that_go_from_one_line_of_a_function_to_another_are_no_growth() {
        let key = |(_, tally): &(SiteKey, Tally)| *tally.trends.first().unwrap();
        let left = |group: &(SiteKey, Tally)| Followed {
            key: key(group),
            creation: group.0.creation.to_vec(),
            stack: group.0.stack.to_vec(),
        };
        for creation in [&[][..], &[1]] {
            // All that were at line 2 are at line 12; at the functions 3 and 4 there were others.
            let (before, now) =
                (group(creation, &[2], 9, Standing::Parked), group(creation, &[12], 9, Standing::Parked));
            let others = [group(creation, &[3], 9, Standing::Parked), group(&[4], &[2], 9, Standing::Parked)];
            let keys = [key(&before), key(&now)];
            let trend = |wanted: history::Key| match keys.iter().position(|key| *key == wanted) {
                Some(0) => vec![9, 6, 3, 0],
                Some(_) => vec![0, 3, 6, 9],
                None if others.iter().any(|group| key(group) == wanted) => vec![7; 4],
                None => vec![0; 4],
            };
            let follow = [&before, &now].into_iter().chain(&others).map(left).collect();
            let sites = followed(vec![now], follow, trend);
            assert_eq!((sites.len(), &sites[0].trend[..]), (1, &[9; 4][..]), "{creation:?}");
            assert!(grown(&sites[0]).is_none());
        }
    }

    #[test]
    fn those_whose_creator_was_not_seen_may_be_at_other_lines() {
        let strangers = group(&[], &[2], 3, Standing::Parked);
        let known = group(&[1], &[12], 9, Standing::Parked);
        let turnover = |key: history::Key| if key.1.is_some() { vec![0, 3, 6, 9] } else { vec![12, 9, 6, 3] };
        let stranger = *strangers.1.trends.first().unwrap();
        let trend = |key: history::Key| if key.1.is_some() || key == stranger { turnover(key) } else { vec![0; 4] };
        let sites = ordered(vec![strangers, known], trend);
        assert_eq!((sites.len(), sites[0].count, &sites[0].trend[..]), (1, 12, &[12; 4][..]));
    }

    #[test]
    fn what_lives_on_is_a_row_of_its_creator_and_what_has_just_come_only_if_it_grew() {
        let groups = || {
            vec![
                group(&[1], &[2], 5, Standing::Lasting),
                group(&[1], &[], 2, Standing::Lasting),
                group(&[1], &[2], 1, Standing::Young),
                group(&[3], &[4], 7, Standing::Young),
            ]
        };
        let sites = ordered(groups(), |_| vec![0; 4]);
        assert_eq!((sites.len(), sites[0].count, sites[0].brief, sites[0].parked), (1, 8, 8, 0));
        assert!(sites[0].evidence.contains(&Fact::Elsewhere { tasks: 2, of: 8 }));
        assert_eq!(ordered(groups(), |_| vec![0, 3, 6, 9, 12, 15, 18, 21]).len(), 2);
        assert_eq!(ordered(groups(), |_| vec![15, 26, 28, 28, 27, 28, 27, 28]).len(), 1);
        // Where others are parked, it counts there.
        let parked = vec![group(&[1], &[5], 3, Standing::Parked), group(&[1], &[2], 2, Standing::Lasting)];
        let sites = ordered(parked, |_| Vec::new());
        assert_eq!((sites.len(), sites[0].count, sites[0].parked, sites[0].brief), (1, 5, 3, 2));
    }

    #[test]
    fn too_many_sites_are_counted() {
        let mut sites = Sites::default();
        for place in 0..u32::try_from(MAX_SITES).unwrap() + 3 {
            let mut tally = Tally::default();
            tally.add(&member(None), None);
            sites.add(SiteKey { stack: [place].into(), ..key(TaskKind::Goroutine) }, tally);
        }
        let ordered = sites.order(&[], "", |_| Vec::new());
        assert_eq!((ordered.sites.len(), ordered.left_out), (MAX_SITES, 3));
    }

    #[test]
    fn numbers_over_time_are_added_up() {
        assert_eq!(sum([vec![1, 2], vec![1, 1, 1], vec![]].into_iter()), [1, 2, 3]);
    }

    #[test]
    fn a_site_knows_its_shortest_timeout() {
        let site = site_of(&[Some(28_800_000), Some(90_000_000)], &[]);
        assert_eq!((site.with_timeout, site.shortest_timeout_ms), (2, Some(28_800_000)));
        assert_eq!(site.evidence, [Fact::AllTimeOut { shortest_ms: Some(28_800_000) }]);
        let some = site_of(&[None, Some(100)], &[]);
        assert_eq!((some.with_timeout, some.shortest_timeout_ms), (1, Some(100)));
        assert!(some.evidence.is_empty());
        let none = site_of(&[None], &[]);
        assert_eq!(none.shortest_timeout_ms, None);
        assert_eq!(none.evidence, [Fact::NoTimeout]);
    }

    #[test]
    fn a_timeout_that_is_not_known_leaves_the_shortest_open() {
        let mut known = Tally::default();
        known.add(&member(Some(5_000)), None);
        let mut tally = Tally::default();
        tally.add(&Member { timeout_is_known: false, ..member(Some(20)) }, None);
        tally.merge(known);
        let mut sites = Sites::default();
        sites.add(key(TaskKind::Goroutine), tally);
        let site = sites.order(&[], "", |_| Vec::new()).sites.remove(0);
        assert_eq!((site.with_timeout, site.shortest_timeout_ms), (2, None));
        assert_eq!(site.evidence, [Fact::AllTimeOut { shortest_ms: None }]);
    }

    #[test]
    fn growth_is_of_all_that_wait_here() {
        let site = site_of(&[None], &[0, 3, 37]);
        assert_eq!(site.evidence[0], Fact::Grew { from: 0, to: 37, waiting: true });
    }
}
