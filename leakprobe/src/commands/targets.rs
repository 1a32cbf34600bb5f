//! Which processes are meant, and taking hold of them.

use std::path::Path;

use regex::Regex;

use super::{ExitCode, Failure, output::pattern, signals, watching};
use crate::{
    cli::Targets,
    target::{Pattern, TargetError, containers, containers_that_run, group_path, silent_processes},
    watch::{ErrorKind, MAX_PROCESSES, Options, Session},
};

/// Processes that do not answer and are named each.
const MOST_NAMED: usize = 3;

/// Takes hold of all processes that `targets` names. Of several, those that have ended meanwhile, or may not be watched, are
/// told and left out, unless that leaves none.
pub(super) fn open(targets: &Targets, options: &Options, events: bool) -> Result<Vec<Session>, Failure> {
    let pattern = pattern_of(targets)?;
    let pids = ids(targets, &pattern)?;
    let only = if let [pid] = *pids { Some(pid) } else { None };
    let hub = watching::hub(options, only, events);
    let mut sessions = Vec::new();
    let mut failures = Vec::new();
    let mut unopened = 0;
    for (&pid, opened) in pids.iter().zip(Session::open_all(&hub, &pids)) {
        match opened {
            // The process is held now: what it is like it stays, and an id that came to be another's in between is found out.
            Ok(_) if targets.pids.is_empty() && !pattern.matches(pid) => {}
            Ok(session) => sessions.push(session),
            Err(error) if error.kind() == ErrorKind::Stopped => unopened += 1,
            Err(error) => failures.push(Failure::from(error)),
        }
    }
    if unopened > 0 {
        if sessions.is_empty() {
            return Err(signals::interrupted());
        }
        tracing::warn!("interrupted: {unopened} of {} processes were not looked at", pids.len());
    }
    if sessions.is_empty() {
        return Err(failures.into_iter().next().unwrap_or_else(|| nobody(targets)));
    }
    failures.iter().for_each(|error| tracing::warn!("{error}"));
    Ok(sessions)
}

fn pattern_of(targets: &Targets) -> Result<Pattern, Failure> {
    let compile = |option: &str, text: &Option<String>| -> Result<Option<Regex>, Failure> {
        text.as_ref().map(|text| pattern(option, text)).transpose()
    };
    let containers = targets.container.as_ref().map(|given| {
        containers::resolve(given, &containers_that_run(), Path::new("/"))
            .map_err(|error| Failure::new(ExitCode::NoTarget, error.to_string()))
    });
    // The file is at the root of version 2, wherever that is mounted.
    let is_v2 = Path::new("/sys/fs/cgroup/cgroup.procs").exists();
    Ok(Pattern {
        comm: compile("--comm", &targets.comm)?,
        exe: compile("--exe", &targets.exe)?,
        cgroup: targets.cgroup.as_ref().map(|given| group_path(given, is_v2)),
        containers: containers.transpose()?,
    })
}

fn ids(targets: &Targets, pattern: &Pattern) -> Result<Vec<u32>, Failure> {
    let pids = if targets.pids.is_empty() { found(pattern) } else { targets.pids.clone() };
    if pids.len() > MAX_PROCESSES {
        let what = format!(
            "{} are {} processes, and at most {MAX_PROCESSES} can be watched at once; name fewer",
            words(targets),
            pids.len()
        );
        return Err(Failure::new(ExitCode::Usage, what));
    }
    if pids.is_empty() { Err(nobody(targets)) } else { Ok(pids) }
}

/// The processes that match `pattern`. Warns of those that do not answer, which may match as well.
fn found(pattern: &Pattern) -> Vec<u32> {
    let pids = pattern.find();
    let silent = silent_processes();
    silent.iter().take(MOST_NAMED).for_each(|&pid| tracing::warn!("{}", TargetError::Silent(pid)));
    if silent.len() > MOST_NAMED {
        tracing::warn!("{} more processes do not answer, and were not looked at", silent.len() - MOST_NAMED);
    }
    pids
}

fn nobody(targets: &Targets) -> Failure {
    Failure::new(ExitCode::NoTarget, format!("no process matches {}; `ps -e` lists those that run", words(targets)))
}

/// What was asked for, as on the command line.
fn words(targets: &Targets) -> String {
    let pids: Vec<String> = targets.pids.iter().map(u32::to_string).collect();
    let mut words = Vec::new();
    let mut word = |option: &str, value: Option<&str>| words.extend(value.map(|value| format!("{option} {value}")));
    word("-p", (!pids.is_empty()).then(|| pids.join(",")).as_deref());
    word("--comm", targets.comm.as_deref());
    word("--exe", targets.exe.as_deref());
    word("--cgroup", targets.cgroup.as_deref());
    word("--container", targets.container.as_deref());
    words.join(" ")
}
