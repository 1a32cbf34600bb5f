use super::*;
use crate::{model::Frame, report::fixture};

fn side(recording: &Recording) -> Side<'_> {
    Side { recording, sites: recording.sites.iter().collect() }
}

fn outcome(before: &Recording, after: &Recording) -> (Outcome, Vec<String>) {
    let diff = diff(&side(before), &side(after));
    (diff.outcome, diff.reasons)
}

fn change_of(before: &Recording, after: &Recording, id: &str) -> Change {
    let (before, after) = (side(before), side(after));
    diff(&before, &after).rows.into_iter().find(|row| row.id == id).unwrap().change
}

#[test]
fn a_recording_is_no_more_than_itself() {
    for recording in [fixture::checkout(), fixture::large(), fixture::idle(), fixture::go::glance()] {
        let same = diff(&side(&recording), &side(&recording));
        assert_eq!(same.outcome, Outcome::NoMore, "{:?}", same.reasons);
        assert!(same.rows.iter().all(|row| row.change == Change::Same && !row.creators_unknown));
        assert_eq!(same.rows.len(), recording.sites.len());
    }
}

#[test]
fn more_fewer_new_and_gone_are_told() {
    let before = fixture::checkout();
    let mut after = before.clone();
    let ids: Vec<String> = before.sites.iter().map(|site| site.id.clone()).collect();
    after.sites[0].count += 3;
    after.sites[0].parked += 3;
    after.sites[2].count -= 1;
    after.sites[2].parked -= 1;
    after.sites.remove(3);
    assert_eq!(change_of(&before, &after, &ids[0]), Change::Grown);
    assert_eq!(change_of(&before, &after, &ids[1]), Change::Same);
    assert_eq!(change_of(&before, &after, &ids[2]), Change::Fewer);
    assert_eq!(change_of(&before, &after, &ids[3]), Change::Gone);
    assert_eq!(change_of(&after, &before, &ids[3]), Change::New);
    assert_eq!(outcome(&before, &after), (Outcome::More, vec![]));
    let diff = diff(&side(&before), &side(&after));
    assert_eq!((diff.more(), diff.fewer(), diff.rows[0].change), (3, 2, Change::Grown));
}

#[test]
fn places_of_frames_and_sites_do_not_matter() {
    let before = fixture::checkout();
    let mut after = before.clone();
    let moved = u32::try_from(before.frames.len()).unwrap();
    after.frames.reverse();
    let turned = |stack: &mut Vec<u32>| stack.iter_mut().for_each(|place| *place = moved - 1 - *place);
    for site in &mut after.sites {
        turned(&mut site.stack);
        turned(&mut site.creation);
    }
    after.sites.reverse();
    after.target.pid += 1;
    assert_eq!(outcome(&before, &after), (Outcome::NoMore, vec![]));
}

/// The same threads, once with their creators and once without.
#[test]
fn creators_that_one_of_them_does_not_know_make_nothing_new() {
    let with = fixture::checkout();
    let mut without = with.clone();
    // In the fixture the first two sites are at one place, the first with a creator.
    without.sites[0].creation.clear();
    without.sites[0].id = "00000001".into();
    let (before, after) = (side(&without), side(&with));
    let same = diff(&before, &after);
    assert_eq!((same.outcome, same.more()), (Outcome::NoMore, 0));
    assert!(same.rows.iter().any(|row| row.creators_unknown && row.change == Change::Same));
    // And if there is more in all, that is told.
    let mut more = with.clone();
    more.sites[0].count += 1;
    more.sites[0].parked += 1;
    let grown = diff(&before, &side(&more));
    assert_eq!((grown.outcome, grown.more()), (Outcome::More, 1));
    // If both know them, they are two.
    let mut other = with.clone();
    other.sites[0].creation.pop();
    other.sites[0].id = "00000001".into();
    let two = diff(&side(&other), &after);
    assert_eq!((two.outcome, two.sites(Change::New), two.sites(Change::Gone)), (Outcome::More, 1, 1));
}

#[test]
fn what_is_not_known_is_never_no_more() {
    let before = fixture::checkout();
    let check = |change: fn(&mut Recording), word: &str| {
        let mut after = before.clone();
        change(&mut after);
        let (outcome, reasons) = outcome(&before, &after);
        assert_eq!(outcome, Outcome::Incomplete);
        assert!(reasons.len() == 1 && reasons[0].contains(word), "{reasons:?}");
    };
    check(|after| after.losses = [(Loss::SitesNotListed, 1)].into(), "not seen");
    check(|after| after.min_block_ms += 1, "same -m");
    check(|after| after.coverage.snapshots = 0, "no snapshot");
    check(|after| after.target.runtime = "go1.27.3".into(), "goroutines");
    check(|after| after.sites[0].count += 1, "1 site");
    // What hides nothing does no harm.
    let mut after = before.clone();
    after.losses.insert(Loss::RingFullCreated, 5);
    after.min_block_ms -= 1;
    assert_eq!(outcome(&before, &after).0, Outcome::NoMore);
}

#[test]
fn what_was_not_seen_before_makes_nothing_new() {
    let after = fixture::checkout();
    let mut before = after.clone();
    before.sites[0].count -= 2;
    before.sites[0].parked -= 2;
    assert_eq!(outcome(&before, &after).0, Outcome::More);
    before.losses.insert(Loss::TaskUnreadable, 1);
    assert_eq!(outcome(&before, &after).0, Outcome::More, "there are more than were lost");
    before.losses.insert(Loss::TaskUnreadable, 2);
    assert_eq!(outcome(&before, &after).0, Outcome::Incomplete);
    before.losses.clear();
    before.min_block_ms += 1;
    assert_eq!(outcome(&before, &after).0, Outcome::Incomplete);
}

#[test]
fn unknown_ages_are_counted_for_nobody() {
    let numbers = |parked, count| Numbers { count, parked, ..Numbers::default() };
    for (before, after, change) in [
        (numbers(0, 10), numbers(0, 10), Change::Same),
        (numbers(0, 10), numbers(11, 11), Change::Grown),
        (numbers(0, 10), numbers(5, 10), Change::Unclear),
        (numbers(3, 3), numbers(3, 4), Change::Unclear),
        (numbers(0, 0), numbers(0, 1), Change::Unclear),
        (numbers(0, 0), numbers(1, 1), Change::New),
        (numbers(5, 5), numbers(0, 0), Change::Gone),
        (numbers(5, 5), numbers(4, 4), Change::Fewer),
    ] {
        assert_eq!(Change::of(before, after), change, "{before:?} {after:?}");
    }
}

#[test]
fn names_of_modules_are_held_once_for_all_sites() {
    let mut recording = fixture::checkout();
    // Named otherwise than the file, as libraries are.
    let module = format!("/lib/{}.so", "a_".repeat(32 << 10));
    let frame = |n: u32| Frame { module: module.clone(), function: n.to_string(), ..Frame::default() };
    recording.frames = (0..500).map(frame).collect();
    recording.tasks.clear();
    let site = |n: u32| Site {
        id: n.to_string(),
        stack: (0..500).map(|place| (place + n) % 500).collect(),
        ..recording.sites[0].clone()
    };
    recording.sites = (0..2_000).map(site).collect();
    // Held for each frame of each site, these would be 64 GB.
    let same = diff(&side(&recording), &side(&recording));
    assert_eq!((same.rows.len(), same.sites(Change::Same)), (2_000, 2_000));
}
