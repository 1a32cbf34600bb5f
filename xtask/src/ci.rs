//! `cargo xtask ci`: every check that is no test. All of them run, also after one failed.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{build_ebpf, checked, dist, repo, rooms, run};

const CARGO_DENY: &str = "0.20.2";

/// Check format, rooms, lints, documentation, dependencies and the BPF object
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also look for known vulnerabilities of dependencies, which needs the RustSec database from the network
    #[arg(long)]
    advisories: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    type Check<'a> = (&'a str, &'a dyn Fn() -> Result<()>);
    let deny = || deny(args.advisories);
    // The order lets each check use what the ones before it built.
    let checks: [Check; 7] = [
        ("format", &format),
        ("rooms", &rooms::check),
        ("lints", &lints),
        ("documentation", &documentation),
        ("build", &|| dist::build().map(drop)),
        ("BPF object", &build_ebpf::check_if_changed),
        ("dependencies", &deny),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        let started = Instant::now();
        let result = check();
        let seconds = started.elapsed().as_secs_f32();
        match result {
            Ok(()) => run::say(&format!("== {name}: ok, {seconds:.1} s")),
            Err(error) => {
                run::say(&format!("== {name}: FAILED, {seconds:.1} s: {error:#}"));
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("{} of {} checks failed: {}", failed.len(), checks.len(), failed.join(", "));
    }
    Ok(())
}

/// The BPF crate is no member of the workspace, so it is checked by itself.
const BPF_MANIFEST: &str = "leakprobe-ebpf/Cargo.toml";

fn format() -> Result<()> {
    run::run(repo::cargo().args(["fmt", "--all", "--check"]))?;
    run::run(repo::cargo().args(["fmt", "--check", "--manifest-path", BPF_MANIFEST]))
}

fn lints() -> Result<()> {
    run::run(repo::cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-Dwarnings"]))?;
    // For this machine's architecture: clippy of the stable toolchain knows no core for BPF, and needs none to lint.
    let mut bpf = repo::cargo();
    bpf.args(["clippy", "--manifest-path", BPF_MANIFEST, "--release", "--locked", "--target-dir"]);
    // As it is built: atomic additions are an internal feature of the compiler.
    bpf.env("RUSTC_BOOTSTRAP", "1");
    run::run(bpf.arg(repo::target().join("bpf-clippy")).args(["--", "-Dwarnings"]))
}

fn documentation() -> Result<()> {
    let mut doc = repo::cargo();
    doc.args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-Dwarnings");
    run::run(&mut doc)
}

/// All that decides whether dependencies are allowed. What they are is pinned, by their checksums.
const OF_DEPENDENCIES: [&str; 4] = ["Cargo.lock", "leakprobe-ebpf/Cargo.lock", "deny.toml", "xtask/src/ci.rs"];
/// Where the sum of these is kept for which the check has passed.
const PASSED: &str = "xtask/dependencies-passed";

fn deny(advisories: bool) -> Result<()> {
    let (sum, passed) = (checked::sum(&OF_DEPENDENCIES)?, repo::root().join(PASSED));
    if !advisories && fs::read_to_string(&passed).is_ok_and(|known| known.trim() == sum) {
        run::say("the dependencies are those that have passed before");
        return Ok(());
    }
    let program = repo::tool("cargo-deny", CARGO_DENY, |_| {})?;
    let mut what = vec!["bans", "licenses", "sources"];
    if advisories {
        what.push("advisories");
    } else {
        run::say("note: known vulnerabilities are not looked for; `cargo xtask ci --advisories` does, with network");
    }
    for manifest in ["Cargo.toml", BPF_MANIFEST] {
        let manifest = repo::root().join(manifest);
        let mut deny = std::process::Command::new(&program);
        deny.arg("--manifest-path").arg(&manifest).arg("--config").arg(repo::root().join("deny.toml"));
        run::run(deny.args(["--locked", "check"]).args(&what))?;
    }
    fs::write(&passed, format!("{sum}\n")).with_context(|| format!("cannot write {PASSED}"))?;
    run::say(&format!("commit {PASSED}: it says that these dependencies have passed"));
    Ok(())
}
