//! Measures what the programs cost, over and over, and has the governor's decisions carried out.

use std::{
    collections::HashMap,
    mem,
    time::{Duration, Instant},
};

use crate::{
    model::{Gap, Pause},
    probes::{
        Programs, WaitSource,
        cost::{Accounting, Done, ProgramTime},
        governor::{Governor, Measured},
    },
};

/// How long a measurement lasts if it is not known what it will bring: short, since the target may pay dearly.
const SHORT_WINDOW: Duration = Duration::from_millis(30);
/// How long later ones last.
const WINDOW: Duration = Duration::from_millis(100);
/// From one measurement to the next while the machine does something.
const PAUSE: Duration = Duration::from_millis(300);
/// The same while it does next to nothing. But it is looked now and then whether that is still so: a load that begins is paid for
/// until it is measured.
const CALM_PAUSE: Duration = Duration::from_secs(2);
/// From one such look to the next. A measurement costs some ten times as much.
const GLANCE: Duration = Duration::from_millis(200);
/// So many ticks of CPU time between two looks are something: a tenth of a core.
const BUSY_TICKS: u64 = 2;
/// What a context switch is held to cost in futex tracepoints, ns, where their cost cannot be measured: two calls, each with
/// its way in and its way out.
const ESTIMATE_NS: f64 = 440.0;

/// The governor of a run, and what it measures.
pub(super) struct Governing {
    governor: Governor,
    budget: Option<f64>,
    began: Instant,
    next: Instant,
    window: Option<Window>,
    rhythm: Rhythm,
    /// What the machine had done when it was last looked at.
    done: Option<Done>,
    /// Whether the kernel accounts the programs' time for us.
    accounts: bool,
    /// Time that was measured, and the programs' part of it, each weighted by the time that it stands for.
    measured: (Duration, f64),
    last: Instant,
    last_share: f64,
    stacks: StackRate,
}

/// A measurement that runs.
struct Window {
    _accounting: Option<Accounting>,
    began: Instant,
    time: ProgramTime,
    done: Option<Done>,
    /// Threads that each target had created by then.
    created: HashMap<u32, u64>,
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
            rhythm: Rhythm::default(),
            done: None,
            accounts: true,
            measured: (Duration::ZERO, 0.0),
            last: now,
            last_share: 0.0,
            stacks: StackRate::default(),
        }
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Begins or ends a measurement; after one, changes what watches waits.
    pub(super) fn step(&mut self, probes: &Programs) {
        if Instant::now() < self.next {
            return;
        }
        if let Some(window) = self.window.take() {
            let is_new = self.close(&window, probes);
            self.done = Done::read();
            self.next = Instant::now() + self.rhythm.measured(is_new);
            return;
        }
        let is_busy = self.is_busy();
        let Look { begins, measure } = self.rhythm.looked(is_busy, self.last.elapsed());
        if begins {
            // What is measured now does not stand for the calm before.
            self.account(self.last_share);
        }
        if measure.is_some() {
            self.window = Some(self.open(probes));
        }
        self.next = Instant::now() + measure.unwrap_or(GLANCE);
    }

    /// Whether the machine has done something since it was last looked at, or that is not known.
    fn is_busy(&mut self) -> bool {
        let now = Done::read();
        let before = mem::replace(&mut self.done, now);
        before.zip(now).is_none_or(|(before, now)| now.since(before).busy_ticks >= BUSY_TICKS)
    }

    fn open(&mut self, probes: &Programs) -> Window {
        let accounting = if self.accounts { Accounting::begin().ok() } else { None };
        if self.accounts && accounting.is_none() {
            self.accounts = false;
            probes.add_gap(Gap::CostEstimated);
        }
        Window {
            _accounting: accounting,
            began: Instant::now(),
            time: probes.program_time(),
            done: Done::read(),
            created: probes.created(),
        }
    }

    /// Takes in what the programs cost in the window; returns whether something else watches waits from now on.
    fn close(&mut self, window: &Window, probes: &Programs) -> bool {
        let seconds = window.began.elapsed().as_secs_f64().max(1e-4);
        let switches =
            Done::read().zip(window.done).map_or(0.0, |(now, then)| now.since(then).switches as f64 / seconds);
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
        self.account(share + lifecycle);
        let created = probes.created();
        let since = |(target, now): (&u32, &u64)| now.saturating_sub(window.created.get(target).copied().unwrap_or(0));
        let a_step = Programs::STACKS_STEP.as_secs_f64() / seconds;
        let wanted: Vec<f64> = created.iter().map(|count| since(count) as f64 * a_step).collect();
        if let Some(budget) = self.budget
            && let Some(most) = self.stacks.decide(lifecycle, budget, wanted)
        {
            tracing::debug!("creations cost {:.2} % of a core: {most} stacks of each target", lifecycle * 100.0);
            probes.limit_stacks(most);
        }
        let other = self.governor.decide(self.began.elapsed(), Measured { share, calls, switches });
        if let Some(source) = other {
            tracing::debug!("programs cost {:.2} % of a core: {} from now on", share * 100.0, source.name());
            probes.watch_waits(source);
        }
        other.is_some()
    }

    /// All programs have cost `share` of a core since this was called last.
    fn account(&mut self, share: f64) {
        let lasted = self.last.elapsed();
        self.last = Instant::now();
        self.last_share = share;
        self.measured.0 += lasted;
        self.measured.1 += share * lasted.as_secs_f64();
    }

    /// What was paused so far, for a target that is watched since `began`.
    pub(super) fn pauses(&self, began: Instant) -> Vec<Pause> {
        let later = u64::try_from(began.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX);
        let pauses = self.governor.pauses(self.began.elapsed()).into_iter();
        let shifted = pauses.filter_map(|pause| {
            let end = (pause.from_ms + pause.for_ms).checked_sub(later).filter(|end| *end > 0)?;
            let from_ms = pause.from_ms.saturating_sub(later);
            Some(Pause { from_ms, for_ms: pause.for_ms.min(end - from_ms), ..pause })
        });
        shifted.collect()
    }

    /// What the programs cost on average, percent of one core; `None` if it was not measured.
    pub(super) fn percent(&self) -> Option<f64> {
        let (time, cost) = self.measured;
        let percent = 100.0 * cost / time.as_secs_f64();
        (self.accounts && percent.is_finite()).then(|| (percent * 1e3).round() / 1e3)
    }
}

/// When it is measured, by what is seen of the machine.
#[derive(Debug)]
struct Rhythm {
    /// Whether the next measurement is to come at once, and to be short.
    is_urgent: bool,
    /// Whether the machine did next to nothing when it was last looked at.
    was_calm: bool,
}

/// What follows from a look at the machine.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    /// Whether a load has begun.
    begins: bool,
    /// For how long to measure now, if that is to be.
    measure: Option<Duration>,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self { is_urgent: true, was_calm: false }
    }
}

impl Rhythm {
    /// The machine was looked at, so long after the last measurement.
    fn looked(&mut self, is_busy: bool, since_last: Duration) -> Look {
        let begins = mem::replace(&mut self.was_calm, !is_busy) && is_busy;
        if mem::take(&mut self.is_urgent) || begins {
            return Look { begins, measure: Some(SHORT_WINDOW) };
        }
        let pause = if is_busy { PAUSE } else { CALM_PAUSE };
        Look { begins, measure: (since_last >= pause).then_some(WINDOW) }
    }

    /// A measurement is over, and what watches now is new or not: when to look again.
    fn measured(&mut self, is_new: bool) -> Duration {
        self.is_urgent = is_new;
        if is_new { Duration::ZERO } else { GLANCE }
    }
}

/// Part of the budget up to which more stacks are taken.
const ROOM: f64 = 0.8;
/// Part of the budget that stacks may always cost: where creations are too dear without them, to take none would save next to nothing,
/// and would cost those targets their stacks which create little.
const ALWAYS: f64 = 0.1;
/// CPU time that the stack of a creation takes, s.
const OF_STACK: f64 = 5e-6;

/// How many creation stacks are taken: what a flood of creations costs is mostly their stacks.
#[derive(Debug)]
struct StackRate {
    most: u64,
}

impl Default for StackRate {
    fn default() -> Self {
        Self { most: Programs::MOST_STACKS }
    }
}

impl StackRate {
    /// Half of them if the programs on the life of threads, at `share` of a core, cost more than the budget; half as many again if
    /// less: a moment that was dear must not cost stacks from then on. `wanted`: how many each target creates in a step.
    fn decide(&mut self, share: f64, budget: f64, wanted: Vec<f64>) -> Option<u64> {
        let always = budget * ALWAYS * Programs::STACKS_STEP.as_secs_f64() / OF_STACK;
        let least = fair(wanted, always).map_or(Programs::MOST_STACKS, |most| most as u64);
        let least = least.clamp(1, Programs::MOST_STACKS);
        let most = if share > budget {
            (self.most / 2).max(least)
        } else if share < budget * ROOM {
            (self.most + (self.most / 2).max(1)).min(Programs::MOST_STACKS)
        } else {
            self.most.max(least)
        };
        (most != self.most).then(|| {
            self.most = most;
            most
        })
    }
}

/// The most that each may have so that all together have `sum`, where some want less; `None` if there is enough for all.
fn fair(mut wanted: Vec<f64>, mut sum: f64) -> Option<f64> {
    wanted.sort_by(f64::total_cmp);
    let count = wanted.len();
    for (place, want) in wanted.into_iter().enumerate() {
        let each = sum / (count - place) as f64;
        if want > each {
            return Some(each);
        }
        sum -= want;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(begins: bool, measure: Option<Duration>) -> Look {
        Look { begins, measure }
    }

    #[test]
    fn it_is_measured_at_once_when_a_load_begins_and_seldom_while_there_is_none() {
        let mut rhythm = Rhythm::default();
        assert_eq!(rhythm.looked(true, Duration::ZERO), look(false, Some(SHORT_WINDOW)), "nothing is known yet");
        assert_eq!(rhythm.measured(false), GLANCE);
        for (is_busy, since_last, expected) in [
            (true, PAUSE / 2, look(false, None)),
            (true, PAUSE, look(false, Some(WINDOW))),
            (false, PAUSE, look(false, None)),
            (false, CALM_PAUSE, look(false, Some(WINDOW))),
            (true, GLANCE, look(true, Some(SHORT_WINDOW))),
            (true, GLANCE, look(false, None)),
        ] {
            assert_eq!(rhythm.looked(is_busy, since_last), expected, "{is_busy} {since_last:?}");
        }
    }

    #[test]
    fn what_watches_from_now_on_is_measured_at_once() {
        let mut rhythm = Rhythm::default();
        rhythm.looked(false, Duration::ZERO);
        assert_eq!(rhythm.measured(true), Duration::ZERO);
        assert_eq!(rhythm.looked(false, Duration::ZERO), look(false, Some(SHORT_WINDOW)));
        assert_eq!(rhythm.measured(false), GLANCE);
        assert_eq!(rhythm.looked(false, GLANCE), look(false, None));
    }

    #[test]
    fn stacks_become_fewer_and_more_again() {
        let (mut rate, flood) = (StackRate::default(), vec![1e4; 100]);
        let mut decide = |share| rate.decide(share, 0.01, flood.clone());
        assert_eq!(decide(0.005), None);
        assert_eq!(decide(0.02), Some(Programs::MOST_STACKS / 2));
        let fewer: Vec<u64> = (0..20).filter_map(|_| decide(0.02)).collect();
        assert_eq!(fewer.last(), Some(&1));
        assert_eq!(decide(0.001), Some(2));
        let more: Vec<u64> = (0..20).filter_map(|_| decide(0.001)).collect();
        assert_eq!(more.last(), Some(&Programs::MOST_STACKS));
    }

    #[test]
    fn what_a_flood_costs_does_not_cost_the_stacks_of_a_quiet_target() {
        let mut rate = StackRate::default();
        for _ in 0..20 {
            rate.decide(0.5, 0.01, vec![2500.0, 5.0]);
        }
        assert!((5..20).contains(&rate.most), "{}", rate.most);
        assert_eq!(rate.decide(0.5, 0.01, vec![0.0, 5.0]), Some(Programs::MOST_STACKS), "stacks are not what is dear");
    }

    #[test]
    fn what_there_is_is_parted_fairly() {
        assert_eq!([fair(vec![], 1.0), fair(vec![2.0, 3.0], 5.0)], [None; 2]);
        assert_eq!(fair(vec![100.0, 5.0, 50.0], 25.0), Some(10.0));
        assert_eq!(fair(vec![100.0, 100.0], 0.0), Some(0.0));
    }
}
