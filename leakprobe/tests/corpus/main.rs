//! The corpus by which verdicts are judged: `leakprobe ci` on each leaking program, on the same program repaired, and on healthy
//! ones. Each leak must be found, at the lines that the source marks, and nothing else.
//!
//! `cargo xtask programs --corpus` builds the programs; `cargo xtask verdicts` runs this several times and writes the table.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod check;
mod example;
mod marks;
#[path = "../support/mod.rs"]
mod support;
mod table;

use std::{collections::BTreeSet, env, fs::File, io::Write, panic, sync::Mutex, thread};

use check::{Said, healthy, leaking};
use marks::Kind;
use support::need_root;
use table::{Case, Table};

/// Checks that run at a time: they wait more than they work.
const AT_A_TIME: usize = 6;

#[test]
fn every_case_is_marked_and_every_mark_has_a_case() {
    let table = Table::read();
    let marks = marks::all();
    let mut names = BTreeSet::new();
    for case in &table.cases {
        assert!(names.insert((&*case.language, &*case.name)), "two cases are called {}", case.name);
        let has = |kind| marks.iter().any(|mark| mark.is(kind, &case.language, &case.name));
        assert!(has(Kind::Parks) || case.parks.is_some(), "nobody says where {} parks", case.name);
        assert!(has(Kind::Creates) || case.creates.is_some(), "nobody says where {} creates", case.name);
        assert!(check::REQUESTS.is_multiple_of(case.every) && case.after <= check::REQUESTS);
        let of_language = if case.language == "go" { "go-" } else { "thread-" };
        let of_runtime = format!("{}-", case.language);
        assert!(case.pattern.starts_with(of_language) || case.pattern.starts_with(&of_runtime), "{}", case.pattern);
        let is_verdict = matches!(&*case.verdict, "proven" | "likely");
        assert!(is_verdict, "{} is no verdict", case.verdict);
    }
    for mark in &marks {
        assert!(names.contains(&(&*mark.language, &*mark.case)), "no case for {mark:?}");
    }
}

#[test]
fn every_leak_is_found_where_its_source_says_and_nothing_else() {
    let table = Table::read();
    each(&table.cases, "leak", |case| leaking(&table, case));
}

#[test]
fn no_repaired_program_is_called_leaking() {
    let table = Table::read();
    each(&table.cases, "fixed", |case| healthy(&table, case, "fixed"));
}

#[test]
fn no_healthy_program_is_called_leaking() {
    let table = Table::read();
    each(&table.healthy, "healthy", |case| healthy(&table, case, "healthy"));
}

#[test]
fn goroutines_that_each_round_leaves_running_are_a_leak_of_their_creator() {
    need_root();
    let table = Table::read();
    let [case] = table.restless.as_slice() else { panic!("there is one such program") };
    // One in the warm-up, and one with each of as many rounds as there can be.
    assert_eq!(check::restless(&table, case), [(6, "main.beginSpinning".to_owned())]);
}

/// Checks all of them, some at a time, and says which have failed. `LEAKPROBE_VERDICTS` is a file that is told what was said of each.
fn each(cases: &[Case], variant: &str, check: impl Fn(&Case) -> Said + Sync) {
    need_root();
    let queue = Mutex::new(cases.iter());
    let failed = Mutex::new(Vec::new());
    let told = env::var_os("LEAKPROBE_VERDICTS")
        .map(|path| Mutex::new(File::options().create(true).append(true).open(path).unwrap()));
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                let next = || queue.lock().unwrap().next();
                while let Some(case) = next() {
                    let said = panic::catch_unwind(panic::AssertUnwindSafe(|| check(case)));
                    let words = said.as_ref().map_or_else(|_| "FAILED\t".to_owned(), Said::to_string);
                    if let Some(told) = &told {
                        writeln!(told.lock().unwrap(), "{}\t{}\t{variant}\t{words}", case.language, case.name).unwrap();
                    }
                    if said.is_err() {
                        failed.lock().unwrap().push(format!("{} {}", case.language, case.name));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "of {} cases these failed: {failed:?}", cases.len());
}
