//! Stacks of programs that nobody prepared, frame for frame against `eu-stack`, which stops the process to read them.
//!
//! Needs root and the programs it looks at; `cargo xtask test` installs them. Never run in guests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod checks;
mod compare;
mod eu_stack;
mod servers;
mod symbols;

use std::{fs, path::Path, process::Command};

use compare::compare;
use support::{Program, Variant, need_root};

/// A program that has to be there.
fn need(program: &str) {
    need_root();
    assert!(Program::exists(program), "{program} is missing: `cargo xtask test` installs what the tests need");
}

#[test]
fn java_17() {
    need("java");
    need("javac");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("Threads.java"), include_str!("Threads.java")).unwrap();
    let compiled = Command::new("javac").arg("Threads.java").current_dir(folder.path()).status().unwrap();
    assert!(compiled.success());
    let mut command = Command::new("java");
    command.args(["-Xmx64m", "-XX:+UseSerialGC", "-cp", ".", "Threads"]).current_dir(folder.path());
    let mut java = Program::start(&mut command);
    java.expect("ready");
    let report = compare(java.pid());
    assert!(report.threads >= 12, "{report:?}");
    assert!(report.names.contains("JavaMain") && report.names.contains("start_thread"), "{report:?}");
    assert!(report.without_name > 0, "interpreted frames have no names: {report:?}");
}

fn python(path: &Path) {
    need_root();
    let mut python = Program::start(Command::new(path).args(["-u", "-c", include_str!("threads.py")]));
    python.expect("ready");
    let report = compare(python.pid());
    assert_eq!(report.threads, 6, "{report:?}");
    assert!(report.names.iter().any(|name| name.starts_with("PyEval") || name.starts_with("_PyEval")), "{report:?}");
}

#[test]
fn python_of_the_distribution() {
    python(Path::new("/usr/bin/python3"));
}

#[test]
fn python_on_the_path() {
    need("python3");
    // A version manager puts a script in its place, which says what it leads to.
    let found = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    python(Path::new(String::from_utf8(found.stdout).unwrap().trim()));
}

#[test]
fn node() {
    need("node");
    let mut node = Program::start(Command::new("node").args(["-e", include_str!("threads.js")]));
    node.expect("ready");
    let report = compare(node.pid());
    assert!(report.threads >= 7, "{report:?}");
    assert!(report.names.contains("uv_run"), "{report:?}");
}

/// Our own programs, in every variant.
fn own(name: &str, args: &[&str]) {
    need("eu-stack");
    for variant in Variant::ALL {
        let program = Program::ready_with(name, variant, args);
        support::settle(program.pid());
        let report = compare(program.pid());
        assert_eq!(report.threads, support::tids(program.pid()).len(), "{variant:?}: {report:?}");
    }
}

#[test]
fn every_kind_of_wait_in_every_variant() {
    own("waits", &[]);
}

#[test]
fn realigned_stacks_in_every_variant() {
    own("realign", &[]);
}

#[test]
fn signal_handlers_in_every_variant() {
    own("signal_handler", &[]);
}

#[test]
fn cpp_in_every_variant() {
    own("templates", &[]);
}

#[test]
fn rust_in_every_variant() {
    own("rust_threads", &[]);
}

#[test]
fn many_threads() {
    own("many", &["200"]);
}
