//! Figures, side by side with the peer in one run, printed as ratios: absolute times vary from machine to machine and from run
//! to run. Nothing here is a test; a missed goal is printed, not failed.

mod analysis;
mod attached;
mod creations;
mod debug_file;
mod goroutines;
mod overhead;
mod servers;
mod stall;
mod table;
mod target;
mod targets;
mod threads;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use self::table::Table;
use crate::{debian, repo, run};

/// Measure leakprobe beside its peers: speed, memory, own CPU, what the target feels. Needs root
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure
    #[arg(value_enum, default_values_t = What::ALL)]
    what: Vec<What>,
    /// Write the table to docs/performance.md
    #[arg(long)]
    write: bool,
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
#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    /// Threads, beside eu-stack
    Threads,
    /// Many processes at a time, and how soon leakprobe begins and ends
    Targets,
    /// Goroutines, beside the target's own pprof
    Goroutines,
    /// A debug file of 2 GB
    DebugFile,
    /// What a wait costs while it is watched, beside offcputime and bpftrace
    Overhead,
    /// A flood of threads that come and go
    Creations,
    /// What servers under load lose
    Servers,
    /// How long verdicts take
    Analysis,
}

impl What {
    const ALL: [Self; 8] = [
        Self::Threads,
        Self::Targets,
        Self::DebugFile,
        Self::Overhead,
        Self::Creations,
        Self::Servers,
        Self::Goroutines,
        Self::Analysis,
    ];
}

/// What is run, and the Debian package that holds it.
const NEEDED: [(&str, &str); 13] = [
    ("cc", "gcc"),
    ("objcopy", "binutils"),
    ("/usr/include/stdio.h", "libc6-dev"),
    ("eu-stack", "elfutils"),
    ("gdb", "gdb"),
    ("offcputime", "libbpf-tools"),
    ("bpftrace", "bpftrace"),
    ("wrk", "wrk"),
    ("redis-server", "redis-server"),
    ("redis-benchmark", "redis-tools"),
    ("memcached", "memcached"),
    ("memcslap", "libmemcached-tools"),
    ("nginx", "nginx-light"),
];

pub(crate) fn run(args: &Args) -> Result<()> {
    if !debian::is_root()? {
        bail!("bench watches processes through BPF: run `sudo -E env PATH=$PATH cargo xtask bench`");
    }
    debian::install_missing(&NEEDED, "the bench")?;
    run::run(repo::cargo().args(["build", "--release", "--locked", "--package", "leakprobe"]))?;
    let out = repo::target().join("bench");
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut bench = Bench { out, runs: args.runs, table: Table::default() };
    for what in &args.what {
        match what {
            What::Threads => threads::measure(&mut bench, args.threads)?,
            What::Targets => targets::measure(&mut bench)?,
            What::DebugFile => debug_file::measure(&mut bench)?,
            What::Overhead => overhead::measure(&mut bench)?,
            What::Creations => creations::measure(&mut bench)?,
            What::Servers => servers::measure(&mut bench)?,
            What::Analysis => analysis::measure(&mut bench)?,
            What::Goroutines => goroutines::measure(&mut bench, args.goroutines)?,
        }
    }
    let page = page(&bench.table)?;
    run::say(&format!("\n{page}"));
    if args.write {
        let place = repo::root().join("docs/performance.md");
        fs::write(&place, page).with_context(|| format!("cannot write {}", place.display()))?;
        run::say(&format!("wrote {}", place.display()));
    }
    run::say(&format!("{} goals missed", bench.table.missed()));
    Ok(())
}

/// The table, with the machine and the day.
fn page(table: &Table) -> Result<String> {
    Ok(format!(
        "# Performance\n\n\
         What `cargo xtask bench --write` measured {}. Figures in one row come from one run, in turns, on the same machine; \
         absolute times vary from machine to machine and from run to run.\n{}",
        machine_and_day()?,
        table.markdown()
    ))
}

/// When and on what something was measured: `on DAY, with VERSION: MACHINE, KERNEL`.
pub(crate) fn machine_and_day() -> Result<String> {
    let date = run::query(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let kernel = run::query(Command::new("uname").args(["-sr"]))?;
    let cpus = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let model =
        cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("", |(_, name)| name);
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let virtual_machine = if cpus.contains(" hypervisor") { ", a virtual machine" } else { "" };
    let version = run::query(Command::new(repo::leakprobe()).arg("--version"))?;
    Ok(format!(
        "on {}, with {}: {cores} cores of {model}{virtual_machine}, {}",
        date.trim(),
        version.trim(),
        kernel.trim(),
    ))
}

/// What the measurements share.
struct Bench {
    out: PathBuf,
    runs: u32,
    table: Table,
}

impl Bench {
    /// Runs leakprobe on a process, quietly; returns its recording.
    fn leakprobe(&self, command: &str, pid: &str, options: &[&str]) -> Result<Value> {
        Ok(self.timed(command, pid, options)?.0)
    }

    /// The same, and how long the command took, in s: that of reading the recording is not its.
    fn timed(&self, command: &str, pid: &str, options: &[&str]) -> Result<(Value, f64)> {
        let json = self.out.join(format!("{command}.json"));
        let mut leakprobe = Command::new(repo::leakprobe());
        let began = Instant::now();
        run::run(leakprobe.args([command, "-q", "-p", pid]).args(options).arg("-o").arg(&json))?;
        let took = began.elapsed().as_secs_f64();
        Ok((read(&json)?, took))
    }

    /// How long a snapshot takes that ends in a text report, in s.
    fn text(&self, pid: &str, options: &[&str]) -> Result<f64> {
        let mut leakprobe = Command::new(repo::leakprobe());
        let began = Instant::now();
        run::run(
            leakprobe.args(["snapshot", "-q", "-p", pid]).args(options).arg("-o").arg(self.out.join("snapshot.txt")),
        )?;
        Ok(began.elapsed().as_secs_f64())
    }
}

/// A number of a recording's `cost`.
fn cost(recording: &Value, name: &str) -> f64 {
    recording["cost"][name].as_f64().unwrap_or(f64::NAN)
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
