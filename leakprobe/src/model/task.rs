//! What runs and blocks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{StackEnd, Wait};

/// What sort of task it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaskKind {
    /// An OS thread.
    Thread,
    /// A goroutine.
    Goroutine,
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

/// One task, as it was last seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    /// Thread or goroutine.
    pub kind: TaskKind,
    /// Thread id or goroutine id.
    pub id: u64,
    /// The thread's name.
    pub name: String,
    /// What it does.
    pub state: TaskState,
    /// What it waits for, if it is blocked.
    pub wait: Option<Wait>,
    /// Where it is: indices into [`super::Recording::frames`], innermost first.
    pub stack: Vec<u32>,
    /// How the reading of `stack` ended.
    pub stack_end: StackEnd,
    /// How long the task has existed, ms; `None` if that is not known.
    pub lifetime_ms: Option<u64>,
    /// Who created it, and where.
    pub created_by: CreatedBy,
    /// The place of its site in [`super::Recording::sites`]; `None` if it is not parked.
    pub site: Option<u32>,
}

/// Who created a task, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedBy {
    /// The creator's id; `None` if it is not known.
    pub task: Option<u64>,
    /// The creator's name at that time; empty if it is not known.
    #[serde(default)]
    pub name: String,
    /// The creator's stack at that moment: indices into [`super::Recording::frames`], innermost first.
    pub stack: Vec<u32>,
    /// Whether the creation was seen with its stack.
    pub known: bool,
    /// Why it is not known, e.g. that the task is older than our attach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_unknown: Option<String>,
}
