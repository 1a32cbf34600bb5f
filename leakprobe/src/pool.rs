//! So much of something for all who want some of it: what each takes is bounded by what there is, not by a limit of its own, which
//! would add up.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// So much of something. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Amounts>);

#[derive(Debug)]
struct Amounts {
    most: u64,
    taken: AtomicU64,
}

/// There is not so much left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is not so much left")]
pub struct Full;

impl Pool {
    /// Nothing of it is taken yet.
    #[must_use]
    pub fn new(most: u64) -> Self {
        Self(Arc::new(Amounts { most, taken: AtomicU64::new(0) }))
    }

    /// How much there is, taken or not.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.most
    }

    /// How much is not taken.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.0.most.saturating_sub(self.0.taken.load(Ordering::Relaxed))
    }

    /// Nothing of it yet, for what takes some later.
    #[must_use]
    pub fn nothing(&self) -> Held {
        Held { pool: self.clone(), amount: 0 }
    }

    /// Nothing of it yet, for one of many who are not to notice each other: see [`Share`].
    #[must_use]
    pub fn share(&self, floor: u64) -> Share {
        Share { floor, amounts: Mutex::new((0, self.nothing())) }
    }

    fn take(&self, amount: u64) -> Result<(), Full> {
        let add = |taken: u64| taken.checked_add(amount).filter(|&sum| sum <= self.0.most);
        self.0.taken.try_update(Ordering::Relaxed, Ordering::Relaxed, add).map(|_| ()).map_err(|_| Full)
    }

    fn give_back(&self, amount: u64) {
        self.0.taken.fetch_sub(amount, Ordering::Relaxed);
    }
}

/// What is taken of a [`Pool`] until this is dropped.
#[derive(Debug)]
pub struct Held {
    pool: Pool,
    amount: u64,
}

impl Held {
    /// How much it is.
    #[must_use]
    pub const fn amount(&self) -> u64 {
        self.amount
    }

    /// Takes more.
    ///
    /// # Errors
    /// If there is not so much left; what was taken before stays so.
    pub fn grow(&mut self, more: u64) -> Result<(), Full> {
        self.pool.take(more)?;
        self.amount += more; // no overflow: it is at most what there is
        Ok(())
    }

    /// Takes more, or gives back, so that it is so much.
    ///
    /// # Errors
    /// If there is not so much left; it stays what it was then.
    pub fn set(&mut self, amount: u64) -> Result<(), Full> {
        if amount >= self.amount {
            return self.grow(amount - self.amount);
        }
        self.pool.give_back(self.amount - amount);
        self.amount = amount;
        Ok(())
    }

    /// Takes over what another one has taken of the same pool.
    pub fn add(&mut self, mut other: Self) {
        self.amount += std::mem::take(&mut other.amount);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.pool.give_back(self.amount);
    }
}

/// What one of many has: up to its floor, which is always there for it, nothing is taken of the pool. Beyond that it may take twice as
/// much as it leaves for all others, so that whoever comes later finds something, however greedy those before it were: of `n` who take
/// all that they can, each gets two parts in `2n + 1` (dynamic thresholds, Choudhury and Hahne 1998). Dropped, it goes back.
#[derive(Debug)]
pub struct Share {
    floor: u64,
    /// All that it has, and what of that is taken of the pool.
    amounts: Mutex<(u64, Held)>,
}

impl Share {
    /// How much it is.
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.amounts().0
    }

    /// How much more could be taken.
    #[must_use]
    pub fn left(&self) -> u64 {
        let (amount, beyond) = &*self.amounts();
        self.most(beyond).saturating_sub(*amount)
    }

    /// Takes more.
    ///
    /// # Errors
    /// If there is not so much left; what was taken before stays so.
    pub fn grow(&self, more: u64) -> Result<(), Full> {
        let (amount, beyond) = &mut *self.amounts();
        let sum = amount.checked_add(more).filter(|sum| *sum <= self.most(beyond)).ok_or(Full)?;
        beyond.set(sum.saturating_sub(self.floor))?;
        *amount = sum;
        Ok(())
    }

    /// Takes so much more, or what is left of it. Returns how much.
    pub fn grow_up_to(&self, more: u64) -> u64 {
        let more = more.min(self.left());
        // Should another one be faster, it gets nothing.
        self.grow(more).map_or(0, |()| more)
    }

    /// Gives back what was taken.
    pub fn shrink(&self, less: u64) {
        let (amount, beyond) = &mut *self.amounts();
        *amount = amount.saturating_sub(less);
        // Less can always be had.
        let _ = beyond.set(amount.saturating_sub(self.floor).min(beyond.amount()));
    }

    /// Takes more, or gives back, so that it is so much, or as near to it as can be. Returns how much it is.
    pub fn set_up_to(&self, amount: u64) -> u64 {
        let before = self.amount();
        if amount < before {
            self.shrink(before - amount);
        } else {
            self.grow_up_to(amount - before);
        }
        self.amount()
    }

    fn most(&self, beyond: &Held) -> u64 {
        let own_and_left = beyond.amount().saturating_add(beyond.pool.left());
        (own_and_left / 3).saturating_mul(2).max(beyond.amount()).saturating_add(self.floor)
    }

    fn amounts(&self) -> MutexGuard<'_, (u64, Held)> {
        self.amounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let pool = Pool::new(100);
        let mut held = pool.nothing();
        held.grow(60).unwrap();
        assert_eq!((pool.nothing().grow(41), held.grow(u64::MAX), pool.left()), (Err(Full), Err(Full), 40));
        held.set(100).unwrap();
        assert_eq!((held.set(101), pool.left()), (Err(Full), 0));
        held.set(30).unwrap();
        let mut other = pool.nothing();
        other.set(70).unwrap();
        held.add(other);
        assert_eq!((held.amount(), pool.left()), (100, 0));
        drop(held);
        assert_eq!(pool.left(), 100);
    }

    #[test]
    fn whoever_comes_last_has_its_floor_and_something_of_what_is_left() {
        let pool = Pool::new(1 << 20);
        let greedy: Vec<Share> = (0..9).map(|_| pool.share(16)).collect();
        for _ in 0..100 {
            greedy.iter().for_each(|one| {
                one.set_up_to(one.amount() + 1000);
            });
        }
        for _ in 0..100_000 {
            greedy.iter().for_each(|one| {
                let _ = one.grow(10);
            });
        }
        let fair = (2 << 20) / 19;
        assert!(greedy.iter().all(|one| one.amount().abs_diff(fair) < 1000), "{:?}", greedy[0].amount());
        let late = pool.share(16);
        assert_eq!(late.grow(16), Ok(()), "its floor");
        assert!(late.left() > fair / 4, "{}", late.left());
        let all: u64 = greedy.iter().chain([&late]).map(|one| one.amount().saturating_sub(16)).sum();
        assert_eq!(all, (1 << 20) - pool.left());
        drop((greedy, late));
        assert_eq!(pool.left(), 1 << 20);
    }

    #[test]
    fn a_share_gives_back_what_it_does_not_need() {
        let pool = Pool::new(99);
        let share = pool.share(10);
        assert_eq!((share.set_up_to(1000), share.left(), share.grow(1)), (76, 0, Err(Full)));
        share.shrink(61);
        assert_eq!((share.amount(), pool.left(), share.left()), (15, 94, 61));
        assert_eq!((share.set_up_to(5), pool.left()), (5, 99));
        share.shrink(100);
        assert_eq!((share.amount(), share.grow(u64::MAX)), (0, Err(Full)));
        let none = Pool::new(0).share(3);
        assert_eq!((none.set_up_to(9), none.left()), (3, 0));
    }
}
