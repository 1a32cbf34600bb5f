//! Figures, side by side with the peer in one run, printed as ratios: absolute times vary from machine to machine and from run
//! to run. Nothing here is a test; a missed goal is printed, not failed.

mod goroutines;
mod stall;
mod target;
mod threads;
mod throughput;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{debian, repo, run};

/// Measure leakprobe beside its peers: speed, memory, own CPU, what the target feels. Needs root
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure
    #[arg(value_enum, default_values_t = [What::Threads, What::Goroutines, What::Throughput])]
    what: Vec<What>,
    /// Parked threads of the target
    #[arg(long, default_value_t = 10_000)]
    threads: u32,
    /// Parked goroutines of the target; ten times as many are measured once more
    #[arg(long, default_value_t = 100_000)]
    goroutines: u32,
    /// Runs of leakprobe of which the median counts; eu-stack, which takes a hundred times longer, gets two fifths of them
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum What {
    /// Threads, beside eu-stack
    Threads,
    /// Goroutines, beside the target's own pprof
    Goroutines,
    /// What a Go server under load loses
    Throughput,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if !debian::is_root()? {
        bail!("bench watches processes through BPF: run `sudo -E env PATH=$PATH cargo xtask bench`");
    }
    let needed = [("cc", "gcc"), ("/usr/include/stdio.h", "libc6-dev"), ("eu-stack", "elfutils"), ("wrk", "wrk")];
    debian::install_missing(&needed, "the bench")?;
    run::run(repo::cargo().args(["build", "--release", "--locked", "--package", "leakprobe"]))?;
    let out = repo::target().join("bench");
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut bench = Bench { out, runs: args.runs, lines: Vec::new() };
    if args.what.contains(&What::Threads) {
        threads::measure(&mut bench, args.threads)?;
    }
    if args.what.contains(&What::Goroutines) {
        goroutines::measure(&mut bench, args.goroutines)?;
    }
    if args.what.contains(&What::Throughput) {
        throughput::measure(&mut bench)?;
    }
    run::say("");
    for line in &bench.lines {
        run::say(line);
    }
    Ok(())
}

/// What the measurements share.
struct Bench {
    out: PathBuf,
    runs: u32,
    lines: Vec<String>,
}

impl Bench {
    /// A line of the result.
    fn tell(&mut self, line: String) {
        self.lines.push(line);
    }

    /// Runs leakprobe on a process, quietly; returns its recording.
    fn leakprobe(&self, command: &str, pid: &str, options: &[&str]) -> Result<Value> {
        let json = self.out.join(format!("{command}.json"));
        let mut leakprobe = Command::new(repo::leakprobe());
        run::run(leakprobe.args([command, "-q", "-p", pid]).args(options).arg("-o").arg(&json))?;
        read(&json)
    }
}

/// A number of a recording's `cost`.
fn cost(recording: &Value, name: &str) -> f64 {
    recording["cost"][name].as_f64().unwrap_or(f64::NAN)
}

fn goal(met: bool, what: &str) -> String {
    format!("{what}, {}", if met { "met" } else { "MISSED" })
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
