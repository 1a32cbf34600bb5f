//! A goroutine in every kind of wait: leakprobe's list equals the runtime's.

use crate::{
    compare::differences,
    dump::Goroutine,
    support::Program,
    target::{built, ours, ready, take, theirs, versions},
};

/// That both sides say the same of a program which stays as it is; `least` goroutines are compared.
fn equal(program: &mut Program, least: usize, what: &str) {
    let (theirs, writer) = theirs(program, "");
    let mut ours = ours(program.pid());
    // By the time that we look, it waits for the next command.
    assert_eq!(take(&mut ours, writer.id).len(), 1, "{what}: no goroutine {}", writer.id);
    let differences = differences(&theirs, &ours);
    assert!(differences.is_empty(), "{what}:\n{differences}");
    assert!(theirs.len() >= least, "{what}: only {} goroutines", theirs.len());
}

fn every_version(build: &str, least: usize) {
    for version in versions() {
        let path = format!("{version}/{build}/waits");
        let mut program = ready(&path, &[]);
        equal(&mut program, least, &path);
        // The runtime learns from a collection how long a goroutine waits, and moves stacks.
        program.ask("gc", "done");
        equal(&mut program, least, &format!("{path} after a collection"));
    }
}

#[test]
fn default_build() {
    every_version("default", 80);
}

#[test]
fn stripped() {
    every_version("stripped", 80);
}

#[test]
fn position_independent() {
    every_version("pie", 80);
}

#[test]
fn cgo() {
    every_version("cgo", 84);
}

#[test]
fn cgo_and_position_independent() {
    every_version("cgo-pie", 84);
}

#[test]
fn plugin() {
    for version in versions() {
        let plugin = built(&format!("{version}/plugin/plugin.so"));
        let path = format!("{version}/cgo/pluginhost");
        equal(&mut ready(&path, &[plugin.to_str().unwrap()]), 5, &path);
    }
}

#[test]
fn still_starting_up() {
    for version in ["1.19", "1.21", "1.24", "1.27"] {
        let starting = ready(&format!("{version}/default/starting"), &[]);
        let ours = ours(starting.pid());
        let is_parked = |goroutine: &&Goroutine| goroutine.functions() == ["main.parked"];
        assert_eq!(ours.iter().filter(is_parked).count(), 10, "{version}: {ours:?}");
        let main = ours.iter().find(|goroutine| goroutine.id == 1).unwrap();
        assert!(main.functions().contains(&"main.init.0"), "{version}: {main:?}");
    }
}

#[test]
fn after_the_end_of_the_main_goroutine() {
    for version in ["1.19", "1.21", "1.24", "1.27"] {
        let path = format!("{version}/default/goexit");
        equal(&mut ready(&path, &[]), 10, &path);
    }
}

#[test]
fn while_children_are_forked() {
    for version in ["1.19", "1.21", "1.24", "1.27"] {
        let forks = ready(&format!("{version}/default/forks"), &[]);
        for _ in 0..5 {
            let ours = ours(forks.pid());
            let is_parked = |goroutine: &&Goroutine| goroutine.functions() == ["main.parked"];
            assert_eq!(ours.iter().filter(is_parked).count(), 10, "{version}: {ours:?}");
        }
    }
}

/// Of goroutines that run, nobody knows where they are; what is known of them is said, and of the others everything.
#[test]
fn beside_running_and_runnable_ones() {
    for version in versions() {
        let path = format!("{version}/default/waits");
        let mut program = ready(&path, &["spin"]);
        let (mut theirs, writer) = theirs(&mut program, "");
        let mut ours = ours(program.pid());
        take(&mut ours, writer.id);
        let is_spinning = |goroutine: &mut Goroutine| {
            goroutine.is_created_by("main.main") && ["running", "runnable"].contains(&goroutine.status.as_str())
        };
        let spinning: Vec<u64> = theirs.extract_if(.., is_spinning).map(|goroutine| goroutine.id).collect();
        assert_eq!(spinning.len(), 3, "{path}");
        for id in spinning {
            let goroutine = take(&mut ours, id).pop().unwrap_or_else(|| panic!("{path}: no goroutine {id}"));
            assert!(["running", "runnable"].contains(&goroutine.status.as_str()), "{path}: {goroutine:?}");
            assert!(goroutine.is_created_by("main.main"), "{path}: {goroutine:?}");
            let functions = goroutine.functions();
            assert!(functions.is_empty() || functions.contains(&"main.spin"), "{path}: {goroutine:?}");
        }
        let differences = differences(&theirs, &ours);
        assert!(differences.is_empty(), "{path}:\n{differences}");
    }
}
