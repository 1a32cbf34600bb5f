//! The command line: clap's structs, and what they come to. Nothing below this room knows clap.

mod args;
mod ci;
mod values;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::Parser;

pub use args::command;
pub use ci::{Ci, LeakProfile, Ready, Selftest, Server};
pub use values::{Color, FailOn, Kind, View, Weight};

use crate::{report::GroupBy, target::COPY_MAPPED, watch};

/// A command, ready to be carried out.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Watch running processes.
    Attach {
        /// Which.
        targets: Targets,
        /// How to watch them.
        watch: Watch,
    },
    /// Start a program and watch it.
    Run {
        /// The program and its arguments.
        command: Vec<OsString>,
        /// How to watch it.
        watch: Watch,
    },
    /// One look at every thread.
    Snapshot {
        /// Of which processes.
        targets: Targets,
        /// How to look.
        watch: Watch,
    },
    /// Render a recording again.
    Report {
        /// The recording.
        file: PathBuf,
        /// The site whose verdict is to be explained.
        explain: Option<String>,
        /// Where to.
        output: Output,
    },
    /// What is parked in one recording and not in another.
    Diff {
        /// The first recording.
        before: PathBuf,
        /// The second one.
        after: PathBuf,
        /// Where to.
        output: Output,
    },
    /// Rounds of load, and a verdict.
    Ci(Box<Ci>),
    /// What this kernel and these privileges allow.
    Doctor {
        /// As JSON.
        json: bool,
    },
    /// Attach to a leaky program of our own.
    Demo(Watch),
    /// Plant leaks and find them.
    Selftest(Selftest),
    /// Shell completions.
    Completions(clap_complete::Shell),
    /// Not for users: the leaky program of `demo`.
    DemoTarget,
    /// Not for users: the program of `selftest`.
    SelftestTarget,
    /// Not for users: its load.
    SelftestLoad,
    /// Not for users: waits until it is told, and becomes the program of `run`.
    ExecWhenTold(Vec<OsString>),
    /// Not for users: copies a file that may never answer, so that we need not touch it.
    CopyMapped(Vec<OsString>),
}

/// Which processes are meant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets {
    /// Their ids; if there are any, nothing else counts.
    pub pids: Vec<u32>,
    /// A pattern of their name.
    pub comm: Option<String>,
    /// A pattern of their executable's path.
    pub exe: Option<String>,
    /// Their control group, or one above it.
    pub cgroup: Option<String>,
    /// Their container, by name or id.
    pub container: Option<String>,
}

/// How a process is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// For how long; `None`: until it ends, or Ctrl-C.
    pub duration: Option<Duration>,
    /// The rest of how.
    pub options: watch::Options,
    /// What becomes of the result.
    pub output: Output,
}

/// What becomes of a recording.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// Files to write, with their formats if those are named.
    pub files: Vec<PathBuf>,
    /// The format of files whose name does not tell.
    pub format: Option<String>,
    /// The recording on stdout in place of the report.
    pub json: bool,
    /// No report on stdout and no progress.
    pub quiet: bool,
    /// When to use colours.
    pub color: Color,
    /// What the width of a flame graph's frame means.
    pub weight: Weight,
    /// Which stacks a flame graph shows.
    pub view: View,
    /// Which tasks are shown.
    pub kind: Kind,
    /// What they are grouped by, if that was asked for.
    pub group_by: Option<GroupBy>,
    /// Patterns of functions that tasks must have one of.
    pub include: Vec<String>,
    /// Patterns of functions that tasks must not have.
    pub exclude: Vec<String>,
    /// The frames that Go's dumps leave out, too.
    pub all_frames: bool,
    /// Most frames of a stack.
    pub max_depth: Option<usize>,
    /// Every site in the table.
    pub all: bool,
}

/// The command line, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Cli {
    /// What to do.
    pub command: Command,
    /// How much to tell on stderr: 0, 1 (-v), 2 (-vv).
    pub verbosity: u8,
}

/// Takes the process's command line apart.
///
/// # Errors
/// What clap says, which includes `--help` and `--version`; its `print` and `exit_code` do what is usual.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    match own(&args) {
        Some(command) => Ok(Cli { command, verbosity: 0 }),
        None => args::Args::try_parse_from(args).map(args::Args::resolve),
    }
}

/// What leakprobe starts itself as. Kept from clap, so that neither help nor completions tell of it.
pub const DEMO_TARGET: &str = "demo-target";
/// See [`DEMO_TARGET`].
pub const EXEC_WHEN_TOLD: &str = "exec-when-told";
/// See [`DEMO_TARGET`].
pub const SELFTEST_TARGET: &str = "selftest-target";
/// See [`DEMO_TARGET`].
pub const SELFTEST_LOAD: &str = "selftest-load";

fn own(args: &[OsString]) -> Option<Command> {
    match args {
        [_, word] if word == DEMO_TARGET => Some(Command::DemoTarget),
        [_, word] if word == SELFTEST_TARGET => Some(Command::SelftestTarget),
        [_, word] if word == SELFTEST_LOAD => Some(Command::SelftestLoad),
        [_, word, command @ ..] if word == EXEC_WHEN_TOLD => Some(Command::ExecWhenTold(command.to_vec())),
        [_, word, place @ ..] if word == COPY_MAPPED => Some(Command::CopyMapped(place.to_vec())),
        _ => None,
    }
}
