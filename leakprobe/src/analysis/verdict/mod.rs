//! What is thought of each site, and why: `proven`, `likely`, `suspect` or `idle`, with evidence in words and numbers.
//!
//! The one rule for all of leakprobe. From a single moment only what can never wake is told ([`Verdict::Proven`]): a healthy server
//! parks hundreds on purpose. More takes several moments with rounds of load between them: [`cohorts`] follows what each round left
//! behind, [`rule`] judges the numbers, of each site and of each creator, [`creators`] chooses the one that explains more.
//! [`presets`] knows the pools of runtimes, [`patterns`] the known ways of leaking, [`power`] what the rounds would have found.

mod cohorts;
mod common;
mod creators;
mod evidence;
mod held;
mod hopeless;
mod knots;
mod moment;
mod patterns;
mod power;
mod presets;
mod rule;
mod siblings;
mod timers;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    thread,
};

pub use knots::knots;
pub use moment::{Moment, WaitedFor};
pub use power::power;

use super::call_path::CallPaths;
use crate::model::{
    CannotWake, Course, Fact, Finding, Ground, Pool, Recording, Site, Task, Verdict, WaitKind, numbers,
};
use cohorts::Cohorts;
use creators::ByCreator;
use held::Held;
use hopeless::hopeless;
use rule::Nature;
use timers::TimersJudgement;

/// What is tolerated, and what the machine is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Criteria {
    /// Unsteady growth of a site over all rounds that is tolerated, percent of its number at the baseline.
    pub max_growth_percent: f64,
    /// The machine's processors, of which pools have a thread each.
    pub processors: u64,
}

impl Default for Criteria {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, |processors| processors.get() as u64);
        Self { max_growth_percent: 5.0, processors }
    }
}

/// What was seen of a program over the rounds of a check.
#[derive(Clone, Copy, Debug, Default)]
pub struct History<'a> {
    /// The baseline, and the end of each round.
    pub moments: &'a [Moment],
    /// What was there before any load; `None` if nobody looked.
    pub before: Option<&'a Moment>,
}

/// What is thought of one site.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// What decided it; `None` if nothing was judged.
    pub ground: Option<Ground>,
    /// Why, the most telling first.
    pub evidence: Vec<Fact>,
    /// The numbers; `None` if there was but one moment.
    pub course: Option<Course>,
    /// The known way of leaking that it looks like; of what is thought to be leaked.
    pub finding: Option<Finding>,
}

/// What is thought of everything in a recording.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgements {
    /// Of each of its sites.
    pub sites: Vec<Judgement>,
    /// Of tasks that are judged by their creators, in the place of their sites.
    creators: Vec<ByCreator>,
    /// Of its pending timers.
    timers: Vec<TimersJudgement>,
    /// Growth of the total that neither sites nor creators explain: a sentence.
    pub unexplained: Option<String>,
    /// Whether more rounds could change something.
    pub is_open: bool,
}

impl Judgements {
    /// The worst verdict.
    #[must_use]
    pub fn worst(&self) -> Verdict {
        let creators = self.creators.iter().map(|by_creator| by_creator.judgement.verdict);
        self.sites.iter().map(|site| site.verdict).chain(creators).max().unwrap_or_default()
    }
}

/// Judges `recording`, which is that of the last moment of `history`; the first of them is the baseline. With fewer than two moments
/// only what is proven is told.
#[must_use]
pub fn judge(recording: &Recording, history: History<'_>, criteria: &Criteria) -> Judgements {
    let hopeless = hopeless_by_site(recording, &history);
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for site in &recording.sites {
        let count = counts.entry(&site.id).or_default();
        *count = count.saturating_add(site.count);
    }
    let proven = |site: &Site| {
        let id = site.id.as_str();
        let evidence = proven(hopeless.get(id)?, counts.get(id).copied().unwrap_or(0));
        Some(Judgement { ground: Some(Ground::CannotWake), evidence, ..Judgement::default() })
    };
    let proven: Vec<Option<Judgement>> = recording.sites.iter().map(proven).collect();
    let mut judgements = if history.moments.len() < 2 {
        let sites = proven.into_iter().map(Option::unwrap_or_default).collect();
        Judgements { sites, ..Judgements::default() }
    } else {
        by_rounds(recording, history, criteria, proven)
    };
    for judgement in &mut judgements.sites {
        judgement.verdict = judgement.ground.map_or(Verdict::Unjudged, Ground::verdict);
    }
    find_patterns(&mut judgements, recording);
    judgements
}

/// What the rounds say; of the sites `proven`, only the numbers.
fn by_rounds(
    recording: &Recording,
    history: History<'_>,
    criteria: &Criteria,
    proven: Vec<Option<Judgement>>,
) -> Judgements {
    let settled: Vec<Option<Judgement>> = recording
        .sites
        .iter()
        .zip(proven)
        .map(|(site, proven)| proven.or_else(|| excuse(site, recording, criteria.processors)))
        .collect();
    let both = || recording.sites.iter().zip(&settled);
    let excused: HashSet<&str> =
        both().filter(|(_, settled)| settled.is_some()).map(|(site, _)| site.id.as_str()).collect();
    let paths = CallPaths::of(recording);
    let followed = cohorts::follow(recording, &paths, history.moments, history.before, &excused);
    let exposure = exposure(recording, history.moments.len() - 1);
    let self_creating = creators::self_creating(recording);
    let renewing = creators::renewing(recording);
    let mut judgements = Judgements::default();
    let mut is_open = vec![false; recording.sites.len()];
    for (place, (site, settled)) in both().enumerate() {
        let cohorts = &followed.sites[place];
        let mut judgement = match settled {
            Some(settled) => {
                let mut judgement = settled.clone();
                judgement.evidence.push(Fact::Counts { counts: cohorts.counts.clone() });
                judgement
            }
            None => {
                let nature = Nature {
                    is_blocked: is_blocked(site),
                    waits_for_lock: waits_for_lock(site),
                    creates_itself: self_creating[place],
                    renews_itself: renewing[place],
                    is_shrinking: is_shrinking(site, recording),
                    is_orphaned: is_orphaned(site, cohorts),
                    // HotSpot looks again each second whether a monitor is free.
                    is_unused: followed.unused.get(&site.id).is_some_and(|&timers| !timers || waits_for_lock(site)),
                };
                let decision = match moment::serves_in_users_code(&site.stack, recording) {
                    true => of_runtime(site, recording),
                    false => rule::decide(cohorts, nature, &exposure, criteria.max_growth_percent),
                };
                is_open[place] = decision.is_open;
                let evidence = evidence::of(cohorts, decision.ground, site.count, recording);
                Judgement { ground: Some(decision.ground), evidence, ..Judgement::default() }
            }
        };
        judgement.course = Some(cohorts.course());
        judgements.sites.push(judgement);
    }
    judgements.timers = timers::judge(recording, history.moments, &exposure);
    let Judgements { sites, timers, .. } = &mut judgements;
    siblings::judge(recording, &paths, &followed.sites, timers, sites, &mut is_open);
    judgements.is_open |= is_open.contains(&true);
    let verdict = |site: &Judgement| site.ground.map_or(Verdict::Unjudged, Ground::verdict);
    let verdicts: Vec<Verdict> = judgements.sites.iter().map(verdict).collect();
    // What ends by timers is known by itself: whoever else has the same creator is another matter.
    let not_due = |site: &&Judgement| site.ground == Some(Ground::NotDue);
    let places = judgements.sites.iter().zip(&recording.sites);
    let mut known_otherwise = excused.clone();
    known_otherwise.extend(places.filter(|(judgement, _)| not_due(judgement)).map(|(_, site)| site.id.as_str()));
    let of_creators = (known_otherwise.len() > excused.len())
        .then(|| cohorts::follow(recording, &paths, history.moments, history.before, &known_otherwise));
    let by_creator = creators::judge(
        recording,
        &paths,
        of_creators.as_ref().unwrap_or(&followed),
        &verdicts,
        &self_creating,
        &renewing,
        &known_otherwise,
        &exposure,
        criteria,
    );
    judgements.is_open |= by_creator.is_open;
    judgements.creators = by_creator.chosen;
    // A saw tooth is explained by the load; what goes on without it is not.
    let sites = judgements.sites.iter().zip(&followed.sites).zip(&renewing);
    let is_explained = |judgement: &Judgement, renews: bool| judgement.ground != Some(Ground::Turnover) || !renews;
    let explained =
        sites.filter(|((judgement, _), renews)| is_explained(judgement, **renews)).map(|((_, cohorts), _)| cohorts);
    judgements.unexplained = unexplained(explained, &judgements.creators, history.moments);
    judgements.is_open |= judgements.unexplained.is_some();
    judgements
}

/// Looks for known ways of leaking in what is thought to be leaked.
fn find_patterns(judgements: &mut Judgements, recording: &Recording) {
    let (members, held) = (members(recording), Held::of(recording));
    for (place, (site, judgement)) in recording.sites.iter().zip(&mut judgements.sites).enumerate() {
        let tasks = members.get(&place).map_or(&[][..], Vec::as_slice);
        if judgement.verdict >= Verdict::Suspect || judgement.ground == Some(Ground::Stopped) {
            judgement.evidence.extend(common::of(tasks));
        }
        // What ends by itself, for all that is known, has no mistake to explain.
        if judgement.verdict < Verdict::Suspect || judgement.ground == Some(Ground::NotDue) {
            continue;
        }
        let tasks = &tasks[..tasks.len().min(MOST_MEMBERS)];
        let counts = judgement.course.as_ref().map_or(&[][..], |course| &course.counts);
        judgement.finding = patterns::find(&patterns::Facts { site, tasks, recording, counts, held: &held });
    }
}

/// Writes what was judged into the recording, before what its sites tell already; the worst come first.
pub fn tell(recording: &mut Recording, judgements: Judgements) {
    for (site, judgement) in recording.sites.iter_mut().zip(judgements.sites) {
        apply(site, judgement);
    }
    timers::tell(recording, judgements.timers);
    creators::tell(recording, judgements.creators);
    for (place, fact) in knots(recording) {
        if let Some(site) = recording.sites.get_mut(place).filter(|site| !site.evidence.contains(&fact)) {
            site.evidence.push(fact);
        }
    }
    let mut order: Vec<usize> = (0..recording.sites.len()).collect();
    // What could not be judged is a question, what is idle is none.
    let is_question = |site: &Site| site.ground == Some(Ground::Unused);
    let rank = |site: &Site| (site.verdict.max(Verdict::Idle), is_question(site), site.verdict);
    order.sort_by_key(|&place| Reverse(rank(&recording.sites[place])));
    let mut places = vec![0; order.len()];
    for (new, &old) in (0..).zip(&order) {
        places[old] = new;
    }
    for task in &mut recording.tasks {
        task.site = task.site.and_then(|site| places.get(site as usize).copied());
    }
    let mut sites: Vec<Option<Site>> = std::mem::take(&mut recording.sites).into_iter().map(Some).collect();
    recording.sites = order.into_iter().filter_map(|place| sites[place].take()).collect();
}

fn apply(site: &mut Site, judgement: Judgement) {
    if judgement.course.is_some() {
        // The numbers of the rounds say it better.
        site.evidence.retain(|fact| !matches!(fact, Fact::Grew { .. }));
    }
    site.verdict = judgement.verdict;
    site.ground = judgement.ground;
    site.evidence.retain(|fact| !judgement.evidence.contains(fact));
    site.evidence.splice(..0, judgement.evidence);
    site.course = judgement.course;
    site.finding = judgement.finding;
}

/// The load of each round: in requests, if they are known of each, else the same for all.
fn exposure(recording: &Recording, rounds: usize) -> Vec<f64> {
    let known = recording.check.as_ref().map_or(&[][..], |check| &check.rounds);
    let requests: Option<Vec<f64>> = known
        .iter()
        .skip(1)
        .map(|round| round.requests.filter(|&requests| requests > 0).map(|requests| requests as f64))
        .collect();
    requests.filter(|requests| requests.len() == rounds).unwrap_or_else(|| vec![1.0; rounds])
}

/// Why a site is not judged by its numbers, if that is so.
fn excuse(site: &Site, recording: &Recording, processors: u64) -> Option<Judgement> {
    let (ground, pool) = match moment::is_judged_site(site, recording) {
        true => (Ground::OfPool, presets::pool_of(site, recording, processors)?),
        false => (Ground::OfRuntime, Pool::GoRuntime),
    };
    Some(Judgement { ground: Some(ground), evidence: vec![Fact::OfPool { pool }], ..Judgement::default() })
}

/// Of a goroutine of the runtime's own in the program's code: it should come back from there soon.
fn of_runtime(site: &Site, recording: &Recording) -> rule::Decision {
    let rounds = recording.check.as_ref().map_or(&[][..], |check| &check.rounds);
    let last_round_ms = rounds.last().map_or(0, |round| round.load_ms.unwrap_or(0).saturating_add(round.settle_ms));
    let is_stuck = rounds.len() > 1 && site.oldest_ms >= last_round_ms;
    rule::Decision { ground: if is_stuck { Ground::Stuck } else { Ground::OfRuntime }, is_open: false }
}

/// Whether the tasks of a site wait for something that neither an idle worker nor who looks after one ever waits for: to hand a value
/// over, or for a lock.
fn is_blocked(site: &Site) -> bool {
    site.kind == WaitKind::ChanSend || waits_for_lock(site)
}

/// Whether the tasks of a site wait for a lock.
fn waits_for_lock(site: &Site) -> bool {
    const LOCKS: &[&str] = &["mutex", "rwlock", "monitor enter"];
    match site.kind {
        WaitKind::Lock => true,
        WaitKind::Sync => site.wait.contains("Mutex"),
        WaitKind::Futex => LOCKS.iter().any(|start| site.wait.starts_with(start)),
        _ => false,
    }
}

/// Whether all tasks of a site are old, have lost their creators, and nothing has woken them.
fn is_orphaned(site: &Site, cohorts: &Cohorts) -> bool {
    let gone = cohorts.creators_gone;
    let woke = cohorts.old_woke + cohorts.used + cohorts.by_timer + cohorts.busy;
    gone > 1 && gone == site.count && woke == 0 && site.oldest_ms >= LONG_MS && site.with_timeout == 0
}

/// From which age on a wait is long, ms.
const LONG_MS: u64 = 10 * 60 * 1000;

/// Whether the site's number still went down while the numbers of the last round settled.
fn is_shrinking(site: &Site, recording: &Recording) -> bool {
    let Some(round) = recording.check.as_ref().and_then(|check| check.rounds.last()).filter(|round| !round.settled)
    else {
        return false;
    };
    let from = round.at_ms.saturating_sub(round.settle_ms);
    let moments = recording.growth.iter().zip(&site.trend).filter(|(sample, _)| sample.at_ms >= from);
    // What rests and runs by turns is fewer at some moments; what ends leaves the total smaller, too.
    let settling: Vec<(u64, u64)> =
        moments.map(|(sample, &count)| (count, sample.tasks.saturating_add(sample.goroutines))).collect();
    // In its second half: right after the load everything goes down.
    let half = &settling[settling.len() / 2..];
    half.first().zip(half.last()).is_some_and(|(first, last)| first.0 > last.0 && first.1 > last.1)
}

/// What is to be said if the total grew with every round, and neither call sites nor creators of which it is known why they grew
/// explain half of that.
fn unexplained<'a>(
    sites: impl Iterator<Item = &'a Cohorts>,
    creators: &[ByCreator],
    moments: &[Moment],
) -> Option<String> {
    let totals: Vec<u64> = moments.iter().map(Moment::total).collect();
    // One or two rounds show nothing: something always runs.
    if totals.len() < 4 || !totals.windows(2).all(|pair| pair[0] < pair[1]) {
        return None;
    }
    let grown = totals.last()?.saturating_sub(*totals.first()?);
    let of = |counts: &[u64]| counts.first().zip(counts.last()).map_or(0, |(first, last)| last.saturating_sub(*first));
    let by_site: u64 = sites.map(|cohorts| of(&cohorts.counts)).sum();
    let courses = creators.iter().filter_map(|by_creator| by_creator.judgement.course.as_ref());
    let by_creator: u64 = courses.map(|course| of(&course.counts)).sum();
    (by_site.max(by_creator) * 2 < grown).then(|| {
        format!(
            "the total grew with every round ({}), and neither call sites nor creators explain it",
            numbers(&totals)
        )
    })
}

/// The tasks of each site that are listed one by one.
fn members(recording: &Recording) -> HashMap<usize, Vec<&Task>> {
    let mut members: HashMap<usize, Vec<&Task>> = HashMap::new();
    for task in &recording.tasks {
        if let Some(site) = task.site {
            members.entry(site as usize).or_default().push(task);
        }
    }
    members
}

/// Most tasks of a site that are looked at one by one to tell its pattern.
const MOST_MEMBERS: usize = 64;

/// Of the sites with tasks that can never wake: how many these are, and why. Where a task has gone on of which that was thought before,
/// it is not so.
fn hopeless_by_site<'a>(
    recording: &'a Recording,
    history: &History<'_>,
) -> HashMap<&'a str, BTreeMap<CannotWake, u64>> {
    let refuted = moment::refuted(history.moments);
    let mut by_site: HashMap<&str, BTreeMap<CannotWake, u64>> = HashMap::new();
    for (task, why) in hopeless::all(recording) {
        if let Some(site) = task.site.and_then(|site| recording.sites.get(site as usize))
            && !(hopeless::is_by_locks(why) && refuted.contains(site.id.as_str()))
        {
            *by_site.entry(&site.id).or_default().entry(why).or_default() += 1;
        }
    }
    by_site
}

fn proven(reasons: &BTreeMap<CannotWake, u64>, of: u64) -> Vec<Fact> {
    reasons.iter().map(|(&why, &tasks)| Fact::CannotWake { tasks, of, why }).collect()
}

#[cfg(test)]
mod patterns_tests;
#[cfg(test)]
mod tests;
