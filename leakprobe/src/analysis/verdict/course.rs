//! How the tasks of each site have fared over the rounds: who is new, who woke, who is gone.

use std::collections::HashMap;

use super::moment::{Fared, Moment, Seen, is_of_strangers, place};
use crate::model::{Course, Recording};

/// What is known of a site's tasks besides what its [`Course`] tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tracks {
    pub(super) course: Course,
    /// The same counts, with threads that wait at the same place and whose creators nobody knows: as those end, others of known
    /// creators take their place, and are no more for that.
    pub(super) with_strangers: Vec<u64>,
    /// Of the new tasks that could be followed, those that woke only when their own timers did.
    pub(super) woke_by_timer: u64,
    /// Of the new tasks that could be followed, those of which it is not known whether they woke.
    pub(super) unclear: u64,
    /// Tasks that came here after the baseline and have ended or gone on since.
    pub(super) left: u64,
}

/// What a task has done so far.
#[derive(Clone, Copy, Debug)]
struct Track {
    /// In which moment it was first seen.
    first: usize,
    /// In which moment it was first seen at the site where it is now.
    here: usize,
    woke: bool,
    woke_by_timer: bool,
    unclear: bool,
}

/// Follows the tasks of `moments` through time, and tells of each site of `recording`, the last moment's. The same moments, the same
/// answer, in whatever order tasks and sites are listed.
pub(super) fn follow(recording: &Recording, moments: &[Moment]) -> Vec<Tracks> {
    let mut by_id: HashMap<&str, Tracks> = HashMap::new();
    let mut tracks: Vec<Track> = Vec::new();
    let Some((last, _)) = moments.split_last() else {
        return vec![Tracks::default(); recording.sites.len()];
    };
    for (number, moment) in moments.iter().enumerate() {
        let before = number.checked_sub(1).and_then(|before| moments.get(before));
        let (next, gone) = step(number, before, moment, &tracks);
        tracks = next;
        for site in gone {
            by_id.entry(site).or_default().left += 1;
        }
    }
    for (seen, track) in last.tasks().iter().zip(&tracks) {
        let Some(site) = last.site_of(seen) else {
            continue;
        };
        let tracks = by_id.entry(site).or_default();
        tracks.course.creators_gone += u64::from(seen.creator_gone);
        if track.first == 0 {
            tracks.course.old_woke += u64::from(track.woke || track.woke_by_timer);
            continue;
        }
        tracks.course.new += 1;
        if track.first + 1 < moments.len() {
            tracks.course.followed += 1;
            tracks.course.woke += u64::from(track.woke || track.woke_by_timer);
            tracks.woke_by_timer += u64::from(track.woke_by_timer && !track.woke);
            tracks.unclear += u64::from(track.unclear && !track.woke && !track.woke_by_timer);
        }
    }
    let of_site = |site: &crate::model::Site| {
        let mut tracks = by_id.get(site.id.as_str()).cloned().unwrap_or_default();
        tracks.course.counts = moments.iter().map(|moment| moment.count(&site.id)).collect();
        tracks.with_strangers = if is_of_strangers(site) {
            tracks.course.counts.clone()
        } else {
            let place = place(site, recording);
            let both = moments.iter().zip(&tracks.course.counts);
            both.map(|(moment, count)| count + moment.strangers(place)).collect()
        };
        tracks
    };
    recording.sites.iter().map(of_site).collect()
}

/// From one moment to the next; both lists are sorted. Also gives the sites of tasks that came after the baseline and are at their
/// site no more.
fn step<'a>(
    number: usize,
    before: Option<&'a Moment>,
    moment: &Moment,
    tracks: &[Track],
) -> (Vec<Track>, Vec<&'a str>) {
    let new = Track { first: number, here: number, woke: false, woke_by_timer: false, unclear: false };
    let Some(before) = before else {
        return (vec![new; moment.tasks().len()], Vec::new());
    };
    let elapsed_ms = moment.at_ms.saturating_sub(before.at_ms);
    let mut gone = Vec::new();
    let leave = |seen: &Seen, track: &Track, gone: &mut Vec<&'a str>| {
        if track.here > 0 {
            gone.extend(before.site_of(seen));
        }
    };
    let mut earlier = before.tasks().iter().zip(tracks).peekable();
    let mut next = Vec::with_capacity(moment.tasks().len());
    for seen in moment.tasks() {
        while let Some((ended, track)) = earlier.next_if(|(earlier, _)| earlier.who < seen.who) {
            leave(ended, track, &mut gone);
        }
        let Some((earlier, track)) = earlier.next_if(|(earlier, _): &(&Seen, &Track)| earlier.who == seen.who) else {
            next.push(new);
            continue;
        };
        let fared = seen.fared(elapsed_ms);
        if fared == Fared::Other {
            leave(earlier, track, &mut gone);
            next.push(new);
            continue;
        }
        let has_moved = before.site_of(earlier) != moment.site_of(seen);
        if has_moved {
            leave(earlier, track, &mut gone);
        }
        let woke = fared == Fared::Woke || (has_moved && fared == Fared::Unknown);
        next.push(Track {
            first: track.first,
            here: if has_moved { number } else { track.here },
            woke: track.woke || (woke && !earlier.timed),
            woke_by_timer: track.woke_by_timer || (woke && earlier.timed),
            unclear: track.unclear || (fared == Fared::Unknown && !has_moved),
        });
    }
    for (ended, track) in earlier {
        leave(ended, track, &mut gone);
    }
    (next, gone)
}
