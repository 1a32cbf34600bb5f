//! What runs and blocks.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Goroutine, StackEnd, Wait};

/// What sort of task it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaskKind {
    /// An OS thread.
    #[default]
    Thread,
    /// A goroutine.
    Goroutine,
}

/// Whose work a task does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The program's.
    #[default]
    Own,
    /// That of the goroutine which the thread runs, and which is told as a task of its own.
    Carrier,
    /// The Go runtime's: a thread that runs no goroutine, or a goroutine that the runtime began for its own purposes.
    Runtime,
}

impl Role {
    /// Whether it is the program's.
    #[must_use]
    pub fn is_own(&self) -> bool {
        *self == Self::Own
    }
}

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// Blocked for longer than the threshold.
    Parked,
    /// Blocked, not yet for that long.
    Blocked,
    /// On a CPU.
    Running,
    /// Ready to run.
    Runnable,
    /// Gone.
    Exited,
}

impl TaskState {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Blocked => "blocked",
            Self::Running => "running",
            Self::Runnable => "runnable",
            Self::Exited => "exited",
        }
    }
}

// A recording may have hundreds of thousands of them: what many have in common is shared, and what few have is boxed.
/// One task, as it was last seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    /// Thread or goroutine.
    pub kind: TaskKind,
    /// Thread id or goroutine id.
    pub id: u64,
    /// The thread's id in the process's own pid namespace, if that is another one than leakprobe's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ns_id: Option<u64>,
    /// Whose work it does.
    #[serde(default, skip_serializing_if = "Role::is_own")]
    pub role: Role,
    /// The goroutine that the thread runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<u64>,
    /// The thread's name; empty for a goroutine.
    pub name: Arc<str>,
    /// What it does.
    pub state: TaskState,
    /// What it waits for, if it is blocked.
    pub wait: Option<Wait>,
    /// Where it is: indices into [`super::Recording::frames`], innermost first.
    pub stack: Arc<[u32]>,
    /// How the reading of `stack` ended.
    pub stack_end: StackEnd,
    /// Where it waits in the kernel, above `stack`, as that: only if it was asked for.
    #[serde(default, skip_serializing_if = "<[u32]>::is_empty")]
    pub kernel_stack: Arc<[u32]>,
    /// How long the task has existed, ms; `None` if that is not known.
    pub lifetime_ms: Option<u64>,
    /// Who created it, and where.
    pub created_by: CreatedBy,
    /// The place of its site in [`super::Recording::sites`]; `None` if it is at none.
    pub site: Option<u32>,
    /// What else there is to tell of a goroutine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goroutine: Option<Box<Goroutine>>,
}

impl Task {
    /// Whether it may be parked though it does not count as that: when its wait began is not known.
    ///
    /// `min_block_ms` is the recording's parked threshold.
    #[must_use]
    pub fn may_be_parked(&self, min_block_ms: u64) -> bool {
        let open = |wait: &Wait| !wait.exact && wait.at_most_ms.is_none_or(|most| most >= min_block_ms);
        self.state == TaskState::Blocked && self.wait.as_ref().is_some_and(open)
    }
}

#[cfg(test)]
impl Task {
    /// A parked task, of which nothing else is known.
    pub(crate) fn parked(kind: TaskKind, id: u64) -> Self {
        Self {
            kind,
            id,
            ns_id: None,
            role: Role::Own,
            runs: None,
            name: Arc::default(),
            state: TaskState::Parked,
            wait: None,
            stack: Arc::default(),
            stack_end: StackEnd::Complete,
            kernel_stack: Arc::default(),
            lifetime_ms: None,
            created_by: CreatedBy::default(),
            site: None,
            goroutine: None,
        }
    }
}

/// Who created a task, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedBy {
    /// The creator's id; `None` if it is not known.
    pub task: Option<u64>,
    /// Whether the creator still lives; `None` if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alive: Option<bool>,
    /// The creator's name at that time; empty if it is not known.
    #[serde(default)]
    pub name: Arc<str>,
    /// The creator's stack at that moment: indices into [`super::Recording::frames`], innermost first.
    pub stack: Arc<[u32]>,
    /// Whether the creation was seen with its stack.
    pub known: bool,
    /// Why it is not known, e.g. that the task is older than our attach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_unknown: Option<Arc<str>>,
}
