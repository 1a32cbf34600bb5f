//! The line on the terminal that tells how it goes while targets are watched.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::session::Session;

/// One line on the terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    began: Instant,
    cpu_before: Duration,
    /// What was last seen of each process.
    seen: Mutex<BTreeMap<u32, Seen>>,
}

/// Numbers of one process.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) threads: u64,
    parked: u64,
    /// Goroutines alive, parked and created, if there are any.
    pub(super) goroutines: Option<[u64; 3]>,
    events: u64,
    pub(super) lost: u64,
}

impl Seen {
    pub(super) fn of(session: &Session) -> Self {
        let live = &session.live;
        Self {
            threads: live.threads().len() as u64,
            parked: live.parked(),
            goroutines: live.goroutines().map(|table| [table.alive(), table.parked(), table.turnover().created]),
            events: session.events(),
            lost: session.lost_events(),
        }
    }

    fn and(self, other: Self) -> Self {
        let goroutines = match (self.goroutines, other.goroutines) {
            (Some([a, b, c]), Some([d, e, f])) => Some([a + d, b + e, c + f]),
            (one, other) => one.or(other),
        };
        Self {
            threads: self.threads + other.threads,
            parked: self.parked + other.parked,
            goroutines,
            events: self.events + other.events,
            lost: self.lost + other.lost,
        }
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
            cpu_before: Session::cpu_time(),
            seen: Mutex::default(),
        }
    }

    pub(super) fn show(&self, session: &Session) {
        if self.bar.is_hidden() {
            return;
        }
        let mut seen = self.lock();
        seen.insert(session.target.pid, Seen::of(session));
        let processes = if seen.len() > 1 { format!("{} processes, ", seen.len()) } else { String::new() };
        let all = seen.values().copied().fold(Seen::default(), Seen::and);
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let cpu = Session::cpu_time().saturating_sub(self.cpu_before).as_secs_f64();
        let Seen { threads, parked, lost, .. } = all;
        // Of a Go program's threads most are the runtime's; and a line has 80 columns.
        let tasks = match all.goroutines {
            Some([alive, parked, created]) => {
                let created = created as f64 / seconds;
                format!("{alive} goroutines, {parked} parked, +{created:.0}/s, {threads} threads")
            }
            None => format!("{threads} threads, {parked} parked, {:.0} events/s", all.events as f64 / seconds),
        };
        let share = 100.0 * cpu / seconds;
        self.bar.set_message(format!("{processes}{tasks}, {lost} lost, own CPU {share:.1} %  (Ctrl-C ends)"));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of a process that has ended.
    pub(super) fn forget(&self, session: &Session) {
        self.lock().remove(&session.target.pid);
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
