//! Keeps what our programs cost, and what they make system calls cost, under a budget, by watching waits through something
//! cheaper: futex tracepoints, then `sched_switch`, then snapshots alone; and back when it has calmed down. A pure state
//! machine: `watch/governing.rs` measures and carries out.
//!
//! No parked task is missed by it, since snapshots see those; what becomes fewer are waits that ended.

use std::time::Duration;

use super::WaitSource;
use crate::model::Pause;

/// How long it takes at first until a dearer source is tried again; each failure doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// The longest that it comes to.
const LAST_RETRY: Duration = Duration::from_secs(300);
/// After so long without a failure the next one counts as the first.
const FORGIVEN: Duration = Duration::from_secs(60);
/// Part of the budget that the prediction for a dearer source must leave free.
const HEADROOM: f64 = 0.7;
/// What `sched_switch` costs at each switch until it was measured, ns: 100 at nginx under load, with the time to account it.
const SWITCH_NS: f64 = 100.0;
/// Futex tracepoints cost several times what `sched_switch` does, so that this much less is asked for before they are tried.
const DEARER: f64 = 0.3;
/// Most pauses that are told one by one; further ones are added to the last.
const MOST_PAUSES: usize = 50;

/// What was measured in one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// What the programs that tell of waits cost, as a share of one core.
    pub share: f64,
    /// What futex tracepoints cost all system calls, in `share` if they are on; what it would be if they were, as a share of one core.
    pub calls: f64,
    /// Context switches of the whole machine, a second.
    pub switches: f64,
}

/// What watches waits, and why not what was asked for.
#[derive(Clone, Debug)]
pub struct Governor {
    asked: WaitSource,
    /// Share of one core; `None`: measure, and leave it at that.
    budget: Option<f64>,
    source: WaitSource,
    switch_ns: f64,
    since: Duration,
    retry_at: Duration,
    failures: u32,
    pauses: Vec<Pause>,
    /// Pauses that last: of what, their place in `pauses`, since when.
    open: Vec<(WaitSource, usize, Duration)>,
}

impl Governor {
    /// `asked` is watched as long as it costs at most `budget`, a share of one core.
    #[must_use]
    pub fn new(asked: WaitSource, budget: Option<f64>) -> Self {
        Self {
            asked,
            budget,
            source: asked,
            switch_ns: SWITCH_NS,
            since: Duration::ZERO,
            retry_at: Duration::ZERO,
            failures: 0,
            pauses: Vec::new(),
            open: Vec::new(),
        }
    }

    /// What watches waits now.
    #[must_use]
    pub fn source(&self) -> WaitSource {
        self.source
    }

    /// Takes in what was measured up to `now` (since watching began). Returns what should watch from now on, if that is to change.
    pub fn decide(&mut self, now: Duration, measured: Measured) -> Option<WaitSource> {
        let budget = self.budget?;
        if self.source == WaitSource::Switches && measured.switches > 0.0 {
            self.switch_ns = measured.share * 1e9 / measured.switches;
        }
        let predicted = measured.switches * self.switch_ns / 1e9;
        let next = if measured.share > budget {
            self.cheaper(predicted, budget)
        } else if self.source < self.asked && now >= self.retry_at {
            self.dearer(measured, predicted, budget)?
        } else {
            return None;
        };
        if next == self.source {
            return None;
        }
        if next < self.source {
            self.steps_down(now, measured.share);
        }
        self.goes_to(next, now);
        Some(next)
    }

    fn cheaper(&self, predicted: f64, budget: f64) -> WaitSource {
        match self.source {
            WaitSource::Futexes if predicted <= budget => WaitSource::Switches,
            _ => WaitSource::Snapshots,
        }
    }

    /// The next dearer source, if there is hope that it keeps to the budget.
    fn dearer(&self, measured: Measured, predicted: f64, budget: f64) -> Option<WaitSource> {
        let (next, is_hopeful) = match self.source {
            WaitSource::Snapshots => (WaitSource::Switches, predicted <= budget * HEADROOM),
            _ => {
                let leaves_room = measured.share / DEARER + measured.calls / HEADROOM <= budget;
                (WaitSource::Futexes, leaves_room)
            }
        };
        is_hopeful.then_some(next.min(self.asked))
    }

    fn steps_down(&mut self, now: Duration, share: f64) {
        if now.saturating_sub(self.since) >= FORGIVEN {
            self.failures = 0;
        }
        let retry = FIRST_RETRY.saturating_mul(1 << self.failures.min(16)).min(LAST_RETRY);
        self.failures += 1;
        self.retry_at = now + retry;
        let percent = (share * 1e3).round() / 10.0;
        let what = self.source.name();
        let full = self.pauses.len() >= MOST_PAUSES;
        let place = self.pauses.iter().rposition(|pause| full && pause.what == what).unwrap_or(self.pauses.len());
        match self.pauses.get_mut(place) {
            Some(last) => (last.times, last.percent) = (last.times + 1, last.percent.max(percent)),
            None => {
                self.pauses.push(Pause { what: what.to_owned(), from_ms: ms(now), for_ms: 0, times: 1, percent });
            }
        }
        self.open.push((self.source, place, now));
    }

    fn goes_to(&mut self, next: WaitSource, now: Duration) {
        let pauses = &mut self.pauses;
        self.open.retain(|&(source, place, from)| {
            let lasts = source > next;
            if let Some(pause) = pauses.get_mut(place).filter(|_| !lasts) {
                pause.for_ms += ms(now.saturating_sub(from));
            }
            lasts
        });
        (self.source, self.since) = (next, now);
    }

    /// What was paused, up to `now`.
    #[must_use]
    pub fn pauses(&self, now: Duration) -> Vec<Pause> {
        let mut pauses = self.pauses.clone();
        for &(_, place, from) in &self.open {
            if let Some(pause) = pauses.get_mut(place) {
                pause.for_ms += ms(now.saturating_sub(from));
            }
        }
        pauses
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    const fn measured(share: f64, switches: f64) -> Measured {
        Measured { share, calls: 0.0, switches }
    }

    #[test]
    fn it_steps_down_at_once_and_back_up_when_it_is_calm() {
        let mut governor = Governor::new(WaitSource::Futexes, Some(0.01));
        assert_eq!(governor.decide(at(0.1), measured(0.005, 1e5)), None);
        assert_eq!(governor.decide(at(0.2), measured(0.02, 9e4)), Some(WaitSource::Switches));
        assert_eq!(governor.decide(at(0.3), measured(0.006, 9e4)), None, "within budget, but not for futexes");
        assert_eq!(governor.decide(at(1.0), measured(0.0001, 1e3)), None, "too early");
        assert_eq!(governor.decide(at(2.3), measured(0.0001, 1e3)), Some(WaitSource::Futexes));
        let pauses = governor.pauses(at(9.0));
        assert_eq!(pauses.len(), 1, "{pauses:?}");
        let expected = Pause { what: "futex waits".to_owned(), from_ms: 200, for_ms: 2_100, times: 1, percent: 2.0 };
        assert_eq!(pauses[0], expected);
    }

    #[test]
    fn where_system_calls_are_many_futexes_are_not_tried_again() {
        let mut governor = Governor::new(WaitSource::Futexes, Some(0.01));
        let busy = |share| Measured { share, calls: 0.02, switches: 1e4 };
        assert_eq!(governor.decide(at(0.1), busy(0.021)), Some(WaitSource::Switches));
        assert_eq!(governor.decide(at(10.0), busy(0.0006)), None);
        let calm = Measured { share: 0.0006, calls: 0.005, switches: 1e4 };
        assert_eq!(governor.decide(at(11.0), calm), Some(WaitSource::Futexes));
    }

    #[test]
    fn where_switches_are_many_it_goes_down_to_snapshots() {
        let mut governor = Governor::new(WaitSource::Futexes, Some(0.01));
        assert_eq!(governor.decide(at(0.1), measured(0.3, 1e6)), Some(WaitSource::Snapshots));
        assert_eq!(governor.decide(at(5.0), measured(0.0, 1e6)), None, "it would cost 10 %");
        assert_eq!(governor.decide(at(6.0), measured(0.0, 1e4)), Some(WaitSource::Switches));
        assert_eq!(governor.pauses(at(7.0))[0].for_ms, 6_900, "futexes are paused still");
        assert_eq!(governor.decide(at(7.0), measured(0.0006, 1e4)), Some(WaitSource::Futexes));
    }

    #[test]
    fn each_failure_makes_it_wait_longer() {
        let mut governor = Governor::new(WaitSource::Switches, Some(0.01));
        let mut now = 0.0;
        let mut tries = Vec::new();
        for _ in 0..6 {
            assert_eq!(governor.decide(at(now), measured(0.02, 1e4)), Some(WaitSource::Snapshots));
            let down = now;
            while governor.decide(at(now), measured(0.0, 1.0)).is_none() {
                now += 0.5;
            }
            tries.push(now - down);
        }
        assert_eq!(tries, [2.0, 4.0, 8.0, 16.0, 32.0, 64.0]);
        // A minute without trouble: it begins anew.
        now += 61.0;
        assert_eq!(governor.decide(at(now), measured(0.02, 1e4)), Some(WaitSource::Snapshots));
        assert_eq!(governor.decide(at(now + 2.0), measured(0.0, 1.0)), Some(WaitSource::Switches));
    }

    #[test]
    fn what_was_asked_for_is_never_exceeded_and_without_budget_nothing_changes() {
        let mut governor = Governor::new(WaitSource::Switches, Some(0.01));
        assert_eq!(governor.decide(at(500.0), measured(0.0, 0.0)), None);
        let mut free = Governor::new(WaitSource::Futexes, None);
        assert_eq!(free.decide(at(1.0), measured(5.0, 1e6)), None);
        assert!(free.pauses(at(2.0)).is_empty());
    }

    proptest! {
        #[test]
        fn whatever_is_measured_it_stays_in_bounds(
            windows in prop::collection::vec((0.0..2.0f64, 0.0..5e6f64, 0.01..30.0f64), 0..200),
        ) {
            let mut governor = Governor::new(WaitSource::Futexes, Some(0.01));
            let mut now = 0.0;
            for (share, switches, step) in windows {
                now += step;
                let before = governor.source();
                let after = governor.decide(at(now), measured(share, switches)).unwrap_or(before);
                prop_assert_eq!(after, governor.source());
                // Over budget it never stays with a probe; from snapshots alone there is nowhere to go down to.
                prop_assert!(share <= 0.01 || after < before || before == WaitSource::Snapshots);
            }
            let pauses = governor.pauses(at(now));
            prop_assert!(pauses.len() <= MOST_PAUSES);
            prop_assert!(pauses.iter().all(|pause| pause.from_ms + pause.for_ms <= ms(at(now))));
        }
    }
}
