//! One check of a program by `leakprobe ci`, and whether what it said is right.

use std::{fmt, fs, os::unix::ffi::OsStrExt, path::PathBuf};

use leakprobe::{
    model::{Recording, Site, Verdict},
    report::json,
};
use regex::Regex;

use crate::{
    support::{Ended, functions, leakprobe},
    table::{Case, Is, Table, Unit},
};

/// What was said of a program.
pub(crate) struct Said {
    pub(crate) verdict: Verdict,
    pattern: String,
    /// What of it is not right, a sentence each.
    pub(crate) wrong: Vec<String>,
    /// The report.
    pub(crate) report: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_right = if self.wrong.is_empty() { "right" } else { "WRONG" };
        write!(f, "{}\t{}\t{is_right}", self.verdict.name(), self.pattern)
    }
}

/// Tasks that one verdict is on, whatever they are grouped by.
struct Judged {
    verdict: Verdict,
    pattern: String,
    /// Where they are, and where they were created.
    functions: Vec<String>,
    label: String,
}

/// Checks a program.
pub(crate) fn check(table: &Table, case: &Case) -> Said {
    let (ended, recordings) = run(table, case);
    let sites = recordings.iter().flat_map(|recording| recording.sites.iter().map(move |site| (recording, site)));
    let judged: Vec<Judged> = sites.map(|(recording, site)| of_site(recording, site)).collect();
    let is_expected = |one: &&Judged| one.functions.iter().any(|name| case.is_place(name));
    let expected: Vec<&Judged> = judged.iter().filter(is_expected).collect();
    let worst_of = |judged: &[&Judged]| judged.iter().map(|one| one.verdict).max().unwrap_or_default();
    let mut wrong = Vec::new();

    let exits: &[i32] = match case.is {
        _ if !case.exit.is_empty() => &case.exit,
        Is::Leak => &[1],
        Is::Healthy | Is::Undecided => &[0],
    };
    if !ended.code.is_some_and(|code| exits.contains(&code)) {
        wrong.push(format!("exit code {:?} in place of {exits:?}", ended.code));
    }
    let least = case.least.unwrap_or(if case.is == Is::Leak { Verdict::Likely } else { Verdict::Unjudged });
    let worst = worst_of(&expected);
    if worst < least {
        wrong.push(format!("'{}' of {:?} {:?} in place of {}", worst.name(), case.at, case.by, least.name()));
    }
    let accused: Vec<&Judged> = judged.iter().filter(|one| one.verdict >= Verdict::Likely).collect();
    for one in &accused {
        if case.is == Is::Healthy || !is_expected(one) {
            wrong.push(format!("{} is called {}", one.label, one.verdict.name()));
        }
    }
    let found: Vec<&&Judged> = accused.iter().filter(|one| is_expected(one)).collect();
    for one in &found {
        if !case.patterns.is_empty() && !case.patterns.contains(&one.pattern) {
            wrong.push(format!("{} is said to be '{}', not one of {:?}", one.label, one.pattern, case.patterns));
        }
    }
    if case.unit == Some(Unit::Creator) && found.len() > 1 {
        wrong.push(format!("one leak is reported {} times", found.len()));
    }
    let report = format!("{}{}", ended.stdout, ended.stderr);
    wrong.extend(words(case, &report));
    let shown: Vec<&Judged> = judged.iter().collect();
    Said {
        verdict: if case.is == Is::Healthy { worst_of(&shown) } else { worst },
        pattern: found.first().map_or_else(String::new, |one| one.pattern.clone()),
        wrong,
        report,
    }
}

/// What the report does not say, or should not.
fn words(case: &Case, report: &str) -> Vec<String> {
    let says = |expression: &String| Regex::new(expression).unwrap().is_match(report);
    let missing = case.says.iter().filter(|expression| !says(expression));
    let too_much = case.never.iter().filter(|expression| says(expression));
    let missing = missing.map(|expression| format!("the report does not say /{expression}/"));
    missing.chain(too_much.map(|expression| format!("the report says /{expression}/"))).collect()
}

fn of_site(recording: &Recording, site: &Site) -> Judged {
    let stack = functions(recording, &site.stack);
    let creation = functions(recording, &site.creation);
    Judged {
        verdict: site.verdict,
        pattern: site.finding.as_ref().map_or_else(String::new, |finding| finding.pattern.clone()),
        label: format!("site {} ({}, by {})", site.id, stack.join(" < "), creation.join(" < ")),
        functions: stack.into_iter().chain(creation).collect(),
    }
}

/// Checks the program of a case: what was printed, and a recording of each process that was judged.
fn run(table: &Table, case: &Case) -> (Ended, Vec<Recording>) {
    let server = table.command(&case.start);
    let load = case.load();
    let usual = [
        ("--exec", &*server),
        ("--ready", r"/listening on (\S+)/"),
        ("--settle", "700ms"),
        ("--settle-max", "15s"),
        ("-i", "150ms"),
        ("--stop-signal", "KILL"),
        ("--requests-from", r"^(\d+) requests"),
        ("-o", "recording.json"),
    ];
    let mut args = vec!["ci"];
    // An option of the case takes the place of a usual one.
    for (option, value) in usual {
        if !case.options.iter().any(|own| own == option) {
            args.extend([option, value]);
        }
    }
    args.extend(case.options.iter().map(String::as_str));
    args.extend(["--", "/bin/sh", "-c", &load]);
    let ended = leakprobe(args);
    let written = fs::read_dir(ended.directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let paths = written.filter(|path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"recording")));
    let read = |path: PathBuf| json::read(&path).unwrap_or_else(|error| panic!("{}: {error}: {ended:?}", case.name));
    let recordings: Vec<Recording> = paths.map(read).collect();
    assert!(!recordings.is_empty(), "nothing was recorded of {}: {ended:?}", case.name);
    (ended, recordings)
}
