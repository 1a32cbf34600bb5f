//! The test programs of `leakprobe/tests/programs`, each built in the variants that differ for a profiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::field::{self, Libraries};
use crate::go::Versions;
use crate::{corpus, go_programs, repo, run};

/// Build the test programs, as `cargo xtask test` does
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the leaking programs of `leakprobe/tests/corpus`
    #[arg(long)]
    corpus: bool,
    /// Only the programs of `leakprobe/tests/field`, with all libraries that they use
    #[arg(long)]
    field: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let all = !args.corpus && !args.field;
    if all {
        build()?;
        go_programs::build(Versions::All)?;
    }
    if all || args.corpus {
        corpus::build()?;
    }
    if all || args.field { field::build(if all { Libraries::OfTests } else { Libraries::All }) } else { Ok(()) }
}

/// Suffix of a variant, and the compiler's arguments for it in C and C++, and in Rust.
const VARIANTS: [(&str, &[&str], &[&str]); 5] = [
    ("", &[], &[]),
    ("-nopie", &["-no-pie", "-fno-pie"], &["-Crelocation-model=static"]),
    ("-static", &["-static"], &["-Ctarget-feature=+crt-static", "-Crelocation-model=static"]),
    ("-static-pie", &["-static-pie", "-fPIE"], &["-Ctarget-feature=+crt-static"]),
    // Without symbols, but not without .eh_frame.
    ("-stripped", &["-s"], &["-Cstrip=symbols"]),
];

/// Where the built programs lie, as `NAME` and `NAME-VARIANT`.
pub(crate) fn folder() -> PathBuf {
    repo::target().join("test-programs")
}

/// Builds what is missing or older than its source.
pub(crate) fn build() -> Result<PathBuf> {
    let out = folder();
    let sources = repo::root().join("leakprobe/tests/programs");
    if !sources.exists() {
        run::say(&format!("note: no test programs in {}", sources.display()));
        return Ok(out);
    }
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut files = Vec::new();
    for entry in fs::read_dir(&sources).with_context(|| format!("cannot read {}", sources.display()))? {
        files.push(entry.with_context(|| format!("cannot read {}", sources.display()))?.path());
    }
    files.sort();
    let shared = [sources.join("common.h"), sources.join("common/mod.rs")];
    let mut jobs = Vec::new();
    for source in &files {
        if source.join("Cargo.toml").exists() {
            build_crate(source, &out)?;
        }
        let Some(compiler) = compiler(source) else { continue };
        let name = source.file_stem().unwrap_or_default().to_string_lossy();
        for (suffix, c, rust) in VARIANTS {
            let program = out.join(format!("{name}{suffix}"));
            if is_newer(&program, source) && shared.iter().all(|shared| is_newer(&program, shared)) {
                continue;
            }
            let mut command = Command::new(compiler);
            if compiler == "rustc" {
                command.args(["--edition=2024", "-O"]).args(rust);
            } else {
                // As distributions build: no frame pointers.
                command.args(["-O2", "-fomit-frame-pointer", "-pthread"]).args(c);
                if compiler == "c++" {
                    command.arg("-std=c++20");
                }
            }
            command.arg("-o").arg(&program).arg(source);
            jobs.push(command);
        }
    }
    run::all(jobs, |mut command| run::run(&mut command))?;
    Ok(out)
}

/// A program that is a crate of its own, since it needs others; in one variant.
fn build_crate(source: &Path, out: &Path) -> Result<()> {
    let name = source.file_name().unwrap_or_default();
    let target = repo::target().join("test-crates");
    let mut cargo = repo::cargo();
    // Without debug information, as the others.
    cargo.args(["build", "--release", "--locked", "--config", "profile.release.debug=false", "-p"]).arg(name);
    run::run(cargo.arg("--target-dir").arg(&target))?;
    let built = target.join("release").join(name);
    fs::copy(&built, out.join(name)).with_context(|| format!("cannot copy {}", built.display()))?;
    Ok(())
}

fn compiler(source: &Path) -> Option<&'static str> {
    match source.extension()?.to_str()? {
        "c" => Some("cc"),
        "cpp" => Some("c++"),
        "rs" => Some("rustc"),
        _ => None,
    }
}

fn is_newer(program: &Path, source: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    matches!((modified(program), modified(source)), (Some(program), Some(source)) if program > source)
}
