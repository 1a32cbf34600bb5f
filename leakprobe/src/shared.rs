//! What threads share: locks, and what is read once for all who want it at the same time.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
};

/// Locks a mutex, also if a thread panicked while it held it: no holder leaves the data half changed.
pub(crate) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was read last, for as long as anybody makes use of it.
#[derive(Debug)]
pub(crate) struct Shared<T>(Mutex<Option<(Instant, Weak<T>)>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Shared<T> {
    /// Whether anybody makes use of it, or just reads it.
    pub(crate) fn is_used(self: &Arc<Self>) -> bool {
        let is_kept =
            |last: &Option<(Instant, Weak<T>)>| last.as_ref().is_some_and(|(_, kept)| kept.strong_count() > 0);
        Arc::strong_count(self) > 1 || self.0.try_lock().map_or(true, |last| is_kept(&last))
    }

    /// What was read since that moment: by somebody else, who is waited for, or by `read`, which is given what was read before.
    pub(crate) fn get(&self, since: Instant, read: impl FnOnce(Option<Arc<T>>) -> Arc<T>) -> Arc<T> {
        let mut last = lock(&self.0);
        let is_new = last.as_ref().is_some_and(|(began, _)| *began >= since);
        match last.as_ref().and_then(|(_, known)| known.upgrade()) {
            Some(known) if is_new => known,
            known => {
                let began = Instant::now();
                let read = read(known);
                *last = Some((began, Arc::downgrade(&read)));
                read
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_shared_by_those_who_looked_before() {
        let (shared, began) = (Shared::default(), Instant::now());
        let first = shared.get(began, |_| Arc::new(1));
        assert_eq!(*shared.get(began, |_| Arc::new(2)), 1);
        assert_eq!(*shared.get(Instant::now(), |_| Arc::new(3)), 3, "who looks later must not be told what was before");
        assert_eq!(*shared.get(began, |before| Arc::new(before.map_or(4, |_| 5))), 4, "kept for nobody");
        assert_eq!(*first, 1);
    }
}
