//! What a blocked task waits for.

use std::{fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Link, OtherEnds, Owner};

/// The kind of thing that a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WaitKind {
    /// A futex word: locks, condition variables, joins, semaphores.
    Futex,
    /// The passing of time.
    Sleep,
    /// Any of several descriptors: poll, select, epoll.
    Poll,
    /// A socket.
    Socket,
    /// A pipe or FIFO.
    Pipe,
    /// A file, terminal or other descriptor.
    File,
    /// Something that the kernel waits for and that no signal interrupts (state `D`): most often a disk.
    Disk,
    /// An eventfd, timer, inotify or other descriptor that tells of events; the end of asynchronous I/O.
    Event,
    /// What was given to an io_uring.
    #[serde(rename = "io_uring")]
    IoUring,
    /// A lock on a file: flock, fcntl.
    Lock,
    /// A message queue or semaphore of System V or POSIX.
    Ipc,
    /// A child process.
    Child,
    /// A signal.
    Signal,
    /// A page of memory: from a disk, or from another thread by userfaultfd.
    #[serde(rename = "page fault")]
    PageFault,
    /// That it goes on after it was stopped: by a signal, a debugger, or as a whole control group.
    Stopped,
    /// A value from a Go channel.
    #[serde(rename = "chan receive")]
    ChanReceive,
    /// Room in a Go channel, or somebody who receives from it.
    #[serde(rename = "chan send")]
    ChanSend,
    /// Any of several Go channels.
    Select,
    /// A lock, condition variable, wait group or semaphore of Go's `sync` and runtime.
    Sync,
    /// Something of the Go runtime itself: its garbage collector, finalizers, timers.
    Runtime,
    /// C code that Go has called, which is in no system call.
    Cgo,
    /// Another system call; [`Wait::reason`] names it.
    Other,
}

impl WaitKind {
    /// Every kind, in the order of legends and tables.
    pub const ALL: &'static [Self] = &[
        Self::Futex,
        Self::Sleep,
        Self::Poll,
        Self::Socket,
        Self::Pipe,
        Self::File,
        Self::Disk,
        Self::Event,
        Self::IoUring,
        Self::Lock,
        Self::Ipc,
        Self::Child,
        Self::Signal,
        Self::PageFault,
        Self::Stopped,
        Self::ChanReceive,
        Self::ChanSend,
        Self::Select,
        Self::Sync,
        Self::Runtime,
        Self::Cgo,
        Self::Other,
    ];

    /// Its name in reports, recordings and folded stacks.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Futex => "futex",
            Self::Sleep => "sleep",
            Self::Poll => "poll",
            Self::Socket => "socket",
            Self::Pipe => "pipe",
            Self::File => "file",
            Self::Disk => "disk",
            Self::Event => "event",
            Self::IoUring => "io_uring",
            Self::Lock => "lock",
            Self::Ipc => "ipc",
            Self::Child => "child",
            Self::Signal => "signal",
            Self::PageFault => "page fault",
            Self::Stopped => "stopped",
            Self::ChanReceive => "chan receive",
            Self::ChanSend => "chan send",
            Self::Select => "select",
            Self::Sync => "sync",
            Self::Runtime => "runtime",
            Self::Cgo => "cgo",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for WaitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A place in the queue of those that wait for the same lock, wait group or other semaphore, which are woken in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct QueuePlace {
    /// Counted from 1: that is the next one to be woken.
    pub place: u32,
    /// How many wait in the queue, this one included.
    pub waiters: u32,
}

/// One unbroken time in which a task is blocked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Wait {
    /// What kind of thing is waited for.
    pub kind: WaitKind,
    /// What does the waiting, e.g. `mutex`, `condition variable`; where that is not known the system call and what it was asked to
    /// do, e.g. `futex wait`, `epoll_wait`, `read`.
    pub reason: Arc<str>,
    /// What is waited on: a futex word's address as `0x…`, or a descriptor as `fd 5 (pipe:[1234])`, `fd 7 (tcp 10.0.0.1:4312 → 10.0.0.2:5432, established, idle 3h 0m)`; empty if there is nothing to name.
    #[serde(default)]
    pub object: Arc<str>,
    /// How long the wait has lasted, ms.
    pub age_ms: u64,
    /// Whether `age_ms` is the whole age; if not, it is a lower bound, shown as `≥`.
    pub exact: bool,
    /// If `age_ms` is a lower bound: an upper one, ms, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most_ms: Option<u64>,
    /// After how many ms from its beginning the wait ends by itself; for a goroutine from where `age_ms` counts, which is
    /// mostly later. `None` if it does not.
    pub timeout_ms: Option<u64>,
    /// In how many ms from now a timer ends the wait: 0 if it is due. `None` if no timer does, or if it is not known when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<u64>,
    /// The period of the ticker that ends the wait, ms: the timer fires again and again. `None` if no ticker does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_ms: Option<u64>,
    /// Set if the task has come back to the same wait from the same stack again and again, woken by nothing but its own timer: how
    /// long each of these waits lasts at most, ms. `age_ms` then counts from the first of them that was seen and is a lower bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice_ms: Option<u64>,
    /// The place of a goroutine among those that wait for the same lock, as Go's runtime has them. `None` for other waits, and if
    /// the queue changed whenever it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueuePlace>,
    /// Who would have to end the wait, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Box<Owner>>,
    /// Where no one task is known to hold what is waited for: what else is known of that, in a phrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_note: Option<Arc<str>>,
    /// The owner and what it waits for in turn, then who would have to end that wait, and so on; empty if the owner does not wait
    /// or is not known.
    #[serde(default, skip_serializing_if = "<[Link]>::is_empty")]
    pub chain: Arc<[Link]>,
    /// Who could end it from the other end of what is waited on; `None` if nobody was found, or nobody was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_ends: Option<Box<OtherEnds>>,
}

impl Wait {
    /// How long it has lasted at most, ms; `None` if that is not known.
    #[must_use]
    pub fn longest_ms(&self) -> Option<u64> {
        if self.exact { Some(self.age_ms) } else { self.at_most_ms }
    }

    /// [`Self::timeout_ms`] of a goroutine, which is counted from the latest moment at which the wait can have begun: `None` if it
    /// may be longer by more than a tenth.
    #[must_use]
    pub fn goroutine_timeout_ms(&self) -> Option<u64> {
        let at_most_ms = self.longest_ms()?;
        self.timeout_ms.filter(|ms| at_most_ms.saturating_sub(self.age_ms) <= ms / 10)
    }
}

impl Wait {
    /// A wait of which nothing but its kind and its [`Self::reason`] is known, not even for how long it has lasted.
    pub(crate) fn unknown(kind: WaitKind, reason: &str) -> Self {
        Self {
            kind,
            reason: reason.into(),
            object: Arc::default(),
            age_ms: 0,
            exact: false,
            at_most_ms: None,
            timeout_ms: None,
            due_ms: None,
            period_ms: None,
            slice_ms: None,
            queue: None,
            owner: None,
            owner_note: None,
            chain: Arc::default(),
            other_ends: None,
        }
    }
}

#[cfg(test)]
impl Wait {
    /// A wait of which only its kind and its exact age are known.
    pub(crate) fn lasting(kind: WaitKind, age_ms: u64) -> Self {
        Self { age_ms, exact: true, ..Self::unknown(kind, kind.name()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_known_only_if_the_beginning_is() {
        let wait = |age_ms, at_most_ms, exact, timeout_ms| Wait {
            exact,
            at_most_ms,
            timeout_ms,
            ..Wait::lasting(WaitKind::Sleep, age_ms)
        };
        for (wait, known) in [
            (wait(0, None, false, Some(3)), None),
            (wait(0, Some(1_000), false, Some(3)), None),
            (wait(0, Some(1_000), false, Some(60_000)), Some(60_000)),
            (wait(0, None, true, Some(3)), Some(3)),
            (wait(0, None, true, None), None),
        ] {
            assert_eq!(wait.goroutine_timeout_ms(), known, "{wait:?}");
        }
    }
}
