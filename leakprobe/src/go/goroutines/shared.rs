//! What goroutines have besides their stacks and waits, and what many of them have alike: held once, and within a bound, because
//! the target decides how much there is of it.

use std::{collections::HashSet, hash::Hash, sync::Arc};

use super::costs::Allowance;

/// The error of values that are not kept because those of their kind have reached their limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeftOut;

/// What each value takes besides its own bytes: the counters of its [`Arc`], and its place in the set.
const BYTES_BESIDES: usize = 64;

/// Values that are in use, each held once whoever has it. The table of goroutines keeps them over many snapshots: so does this
/// count them.
#[derive(Debug)]
pub(super) struct Shared<T: ?Sized> {
    values: HashSet<Arc<T>>,
    bytes: usize,
    /// Bytes that the values of this kind may take, in all runtimes of the process.
    room: Allowance,
    bytes_of: fn(&T) -> usize,
    /// How many were left out since what nobody has any more was last dropped.
    refused: usize,
}

impl<T: ?Sized + Eq + Hash> Shared<T> {
    /// `bytes_of`: how many bytes a value takes, without those of the [`Arc`].
    pub(super) fn new(room: Allowance, bytes_of: fn(&T) -> usize) -> Self {
        Self { values: HashSet::new(), bytes: 0, room, bytes_of, refused: 0 }
    }

    /// The value that is equal to this one, which from now on is this one if there was none.
    pub(super) fn share(&mut self, value: Arc<T>) -> Result<Arc<T>, LeftOut> {
        if let Some(known) = self.values.get(&*value) {
            return Ok(Arc::clone(known));
        }
        let bytes = self.size(&value);
        if self.room.left() < bytes as u64 && self.is_worth_dropping() {
            self.drop_unused();
        }
        if !self.room.take(bytes as u64) {
            self.refused += 1;
            return Err(LeftOut);
        }
        self.bytes += bytes;
        self.values.insert(Arc::clone(&value));
        Ok(value)
    }

    /// Drops the values that nobody has any more.
    pub(super) fn drop_unused(&mut self) {
        self.values.retain(|value| Arc::strong_count(value) > 1);
        let bytes = self.values.iter().map(|value| self.size(value)).sum();
        self.room.give_back(self.bytes.saturating_sub(bytes) as u64);
        self.bytes = bytes;
        self.refused = 0;
    }

    /// Going through all of them must not cost more than what led to it.
    fn is_worth_dropping(&self) -> bool {
        self.refused == 0 || self.refused > self.values.len()
    }

    fn size(&self, value: &T) -> usize {
        (self.bytes_of)(value).saturating_add(BYTES_BESIDES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared<str> {
        Shared::new(Allowance::new(4 * (16 + BYTES_BESIDES as u64)), str::len)
    }

    fn text(n: usize) -> Arc<str> {
        format!("{n:16}").into()
    }

    #[test]
    fn equal_values_are_held_once() {
        let mut shared = shared();
        let first = shared.share(text(1)).unwrap();
        for _ in 0..1000 {
            assert!(Arc::ptr_eq(&first, &shared.share(text(1)).unwrap()));
        }
        assert_eq!(shared.bytes, 16 + BYTES_BESIDES);
    }

    #[test]
    fn what_is_held_has_a_bound_until_it_is_let_go() {
        let mut shared = shared();
        let mut held: Vec<Arc<str>> = (0..100).filter_map(|n| shared.share(text(n)).ok()).collect();
        assert_eq!((held.len(), shared.values.len()), (4, 4));
        assert_eq!(shared.share(text(0)).as_deref(), Ok(&*text(0)), "who has what is there already costs nothing");
        held.truncate(1);
        shared.drop_unused();
        assert_eq!(shared.bytes, 16 + BYTES_BESIDES);
        let again = (0..100).filter(|&n| shared.share(text(n)).map(|new| held.push(new)).is_ok()).count();
        assert_eq!(again, 4);
    }

    #[test]
    fn runtimes_of_one_process_share_the_bound() {
        let mut one = shared();
        let mut other = Shared::new(one.room.clone(), str::len);
        let held: Vec<Arc<str>> = (0..3).map(|n| one.share(text(n)).unwrap()).collect();
        let kept = other.share(text(0)).unwrap();
        assert_eq!(other.share(text(1)), Err(LeftOut));
        drop(held);
        one.drop_unused();
        assert!(other.share(text(1)).is_ok());
        drop(kept);
    }

    #[test]
    fn what_nobody_has_makes_room_for_what_is_new() {
        let mut shared = shared();
        for n in 0..1000 {
            assert!(shared.share(text(n)).is_ok(), "{n}");
        }
        assert!(shared.bytes <= 4 * (16 + BYTES_BESIDES));
    }
}
