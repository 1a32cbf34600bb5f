//! `selftest`: leaks of each kind are planted and must be found, on this very kernel and with these very privileges; and a healthy
//! pool beside them must not be. A check that cannot see never passes.

mod planted;

use std::{env, fs, io, path::PathBuf, process::Command, time::Duration};

use tempfile::TempDir;

use super::{ExitCode, Failure, ci, output::Plan, signals};
use crate::{
    cli::{self, Ci, FailOn, Output, Ready, Selftest, Server},
    model::{Recording, Site, TaskKind, Verdict},
    privilege,
    watch::{Options, Probe},
};

pub(super) use planted::{load, target};

/// What is planted: how it is called in the program, in words, and what must be said of it at least.
type Planted = (&'static str, &'static str, Verdict);

/// Threads, by their names: functions have none if our own binary was stripped.
const THREADS: [Planted; 7] = [
    ("st-condition", "condition never signalled", Verdict::Likely),
    ("st-join", "join on a thread that does not end", Verdict::Likely),
    ("st-sleeper", "polling thread for each request", Verdict::Likely),
    ("st-pipe", "reader of a pipe that is never closed", Verdict::Likely),
    ("st-deadlock", "two locks taken in different orders", Verdict::Proven),
    ("st-self", "lock taken again by who holds it", Verdict::Proven),
    ("st-gone", "lock whose holder has exited", Verdict::Proven),
];
/// The pool beside them.
const POOL: &str = "st-pool";

/// Goroutines, by the functions that create them.
const GOROUTINES: [Planted; 7] = [
    ("main.sendWithoutReceiver", "channel send with no receiver", Verdict::Likely),
    ("main.receiveWithoutSender", "receive from a channel on which nobody sends", Verdict::Likely),
    ("main.selectWithoutWayOut", "select without a way out", Verdict::Likely),
    ("main.waitGroupNeverZero", "WaitGroup that does not reach zero", Verdict::Likely),
    ("main.lockNeverReleased", "lock never released", Verdict::Likely),
    ("main.tickerNeverStopped", "ticker never stopped", Verdict::Likely),
    ("main.nilChannel", "nil channel", Verdict::Proven),
];
/// The pool beside them, by the function where its workers are.
const GO_POOL: &str = "main.worker";

const GO_SOURCE: &str = include_str!("planted.go");

/// The command: prints what was found.
pub(super) fn selftest(options: &Selftest) -> Result<ExitCode, Failure> {
    let found = run(&options.go)?;
    let mut text = String::new();
    for line in &found.lines {
        text += line;
        text.push('\n');
    }
    super::print(text.as_bytes())?;
    Ok(if found.missed.is_empty() { ExitCode::Done } else { ExitCode::Incomplete })
}

/// The same before a check.
///
/// # Errors
/// If something was not found: then a check means nothing.
pub(super) fn must_find_all() -> Result<(), Failure> {
    let found = run("go")?;
    if found.missed.is_empty() {
        return Ok(());
    }
    let what = format!(
        "the self-test failed, so that a check would mean nothing: {}; run `leakprobe selftest` and `leakprobe doctor`",
        found.missed.join(", ")
    );
    Err(Failure::new(ExitCode::Incomplete, what))
}

/// What the self-test brought.
#[derive(Default)]
struct Found {
    lines: Vec<String>,
    missed: Vec<String>,
}

impl Found {
    fn tell(&mut self, is_right: bool, what: &str, said: &str) {
        let mark = if is_right { "ok    " } else { "FAILED" };
        self.lines.push(format!("{mark}  {what}: {said}"));
        if !is_right {
            self.missed.push(format!("{what}: {said}"));
        }
    }

    /// Whether what was planted was found, and the pool was not.
    fn look(&mut self, recording: &Recording, planted: &[Planted], pool: &str, kind: TaskKind) {
        for (name, what, least) in planted {
            let site = recording.sites.iter().filter(|site| is_called(site, recording, name, kind));
            match site.max_by_key(|site| site.verdict) {
                Some(site) => self.tell(site.verdict >= *least, what, &said(site)),
                None => self.tell(false, what, "not seen"),
            }
        }
        let pools: Vec<&Site> = recording.sites.iter().filter(|site| is_called(site, recording, pool, kind)).collect();
        let count: u64 = pools.iter().map(|site| site.count).sum();
        let worst = pools.iter().map(|site| site.verdict).max().unwrap_or_default();
        let what = if kind == TaskKind::Thread { "a healthy pool of threads" } else { "a healthy pool of goroutines" };
        self.tell(count == 4 && worst == Verdict::Idle, what, &format!("{} ({count})", worst.name()));
    }
}

fn said(site: &Site) -> String {
    format!("{} ({})", if site.verdict == Verdict::Unjudged { "not judged" } else { site.verdict.name() }, site.count)
}

fn is_called(site: &Site, recording: &Recording, name: &str, kind: TaskKind) -> bool {
    if site.task != kind {
        return false;
    }
    if kind == TaskKind::Thread {
        return site.names.iter().any(|thread| thread == name);
    }
    let mut frames = site.creation.iter().chain(&site.stack).filter_map(|&index| recording.frames.get(index as usize));
    frames.any(|frame| frame.function == name)
}

/// Plants everything and looks for it.
fn run(go: &str) -> Result<Found, Failure> {
    let own = env::current_exe().map_err(|error| {
        Failure::new(ExitCode::Failed, format!("cannot find our own file: {error}; is /proc mounted?"))
    })?;
    let mut found = Found::default();
    let load = vec![own.clone().into(), cli::SELFTEST_LOAD.into()];
    let threads = check(vec![own.into(), cli::SELFTEST_TARGET.into()], load.clone())?;
    found.look(&threads, &THREADS, POOL, TaskKind::Thread);
    match build(go) {
        Ok(built) => {
            let goroutines = check(vec![built.path.into()], load)?;
            found.look(&goroutines, &GOROUTINES, GO_POOL, TaskKind::Goroutine);
        }
        Err(why) => found.lines.push(format!("-       goroutines were not tested: {why}")),
    }
    Ok(found)
}

/// A check like those of users, of one of our programs.
fn check(command: Vec<std::ffi::OsString>, load: Vec<std::ffi::OsString>) -> Result<Recording, Failure> {
    let ready = Some(Ready::Line(r"listening on (\S+)".to_owned()));
    let server = Server { command, ready, ready_timeout: Duration::from_secs(60), stop_signal: libc::SIGKILL };
    let output = Output { quiet: true, ..Output::default() };
    let watch = Options {
        interval: Duration::from_millis(100),
        min_block: Duration::ZERO,
        probe: Probe::Snapshot,
        max_overhead: None,
        ring_bytes: 1 << 20,
        debug_info: false,
        ..Options::default()
    };
    let options = Ci {
        server: Some(server),
        others: Vec::new(),
        load,
        warmup: 1,
        rounds: 3,
        max_rounds: 4,
        retry: 0,
        settle: Duration::from_millis(300),
        settle_max: Duration::from_secs(20),
        requests: None,
        requests_from: None,
        go_leak_profile: None,
        fail_on: FailOn::Likely,
        max_growth_percent: 5.0,
        max_tasks: None,
        min_coverage_percent: 95.0,
        baseline: None,
        write_baseline: None,
        config: None,
        artifacts: None,
        explain: None,
        selftest: false,
        pid: 0,
        watch,
        output,
    };
    let plan = Plan::of(&options.output, None)?;
    let checked = ci::checked(&options, &[], &plan)?;
    // What was planted may not have been there yet.
    if signals::is_interrupted() { Err(signals::interrupted()) } else { Ok(checked.recording) }
}

/// The Go program; its directory goes with it.
struct Built {
    path: PathBuf,
    _directory: TempDir,
}

/// Builds it by the Go that there is, which needs nothing from the network.
fn build(go: &str) -> Result<Built, String> {
    let _rights = privilege::for_programs();
    let failed = |error: io::Error| format!("cannot build the program: {error}");
    let directory = tempfile::tempdir().map_err(failed)?;
    let source = directory.path().join("planted.go");
    fs::write(&source, GO_SOURCE).map_err(failed)?;
    let path = directory.path().join("planted");
    let mut command = Command::new(go);
    command.args(["build", "-o"]).arg(&path).arg(&source).current_dir(directory.path());
    command.envs([("GOTOOLCHAIN", "local"), ("GO111MODULE", "off"), ("GOFLAGS", "")]);
    if env::var_os("HOME").is_none() && env::var_os("GOCACHE").is_none() {
        command.env("GOCACHE", directory.path().join("cache"));
    }
    super::limits::as_before(&mut command);
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no `{go}` to build the program with"),
        _ => format!("cannot start {go}: {error}"),
    })?;
    if output.status.success() {
        return Ok(Built { path, _directory: directory });
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{go} did not build the program: {}", said.lines().next_back().unwrap_or("it did not say why")))
}
