//! The corpus by which leaks are judged: that each leaking program leaks what `cases.toml` says, where its source says
//! so, and that the same program repaired does not.
//!
//! `cargo xtask programs --corpus` builds the programs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod marks;
mod seen;
#[path = "../support/mod.rs"]
mod support;
mod table;

use std::{
    collections::BTreeSet,
    panic,
    sync::Mutex,
    thread::{self, available_parallelism},
    time::Instant,
};

use leakprobe::model::Recording;

use marks::Kind;
use seen::Seen;
use support::{PATIENCE, Program, Running, functions, need_root, snapshot};
use table::{Case, Table};

/// Requests before anything is counted, and those whose leaks are.
const FIRST: usize = 6;
const THEN: usize = 12;

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
        assert!((FIRST + THEN).is_multiple_of(case.every) && FIRST.is_multiple_of(case.every) && case.after <= FIRST);
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
fn every_leak_is_where_its_source_says() {
    let table = Table::read();
    each(&table.cases, |case| leaks(&table, case));
}

#[test]
fn every_repaired_program_ends_what_it_begins() {
    let table = Table::read();
    each(&table.cases, |case| does_not_grow(&table, case, "fixed"));
}

#[test]
fn every_healthy_program_stops_growing() {
    let table = Table::read();
    each(&table.healthy, |case| does_not_grow(&table, case, "healthy"));
}

fn leaks(table: &Table, case: &Case) {
    let mut server = Program::start(&mut table.start(case, "leak"));
    let address = server.expect("listening on");
    let leaked = |requests| (requests - case.after) * case.tasks / case.every;
    table.load(case, &address, FIRST, 3);
    let (before, _) = until(server.pid(), case, |seen| seen.parked == leaked(FIRST));
    // Goroutines know their creators; those of threads are known only if that was seen.
    let watching = (case.language != "go").then(|| {
        let mut watching = Running::record(&["attach", "-p", &server.pid().to_string(), "-m", "0s"]);
        watching.attached();
        watching
    });
    table.load(case, &address, THEN, 3);
    let (_, last) = until(server.pid(), case, |seen| {
        let of_the_leak = |seen: &Seen| seen.parked + seen.beside;
        seen.parked == leaked(FIRST + THEN) && seen.all + of_the_leak(&before) == before.all + of_the_leak(seen)
    });
    let (unseen, recording) = watching.map_or((0, last), |watching| (before.parked, watching.stop()));
    creations_are_known(case, &recording, unseen);
}

/// Checks who created the leaked tasks, all but so many.
fn creations_are_known(case: &Case, recording: &Recording, unseen: usize) {
    let lines = marks::lines(Kind::Creates, case);
    if lines.is_empty() && case.creates.is_none() {
        return;
    }
    let parked = seen::parked(recording, case);
    let known: Vec<_> = parked.iter().map(|task| &task.created_by).filter(|creator| creator.known).collect();
    assert!(parked.len() > unseen && known.len() == parked.len() - unseen, "{}: {parked:?}", case.name);
    for creator in known {
        let innermost = functions(recording, &creator.stack).into_iter().next();
        let is_so = match seen::own_line(recording, &creator.stack) {
            Some(line) => lines.contains(&line),
            None => innermost == case.creates,
        };
        assert!(is_so, "{} is created by {:?}", case.name, functions(recording, &creator.stack));
    }
}

fn does_not_grow(table: &Table, case: &Case, variant: &str) {
    let mut server = Program::start(&mut table.start(case, variant));
    let address = server.expect("listening on");
    // A pool is full after as many requests at a time as it takes; with one at a time, it has one.
    let (first, then, at_a_time) = if variant == "healthy" { (64, 64, 16) } else { (FIRST, THEN, 1) };
    table.load(case, &address, first, at_a_time);
    let (before, _) = until(server.pid(), case, |_| true);
    table.load(case, &address, then, at_a_time);
    until(server.pid(), case, |seen| seen.all <= before.all);
}

/// Looks until what was seen is so.
fn until(pid: u32, case: &Case, is_so: impl Fn(&Seen) -> bool) -> (Seen, Recording) {
    let began = Instant::now();
    loop {
        let recording = snapshot(pid);
        let seen = Seen::of(&recording, case);
        if is_so(&seen) {
            return (seen, recording);
        }
        assert!(began.elapsed() < PATIENCE, "{} {} is not as it should be: {seen:#?}", case.language, case.name);
    }
}

/// Checks all of them, as many at a time as there are processors, and says which have failed.
fn each(cases: &[Case], check: impl Fn(&Case) + Sync) {
    need_root();
    let queue = Mutex::new(cases.iter());
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let next = || queue.lock().unwrap().next();
                while let Some(case) = next() {
                    if panic::catch_unwind(panic::AssertUnwindSafe(|| check(case))).is_err() {
                        failed.lock().unwrap().push(format!("{} {}", case.language, case.name));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "of {} cases these failed: {failed:?}", cases.len());
}
