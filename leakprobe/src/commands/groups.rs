//! Process groups of what we start for a check: none of them outlives us.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

/// The leaders of all that have not been ended.
static LEADERS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// A process and what it has started. Whatever is left of them is ended when this is dropped.
pub(super) struct Group(u32);

impl Group {
    /// That of a child, which leads it.
    pub(super) fn of(leader: u32) -> Self {
        LEADERS.lock().unwrap_or_else(PoisonError::into_inner).insert(leader);
        Self(leader)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let mut leaders = LEADERS.lock().unwrap_or_else(PoisonError::into_inner);
        if leaders.remove(&self.0) {
            end(self.0);
        }
    }
}

/// Ends all of them at once.
pub(super) fn end_all() {
    let mut leaders = LEADERS.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *leaders).into_iter().for_each(end);
}

fn end(leader: u32) {
    if let Ok(leader) = i32::try_from(leader) {
        // If there is nobody left, there is nothing to do.
        let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
    }
}
