//! The phases of a check, one after the other: warm-up, baseline, rounds of load.

use std::time::{Duration, Instant};

use tokio::time;

use super::{
    super::{Failure, output::Plan},
    created::Created,
    leak_profile::Asked,
    load::{Ended, Load},
    settle::Settling,
    workers::Workers,
};
use crate::{
    analysis::{self, Criteria, History, Judgements, Moment, WaitedFor},
    cli::Ci,
    model::{Check, Recording, Round, Verdict},
    watch::Observer,
};

/// What the phases brought.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) moments: Vec<Moment>,
    /// What was there before any load; `None` without a warm-up.
    pub(super) before: Option<Moment>,
    pub(super) rounds: Vec<Round>,
    /// The processes that the program has created.
    pub(super) created: Created,
    /// What the target's own profile of leaked goroutines came to.
    pub(super) leak_profile: Asked,
    /// That of the baseline, for the difference.
    pub(super) baseline: Option<Recording>,
    /// That of the last round.
    pub(super) last: Option<Recording>,
    /// Other processes that were named, and ended before it was done.
    pub(super) gone: Vec<u32>,
    /// Why it was not done to its end.
    pub(super) cut_short: Option<Cut>,
}

/// What cut a check short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// A signal.
    Stopped,
    /// The program ended.
    NoTarget,
    /// The load failed, in words.
    Load(String),
}

/// Runs all of them.
pub(super) async fn run(
    options: &Ci,
    load: &Load<'_>,
    observer: &mut Observer,
    workers: &mut Workers,
    plan: &Plan,
) -> Result<Seen, Failure> {
    let mut phases = Phases { options, load, observer, workers, plan, seen: Seen::default() };
    let cut = phases.all().await;
    let mut seen = phases.seen;
    match cut {
        Ok(()) => {}
        Err(Broken::Cut(cut)) => seen.cut_short = Some(cut),
        Err(Broken::Failure(failure)) => return Err(failure),
    }
    Ok(seen)
}

enum Broken {
    Cut(Cut),
    Failure(Failure),
}

struct Phases<'a> {
    options: &'a Ci,
    load: &'a Load<'a>,
    observer: &'a mut Observer,
    workers: &'a mut Workers,
    plan: &'a Plan,
    seen: Seen,
}

impl Phases<'_> {
    async fn all(&mut self) -> Result<(), Broken> {
        if self.options.server.as_ref().is_some_and(|server| server.ready.is_none()) {
            self.begin().await?;
        }
        if self.options.warmup > 0 {
            let recording = self.observer.recording().await.ok_or_else(|| self.why_ended())?;
            self.seen.before = Some(Moment::of(&recording));
        }
        for number in 1..=self.options.warmup {
            self.plan.say(&format!("warm-up {number} of {}: load", self.options.warmup));
            let _ = self.put_load(&format!("the warm-up load {number}")).await?;
        }
        self.look("baseline", None).await?;
        let mut rounds = self.options.rounds;
        let most = self.options.max_rounds.max(rounds);
        let mut retries = self.options.retry;
        let mut number = 0;
        loop {
            while number < rounds {
                number += 1;
                self.plan.say(&format!("round {number} of {rounds}: load"));
                let run = self.put_load(&format!("the load of round {number}")).await?;
                self.look(&format!("round {number} of {rounds}"), Some(run)).await?;
            }
            let all = std::iter::once(&self.seen).chain(self.workers.seen());
            let judgements: Vec<Judgements> = all.map(|seen| judge(self.options, seen)).collect();
            if retries > 0 && judgements.iter().any(|one| one.worst() >= Verdict::Likely) {
                retries -= 1;
                rounds += self.options.rounds;
                self.plan.say(&format!("a leak was found: {} more rounds before it is believed", self.options.rounds));
            } else if judgements.iter().any(|one| one.is_open) && rounds < most {
                // A pool that fills stops growing, a leak does not.
                rounds += 1;
                self.plan.say(&format!("something grew and may still stop: one more round (at most {most})"));
            } else {
                return Ok(());
            }
        }
    }

    /// A program that does not tell when it is ready is taken to be so once its numbers are level.
    async fn begin(&mut self) -> Result<(), Broken> {
        let began = Instant::now();
        let is_level = self.level(began + self.options.settle_max).await?;
        self.plan.say(&format!("start: {}", how_level(is_level, began.elapsed())));
        Ok(())
    }

    async fn put_load(&mut self, which: &str) -> Result<super::load::Run, Broken> {
        self.seen.created.load_begins();
        let ended = self.load.run(self.observer).await.map_err(Broken::Failure)?;
        self.seen.created.load_ended();
        match ended {
            Ended::Done(run) => Ok(run),
            Ended::Failed(how) => Err(Broken::Cut(Cut::Load(format!("{which} failed: it {how}")))),
            Ended::NoTarget => Err(Broken::Cut(Cut::NoTarget)),
            Ended::Stopped => Err(Broken::Cut(Cut::Stopped)),
        }
    }

    /// Waits until the numbers are level, and keeps what is there then.
    async fn look(&mut self, which: &str, run: Option<super::load::Run>) -> Result<(), Broken> {
        let began = Instant::now();
        let is_last = self.seen.moments.len() >= self.options.rounds as usize;
        if let Some(profile) = &self.options.go_leak_profile {
            // What is still going on is none of the leaks, and what serves the profile has to end as well.
            self.level(began + self.options.settle_max).await?;
            self.seen.leak_profile.ask(profile, which, self.observer).await;
        }
        let (recording, settled) = self.settled(is_last).await?;
        if let Some(profile) = &self.options.go_leak_profile {
            self.seen.leak_profile.compare(profile, which, &recording);
        }
        let took = began.elapsed();
        let moment = Moment::of(&recording);
        let requests = run.as_ref().and_then(|run| run.requests);
        let round = Round {
            at_ms: recording.growth.last().map_or(recording.duration_ms, |sample| sample.at_ms),
            load_ms: run.as_ref().map(|run| u64::try_from(run.took.as_millis()).unwrap_or(u64::MAX)),
            requests,
            settle_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            settled,
            threads: recording.coverage.threads,
            goroutines: recording.coverage.go.as_ref().map_or(0, |go| go.goroutines),
            waiting: recording.sites.iter().filter(|site| site.role.is_own()).map(|site| site.count).sum(),
        };
        let goroutines = recording.coverage.go.as_ref().map(|go| format!(", {} goroutines", go.goroutines));
        let (goroutines, level) = (goroutines.unwrap_or_default(), how_level(settled, took));
        self.plan.say(&format!("{which}: {} threads{goroutines}, {level}", round.threads));
        self.workers.look(&round).await;
        self.seen.created.look([&[recording.target.pid], &*self.workers.pids()].concat());
        self.seen.rounds.push(round);
        self.seen.moments.push(moment);
        if self.seen.baseline.is_none() {
            self.seen.baseline = Some(recording);
        } else {
            self.seen.last = Some(recording);
        }
        Ok(())
    }

    /// The recording of a moment at which the numbers were level, or the time for that was over; and whether they were. If it may be
    /// the last one, what ends by its own timer within that time is no leak: its end is waited for.
    async fn settled(&mut self, is_last: bool) -> Result<(Recording, bool), Broken> {
        let deadline = Instant::now() + self.patience();
        let mut waited_for = WaitedFor::default();
        loop {
            let is_level = self.level(deadline).await?;
            let recording = self.observer.recording().await.ok_or_else(|| self.why_ended())?;
            let left = deadline.saturating_duration_since(Instant::now());
            let due = match self.seen.moments.first().filter(|_| is_last && is_level) {
                Some(baseline) => baseline.due_within(&recording, self.options.settle..=left, &mut waited_for),
                None => None,
            };
            match due {
                Some(due) => self.pause(due).await?,
                None => return Ok((recording, is_level)),
            }
        }
    }

    /// How long numbers are waited for. Where they were never level twice in a row, and did not go down either, they never will be:
    /// tasks that come and go all the time.
    fn patience(&self) -> Duration {
        let settle_max = self.options.settle_max;
        match self.seen.rounds.as_slice() {
            [.., before, last] if !before.settled && !last.settled => {
                let tasks = |round: &Round| round.threads + round.goroutines;
                let goes_down = tasks(last) < tasks(before);
                if goes_down { settle_max } else { settle_max.min(4 * self.options.settle) }
            }
            _ => settle_max,
        }
    }

    /// Waits until numbers are level, or `deadline`; returns whether they are.
    async fn level(&mut self, deadline: Instant) -> Result<bool, Broken> {
        let began = Instant::now();
        let mut settling = Settling::new(self.options.settle);
        let stop = self.observer.stop.clone();
        loop {
            let changed = tokio::select! {
                biased;
                () = stop.wait() => return Err(Broken::Cut(Cut::Stopped)),
                changed = self.observer.counts.changed() => changed,
                () = time::sleep_until(deadline.into()) => return Ok(false),
            };
            if changed.is_err() {
                return Err(self.why_ended());
            }
            let counts = *self.observer.counts.borrow_and_update();
            if settling.add(began.elapsed(), counts.tasks() + self.workers.tasks()) {
                return Ok(true);
            }
        }
    }

    async fn pause(&self, time: Duration) -> Result<(), Broken> {
        let stop = self.observer.stop.clone();
        tokio::select! {
            () = stop.wait() => Err(Broken::Cut(Cut::Stopped)),
            () = time::sleep(time) => Ok(()),
        }
    }

    fn why_ended(&self) -> Broken {
        Broken::Cut(if self.observer.stop.is_stopped() { Cut::Stopped } else { Cut::NoTarget })
    }
}

fn how_level(is_level: bool, after: Duration) -> String {
    format!("{} after {:.1} s", if is_level { "level" } else { "not level" }, after.as_secs_f64())
}

/// What is thought of a process so far.
fn judge(options: &Ci, seen: &Seen) -> Judgements {
    let Some(mut last) = seen.last.clone() else {
        return Judgements::default();
    };
    last.check = Some(Check { rounds: seen.rounds.clone(), ..Check::default() });
    let criteria = Criteria { max_growth_percent: options.max_growth_percent, ..Criteria::default() };
    let history = History { moments: &seen.moments, before: seen.before.as_ref() };
    analysis::judge(&last, history, &criteria)
}
