//! Why a verdict is what it is, in sentences.

use super::cohorts::Cohorts;
use crate::model::{Ground, Recording, numbers, span};

/// The facts behind `ground`, the most telling first; `count` tasks are there at the end.
pub(super) fn of(cohorts: &Cohorts, ground: Ground, count: u64, recording: &Recording) -> Vec<String> {
    let counts = numbers(&cohorts.counts);
    let (Some(&first), Some(&last)) = (cohorts.net.first(), cohorts.net.last()) else {
        return Vec::new();
    };
    if matches!(ground, Ground::NoGrowth | Ground::Orphaned | Ground::Unused | Ground::Stuck | Ground::OfRuntime) {
        return level(cohorts, ground, count);
    }
    let mut evidence = vec![growth(cohorts, &counts, recording)];
    evidence.extend(waking(cohorts));
    if cohorts.ended > 0 {
        evidence.push(format!("{} that stayed for a round ended later", cohorts.ended));
    }
    let stay: u64 = cohorts.outlasting().iter().sum();
    if stay > 0 && ground != Ground::Turnover {
        let plural = if cohorts.longest == 1 { "" } else { "s" };
        evidence.push(format!(
            "{stay} of the earliest rounds stay, while all that ended did so within {} round{plural}",
            cohorts.longest
        ));
    }
    if cohorts.creators_gone > 0 {
        evidence.push(format!("the creators of {} of {count} are gone", cohorts.creators_gone));
    }
    match ground {
        Ground::Chains => {
            evidence.push(
                "none of them lasts for a round: each creates its successor, and there are more with each round"
                    .to_owned(),
            );
        }
        Ground::Turnover => {
            evidence.push(format!(
                "{} that came with the rounds have ended: others take their place",
                cohorts.ended + cohorts.brief
            ));
        }
        Ground::Stopped => evidence.push("their number stopped growing while the load went on".to_owned()),
        Ground::NotDue => {
            let what = match cohorts.pending_by_others {
                0 => "each of these waits ends by its own timer",
                _ => {
                    "each of these waits may end by a timer, its own or that of a task that it joins, created or waits behind"
                }
            };
            let due = span(cohorts.due_ms);
            evidence.push(format!("{what}, the last in {due}, and none of the timers has been due yet"));
        }
        Ground::Tolerated => {
            let percent = 100.0 * last.saturating_sub(first) as f64 / first.max(1) as f64;
            let most = recording.check.as_ref().map_or(5.0, |check| check.max_growth_percent);
            evidence.push(format!("that is {percent:.1} % more, not steadily, and up to {most} % is tolerated"));
        }
        Ground::GoingDown => {
            evidence.push("their number was still going down when the time to settle was over".to_owned());
        }
        Ground::Steady => evidence.push(format!(
            "others wake them, but each of {} rounds left about as many, and none has ended",
            cohorts.left.len()
        )),
        _ => {}
    }
    evidence
}

/// Of a unit whose number has not grown.
fn level(cohorts: &Cohorts, ground: Ground, count: u64) -> Vec<String> {
    let counts = numbers(&cohorts.counts);
    let mut evidence = Vec::new();
    match (cohorts.net.first(), cohorts.net.last()) {
        (first, last) if last < first => evidence.push(format!("fewer than at the baseline: {counts}")),
        _ => evidence.push(format!("level: {counts} after each round")),
    }
    let woke = cohorts.old_woke + cohorts.by_timer + cohorts.used + cohorts.busy;
    // Of these, no more than their own timers has woken any.
    if woke > 0 && ground != Ground::Unused {
        evidence.push(format!("{woke} of {count} woke meanwhile"));
    }
    match ground {
        Ground::Orphaned => {
            evidence.push(format!("the creators of all {} are gone, and none has woken", cohorts.creators_gone));
        }
        Ground::Stuck => evidence.push("the runtime calls one such function after the other, and this one has not come back for a round: all others wait".to_owned()),
        Ground::Unused => evidence.push(
            "the load before the baseline left them, and nothing has woken them since: rounds of load cannot tell \
             whether they are still needed"
                .to_owned(),
        ),
        _ => {}
    }
    evidence
}

fn growth(cohorts: &Cohorts, counts: &str, recording: &Recording) -> String {
    let rounds = cohorts.left.len();
    let steps = cohorts.net.windows(2).filter(|pair| pair[1] > pair[0]).count();
    let first = cohorts.net.first().copied().unwrap_or(0);
    let grown = cohorts.net.last().copied().unwrap_or(0).saturating_sub(first);
    if steps == rounds {
        format!("grew with every round of load: {counts}{}", rates(grown, recording))
    } else {
        let noun = if rounds == 1 { "round" } else { "rounds" };
        format!("grew with {steps} of {rounds} {noun}: {counts}{}", rates(grown, recording))
    }
}

/// Whether those that could be followed woke, and by what.
fn waking(cohorts: &Cohorts) -> Vec<String> {
    let followed = cohorts.followed();
    let woke = cohorts.by_timer + cohorts.used + cohorts.busy;
    let mut facts = Vec::new();
    if woke > 0 {
        let by = match (cohorts.by_timer == woke, cohorts.used == woke) {
            (true, _) => ", each by its own timer alone",
            (_, true) => ", by others than their own timers",
            _ => "",
        };
        facts.push(format!("{woke} of the {followed} that could be followed for a round woke meanwhile{by}"));
    } else if cohorts.asleep > 0 {
        facts.push(match followed {
            1 => "the one that could be followed for a round has not woken since".to_owned(),
            _ => format!("none of the {followed} that could be followed for a round has woken since"),
        });
    }
    if cohorts.unclear > 0 {
        facts.push(format!("of {} it is not known whether they woke", cohorts.unclear));
    }
    facts
}

/// How many came with each round, and with each request.
fn rates(grown: u64, recording: &Recording) -> String {
    let Some(check) = &recording.check else {
        return String::new();
    };
    let rounds = check.rounds.len().saturating_sub(1);
    let a_round =
        if rounds > 0 { format!(" ({} a round", short(grown as f64 / rounds as f64)) } else { return String::new() };
    match check.requests() {
        Some(requests) => format!("{a_round}, {} a request)", short(grown as f64 / requests as f64)),
        None => format!("{a_round})"),
    }
}

/// A number with as many digits as matter.
pub(super) fn short(number: f64) -> String {
    let text = if number >= 10.0 {
        format!("{number:.0}")
    } else if number >= 0.1 {
        format!("{number:.2}")
    } else {
        format!("{number:.4}")
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
