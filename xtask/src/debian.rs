//! Packages of the machine that runs the task, installed with apt-get when they are missing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run;

/// What `/etc/os-release` says of `key`, e.g. `ID` or `VERSION_CODENAME`.
pub(crate) fn os_release(key: &str) -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}

/// Whether this is Debian or made from it (and so has apt-get).
pub(crate) fn has_apt() -> bool {
    let is = |key| os_release(key).is_some_and(|ids| ids.split(' ').any(|id| id == "debian"));
    is("ID") || is("ID_LIKE")
}

/// Whether the task runs as root.
pub(crate) fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self").context("cannot read /proc/self")?.uid() == 0)
}

/// Installs the packages of those `things` that are missing. A thing is a program on PATH or, with a slash, a file.
pub(crate) fn install_missing(things: &[(&str, &str)], why: &str) -> Result<()> {
    let missing: Vec<&str> = things.iter().filter(|(thing, _)| !is_there(thing)).map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { install(&missing, why) }
}

fn is_there(thing: &str) -> bool {
    if thing.contains('/') {
        return Path::new(thing).exists();
    }
    run::ask(Command::new("sh").args(["-c", r#"command -v "$0""#, thing])).is_some()
}

/// Installs `packages`; `why` completes "… needs them".
pub(crate) fn install(packages: &[&str], why: &str) -> Result<()> {
    let list = packages.join(" ");
    if !has_apt() {
        bail!("{why} needs what Debian packages as {list}: install it with this system's package manager");
    }
    if !is_root()? {
        bail!("{why} needs packages: run `sudo apt-get install --no-install-recommends {list}`");
    }
    run::say(&format!("installing Debian packages, {why} needs them: {list}"));
    let apt = || {
        let mut apt = Command::new("apt-get");
        // Another apt may be at work, e.g. the daily one of a fresh machine.
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-o", "DPkg::Lock::Timeout=600"]);
        apt
    };
    run::run(apt().arg("update"))?;
    // --no-remove: some packages conflict with others (rustc-web with rustc and rustup), and that choice is the user's.
    run::run(apt().args(["install", "-y", "--no-remove", "--no-install-recommends"]).args(packages))
}
