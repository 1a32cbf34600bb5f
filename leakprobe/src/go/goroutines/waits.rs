//! What the runtime's words for a wait mean.

use std::sync::Arc;

use crate::model::WaitKind;

/// What a wait is for, as far as it decides what to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A channel that exists.
    Channel { send: bool },
    /// No channel.
    NilChannel { send: bool },
    /// Several channels.
    Select,
    /// A select without cases.
    SelectNothing,
    /// A primitive of package sync, or some semaphore.
    Sync(Primitive),
    /// Control of a coroutine.
    Coroutine,
    /// Time.
    Sleep,
    /// A descriptor.
    Descriptor,
    /// The runtime's own affairs.
    Runtime,
    /// Something else.
    Other,
}

/// What of package sync is waited on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Primitive {
    Mutex,
    ReadLock,
    WriteLock,
    WaitGroup,
    Cond,
    /// Which one, the words do not say.
    Unknown,
}

/// A reason.
#[derive(Clone, Debug)]
pub(super) struct Reason {
    pub(super) text: Arc<str>,
    /// As the runtime tells it of a goroutine in a bubble of testing/synctest.
    in_bubble: Arc<str>,
    pub(super) class: Class,
}

impl Reason {
    pub(super) fn new(text: Arc<str>) -> Self {
        let in_bubble = if is_idle_in_bubble(&text) { format!("{text} (durable)").into() } else { Arc::clone(&text) };
        Self { class: Class::of(&text), text, in_bubble }
    }

    /// The same for a goroutine in a bubble.
    pub(super) fn in_bubble(self) -> Self {
        Self { text: Arc::clone(&self.in_bubble), ..self }
    }
}

/// Whether only the bubble itself can end such a wait of a goroutine in a bubble, though the reason does not say so.
///
/// Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/runtime2.go> (`isIdleInSynctest`); the same since Go 1.25.
fn is_idle_in_bubble(text: &str) -> bool {
    matches!(
        text,
        "chan receive (nil chan)"
            | "chan send (nil chan)"
            | "select (no cases)"
            | "sleep"
            | "sync.Cond.Wait"
            | "coroutine"
            | "synctest.Run"
            | "synctest.Wait"
    )
}

impl Class {
    /// Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/runtime2.go> (`waitReasonStrings`), and the same of
    /// older versions.
    fn of(text: &str) -> Self {
        let plain = text.strip_suffix(" (durable)").or_else(|| text.strip_suffix(" (synctest)")).unwrap_or(text);
        match plain {
            "chan receive" => Self::Channel { send: false },
            "chan send" => Self::Channel { send: true },
            "chan receive (nil chan)" => Self::NilChannel { send: false },
            "chan send (nil chan)" => Self::NilChannel { send: true },
            "select" => Self::Select,
            "select (no cases)" => Self::SelectNothing,
            "sync.Mutex.Lock" => Self::Sync(Primitive::Mutex),
            "sync.RWMutex.RLock" => Self::Sync(Primitive::ReadLock),
            "sync.RWMutex.Lock" => Self::Sync(Primitive::WriteLock),
            "sync.WaitGroup.Wait" => Self::Sync(Primitive::WaitGroup),
            "sync.Cond.Wait" => Self::Sync(Primitive::Cond),
            "semacquire" => Self::Sync(Primitive::Unknown),
            "coroutine" | "synctest.Run" | "synctest.Wait" => Self::Coroutine,
            "sleep" => Self::Sleep,
            "IO wait" => Self::Descriptor,
            "GOMAXPROCS updater (idle)"
            | "cleanup wait"
            | "debug call"
            | "dumping heap"
            | "finalizer wait"
            | "flushing proc caches"
            | "force gc (idle)"
            | "garbage collection"
            | "garbage collection scan"
            | "page trace flush"
            | "panicwait"
            | "preempted"
            | "stopping the world"
            | "timer goroutine (idle)"
            | "trace goroutine status"
            | "trace proc status"
            | "trace reader (blocked)"
            | "wait for GC cycle" => Self::Runtime,
            _ if plain.starts_with("GC ") => Self::Runtime,
            _ => Self::Other,
        }
    }

    /// The kind that is shown. A descriptor can turn out to be of another one.
    pub(super) fn kind(self) -> WaitKind {
        match self {
            Self::Channel { send: false } | Self::NilChannel { send: false } => WaitKind::ChanReceive,
            Self::Channel { send: true } | Self::NilChannel { send: true } => WaitKind::ChanSend,
            Self::Select | Self::SelectNothing => WaitKind::Select,
            Self::Sync(_) | Self::Coroutine => WaitKind::Sync,
            Self::Sleep => WaitKind::Sleep,
            Self::Descriptor => WaitKind::Poll,
            Self::Runtime => WaitKind::Runtime,
            Self::Other => WaitKind::Other,
        }
    }

    /// Whether the runtime's table of semaphores has those that wait so.
    pub(super) fn is_semaphore(self) -> bool {
        matches!(self, Self::Sync(primitive) if primitive != Primitive::Cond)
    }

    /// Whether nothing can ever end it.
    pub(super) fn is_forever(self) -> bool {
        matches!(self, Self::NilChannel { .. } | Self::SelectNothing)
    }
}
