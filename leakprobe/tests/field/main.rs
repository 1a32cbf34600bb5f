//! What leakprobe is judged by that was not written for it: small programs after public reports of leaks, and real libraries, used
//! wrongly and rightly.
//!
//! `cargo xtask programs --field` builds them. `LEAKPROBE_FIELD=NAME,…` runs only the programs whose names contain one of these,
//! `LEAKPROBE_FIELD_RUNS=N` each N times, and `LEAKPROBE_FIELD_ALL=1` those as well that take long.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "what was said of a program is shown if it is wrong")]

mod check;
mod seen;
mod started;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod watched;

use std::{collections::BTreeSet, env, fs::File, io::Write, panic, sync::Mutex, thread};

use check::check;
use support::need_root;
use table::{Case, Is, Table};

/// Checks that run at a time: they wait more than they work.
const AT_A_TIME: usize = 6;

#[test]
fn every_program_has_one_name_and_a_right_answer() {
    let tables = [Table::of_cases(), Table::of_libraries()];
    let mut names = BTreeSet::new();
    for case in tables.iter().flat_map(|table| &table.cases) {
        assert!(names.insert(&*case.name), "two programs are called {}", case.name);
        let has_place = !(case.at.is_empty() && case.by.is_empty());
        match case.is {
            Is::Leak => assert!(has_place, "no place of {}", case.name),
            Is::Healthy => assert!(!has_place && case.patterns.is_empty(), "{} leaks nowhere", case.name),
            Is::Undecided => assert!(!case.exit.is_empty(), "no exit code of {}", case.name),
        }
    }
}

#[test]
fn each_small_program_is_judged_right() {
    let table = Table::of_cases();
    each(&table, "case");
}

#[test]
fn each_use_of_a_library_is_judged_right() {
    let table = Table::of_libraries();
    each(&table, "library");
}

/// Checks all programs of a table, some at a time, and says which were judged wrongly and how. `LEAKPROBE_VERDICTS` is a file to which
/// a line is added for each.
fn each(table: &Table, group: &str) {
    need_root();
    let wanted = env::var("LEAKPROBE_FIELD").unwrap_or_default();
    let runs: usize = env::var("LEAKPROBE_FIELD_RUNS").map_or(1, |runs| runs.parse().unwrap());
    let is_wanted = |case: &&Case| wanted.split(',').any(|name| case.name.contains(name));
    let (left_out, cases): (Vec<&Case>, Vec<&Case>) =
        table.cases.iter().filter(is_wanted).partition(|case| case.left_out().is_some());
    for case in left_out {
        eprintln!("{} is left out: {}", case.name, case.left_out().unwrap_or_default());
    }
    let all: Vec<&Case> = (0..runs).flat_map(|_| cases.iter().copied()).collect();
    let queue = Mutex::new(all.iter());
    let wrong = Mutex::new(Vec::new());
    let told = env::var_os("LEAKPROBE_VERDICTS")
        .map(|path| Mutex::new(File::options().create(true).append(true).open(path).unwrap()));
    let one = |case: &Case| {
        let said = panic::catch_unwind(panic::AssertUnwindSafe(|| check(table, case)));
        let words = said.as_ref().map_or_else(|_| "\t\tFAILED".to_owned(), ToString::to_string);
        let is = format!("{:?}", case.is).to_lowercase();
        if let Some(told) = &told {
            writeln!(told.lock().unwrap(), "{group}\t{}\t{}\t{is}\t{words}", case.language, case.name).unwrap();
        }
        match said {
            Err(_) => wrong.lock().unwrap().push(format!("{}: it could not be checked", case.name)),
            Ok(said) if !said.wrong.is_empty() => {
                let how = said.wrong.join("\n    ");
                eprintln!("{}: {how}\n{}", case.name, said.report);
                wrong.lock().unwrap().push(format!("{} ({is}): {how}", case.name));
            }
            Ok(_) => {}
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                let next = || queue.lock().unwrap().next();
                while let Some(case) = next() {
                    one(case);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {} are judged wrongly:\n{}", wrong.len(), all.len(), wrong.join("\n"));
}
