//! Why a verdict is what it is, and what else speaks for a site: one fact each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Pool, TaskKind,
    coded::{describe, read_coded},
};

/// A fact about tasks that were judged together. Its sentence is its `Display`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", tag = "code", rename_all = "kebab-case")]
#[schemars(transform = describe)]
pub enum Fact {
    /// Their number grew while they were watched.
    Grew {
        /// Their number at the start.
        from: u64,
        /// Their number at the end.
        to: u64,
        /// Whether all of them wait.
        waiting: bool,
    },
    /// Some were created while leakprobe watched, and are still there.
    CreatedWhileWatched {
        /// How many it is true of.
        tasks: u64,
        /// How many there are.
        of: u64,
        /// What they do.
        still: Still,
    },
    /// Waits that end by their own timers, and begin again.
    InSlices {
        /// How many it is true of.
        tasks: u64,
        /// How many there are.
        of: u64,
    },
    /// None of them waits.
    NoneWaits,
    /// None of the waits has a timeout.
    NoTimeout,
    /// All of the waits end by a timeout.
    AllTimeOut {
        /// The shortest timeout, ms, if that of each is known.
        shortest_ms: Option<u64>,
    },
    /// Some are at other lines, or other depths of recursion, of the same functions.
    AtOtherLines {
        /// How many it is true of.
        tasks: u64,
        /// How many there are.
        of: u64,
    },
    /// Some are of the same creator, but at another place, or running.
    Elsewhere {
        /// How many it is true of.
        tasks: u64,
        /// How many there are.
        of: u64,
    },
    /// The creation of so many was seen.
    CreationSeen {
        /// How many it is true of.
        tasks: u64,
        /// How many there are.
        of: u64,
    },

    /// Their number grew with rounds of load.
    GrewWithRounds {
        /// Their number at the baseline and after each round.
        counts: Vec<u64>,
        /// With how many rounds it grew.
        grew: u64,
        /// How many rounds there were.
        rounds: u64,
        /// Growth a round; `None` if that is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        per_round: Option<f64>,
        /// Growth a request; `None` if requests were not counted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        per_request: Option<f64>,
    },
    /// Their number did not grow, and is as it was at the baseline or varies.
    Level {
        /// Their number at the baseline and after each round.
        counts: Vec<u64>,
    },
    /// There are fewer than at the baseline.
    Fewer {
        /// Their number at the baseline and after each round.
        counts: Vec<u64>,
    },
    /// Their numbers, from which nothing is concluded.
    Counts {
        /// Their number at the baseline and after each round.
        counts: Vec<u64>,
    },
    /// Growth that is not steady and within what is tolerated.
    Tolerated {
        /// How much more there are, percent.
        percent: f64,
        /// What is tolerated, percent.
        max_percent: f64,
    },
    /// Their number stopped growing while the load went on.
    StoppedGrowing,
    /// Their number was still going down when the time to settle was over.
    GoingDown,
    /// Each of so many rounds left about as many, which others wake, and none of them has ended.
    Steady {
        /// How many rounds there were.
        rounds: u64,
    },
    /// None lasts for a round: each creates its successor, and there are more with each round.
    Successors,
    /// So many that came with rounds have ended, and others take their place.
    Replaced {
        /// How many have ended.
        ended: u64,
    },
    /// The load before the baseline left them, and nothing has woken them since.
    LeftBefore,

    /// Of those that could be followed for a round some woke.
    Woke {
        /// How many it is true of.
        tasks: u64,
        /// Those that could be followed.
        of: u64,
        /// By what.
        by: WokenBy,
    },
    /// Of those that could be followed for a round none woke.
    NoneWoke {
        /// Those that could be followed.
        of: u64,
    },
    /// It is not known whether some woke.
    WakingUnknown {
        /// How many it is true of.
        tasks: u64,
    },
    /// Some woke during the rounds.
    WokeMeanwhile {
        /// How many it is true of.
        tasks: u64,
        /// How many there are.
        of: u64,
    },
    /// Some stayed for a round and ended later.
    EndedLater {
        /// How many it is true of.
        tasks: u64,
    },
    /// Some of the earliest rounds stay, while all that ended did so sooner.
    Outlast {
        /// How many it is true of.
        tasks: u64,
        /// Within how many rounds all that ended did so.
        rounds: u64,
    },
    /// The creators of some have ended.
    CreatorsGone {
        /// How many it is true of.
        tasks: u64,
        /// How many there are.
        of: u64,
    },
    /// The creators of all have ended, and none of them has woken.
    Orphaned {
        /// How many it is true of.
        tasks: u64,
    },
    /// The runtime calls such functions one after the other, and one has not come back for a round.
    Stuck,

    /// The waits end by timers, none of which has been due yet.
    NotDue {
        /// In how many ms the last of the timers fires.
        due_ms: u64,
        /// Whether some of the timers are those of other tasks that these wait for.
        by_others: bool,
    },
    /// The same function began as many that end by timers, none of which has been due yet.
    SiblingsNotDue {
        /// In how many ms the last of the timers fires.
        due_ms: u64,
    },
    /// Timers are pending until they fire.
    Pending {
        /// In how many ms the last of them fires.
        latest_ms: u64,
    },

    /// Some can never wake.
    CannotWake {
        /// How many it is true of.
        tasks: u64,
        /// How many there are.
        of: u64,
        /// Why.
        why: CannotWake,
    },
    /// They belong to a pool of a runtime or library.
    OfPool {
        /// Which one.
        pool: Pool,
    },

    /// They wait on so many objects.
    Objects {
        /// How many it is true of.
        tasks: u64,
        /// On how many.
        objects: u64,
    },
    /// The names of all fit one pattern, in which `*` stands for numbers.
    Named {
        /// The pattern.
        pattern: String,
    },
    /// They were judged by their creator, wherever they are.
    ByCreator {
        /// Some of the places, those with most tasks first.
        places: Vec<WhereTasksAre>,
        /// How many more places there are.
        more: u64,
    },

    /// Some wait behind tasks of another site.
    BehindRoot {
        /// How many it is true of.
        tasks: u64,
        /// How many there are.
        of: u64,
        /// How many of the other site they wait behind.
        roots: u64,
        /// What those are.
        kind: TaskKind,
        /// The other site.
        at: SiteName,
        /// What its tasks wait for.
        wait: String,
    },
    /// Others wait behind these.
    RootOfKnot {
        /// How many.
        tasks: u64,
        /// Some of the sites that they are at, those with most tasks first.
        sites: Vec<Behind>,
        /// At how many more sites.
        more: u64,
    },
    /// Some wait for locks that functions on their own stacks are to release.
    HoldsItself {
        /// How many it is true of.
        tasks: u64,
        /// How many there are.
        of: u64,
    },
    /// Some wait in a circle, each for a lock that the next one is to release.
    LockCircle {
        /// How many it is true of.
        tasks: u64,
        /// How many there are.
        of: u64,
        /// The site of the next one, if it is another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<SiteName>,
    },
    /// They wait on the same objects as those of another site, and their numbers grew in step.
    InStep {
        /// The other site.
        with: SiteName,
        /// On how many objects.
        objects: u64,
    },

    /// A sentence from a recording of another version.
    #[serde(skip)]
    Text(String),
}

read_coded!(Fact);

/// What those do that were created while leakprobe watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Still {
    /// All are parked.
    Parked,
    /// Some wait for less than the threshold, or run.
    Alive,
    /// All wait.
    Waiting,
}

/// By what tasks were woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WokenBy {
    /// Each by its own timer alone.
    Timers,
    /// By others than their own timers.
    Others,
    /// By both, or by what is not known.
    Any,
}

/// Why a task can never wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CannotWake {
    /// The target's own garbage collector has found out.
    Marked,
    /// It waits on a nil channel.
    NilChannel,
    /// It waits in a select without cases, or with nil channels alone.
    EmptySelect,
    /// It is one of those that wait for each other.
    Deadlock,
    /// It waits for one of those, or for one that does.
    BehindDeadlock,
    /// It waits for a lock whose holder has exited.
    HolderExited,
    /// It waits on what nothing else knows.
    NoOneCanWake,
}

/// A site, as facts about another one name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SiteName {
    /// Its [`super::Site::id`].
    pub id: String,
    /// The function of the program's own in which its tasks wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}

/// Tasks of one site that wait behind others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Behind {
    /// How many.
    pub tasks: u64,
    /// Their site.
    pub at: SiteName,
}

/// Tasks of one creator at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhereTasksAre {
    /// How many.
    pub tasks: u64,
    /// What they wait for, or do.
    pub wait: String,
    /// The function that they are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}
