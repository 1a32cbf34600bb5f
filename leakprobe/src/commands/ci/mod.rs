//! `ci`: rounds of load on a program, and a verdict on what they leave behind.
//!
//! [`server`] starts the program and ends it, [`load`] runs the load, [`settle`] tells when numbers are level, [`phases`] does one
//! after the other, [`created`] looks at processes that the program has created,
//! [`workers`] follows the other processes that are judged, [`work`] tells who did the work, [`leak_profile`] asks the program's Go runtime, [`artifacts`] writes the reports, [`github`]
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
mod workers;

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use jiff::Zoned;

use super::{
    ExitCode, Failure,
    output::{Plan, pattern},
    watching,
};
use crate::{
    analysis::{self, Criteria, History, Terms},
    cli::{Ci, FailOn},
    config,
    model::{Check, CheckOutcome, Recording, Rule, Verdict},
    report::json,
    watch::{self, Hub, MAX_PROCESSES, Observer, Session},
};
use load::Load;
use phases::{Cut, Seen};
use server::Running;
use workers::Workers;

/// By what names the load finds in its environment the process's id, and what fitted in the line by which a program that was started
/// for it was ready.
const PID: &str = "LEAKPROBE_PID";
/// See [`PID`].
const READY: &str = "LEAKPROBE_READY";
/// Where rules usually are.
const RULES: &str = "leakprobe.toml";

/// Checks a program.
pub(super) fn ci(options: &Ci) -> Result<ExitCode, Failure> {
    let plan = Plan::of(&options.output, None)?;
    let rules = rules(options.config.as_deref())?;
    artifacts::check(options, &plan)?;
    if options.selftest {
        plan.say("self-test: planting leaks and looking for them");
        super::selftest::must_find_all()?;
    }
    let Checked { recording, baseline, others, cut_short } = checked(options, &rules, &plan)?;
    let mut recordings = vec![recording];
    let mut baselines = vec![baseline];
    for (recording, baseline) in others {
        recordings.push(recording);
        baselines.push(baseline);
    }
    // What cannot be written does not cost the rest.
    let mut written = plan.write(&recordings);
    let (outcome, worst) = worst(&recordings);
    for (place, (recording, baseline)) in recordings.iter().zip(&baselines).enumerate() {
        github::tell(recording, &plan);
        let for_later = options.write_baseline.as_deref();
        let known = for_later.map_or(Ok(()), |path| artifacts::write_baseline(path, recording, place > 0, &plan));
        // Whoever looks at one file alone must see what failed.
        written =
            written.and(known).and(artifacts::write(options, recording, baseline.as_ref(), place != worst, &plan));
    }
    if let Some(Err(failure)) = options.explain.as_deref().map(|site| explain(&recordings, site, &plan)) {
        // The site may be gone because it was mended.
        tracing::warn!("{failure}");
    }
    written?;
    summarize(&recordings, outcome, &plan)?;
    if matches!(cut_short, Some(Cut::NoTarget)) {
        let target = &recordings[0].target;
        return Err(Failure::new(
            ExitCode::NoTarget,
            format!(
                "{} (process {}) ended before a verdict was possible; what was seen until then is in the report",
                target.comm, target.pid
            ),
        ));
    }
    Ok(match outcome {
        CheckOutcome::Passed => ExitCode::Done,
        CheckOutcome::Failed => ExitCode::Leak,
        CheckOutcome::Incomplete => ExitCode::Incomplete,
    })
}

/// Explains the site of the first process that has it.
fn explain(recordings: &[Recording], site: &str, plan: &Plan) -> Result<(), Failure> {
    let has = |recording: &&Recording| recording.sites.iter().any(|own| own.id.starts_with(site));
    recordings.iter().find(has).or(recordings.first()).map_or(Ok(()), |recording| plan.explain(recording, site))
}

/// What a process came to.
fn outcome(recording: &Recording) -> CheckOutcome {
    recording.check.as_ref().map(|check| check.outcome).unwrap_or_default()
}

/// The outcome that counts, and the first process that has it: a leak, or else what is not known, of whichever process.
fn worst(recordings: &[Recording]) -> (CheckOutcome, usize) {
    let first = |wanted: CheckOutcome| recordings.iter().position(|recording| outcome(recording) == wanted);
    let order = [CheckOutcome::Failed, CheckOutcome::Incomplete];
    let worst = order.into_iter().find_map(|wanted| Some((wanted, first(wanted)?)));
    worst.unwrap_or((CheckOutcome::Passed, 0))
}

/// Says of several processes in one line what they come to together, and which of them have it.
fn summarize(recordings: &[Recording], worst: CheckOutcome, plan: &Plan) -> Result<(), Failure> {
    if recordings.len() < 2 {
        return Ok(());
    }
    let of = recordings.iter().filter(|recording| outcome(recording) == worst);
    let pids: Vec<String> = of.map(|recording| recording.target.pid.to_string()).collect();
    let (worst, all) = (worst.name().to_uppercase(), recordings.len());
    let line = format!("{worst}: {} of {all} processes ({})", pids.len(), pids.join(", "));
    if plan.has_text_on_stdout() {
        super::print(format!("\n{line}\n").as_bytes())?;
    } else {
        plan.say(&line);
    }
    Ok(())
}

/// A check that was made.
pub(super) struct Checked {
    /// The end, with verdicts.
    pub(super) recording: Recording,
    /// Before the rounds.
    baseline: Option<Recording>,
    /// The same of each of the other processes that were judged.
    others: Vec<(Recording, Option<Recording>)>,
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
        is_quiet: options.output.quiet,
        environment: Vec::new(),
    };
    let Watched { mut seen, at_end, workers, single, stopped } = watched(options, load, plan)?;
    seen.created.single = single.len();
    if let Some(how) = stopped {
        plan.say(&how);
    }
    let cut_short = seen.cut_short.clone();
    let mut pids: HashSet<u32> = workers.iter().map(|(_, at_end)| at_end.target.pid).collect();
    pids.insert(at_end.target.pid);
    pids.extend(&single);
    let judge = |seen, at_end| judged(options, seen, at_end, &pids, rules, known.as_ref());
    let (recording, baseline) = judge(seen, at_end);
    let of_worker = |(seen, at_end)| judge(Seen { cut_short: cut_short.clone(), ..seen }, at_end);
    let others = workers.into_iter().map(of_worker).collect();
    Ok(Checked { recording, baseline, others, cut_short })
}

/// What came of watching a program through all phases.
struct Watched {
    seen: Seen,
    /// The end.
    at_end: Recording,
    /// The same of the other processes that lived through a round at least.
    workers: Vec<(Seen, Recording)>,
    /// See [`Workers::single`].
    single: Vec<u32>,
    /// How the program ended that was started.
    stopped: Option<String>,
}

/// Watches the program through all phases.
fn watched(options: &Ci, mut load: Load<'_>, plan: &Plan) -> Result<Watched, Failure> {
    let Some(server) = &options.server else {
        let (named, family) = others(options);
        let count = 1 + named.len() + family.len();
        let hub = watching::hub(&options.watch, (count == 1).then_some(options.pid), true);
        if named.len() >= MAX_PROCESSES {
            let what = format!("at most {MAX_PROCESSES} processes are checked at once; name fewer with -p");
            return Err(Failure::new(ExitCode::Usage, what));
        }
        let session = Session::open(&hub, options.pid)?;
        let mut others = Session::open_all(&hub, &named).into_iter().collect::<Result<Vec<_>, _>>()?;
        others.extend(opened_of_family(&hub, &family, MAX_PROCESSES - 1 - named.len()));
        load.environment = vec![(PID, options.pid.to_string())];
        let phases = async |mut observer: Observer, others| {
            let mut workers = Workers::new(others);
            let seen = phases::run(options, &load, &mut observer, &mut workers, plan).await;
            seen.map(|seen| (seen, workers))
        };
        let (seen, ends) = watch::observe::<_, Failure>(session, others, phases)?;
        let (mut seen, workers) = seen?;
        let lives = |place| ends.others.contains_key(&(place + 1));
        seen.gone = named.into_iter().enumerate().filter(|&(place, _)| !lives(place)).map(|(_, pid)| pid).collect();
        let (single, workers) = (workers.single(), workers.judged(ends.others));
        return Ok(Watched { seen, at_end: ends.first, workers, single, stopped: None });
    };
    let mut running = Running::start(server, options.output.quiet)?;
    let hub = watching::hub(&options.watch, Some(running.pid()), true);
    let session = Session::open(&hub, running.pid())?;
    running.go(server)?;
    let phases = async |mut observer: Observer, others| {
        running.wait_until_ready(server, &observer).await?;
        load.environment = vec![(PID, running.pid().to_string()), (READY, running.told().to_owned())];
        let mut workers = Workers::new(others);
        let seen = phases::run(options, &load, &mut observer, &mut workers, plan).await;
        seen.map(|seen| (seen, workers))
    };
    let (seen, ends) = watch::observe::<_, Failure>(session, Vec::new(), phases)?;
    let (mut seen, workers) = seen?;
    let mut at_end = ends.first;
    if at_end.target.execs == 0 && running.could_not_begin() {
        // The child has said why, on the stderr that it shares with us.
        return Err(Failure::silent(ExitCode::Usage));
    }
    for recording in seen.baseline.iter_mut().chain(&mut seen.last).chain([&mut at_end]) {
        // The first was our doing.
        recording.target.execs = recording.target.execs.saturating_sub(1);
    }
    let (single, workers) = (workers.single(), workers.judged(ends.others));
    Ok(Watched { seen, at_end, workers, single, stopped: Some(running.stop()) })
}

/// The other processes that are to be judged and run already: those that are named, and what all of them have created.
fn others(options: &Ci) -> (Vec<u32>, Vec<u32>) {
    let first = options.pid;
    let mut known = HashSet::from([first]);
    let named: Vec<u32> = options.others.iter().copied().filter(|pid| known.insert(*pid)).collect();
    let roots = || [&[first], &*named].concat();
    let family = if options.watch.follow_forks { work::family(&roots()) } else { BTreeMap::new() };
    let family = family.into_keys().filter(|pid| known.insert(*pid)).collect();
    (named, family)
}

/// Begins to watch `most` of them. Those that have ended meanwhile, or may not be watched, are reported and left out.
fn opened_of_family(hub: &Hub, pids: &[u32], most: usize) -> Vec<Session> {
    let too_many = pids.len().saturating_sub(most);
    if too_many > 0 {
        tracing::warn!("{too_many} processes are not judged: at most {MAX_PROCESSES} are watched at once");
    }
    let opened = Session::open_all(hub, pids.get(..most).unwrap_or(pids)).into_iter();
    opened.filter_map(|opened| opened.inspect_err(|error| tracing::warn!("{error}")).ok()).collect()
}

/// The recording with its verdicts, and that of the baseline. `pids` are the processes of which there are verdicts.
fn judged(
    options: &Ci,
    seen: Seen,
    at_end: Recording,
    pids: &HashSet<u32>,
    rules: &[Rule],
    known: Option<&Recording>,
) -> (Recording, Option<Recording>) {
    let Seen { mut moments, before, rounds, created, leak_profile, baseline, last, gone, cut_short } = seen;
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
    incomplete.extend(
        gone.iter()
            .filter(|_| cut_short.is_none())
            .map(|pid| format!("process {pid} ended before all rounds were done, and was to be judged as well")),
    );
    let mut notes: Vec<String> =
        created.note(pids, options.watch.follow_forks).into_iter().chain(created.note_of_single()).collect();
    let untouched = created.untouched().filter(|_| cut_short.is_none());
    let can_find = cut_short.is_none() && untouched.is_none();
    notes.extend(untouched);
    let uncounted = rounds.iter().skip(1).filter(|round| round.requests.is_none()).count();
    if uncounted > 0 && options.requests_from.is_some() {
        let rounds = rounds.len() - 1;
        notes.push(format!(
            "the load's output had no number that fits --requests-from in {uncounted} of {rounds} rounds: rates are those of rounds"
        ));
    }
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
    incomplete.extend(created.work(pids, options.watch.follow_forks).filter(|_| cut_short.is_none()));
    let follows = options.watch.follow_forks && cut_short.is_none();
    incomplete.extend(created.missed(pids).filter(|_| follows));
    incomplete.extend(created.too_new(pids).filter(|_| follows));
    incomplete.extend(created.growth().filter(|_| cut_short.is_none()));
    let replaced = replaced(baseline.as_ref(), &recording).filter(|_| cut_short.is_none());
    let can_find = can_find && replaced.is_none();
    incomplete.extend(replaced);
    let most = options.max_rounds.max(options.rounds) as usize;
    let power = analysis::power(&rounds, most, options.max_growth_percent).filter(|_| can_find);
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

/// That the process began another program since the baseline, if it did: its tasks ended then, leaked ones among them.
fn replaced(baseline: Option<&Recording>, last: &Recording) -> Option<String> {
    let execs = last.target.execs.saturating_sub(baseline?.target.execs);
    let times = if execs == 1 { "once".to_owned() } else { format!("{execs} times") };
    (execs > 0).then(|| {
        format!(
            "it began another program {times} after the baseline (exec), which ends all threads: what the rounds before had left \
             behind is not known; check it without restarts"
        )
    })
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
