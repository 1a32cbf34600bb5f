//! Tasks by who created them, in whatever state and at whichever places they are. Recursion, retries and loops between waits spread one
//! leak over many call sites, none of which shows it; the creator does. A leak is reported once, at the unit that explains it best.

use std::collections::{HashMap, HashSet};

use super::{
    Criteria, Judgement, MOST_MEMBERS, Verdict, apply,
    cohorts::{Cohorts, Followed},
    common, evidence,
    held::Held,
    is_shrinking,
    moment::{self, CreatorKey},
    patterns::{self, functions},
    rule::{self, Nature},
    waits_for_lock,
};
use crate::{
    analysis::{call_path::CallPaths, sites},
    model::{Fact, Ground, Place, Recording, Role, Site, Task, TaskState, Wait, WaitKind, WhereTasksAre},
};

/// Places of one creator's tasks that are listed.
const MAX_PLACES: usize = 16;

/// Those of them that are named in words.
const NAMED_PLACES: usize = 8;

/// Call sites that tell of one creator's leak better than the creator does, if they have most of its growth.
const FEW_SITES: usize = 3;

/// Tasks of one creator, judged together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ByCreator {
    key: CreatorKey,
    /// Its sites in the recording, which it takes the place of.
    sites: Vec<usize>,
    pub(super) judgement: Judgement,
}

/// What was judged of creators.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Those that explain more than their call sites do.
    pub(super) chosen: Vec<ByCreator>,
    pub(super) is_open: bool,
}

/// Judges all creators. `verdicts` are those of the sites, each by itself; `self_creating` is that of [`self_creating`].
#[allow(
    clippy::too_many_arguments,
    reason = "what is known of the sites, each made once for them and for their creators"
)]
pub(super) fn judge(
    recording: &Recording,
    paths: &CallPaths<'_>,
    followed: &Followed,
    verdicts: &[Verdict],
    self_creating: &[bool],
    renewing: &[bool],
    excused: &HashSet<&str>,
    exposure: &[f64],
    criteria: &Criteria,
) -> Judged {
    let mut sites_of: HashMap<CreatorKey, Vec<usize>> = HashMap::new();
    for (place, site) in recording.sites.iter().enumerate() {
        let key = moment::creator(site.task, &site.creation, paths);
        if let Some(key) = key.filter(|_| !excused.contains(site.id.as_str()) && site.role.is_own()) {
            sites_of.entry(key).or_default().push(place);
        }
    }
    let mut judged = Judged::default();
    for (&key, cohorts) in &followed.creators {
        let sites = sites_of.remove(&key).unwrap_or_default();
        let nature = Nature {
            creates_itself: sites.iter().any(|&site| self_creating[site]),
            renews_itself: !sites.is_empty() && sites.iter().all(|&site| renewing[site]),
            is_shrinking: sites.iter().any(|&site| is_shrinking(&recording.sites[site], recording)),
            waits_for_lock: most_wait_for_locks(&sites, recording, cohorts),
            ..Nature::default()
        };
        let decision = rule::decide(cohorts, nature, exposure, criteria.max_growth_percent);
        let verdict = decision.ground.verdict();
        if verdict < Verdict::Suspect || is_explained(recording, cohorts, verdict, &sites, followed, verdicts) {
            continue;
        }
        judged.is_open |= decision.is_open;
        let count = cohorts.counts.last().copied().unwrap_or(0);
        let judgement = Judgement {
            verdict,
            ground: Some(decision.ground),
            evidence: evidence::of(cohorts, decision.ground, count, recording),
            course: Some(cohorts.course()),
            finding: None,
        };
        judged.chosen.push(ByCreator { key, sites, judgement });
    }
    judged.chosen.sort_by_key(|chosen| (std::cmp::Reverse(chosen.judgement.verdict), chosen.key));
    judged
}

/// Whether more than half of a creator's tasks wait for locks.
fn most_wait_for_locks(sites: &[usize], recording: &Recording, cohorts: &Cohorts) -> bool {
    let all = cohorts.counts.last().copied().unwrap_or(0);
    let locked = sites.iter().filter_map(|&site| recording.sites.get(site)).filter(|site| waits_for_lock(site));
    locked.map(|site| site.count).sum::<u64>() * 2 > all
}

/// Whether call sites tell of the growth as well: the same verdict or a worse one, and most of the tasks; a few of them, or such as
/// began in different functions, which are as many mistakes.
fn is_explained(
    recording: &Recording,
    cohorts: &Cohorts,
    verdict: Verdict,
    sites: &[usize],
    followed: &Followed,
    verdicts: &[Verdict],
) -> bool {
    let found: Vec<usize> = sites.iter().copied().filter(|&site| verdicts[site] >= verdict).collect();
    let explained: u64 = found.iter().map(|&site| followed.sites[site].arrived()).sum();
    let entry = |&site: &usize| {
        let stack = recording.sites.get(site).map_or(&[][..], |site| &site.stack);
        let frames = stack.iter().rev().filter_map(|&index| recording.frames.get(index as usize));
        frames.into_iter().find(|frame| frame.is_users()).map(|frame| frame.function.as_str())
    };
    let entries: HashSet<Option<&str>> = found.iter().map(entry).collect();
    let are_few = found.len() <= FEW_SITES * entries.len();
    // Where its tasks begin in different functions, the creator is no better a unit for the rest.
    let enough = if entries.len() > 1 { 5 } else { 8 };
    !found.is_empty() && are_few && explained * 10 >= cohorts.arrived() * enough
}

/// Of each site whether its tasks are created by a function that they run themselves, or by a timer that one of them has set: no
/// request creates them.
pub(super) fn self_creating(recording: &Recording) -> Vec<bool> {
    let is_one = |site: &Site| {
        // Go calls what time.AfterFunc was given in a goroutine of its own, which this function creates.
        if functions(&site.creation, recording).next() == Some("time.goFunc") {
            return true;
        }
        let creator = site.creation.iter().filter_map(|&index| recording.frames.get(index as usize));
        let creator = creator.into_iter().find(|frame| frame.is_users() && !frame.function.is_empty());
        creator.is_some_and(|creator| functions(&site.stack, recording).any(|function| function == creator.function))
    };
    recording.sites.iter().map(is_one).collect()
}

/// Of each site whether most of its tasks came, or began their waits, after the last load had ended.
pub(super) fn renewing(recording: &Recording) -> Vec<bool> {
    let rest_ms = recording.check.as_ref().and_then(|check| check.rounds.last()).map_or(0, |round| round.settle_ms);
    let mut new = vec![0_u64; recording.sites.len()];
    for task in &recording.tasks {
        let Some(new) = task.site.and_then(|site| new.get_mut(site as usize)) else { continue };
        let ages = [task.wait.as_ref().and_then(Wait::longest_ms), task.lifetime_ms];
        *new += u64::from(ages.into_iter().flatten().min().is_some_and(|at_most| at_most < rest_ms));
    }
    recording.sites.iter().zip(new).map(|(site, new)| new * 2 > site.count).collect()
}

/// Writes what was judged by creators into the recording: each becomes one site in the place of those that it has.
pub(super) fn tell(recording: &mut Recording, chosen: Vec<ByCreator>) {
    if chosen.is_empty() {
        return;
    }
    let (paths, held) = (CallPaths::of(recording), Held::of(recording));
    let keys: HashMap<CreatorKey, usize> = chosen.iter().zip(0..).map(|(chosen, place)| (chosen.key, place)).collect();
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); chosen.len()];
    let of_site: HashMap<usize, usize> = chosen
        .iter()
        .zip(0..)
        .flat_map(|(chosen, place)| chosen.sites.iter().map(move |&site| (site, place)))
        .collect();
    for (number, task) in recording.tasks.iter().enumerate() {
        let place = match task.site {
            Some(site) => of_site.get(&(site as usize)).copied(),
            None if moment::is_judged(task, recording) => {
                let key = moment::creator(task.kind, &task.created_by.stack, &paths);
                key.and_then(|key| keys.get(&key)).copied()
            }
            None => None,
        };
        if let Some(place) = place {
            members[place].push(number);
        }
    }
    let one = |(chosen, members): (ByCreator, &Vec<usize>)| merge(recording, &paths, &held, chosen, members);
    let merged: Vec<Option<Site>> = chosen.into_iter().zip(&members).map(one).collect();
    // Sites that are judged together leave; the others keep their order, and the merged ones follow.
    let mut places = vec![None; recording.sites.len()];
    let mut kept = Vec::new();
    for (old, site) in std::mem::take(&mut recording.sites).into_iter().enumerate() {
        if of_site.get(&old).is_none_or(|&place| merged[place].is_none()) {
            places[old] = u32::try_from(kept.len()).ok();
            kept.push(site);
        }
    }
    for task in &mut recording.tasks {
        task.site = task.site.and_then(|site| places.get(site as usize).copied().flatten());
    }
    for (site, members) in merged.into_iter().zip(members) {
        let Some(site) = site else { continue };
        let place = u32::try_from(kept.len()).ok();
        kept.push(site);
        members.into_iter().for_each(|task| recording.tasks[task].site = place);
    }
    recording.sites = kept;
}

/// One site for all tasks of a creator.
fn merge(
    recording: &Recording,
    paths: &CallPaths<'_>,
    held: &Held<'_>,
    chosen: ByCreator,
    members: &[usize],
) -> Option<Site> {
    let sites: Vec<&Site> = chosen.sites.iter().filter_map(|&site| recording.sites.get(site)).collect();
    let away: Vec<&Task> =
        members.iter().map(|&task| &recording.tasks[task]).filter(|task| task.site.is_none()).collect();
    let mut places = places(&sites, &away, recording);
    let largest = sites.iter().max_by_key(|site| site.count);
    let first = members.first().map(|&task| &recording.tasks[task]);
    let creation = largest.map(|site| site.creation.clone());
    let creation = creation.or_else(|| first.map(|task| task.created_by.stack.to_vec()))?;
    let kind = largest.map(|site| site.task).or_else(|| first.map(|task| task.kind))?;
    let most = places.first().cloned().unwrap_or_default();
    let count = sites.iter().map(|site| site.count).sum::<u64>() + away.len() as u64;
    let oldest = sites.iter().max_by_key(|site| site.oldest_ms);
    let new = sites.iter().map(|site| site.created_while_watched).sum();
    let all_in_one = places.len() == 1;
    if all_in_one {
        places.clear();
    }
    let mut site = Site {
        id: sites::id_of_creator(kind, &creation, paths),
        task: kind,
        role: Role::Own,
        kind: largest.filter(|site| site.stack == most.stack).map_or_else(|| kind_of(&away), |site| site.kind),
        count,
        parked: sites.iter().map(|site| site.parked).sum(),
        brief: sites.iter().map(|site| site.brief).sum::<u64>() + away.len() as u64,
        in_slices: sites.iter().map(|site| site.in_slices).sum(),
        slice_ms: sites.iter().filter_map(|site| site.slice_ms).max(),
        created_while_watched: new,
        oldest_ms: oldest.map_or(0, |site| site.oldest_ms),
        oldest_exact: oldest.is_some_and(|site| site.oldest_exact),
        total_ms: sites.iter().map(|site| site.total_ms).fold(0, u64::saturating_add),
        wait: most.wait,
        with_timeout: sites.iter().map(|site| site.with_timeout).sum(),
        shortest_timeout_ms: None,
        stack: most.stack,
        creation,
        places,
        names: largest.map(|site| site.names.clone()).unwrap_or_default(),
        trend: sites::sum(sites.iter().map(|site| site.trend.clone())),
        verdict: Verdict::Unjudged,
        ground: None,
        course: None,
        finding: None,
        accepted: None,
        evidence: Vec::new(),
    };
    let tasks: Vec<&Task> = members.iter().map(|&task| &recording.tasks[task]).collect();
    let counts = chosen.judgement.course.as_ref().map_or(Vec::new(), |course| course.counts.clone());
    let facts = patterns::Facts {
        site: &site,
        tasks: &tasks[..tasks.len().min(MOST_MEMBERS)],
        recording,
        counts: &counts,
        held,
    };
    let finding = patterns::find(&facts).filter(|_| chosen.judgement.ground != Some(Ground::NotDue));
    apply(&mut site, Judgement { finding, ..chosen.judgement });
    site.evidence.extend(common::of(&tasks));
    if !all_in_one {
        site.evidence.push(listed(&site, recording));
    }
    Some(site)
}

/// The places of a site: the function of the program's own in each, and how many tasks are there.
fn listed(site: &Site, recording: &Recording) -> Fact {
    let name = |place: &Place| {
        let frames = || place.stack.iter().filter_map(|&index| recording.frames.get(index as usize));
        let frame = frames().find(|frame| frame.is_users() && !frame.function.is_empty()).or_else(|| frames().next());
        let function = frame.map(|frame| frame.function.clone());
        WhereTasksAre { tasks: place.count, wait: place.wait.clone(), function }
    };
    let places: Vec<WhereTasksAre> = site.places.iter().take(NAMED_PLACES).map(name).collect();
    let more = site.places.len().saturating_sub(places.len()) as u64;
    Fact::ByCreator { places, more }
}

/// Where the tasks are, most of them first.
fn places(sites: &[&Site], away: &[&Task], recording: &Recording) -> Vec<Place> {
    let mut places: Vec<Place> = sites
        .iter()
        .map(|site| Place { count: site.count, wait: site.wait.clone(), stack: site.stack.clone() })
        .collect();
    let mut others: HashMap<(String, Vec<&str>), Place> = HashMap::new();
    for task in away {
        let wait = does(task);
        let place = others.entry((wait.clone(), functions(&task.stack, recording).collect())).or_default();
        place.count += 1;
        (place.wait, place.stack) = (wait, task.stack.to_vec());
    }
    places.extend(others.into_values());
    places.sort_by(|a, b| (b.count, &a.wait, &a.stack).cmp(&(a.count, &b.wait, &b.stack)));
    if let Some(rest) = places.get(MAX_PLACES..) {
        let rest: u64 = rest.iter().map(|place| place.count).sum();
        places.truncate(MAX_PLACES - 1);
        places.push(Place { count: rest, wait: "elsewhere".to_owned(), stack: Vec::new() });
    }
    places
}

/// What a task that is at no site waits for, or does.
fn does(task: &Task) -> String {
    match (&task.wait, task.state) {
        (Some(wait), TaskState::Blocked | TaskState::Parked) => wait.reason.to_string(),
        (_, state) => state.name().to_owned(),
    }
}

fn kind_of(away: &[&Task]) -> WaitKind {
    away.iter().find_map(|task| task.wait.as_ref()).map_or(WaitKind::Other, |wait| wait.kind)
}
