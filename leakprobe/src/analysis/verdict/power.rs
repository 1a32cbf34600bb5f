//! What a check would have found: the smallest leak, by the rule itself.

use super::{
    cohorts::Cohorts,
    rule::{self, Nature},
};
use crate::model::{Power, Round, Verdict};

/// Phases of a leak that comes with every so many requests that are tried: the worst of them counts.
const PHASES: u64 = 8;

/// No load makes more requests in one round. Of one that claims to, the power is understated, and no sum overflows.
const MOST_REQUESTS: u64 = 1 << 40;

/// The smallest leak that a check would have found which did `rounds`, the baseline first, and would have gone on up to `max_rounds`
/// had there been anything to follow. `None` if it would have found none.
#[must_use]
pub fn power(rounds: &[Round], max_rounds: usize, max_growth_percent: f64) -> Option<Power> {
    let done = rounds.len().saturating_sub(1);
    if done == 0 {
        return None;
    }
    let requests = |round: &Round| round.requests.filter(|&n| n > 0).map(|n| n.min(MOST_REQUESTS));
    let requests: Option<Vec<u64>> = rounds.iter().skip(1).map(requests).collect();
    let a_round = requests.as_ref().map_or(1, |requests| (requests.iter().sum::<u64>() / done as u64).max(1));
    let is_found = |every: u64| {
        let worst = (0..PHASES.min(every)).map(|phase| every * phase / PHASES.min(every));
        worst.into_iter().all(|phase| is_found(every, phase, a_round, done, max_rounds.max(done), max_growth_percent))
    };
    let each = |per| Power { tasks: 1, per, requests: requests.is_some() };
    if !is_found(1) {
        // Not even one task with each request, or round.
        let tasks = (2..=64).find(|&tasks| found_when_every_round_leaves(tasks * a_round, done, max_growth_percent))?;
        return Some(Power { tasks, ..each(1) });
    }
    // What is found at one rate is found at any greater one.
    let (mut found, mut missed) = (1, a_round.saturating_mul(max_rounds.max(done) as u64).saturating_add(1));
    while missed - found > 1 {
        let middle = found + (missed - found) / 2;
        if is_found(middle) { found = middle } else { missed = middle }
    }
    Some(each(found))
}

/// Whether a leak of one task in `every` requests, the first of them after `phase`, is found.
fn is_found(every: u64, phase: u64, a_round: u64, rounds: usize, max_rounds: usize, max_growth_percent: f64) -> bool {
    let until = |round: usize| (a_round * round as u64 + every - 1 - phase.min(every - 1)) / every;
    let mut left = Vec::new();
    for round in 1..=max_rounds {
        left.push(until(round).saturating_sub(until(round - 1)));
        if round < rounds {
            continue;
        }
        let decision = decide(left.clone(), max_growth_percent);
        if !decision.is_open || round == max_rounds {
            return decision.ground.verdict() >= Verdict::Likely;
        }
    }
    false
}

fn found_when_every_round_leaves(tasks: u64, rounds: usize, max_growth_percent: f64) -> bool {
    decide(vec![tasks; rounds], max_growth_percent).ground.verdict() >= Verdict::Likely
}

/// What the rule says of tasks that are left by the rounds and that nothing wakes, where a pool might wait as well.
fn decide(left: Vec<u64>, max_growth_percent: f64) -> rule::Decision {
    let exposure = vec![1.0; left.len()];
    let mut counts = vec![0];
    for left in &left {
        counts.push(counts.last().copied().unwrap_or(0) + left);
    }
    let asleep = left.split_last().map_or(0, |(_, before)| before.iter().sum());
    let cohorts = Cohorts { net: counts.clone(), counts, left, asleep, ..Cohorts::default() };
    rule::decide(&cohorts, Nature::default(), &exposure, max_growth_percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(requests: &[Option<u64>]) -> Vec<Round> {
        let baseline = Round::default();
        [baseline].into_iter().chain(requests.iter().map(|&requests| Round { requests, ..Round::default() })).collect()
    }

    #[test]
    fn more_requests_and_rounds_find_smaller_leaks() {
        let per = |requests: u64, done: usize, most: usize| {
            let power = power(&rounds(&vec![Some(requests); done]), most, 5.0)?;
            assert!(power.requests && power.tasks == 1);
            Some(power.per)
        };
        // A check of 20 requests a round finds what comes with every 30th of them.
        assert!(per(20, 3, 8) >= Some(30), "{:?}", per(20, 3, 8));
        assert!(per(200, 3, 8) > per(20, 3, 8));
        assert!(per(20, 3, 8) >= per(20, 3, 3));
        assert_eq!(power(&rounds(&[]), 8, 5.0), None);
        let unknown = power(&rounds(&[None, None, None]), 8, 5.0).unwrap();
        assert!(!unknown.requests && unknown.per >= 1, "{unknown:?}");
        // Whatever a load claims.
        for most in [1, 3, 100] {
            assert!(per(u64::MAX, 3, most) >= Some(MOST_REQUESTS));
        }
        assert!(power(&rounds(&vec![Some(u64::MAX); 2_000]), 2_000, 0.0).is_some());
    }
}
