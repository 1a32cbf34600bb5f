//! `cargo xtask fuzz`: runs leakprobe's readers on what libFuzzer makes up, guided by the code that it reaches.
//!
//! Stable Rust is enough: the pass that counts what is reached is one of LLVM's, and is asked for by flags of code generation that
//! are stable. What is not to be had so is the address sanitizer, which code without `unsafe` can do without.
//! <https://llvm.org/docs/LibFuzzer.html>

use std::{fs, time::Instant};

use anyhow::{Result, bail};

use crate::{repo, run, tally::Tally};

/// Fuzz what reads files, memory and texts of others
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One reader, by the name of its folder in fuzz/corpus; all of them one after another without
    target: Option<String>,
    /// For so many minutes each; without, for 20 seconds each
    #[arg(long)]
    minutes: Option<u32>,
}

/// The crate of the program that fuzzes.
pub(crate) const MANIFEST: &str = "fuzz/Cargo.toml";
/// Seconds for each reader without `--minutes`.
pub(crate) const SECONDS: u32 = 20;
/// As `-C` flags: counts what is reached, and what is compared with what.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

pub(crate) fn run(args: &Args) -> Result<()> {
    let seconds = args.minutes.map_or(SECONDS, |minutes| minutes.saturating_mul(60));
    let tally = fuzz(args.target.as_deref(), seconds)?;
    if tally.failed > 0 {
        bail!("{} readers failed; what they failed on lies below target/fuzz/found", tally.failed);
    }
    Ok(())
}

/// Fuzzes one reader, or all, for so many seconds each. Each counts as a test.
pub(crate) fn fuzz(target: Option<&str>, seconds: u32) -> Result<Tally> {
    let corpus = repo::root().join("fuzz/corpus");
    let mut readers = Vec::new();
    for entry in fs::read_dir(&corpus)? {
        readers.push(entry?.file_name().to_string_lossy().into_owned());
    }
    readers.sort();
    if let Some(wanted) = target {
        readers.retain(|reader| reader == wanted);
        if readers.is_empty() {
            bail!("no reader is called {wanted}; fuzz/corpus has a folder of each");
        }
    }
    let folder = repo::target().join("fuzz");
    let mut build = repo::cargo();
    build.args(["build", "--locked", "--manifest-path", MANIFEST, "--target-dir"]).arg(&folder);
    // With a target, flags do not reach build scripts and macros, which have nothing to count.
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    run::run(build.args(["--target", &host]).env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}")))?;
    let program = folder.join(host).join("debug/leakprobe-fuzz");
    let mut tally = Tally::default();
    for reader in readers {
        let began = Instant::now();
        let (found, artifacts) = (folder.join("corpus").join(&reader), folder.join("found").join(&reader));
        fs::create_dir_all(&found)?;
        fs::create_dir_all(&artifacts)?;
        let mut fuzz = std::process::Command::new(&program);
        // What is new goes to the first folder; that of the repository stays small.
        fuzz.env("LEAKPROBE_FUZZ", &reader).arg(&found).arg(corpus.join(&reader));
        fuzz.args(["-timeout=10", "-rss_limit_mb=1024", "-max_len=65536", "-print_final_stats=1"]);
        fuzz.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={}/", artifacts.display()));
        let is_ok = run::status(&mut fuzz)?.success();
        run::say(&format!(
            "== {reader}: {}, {:.0} s",
            if is_ok { "ok" } else { "FAILED" },
            began.elapsed().as_secs_f32()
        ));
        tally.count(is_ok);
    }
    Ok(tally)
}
