//! `ci`: rounds of load on a program, and a verdict on what they leave behind.
//!
//! [`server`] starts the program and ends it, [`load`] runs the load, [`settle`] tells when numbers are level, [`phases`] does one
//! after the other, [`created`] looks at processes that the program has created,
//! [`leak_profile`] asks the program's Go runtime, [`artifacts`] writes the reports, [`github`]
//! tells GitHub Actions. The verdicts are those of [`analysis::judge`].

mod artifacts;
mod created;
pub(super) mod github;
mod http;
mod leak_profile;
mod lines;
mod load;
mod phases;
mod server;
mod settle;
mod work;

use std::path::Path;

use jiff::Zoned;

use super::{
    ExitCode, Failure,
    output::{Plan, pattern},
    session::Session,
    watch::{self, Observer},
};
use crate::{
    analysis::{self, Criteria, History, Terms},
    cli::{Ci, FailOn, Watch},
    config,
    model::{Check, CheckOutcome, Recording, Rule, Verdict},
    report::json,
};
use load::Load;
use phases::{Cut, Seen};
use server::Running;

/// By what names the load finds in its environment the process's id, and what fitted in the line by which a program that was started
/// for it was ready.
const PID: &str = "LEAKPROBE_PID";
/// See [`PID`].
const READY: &str = "LEAKPROBE_READY";
/// Where rules usually are.
const RULES: &str = "leakprobe.toml";

/// Checks a program.
pub(super) fn ci(options: &Ci) -> Result<ExitCode, Failure> {
    let plan = Plan::of(&options.watch.output, None)?;
    let rules = rules(options.config.as_deref())?;
    artifacts::check(options)?;
    if options.selftest {
        plan.say("self-test: planting leaks and looking for them");
        super::selftest::must_find_all()?;
    }
    let Checked { recording, baseline, cut_short } = checked(options, &rules, &plan)?;
    plan.write(std::slice::from_ref(&recording))?;
    github::tell(&recording, &plan);
    artifacts::write(options, &recording, baseline.as_ref(), &plan)?;
    let explained = options.explain.as_deref().map(|site| plan.explain(&recording, site));
    match cut_short {
        Some(Cut::NoTarget) => Err(Failure::new(
            ExitCode::NoTarget,
            format!(
                "{} (process {}) ended before a verdict was possible; what was seen until then is in the report",
                recording.target.comm, recording.target.pid
            ),
        )),
        _ => explained.transpose().map(|_| match recording.check.map(|check| check.outcome).unwrap_or_default() {
            CheckOutcome::Passed => ExitCode::Done,
            CheckOutcome::Failed => ExitCode::Leak,
            CheckOutcome::Incomplete => ExitCode::Incomplete,
        }),
    }
}

/// A check that was made.
pub(super) struct Checked {
    /// The end, with verdicts.
    pub(super) recording: Recording,
    /// Before the rounds.
    baseline: Option<Recording>,
    cut_short: Option<Cut>,
}

/// Makes a check, and writes nothing.
pub(super) fn checked(options: &Ci, rules: &[Rule], plan: &Plan) -> Result<Checked, Failure> {
    let known = options.baseline.as_deref().map(json::read).transpose()?;
    let requests_from = options.requests_from.as_deref().map(|text| pattern("--requests-from", text)).transpose()?;
    let load = Load {
        command: &options.load,
        requests: options.requests,
        requests_from,
        is_quiet: options.watch.output.quiet,
        environment: Vec::new(),
    };
    let (seen, at_end, stopped) = watched(options, load, plan)?;
    if let Some(how) = stopped {
        plan.say(&how);
    }
    let cut_short = seen.cut_short.clone();
    let (recording, baseline) = judged(options, seen, at_end, rules, known.as_ref());
    Ok(Checked { recording, baseline, cut_short })
}

/// Watches the program through all phases: what they brought, the recording of the end, and how the program that was started ended.
fn watched(options: &Ci, mut load: Load<'_>, plan: &Plan) -> Result<(Seen, Recording, Option<String>), Failure> {
    let Some(server) = &options.server else {
        let session = Session::open(&options.watch, true)?;
        load.environment = vec![(PID, options.watch.pid.to_string())];
        let phases = async |mut observer: Observer| phases::run(options, &load, &mut observer, plan).await;
        let (seen, recording) = watch::observe(session, &options.watch, || Ok(()), phases)?;
        return Ok((seen?, recording, None));
    };
    let mut running = Running::start(server, options.watch.output.quiet)?;
    let session = Session::open(&Watch { pid: running.pid(), ..options.watch.clone() }, true)?;
    running.go(server)?;
    let phases = async |mut observer: Observer| {
        running.wait_until_ready(server, &observer).await?;
        load.environment = vec![(PID, running.pid().to_string()), (READY, running.told().to_owned())];
        phases::run(options, &load, &mut observer, plan).await
    };
    let (seen, mut at_end) = watch::observe(session, &options.watch, || Ok(()), phases)?;
    let mut seen = seen?;
    if at_end.target.execs == 0 && running.could_not_begin() {
        // The child has said why, on the stderr that it shares with us.
        return Err(Failure::silent(ExitCode::Usage));
    }
    for recording in seen.baseline.iter_mut().chain(&mut seen.last).chain([&mut at_end]) {
        // The first was our doing.
        recording.target.execs = recording.target.execs.saturating_sub(1);
    }
    Ok((seen, at_end, Some(running.stop())))
}

/// The recording with its verdicts, and that of the baseline.
fn judged(
    options: &Ci,
    seen: Seen,
    at_end: Recording,
    rules: &[Rule],
    known: Option<&Recording>,
) -> (Recording, Option<Recording>) {
    let Seen { mut moments, before, rounds, created, leak_profile, baseline, last, cut_short } = seen;
    // Cut short: what was there at the end is told, but it is no round.
    let mut recording = match last {
        Some(last) if cut_short.is_none() => last,
        _ => at_end,
    };
    let mut incomplete = Vec::new();
    match &cut_short {
        Some(Cut::Stopped) => incomplete.push("it was stopped before all rounds were done".to_owned()),
        Some(Cut::NoTarget) => incomplete.push("the program ended before all rounds were done".to_owned()),
        Some(Cut::Load(how)) => incomplete.push(format!("{how}: whether it leaks is not told by that")),
        None => {}
    }
    let mut notes: Vec<String> = created.note().into_iter().collect();
    if let Some((number, _)) = rounds.iter().enumerate().rfind(|(_, round)| !round.settled) {
        let which = if number == 0 { "the baseline".to_owned() } else { format!("round {number}") };
        notes.push(format!(
            "the numbers were not level when {which} was looked at: give them more time by --settle-max"
        ));
    }
    if cut_short.is_some() {
        // Without an end that was waited for, numbers say nothing; what can never wake does.
        moments.clear();
    }
    incomplete.extend(leak_profile.problem());
    incomplete.extend(created.work().filter(|_| cut_short.is_none()));
    incomplete.extend(created.growth().filter(|_| cut_short.is_none()));
    let most = options.max_rounds.max(options.rounds) as usize;
    let power = analysis::power(&rounds, most, options.max_growth_percent).filter(|_| cut_short.is_none());
    recording.check = Some(Check {
        rounds,
        load: options.load.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        max_growth_percent: options.max_growth_percent,
        incomplete,
        notes,
        power,
        ..Check::default()
    });
    let criteria = Criteria { max_growth_percent: options.max_growth_percent, ..Criteria::default() };
    let history = History { moments: &moments, before: before.as_ref() };
    let judgements = analysis::judge(&recording, history, &criteria);
    if let (Some(check), Some(unexplained)) = (&mut recording.check, &judgements.unexplained) {
        check.incomplete.push(unexplained.clone());
    }
    analysis::tell(&mut recording, judgements);
    let terms = Terms {
        fail_on: match options.fail_on {
            FailOn::Proven => Verdict::Proven,
            FailOn::Likely => Verdict::Likely,
            FailOn::Suspect => Verdict::Suspect,
        },
        rules,
        today: Zoned::now().date(),
        baseline: known,
        max_tasks: options.max_tasks,
        min_coverage_percent: options.min_coverage_percent,
    };
    analysis::conclude(&mut recording, &terms);
    (recording, baseline)
}

fn rules(file: Option<&Path>) -> Result<Vec<Rule>, Failure> {
    let usual = Path::new(RULES);
    let file = match file {
        Some(file) => file,
        None if usual.exists() => usual,
        None => return Ok(Vec::new()),
    };
    config::read(file).map_err(|error| Failure::new(ExitCode::Usage, error.to_string()))
}
