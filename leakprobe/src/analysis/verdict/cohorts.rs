//! What each round of load left behind, followed to the end: how many are left, have ended, were woken and by what.

use std::collections::{HashMap, HashSet};

use super::super::call_path::CallPaths;
use super::moment::{self, CreatorKey, Moment, Seen, ThreadPlace, Transition, Who};
use crate::model::{Course, Recording, Site};

/// So many times older than any that ended became must a task be to count as one that stays. If tasks end by chance, at any age with
/// the same probability, then of n that ended about one in n² becomes so old.
const FAR_OLDER: usize = 2;

/// The tasks of a site, or of one creator, over the rounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cohorts {
    /// Tasks at each moment, the baseline first.
    pub(super) counts: Vec<u64>,
    /// The same, with threads that may have been created there too, but before anybody watched: as those end, others of known
    /// creators take their place, and are no more for that.
    pub(super) net: Vec<u64>,
    /// Tasks that came with each round and are still there.
    pub(super) left: Vec<u64>,
    /// Of these, those that were there at the baseline, at another place.
    pub(super) moved: u64,
    /// Of those that came before the last round, how many of which nothing was seen but sleep; that only their timers woke; that
    /// others woke; that ran at a moment; of which it is not known.
    pub(super) asleep: u64,
    pub(super) by_timer: u64,
    pub(super) used: u64,
    pub(super) busy: u64,
    pub(super) unclear: u64,
    /// Tasks that came after the baseline, were there for a round at least and have ended.
    pub(super) ended: u64,
    /// Tasks that came after the baseline and had ended when the next round was over.
    pub(super) brief: u64,
    /// Tasks of the baseline that have ended.
    pub(super) old_ended: u64,
    /// Rounds that the one of those that have ended which lasted longest was there for, at most.
    pub(super) longest: usize,
    /// Tasks that went on to another place.
    pub(super) went_on: u64,
    /// Tasks of the baseline that have woken.
    pub(super) old_woke: u64,
    /// Of the tasks that came after the baseline: those whose wait ends by a timer that has not been due since they came.
    pub(super) pending: u64,
    /// Of those that count as `pending`, the tasks whose wait ends by another task's timer.
    pub(super) pending_by_others: u64,
    /// In how many ms the last of these timers fires.
    pub(super) due_ms: u64,
    pub(super) creators_gone: u64,
}

impl Cohorts {
    /// Tasks that came after the baseline and are still there.
    pub(super) fn arrived(&self) -> u64 {
        self.left.iter().sum()
    }

    /// Those of them that came before the last round.
    pub(super) fn followed(&self) -> u64 {
        self.left.split_last().map_or(0, |(_, before)| before.iter().sum())
    }

    /// The tasks that each of the earliest rounds left and that are older by far than any became that ended: they are not of the
    /// same sort. None if none has ended.
    pub(super) fn outlasting(&self) -> &[u64] {
        let too_young = if self.longest == 0 { self.left.len() } else { FAR_OLDER * self.longest };
        &self.left[..self.left.len().saturating_sub(too_young)]
    }

    /// What a recording tells of them.
    pub(super) fn course(&self) -> Course {
        let new = self.arrived();
        Course {
            counts: self.counts.clone(),
            left: self.left.clone(),
            new,
            followed: self.followed(),
            woke: self.by_timer + self.used + self.busy,
            by_timer: self.by_timer,
            unclear: self.unclear,
            ended: self.ended,
            old_woke: self.old_woke,
            creators_gone: self.creators_gone,
            due_ms: Some(self.due_ms).filter(|_| new > 0 && self.pending == new),
        }
    }

    /// Adds a task that is there at the end; it came in moment `came`, of which the last is `last`, and has done `habits` since. Its
    /// timer says nothing of its end if it is one of many, see [`Track::has_fired`].
    fn add(&mut self, seen: &Seen, came: usize, habits: Habits, has_fired: bool, last: usize) {
        self.creators_gone += u64::from(seen.creator_gone);
        let Some(round) = came.checked_sub(1) else {
            self.old_woke += u64::from(habits.woke());
            return;
        };
        if let Some(left) = self.left.get_mut(round) {
            *left += 1;
        }
        if let Some(due_ms) = seen.ends_in_ms().filter(|_| !has_fired) {
            self.pending += 1;
            self.pending_by_others += u64::from(seen.is_by_others);
            self.due_ms = self.due_ms.max(due_ms);
        }
        if came == last {
            return;
        }
        let kind = match habits {
            Habits { used: true, .. } => &mut self.used,
            Habits { ran: true, .. } => &mut self.busy,
            Habits { timer: true, .. } => &mut self.by_timer,
            Habits { unclear: true, .. } => &mut self.unclear,
            _ => &mut self.asleep,
        };
        *kind += 1;
    }

    /// Counts a task that has ended after moment `last_seen`; it came in moment `came`.
    fn end(&mut self, came: usize, last_seen: usize) {
        self.longest = self.longest.max(last_seen + 1 - came.min(last_seen));
        match came {
            0 => self.old_ended += 1,
            _ if last_seen > came => self.ended += 1,
            _ => self.brief += 1,
        }
    }
}

/// What a task was seen to do.
#[derive(Clone, Copy, Debug, Default)]
struct Habits {
    used: bool,
    timer: bool,
    ran: bool,
    unclear: bool,
}

impl Habits {
    fn woke(self) -> bool {
        self.used || self.timer || self.ran
    }

    fn add(&mut self, transition: Transition) {
        match transition {
            Transition::Slept | Transition::Replaced => {}
            Transition::TimerWoke => self.timer = true,
            Transition::Woke => self.used = true,
            Transition::Ran => self.ran = true,
            Transition::Unknown => self.unclear = true,
        }
    }
}

/// A task so far.
#[derive(Clone, Copy, Debug)]
struct Track {
    /// In which moment it was first seen.
    first: usize,
    /// In which moment it was first seen at the site where it is now.
    here: usize,
    /// What it did since it was first seen.
    always: Habits,
    /// What it did since it came to its site.
    at_site: Habits,
    /// Whether a timer that was to end its wait has fired.
    past_due: bool,
}

impl Track {
    /// Whether a timer that was to end a wait of this task has fired, or must have: one that is shorter than the last round, which
    /// took `round_ms`, is not the first that it sets if it has woken since; nor is one that is shorter than the numbers were level
    /// for, `rest_ms`.
    fn has_fired(&self, seen: &Seen, round_ms: u64, rest_ms: u64) -> bool {
        let is_shorter = |ms| seen.timer_ms().is_some_and(|timer_ms| timer_ms < ms);
        self.always.timer || self.past_due || is_shorter(rest_ms) || (is_shorter(round_ms) && self.always.woke())
    }
}

/// All units of a recording.
pub(super) struct Followed {
    /// Of each of the recording's sites.
    pub(super) sites: Vec<Cohorts>,
    /// Of each creator that has tasks at the end.
    pub(super) creators: HashMap<CreatorKey, Cohorts>,
    /// Sites at the end of which the load before the baseline has left all tasks, and nothing has woken one since; whether that holds
    /// only if their own timers do not count.
    pub(super) unused: HashMap<String, bool>,
}

/// Follows the tasks of `moments` through time. `recording` is the last moment's; tasks at the sites `excused` do not count for their
/// creators. `before` is what was there before any load, if that is known. The same moments, the same answer, in whatever order
/// tasks and sites are listed.
pub(super) fn follow(
    recording: &Recording,
    paths: &CallPaths<'_>,
    moments: &[Moment],
    before: Option<&Moment>,
    excused: &HashSet<&str>,
) -> Followed {
    let rounds = moments.len().saturating_sub(1);
    let empty = || Cohorts { left: vec![0; rounds], ..Cohorts::default() };
    let mut by_site: HashMap<&str, Cohorts> = HashMap::new();
    let mut creators: HashMap<CreatorKey, Cohorts> = HashMap::new();
    let mut tracks: Vec<Track> = Vec::new();
    let mut unused: HashMap<&str, Option<bool>> = HashMap::new();
    let Some((last, _)) = moments.split_last() else {
        return Followed { sites: Vec::new(), creators, unused: HashMap::new() };
    };
    // A task that could not be read at one moment is back at the next: only what stays away has ended.
    let mut gone: HashMap<Who, Gone<'_>> = HashMap::new();
    let mut went_on: HashMap<&str, u64> = HashMap::new();
    for (number, moment) in moments.iter().enumerate() {
        let earlier = number.checked_sub(1).and_then(|earlier| moments.get(earlier));
        tracks = step(number, earlier, moment, &tracks, &mut gone, &mut went_on);
    }
    for (site, count) in went_on {
        by_site.entry(site).or_insert_with(empty).went_on = count;
    }
    for Gone { moment, number, seen, track } in gone.into_values() {
        if let Some(site) = moment.site_of(seen) {
            by_site.entry(site).or_insert_with(empty).end(track.here, number);
        }
        if let Some(creator) = moment.creator_of(seen) {
            creators.entry(creator).or_insert_with(empty).end(track.first, number);
        }
    }
    let earlier = moments.len().checked_sub(2).and_then(|earlier| moments.get(earlier));
    let round_ms = earlier.map_or(0, |earlier| last.at_ms.saturating_sub(earlier.at_ms));
    let round = recording.check.as_ref().and_then(|check| check.rounds.last());
    let rest_ms = round.filter(|round| round.settled).map_or(0, |round| round.settle_ms);
    for (seen, track) in last.tasks().iter().zip(&tracks) {
        let has_fired = track.has_fired(seen, round_ms, rest_ms);
        let site = last.site_of(seen);
        if let Some(site) = site {
            let cohorts = by_site.entry(site).or_insert_with(empty);
            cohorts.add(seen, track.here, track.at_site, has_fired, rounds);
            cohorts.moved += u64::from(track.first == 0 && track.here > 0);
            // Only what a load has left is a question: what has been there from the start belongs to the program.
            let of_load = before.is_some_and(|before| !before.has(seen));
            let Habits { used, ran, timer, unclear } = track.at_site;
            let is_asleep = !used && !ran && !unclear;
            let is_unused = of_load && track.here == 0 && is_asleep && seen.ends_in_ms().is_none();
            let of_site = unused.entry(site).or_insert(Some(false));
            *of_site = of_site.filter(|_| is_unused).map(|has_timers| has_timers | timer);
        }
        if let Some(creator) = last.creator_of(seen).filter(|_| !site.is_some_and(|site| excused.contains(site))) {
            creators.entry(creator).or_insert_with(empty).add(seen, track.first, track.always, has_fired, rounds);
        }
    }
    let excused_of = excused_counts(recording, paths, moments, excused);
    let places: Vec<Option<ThreadPlace>> =
        recording.sites.iter().map(|site| moment::thread_place(site, paths)).collect();
    let adopting = adopting(&places);
    let mut places_of: HashMap<CreatorKey, Vec<u64>> = HashMap::new();
    for (site, place) in recording.sites.iter().zip(&adopting).filter(|(site, _)| !excused.contains(site.id.as_str())) {
        let creator = moment::creator(site.task, &site.creation, paths);
        if let (Some(creator), Some(place)) = (creator, place) {
            places_of.entry(creator).or_default().push(*place);
        }
    }
    for (creator, cohorts) in &mut creators {
        let none = Vec::new();
        let less = excused_of.get(creator).unwrap_or(&none);
        let count = |(number, moment): (usize, &Moment)| {
            moment.created(*creator).saturating_sub(less.get(number).copied().unwrap_or(0))
        };
        cohorts.counts = moments.iter().enumerate().map(count).collect();
        cohorts.net = moments.iter().zip(&cohorts.counts).map(|(moment, count)| count + moment.unknown()).collect();
        for (count, moment) in cohorts.counts.iter_mut().zip(moments) {
            let strangers = places_of.get(creator).into_iter().flatten().map(|&place| moment.strangers(place));
            *count += strangers.sum::<u64>();
        }
    }
    let of_site = |(number, site): (usize, &Site)| {
        let mut cohorts = by_site.get(site.id.as_str()).cloned().unwrap_or_else(empty);
        cohorts.counts = moments.iter().map(|moment| moment.count(&site.id)).collect();
        cohorts.net = match places.get(number).copied().flatten() {
            Some(ThreadPlace { place, is_of_strangers: false }) => {
                let both = moments.iter().zip(&cohorts.counts);
                both.map(|(moment, count)| count + moment.strangers(place)).collect()
            }
            _ => cohorts.counts.clone(),
        };
        if adopting.get(number).is_some_and(Option::is_some) {
            cohorts.counts.clone_from(&cohorts.net);
        }
        cohorts
    };
    Followed {
        sites: recording.sites.iter().enumerate().map(of_site).collect(),
        creators,
        unused: unused.into_iter().filter_map(|(site, timers)| Some((site.to_owned(), timers?))).collect(),
    }
}

/// For each site its place, if the threads there whose creators were not seen count as its own: it is the only one of known creators
/// there, as [`sites`](crate::analysis::sites) decides. At moments before the first of its creators was seen, they were a site of
/// their own.
fn adopting(places: &[Option<ThreadPlace>]) -> Vec<Option<u64>> {
    let mut sites_at: HashMap<u64, u32> = HashMap::new();
    for thread in places.iter().flatten() {
        *sites_at.entry(thread.place).or_default() += 1;
    }
    let adopts = |thread: &ThreadPlace| !thread.is_of_strangers && sites_at.get(&thread.place) == Some(&1);
    places.iter().map(|thread| thread.filter(adopts).map(|thread| thread.place)).collect()
}

/// Tasks at excused sites by creator, at each moment.
fn excused_counts(
    recording: &Recording,
    paths: &CallPaths<'_>,
    moments: &[Moment],
    excused: &HashSet<&str>,
) -> HashMap<CreatorKey, Vec<u64>> {
    let mut counts: HashMap<CreatorKey, Vec<u64>> = HashMap::new();
    for site in recording.sites.iter().filter(|site| excused.contains(site.id.as_str())) {
        if let Some(creator) = moment::creator(site.task, &site.creation, paths) {
            let counts = counts.entry(creator).or_insert_with(|| vec![0; moments.len()]);
            counts.iter_mut().zip(moments).for_each(|(count, moment)| *count += moment.count(&site.id));
        }
    }
    counts
}

/// A task that is not there any more: when it was last seen.
struct Gone<'a> {
    moment: &'a Moment,
    number: usize,
    seen: &'a Seen,
    track: Track,
}

/// From one moment to the next; both lists are sorted. Who is not there any more is put into `gone`, and taken from there if it is
/// back; how many went on from which site is added to `went_on`.
fn step<'a>(
    number: usize,
    before: Option<&'a Moment>,
    moment: &Moment,
    tracks: &[Track],
    gone: &mut HashMap<Who, Gone<'a>>,
    went_on: &mut HashMap<&'a str, u64>,
) -> Vec<Track> {
    let new =
        Track { first: number, here: number, always: Habits::default(), at_site: Habits::default(), past_due: false };
    let Some(before) = before else {
        return vec![new; moment.tasks().len()];
    };
    let elapsed_ms = moment.at_ms.saturating_sub(before.at_ms);
    let mut left = Vec::new();
    let mut earlier = before.tasks().iter().zip(tracks).peekable();
    let mut next = Vec::with_capacity(moment.tasks().len());
    for seen in moment.tasks() {
        while let Some(task) = earlier.next_if(|(earlier, _)| earlier.who < seen.who) {
            left.push(task);
        }
        let Some((old, track)) = earlier.next_if(|(earlier, _): &(&Seen, &Track)| earlier.who == seen.who) else {
            next.push(back(seen, moment, number, gone).unwrap_or(new));
            continue;
        };
        let has_moved = !moment.is_where_it_was(seen, before, old);
        let transition = seen.since(old, elapsed_ms, has_moved);
        if transition == Transition::Replaced {
            left.push((old, track));
            next.push(new);
            continue;
        }
        let mut track = *track;
        track.always.add(transition);
        track.past_due |= Seen::is_past_due(old, elapsed_ms);
        if has_moved {
            if let Some(site) = before.site_of(old) {
                *went_on.entry(site).or_default() += 1;
            }
            (track.here, track.at_site) = (number, Habits::default());
        } else {
            track.at_site.add(transition);
        }
        next.push(track);
    }
    for (seen, track) in left.into_iter().chain(earlier) {
        gone.insert(seen.who, Gone { moment: before, number: number - 1, seen, track: *track });
    }
    next
}

/// What is known of a task that was away for a while, if it is the same.
fn back(seen: &Seen, moment: &Moment, number: usize, gone: &mut HashMap<Who, Gone<'_>>) -> Option<Track> {
    let away_ms = moment.at_ms.saturating_sub(gone.get(&seen.who)?.moment.at_ms);
    if !seen.is_older_than(away_ms) {
        return None;
    }
    let mut track = gone.remove(&seen.who)?.track;
    // Where it was meanwhile nobody knows.
    (track.here, track.at_site) = (number, Habits::default());
    track.always.add(Transition::Unknown);
    Some(track)
}
