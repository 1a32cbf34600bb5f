//! Where things lie in the checkout, and which cargo to call.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The checkout.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Cargo's output folder. Everything that the tasks download or build lies below it, so that `cargo clean` removes it.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |target| root().join(target))
}

/// Where the tasks install tools with `cargo install --root`.
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

/// The release binary.
pub(crate) fn leakprobe() -> PathBuf {
    target().join("release/leakprobe")
}

/// The committed BPF object.
pub(crate) fn bpf_object() -> PathBuf {
    root().join("leakprobe/bpf/leakprobe.bpf.o")
}

/// The same cargo that runs this task, in the checkout.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cargo.current_dir(root());
    cargo
}

/// `cargo install` of exactly `version` of a tool into [`tools`], unless it is there. Returns the program.
pub(crate) fn tool(name: &str, version: &str, prepare: impl FnOnce(&mut Command)) -> anyhow::Result<PathBuf> {
    let program = tools().join("bin").join(name);
    let installed = crate::run::ask(Command::new(&program).arg("--version"));
    if installed.is_some_and(|text| text.split_whitespace().nth(1) == Some(version)) {
        return Ok(program);
    }
    crate::run::say(&format!("installing {name} {version} into {}", tools().display()));
    let mut install = cargo();
    // A tool is built for longer than it runs: not optimised, and without debug information.
    install.args(["install", "--locked", "--debug", &format!("{name}@{version}")]).env("CARGO_PROFILE_DEV_DEBUG", "0");
    // One build folder for all tools: they share dependencies.
    install.arg("--root").arg(tools()).arg("--target-dir").arg(tools().join("build"));
    prepare(&mut install);
    crate::run::run(&mut install)?;
    Ok(program)
}
