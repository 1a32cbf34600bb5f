//! `cargo xtask fuzz`: runs leakprobe's readers on what libFuzzer makes up, guided by the code that it reaches.
//!
//! Stable Rust is enough: see `fuzz/rustc`. What is not to be had so is the address sanitizer, which code without `unsafe` can do
//! without. <https://llvm.org/docs/LibFuzzer.html>

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{excerpt::excerpt, repo, run, tally::Tally};

/// Fuzz what reads files, memory and texts of others
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One reader, by the name of its folder in fuzz/corpus; all of them without
    target: Option<String>,
    /// For so many minutes each; without, for 20 seconds each
    #[arg(long)]
    minutes: Option<u32>,
}

/// Seconds for each reader without `--minutes`.
pub(crate) const SECONDS: u32 = 20;

pub(crate) fn run(args: &Args) -> Result<()> {
    let seconds = args.minutes.map_or(SECONDS, |minutes| minutes.saturating_mul(60));
    let tally = fuzz(args.target.as_deref(), seconds)?;
    if tally.failed > 0 {
        bail!("{} readers failed; what they failed on lies below target/fuzz/found", tally.failed);
    }
    Ok(())
}

/// Fuzzes one reader, or all, for so many seconds each, as many at a time as there are processors. Each counts as a test.
pub(crate) fn fuzz(target: Option<&str>, seconds: u32) -> Result<Tally> {
    let readers = readers(target)?;
    let program = build()?;
    let tally = Mutex::new(Tally::default());
    run::all(readers, |reader| {
        let passed = fuzz_one(&program, &reader, seconds)?;
        if let Ok(mut tally) = tally.lock() {
            tally.count(passed);
        }
        Ok(())
    })?;
    tally.into_inner().ok().context("a worker panicked")
}

/// The seeds of each reader, in a folder of its name.
fn corpus() -> PathBuf {
    repo::root().join("fuzz/corpus")
}

/// The reader of that name, or all.
fn readers(target: Option<&str>) -> Result<Vec<String>> {
    let mut readers = Vec::new();
    for entry in fs::read_dir(corpus())? {
        readers.push(entry?.file_name().to_string_lossy().into_owned());
    }
    readers.sort();
    if let Some(wanted) = target {
        readers.retain(|reader| reader == wanted);
        if readers.is_empty() {
            bail!("no reader is called {wanted}; fuzz/corpus has a folder of each");
        }
    }
    Ok(readers)
}

/// Builds the program that fuzzes. Its dependencies are those of the tests, not compiled again: the same packages are selected, so
/// that each has the same features, and only the crates of this workspace are counted in.
fn build() -> Result<PathBuf> {
    let mut build = repo::cargo();
    build.args(["test", "--workspace", "--features=leakprobe-fuzz/libfuzzer", "--test=fuzz", "--no-run", "--locked"]);
    build
        .arg("--message-format=json-render-diagnostics")
        .env("RUSTC_WORKSPACE_WRAPPER", repo::root().join("fuzz/rustc"));
    let messages = run::output(&mut build)?;
    messages.lines().find_map(executable).context("cargo names no program that fuzzes")
}

/// The program that a message of cargo says was built.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    message.get("executable")?.as_str().map(PathBuf::from)
}

/// Whether the reader held out, and reached code that is counted.
fn fuzz_one(program: &Path, reader: &str, seconds: u32) -> Result<bool> {
    let began = Instant::now();
    let folder = repo::target().join("fuzz");
    let (found, artifacts) = (folder.join("corpus").join(reader), folder.join("found").join(reader));
    let log = folder.join("log").join(reader);
    for folder in [&found, &artifacts, &folder.join("log")] {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut fuzz = Command::new(program);
    // What is new goes to the first folder; that of the repository stays small.
    fuzz.env("LEAKPROBE_FUZZ", reader).arg(&found).arg(corpus().join(reader));
    fuzz.args(["-timeout=10", "-rss_limit_mb=1024", "-max_len=65536", "-print_final_stats=1"]);
    fuzz.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={}/", artifacts.display()));
    let status = run::status(fuzz.stdout(file.try_clone()?).stderr(file))?;
    let output = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let output = String::from_utf8_lossy(&output);
    let lines: Vec<&str> = output.lines().collect();
    let reached = coverage(&lines);
    let passed = status.success() && reached.is_some();
    let verdict = if passed { "ok" } else { "FAILED" };
    let (first, last) = reached.unwrap_or_default();
    let seconds = began.elapsed().as_secs_f32();
    run::say(&format!(
        "== {reader}: {verdict}, {seconds:.0} s, branches reached: {first} by the corpus, {last} at the end"
    ));
    if !passed {
        excerpt(&lines).iter().for_each(|line| run::say(&format!("{reader}| {line}")));
    }
    Ok(passed)
}

/// What libFuzzer's output says was reached by the corpus, and in all. `None` if nothing is counted.
fn coverage(lines: &[&str]) -> Option<(u64, u64)> {
    let of_line =
        |line: &&str| line.split_once("cov: ")?.1.split(' ').next()?.parse().ok().filter(|reached| *reached > 0);
    Some((lines.iter().find_map(of_line)?, lines.iter().rev().find_map(of_line)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_reached_is_read_from_its_output() {
        let lines = [
            "INFO: seed corpus: files: 2 min: 90b max: 123b total: 213b rss: 31Mb",
            "#3\tINITED cov: 190 ft: 198 corp: 2/406b exec/s: 0 rss: 34Mb",
            "#8\tNEW    cov: 201 ft: 214 corp: 3/512b lim: 128 exec/s: 0 rss: 34Mb L: 106/106 MS: 1 ChangeByte-",
            "#110886\tDONE   cov: 280 ft: 923 corp: 206/33Kb lim: 427 exec/s: 18481 rss: 35Mb",
        ];
        assert_eq!(coverage(&lines), Some((190, 280)));
        assert_eq!(coverage(&["#2\tINITED exec/s: 0 rss: 34Mb", "#9\tDONE   cov: 0 ft: 0"]), None);
    }

    #[test]
    fn the_program_is_the_executable_that_cargo_names() {
        assert_eq!(executable(r#"{"reason":"compiler-artifact","executable":null}"#), None);
        assert_eq!(executable(r#"{"reason":"compiler-artifact","executable":"/t/fuzz-1"}"#), Some("/t/fuzz-1".into()));
        assert_eq!(executable("running 1 test"), None);
    }
}
