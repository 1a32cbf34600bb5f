//! Processes that keep whoever looks into them waiting: one that hangs in exec, since a file that it is to close is served by nobody,
//! holds the lock that most of `/proc/PID` takes. They are asked aside, and remembered.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::Status;
use crate::aside::Aside;

/// How long a process may take to answer that may be any.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// How long a process is waited for that uses a CPU, or waits for one.
const LONGEST: Duration = Duration::from_secs(60);
/// From one look at whether an earlier question has been answered to the next.
const PAUSE: Duration = Duration::from_millis(20);
/// Of so many that have not answered, none that seems to hang is asked any more.
const MOST_SILENT: usize = 64;

/// Processes of which whoever was sent to read has not come back.
static SILENT: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn silent() -> MutexGuard<'static, BTreeSet<u32>> {
    SILENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The processes that have kept somebody waiting, and still do.
#[must_use]
pub fn silent_processes() -> Vec<u32> {
    silent().iter().copied().collect()
}

/// Whether the process keeps whoever looks into it waiting.
pub(crate) fn is_silent(pid: u32) -> bool {
    silent().contains(&pid)
}

/// Remembers that the process keeps somebody waiting, who is to call [`answers`] once it does so no more.
pub(crate) fn keeps_waiting(pid: u32) {
    silent().insert(pid);
}

/// Remembers that the process has answered.
pub(crate) fn answers(pid: u32) {
    silent().remove(&pid);
}

/// Does `work`, which looks into the process, aside. `None` if it does not come back within `patience`, and from then on until it does; or
/// if the process seems to hang and too many others do.
pub(super) fn ask<T: Send + 'static>(
    pid: u32,
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let began = Instant::now();
    let is_stuck = Status::of(pid).is_some_and(Status::is_stuck);
    let are_many = silent().len() >= MOST_SILENT;
    // Whoever was sent before may be about to come back.
    while patience > PATIENCE && is_silent(pid) && began.elapsed() < patience {
        thread::sleep(PAUSE);
    }
    if is_silent(pid) || is_stuck && are_many {
        return None;
    }
    let is_back = Arc::new(AtomicBool::new(false));
    let comes_back = Arc::clone(&is_back);
    let asked = move || {
        let answer = work();
        comes_back.store(true, Ordering::SeqCst);
        answers(pid);
        answer
    };
    // On a busy machine it may wait for a CPU in the middle of exec.
    let goes_on = || began.elapsed() < LONGEST && Status::of(pid).is_some_and(Status::is_on_cpu);
    let answer = Aside::default().within_or(patience, asked, goes_on);
    if answer.is_none() {
        keeps_waiting(pid);
        // It may have come back before it was noted.
        if is_back.load(Ordering::SeqCst) {
            answers(pid);
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::target::Stat;

    #[test]
    fn a_process_that_does_not_answer_is_not_asked_again() {
        // No process has the id: nobody else asks for it.
        const PID: u32 = u32::MAX - 1;
        assert_eq!(Stat::read(PID).unwrap_err().kind(), io::ErrorKind::NotFound);
        keeps_waiting(PID);
        assert_eq!(Stat::read(PID).unwrap_err().kind(), io::ErrorKind::TimedOut);
        answers(PID);
        assert!(Stat::of(PID).is_none() && Stat::of(std::process::id()).is_some());
    }
}
