//! Go inside C programs.

use std::process::Command;

use crate::{
    compare::differences,
    dump::Goroutine,
    support::Program,
    target::{VERSIONS, built, ours, theirs},
};

/// Compares the runtimes of a C program, `count` of them.
fn equal(command: &mut Command, count: usize) {
    let mut program = Program::start(command);
    program.expect("ready");
    let mut all: Vec<Goroutine> = Vec::new();
    for which in 0..count {
        // The goroutine that wrote was that of a call from C, which is over.
        let (theirs, _) = theirs(&mut program, &which.to_string());
        assert!(theirs.len() > 60, "{command:?}: only {} goroutines", theirs.len());
        let function = "leakprobe.test/programs/kinds.locked";
        assert!(theirs.iter().any(|goroutine| goroutine.functions().contains(&function)), "{command:?}: {theirs:?}");
        all.extend(theirs);
    }
    let differences = differences(&all, &ours(program.pid()));
    assert!(differences.is_empty(), "{command:?}:\n{differences}");
}

#[test]
fn library_that_a_c_program_is_linked_with() {
    for version in VERSIONS {
        equal(&mut Command::new(built(&format!("{version}/c-shared/host"))), 1);
    }
}

#[test]
fn library_that_a_c_program_loads() {
    for version in VERSIONS {
        equal(Command::new(built("host")).arg(built(&format!("{version}/c-shared/libwaits.so"))), 1);
    }
}

#[test]
fn two_runtimes_of_different_versions() {
    for [first, second] in [["1.21", "1.27"], ["1.26", "1.19"], ["1.23", "1.24"]] {
        let libraries = [first, second].map(|version| built(&format!("{version}/c-shared/libwaits.so")));
        equal(Command::new(built("host")).args(libraries), 2);
    }
}
