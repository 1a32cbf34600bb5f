//! What holds of verdicts whatever tasks there are.

use proptest::{prelude::*, sample::SizeRange};

use super::*;

prop_compose! {
    /// Tasks with lives of their own: for each, in which round it comes, in which it goes, and in which rounds it wakes.
    fn lives()(lives in proptest::collection::vec(
        (0usize..4, 0u64..5, 1usize..6, proptest::bits::u8::masked(0xf), 0usize..3, any::<bool>()), SizeRange::new(1..=24),
    )) -> Vec<(usize, u64, usize, u8, usize, bool)> {
        lives
    }
}

fn at(round: usize, lives: &[(usize, u64, usize, u8, usize, bool)]) -> Vec<Made> {
    let sites = ["main.a", "main.b", "main.c"];
    let alive = lives.iter().enumerate().filter(|(_, life)| life.0 <= round && round < life.0 + life.2);
    alive
        .map(|(n, &(comes, offset, _, wakes, site, timed))| {
            let born = ROUND * comes as u64 + offset * 1_000 + 500;
            let woken = (comes + 1..=round).rev().find(|round| wakes >> round & 1 == 1);
            let since_ms = woken.map_or(born, |round| ROUND * round as u64 + 5_000);
            // Its timer fires at every look, if it has one.
            let (timeout_ms, due_ms) = (timed.then_some(700), timed.then_some(300));
            Made { since_ms, timeout_ms, due_ms, ..made(100 + n as u64, sites[site], born) }
        })
        .collect()
}

fn verdicts(rounds: &[Recording]) -> BTreeMap<String, Verdict> {
    let judgements = all_judged(rounds).sites;
    let ids = rounds.last().unwrap().sites.iter().map(|site| site.id.clone());
    ids.zip(judgements.into_iter().map(|it| it.verdict)).collect()
}

/// Another order of tasks and sites, other addresses.
fn shuffled(recording: &Recording, by: usize) -> Recording {
    let mut other = recording.clone();
    let tasks = other.tasks.len().max(1);
    other.tasks.rotate_left(by % tasks);
    other.sites.reverse();
    let count = other.sites.len() as u32;
    other.tasks.iter_mut().for_each(|task| task.site = task.site.map(|site| count - 1 - site));
    other.frames.iter_mut().for_each(|frame| frame.address = format!("0x{by:x}"));
    other
}

/// Each site in two, as when only lines differ.
fn split(recording: &Recording) -> Recording {
    let mut other = recording.clone();
    let count = other.sites.len() as u32;
    for place in 0..count as usize {
        let mut second = other.sites[place].clone();
        let members: Vec<usize> =
            (0..other.tasks.len()).filter(|&task| other.tasks[task].site == Some(place as u32)).collect();
        let moved = &members[members.len() / 2..];
        moved.iter().for_each(|&task| other.tasks[task].site = Some(count + place as u32));
        second.count = moved.len() as u64;
        other.sites[place].count -= second.count;
        other.sites.push(second);
    }
    other
}

proptest! {
    #[test]
    fn order_addresses_and_merging_never_change_a_verdict(lives in lives(), by in 0usize..50) {
        let rounds = rounds(3, |round| at(round, &lives));
        let other: Vec<Recording> = rounds.iter().map(|recording| shuffled(recording, by)).collect();
        prop_assert_eq!(verdicts(&rounds), verdicts(&other));
        let parts: Vec<Recording> = rounds.iter().map(split).collect();
        prop_assert_eq!(verdicts(&rounds), verdicts(&parts));
    }

    #[test]
    fn more_waking_never_makes_it_worse(lives in lives(), which in any::<prop::sample::Index>(), round in 1usize..4) {
        let before = verdicts(&rounds(3, |round| at(round, &lives)));
        let mut woken = lives.clone();
        let life = &mut woken[which.index(lives.len())];
        // Woken by somebody else: what its own timer does is no use.
        prop_assume!(!life.5);
        life.3 |= 1 << round;
        let after = verdicts(&rounds(3, |round| at(round, &woken)));
        for (site, verdict) in &after {
            prop_assert!(before.get(site).is_none_or(|before| verdict <= before), "{site}: {before:?} {after:?}");
        }
    }

    #[test]
    fn no_recording_makes_it_panic(lives in lives(), cut in 0usize..4) {
        let mut rounds = rounds(3, |round| at(round, &lives));
        let last = rounds.last_mut().unwrap();
        last.sites.truncate(cut);
        last.frames.truncate(cut);
        last.tasks.iter_mut().for_each(|task| task.site = task.site.map(|site| site.wrapping_mul(7)));
        let judgements = all_judged(&rounds);
        tell(rounds.last_mut().unwrap(), judgements);
    }

    /// A leak that comes with every round stays likely among tasks that come and go at the same place and by the same creator, and
    /// with more rounds.
    #[test]
    fn noise_and_more_rounds_never_hide_a_leak(
        a_round in 1u64..6, most in 3usize..10, noise in proptest::collection::vec(0u64..4, 12),
    ) {
        let among = |round: usize| {
            let brief = (0..noise[round]).map(|n| made(100_000 + 100 * round as u64 + n, "main.leak", ROUND * (round as u64 + 1) - 100));
            leak(a_round, round).into_iter().chain(brief).collect()
        };
        // Noise at the baseline that is as large as the leak hides it from any rule until there are more rounds.
        prop_assume!(noise[0] * 2 <= a_round * (most as u64 - 1));
        let judgement = judged(&rounds(most, among), "main.leak");
        prop_assert_eq!(judgement.verdict, Verdict::Likely, "{:?}", judgement);
    }

    /// Whether its tasks are at one place or at several, a leak is called the same.
    #[test]
    fn a_leak_at_many_places_is_judged_no_milder(a_round in 1u64..6, most in 3usize..9, places in 1usize..9) {
        const PLACES: [&str; 8] = ["w0", "w1", "w2", "w3", "w4", "w5", "w6", "w7"];
        let spread = |round: usize| {
            let mut tasks = leak(a_round, round);
            tasks.iter_mut().enumerate().for_each(|(n, task)| task.at = PLACES[n % places]);
            tasks
        };
        let worst = all_judged(&rounds(most, spread)).worst();
        prop_assert!(worst >= all_judged(&rounds(most, |round| leak(a_round, round))).worst());
    }

    /// A leak whose tasks come by chance, as many as one in twenty requests leaves: what three rounds leave open, eight decide.
    #[test]
    fn what_comes_by_chance_is_found(come in proptest::collection::vec(0u64..3, 8)) {
        let total: u64 = come.iter().sum();
        let grown = come.iter().filter(|&&come| come > 0).count();
        // Nor so few at last that it may have stopped.
        let late: u64 = come[4..].iter().sum();
        prop_assume!(grown >= 5 && total >= 5 && come[6] + come[7] > 0 && late * 3 >= total - late);
        let tasks = |round: usize| {
            (1..=round).flat_map(|round| (0..come[round - 1]).map(move |n| (round as u64, n)))
                .map(|(round, n)| made(1_000 + 10 * round + n, "main.leak", ROUND * round + ROUND / 2)).collect()
        };
        let judgement = judged(&rounds(8, tasks), "main.leak");
        prop_assert_eq!(judgement.verdict, Verdict::Likely, "{:?}", judgement);
    }
}
