//! What is thought of each site, and why: `proven`, `likely`, `suspect` or `idle`, with evidence in words and numbers.
//!
//! The one rule for all of leakprobe. From a single moment only what can never wake is told ([`Verdict::Proven`]): a healthy server
//! parks hundreds on purpose. More takes several moments with rounds of load between them, of which [`course`] follows each task.
//! [`presets`] knows the pools of runtimes, [`patterns`] the known ways of leaking.

mod course;
mod moment;
mod patterns;
mod presets;
mod restless;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
};

pub use moment::Moment;
pub use restless::restless;

use super::sites::growth;
use crate::model::{Course, Finding, Ground, Recording, Site, Task, TaskKind, Verdict, numbers};
use course::Tracks;
use moment::{Hopeless, hopeless};

/// What is tolerated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Criteria {
    /// Growth of a site over all rounds that is tolerated, percent of its number at the baseline.
    pub max_growth_percent: f64,
}

impl Default for Criteria {
    fn default() -> Self {
        Self { max_growth_percent: 5.0 }
    }
}

/// What is thought of one site.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// What decided it; `None` if nothing was judged.
    pub ground: Option<Ground>,
    /// Why, the most telling first.
    pub evidence: Vec<String>,
    /// The numbers; `None` if there was but one moment.
    pub course: Option<Course>,
    /// The known way of leaking that it looks like; of what is thought to be leaked.
    pub finding: Option<Finding>,
}

/// Judges each site of `recording`, which is that of the last of `moments`; the first of them is the baseline. With fewer than two
/// of them only what is proven is told.
#[must_use]
pub fn judge(recording: &Recording, moments: &[Moment], criteria: &Criteria) -> Vec<Judgement> {
    let hopeless = hopeless_by_site(recording);
    let tracks = (moments.len() > 1).then(|| course::follow(recording, moments));
    let members = members(recording);
    let one = |(place, site): (usize, &Site)| {
        let tracks = tracks.as_ref().and_then(|tracks| tracks.get(place));
        let mut judgement = Judgement { course: tracks.map(|tracks| tracks.course.clone()), ..Judgement::default() };
        let (ground, reasons) = match hopeless.get(site.id.as_str()) {
            Some(reasons) => (Some(Ground::CannotWake), proven(site, reasons, recording)),
            None => tracks.map_or((None, Vec::new()), |tracks| by_rounds(site, tracks, recording, criteria)),
        };
        let verdict = ground.map_or(Verdict::Unjudged, Ground::verdict);
        judgement.verdict = verdict;
        judgement.ground = ground;
        judgement.evidence = reasons;
        if let Some(tracks) = tracks.filter(|_| verdict == Verdict::Proven && site.count > 0) {
            judgement.evidence.push(format!("{} after each round", numbers(&tracks.course.counts)));
        }
        if verdict >= Verdict::Suspect {
            let tasks = members.get(&place).map_or(&[][..], Vec::as_slice);
            judgement.finding = {
                let counts = tracks.map_or(&[][..], |tracks| &tracks.course.counts);
                patterns::find(&patterns::Facts { site, tasks, recording, counts })
            };
        }
        judgement
    };
    recording.sites.iter().enumerate().map(one).collect()
}

/// Writes what was judged into the recording's sites, before what they tell already; the worst come first.
pub fn tell(recording: &mut Recording, judgements: Vec<Judgement>) {
    for (site, judgement) in recording.sites.iter_mut().zip(judgements) {
        // The numbers of the rounds say it better.
        if judgement.course.is_some() && growth(site).is_some() {
            site.evidence.remove(0);
        }
        site.verdict = judgement.verdict;
        site.ground = judgement.ground;
        site.evidence.retain(|fact| !judgement.evidence.contains(fact));
        site.evidence.splice(..0, judgement.evidence);
        site.course = judgement.course;
        site.finding = judgement.finding;
    }
    let mut order: Vec<usize> = (0..recording.sites.len()).collect();
    order.sort_by_key(|&place| Reverse(recording.sites[place].verdict));
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

/// The tasks of each site that are listed one by one.
fn members(recording: &Recording) -> HashMap<usize, Vec<&Task>> {
    let mut members: HashMap<usize, Vec<&Task>> = HashMap::new();
    for task in &recording.tasks {
        if let Some(site) = task.site {
            let of_site = members.entry(site as usize).or_default();
            if of_site.len() < MOST_MEMBERS {
                of_site.push(task);
            }
        }
    }
    members
}

/// Most tasks of a site that are looked at one by one to tell its pattern.
const MOST_MEMBERS: usize = 64;

/// Of the sites with tasks that can never wake: how many these are, and why.
fn hopeless_by_site(recording: &Recording) -> HashMap<&str, BTreeMap<Hopeless, u64>> {
    let deadlocked: HashSet<u64> =
        recording.deadlocks.iter().flat_map(|deadlock| &deadlock.tasks).map(|task| task.task).collect();
    let why = |task: &Task| {
        if !task.role.is_own() {
            return None;
        }
        if let Some(why) = hopeless(task) {
            return Some(why);
        }
        let wait = task.wait.as_ref().filter(|_| task.kind == TaskKind::Thread)?;
        if deadlocked.contains(&task.id) {
            return Some(Hopeless::Deadlock);
        }
        // Whoever waits for a lock that is never released waits for ever, unless its wait ends by itself.
        let holds_all = wait
            .chain
            .iter()
            .position(|link| deadlocked.contains(&link.owner.task))
            .is_some_and(|place| wait.chain.iter().take(place + 1).all(|link| link.owner.relation.is_holds()));
        (holds_all && wait.timeout_ms.is_none()).then_some(Hopeless::BehindDeadlock)
    };
    let mut by_site: HashMap<&str, BTreeMap<Hopeless, u64>> = HashMap::new();
    for task in &recording.tasks {
        if let Some(site) = task.site.and_then(|site| recording.sites.get(site as usize))
            && let Some(why) = why(task)
        {
            *by_site.entry(&site.id).or_default().entry(why).or_default() += 1;
        }
    }
    by_site
}

fn proven(site: &Site, reasons: &BTreeMap<Hopeless, u64>, recording: &Recording) -> Vec<String> {
    let all = recording.sites.iter().filter(|other| other.id == site.id).map(|site| site.count).sum();
    reasons.iter().map(|(why, &count)| why.sentence(count, all)).collect()
}

/// What the rounds say.
fn by_rounds(
    site: &Site,
    tracks: &Tracks,
    recording: &Recording,
    criteria: &Criteria,
) -> (Option<Ground>, Vec<String>) {
    if !site.role.is_own() {
        return (Some(Ground::OfRuntime), vec!["the Go runtime's own".to_owned()]);
    }
    if let Some(why) = presets::why_idle(site, recording) {
        return (Some(Ground::OfPool), vec![why, format!("{} after each round", numbers(&tracks.course.counts))]);
    }
    let counts = &tracks.with_strangers;
    let (Some(&first), Some(&last)) = (counts.first(), counts.last()) else {
        return (None, Vec::new());
    };
    let told = numbers(&tracks.course.counts);
    if last <= first {
        return level(site, tracks, first, last);
    }
    let growth = Growth::of(counts);
    let mut evidence = Vec::new();
    let rounds = counts.len() - 1;
    evidence.push(if growth.every_round {
        format!("grew with every round of load: {told}{}", rates(last - first, recording))
    } else {
        format!("grew with {} of {rounds} {}: {told}", growth.grown, if rounds == 1 { "round" } else { "rounds" })
    });
    let Course { followed, woke, .. } = tracks.course;
    let asleep = followed - woke - tracks.unclear;
    if woke > 0 {
        let by_timer = if tracks.woke_by_timer == woke { ", each by its own timer" } else { "" };
        evidence.push(format!("{woke} of the {followed} that could be followed for a round woke meanwhile{by_timer}"));
    } else if asleep > 0 {
        evidence.push(match followed {
            1 => "the one that could be followed for a round has not woken since".to_owned(),
            _ => format!("none of the {followed} that could be followed for a round has woken since"),
        });
    }
    if tracks.unclear > 0 {
        evidence.push(format!("of {} it is not known whether they woke", tracks.unclear));
    }
    let gone = tracks.course.creators_gone;
    if gone > 0 {
        evidence.push(format!("the creators of {gone} of {} are gone", site.count));
    }
    // Tasks none of which lasts for a round, and whose number grows steadily, are links of chains: each begins the next one.
    let chains = followed == 0 && tracks.left > 0 && growth.is_steady && rounds > 2;
    if chains {
        evidence.push("none of them lasts for a round: others take their place, and more with each round".to_owned());
    }
    let tolerated = (last - first) as f64 <= criteria.max_growth_percent / 100.0 * first as f64;
    let never_woke = woke == 0 && asleep > 0;
    // What only its own timer wakes is used by nobody, either; but then it takes that they stay and come at a steady rate, since
    // pools that fill late do neither.
    let only_timers = woke > 0 && woke == tracks.woke_by_timer && growth.is_steady && tracks.left == 0;
    if tolerated {
        let percent = 100.0 * (last - first) as f64 / first.max(1) as f64;
        evidence.push(format!("that is {percent:.1} % more, and up to {} % is tolerated", criteria.max_growth_percent));
        return (Some(Ground::Tolerated), evidence);
    }
    if is_shrinking(site, recording) {
        evidence.push("their number was still going down when the time to settle was over".to_owned());
        return (Some(Ground::GoingDown), evidence);
    }
    if growth.every_round && rounds > 1 && (never_woke || only_timers || chains) {
        let ground = match (never_woke, only_timers) {
            (true, _) => Ground::EveryRound,
            (_, true) => Ground::OnlyTimers,
            _ => Ground::Chains,
        };
        return (Some(ground), evidence);
    }
    let in_use = woke > tracks.woke_by_timer && !growth.every_round;
    (Some(if in_use { Ground::InUse } else { Ground::Unclear }), evidence)
}

/// Of a site whose number has not grown.
fn level(site: &Site, tracks: &Tracks, first: u64, last: u64) -> (Option<Ground>, Vec<String>) {
    let told = numbers(&tracks.course.counts);
    let mut evidence = Vec::new();
    if last < first {
        evidence.push(format!("fewer than at the baseline: {told}"));
    } else {
        evidence.push(format!("level: {told} after each round"));
    }
    let woke = tracks.course.old_woke + tracks.course.woke;
    if woke > 0 {
        evidence.push(format!("{woke} of {} woke meanwhile", site.count));
    }
    let gone = tracks.course.creators_gone;
    let is_old = site.oldest_ms >= LONG_MS;
    if gone > 1 && gone == site.count && woke == 0 && is_old && site.with_timeout == 0 {
        evidence.push(format!("the creators of all {gone} are gone, and none has woken"));
        return (Some(Ground::Orphaned), evidence);
    }
    (Some(Ground::NoGrowth), evidence)
}

/// From which age on a wait is long, ms.
const LONG_MS: u64 = 10 * 60 * 1000;

/// How numbers grew.
struct Growth {
    every_round: bool,
    /// With how many rounds.
    grown: usize,
    /// Whether each round brought about as many.
    is_steady: bool,
}

impl Growth {
    fn of(counts: &[u64]) -> Self {
        let steps: Vec<i128> = counts.windows(2).map(|pair| i128::from(pair[1]) - i128::from(pair[0])).collect();
        let grown = steps.iter().filter(|&&step| step > 0).count();
        let (least, most) = (steps.iter().min().copied().unwrap_or(0), steps.iter().max().copied().unwrap_or(0));
        Self { every_round: grown == steps.len() && grown > 0, grown, is_steady: least > 0 && least * 2 >= most }
    }
}

/// Whether the site's number still went down while the numbers of the last round settled.
fn is_shrinking(site: &Site, recording: &Recording) -> bool {
    let Some(round) = recording.check.as_ref().and_then(|check| check.rounds.last()).filter(|round| !round.settled)
    else {
        return false;
    };
    let from = round.at_ms.saturating_sub(round.settle_ms);
    let moments = recording.growth.iter().zip(&site.trend);
    let settling: Vec<u64> = moments.filter(|(sample, _)| sample.at_ms >= from).map(|(_, &count)| count).collect();
    // In its second half: right after the load everything goes down.
    let half = &settling[settling.len() / 2..];
    half.first() > half.last()
}

/// How many came with each round, and with each request.
fn rates(grown: u64, recording: &Recording) -> String {
    let Some(check) = &recording.check else {
        return String::new();
    };
    let rounds = check.rounds.len().saturating_sub(1);
    let requests: Option<u64> = check.rounds.iter().skip(1).map(|round| round.requests).sum();
    let a_round =
        if rounds > 0 { format!(" ({} a round", short(grown as f64 / rounds as f64)) } else { return String::new() };
    match requests.filter(|&requests| requests > 0) {
        Some(requests) => format!("{a_round}, {} a request)", short(grown as f64 / requests as f64)),
        None => format!("{a_round})"),
    }
}

/// A number with as many digits as matter.
fn short(number: f64) -> String {
    let text = if number >= 10.0 {
        format!("{number:.0}")
    } else if number >= 0.1 {
        format!("{number:.2}")
    } else {
        format!("{number:.4}")
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests;
