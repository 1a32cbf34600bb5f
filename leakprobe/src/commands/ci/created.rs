//! Processes that the program has created: nothing is judged of them, which has to be said.

use std::collections::HashSet;

use super::work::{Work, family};
use crate::{target, watch::MAX_PROCESSES};

/// Most that are named.
const MOST_NAMED: usize = 5;

/// Those that were there when the rounds were over, and how many there were before.
#[derive(Debug, Default)]
pub(super) struct Created {
    /// How many there were at the baseline and after each round.
    counts: Vec<usize>,
    /// Those of the baseline, by their ids, with when they began: ids are used again.
    first: HashSet<(u32, u64)>,
    /// Ids and names of the last ones.
    last: Vec<(u32, String)>,
    /// The ids of those that were there at the baseline as well as at the last look, and have not ended.
    stayed: Vec<u32>,
    /// The ids of those that are there at the last look and have more than one thread.
    threaded: Vec<u32>,
    /// The processes that are watched, once there was a look.
    watched: Vec<u32>,
    /// Of those that did not live through a round, the ones that never had more than one thread.
    pub(super) single: usize,
    work: Work,
}

impl Created {
    /// Looks at those of the processes that are watched, at this moment.
    pub(super) fn look(&mut self, watched: Vec<u32>) {
        let found = family(&watched);
        self.work.keep(|pid| found.contains_key(&pid) || watched.contains(&pid));
        self.watched = watched;
        if self.counts.is_empty() {
            self.first = found.iter().map(|(&id, stat)| (id, stat.start_ticks)).collect();
        }
        self.counts.push(found.len());
        let stayed =
            found.iter().filter(|(id, stat)| self.first.contains(&(**id, stat.start_ticks)) && !stat.is_over());
        self.stayed = stayed.map(|(&id, _)| id).collect();
        let has_threads = |stat: &&target::Stat| stat.threads > 1 && !stat.is_over();
        self.threaded = found.iter().filter(|(_, stat)| has_threads(stat)).map(|(&id, _)| id).collect();
        self.last = found.into_iter().map(|(id, stat)| (id, stat.name())).collect();
    }

    /// A load begins. Before the baseline nothing is counted: a program works as it starts.
    pub(super) fn load_begins(&mut self) {
        if !self.watched.is_empty() {
            self.work.begin(&self.watched);
        }
    }

    /// A load has ended: what it made the processes do is counted.
    pub(super) fn load_ended(&mut self) {
        if !self.watched.is_empty() {
            self.work.end(&self.watched);
        }
    }

    /// That such did work as are not among those that are judged. `follows`: whether all were watched that came in time.
    pub(super) fn work(&self, judged: &HashSet<u32>, follows: bool) -> Option<String> {
        let percent = self.work.percent_without(judged)?;
        let advice = match follows {
            true => {
                "they lived for less than a round, or could not be watched: make rounds shorter, or let them live longer"
            }
            false => "check them as well by --follow-forks, or by their ids with -p",
        };
        Some(format!(
            "processes that it has created did {percent} % of the work (CPU time during the load), and were not judged: {advice}"
        ))
    }

    /// That the program did nothing while loads ran.
    pub(super) fn untouched(&self) -> Option<String> {
        let (idle, loads) = self.work.idle();
        let which = match idle {
            0 => return None,
            _ if idle == loads => "any load".to_owned(),
            _ => format!("{idle} of {loads} loads"),
        };
        Some(format!(
            "the program did nothing during {which}: did it reach this process? See -p, and the address that the load uses"
        ))
    }

    /// That some were there all the time and not judged, though all were to be.
    pub(super) fn missed(&self, judged: &HashSet<u32>) -> Option<String> {
        let count = self.stayed.iter().filter(|id| !judged.contains(id)).count();
        let (processes, were) = if count == 1 { ("process", "was") } else { ("processes", "were") };
        // One look is no round.
        (count > 0 && self.counts.len() > 1).then(|| {
            format!(
                "{count} {processes} that it has created {were} there all the time and {were} not judged: at most {MAX_PROCESSES} are \
                 watched at once, and each takes time to begin with; check some of them by their ids with -p"
            )
        })
    }

    /// That some are there and have threads that were not judged, though all were to be.
    pub(super) fn too_new(&self, judged: &HashSet<u32>) -> Option<String> {
        let count = self.threaded.iter().filter(|id| !judged.contains(id) && !self.stayed.contains(id)).count();
        let (processes, have) = if count == 1 { ("process", "has") } else { ("processes", "have") };
        (count > 0).then(|| {
            format!(
                "{count} {processes} that it has created {have} more than one thread and came too late to be judged: make rounds \
                 shorter, or let them live longer"
            )
        })
    }

    /// That they were not judged, if there are any but these. `follows`: whether all were to be.
    pub(super) fn note(&self, judged: &HashSet<u32>, follows: bool) -> Option<String> {
        let last: Vec<&(u32, String)> = self.last.iter().filter(|(id, _)| !judged.contains(id)).collect();
        let count = last.len();
        let processes = match count {
            0 => return None,
            1 => "1 process that it has created was not judged".to_owned(),
            _ => format!("{count} processes that it has created were not judged"),
        };
        let named: Vec<String> = last.iter().take(MOST_NAMED).map(|(id, name)| format!("{name} ({id})")).collect();
        let more = count.checked_sub(MOST_NAMED).filter(|&more| more > 0);
        let more = more.map_or(String::new(), |more| format!(" and {more} more"));
        let all = if follows { "" } else { ", or all of them by --follow-forks" };
        Some(format!("{processes}: {}{more}; check such a process by `leakprobe ci -p`{all}", named.join(", ")))
    }

    /// That some were too short-lived to be judged, and need not be.
    pub(super) fn note_of_single(&self) -> Option<String> {
        let processes = match self.single {
            0 => return None,
            1 => "1 process that it has created".to_owned(),
            count => format!("{count} processes that it has created"),
        };
        Some(format!(
            "{processes} did not live through a round, and never had more than one thread: nothing can be left"
        ))
    }

    /// That there were more of them after each round.
    pub(super) fn growth(&self) -> Option<String> {
        // One round shows nothing.
        let grows = self.counts.len() > 2 && self.counts.windows(2).all(|pair| pair[0] < pair[1]);
        grows.then(|| {
            let counts: Vec<String> = self.counts.iter().map(ToString::to_string).collect();
            format!(
                "the processes that it has created are more with each round ({}): that is a leak of processes, which is not judged",
                counts.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(counts: &[usize], names: &[&str]) -> Created {
        let last = (100..).zip(names).map(|(id, &name)| (id, name.to_owned())).collect();
        Created { counts: counts.to_vec(), last, ..Created::default() }
    }

    #[test]
    fn they_are_named() {
        assert_eq!(created(&[0, 0], &[]).note(&HashSet::new(), false), None);
        let one = "1 process that it has created was not judged: a b (100); check such a process by `leakprobe ci -p`, or all of them by --follow-forks";
        assert_eq!(created(&[1, 1], &["a b"]).note(&HashSet::new(), false).as_deref(), Some(one));
        let many = created(&[7, 7], &["a", "b", "c", "d", "e", "f", "g"]).note(&HashSet::new(), false).unwrap();
        assert!(many.contains("7 processes") && many.contains("e (104) and 2 more;"), "{many}");
        let followed = created(&[1, 1], &["a b"]).note(&HashSet::new(), true).unwrap();
        assert!(followed.ends_with("`leakprobe ci -p`"), "{followed}");
    }

    #[test]
    fn those_that_were_to_be_judged_and_were_not_are_missed() {
        let stayed = |looks: usize| Created { counts: vec![2; looks], stayed: vec![7, 8], ..Created::default() };
        let missed = |looks, judged: &[u32]| stayed(looks).missed(&judged.iter().copied().collect());
        assert!(missed(2, &[1]).unwrap().starts_with("2 processes that it has created were there all the time"));
        assert!(missed(2, &[1, 7]).unwrap().starts_with("1 process that it has created was there all the time"));
        assert_eq!(missed(2, &[1, 7, 8]), None);
        assert_eq!(missed(1, &[1]), None);
    }

    #[test]
    fn who_came_late_and_has_threads_keeps_a_check_from_passing() {
        let created = Created { threaded: vec![7, 8, 9], stayed: vec![9], ..Created::default() };
        assert!(created.too_new(&HashSet::from([7])).unwrap().starts_with("1 process that it has created has more"));
        assert_eq!(created.too_new(&HashSet::from([7, 8])), None);
    }

    #[test]
    fn only_what_grows_with_every_round_is_growth() {
        assert!(created(&[0, 1, 3], &["a"]).growth().unwrap().contains("(0, 1, 3)"));
        for level in [&[][..], &[1, 2], &[1, 2, 2], &[3, 2, 4]] {
            assert_eq!(created(level, &["a"]).growth(), None, "{level:?}");
        }
    }
}
