//! What is kept for processes by their ids, which are used again: whoever has done with a process must not take away what somebody
//! else was given since for another one with the same id.

use std::collections::HashMap;

/// One entry for each process id: the newest.
#[derive(Debug)]
pub struct ByProcess<T> {
    entries: HashMap<u32, (u64, T)>,
    /// How many there have been.
    put: u64,
}

/// Which entry: that of a process id, as long as nobody has put another one there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pid: u32,
    number: u64,
}

impl Place {
    /// The process's id.
    #[must_use]
    pub const fn pid(self) -> u32 {
        self.pid
    }
}

impl<T> Default for ByProcess<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), put: 0 }
    }
}

impl<T> ByProcess<T> {
    /// Puts one there. Returns its place, and what was there.
    pub fn put(&mut self, pid: u32, value: T) -> (Place, Option<T>) {
        self.put += 1;
        let old = self.entries.insert(pid, (self.put, value));
        (Place { pid, number: self.put }, old.map(|(_, value)| value))
    }

    /// What is at that place; `None` if it was removed, or another one was put there.
    pub fn at(&mut self, place: Place) -> Option<&mut T> {
        let (number, value) = self.entries.get_mut(&place.pid)?;
        (*number == place.number).then_some(value)
    }

    /// The newest of the process.
    pub fn of(&mut self, pid: u32) -> Option<&mut T> {
        self.entries.get_mut(&pid).map(|(_, value)| value)
    }

    /// All process ids with one.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.entries.keys().copied()
    }

    /// Removes it; `None`, and nothing is removed, if another one was put there.
    pub fn remove(&mut self, place: Place) -> Option<T> {
        self.at(place)?;
        self.entries.remove(&place.pid).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_late_does_not_remove_what_is_newer() {
        let mut kept = ByProcess::default();
        let (old, before) = kept.put(7, "old");
        let (new, replaced) = kept.put(7, "new");
        assert_eq!((before, replaced), (None, Some("old")));
        assert_eq!((kept.at(old).copied(), kept.remove(old), kept.at(new).copied()), (None, None, Some("new")));
        assert_eq!((kept.of(7).copied(), kept.of(8).copied()), (Some("new"), None));
        assert_eq!((kept.remove(new), kept.remove(new), kept.of(7).copied()), (Some("new"), None, None));
    }
}
