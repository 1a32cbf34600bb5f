//! Goroutines: what a snapshot finds out of each, and what a recording tells of it.

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Access, QueuePlace, StackId, WaitKind};

/// What a goroutine does, as the Go runtime has it.
///
/// Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/runtime2.go> (`_Gidle` and following).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GoStatus {
    /// Just allocated, not yet begun.
    Idle,
    /// Ready to run.
    Runnable,
    /// Runs on a thread.
    Running,
    /// In a system call or in C code.
    Syscall,
    /// Blocked in the runtime.
    Waiting,
    /// Its stack is being moved.
    Copystack,
    /// Stopped by the runtime, which will let it go on.
    Preempted,
    /// Blocked for ever, as the target's own garbage collector has found out.
    Leaked,
}

impl GoStatus {
    /// The word that Go's own dumps use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Runnable => "runnable",
            Self::Running => "running",
            Self::Syscall => "syscall",
            Self::Waiting => "waiting",
            Self::Copystack => "copystack",
            Self::Preempted => "preempted",
            Self::Leaked => "leaked",
        }
    }
}

/// A channel that a goroutine waits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Channel {
    /// Its address; 0 for a nil channel.
    pub address: u64,
    /// Whether the goroutine would send; if not, it would receive. `None`: that could not be found out.
    pub send: Option<bool>,
    /// Values in its buffer.
    pub len: u64,
    /// Values that its buffer can hold.
    pub cap: u64,
    /// Whether it is closed.
    pub closed: bool,
    /// Goroutines that wait to receive from it, this one included; one that waits in a select counts, too.
    pub receivers: u64,
    /// Goroutines that wait to send to it, likewise.
    pub senders: u64,
    /// Whether the runtime fills it when a timer fires.
    #[serde(default)]
    pub timer: bool,
    /// Size of its values, bytes: 0 of those that carry nothing, as `struct{}`. `None` if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_bytes: Option<u16>,
}

/// A lock that a goroutine is to release by a deferred call: a function on its stack has passed `defer mu.Unlock()` and has not
/// returned. That is the only trace of who holds a lock of package sync, which does not record its holder. It is evidence and no
/// proof: the function can have released the lock by another call meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct HeldLock {
    /// The lock's address.
    pub address: u64,
    /// Whether it is held for reading only, as other goroutines may hold it at the same time.
    pub shared: bool,
    /// Calls between the function that is to release it and the one that waits; 0 if that is the same function.
    pub calls: u32,
}

/// What a goroutine waits on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GoObject {
    /// Nothing that could be named.
    #[default]
    None,
    /// One channel.
    Channel(Channel),
    /// The channels of a select.
    Select(Arc<[Channel]>),
    /// A lock, condition variable, wait group or other semaphore.
    Sync {
        /// Of what it is the address, e.g. `sync.Mutex`.
        name: &'static str,
        /// Its address.
        address: u64,
        /// As in [`Wait::queue`](super::Wait::queue).
        queue: Option<QueuePlace>,
    },
    /// A descriptor.
    Descriptor {
        /// Its number.
        fd: i32,
        /// What is wanted of it.
        access: Access,
        /// What it is, e.g. `fd 7 (tcp 127.0.0.1:80 → 127.0.0.1:40112)`.
        words: Arc<str>,
    },
}

/// A goroutine's wait.
#[derive(Clone, Debug, PartialEq)]
pub struct GoWait {
    /// What kind of thing is waited for.
    pub kind: WaitKind,
    /// The runtime's own words, e.g. `chan receive`, `sync.Mutex.Lock`; from the target's own table.
    pub reason: Arc<str>,
    /// What is waited on.
    pub object: GoObject,
    /// The latest moment at which the wait can have begun, `CLOCK_MONOTONIC`, ns: its age is at least that.
    pub since_ns: u64,
    /// The earliest moment, if there is one: then its age is at most that.
    pub not_before_ns: Option<u64>,
    /// When the wait ends by itself, `CLOCK_MONOTONIC`, ns, if it does. May be over: then it is about to end.
    pub until_ns: Option<u64>,
    /// After how long the timer that ends it fires again, ns; `None` if it does not.
    pub period_ns: Option<u64>,
    /// Whether nothing can ever end it: a nil channel, a select without cases.
    pub forever: bool,
}

/// A goroutine, as a snapshot has found it.
#[derive(Clone, Debug, PartialEq)]
pub struct GoroutineSample {
    /// Its number (`goid`).
    pub id: u64,
    /// What it does.
    pub status: GoStatus,
    /// What it waits for, if it is blocked in the runtime. Of a system call or C code its thread tells.
    pub wait: Option<GoWait>,
    /// Where it is.
    pub stack: StackId,
    /// The thread that it runs on, or is in a system call or C code on: its id in the process's own pid namespace.
    pub thread: Option<u32>,
    /// Where it was created: one address, in the creator's function. `None` for the first goroutine.
    pub creation: Option<StackId>,
    /// The goroutine that created it; 0 if it is not known: before Go 1.21 the runtime does not keep it.
    pub parent: u64,
    /// How often it has stopped running, modulo 256; `None` if the runtime does not count that.
    pub runs: Option<u8>,
    /// Whether the runtime itself began it, for its own purposes: Go's dumps leave such goroutines out.
    pub system: bool,
    /// Whether it is tied to one thread.
    pub locked: bool,
    /// Its profiler labels.
    pub labels: Option<Arc<BTreeMap<String, String>>>,
    /// Who created its creator, and so on, if the target keeps that (`GODEBUG=tracebackancestors=N`).
    pub ancestors: Option<Arc<[AncestorSample]>>,
    /// The number of the bubble of testing/synctest that it is in, if it is in one.
    pub bubble: Option<u64>,
    /// The locks that it is to release by deferred calls, if there are any.
    pub holds: Option<Arc<[HeldLock]>>,
}

/// A creator of a creator, as a snapshot has found it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AncestorSample {
    /// Its number.
    pub id: u64,
    /// Its stack when it created the next one.
    pub stack: StackId,
    /// Where it was itself created.
    pub creation: Option<StackId>,
}

/// What takes in goroutines as a snapshot finds them: a million of them are never held twice.
///
/// A goroutine is told by its slot, its place in the runtime's own list: places are used again, but never go away.
pub trait GoroutineSink {
    /// There is another goroutine in this slot, or the one that was there has run.
    fn put(&mut self, slot: u32, sample: GoroutineSample);
    /// What the same goroutine waits on has changed, though it has not run.
    fn set_object(&mut self, slot: u32, object: GoObject);
    /// When the wait of the same goroutine ends by itself has changed, though it has not run; see [`GoWait`].
    fn set_timer(&mut self, slot: u32, until_ns: Option<u64>, period_ns: Option<u64>);
    /// The place of the same goroutine among those that wait for the same lock has changed, though it has not run.
    fn set_queue(&mut self, slot: u32, place: Option<QueuePlace>);
    /// The goroutine in this slot has ended.
    fn remove(&mut self, slot: u32);
}

/// What a recording tells of a goroutine besides what it tells of any task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Goroutine {
    /// What it does, as the Go runtime has it.
    pub status: GoStatus,
    /// The thread that it runs on, or is in a system call or C code on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<u32>,
    /// Whether it is tied to one thread.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub locked_to_thread: bool,
    /// Its profiler labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Arc<BTreeMap<String, String>>,
    /// The channels that it waits on: one, or all those of a select.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub channels: Arc<[Channel]>,
    /// Whether nothing can ever end its wait: a nil channel, a select without cases.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forever: bool,
    /// Who created its creator, and so on, if the target keeps that (`GODEBUG=tracebackancestors=N`).
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub ancestors: Arc<[Ancestor]>,
    /// The number of the bubble of testing/synctest that it is in; since Go 1.25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bubble: Option<u64>,
    /// The locks that it is to release by deferred calls.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub holds: Arc<[HeldLock]>,
    /// Which of the process's Go runtimes it is of, counted from 0 in the order of [`super::TargetInfo::runtime`]: each numbers
    /// its own goroutines.
    #[serde(default, skip_serializing_if = "is_first")]
    pub runtime: u32,
}

#[cfg(test)]
impl Goroutine {
    /// A goroutine that waits, of which nothing else is known.
    pub(crate) fn waiting() -> Self {
        Self {
            status: GoStatus::Waiting,
            thread: None,
            locked_to_thread: false,
            labels: Arc::default(),
            channels: Arc::default(),
            forever: false,
            ancestors: Arc::default(),
            bubble: None,
            holds: Arc::default(),
            runtime: 0,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_first(runtime: &u32) -> bool {
    *runtime == 0
}

/// A creator of a creator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ancestor {
    /// Its number.
    pub id: u64,
    /// Its stack when it created the next one: indices into [`super::Recording::frames`], innermost first.
    pub stack: Arc<[u32]>,
    /// Where it was itself created, likewise.
    #[serde(default)]
    pub creation: Arc<[u32]>,
}

/// What the Go runtime knows of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct GoFrame {
    /// How far into the function the address lies, bytes, as Go's dumps write it (`+0x1d`); `None` for an inlined function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Whether Go's own dumps leave this frame out of this stack, as they do with the runtime's inner workings.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}
