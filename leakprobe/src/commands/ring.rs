//! The ring buffer's user side. While a snapshot is taken nobody has time for records, and the kernel's room is for some hundred
//! stacks; so a thread of ours moves them into memory meanwhile.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use aya::maps::{MapData, RingBuf};

/// Most bytes of records that are kept: those of some 2,500 stacks. Then the buffer fills up, and the kernel counts what it drops.
const MOST_KEPT: usize = 64 << 20;
/// From one look at the buffer to the next: at 2,000 stacks a second it fills by an eighth.
const PAUSE: Duration = Duration::from_millis(5);

/// Records in the order in which they were written.
pub(super) struct Ring(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    ring: RingBuf<MapData>,
    kept: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Whether records are to be moved.
    is_helping: bool,
    is_over: bool,
}

impl Ring {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        let state = State { ring, kept: VecDeque::new(), bytes: 0, is_helping: false, is_over: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let helper = Arc::clone(&shared);
        if let Err(error) = thread::Builder::new().name("leakprobe-ring".to_owned()).spawn(move || helper.help()) {
            tracing::debug!("no thread that reads records while snapshots are taken: {error}");
        }
        Self(shared)
    }

    /// A descriptor that becomes readable when there are records.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.0.lock().ring.as_fd().try_clone_to_owned()
    }

    /// The oldest record.
    pub(super) fn next(&self) -> Option<Vec<u8>> {
        let mut state = self.0.lock();
        let Some(record) = state.kept.pop_front() else {
            return state.ring.next().map(|record| record.to_vec());
        };
        state.bytes = state.bytes.saturating_sub(record.len());
        Some(record)
    }

    /// Whether there are records that the descriptor tells nothing of.
    pub(super) fn has_kept(&self) -> bool {
        !self.0.lock().kept.is_empty()
    }

    /// Until what is returned is dropped, records are moved out of the kernel's way.
    pub(super) fn help(&self) -> Helping {
        self.0.lock().is_helping = true;
        self.0.changed.notify_one();
        Helping(Arc::clone(&self.0))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_one();
    }
}

/// See [`Ring::help`].
pub(super) struct Helping(Arc<Shared>);

impl Drop for Helping {
    fn drop(&mut self) {
        self.0.lock().is_helping = false;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn help(&self) {
        loop {
            let idle = |state: &mut State| !state.is_helping && !state.is_over;
            let mut state = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            if state.is_over {
                return;
            }
            state.keep();
            drop(state);
            thread::sleep(PAUSE);
        }
    }
}

impl State {
    fn keep(&mut self) {
        while self.bytes < MOST_KEPT
            && let Some(record) = self.ring.next()
        {
            self.bytes += record.len();
            self.kept.push_back(record.to_vec());
        }
    }
}
