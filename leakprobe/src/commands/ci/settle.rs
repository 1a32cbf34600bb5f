//! When numbers are level: pure.

use std::{collections::VecDeque, time::Duration};

/// Numbers may differ so much and still be level, percent.
const TOLERANCE_PERCENT: u64 = 1;

/// Looks for a time in which numbers were level.
#[derive(Debug)]
pub(super) struct Settling {
    window: Duration,
    /// When, since it began, and how many.
    seen: VecDeque<(Duration, u64)>,
}

impl Settling {
    /// Level for `window`.
    pub(super) fn new(window: Duration) -> Self {
        Self { window, seen: VecDeque::new() }
    }

    /// Takes in a number; returns whether they are level now. One more or less does not count, nor 1 %: something always comes and
    /// goes. But as long as they go down they are not level.
    pub(super) fn add(&mut self, at: Duration, count: u64) -> bool {
        self.seen.push_back((at, count));
        let from = at.saturating_sub(self.window);
        // The last one at or before the window's beginning stays: it tells the number then.
        while self.seen.get(1).is_some_and(|&(next, _)| next <= from) {
            self.seen.pop_front();
        }
        let Some(&(first, before)) = self.seen.front() else {
            return false;
        };
        let counts = || self.seen.iter().map(|&(_, count)| count);
        let (least, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
        at.saturating_sub(first) >= self.window
            && most - least <= (most * TOLERANCE_PERCENT / 100).max(1)
            && count >= before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many samples, one each 500 ms, they are level for 2 s.
    fn level_after(counts: &[u64]) -> Option<usize> {
        let mut settling = Settling::new(Duration::from_secs(2));
        (0..counts.len()).find(|&n| settling.add(Duration::from_millis(500) * n as u32, counts[n]))
    }

    #[test]
    fn equal_numbers_are_level_after_the_time() {
        assert_eq!(level_after(&[7; 9]), Some(4));
        assert_eq!(level_after(&[7; 4]), None);
    }

    #[test]
    fn what_goes_down_is_waited_for() {
        assert_eq!(level_after(&[90, 60, 30, 10, 9, 9, 9, 9, 9, 9]), Some(8));
        assert_eq!(level_after(&[1_000, 998, 996, 994, 992, 992, 992, 992, 992]), Some(8));
    }

    #[test]
    fn what_comes_and_goes_does_not_count() {
        assert_eq!(level_after(&[7, 8, 7, 7, 8]), Some(4));
        assert_eq!(level_after(&[1_000, 1_009, 1_000, 1_004, 1_001]), Some(4));
        assert_eq!(level_after(&[7, 10, 7, 10, 7, 10, 7, 10]), None);
    }
}
