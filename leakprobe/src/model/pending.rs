//! Timers that wait for their moment without a task, and kinds of tasks that cannot be read.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fact, Ground, StackId, Verdict};

/// What a pending timer is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TimerUse {
    /// It calls a function when it fires (Go's `time.AfterFunc`).
    #[default]
    Callback,
    /// It is the deadline of a context that was not cancelled (Go's `context.WithTimeout`, `context.WithDeadline`).
    Context,
    /// It fills a channel on which no task waits (Go's `time.After`, `time.NewTimer` and `time.NewTicker`, where the runtime keeps
    /// such timers in its heap: up to Go 1.22, and with `GODEBUG=asynctimerchan=1`).
    Channel,
}

impl TimerUse {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Callback => "callback",
            Self::Context => "context",
            Self::Channel => "channel",
        }
    }
}

/// Pending timers with the same use and the same callback. No task waits for them, so they are at no site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PendingTimers {
    /// Eight hex digits, made from the use and the callback's name only: the same in another run of the same program.
    pub id: String,
    /// What they are for.
    #[serde(rename = "use")]
    pub usage: TimerUse,
    /// The function that is called when one of them fires: indices into [`super::Recording::frames`], innermost first; empty if there
    /// is none, or if it is not known.
    pub callback: Arc<[u32]>,
    /// How many are pending.
    pub count: u64,
    /// In how many ms the first of them fires; 0 if it is due.
    pub soonest_ms: u64,
    /// In how many ms the last of them fires.
    pub latest_ms: u64,
    /// How many of them fire again and again (tickers).
    #[serde(default)]
    pub periodic: u64,
    /// How many were pending at the end of each of [`super::Check::rounds`], the baseline first; empty if it was no check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<u64>,
    /// What is thought of them.
    #[serde(default)]
    pub verdict: Verdict,
    /// What decided that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ground: Option<Ground>,
    /// Why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Fact>,
}

/// Pending timers with the same use and the same callback, as they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerSample {
    /// What they are for.
    pub usage: TimerUse,
    /// The entry of the function that is called when one of them fires; `None` if there is none, or it is not known.
    pub callback: Option<StackId>,
    /// How many are pending.
    pub count: u64,
    /// In how many ms the first of them fires.
    pub soonest_ms: u64,
    /// In how many ms the last of them fires.
    pub latest_ms: u64,
    /// How many of them fire again and again.
    pub periodic: u64,
}

/// Tasks of a kind that the target has and that leakprobe cannot read, so that nothing is said of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnseenTasks {
    /// What they are, in the plural: `asyncio tasks`, `virtual threads`, `tokio tasks`, `Erlang processes`.
    pub what: String,
    /// By what it is known that there are some, or may be some, e.g. `libjvm has started its scheduler for virtual threads`.
    pub why: String,
    /// Whether it is certain that there are some; if not, the target may use them.
    pub certain: bool,
}

impl UnseenTasks {
    /// In one sentence: `virtual threads are not read, so nothing is said of them: …`.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { what, why, certain } = self;
        if *certain {
            format!("{what} are not read, so nothing is said of them: {why}")
        } else {
            format!("there may be {what}, which are not read: {why}")
        }
    }
}
