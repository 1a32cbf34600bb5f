//! The options of `ci`.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{ArgGroup, Args as ClapArgs};

use super::{
    Output,
    args::OutputArgs,
    values::{self, FailOn},
};
use crate::watch::{Options, Probe};

/// A check of a program by rounds of load.
#[derive(Clone, Debug, PartialEq)]
pub struct Ci {
    /// The program that is started for it; `None`: one that runs, [`Self::pid`].
    pub server: Option<Server>,
    /// Other processes that are judged as well.
    pub others: Vec<u32>,
    /// The load's command.
    pub load: Vec<OsString>,
    /// Rounds of load before the baseline.
    pub warmup: u32,
    /// Rounds of load that are judged.
    pub rounds: u32,
    /// Most rounds: so many are done while something that grew may still stop.
    pub max_rounds: u32,
    /// How often as many rounds are added before a leak is believed.
    pub retry: u32,
    /// For how long numbers must be level.
    pub settle: Duration,
    /// The longest time that is waited for that.
    pub settle_max: Duration,
    /// Requests in one round, if that is told.
    pub requests: Option<u64>,
    /// A pattern by which the load's output tells it.
    pub requests_from: Option<String>,
    /// Where the program's own profile of leaked goroutines is, if it is to be asked for that.
    pub go_leak_profile: Option<LeakProfile>,
    /// The verdict from which on it fails.
    pub fail_on: FailOn,
    /// Growth of a site that is tolerated, percent.
    pub max_growth_percent: f64,
    /// Most tasks at the end.
    pub max_tasks: Option<u64>,
    /// The share of tasks that must be seen, percent.
    pub min_coverage_percent: f64,
    /// A recording of what is known.
    pub baseline: Option<PathBuf>,
    /// Where to write this one as the next baseline.
    pub write_baseline: Option<PathBuf>,
    /// The rules, if they are not where they usually are.
    pub config: Option<PathBuf>,
    /// Where to write every report.
    pub artifacts: Option<PathBuf>,
    /// The site whose verdict is to be explained.
    pub explain: Option<String>,
    /// Whether leakprobe is to show first that it finds leaks on this machine.
    pub selftest: bool,
    /// The process id of the program that is checked; 0 if it is started for the check.
    pub pid: u32,
    /// How the program is watched.
    pub watch: Options,
    /// What becomes of the result.
    pub output: Output,
}

/// A program that is started for a check.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Its command.
    pub command: Vec<OsString>,
    /// How it tells that it is ready; `None`: its numbers of tasks become level.
    pub ready: Option<Ready>,
    /// How long that may take.
    pub ready_timeout: Duration,
    /// The signal that ends it.
    pub stop_signal: i32,
}

/// How a program tells that it is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// It accepts connections at `host:port`.
    Tcp(String),
    /// It answers a GET without an error: host and port, and the path.
    Http(String, String),
    /// It writes a line that fits this pattern.
    Line(String),
}

/// Where a Go program serves its `goroutineleak` profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeakProfile {
    /// Host and port.
    pub at: String,
    /// The path, with what is asked for.
    pub path: String,
}

/// Leaks of each kind that are planted and must be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selftest {
    /// The Go that builds the program which leaks goroutines.
    pub go: String,
}

#[derive(Clone, Debug, ClapArgs)]
#[command(group(ArgGroup::new("program").required(true).args(["pid", "exec"])))]
pub(super) struct CiArgs {
    /// The process to check, or several: 12,34. Each is judged by itself over the same rounds, and the worst counts
    #[arg(short, long, value_name = "PID", value_delimiter = ',', value_parser = values::pid)]
    pid: Vec<u32>,
    /// Check the processes that it has created, and will create, as well: the workers of pre-fork servers
    #[arg(long)]
    follow_forks: bool,
    /// Start this program for the check, and stop it afterwards; words and quotes as in a shell
    #[arg(long, value_name = "CMD", value_parser = values::command)]
    exec: Option<values::Words>,
    /// How the started program tells that it is ready: HOST:PORT that accepts connections, http:// URL that answers, or /REGEX/
    /// that a line of its output fits; the load finds what fits, or its first group, in LEAKPROBE_READY. Without it the load
    /// begins once the program's numbers are level
    #[arg(long, value_name = "WHEN", requires = "exec", value_parser = values::ready)]
    ready: Option<Ready>,
    /// How long that may take
    #[arg(long, value_name = "TIME", default_value = "60s", requires = "exec", value_parser = values::positive_duration)]
    ready_timeout: Duration,
    /// The signal that ends the started program; if it does not within 10s, SIGKILL does
    #[arg(long, value_name = "NAME", default_value = "TERM", requires = "exec", value_parser = values::signal)]
    stop_signal: i32,
    /// Rounds of load before the baseline, in which pools may fill
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=100))]
    warmup: u32,
    /// Rounds of load that are judged
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Go on up to N rounds while something that grew may still stop: pools fill up, leaks go on. A program in which nothing grows
    /// takes no more than --rounds
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
    max_rounds: u32,
    /// Before a leak is believed, do as many rounds again, up to N times: it must grow in those as well
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=20))]
    retry: u32,
    /// After each load wait until the numbers of threads and goroutines were level for this long
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = values::positive_duration)]
    settle: Duration,
    /// The longest time to wait for that
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::positive_duration)]
    settle_max: Duration,
    /// Requests that the load makes in one round, for rates
    #[arg(long, value_name = "N", conflicts_with = "requests_from")]
    requests: Option<u64>,
    /// Take that number from the load's output: the first group of REGEX, or all that it fits
    #[arg(long, value_name = "REGEX")]
    requests_from: Option<String>,
    /// Before each look ask the program's own Go runtime, by its goroutineleak profile at this http:// URL, to mark goroutines that
    /// can never wake: these are proven. Takes Go 1.27, or 1.26 with GOEXPERIMENT=goroutineleakprofile, and net/http/pprof; each
    /// time costs the program a garbage collection
    #[arg(long, value_name = "URL", value_parser = values::leak_profile)]
    go_leak_profile: Option<LeakProfile>,
    /// The verdict from which on the check fails
    #[arg(long, value_enum, default_value_t)]
    fail_on: FailOn,
    /// Growth over all rounds that is tolerated if it is not steady, of the number at the baseline
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = values::percent)]
    max_growth: f64,
    /// Fail if there are more threads and goroutines at the end
    #[arg(long, value_name = "N")]
    max_tasks: Option<u64>,
    /// The share of threads and goroutines that must have been seen; below it nothing is called clean (exit code 6)
    #[arg(long, value_name = "PERCENT", default_value = "95%", value_parser = values::percent)]
    min_coverage: f64,
    /// Accept what is known from this recording (.json) of an earlier check
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write the recording of this check to FILE, for --baseline
    #[arg(long, value_name = "FILE")]
    write_baseline: Option<PathBuf>,
    /// Rules: what to ignore and what to expect [default: leakprobe.toml in the working directory, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write every report to DIR: text, HTML, Markdown, JUnit, SARIF, recordings, flame graphs before, after and of the difference
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// Say after the report how the verdict on the site with this id came about; its first digits suffice
    #[arg(long, value_name = "SITE")]
    explain: Option<String>,
    /// First plant leaks of each kind and find them, so that a check that cannot see never passes
    #[arg(long)]
    selftest: bool,
    /// Time between snapshots while the load runs and numbers settle
    #[arg(short, long, value_name = "TIME", default_value = "500ms", value_parser = values::interval)]
    interval: Duration,
    /// Threads that have waited this long are judged
    #[arg(short, long, value_name = "TIME", default_value = "0s", value_parser = values::duration)]
    min_block_time: Duration,
    /// Do not read debug information: function names only, no lines, no inlined functions
    #[arg(long)]
    no_debuginfo: bool,
    /// What to watch besides snapshots; verdicts need no more than these
    #[arg(long, value_enum, default_value = "snapshot")]
    probe: Probe,
    #[command(flatten)]
    output: OutputArgs,
    /// The load: a command that ends by itself
    #[arg(required = true, last = true, value_name = "LOAD")]
    load: Vec<OsString>,
}

impl CiArgs {
    pub(super) fn resolve(self) -> Ci {
        let server = self.exec.map(|values::Words(command)| Server {
            command,
            ready: self.ready,
            ready_timeout: self.ready_timeout,
            stop_signal: self.stop_signal,
        });
        let mut pids = self.pid;
        pids.dedup();
        let others = pids.split_off(pids.len().min(1));
        Ci {
            server,
            others,
            load: self.load,
            warmup: self.warmup,
            rounds: self.rounds,
            max_rounds: self.max_rounds.max(self.rounds),
            retry: self.retry,
            settle: self.settle,
            // Numbers can be level for that time only if more than that is waited for.
            settle_max: if self.settle_max > self.settle { self.settle_max } else { self.settle.saturating_mul(2) },
            requests: self.requests,
            requests_from: self.requests_from,
            go_leak_profile: self.go_leak_profile,
            fail_on: self.fail_on,
            max_growth_percent: self.max_growth,
            max_tasks: self.max_tasks,
            min_coverage_percent: self.min_coverage,
            baseline: self.baseline,
            write_baseline: self.write_baseline,
            config: self.config,
            artifacts: self.artifacts,
            explain: self.explain,
            selftest: self.selftest,
            pid: pids.first().copied().unwrap_or(0),
            watch: Options {
                follow_forks: self.follow_forks,
                interval: self.interval,
                min_block: self.min_block_time,
                probe: self.probe,
                debug_info: !self.no_debuginfo,
                ..Options::default()
            },
            output: self.output.resolve(),
        }
    }
}
