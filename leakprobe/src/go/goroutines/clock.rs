//! The target's monotonic clock and ours.

use std::fs;

use nix::time::ClockId;

use crate::target::clock_ns;

/// How to read the moments that the target has noted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// Our time now, `CLOCK_MONOTONIC`, ns.
    pub(super) now: u64,
    /// How far the target's clock is ahead of ours, ns: it may be in another time namespace.
    ahead: i64,
}

impl Clock {
    /// Now, for the process `pid`.
    pub(super) fn of(pid: u32) -> Self {
        let offset =
            |who: &str| fs::read_to_string(format!("/proc/{who}/timens_offsets")).map_or(0, |text| monotonic(&text));
        Self { now: clock_ns(ClockId::CLOCK_MONOTONIC), ahead: offset(&pid.to_string()).saturating_sub(offset("self")) }
    }

    /// A later moment.
    pub(super) fn later(self) -> Self {
        Self { now: clock_ns(ClockId::CLOCK_MONOTONIC), ..self }
    }

    /// A moment that the target has noted, in our time, if it is over.
    pub(super) fn past(self, noted: u64) -> Option<u64> {
        (noted != 0).then(|| noted.checked_add_signed(self.ahead.checked_neg()?))?.filter(|&at| at <= self.now)
    }

    /// Likewise, when a timer fires, which may be about to. 0 and the largest number mean never.
    pub(super) fn fires(self, noted: u64) -> Option<u64> {
        let noted = Some(noted).filter(|at| (1..i64::MAX as u64).contains(at))?;
        noted.checked_add_signed(self.ahead.checked_neg()?)
    }

    /// In how many ms from now that is; 0 if it is over.
    pub(super) fn in_ms(self, noted: u64) -> u64 {
        let at = noted.saturating_add_signed(self.ahead.saturating_neg());
        at.saturating_sub(self.now) / 1_000_000
    }
}

/// The offset of the monotonic clock, ns: <https://man7.org/linux/man-pages/man7/time_namespaces.7.html>
fn monotonic(text: &str) -> i64 {
    let line = text.lines().find_map(|line| line.strip_prefix("monotonic"));
    let mut numbers = line.unwrap_or_default().split_whitespace().map_while(|number| number.parse::<i64>().ok());
    let (seconds, rest) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_another_time_namespace_are_told_in_our_time() {
        assert_eq!(
            monotonic("monotonic           172800         5\nboottime            604800         0\n"),
            172_800_000_000_005
        );
        let clock = Clock { now: 1000, ahead: 500 };
        assert_eq!((clock.past(1200), clock.past(1600), clock.past(0), clock.past(100)), (Some(700), None, None, None));
        assert_eq!((clock.fires(1600), clock.fires(1200)), (Some(1100), Some(700)));
        assert_eq!((clock.fires(0), clock.fires(i64::MAX as u64)), (None, None), "never");
        assert_eq!((clock.in_ms(3_001_500), clock.in_ms(1200)), (3, 0));
    }
}
