//! Measures what the programs cost, over and over, and has the governor's decisions carried out.

use std::time::{Duration, Instant};

use crate::{
    model::Pause,
    probes::{
        Probes, WaitSource,
        cost::{Accounting, ProgramTime, context_switches},
        governor::{Governor, Measured},
    },
};

/// How long the first measurement lasts: short, since the target may pay dearly.
const FIRST_WINDOW: Duration = Duration::from_millis(30);
/// How long later ones last.
const WINDOW: Duration = Duration::from_millis(100);
/// From one measurement to the next: a load that begins is paid for until it is measured.
const PAUSE: Duration = Duration::from_millis(300);
/// What a context switch is held to cost in futex tracepoints, ns, where their cost cannot be measured: two calls, each with
/// its way in and its way out.
const ESTIMATE_NS: f64 = 440.0;

/// The governor of one session, and what it measures.
pub(super) struct Governing {
    governor: Governor,
    budget: Option<f64>,
    began: Instant,
    next: Instant,
    window: Option<Window>,
    first: bool,
    /// Whether the kernel accounts the programs' time for us.
    accounts: bool,
    /// Time that was measured, and the programs' part of it, each weighted by the time that it stands for.
    measured: (Duration, f64),
    last: Instant,
    stacks: StackRate,
}

/// A measurement that runs.
struct Window {
    _accounting: Option<Accounting>,
    began: Instant,
    time: ProgramTime,
    switches: Option<u64>,
}

impl Governing {
    /// Of programs that were just attached. `budget` is a share of one core.
    pub(super) fn new(asked: WaitSource, budget: Option<f64>) -> Self {
        let now = Instant::now();
        Self {
            governor: Governor::new(asked, budget),
            budget,
            began: now,
            next: now,
            window: None,
            first: true,
            accounts: true,
            measured: (Duration::ZERO, 0.0),
            last: now,
            stacks: StackRate::default(),
        }
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Begins or ends a measurement; after one, changes what watches waits.
    pub(super) fn step(&mut self, probes: &mut Probes) {
        match self.window.take() {
            None => {
                self.window = Some(self.open(probes));
                self.next = Instant::now() + if std::mem::take(&mut self.first) { FIRST_WINDOW } else { WINDOW };
            }
            Some(window) => {
                self.close(&window, probes);
                self.next = Instant::now() + PAUSE;
            }
        }
    }

    fn open(&mut self, probes: &mut Probes) -> Window {
        let accounting = if self.accounts { Accounting::begin().ok() } else { None };
        if self.accounts && accounting.is_none() {
            self.accounts = false;
            let what = "the cost of leakprobe's programs in the kernel is estimated, since it may not be measured: run with sudo, or grant CAP_SYS_ADMIN";
            probes.gaps.push(what.to_owned());
        }
        Window {
            _accounting: accounting,
            began: Instant::now(),
            time: probes.program_time(),
            switches: context_switches(),
        }
    }

    /// Takes in what the programs cost in the window.
    fn close(&mut self, window: &Window, probes: &mut Probes) {
        let seconds = window.began.elapsed().as_secs_f64().max(1e-4);
        let switches = context_switches()
            .zip(window.switches)
            .map_or(0.0, |(now, then)| now.saturating_sub(then) as f64 / seconds);
        let time = probes.program_time().since(window.time);
        let share = match (self.accounts, self.governor.source()) {
            (true, _) => time.waits_ns as f64 / 1e9 / seconds,
            (false, WaitSource::Futexes) => switches * ESTIMATE_NS / 1e9,
            (false, WaitSource::Switches) => switches * ESTIMATE_NS / 8e9,
            (false, WaitSource::Snapshots) => 0.0,
        };
        // Where futexes are not asked for, they were never watched, and nothing is counted.
        let calls = probes.longer_calls();
        let share = if self.governor.source() == WaitSource::Futexes { share + calls } else { share };
        let lifecycle = time.lifecycle_ns as f64 / 1e9 / seconds;
        let lasted = self.last.elapsed();
        self.last = Instant::now();
        self.measured.0 += lasted;
        self.measured.1 += (share + lifecycle) * lasted.as_secs_f64();
        if let Some(budget) = self.budget
            && let Some(most) = self.stacks.decide(lifecycle, budget)
        {
            probes.limit_stacks(most);
        }
        if let Some(source) = self.governor.decide(self.began.elapsed(), Measured { share, calls, switches }) {
            tracing::debug!("programs cost {:.2} % of a core: {} from now on", share * 100.0, source.name());
            probes.watch_waits(source);
        }
    }

    /// What was paused so far.
    pub(super) fn pauses(&self) -> Vec<Pause> {
        self.governor.pauses(self.began.elapsed())
    }

    /// What the programs cost on average, percent of one core; `None` if it was not measured.
    pub(super) fn percent(&self) -> Option<f64> {
        let (time, cost) = self.measured;
        let percent = 100.0 * cost / time.as_secs_f64();
        (self.accounts && percent.is_finite()).then(|| (percent * 1e3).round() / 1e3)
    }
}

/// How many creation stacks are taken: what a flood of creations costs is mostly their stacks.
#[derive(Debug)]
struct StackRate {
    most: u64,
}

impl Default for StackRate {
    fn default() -> Self {
        Self { most: Probes::MOST_STACKS }
    }
}

impl StackRate {
    /// Half of them if the programs on the life of threads, at `share` of a core, cost more than the budget; twice as many if
    /// much less.
    fn decide(&mut self, share: f64, budget: f64) -> Option<u64> {
        let most = if share > budget {
            (self.most / 2).max(1)
        } else if share < budget / 4.0 {
            (self.most * 2).min(Probes::MOST_STACKS)
        } else {
            self.most
        };
        (most != self.most).then(|| {
            self.most = most;
            most
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_become_fewer_and_more_again() {
        let mut rate = StackRate::default();
        assert_eq!(rate.decide(0.005, 0.01), None);
        assert_eq!(rate.decide(0.02, 0.01), Some(Probes::MOST_STACKS / 2));
        for _ in 0..20 {
            rate.decide(0.02, 0.01);
        }
        assert_eq!(rate.most, 1);
        assert_eq!(rate.decide(0.001, 0.01), Some(2));
        for _ in 0..20 {
            rate.decide(0.001, 0.01);
        }
        assert_eq!(rate.most, Probes::MOST_STACKS);
    }
}
