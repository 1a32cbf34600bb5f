//! The rule: from what the rounds left behind to a verdict. Numbers alone, nothing of any program or runtime.
//!
//! A leak leaves tasks behind with each round, they stay, and nobody uses them. A pool that fills does the same until it is full. So
//! growth counts as a leak only if it goes on at the rate at which it began, and while it might still stop, more rounds are asked for.

use super::cohorts::Cohorts;
use crate::model::Ground;

/// What is known of a unit besides its numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Nature {
    /// The wait is one that no idle worker is in: it sends, or waits for a lock.
    pub(super) is_blocked: bool,
    /// The tasks of the unit wait for a lock.
    pub(super) waits_for_lock: bool,
    /// Its tasks are created in the functions that they run themselves.
    pub(super) creates_itself: bool,
    /// Most of its tasks came, or began their waits, after the load had ended: something other than a request goes on.
    pub(super) renews_itself: bool,
    /// Its number was still going down when the time to settle was over.
    pub(super) is_shrinking: bool,
    /// All of its tasks are old, have lost their creators, and nothing has ever woken them.
    pub(super) is_orphaned: bool,
    /// The load before the baseline left its tasks, and nothing has used them since.
    pub(super) is_unused: bool,
}

/// What the rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) ground: Ground,
    /// Whether more rounds could change it.
    pub(super) is_open: bool,
}

/// So improbable, under a rate that does not change, must the last rounds be for growth to count as stopped.
const IMPROBABLE: f64 = 0.02;
/// So many rounds without any growth end it, if there was more than one task before, and if there was but one.
const QUIET_ROUNDS: usize = 4;
const QUIET_ROUNDS_AFTER_ONE: usize = 2;
/// Rounds with growth that it takes, unless every round has some.
const GROWN_ROUNDS: usize = 3;
/// Rounds with growth that are enough where something else indicates a leak: no idle worker is in such a wait, or the number rises with
/// each of the last rounds.
const FEW_GROWN_ROUNDS: usize = 2;
/// Rounds that tasks which others wake must grow in, every one of them.
const STEADY_ROUNDS: usize = 6;
/// Rounds that tasks must grow in, every one of them, which end all the time, so that only their number shows it.
const NET_ROUNDS: usize = 4;

/// Judges a unit. `exposure` is the load of each round, in requests or any other unit; `max_growth_percent` is tolerated.
pub(super) fn decide(cohorts: &Cohorts, nature: Nature, exposure: &[f64], max_growth_percent: f64) -> Decision {
    let decided = |ground| Decision { ground, is_open: false };
    let open = |ground| Decision { ground, is_open: true };
    let left = &cohorts.left;
    let (new, followed) = (cohorts.arrived(), cohorts.followed());
    if new == 0 || !grows(&cohorts.net) {
        return decided(match nature {
            Nature { is_orphaned: true, .. } => Ground::Orphaned,
            Nature { is_unused: true, .. } => Ground::Unused,
            _ => Ground::NoGrowth,
        });
    }
    if nature.is_shrinking && !stands(cohorts) {
        return decided(Ground::GoingDown);
    }
    let rounds = left.len();
    let grown = left.iter().filter(|&&left| left > 0).count();
    let every_round = grown == rounds && rounds > 1;
    if followed == 0 && cohorts.ended + cohorts.brief > 0 && rounds > 1 {
        return turnover(cohorts, nature);
    }
    match pace(left, exposure) {
        // An idle worker waits for work: who waits for a lock and does not get it does not.
        Pace::Stopped if nature.waits_for_lock && cohorts.used == 0 && cohorts.asleep + cohorts.by_timer > 0 => {
            return decided(Ground::Unclear);
        }
        Pace::Stopped => return decided(Ground::Stopped),
        Pace::Slower(from) => return behind(cohorts, from, exposure),
        Pace::Steady => {}
    }
    let net_is_steady = net_is_steady(&cohorts.net, exposure);
    if let Some(decision) = among_others(cohorts, net_is_steady) {
        return decision;
    }
    if cohorts.pending * 10 >= new * 9 {
        return decided(Ground::NotDue);
    }
    let growth = net_growth(&cohorts.net);
    let nothing_ends = cohorts.ended == 0 && cohorts.old_ended == 0;
    let stays = nothing_ends || (net_is_steady && rounds >= NET_ROUNDS);
    if growth as f64 <= max_growth_percent / 100.0 * cohorts.net.first().copied().unwrap_or(0) as f64
        && !(every_round && stays && rounds >= GROWN_ROUNDS)
    {
        return Decision { ground: Ground::Tolerated, is_open: net_is_steady };
    }
    // Most of the growth is in the place of others: workers that are replaced.
    let is_replaced = cohorts.old_ended * 2 > new && !stays;
    let known = cohorts.asleep + cohorts.by_timer + cohorts.used + cohorts.busy;
    // What is not known of most of them shows nothing.
    let is_known = known > 0 && known * 2 >= followed;
    let is_share = |part: u64| is_known && part * 10 >= known * 9;
    let enough = every_round || grown >= if nature.is_blocked { FEW_GROWN_ROUNDS } else { GROWN_ROUNDS };
    // A line in front of a lock that moves is a matter of load.
    let moves_on = nature.waits_for_lock && !(nothing_ends && cohorts.went_on == 0);
    if enough && !is_replaced && (cohorts.ended <= followed || stays) && !moves_on {
        if is_share(cohorts.asleep) && cohorts.asleep > 0 {
            // A line in front of a lock may move later on.
            let is_sure = nature.is_blocked && !nature.waits_for_lock && every_round && nothing_ends;
            return Decision { ground: Ground::EveryRound, is_open: !is_sure };
        }
        let is_steady = is_steady(left, exposure);
        let unused = cohorts.asleep + cohorts.by_timer;
        if is_share(unused) && cohorts.ended == 0 && is_steady {
            return open(Ground::OnlyTimers);
        }
        if is_share(unused + cohorts.busy) && cohorts.ended == 0 && every_round && rounds >= GROWN_ROUNDS {
            return open(Ground::Busy);
        }
        if stays && every_round && rounds >= STEADY_ROUNDS && is_steady {
            return open(Ground::Steady);
        }
    }
    // Few that were there before and are now at another place: so do workers.
    let have_moved = cohorts.moved * 2 > new;
    if have_moved || (cohorts.used * 2 > known && !every_round) {
        return decided(Ground::InUse);
    }
    open(Ground::Unclear)
}

/// Whether none of what the rounds left has ended, and the last round left no more than those before it: then what still goes down is
/// only of that round, or rests at one moment and runs at the next.
fn stands(cohorts: &Cohorts) -> bool {
    let Some((last, before)) = cohorts.left.split_last() else { return false };
    let usual: u64 = before.iter().sum();
    cohorts.ended == 0 && cohorts.old_ended == 0 && last.saturating_mul(before.len() as u64) <= usual
}

/// Of a unit of which no task lasts for a round.
fn turnover(cohorts: &Cohorts, nature: Nature) -> Decision {
    let steps: Vec<u64> = cohorts.net.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    let (least, most) = (steps.iter().min().copied().unwrap_or(0), steps.iter().max().copied().unwrap_or(0));
    let goes_on = steps.len() >= GROWN_ROUNDS && least > 0 && least * 2 >= most;
    let is_chain = goes_on && (nature.creates_itself || (nature.renews_itself && steps.len() >= STEADY_ROUNDS));
    let is_open = goes_on && (nature.creates_itself || nature.renews_itself);
    Decision { ground: if is_chain { Ground::Chains } else { Ground::Turnover }, is_open }
}

/// Decides on a unit whose tasks mostly end and are replaced, but among which some may never end. `None` if the numbers show neither
/// turnover nor tasks that stay.
fn among_others(cohorts: &Cohorts, net_is_steady: bool) -> Option<Decision> {
    let (left, followed) = (&cohorts.left, cohorts.followed());
    if left.len() <= 2 || cohorts.ended <= followed {
        return None;
    }
    let rounds_with = |left: &[u64]| left.iter().filter(|&&left| left > 0).count();
    let are_asleep = cohorts.used + cohorts.by_timer + cohorts.busy + cohorts.unclear == 0;
    let stay = rounds_with(cohorts.outlasting());
    let are_older = rounds_with(&left[..left.len().saturating_sub(cohorts.longest)]);
    let steps = cohorts.net.windows(2).rev().take(NET_ROUNDS);
    let rises = steps.len() == NET_ROUNDS && steps.clone().all(|pair| pair[1] > pair[0]);
    let enough = if rises { FEW_GROWN_ROUNDS } else { GROWN_ROUNDS };
    // What is there at the end came lately.
    let aged: u64 = left.iter().take(left.len() / 2).sum();
    let ground = match stay {
        _ if stay >= enough && are_asleep => Ground::EveryRound,
        FEW_GROWN_ROUNDS.. => Ground::Unclear,
        _ if rises && are_older >= FEW_GROWN_ROUNDS => Ground::Unclear,
        _ if aged * 4 < followed => Ground::Turnover,
        _ => return None,
    };
    Some(Decision { ground, is_open: net_is_steady || are_older > 0 })
}

/// Of a unit that grew fast at first and then more slowly, from round `from` on: a pool that fills up, or one that began to work and a
/// leak behind it, which goes on at its own rate.
fn behind(cohorts: &Cohorts, from: usize, exposure: &[f64]) -> Decision {
    let (left, exposure) = (&cohorts.left[from..], &exposure[from.min(exposure.len())..]);
    let (early, late) = left.split_at(left.len() / 2);
    let rate = |tasks: &[u64]| tasks.iter().sum::<u64>() as f64 / tasks.len().max(1) as f64;
    let grows = left.iter().all(|&left| left > 0);
    let goes_on = left.len() >= NET_ROUNDS && rate(late) >= rate(early) && is_steady(left, exposure);
    let is_asleep = cohorts.asleep > 0 && cohorts.used + cohorts.by_timer + cohorts.busy + cohorts.unclear == 0;
    let ends = cohorts.ended + cohorts.old_ended > 0;
    let ground = match grows && goes_on && !ends {
        true if is_asleep => Ground::EveryRound,
        true => Ground::Unclear,
        false => Ground::Stopped,
    };
    Decision { ground, is_open: grows && !ends }
}

/// How growth goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// The last rounds may have as much growth as those before.
    Steady,
    /// Growth has become much less from the round with this number on, the first being 0, but has not stopped.
    Slower(usize),
    /// The last rounds have none, though at the rate before they should.
    Stopped,
}

/// Whether the total rises with each round about as much, whatever comes and goes.
fn net_is_steady(net: &[u64], exposure: &[f64]) -> bool {
    let steps: Vec<u64> = net.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    let rates: Vec<f64> =
        steps.iter().zip(exposure).map(|(&step, &load)| step as f64 / load.max(f64::MIN_POSITIVE)).collect();
    let mean = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
    steps.len() >= GROWN_ROUNDS && steps.iter().all(|&step| step > 0) && rates.iter().all(|&rate| rate * 2.0 >= mean)
}

/// Whether there are more at the end, or on the whole: one moment may be an accident.
fn grows(net: &[u64]) -> bool {
    let (Some(first), Some(last)) = (net.first(), net.last()) else {
        return false;
    };
    last > first || (net.len() > 4 && net_growth(net) > 0)
}

/// By how many there are more at the end, or on average in the later half.
fn net_growth(net: &[u64]) -> u64 {
    let (early, late) = net.split_at(net.len() / 2);
    let mean = |part: &[u64]| part.iter().sum::<u64>() as f64 / part.len().max(1) as f64;
    let ends = net.last().copied().unwrap_or(0).saturating_sub(net.first().copied().unwrap_or(0));
    ends.max((mean(late) - mean(early)).max(0.0) as u64)
}

/// Whether growth has stopped though the load went on, or has become much less: the last rounds have so little of it as chance hardly
/// makes them have at the rate of the rounds before.
fn pace(left: &[u64], exposure: &[f64]) -> Pace {
    let all: u64 = left.iter().sum();
    let quiet = left.iter().rev().take_while(|&&left| left == 0).count();
    if quiet >= if all == 1 { QUIET_ROUNDS_AFTER_ONE } else { QUIET_ROUNDS } {
        return Pace::Stopped;
    }
    let whole: f64 = exposure.iter().sum();
    let (mut early, mut before) = (0, 0.0);
    let is_less = |(&tasks, &load): (&u64, &f64)| {
        (early, before) = (early + tasks, before + load);
        let (late, after) = (all - early, whole - before);
        let rate = |tasks: u64, load: f64| if load > 0.0 { tasks as f64 / load } else { 0.0 };
        rate(late, after) * 2.0 < rate(early, before) && at_most(late, all, after / whole) < IMPROBABLE
    };
    match left.iter().zip(exposure).take(left.len().saturating_sub(1)).position(is_less) {
        None => Pace::Steady,
        Some(round) if left[round + 1..].iter().all(|&left| left == 0) => Pace::Stopped,
        Some(round) => Pace::Slower(round + 1),
    }
}

/// Whether growth has stopped, or has become much less.
pub(super) fn has_stopped(left: &[u64], exposure: &[f64]) -> bool {
    pace(left, exposure) != Pace::Steady
}

/// Whether each round brought about as many for its load.
fn is_steady(left: &[u64], exposure: &[f64]) -> bool {
    let rates = left.iter().zip(exposure).map(|(&left, &load)| if load > 0.0 { left as f64 / load } else { 0.0 });
    let rates: Vec<f64> = rates.collect();
    let mean = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
    // A handful of tasks are spread unevenly by chance alone.
    left.iter().sum::<u64>() < 4 * left.len() as u64 || rates.iter().all(|&rate| rate * 2.0 >= mean)
}

/// The probability that of `all` events, each of which falls into a part by `chance`, at most `few` do.
fn at_most(few: u64, all: u64, chance: f64) -> f64 {
    /// So many that the normal distribution is as good.
    const MANY: u64 = 400;
    if all > MANY {
        let mean = all as f64 * chance;
        let deviation = (mean * (1.0 - chance)).sqrt();
        // Far enough from the mean it is next to 0 whatever the exact tail.
        let distance = (few as f64 + 0.5 - mean) / deviation.max(f64::MIN_POSITIVE);
        return if distance < -2.06 { 0.0 } else { 1.0 };
    }
    let odds = chance / (1.0 - chance).max(f64::MIN_POSITIVE);
    let mut one = (1.0 - chance).powi(i32::try_from(all).unwrap_or(i32::MAX));
    let mut sum = one;
    for n in 0..few {
        one *= (all - n) as f64 / (n + 1) as f64 * odds;
        sum += one;
    }
    sum
}
