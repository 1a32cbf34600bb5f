//! A goroutine in a system call or in C code, and the thread that carries it: the one knows the Go part of the stack, the other
//! what is waited for and the native part.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use super::{
    Live, LiveThread,
    goroutines::{self, GoId},
    wait_end::WaitEnd,
};
use crate::model::{Activity, Blocking, Frame, GoStatus, OtherEnds, StackId, TaskState, Wait, WaitKind};

const NS_PER_MS: u64 = 1_000_000;

/// How goroutines and threads belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GoFacts {
    /// The threads of the Go runtime, and the goroutine that each runs, if it runs one. By their ids in the process's own pid
    /// namespace, which are those that the runtime knows.
    pub threads: BTreeMap<u32, Option<GoId>>,
    /// Goroutines in system calls or C code which were there, on the same thread, before and after that thread was looked at.
    pub confirmed: HashSet<GoId>,
    /// Goroutines that C has called, and which have not run while their threads were looked at.
    pub callbacks: HashMap<GoId, Callback>,
    /// How many other targets there are, with which this one shares the number of goroutines that are listed one by one.
    pub other_targets: usize,
}

/// A goroutine that C has called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callback {
    /// The thread that has called it, as in [`GoFacts::threads`].
    pub thread: u32,
    /// The stack of the C code that has called, from the caller outwards; `None` if it was not found.
    pub caller: Option<StackId>,
    /// Whether it serves no call: the thread has returned to C, and what it does there it does as a thread.
    pub at_rest: bool,
}

impl GoFacts {
    /// The same by the ids that we know threads by.
    pub(super) fn in_our_namespace(mut self, live: &Live) -> Self {
        let threads = std::mem::take(&mut self.threads).into_iter();
        self.threads = threads.filter_map(|(own, runs)| Some((live.outer_id(own)?, runs))).collect();
        self.callbacks.retain(|_, callback| {
            let outer = live.outer_id(callback.thread);
            callback.thread = outer.unwrap_or_default();
            outer.is_some()
        });
        self
    }
}

/// What a goroutine does, all told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Doing {
    pub(super) state: TaskState,
    pub(super) wait: Option<Wait>,
    /// How many of its thread's innermost frames are native and belong before its own.
    pub(super) native: usize,
}

/// The moment and threshold that ages are measured by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) now_ns: u64,
    pub(super) min_block_ns: u64,
}

impl Clock {
    /// How long ago that was, ns.
    fn age(self, since_ns: u64) -> u64 {
        self.now_ns.saturating_sub(since_ns)
    }

    fn state(self, since_ns: u64) -> TaskState {
        if self.age(since_ns) >= self.min_block_ns { TaskState::Parked } else { TaskState::Blocked }
    }
}

/// What `goroutine` does. Of a system call or C code `thread` tells, which is the one that carries it, if that is confirmed;
/// `thread_stack` is its stack as places in `frames`.
pub(super) fn doing(
    goroutine: goroutines::Live<'_>,
    thread: Option<(&LiveThread, &[u32])>,
    frames: &[Frame],
    clock: Clock,
) -> Doing {
    if let Some(wait) = goroutine.wait() {
        return in_runtime(wait, clock);
    }
    let plainly = |state| Doing { state, wait: None, native: 0 };
    match goroutine.status() {
        GoStatus::Syscall => match thread {
            Some((thread, stack)) => on_thread(thread, native_frames(stack, frames), clock),
            None => unknown("system call or C code"),
        },
        GoStatus::Waiting | GoStatus::Leaked => unknown(goroutine.status().name()),
        GoStatus::Running => plainly(TaskState::Running),
        GoStatus::Idle | GoStatus::Runnable | GoStatus::Copystack | GoStatus::Preempted => plainly(TaskState::Runnable),
    }
}

/// Blocked in the runtime.
fn in_runtime(wait: goroutines::RuntimeWait<'_>, clock: Clock) -> Doing {
    let wait_of = Wait {
        kind: wait.kind,
        reason: Arc::clone(wait.reason),
        object: Arc::default(),
        age_ms: clock.age(wait.since_ns) / NS_PER_MS,
        exact: false,
        at_most_ms: wait.not_before_ns.map(|earliest| clock.age(earliest) / NS_PER_MS),
        timeout_ms: wait
            .until_ns
            .map(|until| wait.slice_ms.unwrap_or_else(|| until.saturating_sub(wait.since_ns) / NS_PER_MS)),
        due_ms: wait.until_ns.map(|until| until.saturating_sub(clock.now_ns) / NS_PER_MS),
        period_ms: wait.period_ns.map(|period| (period / NS_PER_MS).max(1)),
        slice_ms: wait.slice_ms,
        queue: None,
        owner: None,
        owner_note: None,
        chain: Arc::default(),
        other_ends: None,
    };
    Doing { state: clock.state(wait.since_ns), wait: Some(wait_of), native: 0 }
}

/// The wait of a thread that is blocked, at the moment `now_ns`.
pub(super) fn thread_wait(thread: &LiveThread, blocking: &Blocking, now_ns: u64) -> Wait {
    let slices = thread.slices();
    let end = WaitEnd::of(blocking, now_ns);
    let since_ns = slices.map_or(blocking.since_ns, |(first_ns, _)| first_ns);
    Wait {
        kind: blocking.kind,
        reason: blocking.reason.as_str().into(),
        object: blocking.object.as_str().into(),
        age_ms: now_ns.saturating_sub(since_ns) / NS_PER_MS,
        exact: blocking.exact && slices.is_none(),
        at_most_ms: None,
        timeout_ms: end.map(|end| end.timeout_ms),
        due_ms: end.map(|end| end.due_ms),
        period_ms: end.and_then(|end| end.period_ms),
        slice_ms: slices.map(|(_, ms)| ms),
        queue: None,
        owner: blocking.other_ends.as_ref().and_then(OtherEnds::only).map(Box::new),
        owner_note: None,
        chain: Arc::default(),
        other_ends: blocking.other_ends.clone().map(Box::new),
    }
}

fn on_thread(thread: &LiveThread, native: usize, clock: Clock) -> Doing {
    match &thread.activity {
        Activity::Blocked(blocking) => {
            let wait = thread_wait(thread, blocking, clock.now_ns);
            let is_parked = thread.parked(clock.now_ns, clock.min_block_ns).is_some();
            Doing { state: if is_parked { TaskState::Parked } else { TaskState::Blocked }, wait: Some(wait), native }
        }
        Activity::Exited => unknown("system call or C code"),
        activity => {
            let state = if *activity == Activity::Running { TaskState::Running } else { TaskState::Runnable };
            Doing { state, wait: (native > 0).then(|| Wait::unknown(WaitKind::Cgo, "C code")), native }
        }
    }
}

fn unknown(reason: &str) -> Doing {
    Doing { state: TaskState::Blocked, wait: Some(Wait::unknown(WaitKind::Other, reason)), native: 0 }
}

/// How many of a thread's innermost frames are C code that Go has called. None if that cannot be seen: then the thread may be
/// somewhere else in the runtime by now.
fn native_frames(stack: &[u32], frames: &[Frame]) -> usize {
    let frame = |&place: &u32| frames.get(place as usize);
    let is_go = |frame: &Frame| frame.go.is_some() || is_cgo_call(frame);
    match stack.iter().position(|place| frame(place).is_some_and(is_go)) {
        Some(depth) if stack.get(depth).and_then(frame).is_some_and(is_cgo_call) => depth,
        _ => 0,
    }
}

/// The function through which Go calls C. Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/asm_amd64.s>
fn is_cgo_call(frame: &Frame) -> bool {
    matches!(frame.function.as_str(), "runtime.asmcgocall" | "runtime.asmcgocall.abi0")
}
