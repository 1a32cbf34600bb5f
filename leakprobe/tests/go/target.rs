//! Go programs to look into, and both sides' lists of their goroutines.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    dump::{Goroutine, parse},
    support::{Program, leakprobe, need_root},
};

/// Every Go version that there are programs of.
pub(crate) const VERSIONS: [&str; 8] = ["1.19", "1.21", "1.22", "1.23", "1.24", "1.25", "1.26", "1.27"];

/// The file that `cargo xtask programs` made of a Go program.
pub(crate) fn built(path: &str) -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-programs");
    let path = env::var_os("LEAKPROBE_TEST_PROGRAMS").map_or_else(own, PathBuf::from).join("go").join(path);
    assert!(path.exists(), "{} is not there: run `cargo xtask programs`", path.display());
    path
}

/// Starts a program that was built, and waits until it is ready.
pub(crate) fn ready(path: &str, args: &[&str]) -> Program {
    let mut program = Program::start(Command::new(built(path)).args(args));
    program.expect("ready");
    program
}

/// What the runtime says, without the goroutine that says it, and that goroutine.
pub(crate) fn theirs(program: &mut Program, which: &str) -> (Vec<Goroutine>, Goroutine) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    program.ask(&format!("dump {} {which}", path.display()), "dumped");
    let mut goroutines = parse(&fs::read_to_string(path).unwrap()).unwrap();
    let writer = goroutines.remove(0);
    assert_eq!(writer.status, "running");
    (goroutines, writer)
}

/// What leakprobe says.
pub(crate) fn ours(pid: u32) -> Vec<Goroutine> {
    need_root();
    let ended = leakprobe(["snapshot", "-p", &pid.to_string(), "-o", "all.goroutines.txt"]);
    ended.succeeded();
    parse(&fs::read_to_string(ended.directory.path().join("all.goroutines.txt")).unwrap()).unwrap()
}

/// The goroutines of this id, taken out.
pub(crate) fn take(goroutines: &mut Vec<Goroutine>, id: u64) -> Vec<Goroutine> {
    goroutines.extract_if(.., |goroutine| goroutine.id == id).collect()
}
