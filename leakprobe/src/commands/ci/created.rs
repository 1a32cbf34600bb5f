//! Processes that the program has created: nothing is judged of them, which has to be said.

use super::work::Work;
use crate::target;

/// Most that are named.
const MOST_NAMED: usize = 5;

/// Those that were there when the rounds were over, and how many there were before.
#[derive(Debug, Default)]
pub(super) struct Created {
    /// How many there were at the baseline and after each round.
    counts: Vec<usize>,
    /// Ids and names of the last ones.
    last: Vec<(u32, String)>,
    /// The program, once it was looked at.
    pid: Option<u32>,
    work: Work,
}

impl Created {
    /// Looks at those of `pid` at this moment.
    pub(super) fn look(&mut self, pid: u32) {
        let found = target::descendants(pid);
        self.pid = Some(pid);
        self.counts.push(found.len());
        self.last = found.into_iter().map(|(id, stat)| (id, stat.name())).collect();
    }

    /// A load begins. Before the baseline nothing is counted: a program works as it starts.
    pub(super) fn load_begins(&mut self) {
        if let Some(pid) = self.pid {
            self.work.begin(pid);
        }
    }

    /// It has ended.
    pub(super) fn load_ended(&mut self) {
        if let Some(pid) = self.pid {
            self.work.end(pid, |_| false);
        }
    }

    /// That they did work, which is not judged by that of the program itself.
    pub(super) fn work(&self) -> Option<String> {
        self.work.unjudged()
    }

    /// That they were not judged, if there are any.
    pub(super) fn note(&self) -> Option<String> {
        let count = self.last.len();
        let processes = match count {
            0 => return None,
            1 => "1 process that it has created was not judged".to_owned(),
            _ => format!("{count} processes that it has created were not judged"),
        };
        let named: Vec<String> = self.last.iter().take(MOST_NAMED).map(|(id, name)| format!("{name} ({id})")).collect();
        let more = count.checked_sub(MOST_NAMED).filter(|&more| more > 0);
        let more = more.map_or(String::new(), |more| format!(" and {more} more"));
        Some(format!("{processes}: {}{more}; check such a process by `leakprobe ci -p`", named.join(", ")))
    }

    /// That there were more of them after each round, which is a leak that is not looked into.
    pub(super) fn growth(&self) -> Option<String> {
        // One round shows nothing.
        let grows = self.counts.len() > 2 && self.counts.windows(2).all(|pair| pair[0] < pair[1]);
        grows.then(|| {
            let counts: Vec<String> = self.counts.iter().map(ToString::to_string).collect();
            format!(
                "the processes that it has created are more with each round ({}), and none of them was judged",
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
        assert_eq!(created(&[0, 0], &[]).note(), None);
        let one = "1 process that it has created was not judged: a b (100); check such a process by `leakprobe ci -p`";
        assert_eq!(created(&[1, 1], &["a b"]).note().as_deref(), Some(one));
        let many = created(&[7, 7], &["a", "b", "c", "d", "e", "f", "g"]).note().unwrap();
        assert!(many.contains("7 processes") && many.contains("e (104) and 2 more;"), "{many}");
    }

    #[test]
    fn only_what_grows_with_every_round_is_growth() {
        assert!(created(&[0, 1, 3], &["a"]).growth().unwrap().contains("(0, 1, 3)"));
        for level in [&[][..], &[1, 2], &[1, 2, 2], &[3, 2, 4]] {
            assert_eq!(created(level, &["a"]).growth(), None, "{level:?}");
        }
    }
}
