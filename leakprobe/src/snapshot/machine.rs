//! Lists that are the machine's and not a target's: read once for all who look at the same time.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::{children::Processes, file_locks::Locks, sockets::List};
use crate::shared::Shared;

/// What all targets of a run share of such lists. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Machine(Arc<Lists>);

#[derive(Debug, Default)]
struct Lists {
    processes: Shared<Processes>,
    locks: Shared<Locks>,
    inet: Mutex<HashMap<Inet, Arc<Shared<List>>>>,
}

/// A network namespace, as its link in `/proc` names it, and a protocol.
type Inet = (PathBuf, u8);

impl Machine {
    /// All processes, at a moment not before `since`.
    pub(super) fn processes(&self, since: Instant) -> Arc<Processes> {
        self.0.processes.get(since, |_| Arc::new(Processes::read()))
    }

    /// The locks on files that are waited for, at a moment not before `since`.
    pub(super) fn locks(&self, since: Instant) -> Arc<Locks> {
        self.0.locks.get(since, |_| Arc::new(Locks::read()))
    }

    /// The internet sockets, likewise.
    pub(super) fn inet(&self, of: Inet, since: Instant, read: impl FnOnce() -> List) -> Arc<List> {
        let list = {
            let mut lists = self.0.inet.lock().unwrap_or_else(PoisonError::into_inner);
            lists.retain(|_, list| list.is_used());
            Arc::clone(lists.entry(of).or_default())
        };
        list.get(since, |_| Arc::new(read()))
    }
}
