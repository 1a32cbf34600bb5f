//! What tasks are grouped by.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Course, Fact, Finding, Ground, Role, TaskKind, Verdict, WaitKind};

/// All parked tasks with the same creation stack, park stack and kind of wait; goroutines of which it is not known whether they are
/// parked, since nobody saw their wait begin; and tasks that were created while we watched and live on, though not parked. Stacks are the same if they lead through the same functions, at whichever
/// lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Site {
    /// Eight hex digits, made from functions and modules only: the same in another run of the same program.
    pub id: String,
    /// What sort of tasks are here.
    #[serde(default)]
    pub task: TaskKind,
    /// Whose work they do.
    #[serde(default, skip_serializing_if = "Role::is_own")]
    pub role: Role,
    /// The kind of wait.
    pub kind: WaitKind,
    /// Tasks that waited here at the end.
    pub count: u64,
    /// Of them parked. Of the others it is not known for how long they have waited, but for [`Self::brief`] ones.
    pub parked: u64,
    /// Of the others those that wait for less than the threshold, or run: they were created while we watched and live on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub brief: u64,
    /// How many of them are parked in slices: each of their waits ends by its own timer, and the next one begins.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub in_slices: u64,
    /// The longest of these slices, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice_ms: Option<u64>,
    /// How many of them were created while we watched.
    pub created_while_watched: u64,
    /// Age of the oldest wait here, ms.
    pub oldest_ms: u64,
    /// Whether that age is exact.
    pub oldest_exact: bool,
    /// Sum of the ages of all waits here, ms.
    pub total_ms: u64,
    /// What is waited for, in words, e.g. `futex wait`.
    pub wait: String,
    /// How many of the waits end by themselves after a timeout.
    pub with_timeout: u64,
    /// The shortest of those timeouts, ms, from a wait's beginning; `None` if there is none, or if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortest_timeout_ms: Option<u64>,
    /// Park stack of most of them: indices into [`super::Recording::frames`], innermost first.
    pub stack: Vec<u32>,
    /// Creation stack, likewise; empty if it is not known.
    pub creation: Vec<u32>,
    /// Where its tasks are, most of them first, if they are judged together because one creator started them, at whichever places
    /// they are: `stack` and `wait` are then those of most of them. Empty otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Place>,
    /// Names of the tasks here, most frequent first, at most five.
    pub names: Vec<String>,
    /// Tasks blocked at this site, parked or not yet, at each of [`super::Recording::growth`]'s moments.
    #[serde(default)]
    pub trend: Vec<u64>,
    /// What is thought of it.
    #[serde(default)]
    pub verdict: Verdict,
    /// What decided that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ground: Option<Ground>,
    /// Its tasks over the rounds of a check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub course: Option<Course>,
    /// The known way of leaking that it looks like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
    /// Why it does not fail a check, whatever is thought of it: a rule, or that it was known before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
    /// Facts that speak for it.
    #[serde(default)]
    pub evidence: Vec<Fact>,
}

/// One of several places where tasks of one creator are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// Tasks here.
    pub count: u64,
    /// What they wait for, in words as [`Site::wait`] has them, or what they do: `running`, `runnable`.
    pub wait: String,
    /// Where: indices into [`super::Recording::frames`], innermost first; empty if they run.
    pub stack: Vec<u32>,
}

impl Site {
    /// Tasks here of which it is not known for how long they have waited.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.count.saturating_sub(self.parked).saturating_sub(self.brief)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
