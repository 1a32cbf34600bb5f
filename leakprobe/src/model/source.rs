//! What tells leakprobe of a target.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::coded::{describe, read_coded};

/// Something that was watched. Its name in reports is its `Display`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", tag = "code", rename_all = "kebab-case")]
#[schemars(transform = describe)]
pub enum Source {
    /// All threads at one moment, again and again.
    Snapshots,
    /// The same without BPF.
    ProcSnapshots,
    /// Creation and exit of threads, as they happen.
    Lifecycle,
    /// Futex waits that end.
    FutexWaits,
    /// Waits of any kind that end, by context switches.
    ContextSwitches,
    /// What a recording of another version calls it.
    #[serde(skip)]
    Text(String),
}

read_coded!(Source);
