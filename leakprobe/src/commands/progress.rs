//! The line on the terminal that tells how it goes while targets are watched.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    shared::lock,
    watch::{Counts, GoroutineCounts, Update, own_cpu_time},
};

/// One line on the terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    began: Instant,
    cpu_before: Duration,
    /// What was last seen of each process.
    seen: Mutex<BTreeMap<u32, Counts>>,
}

/// The numbers of two processes together.
fn sum(a: Counts, b: Counts) -> Counts {
    let goroutines = match (a.goroutines, b.goroutines) {
        (Some(a), Some(b)) => Some(GoroutineCounts {
            alive: a.alive + b.alive,
            parked: a.parked + b.parked,
            created: a.created + b.created,
        }),
        (one, other) => one.or(other),
    };
    Counts {
        threads: a.threads + b.threads,
        parked: a.parked + b.parked,
        goroutines,
        events: a.events + b.events,
        lost_events: a.lost_events + b.lost_events,
        ..a
    }
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        let shown = !quiet && io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{elapsed:>4} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        Self {
            bar: ProgressBar::with_draw_target(None, target).with_style(style),
            began: Instant::now(),
            cpu_before: own_cpu_time(),
            seen: Mutex::default(),
        }
    }

    /// Shows what has happened to a target.
    pub(super) fn show(&self, update: Update) {
        if self.bar.is_hidden() {
            return;
        }
        match update {
            Update::Snapshot { pid, counts } => {
                let mut seen = lock(&self.seen);
                seen.insert(pid, counts);
                self.bar.set_message(self.line(&seen));
            }
            Update::Exited { pid } => drop(lock(&self.seen).remove(&pid)),
            Update::Ending { .. } => self.bar.finish_and_clear(),
        }
    }

    fn line(&self, seen: &BTreeMap<u32, Counts>) -> String {
        let processes = if seen.len() > 1 { format!("{} processes, ", seen.len()) } else { String::new() };
        let Counts { threads, parked, goroutines, events, lost_events, .. } =
            seen.values().copied().fold(Counts::default(), sum);
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let cpu = own_cpu_time().saturating_sub(self.cpu_before).as_secs_f64();
        // Of a Go program's threads most are the runtime's; and a line has 80 columns.
        let tasks = match goroutines {
            Some(GoroutineCounts { alive, parked, created }) => {
                let created = created as f64 / seconds;
                format!("{alive} goroutines, {parked} parked, +{created:.0}/s, {threads} threads")
            }
            None => format!("{threads} threads, {parked} parked, {:.0} events/s", events as f64 / seconds),
        };
        let share = 100.0 * cpu / seconds;
        format!("{processes}{tasks}, {lost_events} lost, own CPU {share:.1} %  (Ctrl-C ends)")
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
