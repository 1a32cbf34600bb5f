//! Lists of frames, of which equal ones are held once: a recording has many tasks and sites, and few ways to get there.

use std::{collections::HashSet, sync::Arc};

/// Lists that were met so far.
#[derive(Debug, Default)]
pub(super) struct Interned(HashSet<Arc<[u32]>>);

impl Interned {
    /// The list that is equal to this one, which is made if there was none.
    pub(super) fn of(&mut self, frames: &[u32]) -> Arc<[u32]> {
        if let Some(known) = self.0.get(frames) {
            return Arc::clone(known);
        }
        let new: Arc<[u32]> = frames.into();
        self.0.insert(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_are_held_once() {
        let mut interned = Interned::default();
        let [one, again, other] = [&[1, 2][..], &[1, 2], &[2, 1]].map(|frames| interned.of(frames));
        assert!(Arc::ptr_eq(&one, &again));
        assert_eq!((&*one, &*other, interned.0.len()), (&[1, 2][..], &[2, 1][..], 2));
    }
}
