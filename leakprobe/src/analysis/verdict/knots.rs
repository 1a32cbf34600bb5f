//! Knots: sites whose tasks wait behind those of another one, which is the root. What holds the root up is what is to be repaired;
//! the others, however many they are, wait for nothing else.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
};

use super::held::Held;
use crate::model::{Behind as WaitingBehind, Fact, Recording, Site, SiteName, Task, TaskKind};

/// Most sites that are named in one fact.
const MOST_NAMED: usize = 3;
/// Most sites of one object that are compared with each other.
const MOST_SITES: usize = 4;

/// Tasks of one site that wait behind tasks of another one.
#[derive(Debug, Default)]
struct Behind {
    count: u64,
    /// The ids of those that they wait behind.
    roots: HashSet<u64>,
}

/// What is to be said of knots: facts, each with the place of its site in [`Recording::sites`].
#[must_use]
pub fn knots(recording: &Recording) -> Vec<(usize, Fact)> {
    let held = Held::of(recording);
    let behind = behind(recording, &held);
    let mut facts = holding(recording, &held);
    let mut of_root: BTreeMap<usize, Vec<(usize, u64)>> = BTreeMap::new();
    let mut connected: HashSet<usize> = facts.iter().map(|(place, _)| *place).collect();
    for (&(waiting, root), link) in &behind {
        let (Some(site), Some(at)) = (recording.sites.get(waiting), recording.sites.get(root)) else { continue };
        connected.insert(waiting);
        of_root.entry(root).or_default().push((waiting, link.count));
        let fact = Fact::BehindRoot {
            tasks: link.count,
            of: site.count,
            roots: link.roots.len() as u64,
            kind: at.task,
            at: name(at, recording),
            wait: at.wait.clone(),
        };
        facts.push((waiting, fact));
    }
    for (root, mut waiting) in of_root {
        waiting.sort_by_key(|&(place, count)| (Reverse(count), place));
        let tasks = waiting.iter().map(|(_, count)| count).sum();
        let behind = |&(place, tasks): &(usize, u64)| {
            let site = recording.sites.get(place)?;
            Some(WaitingBehind { tasks, at: name(site, recording) })
        };
        let sites: Vec<WaitingBehind> = waiting.iter().take(MOST_NAMED).filter_map(behind).collect();
        let more = waiting.len().saturating_sub(sites.len()) as u64;
        facts.push((root, Fact::RootOfKnot { tasks, sites, more }));
    }
    facts.extend(in_step(recording, &connected));
    facts
}

/// Of goroutines that hold what they wait for, themselves or in a circle: by what that is known.
fn holding(recording: &Recording, held: &Held<'_>) -> Vec<(usize, Fact)> {
    let mut itself: BTreeMap<usize, u64> = BTreeMap::new();
    let mut circles: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    for task in &recording.tasks {
        let Some(place) = task.site.map(|site| site as usize) else { continue };
        if held.holds_itself(task) {
            *itself.entry(place).or_default() += 1;
        } else if held.is_in_circle(task)
            && let Some(next) = held.holder(task).and_then(|next| next.site)
        {
            *circles.entry((place, next as usize)).or_default() += 1;
        }
    }
    let all = |place: usize| recording.sites.get(place).map(|site| site.count);
    let itself =
        itself.into_iter().filter_map(|(place, tasks)| Some((place, Fact::HoldsItself { tasks, of: all(place)? })));
    let circles = circles.into_iter().filter_map(|((place, next), tasks)| {
        let holder = recording.sites.get(next)?;
        let next = (next != place).then(|| name(holder, recording));
        Some((place, Fact::LockCircle { tasks, of: all(place)?, next }))
    });
    itself.chain(circles).collect()
}

/// Who waits behind whom in the end, by the places of their sites.
fn behind(recording: &Recording, held: &Held<'_>) -> BTreeMap<(usize, usize), Behind> {
    let threads: HashMap<u64, &Task> =
        recording.tasks.iter().filter(|task| task.kind == TaskKind::Thread).map(|task| (task.id, task)).collect();
    let mut behind: BTreeMap<(usize, usize), Behind> = BTreeMap::new();
    let mut listed: HashMap<usize, u64> = HashMap::new();
    for task in recording.tasks.iter().filter(|task| task.role.is_own()) {
        let Some(waiting) = task.site.map(|site| site as usize) else { continue };
        *listed.entry(waiting).or_default() += 1;
        let root = match task.kind {
            TaskKind::Thread => last_of_chain(task).and_then(|id| threads.get(&id).copied()),
            TaskKind::Goroutine if held.is_in_circle(task) || held.holds_itself(task) => None,
            TaskKind::Goroutine => held.chain(task).last().copied(),
        };
        // Whoever is in a circle with others is behind nobody, and has a sentence of its own.
        let Some(root) = root.filter(|root| root.id != task.id && root.role.is_own()) else { continue };
        let Some(place) = root.site.map(|site| site as usize).filter(|&place| place != waiting) else { continue };
        let link = behind.entry((waiting, place)).or_default();
        link.count += 1;
        link.roots.insert(root.id);
    }
    // Of sites with very many tasks only some are listed one by one.
    for (&(waiting, _), link) in &mut behind {
        let all = listed.get(&waiting) == Some(&link.count);
        if let Some(site) = recording.sites.get(waiting).filter(|_| all) {
            link.count = link.count.max(site.count);
        }
    }
    behind
}

/// The thread that a thread waits for in the end; `None` if it is not known, or of another process.
fn last_of_chain(task: &Task) -> Option<u64> {
    let wait = task.wait.as_ref()?;
    let last = wait.chain.last().map(|link| &link.owner).or(wait.owner.as_deref())?;
    (last.process.is_none() && wait.chain.iter().all(|link| link.owner.task != task.id)).then_some(last.task)
}

/// Sites whose tasks wait on the same objects, of which no holder is known, and whose numbers grew in step.
fn in_step(recording: &Recording, connected: &HashSet<usize>) -> Vec<(usize, Fact)> {
    let mut sites_of: HashMap<(u32, &str), Vec<usize>> = HashMap::new();
    let mut listed: HashMap<usize, u64> = HashMap::new();
    for task in recording.tasks.iter().filter(|task| task.kind == TaskKind::Goroutine && task.role.is_own()) {
        let (Some(site), Some(wait), Some(goroutine)) = (task.site, &task.wait, &task.goroutine) else { continue };
        let is_one = wait.object.starts_with("sync.") || goroutine.channels.len() == 1 && !goroutine.forever;
        if is_one && !wait.object.is_empty() {
            *listed.entry(site as usize).or_default() += 1;
            let sites = sites_of.entry((goroutine.runtime, &wait.object)).or_default();
            if sites.len() < MOST_SITES && !sites.contains(&(site as usize)) {
                sites.push(site as usize);
            }
        }
    }
    let mut shared: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    for sites in sites_of.values() {
        for &one in sites {
            for &other in sites.iter().filter(|&&other| other != one) {
                *shared.entry((one, other)).or_default() += 1;
            }
        }
    }
    let fact = |(&(one, other), &objects): (&(usize, usize), &u64)| {
        let (site, with) = (recording.sites.get(one)?, recording.sites.get(other)?);
        let most = listed.get(&one).is_some_and(|&listed| 2 * objects >= listed.min(site.count));
        if connected.contains(&one) || !most || !grew_in_step(site, with) {
            return None;
        }
        Some((one, Fact::InStep { with: name(with, recording), objects }))
    };
    shared.iter().filter_map(fact).collect()
}

/// Whether each round brought both of them some, in the same proportion.
fn grew_in_step(one: &Site, other: &Site) -> bool {
    let (Some(one), Some(other)) = (&one.course, &other.course) else { return false };
    let steps =
        |counts: &[u64]| -> Vec<u64> { counts.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect() };
    let (one, other) = (steps(&one.counts), steps(&other.counts));
    let (Some(&first), Some(&second)) = (one.first(), other.first()) else { return false };
    let same =
        |(&one, &other): (&u64, &u64)| u128::from(one) * u128::from(second) == u128::from(other) * u128::from(first);
    first > 0 && second > 0 && one.len() == other.len() && one.iter().zip(&other).all(same)
}

/// A site, with the function of the program's own in which its tasks wait.
fn name(site: &Site, recording: &Recording) -> SiteName {
    let frames = site.stack.iter().filter_map(|&index| recording.frames.get(index as usize));
    let own = frames.filter(|frame| frame.is_users() && !frame.function.is_empty()).map(|frame| &frame.function).next();
    SiteName { id: site.id.clone(), function: own.cloned() }
}
