//! Go inside C programs.

use std::process::Command;

use crate::{
    compare::differences,
    dump::Goroutine,
    support::Program,
    target::{built, ours, theirs, versions},
};

/// Compares the runtimes of a C program.
fn equal(command: &mut Command, versions: &[&str]) {
    let mut program = Program::start(command);
    program.expect("ready");
    let mut all: Vec<Goroutine> = Vec::new();
    let mut kept = Vec::new();
    for (which, version) in versions.iter().enumerate() {
        // The goroutine that wrote was that of a call from C, which is over. From Go 1.21 on it stays with its thread.
        let (theirs, writer) = theirs(&mut program, &which.to_string());
        if *version != "1.19" {
            kept.push(writer.id);
        }
        assert!(theirs.len() > 60, "{command:?}: only {} goroutines", theirs.len());
        let function = "leakprobe.test/programs/kinds.locked";
        assert!(theirs.iter().any(|goroutine| goroutine.functions().contains(&function)), "{command:?}: {theirs:?}");
        all.extend(theirs);
    }
    let mut ours = ours(program.pid());
    let is_at_rest = |goroutine: &mut Goroutine| {
        kept.contains(&goroutine.id) && goroutine.status == "syscall" && goroutine.functions() == ["runtime.goexit"]
    };
    let mut at_rest: Vec<u64> = ours.extract_if(.., is_at_rest).map(|goroutine| goroutine.id).collect();
    at_rest.sort_unstable();
    kept.sort_unstable();
    assert_eq!(at_rest, kept, "{command:?}");
    let differences = differences(&all, &ours);
    assert!(differences.is_empty(), "{command:?}:\n{differences}");
}

#[test]
fn library_that_a_c_program_is_linked_with() {
    for version in versions() {
        equal(&mut Command::new(built(&format!("{version}/c-shared/host"))), &[version]);
    }
}

#[test]
fn library_that_a_c_program_loads() {
    for version in versions() {
        equal(Command::new(built("host")).arg(built(&format!("{version}/c-shared/libwaits.so"))), &[version]);
    }
}

#[test]
fn two_runtimes_of_different_versions() {
    for versions in [["1.21", "1.27"], ["1.26", "1.19"], ["1.24", "1.21"]] {
        let libraries = versions.map(|version| built(&format!("{version}/c-shared/libwaits.so")));
        equal(Command::new(built("host")).args(libraries), &versions);
    }
}
