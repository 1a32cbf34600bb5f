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
    /// Suspect: a language runtime's own, stuck in the program's code through a round of load.
    Stuck,
    /// Idle: of a pool that is known to be bounded, and no more of them than its bound.
    OfPool,
    /// Idle: no more of them than at the baseline.
    NoGrowth,
    /// Idle: they grew and stopped growing while the load went on.
    Stopped,
    /// Idle: each of them ends, and others take their place.
    Turnover,
    /// Not judged: no more of them than at the baseline, but the load before the baseline left them, and nothing has used them since.
    Unused,
    /// Suspect: no more of them, but old, without their creators, and none has woken.
    Orphaned,
    /// Suspect: more of them, but no more than is tolerated.
    Tolerated,
    /// Suspect: still going down when the time to settle was over.
    GoingDown,
    /// Suspect: more of them, but each ends by a timer that was not due yet.
    NotDue,
    /// Likely: more with the rounds, and none has woken.
    EveryRound,
    /// Likely: more with the rounds, and woken by nothing but their own timers.
    OnlyTimers,
    /// Likely: none of them lasts, but each creates its successor, and there are more with every round.
    Chains,
    /// Likely: more with every round, and none of them ever rests long enough to see it wait, nor ends.
    Busy,
    /// Likely: they are woken, but steadily more with every one of many rounds, and none has ended.
    Steady,
    /// Idle: not more with every round, and most have been woken by others.
    InUse,
    /// Suspect: more of them, and not enough is known to say more.
    Unclear,
}

impl Ground {
    /// Every one.
    pub const ALL: &'static [Self] = &[
        Self::CannotWake,
        Self::OfRuntime,
        Self::Stuck,
        Self::OfPool,
        Self::NoGrowth,
        Self::Stopped,
        Self::Turnover,
        Self::Unused,
        Self::Orphaned,
        Self::Tolerated,
        Self::GoingDown,
        Self::NotDue,
        Self::EveryRound,
        Self::OnlyTimers,
        Self::Chains,
        Self::Busy,
        Self::Steady,
        Self::InUse,
        Self::Unclear,
    ];

    /// The verdict that follows from it.
    #[must_use]
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::CannotWake => Verdict::Proven,
            Self::EveryRound | Self::OnlyTimers | Self::Chains | Self::Busy | Self::Steady => Verdict::Likely,
            Self::Stuck | Self::Orphaned | Self::Tolerated | Self::GoingDown | Self::NotDue | Self::Unclear => {
                Verdict::Suspect
            }
            Self::OfRuntime | Self::OfPool | Self::NoGrowth | Self::Stopped | Self::Turnover | Self::InUse => {
                Verdict::Idle
            }
            Self::Unused => Verdict::Unjudged,
        }
    }
}

/// The tasks of a site, or of one creator, over the rounds of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Course {
    /// Tasks that were there at the end of each of [`Check::rounds`], the baseline first.
    pub counts: Vec<u64>,
    /// Of those at the end: how many came with each round, the first round after the baseline first.
    #[serde(default)]
    pub left: Vec<u64>,
    /// Of those at the end: tasks that came after the baseline.
    pub new: u64,
    /// Of the new ones, those that came a round earlier at least, so that it could be seen whether they wake.
    pub followed: u64,
    /// Of those, the ones that woke since they came.
    pub woke: u64,
    /// Of those that woke, the ones that only their own timers woke.
    #[serde(default)]
    pub by_timer: u64,
    /// Of those that were followed, the ones of which it is not known whether they woke.
    #[serde(default)]
    pub unclear: u64,
    /// Tasks that came after the baseline, were there for a round at least and have ended.
    #[serde(default)]
    pub ended: u64,
    /// Of the tasks that were there at the baseline, those that woke since.
    pub old_woke: u64,
    /// Of the tasks at the end, those whose creator is known to be gone.
    pub creators_gone: u64,
    /// In how many ms the last of the new tasks ends its wait by a timer, if all of them do and none has been due yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<u64>,
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
    /// Unsteady growth of a site over all rounds that is tolerated, percent of its number at the baseline.
    #[serde(default)]
    pub max_growth_percent: f64,
    /// The smallest leak that these rounds would have found: one task in so many requests; in so many rounds, if the number of
    /// requests is not known. `None` if there were too few rounds to find any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
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
    /// Tasks at the end that could be judged, percent of those that there were; an upper bound if some are of [`Self::unseen`] kinds.
    pub coverage_percent: f64,
    /// The share that is asked for.
    #[serde(default)]
    pub min_coverage_percent: f64,
    /// Kinds of tasks that the target has and that are not read, as in [`super::UnseenTasks::what`]: none of them was judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<String>,
    /// What is worth knowing and changes nothing: rules that were not used, for example.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Check {
    /// Requests of all rounds together; `None` if they are not known of each, or there were none.
    #[must_use]
    pub fn requests(&self) -> Option<u64> {
        let mut of_rounds = self.rounds.iter().skip(1).map(|round| round.requests);
        let all = of_rounds.try_fold(0_u64, |all, requests| Some(all.saturating_add(requests?)));
        all.filter(|&all| all > 0)
    }
}

/// The smallest leak that a check would have found, by the rule that it judges by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Power {
    /// Tasks that are left behind.
    pub tasks: u64,
    /// By so many requests, or rounds.
    pub per: u64,
    /// Whether `per` counts requests; if not, rounds.
    pub requests: bool,
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
