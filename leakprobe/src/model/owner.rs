//! Who would have to act so that a wait ends, and what that one waits for in turn.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TaskState;

/// In which way somebody is the one that would have to end a wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// It holds the lock that is waited for.
    #[default]
    Holds,
    /// It is waited for until it exits.
    Joined,
    /// It has the other end of what is waited for.
    OtherEnd,
    /// No task can end the wait: nothing else knows what is waited on. The owner's id is 0.
    NoOne,
}

impl Relation {
    /// Whether it is that of a lock.
    #[must_use]
    pub fn is_holds(&self) -> bool {
        *self == Self::Holds
    }
}

/// The one that would have to end a wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Owner {
    /// Its id: a thread's, or that of a process if nobody knows which of its threads it is.
    pub task: u64,
    /// Its name; empty if that is not known.
    pub name: String,
    /// Why it is the one.
    #[serde(default, skip_serializing_if = "Relation::is_holds")]
    pub relation: Relation,
    /// The process that it belongs to; `None` if that is the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<u32>,
    /// What it does; `None` if that is not known, as it is not a task of this recording. [`TaskState::Exited`] of one that holds
    /// a lock is proven: the lock can never be released, and the wait has no time-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<TaskState>,
}

/// One step of a chain: somebody who would have to act, and what keeps it from that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Link {
    /// Who.
    #[serde(flatten)]
    pub owner: Owner,
    /// What it waits for; `None` if it does not wait, or nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<LinkWait>,
}

/// What a link of a chain waits for: in short, since the whole stands with its task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkWait {
    /// As [`super::Wait::reason`].
    pub reason: Arc<str>,
    /// As [`super::Wait::object`].
    #[serde(default)]
    pub object: Arc<str>,
    /// As [`super::Wait::age_ms`].
    pub age_ms: u64,
    /// As [`super::Wait::exact`].
    pub exact: bool,
}

/// Tasks each of which waits for what the next one holds, and the last for what the first one does. None of them ran while that
/// was read, and none of their waits has a timeout: they wait for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deadlock {
    /// The tasks, the one with the smallest id first, each followed by the one that it waits for.
    pub tasks: Vec<DeadlockedTask>,
    /// How many other tasks wait for one of these, or for one that does.
    #[serde(default)]
    pub behind: u64,
    /// The ids of those of them that can never go on either: each waits, without a time-out, for a lock that one of these holds, or
    /// another that can never go on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stuck: Vec<u64>,
}

/// One task of a deadlock. Its stack and all else stand with its task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadlockedTask {
    /// Its id.
    pub task: u64,
    /// Its name.
    pub name: Arc<str>,
    /// What it waits for, which the next one holds.
    pub wait: LinkWait,
}
