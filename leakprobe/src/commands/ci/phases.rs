//! The phases of a check, one after the other: warm-up, baseline, rounds of load.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use tokio::time;

use super::{
    super::{Failure, output::Plan, watch::Observer},
    created::Created,
    load::{Ended, Load},
    settle::Settling,
};
use crate::{
    analysis::{self, Criteria, Moment},
    cli::Ci,
    model::{Check, Recording, Round, Verdict},
};

/// What the phases brought.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) moments: Vec<Moment>,
    pub(super) rounds: Vec<Round>,
    /// The processes that the program has created.
    pub(super) created: Created,
    /// That of the baseline, for the difference.
    pub(super) baseline: Option<Recording>,
    /// That of the last round.
    pub(super) last: Option<Recording>,
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
pub(super) async fn run(options: &Ci, load: &Load<'_>, observer: &mut Observer, plan: &Plan) -> Result<Seen, Failure> {
    let mut phases = Phases { options, load, observer, plan, seen: Seen::default() };
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
    plan: &'a Plan,
    seen: Seen,
}

impl Phases<'_> {
    async fn all(&mut self) -> Result<(), Broken> {
        if self.options.server.as_ref().is_some_and(|server| server.ready.is_none()) {
            self.begin().await?;
        }
        for number in 1..=self.options.warmup {
            self.plan.say(&format!("warm-up {number} of {}: load", self.options.warmup));
            let _ = self.put_load(&format!("the warm-up load {number}")).await?;
        }
        self.look("baseline", None).await?;
        let mut rounds = self.options.rounds;
        let mut retries = self.options.retry;
        let mut number = 0;
        loop {
            while number < rounds {
                number += 1;
                self.plan.say(&format!("round {number} of {rounds}: load"));
                let run = self.put_load(&format!("the load of round {number}")).await?;
                self.look(&format!("round {number} of {rounds}"), Some(run)).await?;
            }
            if retries == 0 || !self.is_leak_found() {
                return Ok(());
            }
            retries -= 1;
            rounds += self.options.rounds;
            self.plan.say(&format!("a leak was found: {} more rounds before it is believed", self.options.rounds));
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
        match self.load.run(self.observer).await.map_err(Broken::Failure)? {
            Ended::Done(run) => Ok(run),
            Ended::Failed(how) => Err(Broken::Cut(Cut::Load(format!("{which} failed: it {how}")))),
            Ended::NoTarget => Err(Broken::Cut(Cut::NoTarget)),
            Ended::Stopped => Err(Broken::Cut(Cut::Stopped)),
        }
    }

    /// Waits until the numbers are level, and keeps what is there then.
    async fn look(&mut self, which: &str, run: Option<super::load::Run>) -> Result<(), Broken> {
        let began = Instant::now();
        let (recording, settled) = self.settled().await?;
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
        self.seen.created.look(recording.target.pid);
        self.seen.rounds.push(round);
        self.seen.moments.push(moment);
        if self.seen.baseline.is_none() {
            self.seen.baseline = Some(recording);
        } else {
            self.seen.last = Some(recording);
        }
        Ok(())
    }

    /// The recording of a moment at which the numbers were level, or the time for that was over; and whether they were.
    async fn settled(&mut self) -> Result<(Recording, bool), Broken> {
        let deadline = Instant::now() + self.options.settle_max;
        let mut waited_for = HashSet::new();
        loop {
            let is_level = self.level(deadline).await?;
            let recording = self.observer.recording().await.ok_or_else(|| self.why_ended())?;
            let left = deadline.saturating_duration_since(Instant::now());
            match self.expiring(&recording, left, &mut waited_for) {
                // What ends by itself soon is no leak: its end is waited for.
                Some(more) if is_level => {
                    self.pause(more).await?;
                }
                _ => return Ok((recording, is_level)),
            }
        }
    }

    /// Waits until numbers are level, or `deadline`; returns whether they are.
    async fn level(&mut self, deadline: Instant) -> Result<bool, Broken> {
        let began = Instant::now();
        let mut settling = Settling::new(self.options.settle);
        let mut stopped = self.observer.stopped.clone();
        loop {
            let changed = tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => return Err(Broken::Cut(Cut::Stopped)),
                changed = self.observer.counts.changed() => changed,
                () = time::sleep_until(deadline.into()) => return Ok(false),
            };
            if changed.is_err() {
                return Err(self.why_ended());
            }
            let counts = *self.observer.counts.borrow_and_update();
            if settling.add(began.elapsed(), counts.threads + counts.goroutines.unwrap_or(0)) {
                return Ok(true);
            }
        }
    }

    async fn pause(&self, time: Duration) -> Result<(), Broken> {
        let mut stopped = self.observer.stopped.clone();
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => Err(Broken::Cut(Cut::Stopped)),
            () = time::sleep(time) => Ok(()),
        }
    }

    /// For how long to wait until tasks have gone by themselves: at a site with more of them than at the baseline, all of which end
    /// their waits within the time that is left. What ended its waits while numbers were level has had its chance; and each site
    /// has but one.
    fn expiring(&self, recording: &Recording, left: Duration, waited_for: &mut HashSet<String>) -> Option<Duration> {
        let baseline = self.seen.moments.first()?;
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (least, most) = (ms(self.options.settle), ms(left));
        let sites = recording.sites.iter().filter(|site| {
            site.role.is_own() && site.with_timeout == site.count && site.count > baseline.count(&site.id)
        });
        let soon = sites.filter_map(|site| Some((site, site.shortest_timeout_ms?)));
        let soon =
            soon.filter(|(site, timeout)| (least..=most).contains(timeout) && waited_for.insert(site.id.clone()));
        soon.map(|(_, timeout)| timeout).max().map(Duration::from_millis)
    }

    fn is_leak_found(&self) -> bool {
        let Some(mut last) = self.seen.last.clone() else {
            return false;
        };
        last.check = Some(Check { rounds: self.seen.rounds.clone(), ..Check::default() });
        let criteria = Criteria { max_growth_percent: self.options.max_growth_percent };
        let judgements = analysis::judge(&last, &self.seen.moments, &criteria);
        judgements.iter().any(|judgement| judgement.verdict >= Verdict::Likely)
    }

    fn why_ended(&self) -> Broken {
        Broken::Cut(if *self.observer.stopped.borrow() { Cut::Stopped } else { Cut::NoTarget })
    }
}

fn how_level(is_level: bool, after: Duration) -> String {
    format!("{} after {:.1} s", if is_level { "level" } else { "not level" }, after.as_secs_f64())
}
