//! Lists that are the machine's and not a target's: read once for all who look at the same time.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

use super::{children::Processes, file_locks::Locks, sockets::List};

/// What all targets of a run share of such lists. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Machine(Arc<Lists>);

#[derive(Debug, Default)]
struct Lists {
    processes: Shared<Processes>,
    locks: Shared<Locks>,
    /// By network namespace and protocol.
    inet: Mutex<HashMap<(PathBuf, u8), Arc<Shared<List>>>>,
}

impl Machine {
    /// All processes, at a moment not before `since`.
    pub(super) fn processes(&self, since: Instant) -> Arc<Processes> {
        self.0.processes.get(since, Processes::read)
    }

    /// The locks on files that are waited for, at a moment not before `since`.
    pub(super) fn locks(&self, since: Instant) -> Arc<Locks> {
        self.0.locks.get(since, Locks::read)
    }

    /// The internet sockets of a network namespace, as its link in `/proc` names it, and of a protocol; likewise.
    pub(super) fn inet(&self, of: (PathBuf, u8), since: Instant, read: impl FnOnce() -> List) -> Arc<List> {
        let list = {
            let mut lists = self.0.inet.lock().unwrap_or_else(PoisonError::into_inner);
            lists.retain(|_, list| list.is_used());
            Arc::clone(lists.entry(of).or_default())
        };
        list.get(since, read)
    }
}

/// What was read last, for as long as anybody makes use of it.
#[derive(Debug)]
pub(super) struct Shared<T>(Mutex<Option<(Instant, Weak<T>)>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Shared<T> {
    /// Whether anybody makes use of it, or just reads it.
    fn is_used(self: &Arc<Self>) -> bool {
        let is_kept =
            |last: &Option<(Instant, Weak<T>)>| last.as_ref().is_some_and(|(_, kept)| kept.strong_count() > 0);
        Arc::strong_count(self) > 1 || self.0.try_lock().map_or(true, |last| is_kept(&last))
    }

    /// What was read since that moment: by somebody else, who is waited for, or by `read`.
    pub(super) fn get(&self, since: Instant, read: impl FnOnce() -> T) -> Arc<T> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.as_ref().filter(|(began, _)| *began >= since).and_then(|(_, known)| known.upgrade());
        known.unwrap_or_else(|| {
            let began = Instant::now();
            let read = Arc::new(read());
            *last = Some((began, Arc::downgrade(&read)));
            read
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_shared_by_those_who_looked_before() {
        let (shared, began) = (Shared::default(), Instant::now());
        let first = shared.get(began, || 1);
        assert_eq!(*shared.get(began, || 2), 1);
        assert_eq!(*shared.get(Instant::now(), || 3), 3, "who looks later must not be told what was before");
        assert_eq!(*shared.get(began, || 4), 4, "kept for nobody");
        assert_eq!(*first, 1);
    }
}
