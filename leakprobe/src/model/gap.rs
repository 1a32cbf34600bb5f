//! What was not watched, or could not be found out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Source,
    coded::{describe, read_coded},
};

/// Something that was not watched, or could not be found out, and why. Its sentence is its `Display`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", tag = "code", rename_all = "kebab-case")]
#[schemars(transform = describe)]
pub enum Gap {
    /// Threads were read from `/proc`, without BPF.
    WithoutBpf {
        /// Whether events, too, were wanted, and are missing: creations and waits that ended.
        events: bool,
        /// Why BPF was not used.
        why: String,
    },
    /// System calls and stacks of a process may not be read through `/proc`.
    CallsUnreadable {
        /// The process.
        pid: u32,
        /// The capabilities that it takes and that leakprobe does not have.
        lacking: Vec<String>,
        /// Whether the Yama security module restricts it (`kernel.yama.ptrace_scope`).
        yama: bool,
    },
    /// Waits that ended were not watched by this source.
    WaitsNotWatched {
        /// The source that was wanted.
        source: Source,
        /// Why it could not be attached.
        why: String,
        /// Whether context switches were watched instead.
        switches_instead: bool,
    },
    /// Waits that ended between two snapshots were not watched, as was asked for.
    SnapshotsAlone,
    /// What the kernel-side programs cost is an estimate: it may not be measured.
    CostEstimated,
    /// Child processes were not followed, since that takes BPF.
    ChildrenNeedBpf,
    /// Some child processes were not watched.
    ChildrenMissed {
        /// Those that ended before they could be opened.
        ended: u64,
        /// Those that did not answer.
        #[serde(default)]
        unanswered: u64,
        /// Those beyond the limit.
        too_many: u64,
        /// The limit: the most processes at once.
        limit: u64,
    },
    /// Child processes are not in the report: what was seen of others is as much as is kept.
    ChildrenLeftOut {
        /// How many.
        processes: u64,
        /// The most that is kept of all processes together, MiB.
        most_mib: u64,
    },
    /// A process is not in the report, since reading it came to no end.
    ProcessUnanswered {
        /// Its id.
        pid: u32,
    },
    /// A Go runtime, or what was taken for one, was not read.
    GoRuntime {
        /// Why.
        why: String,
    },
    /// The function table of a module of Go code was not read.
    GoFunctions {
        /// Why.
        why: String,
    },
    /// Inlined calls of Go code are not shown.
    GoInlinedCalls {
        /// The file with the code.
        path: String,
    },
    /// Wait reasons of goroutines are numbers, since their names were not found.
    GoWaitReasons {
        /// The program or library.
        path: String,
    },
    /// The layout of a newer Go version was found out from the process, and in part assumed.
    GoNewer {
        /// The version of the runtime.
        version: String,
        /// The newest minor version of Go 1 whose layout is known.
        known_minor: u32,
    },
    /// There were too few goroutines to check the layout of a runtime.
    GoUnchecked {
        /// The program or library.
        path: String,
        /// The version of the runtime.
        version: String,
    },
    /// It is not known which thread runs which goroutine.
    GoThreads,
    /// The list of Go plugins could not be followed to its end: functions of some may have no names.
    GoPlugins,
    /// Timers for which no goroutine waits are not counted.
    GoTimers {
        /// The program or library.
        path: String,
    },
    /// Goroutines that came and went between two snapshots are not counted.
    GoTurnover,
    /// Only some of the Go runtimes were read.
    GoRuntimesLeftOut {
        /// How many there are.
        found: u64,
        /// How many are read.
        read: u64,
    },
    /// Stacks through compiled Java methods may lack some of them.
    JvmCode {
        /// Why the JVM's description of its code could not be used.
        why: String,
    },
    /// Stacks through .NET's code may lack methods.
    DotNetFrames,
    /// Idle times and peers of sockets are not known.
    Sockets {
        /// Why the kernel could not be asked.
        why: String,
    },
    /// Nothing is known of some sockets.
    UnlistedSockets {
        /// How many.
        sockets: u64,
    },
    /// Peers of pipes and sockets were not looked for in processes that may not be read.
    PeersUnread {
        /// How many processes.
        processes: u64,
    },
    /// The search for peers of pipes and sockets was stopped, since it took too long.
    PeersCut,
    /// Threads are to return to code that was unloaded.
    UnloadedCode {
        /// How many threads.
        threads: u64,
        /// The file that the code was from.
        path: String,
    },
    /// A file does not answer: no names, and stacks cut.
    FileUnanswered {
        /// The file.
        path: String,
        /// The kind of file system that it is on.
        filesystem: String,
    },
    /// Stacks of 32-bit code are not read.
    NarrowStacks,
    /// Kernel functions have no names.
    KernelNames {
        /// Why.
        why: String,
    },
    /// JIT code has no names.
    JitNames {
        /// Why its file of names is not used.
        why: String,
    },
    /// A module's code has no lines, and inlined functions are not shown.
    DebugInformation {
        /// The module.
        module: String,
        /// Why its debug information could not be used.
        why: String,
    },
    /// Files with code are corrupt: functions have no names, or stacks are cut.
    FilesCorrupt {
        /// One of the files.
        file: String,
        /// What is wrong with it.
        why: String,
        /// How many more there are.
        more: u64,
    },
    /// Files were not read, or not completely: a limit of one run is used up.
    FilesBeyondBudget {
        /// Some of the files.
        files: Vec<String>,
        /// How many more there are.
        more: u64,
        /// The limit.
        limit: FileLimit,
    },
    /// A sentence from a recording of another version.
    #[serde(skip)]
    Text(String),
}

read_coded!(Gap);

/// A limit on what one run spends on files of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileLimit {
    /// Memory held, MiB.
    MemoryMib(u64),
    /// Memory for what is kept of all targets besides files: frames, names, mappings.
    Kept,
    /// Bytes read, MiB.
    ReadMib(u64),
    /// CPU time for reading them, s.
    CpuS(u64),
    /// Files of one target that are open at a time; fewer where leakprobe may have fewer.
    OpenFiles(u64),
}
