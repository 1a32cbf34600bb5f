//! What one snapshot brings: the threads that are there, and those of them that have changed.

use std::sync::Arc;

use super::{FutexMemory, FutexWait, OtherEnds, StackId, Subject, WaitKind};

/// The threads of a process at one moment, as far as they differ from the snapshot before.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When it was taken, `CLOCK_MONOTONIC`, ns.
    pub taken_ns: u64,
    /// What is new; `None` if no thread has run since the snapshot before, so that nothing can be.
    pub news: Option<News>,
}

/// What a snapshot found that the one before did not.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// The ids of all threads, ascending.
    pub alive: Vec<u32>,
    /// The threads that are new or have run.
    pub changed: Vec<ThreadSample>,
    /// The memory around the futex words that threads wait on, also that of threads which have not run: who holds a lock changes
    /// while others wait for it.
    pub futexes: Vec<(u32, Arc<FutexMemory>)>,
}

/// One thread.
#[derive(Clone, Debug, PartialEq)]
pub struct ThreadSample {
    /// Thread id.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// When it started, `CLOCK_BOOTTIME`, ns: with the id it names a thread for good.
    pub start_boottime: u64,
    /// How long it has existed, ns.
    pub lifetime_ns: u64,
    /// What it does.
    pub activity: Activity,
    /// Where it is.
    pub stack: StackId,
    /// Where it waits in the kernel, if that was asked for.
    pub kernel_stack: Option<StackId>,
    /// Its context switches so far, voluntary and involuntary.
    pub switches: u64,
}

/// What a thread does.
#[derive(Clone, Debug, PartialEq)]
pub enum Activity {
    /// On a CPU.
    Running,
    /// Ready to run.
    Runnable,
    /// Waiting.
    Blocked(Blocking),
    /// Gone; its process remains.
    Exited,
}

/// A wait that lasts.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocking {
    /// What kind of thing is waited for.
    pub kind: WaitKind,
    /// As [`super::Wait::reason`].
    pub reason: String,
    /// As [`super::Wait::object`].
    pub object: String,
    /// When it began, `CLOCK_MONOTONIC`, ns.
    pub since_ns: u64,
    /// Whether `since_ns` is exact; if not, the wait may have begun earlier.
    pub exact: bool,
    /// As [`super::Wait::timeout_ms`], of the wait's own timeout.
    pub timeout_ms: Option<u64>,
    /// How much later than that the kernel ends the wait at most, ms.
    pub late_ms: u64,
    /// The timer that is waited for, if it is known: of several the one that fires first.
    pub timer: Option<WaitTimer>,
    /// What the system call was given.
    pub subject: Subject,
    /// As [`super::Wait::other_ends`].
    pub other_ends: Option<OtherEnds>,
    /// The futex that is waited on, if it is one.
    pub futex: Option<Box<FutexWait>>,
}

/// A timer that ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaitTimer {
    /// When it fires, `CLOCK_MONOTONIC`, ns.
    pub due_ns: u64,
    /// After how many ns it fires again and again from then on, if it does.
    pub period_ns: Option<u64>,
}

/// What was learned of a thread between snapshots.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The thread.
    pub tid: u32,
    /// When it started, `CLOCK_BOOTTIME`, ns: with the id it names a thread for good.
    pub start_boottime: u64,
    /// When, `CLOCK_MONOTONIC`, ns.
    pub time_ns: u64,
    /// What happened.
    pub what: ChangeKind,
}

/// The kinds of [`Change`].
#[derive(Clone, Debug, PartialEq)]
pub enum ChangeKind {
    /// It was created.
    Created {
        /// By this thread.
        creator: u32,
        /// Of this name.
        creator_name: String,
        /// The creator's stack, or why it is missing.
        stack: Result<StackId, String>,
    },
    /// It exited.
    Exited {
        /// Because its whole process does.
        with_process: bool,
    },
    /// It began another program, as the process's only thread.
    Exec {
        /// Its id until then.
        old_tid: u32,
    },
    /// It got another name.
    Renamed(
        /// The new name.
        String,
    ),
    /// A wait ended that was longer than the threshold.
    WaitEnded {
        /// The wait.
        wait: Blocking,
        /// The thread's stack; `None` if it could not be had with the event: a snapshot may have it.
        stack: Option<StackId>,
    },
}
