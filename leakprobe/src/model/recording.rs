//! The whole result of a run.

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Deadlock, Frame, Gap, Loss, PendingTimers, Site, Source, Task, UnseenTasks, Wait};

/// The schema that this version writes and reads.
pub const SCHEMA: &str = "leakprobe/1";

/// Everything that a run found out. Every output is made from it, and the `.json` output is it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recording {
    /// [`SCHEMA`].
    pub schema: String,
    /// What made it.
    pub tool: Tool,
    /// What was watched.
    pub target: TargetInfo,
    /// When watching began, RFC 3339, UTC.
    pub started: String,
    /// How long it lasted, ms; 0 for a single snapshot.
    pub duration_ms: u64,
    /// The parked threshold, ms.
    pub min_block_ms: u64,
    /// Every task that was alive at the end, by id.
    pub tasks: Vec<Task>,
    /// The frames that stacks point into.
    pub frames: Vec<Frame>,
    /// Parked tasks by site, most suspicious first.
    pub sites: Vec<Site>,
    /// Timers that are pending and for which no task waits, by what they are for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timers: Vec<PendingTimers>,
    /// Tasks that wait for each other for ever.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deadlocks: Vec<Deadlock>,
    /// The check that it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// Waits that were longer than the threshold and ended while we watched, grouped by stack.
    #[serde(default)]
    pub ended_waits: Vec<EndedWait>,
    /// Single ones of them, by begin; of those that were too many the longest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<TimedWait>,
    /// Number of tasks at regular moments.
    #[serde(default)]
    pub growth: Vec<GrowthSample>,
    /// What was looked at, and how completely.
    pub coverage: Coverage,
    /// What could not be seen, and how often; only what is not 0.
    #[serde(default)]
    pub losses: BTreeMap<Loss, u64>,
    /// What leakprobe itself used.
    pub cost: Cost,
}

/// The program that made a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// leakprobe's version.
    pub version: String,
}

/// The process that was watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetInfo {
    /// Process id.
    pub pid: u32,
    /// The process that created it while that was watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u32>,
    /// Its id in its own pid namespace, if that is another one than leakprobe's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ns_pid: Option<u32>,
    /// Its name.
    pub comm: String,
    /// Path of its executable; empty if it could not be read.
    pub exe: String,
    /// `native`, or a language runtime's version; those of several are separated by commas.
    pub runtime: String,
    /// How it ended, if it did so while we watched, e.g. `exited`; `None` if it still ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// How often it began another program while we watched.
    #[serde(default)]
    pub execs: u64,
}

/// Waits that ended while we watched, at one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EndedWait {
    /// The longest of them.
    pub wait: Wait,
    /// How many there were.
    pub count: u64,
    /// How long they lasted together, ms.
    pub total_ms: u64,
    /// Where: indices into [`Recording::frames`], innermost first; empty if the stack could not be had.
    pub stack: Vec<u32>,
    /// The thread that waited longest.
    pub task: u64,
    /// Its name.
    pub name: String,
}

/// One wait that ended while we watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimedWait {
    /// What it waited for, and where: the place in [`Recording::ended_waits`].
    pub place: u32,
    /// The thread.
    pub task: u64,
    /// Its name when the wait ended.
    pub name: Arc<str>,
    /// When it began, µs since watching began; less than 0 if before.
    pub began_us: i64,
    /// How long it lasted, µs.
    pub lasted_us: u64,
    /// Whether it began at that moment; if not, then no later.
    pub exact: bool,
}

/// Number of threads and goroutines at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GrowthSample {
    /// ms since watching began.
    pub at_ms: u64,
    /// Threads alive.
    pub tasks: u64,
    /// Of them parked.
    pub parked: u64,
    /// Goroutines alive, without the runtime's own. `tasks` are threads alone.
    #[serde(default)]
    pub goroutines: u64,
    /// Of them parked in the runtime. Those in system calls count as threads do.
    #[serde(default)]
    pub goroutines_parked: u64,
    /// Goroutines created since watching began.
    #[serde(default)]
    pub goroutines_created: u64,
}

/// What was looked at, and how completely.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// Snapshots taken.
    pub snapshots: u64,
    /// Threads alive at the last snapshot.
    pub threads: u64,
    /// Of them blocked or parked.
    pub blocked: u64,
    /// Blocked threads whose stack was read to its outermost frame.
    pub stacks_complete: u64,
    /// Threads alive at the end whose creation was seen with its stack.
    pub creations_known: u64,
    /// Threads created while we watched.
    pub created: u64,
    /// Threads that exited while we watched.
    pub exited: u64,
    /// What was seen of goroutines; `None` if the target is no Go program, or not one that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub go: Option<GoCoverage>,
    /// Events that the kernel streamed.
    pub events: u64,
    /// What was watched; what is missing here was not.
    pub sources: Vec<Source>,
    /// What was not watched, and why.
    #[serde(default)]
    pub gaps: Vec<Gap>,
    /// Kinds of tasks that the target has, or may have, and that are not read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<UnseenTasks>,
    /// What was not watched for a while, to keep its cost within the budget.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<Pause>,
}

/// Something that was not watched for a while, because it cost too much.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pause {
    /// What: `futex waits` or `context switches`.
    pub what: String,
    /// From when on, ms since watching began.
    pub from_ms: u64,
    /// For how long, ms.
    pub for_ms: u64,
    /// How many pauses these are; more than one only where there were too many to tell each, of which `from_ms` is the first's.
    pub times: u64,
    /// What it had cost, percent of one core.
    pub percent: f64,
}

/// What was seen of goroutines, and how completely.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GoCoverage {
    /// Goroutines alive at the last snapshot, without the runtime's own.
    pub goroutines: u64,
    /// The runtime's own.
    pub system: u64,
    /// Those of the program that were blocked.
    pub blocked: u64,
    /// Of them those whose stack was read to its outermost frame.
    pub stacks_complete: u64,
    /// Those that ran, so that there was no stack to read.
    pub running: u64,
    /// Those whose place of creation is known.
    pub creations_known: u64,
    /// Created while we watched.
    pub created: u64,
    /// Ended while we watched.
    pub gone: u64,
}

/// What leakprobe itself used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// CPU time, ms.
    pub cpu_ms: u64,
    /// Largest resident memory, MB.
    pub rss_mb: f64,
    /// Time from the first to the last read of the first snapshot, ms.
    #[serde(default)]
    pub snapshot_ms: f64,
    /// The same of the later snapshots before which something had run, on average, ms; 0 if there was none.
    #[serde(default)]
    pub repeated_snapshot_ms: f64,
    /// CPU time of leakprobe's programs in the kernel while it watched, on average, percent of one core; `None` if it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programs_percent: Option<f64>,
}
