//! Grouping tasks that wait: same creation stack, same park stack, same kind of wait.
//!
//! Stacks are the same if they lead through the same functions (see [`super::call_path`]), whichever lines of these they are at:
//! that is what a site's id is made of, and an id that somebody passes on must mean one site. How many of its tasks are at other
//! lines is told with it.
//!
//! A site is counted from the live tables and not from the tasks of a recording, which need not list every one.

use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry};

use super::{call_path::CallPaths, history};
use crate::model::{Frame, Role, Site, TaskKind, Verdict, WaitKind};

/// Most names of tasks that a site keeps.
const MAX_NAMES: usize = 5;

/// Most different names that are counted for each site.
const MAX_COUNTED_NAMES: usize = 4096;

/// Most sites that are told.
const MAX_SITES: usize = 20_000;

/// What makes tasks belong to one site, up to the lines of its stacks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SiteKey {
    pub(super) task: TaskKind,
    pub(super) role: Role,
    pub(super) creation: Vec<u32>,
    pub(super) stack: Vec<u32>,
    pub(super) kind: WaitKind,
}

/// One task that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    pub(super) parked: bool,
    /// Whether it was created while we watched.
    pub(super) new: bool,
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
        self.parked += u64::from(member.parked);
        self.new += u64::from(member.new);
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

/// Tasks by site.
#[derive(Debug, Default)]
pub(super) struct Sites {
    tallies: HashMap<SiteKey, Tally>,
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

    /// The sites, most suspicious first. `exe` is the path of the target's executable, `trend` gives numbers over time.
    pub(super) fn order(self, frames: &[Frame], exe: &str, trend: impl Fn(history::Key) -> Vec<u64>) -> Ordered {
        let paths = CallPaths::new(frames, exe);
        let sites = self.by_functions(&paths).into_iter();
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
        for (key, tally) in tallies {
            let functions = SiteKey { creation: paths.path(&key.creation), stack: paths.path(&key.stack), ..key };
            match sites.entry(functions) {
                Entry::Occupied(site) => site.into_mut().add(key, tally),
                Entry::Vacant(none) => {
                    none.insert(Alike { most: (key.clone(), tally.count), keys: vec![key], tally });
                }
            }
        }
        sites.into_values().collect()
    }
}

/// What differs in lines alone: one site.
struct Alike {
    /// The lines of most tasks, and how many these are.
    most: (SiteKey, u64),
    keys: Vec<SiteKey>,
    tally: Tally,
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

/// What makes a site suspicious, in this order: its number grew while we watched; waits that nothing but somebody else will
/// end; their age. The program's own tasks come before those of its runtime.
fn suspicion(site: &Site) -> (bool, u64, u64, u64) {
    let growth = match (site.trend.first(), site.trend.last()) {
        (Some(first), Some(last)) => last.saturating_sub(*first),
        _ => 0,
    };
    (site.role.is_own(), growth, site.count - site.with_timeout, site.oldest_ms)
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
        created_while_watched: tally.new,
        oldest_ms,
        oldest_exact,
        total_ms: tally.total_ms,
        wait,
        with_timeout: tally.with_timeout,
        shortest_timeout_ms: tally.shortest_timeout_ms.filter(|_| !tally.unknown_timeout),
        stack: key.stack.clone(),
        creation: key.creation.clone(),
        places: Vec::new(),
        names: names.into_iter().take(MAX_NAMES).map(|(name, _)| name.clone()).collect(),
        trend: sum(tally.trends.iter().copied().map(trend)),
        verdict: Verdict::Unjudged,
        course: None,
        finding: None,
        ground: None,
        accepted: None,
        evidence: Vec::new(),
    };
    site.evidence = evidence(&site, site.count - at_these_lines);
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
pub(super) fn growth(site: &Site) -> Option<String> {
    let (first, last) = (site.trend.first()?, site.trend.last()?);
    (last > first).then(|| format!("grew from {first} to {last} waiting here while watched"))
}

/// The facts that speak for a site; `elsewhere` of its tasks have other stacks than it shows.
fn evidence(site: &Site, elsewhere: u64) -> Vec<String> {
    let mut facts = Vec::from_iter(growth(site));
    if site.created_while_watched > 0 {
        let still = if site.parked == site.count { "parked" } else { "waiting" };
        facts
            .push(format!("{} of {} created while watched, and still {still}", site.created_while_watched, site.count));
    }
    if site.with_timeout == 0 {
        facts.push("none of the waits has a timeout".to_owned());
    } else if site.with_timeout == site.count {
        let earliest = site.shortest_timeout_ms.map(|ms| format!(", after {} at the earliest", span(ms)));
        facts.push(format!("all of the waits end by themselves{}", earliest.unwrap_or_default()));
    }
    if elsewhere > 0 {
        let are = if elsewhere == 1 { "is" } else { "are" };
        facts.push(format!("{elsewhere} of {} {are} at other lines or depths of these functions", site.count));
    }
    facts
}

/// A timeout in words, to two significant units, as tables write it: `100 ms`, `1.5 s`, `1m 30s`, `8h`.
fn span(ms: u64) -> String {
    let two = |unit: u64, name: &str, lesser: u64, lesser_name: &str| match ms % unit / lesser {
        0 => format!("{}{name}", ms / unit),
        rest => format!("{}{name} {rest}{lesser_name}", ms / unit),
    };
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => match ms % 1_000 / 100 {
            0 => format!("{} s", ms / 1_000),
            tenths => format!("{}.{tenths} s", ms / 1_000),
        },
        60_000..3_600_000 => two(60_000, "m", 1_000, "s"),
        3_600_000..86_400_000 => two(3_600_000, "h", 60_000, "m"),
        86_400_000.. => two(86_400_000, "d", 3_600_000, "h"),
    }
}

/// The id of all tasks of one creator, made as those of sites are.
pub(super) fn id_of_creator(task: TaskKind, creation: &[u32], paths: &CallPaths<'_>) -> String {
    let stack = Vec::new();
    let key = SiteKey { task, role: Role::Own, creation: creation.to_vec(), stack, kind: WaitKind::Other };
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
            parked: true,
            new: false,
            age_ms: 2_000,
            exact: true,
            timeout_ms,
            timeout_is_known: true,
            reason: "futex wait",
            name: "worker",
        }
    }

    fn key(task: TaskKind) -> SiteKey {
        SiteKey { task, role: Role::Own, creation: Vec::new(), stack: Vec::new(), kind: WaitKind::Futex }
    }

    fn site_of(timeouts: &[Option<u64>], trend: &[u64]) -> Site {
        let mut tally = Tally::default();
        let stack = StackTable::default().intern(Stack::of_thread(vec![1], StackEnd::Complete));
        for &timeout in timeouts {
            tally.add(&member(timeout), Some((TaskKind::Thread, None, stack)));
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
        tally.add(&Member { parked: false, age_ms: 0, exact: false, ..member(None) }, None);
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
            stack: stack.to_vec(),
            creation: creation.to_vec(),
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
        assert_eq!(
            site.evidence,
            ["none of the waits has a timeout", "1 of 4 is at other lines or depths of these functions"]
        );
        let others: BTreeSet<u32> = (0..6).map(place).collect();
        assert_eq!(others.len(), 5);
    }

    #[test]
    fn too_many_sites_are_counted() {
        let mut sites = Sites::default();
        for place in 0..u32::try_from(MAX_SITES).unwrap() + 3 {
            let mut tally = Tally::default();
            tally.add(&member(None), None);
            sites.add(SiteKey { stack: vec![place], ..key(TaskKind::Goroutine) }, tally);
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
        assert_eq!(site.evidence, ["all of the waits end by themselves, after 8h at the earliest"]);
        let some = site_of(&[None, Some(100)], &[]);
        assert_eq!((some.with_timeout, some.shortest_timeout_ms), (1, Some(100)));
        assert!(some.evidence.is_empty());
        let none = site_of(&[None], &[]);
        assert_eq!(none.shortest_timeout_ms, None);
        assert_eq!(none.evidence, ["none of the waits has a timeout"]);
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
        assert_eq!(site.evidence, ["all of the waits end by themselves"]);
    }

    #[test]
    fn growth_is_of_all_that_wait_here() {
        let site = site_of(&[None], &[0, 3, 37]);
        assert_eq!(site.evidence[0], "grew from 0 to 37 waiting here while watched");
    }

    #[test]
    fn timeouts_have_two_units_at_most() {
        for (ms, words) in [
            (0, "0 ms"),
            (100, "100 ms"),
            (1_000, "1 s"),
            (1_550, "1.5 s"),
            (90_000, "1m 30s"),
            (28_800_000, "8h"),
            (93_600_000, "1d 2h"),
        ] {
            assert_eq!(span(ms), words);
        }
    }
}
