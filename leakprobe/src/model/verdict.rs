//! What is thought of a site, why, and what to do about it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is thought of the tasks at a site, the least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing: it was not judged.
    #[default]
    #[serde(rename = "")]
    Unjudged,
    /// They belong there: pools, listeners.
    Idle,
    /// They may be leaked.
    Suspect,
    /// They are leaked, as far as can be told from outside: more of them with every round of load, and none was ever woken.
    Likely,
    /// They cannot wake, by construction.
    Proven,
}

impl Verdict {
    /// Every verdict, the worst first.
    pub const ALL: &'static [Self] = &[Self::Proven, Self::Likely, Self::Suspect, Self::Idle, Self::Unjudged];

    /// Its name in reports; empty if nothing was judged.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unjudged => "",
            Self::Idle => "idle",
            Self::Suspect => "suspect",
            Self::Likely => "likely",
            Self::Proven => "proven",
        }
    }
}

/// What decided a verdict: the one of [`analysis::judge`](crate::analysis::judge)'s rules that applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ground {
    /// Proven: nothing can wake them.
    CannotWake,
    /// Idle: a language runtime's own.
    OfRuntime,
    /// Idle: of a pool that is known to be bounded.
    OfPool,
    /// Idle: no more of them than at the baseline.
    NoGrowth,
    /// Suspect: no more of them, but old, without their creators, and none has woken.
    Orphaned,
    /// Suspect: more of them, but no more than is tolerated.
    Tolerated,
    /// Suspect: still going down when the time to settle was over.
    GoingDown,
    /// Likely: more with every round, and none has woken.
    EveryRound,
    /// Likely: more with every round, and woken by nothing but their own timers.
    OnlyTimers,
    /// Likely: none of them lasts, but more take their place with every round.
    Chains,
    /// Idle: not more with every round, and some have woken.
    InUse,
    /// Suspect: more of them, and not enough is known to say more.
    Unclear,
}

impl Ground {
    /// Every one.
    pub const ALL: &'static [Self] = &[
        Self::CannotWake,
        Self::OfRuntime,
        Self::OfPool,
        Self::NoGrowth,
        Self::Orphaned,
        Self::Tolerated,
        Self::GoingDown,
        Self::EveryRound,
        Self::OnlyTimers,
        Self::Chains,
        Self::InUse,
        Self::Unclear,
    ];

    /// The verdict that follows from it.
    #[must_use]
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::CannotWake => Verdict::Proven,
            Self::EveryRound | Self::OnlyTimers | Self::Chains => Verdict::Likely,
            Self::Orphaned | Self::Tolerated | Self::GoingDown | Self::Unclear => Verdict::Suspect,
            Self::OfRuntime | Self::OfPool | Self::NoGrowth | Self::InUse => Verdict::Idle,
        }
    }
}

/// The tasks at a site over the rounds of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Course {
    /// Tasks that waited here at the end of each of [`Check::rounds`], the baseline first.
    pub counts: Vec<u64>,
    /// Of those at the end: tasks that were not there at the baseline.
    pub new: u64,
    /// Of the new ones, those that were there a round earlier at least, so that it could be seen whether they wake.
    pub followed: u64,
    /// Of those, the ones that woke meanwhile.
    pub woke: u64,
    /// Of the tasks that were there at the baseline, those that woke since.
    pub old_woke: u64,
    /// Of the tasks at the end, those whose creator is known to be gone.
    pub creators_gone: u64,
}

/// A known way of leaking that a site looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The pattern's id, e.g. `go-chan-send-no-receiver`.
    pub pattern: String,
    /// What it is, in a phrase.
    pub title: String,
    /// What is wrong, and how to mend it: one paragraph.
    pub advice: String,
}

/// A check of a program by rounds of load: what was done, and what it came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// The baseline, then each round of load.
    pub rounds: Vec<Round>,
    /// The load's command.
    #[serde(default)]
    pub load: Vec<String>,
    /// The verdict from which on the check fails.
    pub fail_on: Verdict,
    /// Growth of a site over all rounds that is tolerated, percent of its number at the baseline.
    #[serde(default)]
    pub max_growth_percent: f64,
    /// What it came to.
    pub outcome: CheckOutcome,
    /// Why it failed, one sentence each.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// What keeps it from being judged, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<String>,
    /// Tasks at the end.
    #[serde(default)]
    pub tasks: u64,
    /// Most tasks that are allowed at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tasks: Option<u64>,
    /// Tasks at the end that could be judged, percent of those that there were.
    pub coverage_percent: f64,
    /// The share that is asked for.
    #[serde(default)]
    pub min_coverage_percent: f64,
    /// What is worth knowing and changes nothing: rules that were not used, for example.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What a check came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckOutcome {
    /// Nothing was found that fails it.
    #[default]
    Passed,
    /// Something was.
    Failed,
    /// What was seen does not tell.
    Incomplete,
}

impl CheckOutcome {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Incomplete => "incomplete",
        }
    }
}

/// One round of load, or the baseline before the first one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Round {
    /// When it was looked at, ms since watching began.
    pub at_ms: u64,
    /// How long the load took, ms; `None` for the baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_ms: Option<u64>,
    /// Requests that the load made, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// How long was waited for the numbers to become level, ms.
    pub settle_ms: u64,
    /// Whether they did.
    pub settled: bool,
    /// Threads alive then.
    pub threads: u64,
    /// Goroutines alive then, without the runtime's own.
    #[serde(default)]
    pub goroutines: u64,
    /// Tasks that waited at a site then.
    pub waiting: u64,
}
