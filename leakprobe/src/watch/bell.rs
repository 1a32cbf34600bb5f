//! What wakes the thread of a session: a descriptor that it can wait for together with others.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

use rustix::event::{EventfdFlags, eventfd};

/// Rung by whoever has something for a session, from any thread.
pub(super) struct Bell {
    fd: OwnedFd,
    /// Whether it has been rung since it was last silenced: once is enough.
    is_rung: AtomicBool,
}

impl Bell {
    /// # Errors
    /// If there is no descriptor left.
    pub(super) fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { fd, is_rung: AtomicBool::new(false) })
    }

    /// The descriptor becomes readable, until [`Self::silence`].
    pub(super) fn ring(&self) {
        // It can only fail by having been rung 2^64 - 2 times.
        if !self.is_rung.swap(true, SeqCst) {
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }

    /// To be called before it is looked what there is: what comes from then on rings again.
    pub(super) fn silence(&self) {
        let _ = rustix::io::read(&self.fd, &mut [0; 8]);
        self.is_rung.store(false, SeqCst);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn it_is_heard_once_however_often_it_was_rung() {
        let bell = Bell::new().unwrap();
        let is_heard = || {
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut [PollFd::new(&bell, PollFlags::IN)], Some(&now)).unwrap() > 0
        };
        assert!(!is_heard());
        bell.ring();
        bell.ring();
        assert!(is_heard());
        bell.silence();
        assert!(!is_heard());
        bell.ring();
        assert!(is_heard());
    }
}
