//! Watching from a program of one's own.

use std::{
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{Error, Hub, Observers, Options, Session, Stop, Update, watch};
use crate::{model::Recording, shared::lock, target::Budget};

/// Processes that are watched until this is stopped or dropped, on threads of its own.
///
/// ```no_run
/// use leakprobe::watch::{Options, Update, Watcher};
///
/// # fn main() -> Result<(), leakprobe::watch::Error> {
/// let watcher = Watcher::attach(&[1234], &Options::default())?;
/// while let Some(update) = watcher.next() {
///     if let Update::Snapshot { pid, counts } = update {
///         println!("process {pid}: {} threads, {} parked", counts.threads, counts.parked);
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Watcher {
    stop: Stop,
    observers: Observers,
    updates: mpsc::Receiver<Update>,
    /// Until it was waited for.
    thread: Option<JoinHandle<Result<Vec<Recording>, Error>>>,
}

impl Watcher {
    /// Attaches to processes, each by its id. The first snapshot of each is taken at once, others follow in the interval of `options`.
    ///
    /// # Errors
    /// If one of them cannot be attached to.
    pub fn attach(pids: &[u32], options: &Options) -> Result<Self, Error> {
        let stop = Stop::new(Budget::default());
        let only = if let [pid] = *pids { Some(pid) } else { None };
        let hub = Hub::new(options, only, true, &stop);
        let sessions = Session::open_all(&hub, pids).into_iter().collect::<Result<Vec<Session>, Error>>()?;
        let observers = Observers::default();
        let (tells, updates) = mpsc::channel();
        let watched = {
            let observers = Some(Arc::clone(&observers));
            let subscriber = Arc::new(move |update| {
                // Nobody may want to know any more.
                let _ = tells.send(update);
            });
            move || watch(sessions, None, observers, subscriber, || Ok(()))
        };
        let thread = thread::Builder::new().name("leakprobe-watch".to_owned()).spawn(watched);
        let thread = thread.map_err(|error| Error::internal("start a thread", &error))?;
        Ok(Self { stop, observers, updates, thread: Some(thread) })
    }

    /// Waits for the next update. `None` once no process is watched any longer: all have exited, or [`Self::stop`] was called.
    #[must_use]
    pub fn next(&self) -> Option<Update> {
        self.updates.recv().ok()
    }

    /// Waits for the next update, for at most so long; `None` also if there was none until then.
    #[must_use]
    pub fn next_within(&self, timeout: Duration) -> Option<Update> {
        self.updates.recv_timeout(timeout).ok()
    }

    /// What is known of one process at this moment, after another snapshot of it; `None` if it is not watched. Waits for the process for as
    /// long as it hangs.
    #[must_use]
    pub fn recording(&self, pid: u32) -> Option<Recording> {
        let observer = lock(&self.observers)
            .watched
            .values()
            .find(|(known, _)| *known == pid)
            .map(|(_, observer)| observer.clone());
        observer?.recording_now()
    }

    /// Ends watching. There is a recording of each process of which anything was seen, those included that have exited.
    ///
    /// # Errors
    /// If nothing was seen of any.
    pub fn stop(mut self) -> Result<Vec<Recording>, Error> {
        self.stop.stop();
        let ended = self.thread.take().and_then(|thread| thread.join().ok());
        ended.unwrap_or_else(|| Err(Error::internal("go on watching", &"a thread has panicked")))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.stop();
    }
}
