//! Ids in the target's own pid namespace, which are those that it logs, and that tools inside its container show.

use std::{
    collections::{HashMap, HashSet},
    fs,
};

/// The ids of a process's threads in its own pid namespace: each is read once, when the thread is first met.
#[derive(Debug, Default)]
pub struct Namespace {
    /// Whether it has one that is not ours.
    is_own: bool,
    pid: u32,
    /// Id there, and when the thread started, by our id.
    ids: HashMap<u32, (u64, u32)>,
}

impl Namespace {
    /// Of the process `pid`. Needs what [`super::Target::open`] needs.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let link = |of: &str| fs::read_link(format!("/proc/{of}/ns/pid")).ok();
        let (own, ours) = (link(&pid.to_string()), link("self"));
        Self { is_own: own.is_some() && own != ours, pid, ids: HashMap::new() }
    }

    /// The process's id there; `None` if it is the same namespace as ours.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.is_own.then(|| read(&format!("/proc/{}/status", self.pid))).flatten()
    }

    /// Takes note of a thread that started at `start_boottime`, once.
    pub fn meet(&mut self, tid: u32, start_boottime: u64) {
        if !self.is_own || self.ids.get(&tid).is_some_and(|known| known.0 == start_boottime) {
            return;
        }
        match read(&format!("/proc/{}/task/{tid}/status", self.pid)) {
            Some(id) => self.ids.insert(tid, (start_boottime, id)),
            None => self.ids.remove(&tid),
        };
    }

    /// Our ids of all threads that were met, by their ids there; `None` if it is the same namespace as ours.
    #[must_use]
    pub fn outer_ids(&self) -> Option<HashMap<u32, u32>> {
        self.is_own.then(|| self.ids.iter().map(|(&tid, &(_, id))| (id, tid)).collect())
    }

    /// Forgets threads that are gone.
    pub fn keep(&mut self, alive: &[u32]) {
        self.ids.retain(|tid, _| alive.binary_search(tid).is_ok());
    }

    /// The id of a thread there; `None` if it is the same, or was not seen.
    #[must_use]
    pub fn thread(&self, tid: u32) -> Option<u64> {
        self.ids.get(&tid).map(|&(_, id)| u64::from(id))
    }
}

/// The ids of up to `most` threads of a process as it knows them itself.
#[must_use]
pub fn own_thread_ids(pid: u32, most: usize) -> HashSet<u32> {
    let is_own = Namespace::of(pid).is_own;
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let tids = tasks.filter_map(|task| task.file_name().to_str()?.parse::<u32>().ok()).take(most);
    let own = |tid| if is_own { read(&format!("/proc/{pid}/task/{tid}/status")) } else { Some(tid) };
    tids.filter_map(own).collect()
}

/// The innermost of the ids in a `status` file.
fn read(path: &str) -> Option<u32> {
    innermost(&String::from_utf8_lossy(&fs::read(path).ok()?))
}

/// `NSpid` lists the ids from our namespace inwards.
/// Source: <https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>
fn innermost(status: &str) -> Option<u32> {
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    ids.split_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_id_counts() {
        assert_eq!(innermost("Name:\tx\nNSpid:\t1234\t57\t3\nNSpgid:\t1\n"), Some(3));
        assert_eq!(innermost("NSpid:\t1234\n"), Some(1234));
        for text in ["", "NSpid:", "NSpid:\tx", "NStgid:\t4"] {
            assert_eq!(innermost(text), None, "{text}");
        }
    }

    #[test]
    fn an_id_that_is_used_again_is_that_of_the_thread_that_has_it_now() {
        let ids = HashMap::from([(100, (1, 5)), (101, (2, 6))]);
        let mut namespace = Namespace { is_own: true, pid: u32::MAX, ids };
        assert_eq!(namespace.outer_ids(), Some(HashMap::from([(5, 100), (6, 101)])));
        namespace.meet(101, 2);
        assert_eq!(namespace.thread(101), Some(6), "known already");
        // Another thread has got the same id, and has ended before its own could be read.
        namespace.meet(101, 3);
        assert_eq!((namespace.thread(101), namespace.outer_ids()), (None, Some(HashMap::from([(5, 100)]))));
    }

    #[test]
    fn in_our_own_namespace_there_is_nothing_to_tell() {
        let mut namespace = Namespace::of(std::process::id());
        namespace.meet(std::process::id(), 1);
        assert_eq!((namespace.process(), namespace.thread(std::process::id())), (None, None));
        assert_eq!(namespace.outer_ids(), None);
        assert!(own_thread_ids(std::process::id(), 100).contains(&std::process::id()));
        assert_eq!(own_thread_ids(std::process::id(), 0).len(), 0);
    }
}
