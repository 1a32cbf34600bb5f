//! Why a verdict is what it is.

use super::cohorts::Cohorts;
use crate::model::{Fact, Ground, Recording, WokenBy};

/// The facts behind `ground`, the most telling first; `count` tasks are there at the end.
pub(super) fn of(cohorts: &Cohorts, ground: Ground, count: u64, recording: &Recording) -> Vec<Fact> {
    let (Some(&first), Some(&last)) = (cohorts.net.first(), cohorts.net.last()) else {
        return Vec::new();
    };
    if matches!(ground, Ground::NoGrowth | Ground::Orphaned | Ground::Unused | Ground::Stuck | Ground::OfRuntime) {
        return level(cohorts, ground, count);
    }
    let mut evidence = vec![growth(cohorts, recording)];
    evidence.extend(waking(cohorts));
    if cohorts.ended > 0 {
        evidence.push(Fact::EndedLater { tasks: cohorts.ended });
    }
    let stay: u64 = cohorts.outlasting().iter().sum();
    if stay > 0 && ground != Ground::Turnover {
        evidence.push(Fact::Outlast { tasks: stay, rounds: cohorts.longest as u64 });
    }
    if cohorts.creators_gone > 0 {
        evidence.push(Fact::CreatorsGone { tasks: cohorts.creators_gone, of: count });
    }
    evidence.extend(match ground {
        Ground::Chains => Some(Fact::Successors),
        Ground::Turnover => Some(Fact::Replaced { ended: cohorts.ended + cohorts.brief }),
        Ground::Stopped => Some(Fact::StoppedGrowing),
        Ground::NotDue => Some(Fact::NotDue { due_ms: cohorts.due_ms, by_others: cohorts.pending_by_others > 0 }),
        Ground::Tolerated => {
            let percent = 100.0 * last.saturating_sub(first) as f64 / first.max(1) as f64;
            let max_percent = recording.check.as_ref().map_or(5.0, |check| check.max_growth_percent);
            Some(Fact::Tolerated { percent, max_percent })
        }
        Ground::GoingDown => Some(Fact::GoingDown),
        Ground::Steady => Some(Fact::Steady { rounds: cohorts.left.len() as u64 }),
        _ => None,
    });
    evidence
}

/// Of a unit whose number has not grown.
fn level(cohorts: &Cohorts, ground: Ground, count: u64) -> Vec<Fact> {
    let counts = cohorts.counts.clone();
    let mut evidence = vec![match (cohorts.net.first(), cohorts.net.last()) {
        (first, last) if last < first => Fact::Fewer { counts },
        _ => Fact::Level { counts },
    }];
    let woke = cohorts.old_woke + cohorts.by_timer + cohorts.used + cohorts.busy;
    // Of these, no more than their own timers has woken any.
    if woke > 0 && ground != Ground::Unused {
        evidence.push(Fact::WokeMeanwhile { tasks: woke, of: count });
    }
    evidence.extend(match ground {
        Ground::Orphaned => Some(Fact::Orphaned { tasks: cohorts.creators_gone }),
        Ground::Stuck => Some(Fact::Stuck),
        Ground::Unused => Some(Fact::LeftBefore),
        _ => None,
    });
    evidence
}

fn growth(cohorts: &Cohorts, recording: &Recording) -> Fact {
    let grew = cohorts.net.windows(2).filter(|pair| pair[1] > pair[0]).count() as u64;
    let first = cohorts.net.first().copied().unwrap_or(0);
    let grown = cohorts.net.last().copied().unwrap_or(0).saturating_sub(first);
    let (per_round, per_request) = rates(grown, recording);
    Fact::GrewWithRounds {
        counts: cohorts.counts.clone(),
        grew,
        rounds: cohorts.left.len() as u64,
        per_round,
        per_request,
    }
}

/// Whether those that could be followed woke, and by what.
fn waking(cohorts: &Cohorts) -> Vec<Fact> {
    let of = cohorts.followed();
    let woke = cohorts.by_timer + cohorts.used + cohorts.busy;
    let mut facts = Vec::new();
    if woke > 0 {
        let by = match (cohorts.by_timer == woke, cohorts.used == woke) {
            (true, _) => WokenBy::Timers,
            (_, true) => WokenBy::Others,
            _ => WokenBy::Any,
        };
        facts.push(Fact::Woke { tasks: woke, of, by });
    } else if cohorts.asleep > 0 {
        facts.push(Fact::NoneWoke { of });
    }
    if cohorts.unclear > 0 {
        facts.push(Fact::WakingUnknown { tasks: cohorts.unclear });
    }
    facts
}

/// How many came with each round, and with each request.
fn rates(grown: u64, recording: &Recording) -> (Option<f64>, Option<f64>) {
    let Some(check) = recording.check.as_ref().filter(|check| check.rounds.len() > 1) else {
        return (None, None);
    };
    let rounds = check.rounds.len() - 1;
    let per_request = check.requests().map(|requests| grown as f64 / requests as f64);
    (Some(grown as f64 / rounds as f64), per_request)
}
