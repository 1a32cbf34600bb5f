//! `cargo xtask kernels`: runs leakprobe and its real-kernel tests in Debian's kernels, each in a QEMU guest.
//!
//! Nothing is installed and root is not needed: apt downloads into `target/kernels` with its own lists, signatures
//! checked as usual, and dpkg unpacks there. [`apt`] downloads, [`qemu`] finds the emulator, [`image`] the kernels,
//! [`initramfs`] packs files, [`payload`] chooses them and the steps, [`guest`] boots and judges.

mod apt;
mod guest;
mod image;
mod initramfs;
mod payload;
mod qemu;

use std::time::Instant;
use std::{fs, thread};

use anyhow::{Context, Result, anyhow, bail};

use crate::tally::Tally;
use crate::{repo, run};
use guest::{Guest, Outcome};
use image::Kernel;
use payload::Payload;

/// Kernels that CI runs: the oldest that snapshots work on and that Debian has, and the newest.
pub(crate) const CI_KERNELS: &str = "bookworm sid";

const ALL_KERNELS: &str = "bookworm trixie trixie-backports:6.18 sid";

/// Run leakprobe and its real-kernel tests in several kernels under QEMU
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Debian suites, each with an optional version prefix
    #[arg(long, default_value = CI_KERNELS, value_name = "SUITE[:VERSION] …")]
    kernels: String,
    /// All kernels that leakprobe promises to work on
    #[arg(long, conflicts_with = "kernels")]
    all: bool,
    /// Leave out the tests of what is the same on every kernel: checks, tables, output files, error messages
    #[arg(long)]
    quick: bool,
    /// Run this shell command in the guests instead of leakprobe's steps; `kernel-test NAME` there runs some of the tests
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
    /// Memory of a guest in MiB [default: what the files need, at least 1024]
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// Processors of a guest
    #[arg(long, default_value_t = 2, value_name = "N")]
    cpus: u32,
    /// Longest time for one guest, in seconds
    #[arg(long, default_value_t = 1200, value_name = "SECONDS")]
    timeout: u32,
    /// Debian mirror, the URL without /debian [default: the one that this machine's apt uses]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

impl Args {
    /// The defaults, for other `kernels`; `is_quick` leaves out what is the same on every kernel.
    pub(crate) fn with_kernels(kernels: &str, is_quick: bool) -> Self {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            args: Args,
        }
        // Parsed, so that the defaults above are the only ones.
        let defaults = <Defaults as clap::Parser>::parse_from(["kernels", "--kernels", kernels]).args;
        Self { quick: is_quick, ..defaults }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let tally = matrix(args)?;
    run::say(&tally.to_string());
    if tally.failed > 0 {
        bail!("not everything passed in the guests: their consoles are in {}", log_folder().display());
    }
    Ok(())
}

/// Runs everything in every kernel and says how it went, one line a kernel.
pub(crate) fn matrix(args: &Args) -> Result<Tally> {
    let payload = match &args.command {
        Some(command) => Payload::of_command(command)?,
        None => Payload::of_leakprobe(args.quick)?,
    };
    let work = repo::target().join("kernels");
    let logs = log_folder();
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let mirror = apt::Mirror::find(args.mirror.as_deref())?;
    let qemu = qemu::find(&work, &mirror)?;
    let guest = Guest {
        qemu,
        initramfs: payload.pack(&work, &mirror)?,
        memory: args.memory,
        cpus: args.cpus,
        timeout: args.timeout,
    };
    let specs = if args.all { ALL_KERNELS } else { &args.kernels };
    let kernels: Vec<(&str, Result<Kernel>)> =
        specs.split_whitespace().map(|spec| (spec, image::find(&work, &mirror, spec))).collect();
    let mut tally = Tally::default();
    let mut table = Vec::new();
    // Two at a time: a guest's tests wait more than they work.
    for pair in kernels.chunks(2) {
        let boot = |kernel: &Kernel| {
            let started = Instant::now();
            let log = logs.join(format!("{}.log", kernel.version));
            let outcome = guest.boot(kernel, &log, &payload.step_names())?;
            Ok::<_, anyhow::Error>((row(&kernel.version, started, &outcome), outcome))
        };
        let outcomes: Vec<Option<_>> = thread::scope(|scope| {
            let kernels = pair.iter().map(|(_, kernel)| kernel.as_ref().ok());
            let running: Vec<_> = kernels.map(|kernel| kernel.map(|kernel| scope.spawn(|| boot(kernel)))).collect();
            running.into_iter().map(|guest| guest.map(thread::ScopedJoinHandle::join)).collect()
        });
        for ((spec, kernel), outcome) in pair.iter().zip(outcomes) {
            let row = match (kernel, outcome) {
                (Ok(kernel), Some(outcome)) => {
                    let (row, outcome) = outcome.map_err(|_| anyhow!("a guest's thread panicked"))??;
                    tally.add(outcome.tally);
                    for line in &outcome.failures {
                        run::say(&format!("{}| {line}", kernel.version));
                    }
                    row
                }
                (Err(error), _) => {
                    tally.count(false);
                    format!("{spec:<36} FAIL  no kernel: {error:#}")
                }
                (Ok(_), None) => bail!("the guest of {spec} was not started"),
            };
            run::say(&row);
            table.push(row);
        }
    }
    run::say(&format!("\nkernels:\n{}", table.join("\n")));
    Ok(tally)
}

fn row(version: &str, started: Instant, outcome: &Outcome) -> String {
    let result = if outcome.tally.failed == 0 { "PASS" } else { "FAIL" };
    format!("{version:<36} {result} {:>5.1} s  {}", started.elapsed().as_secs_f32(), outcome.details.join(", "))
}

fn log_folder() -> std::path::PathBuf {
    repo::target().join("kernels/log")
}
