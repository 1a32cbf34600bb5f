//! clap's structs. Doc comments here are the help texts.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{ArgAction, Args as ClapArgs, CommandFactory, Parser, Subcommand};

use super::{
    Cli, Command, Output, Selftest, Targets, Watch,
    ci::CiArgs,
    values::{self, Color, Kind, View, Weight},
};
use crate::{
    report::GroupBy,
    watch::{Options, Probe},
};

/// clap's description of the whole command line, for completions and man pages.
#[must_use]
pub fn command() -> clap::Command {
    Args::command()
}

/// Finds leaked and parked threads of any running process, from outside: no code change, no restart, no stop
///
/// It says who created each thread, where it is parked, on what and for how long, and draws flame graphs of them.
#[derive(Debug, Parser)]
#[command(name = "leakprobe", version, max_term_width = 100, disable_help_subcommand = true, after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
    /// Say more on stderr; twice for still more
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 1000)]
    verbose: u8,
}

const EXAMPLES: &str = "\
Examples:
  sudo leakprobe attach -p 1234              watch until Ctrl-C, then report
  sudo leakprobe attach -p 1234 -d 60s -o a.svg -o a.json
  sudo leakprobe snapshot -p 1234            what is parked at this moment
  sudo leakprobe run -- ./server --port 80   watch from the first instruction
  sudo leakprobe ci -p 1234 -- ./load-test   fail if the load leaves any behind
  sudo leakprobe demo                        see it work on a leaky program of its own

Exit codes:
  0 done, no leak (ci, diff), 1 leak found (ci), more parked (diff),
  2 wrong usage, 3 leakprobe failed, 4 no such process, 5 not permitted,
  or the kernel cannot, 6 what was seen does not tell (ci, diff),
  7 the process does not answer";

#[derive(Debug, Subcommand)]
enum Action {
    /// Watch a running process until it ends, -d is over or Ctrl-C; then report
    ///
    /// Without -o, a flame graph is written to leakprobe-PID.svg besides the report on stdout.
    Attach {
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        watch: WatchArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Start a program and watch it from its first instruction, as attach does
    ///
    /// The program runs as whoever runs leakprobe: with sudo, as root. To run it as somebody else, let it be started by
    /// setpriv: `sudo leakprobe run -- setpriv --reuid=USER --regid=GROUP --init-groups CMD`. If -d is over before the
    /// program ends, it goes on running.
    Run {
        #[command(flatten)]
        watch: WatchArgs,
        #[command(flatten)]
        output: OutputArgs,
        /// The program and its arguments
        #[arg(required = true, last = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Look at every thread of a process once, at this moment
    ///
    /// The report shows those that are parked, by site. A recording (-o FILE.json) holds every thread with its stack.
    #[command(visible_alias = "dump")]
    Snapshot {
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        look: LookArgs,
        /// What to look with: proc is without BPF, which the others need
        #[arg(long, value_enum, default_value = "snapshot")]
        probe: Probe,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Render a recording (.json) again: other formats, other views; needs no root
    Report {
        /// The recording
        #[arg(value_name = "FILE.json")]
        file: PathBuf,
        /// Say how the verdict on the site with this id came about, in place of the report; its first digits suffice
        #[arg(long, value_name = "SITE")]
        explain: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Say what is parked in one recording and not in another, by site; exit code 1 if anything is
    ///
    /// Sites are matched by their functions, so that the recordings may be of different processes. Exit code 0: at no site are
    /// more parked than before; 1: at one at least there are; 6: the recordings do not tell, and the report says why.
    /// -o FILE.svg is a differential flame graph, as wide as B: red where more are parked than in A, blue where fewer are;
    /// .folded has both numbers; .json is for scripts; .txt and .html are the report.
    Diff {
        /// The recording from before
        #[arg(value_name = "A.json")]
        before: PathBuf,
        /// The recording from after
        #[arg(value_name = "B.json")]
        after: PathBuf,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Put load on a program in rounds, and fail if it leaves threads or goroutines behind
    ///
    /// Watches a process that runs (-p), or one that is started for it (--exec): load to warm up, a baseline, then rounds of load,
    /// each followed by a pause until the numbers are level. Each site gets a verdict: proven (it cannot wake), likely (more with
    /// every round, and none of them was ever woken), suspect, or idle.
    ///
    /// Exit code 0: nothing was left behind; 1: something was; 4: the program ended; 6: what was seen does not tell, as when
    /// the load failed.
    Ci(Box<CiArgs>),
    /// Say what this kernel and these privileges allow, and how to get what is missing
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Watch a small leaky program that leakprobe brings along, and write parked.svg
    ///
    /// Watches for 5 seconds unless -d says otherwise.
    Demo {
        #[command(flatten)]
        watch: WatchArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Plant leaks of each kind in programs of its own, and show that they are found on this kernel
    ///
    /// Threads, and goroutines if there is a Go to build a small program with. Exit code 6 if one is not found, or if a healthy
    /// pool beside them is.
    Selftest {
        /// The Go to build that program with
        #[arg(long, value_name = "PATH", default_value = "go")]
        go: String,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Which processes. Of several, each has a report and files of its own.
#[derive(Clone, Debug, ClapArgs)]
#[group(required = true, multiple = true)]
struct TargetArgs {
    /// The process, or several: 12,34
    #[arg(short, long, value_name = "PID", value_delimiter = ',', value_parser = values::pid, conflicts_with_all = ["comm", "exe", "cgroup", "container"])]
    pid: Vec<u32>,
    /// Processes whose name REGEX matches
    #[arg(long, value_name = "REGEX")]
    comm: Option<String>,
    /// Processes whose executable's path REGEX matches
    #[arg(long, value_name = "REGEX")]
    exe: Option<String>,
    /// Processes in the control group PATH, or below it
    #[arg(long, value_name = "PATH")]
    cgroup: Option<String>,
    /// Processes in a container, by its name, its id or the first digits of that; or in the pod with this uid
    #[arg(long, value_name = "NAME|ID")]
    container: Option<String>,
}

impl TargetArgs {
    fn resolve(self) -> Targets {
        let mut pids = self.pid;
        pids.sort_unstable();
        pids.dedup();
        Targets { pids, comm: self.comm, exe: self.exe, cgroup: self.cgroup, container: self.container }
    }
}

/// How to look at threads.
#[derive(Clone, Debug, ClapArgs)]
struct LookArgs {
    /// Threads that have waited this long count as parked
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = values::duration)]
    min_block_time: Duration,
    /// Do not read debug information: function names only, no lines, no inlined functions
    #[arg(long)]
    no_debuginfo: bool,
    /// Show where threads wait in the kernel, too, above their own stacks
    #[arg(long)]
    kernel_stacks: bool,
}

#[derive(Clone, Debug, ClapArgs)]
struct WatchArgs {
    /// Watch processes that the target creates as well, and those that they create
    #[arg(long)]
    follow_forks: bool,
    /// Stop after this time
    #[arg(short, long, value_name = "TIME", value_parser = values::positive_duration)]
    duration: Option<Duration>,
    /// Time between snapshots
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = values::interval)]
    interval: Duration,
    #[command(flatten)]
    look: LookArgs,
    /// What to watch besides snapshots
    #[arg(long, value_enum, default_value_t)]
    probe: Probe,
    /// What leakprobe's programs in the kernel may cost, in percent of one core, or off: beyond that they are paused, dearest first
    #[arg(long, value_name = "PERCENT", default_value = "1%", value_parser = values::overhead)]
    max_overhead: values::Overhead,
    /// Size of the buffer between kernel and leakprobe; what does not fit is counted, and made good by the next snapshot
    #[arg(long, value_name = "BYTES", default_value = "8388608", value_parser = values::ring_bytes)]
    ring_size: u32,
}

#[derive(Clone, Debug, ClapArgs)]
pub(super) struct OutputArgs {
    /// Write to FILE, in the format of its extension: .svg .folded .json .txt .goroutines.txt .pb.gz .speedscope.json
    /// .pftrace .html .waits.svg .dot, and of checks .junit.xml .sarif .md; repeatable, - is stdout
    #[arg(short, long, value_name = "FILE")]
    output: Vec<PathBuf>,
    /// Format of stdout, and of outputs whose name does not tell: svg, folded, json, txt, goroutines-txt, pprof, speedscope,
    /// perfetto, html, waits-svg, dot, junit, sarif, markdown
    #[arg(long, value_name = "NAME")]
    format: Option<String>,
    /// Print the recording as JSON in place of the report
    #[arg(long)]
    json: bool,
    /// No report on stdout, no progress
    #[arg(short, long)]
    quiet: bool,
    /// Colours
    #[arg(long, value_enum, default_value_t)]
    color: Color,
    /// What the width of a flame graph's frame means
    #[arg(long, value_enum, default_value_t)]
    weight: Weight,
    /// Which stacks a flame graph shows
    #[arg(long, value_enum, default_value_t)]
    view: View,
    /// Which tasks to show
    #[arg(long, value_enum, default_value_t)]
    kind: Kind,
    /// Group by creator, site, wait, channel, label, label=KEY or thread-name: rows of the table, outermost frames of a flame
    /// graph
    #[arg(long, value_name = "WHAT", value_parser = values::group_by)]
    group_by: Option<GroupBy>,
    /// Show only tasks with a function, on their stack or their creator's, that REGEX matches; repeatable
    #[arg(short = 'I', long, value_name = "REGEX")]
    include: Vec<String>,
    /// Show no task with a function that REGEX matches; repeatable
    #[arg(short = 'X', long, value_name = "REGEX")]
    exclude: Vec<String>,
    /// Show the frames inside Go's runtime that its own dumps leave out
    #[arg(long)]
    all_frames: bool,
    /// Show of a stack at most N frames, the innermost
    #[arg(long, value_name = "N", value_parser = values::max_depth)]
    max_depth: Option<usize>,
    /// Show every site, every frame of a stack, and the Go runtime's own goroutines, not only the most telling ones
    #[arg(long)]
    all: bool,
}

impl Args {
    pub(super) fn resolve(self) -> Cli {
        let command = match self.action {
            Action::Attach { target, watch, output } => {
                Command::Attach { targets: target.resolve(), watch: watch.resolve(output) }
            }
            Action::Run { watch, output, command } => Command::Run { command, watch: watch.resolve(output) },
            Action::Snapshot { target, look, probe, output } => {
                let watch = WatchArgs {
                    follow_forks: false,
                    duration: None,
                    interval: Duration::from_secs(1),
                    look,
                    probe,
                    max_overhead: values::Overhead(None),
                    ring_size: 4096,
                };
                Command::Snapshot { targets: target.resolve(), watch: watch.resolve(output) }
            }
            Action::Report { file, explain, output } => Command::Report { file, explain, output: output.resolve() },
            Action::Diff { before, after, output } => Command::Diff { before, after, output: output.resolve() },
            Action::Ci(args) => Command::Ci(Box::new(args.resolve())),
            Action::Doctor { json } => Command::Doctor { json },
            Action::Demo { watch, output } => Command::Demo(watch.resolve(output)),
            Action::Selftest { go } => Command::Selftest(Selftest { go }),
            Action::Completions { shell } => Command::Completions(shell),
        };
        Cli { command, verbosity: self.verbose }
    }
}

impl WatchArgs {
    fn resolve(self, output: OutputArgs) -> Watch {
        Watch {
            duration: self.duration,
            options: Options {
                follow_forks: self.follow_forks,
                interval: self.interval,
                min_block: self.look.min_block_time,
                probe: self.probe,
                max_overhead: self.max_overhead.0,
                ring_bytes: self.ring_size,
                debug_info: !self.look.no_debuginfo,
                kernel_stacks: self.look.kernel_stacks,
            },
            output: output.resolve(),
        }
    }
}

impl OutputArgs {
    pub(super) fn resolve(self) -> Output {
        Output {
            files: self.output,
            format: self.format,
            json: self.json,
            quiet: self.quiet,
            color: self.color,
            weight: self.weight,
            view: self.view,
            kind: self.kind,
            group_by: self.group_by,
            include: self.include,
            exclude: self.exclude,
            all_frames: self.all_frames,
            max_depth: self.max_depth,
            all: self.all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_is_content() {
        command().debug_assert();
    }
}
