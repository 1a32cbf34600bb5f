//! What subscribers are told while targets are watched.

use std::sync::Arc;

use super::session::Session;

/// Something has happened to a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Update {
    /// Another snapshot of it was taken.
    Snapshot {
        /// Its process id.
        pid: u32,
        /// What there is.
        counts: Counts,
    },
    /// It is not watched any longer, and its last snapshot is being taken.
    Ending {
        /// Its process id.
        pid: u32,
    },
    /// It has exited.
    Exited {
        /// Its process id.
        pid: u32,
    },
}

/// Numbers of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Snapshots that were taken of it.
    pub snapshots: u64,
    /// Threads alive.
    pub threads: u64,
    /// Threads that are parked.
    pub parked: u64,
    /// Of a Go program, its goroutines.
    pub goroutines: Option<GoroutineCounts>,
    /// Events that came from the kernel so far.
    pub events: u64,
    /// Events that were lost so far.
    pub lost_events: u64,
    /// Whether it has never had more than one thread, for all that events and snapshots tell, and is no Go program.
    pub(crate) is_single: bool,
}

/// Numbers of a Go program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoroutineCounts {
    /// Goroutines alive.
    pub alive: u64,
    /// Those of them that are parked.
    pub parked: u64,
    /// Goroutines that were created since watching began.
    pub created: u64,
}

impl Counts {
    /// Threads and goroutines alive.
    pub(crate) fn tasks(self) -> u64 {
        self.threads + self.goroutines.map_or(0, |goroutines| goroutines.alive)
    }

    /// After another snapshot.
    pub(super) fn next(self, session: &Session) -> Self {
        let live = &session.live;
        let goroutines = live.goroutines().map(|table| GoroutineCounts {
            alive: table.alive(),
            parked: table.parked(),
            created: table.turnover().created,
        });
        let (threads, lost_events) = (live.threads().len() as u64, session.lost_events());
        Self {
            snapshots: self.snapshots + 1,
            threads,
            parked: live.parked(),
            goroutines,
            events: session.events(),
            lost_events,
            is_single: threads <= 1 && goroutines.is_none() && live.turnover().created == 0 && lost_events == 0,
        }
    }

    /// When it has exited: events have come since the last snapshot.
    pub(super) fn last(self, session: &Session) -> Self {
        let is_single = self.is_single && session.live.turnover().created == 0 && session.lost_events() == 0;
        Self { is_single, ..self }
    }
}

/// Whoever wants to know, on the target's own thread: it must not wait for anything.
pub(crate) type Subscriber = Arc<dyn Fn(Update) + Send + Sync>;
