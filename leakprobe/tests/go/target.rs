//! Go programs to look into, and both sides' lists of their goroutines.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{
    dump::{Goroutine, parse},
    support::{Program, leakprobe, need_root},
};

/// The Go versions that there are programs of: the oldest, the newest, and one on each side of where layouts changed most; with
/// `LEAKPROBE_FIELD_ALL=1` every one.
pub(crate) fn versions() -> impl Iterator<Item = &'static str> {
    const EVERY: [&str; 8] = ["1.19", "1.21", "1.22", "1.23", "1.24", "1.25", "1.26", "1.27"];
    const IN_BETWEEN: [&str; 3] = ["1.22", "1.23", "1.25"];
    let all = env::var_os("LEAKPROBE_FIELD_ALL").is_some();
    EVERY.into_iter().filter(move |version| all || !IN_BETWEEN.contains(version))
}

/// The file that `cargo xtask programs` made of a Go program.
pub(crate) fn built(path: &str) -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-programs");
    let path = env::var_os("LEAKPROBE_TEST_PROGRAMS").map_or_else(own, PathBuf::from).join("go").join(path);
    assert!(path.exists(), "{} is not there: run `cargo xtask programs`", path.display());
    path
}

/// Starts a program that was built, and waits until it is ready.
pub(crate) fn ready(path: &str, args: &[&str]) -> Program {
    ready_at(&built(path), args)
}

fn ready_at(path: &Path, args: &[&str]) -> Program {
    let mut program = Program::start(Command::new(path).args(args));
    program.expect("ready");
    program
}

/// A program some of whose bytes were replaced.
pub(crate) struct Patched {
    path: PathBuf,
    _folder: TempDir,
}

impl Patched {
    /// Each of `patches` stands for the bytes that are there and those that replace the first of them, wherever they are.
    pub(crate) fn of(path: &str, patches: &[(&[u8], &[u8])]) -> Self {
        let mut bytes = fs::read(built(path)).unwrap();
        for (old, new) in patches {
            let places: Vec<usize> = (0..bytes.len()).filter(|&place| bytes[place..].starts_with(old)).collect();
            assert!(!places.is_empty() && new.len() <= old.len(), "{}", old.escape_ascii());
            places.into_iter().for_each(|place| bytes[place..place + new.len()].copy_from_slice(new));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(Path::new(path).file_name().unwrap());
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { path, _folder: folder }
    }

    /// Starts it, and waits until it is ready.
    pub(crate) fn ready(&self, args: &[&str]) -> Program {
        ready_at(&self.path, args)
    }
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
