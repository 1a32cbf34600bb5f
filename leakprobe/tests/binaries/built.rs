//! Programs and libraries that are built for one test, where it wants them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Runs a command that has to succeed.
pub(crate) fn run(command: &mut Command) {
    let output = command.output();
    let output = output.unwrap_or_else(|error| {
        panic!("cannot run {command:?}: {error}; `cargo xtask test` installs what the tests need")
    });
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Builds `source`, a file of this directory, into `out`.
pub(crate) fn build(compiler: &str, source: &str, out: &Path, flags: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/binaries").join(source);
    fs::create_dir_all(out.parent().unwrap()).unwrap();
    // As distributions build: no frame pointers.
    let mut command = Command::new(compiler);
    command.args(["-O2", "-fomit-frame-pointer", "-pthread"]).args(flags).arg("-o").arg(out).arg(source);
    run(&mut command);
    out.to_owned()
}

/// The same with cc.
pub(crate) fn cc(source: &str, out: &Path, flags: &[&str]) -> PathBuf {
    build("cc", source, out, flags)
}
