//! One check of a program of the corpus by `leakprobe ci`.

use std::fmt;

use leakprobe::{
    model::{CheckOutcome, Recording, Site, Verdict},
    report::json,
};

use crate::{
    marks::{Kind, Line, lines},
    support::{Ended, leakprobe, stack_of},
    table::{Case, Table},
};

/// Requests in a round, and rounds; most rounds where something that grew may still stop.
pub(crate) const REQUESTS: usize = 6;
const ROUNDS: usize = 3;
const MAX_ROUNDS: usize = 5;

/// What was said of a program.
pub(crate) struct Said {
    verdict: Verdict,
    pattern: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}", self.verdict.name(), self.pattern)
    }
}

fn check(table: &Table, case: &Case, variant: &str) -> (Ended, Recording) {
    // A pool is full after as many requests at a time as it takes; with one at a time, it has one.
    let (requests, at_a_time) = match variant {
        "healthy" => (64, 16),
        "restless" => (1, 1),
        _ => (REQUESTS, 1),
    };
    let load = table.load(case, requests, at_a_time);
    let server = shlex::try_join(table.start(case, variant).iter().map(String::as_str)).unwrap();
    let ready = r"/listening on (\S+)/";
    let (rounds, most) = (ROUNDS.to_string(), MAX_ROUNDS.to_string());
    let ended = leakprobe([
        "ci",
        "--exec",
        &server,
        "--ready",
        ready,
        "--rounds",
        &rounds,
        "--max-rounds",
        &most,
        "--settle",
        "700ms",
        "--settle-max",
        "15s",
        "-i",
        "150ms",
        "--stop-signal",
        "KILL",
        "--requests-from",
        r"^(\d+) requests",
        "-o",
        "recording.json",
        "--",
        "/bin/sh",
        "-c",
        &format!("exec {load}"),
    ]);
    let recording = json::read(&ended.directory.path().join("recording.json"));
    let recording = recording.unwrap_or_else(|error| panic!("{} {}: {error}: {ended:?}", case.language, case.name));
    (ended, recording)
}

/// Checks the leaking variant.
pub(crate) fn leaking(table: &Table, case: &Case) -> Said {
    let (ended, recording) = check(table, case, "leak");
    let (park, beside) = (lines(Kind::Parks, case), lines(Kind::Beside, case));
    let beside_in: Vec<&str> = case.beside.iter().map(String::as_str).collect();
    let found: Vec<&Site> = recording
        .sites
        .iter()
        .filter(|site| is_at(&recording, site, &park, case.parks.as_deref().as_slice()))
        .collect();
    let what = || format!("{} {}: {}", case.language, case.name, ended.stdout);
    let least = if case.verdict == "proven" { Verdict::Proven } else { Verdict::Likely };
    assert!(!found.is_empty(), "nothing at the marked lines of {}", what());
    let worst = found.iter().map(|site| site.verdict).min().unwrap();
    assert!(worst >= least, "{} of {}", worst.name(), what());
    assert_eq!((ended.code, recording.check.as_ref().unwrap().outcome), (Some(1), CheckOutcome::Failed), "{}", what());
    let counts = |place: fn(&[u64]) -> Option<&u64>| -> u64 {
        found.iter().filter_map(|site| place(&site.course.as_ref()?.counts)).sum()
    };
    let rounds = recording.check.as_ref().unwrap().rounds.len() - 1;
    let leaked = (rounds * REQUESTS * case.tasks / case.every) as u64;
    assert_eq!(counts(<[u64]>::last) - counts(<[u64]>::first), leaked, "{}", what());
    for site in &recording.sites {
        let is_expected = is_at(&recording, site, &park, case.parks.as_deref().as_slice())
            || is_at(&recording, site, &beside, &beside_in);
        assert!(site.verdict < Verdict::Likely || is_expected, "also {} of {}", site.id, what());
    }
    let pattern = found[0].finding.as_ref().map_or("", |finding| &finding.pattern);
    assert_eq!(pattern, case.pattern, "{}", what());
    created_where_marked(&recording, &found, case, &what());
    Said { verdict: worst, pattern: pattern.to_owned() }
}

/// Checks a variant that leaks nothing: the worst that was said.
pub(crate) fn healthy(table: &Table, case: &Case, variant: &str) -> Said {
    let (ended, recording) = check(table, case, variant);
    // None at all if everything that there is ran.
    let worst = recording.sites.iter().map(|site| site.verdict).max().unwrap_or(Verdict::Idle);
    let what = || format!("{} {} ({variant}): {}{}", case.language, case.name, ended.stdout, ended.stderr);
    assert!(worst < Verdict::Likely, "{} of {}", worst.name(), what());
    assert_eq!((ended.code, recording.check.as_ref().unwrap().outcome), (Some(0), CheckOutcome::Passed), "{}", what());
    Said { verdict: worst, pattern: String::new() }
}

/// Checks a program that leaves goroutines behind that never wait: how many are said to be leaked, by their creator.
pub(crate) fn restless(table: &Table, case: &Case) -> Vec<(u64, String)> {
    let (ended, recording) = check(table, case, "restless");
    let check = recording.check.as_ref().unwrap();
    assert_eq!((ended.code, check.outcome), (Some(1), CheckOutcome::Failed), "{ended:?}");
    let found = recording.sites.iter().filter(|site| site.verdict == Verdict::Likely);
    let creator = |site: &Site| stack_of(&recording, &site.creation)[0].function.clone();
    found.map(|site| (site.count, creator(site))).collect()
}

fn created_where_marked(recording: &Recording, found: &[&Site], case: &Case, what: &str) {
    let lines = lines(Kind::Creates, case);
    if lines.is_empty() && case.creates.is_none() {
        return;
    }
    for site in found {
        let is_so = match own_line(recording, &site.creation) {
            Some(line) => lines.contains(&line),
            None => {
                stack_of(recording, &site.creation).first().map(|frame| frame.function.as_str())
                    == case.creates.as_deref()
            }
        };
        assert!(is_so, "created elsewhere: site {} of {what}", site.id);
    }
}

/// Whether a site is at one of these lines by its innermost frame of the program's own, or in one of these functions.
fn is_at(recording: &Recording, site: &Site, lines: &[Line], functions: &[&str]) -> bool {
    own_line(recording, &site.stack).is_some_and(|line| lines.contains(&line))
        || stack_of(recording, &site.stack).iter().any(|frame| functions.contains(&&*frame.function))
}

/// The line of the innermost frame that is in the corpus.
fn own_line(recording: &Recording, stack: &[u32]) -> Option<Line> {
    stack_of(recording, stack).into_iter().find_map(|frame| {
        let (_, file) = frame.file.as_deref()?.rsplit_once("tests/corpus/")?;
        Some((file.to_owned(), frame.line?))
    })
}
