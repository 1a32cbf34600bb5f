//! Many processes at a time, and how soon leakprobe begins and ends.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use super::attached::PAUSE;
use super::table::goal;
use super::target::{Idle, Target};
use super::{Bench, cost, median, read};
use crate::{programs, repo, run};

/// Threads of the process beside which an idle one is watched.
const BUSY_THREADS: u32 = 3_000;

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    bench.table.section(
        "Many processes",
        format!(
            "`attach` on processes that are the same idle program. Medians of {} runs; memory is that of leakprobe and of the \
             process that reads debug information for it, at its peak.",
            bench.runs
        ),
    );
    let one = memory(bench, 1, None)?;
    memory(bench, 16, Some((110.0, 1.5)))?;
    let many = memory(bench, 64, Some((200.0, f64::INFINITY)))?;
    let further = (many - one) / 63.0;
    bench.table.row("of it, a further process", format!("{further:.2} MB"), "", goal(further <= 2.0, "at most 2 MB"));
    beside_busy(bench)?;
    start_and_end(bench)
}

/// Memory and time with so many targets, and what they are to be at most. Returns the memory, MB.
fn memory(bench: &mut Bench, targets: u32, most: Option<(f64, f64)>) -> Result<f64> {
    let idle = Idle::start(targets)?;
    let pids: Vec<String> = idle.pids().collect();
    let (mut took, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..bench.runs {
        let (recordings, seconds) = attach(bench, &pids, &["-d", "1s"])?;
        took.push(seconds);
        memory.push(recordings.iter().map(|recording| cost(recording, "rss_mb")).fold(0.0, f64::max));
    }
    let (took, memory) = (median(&mut took), median(&mut memory));
    let met = most.and_then(|(most, _)| goal(memory <= most, format!("at most {most} MB")));
    let what = if targets == 1 { "1 process".to_owned() } else { format!("{targets} processes") };
    bench.table.row(format!("{what}: memory"), format!("{memory:.0} MB"), "", met);
    let most = most.map(|(_, most)| most).filter(|most| most.is_finite());
    let met = most.and_then(|most| goal(took <= most, format!("at most {most} s")));
    bench.table.row(format!("{what}: `attach -d 1s`, whole command"), format!("{took:.2} s"), "", met);
    Ok(memory)
}

/// Whether an idle process keeps its interval beside one whose threads all run.
fn beside_busy(bench: &mut Bench) -> Result<()> {
    let idle = Idle::start(1)?;
    let (busy, _) = Target::start(&programs::build()?.join("busy"), &[&BUSY_THREADS.to_string()])?;
    let pids: Vec<String> = idle.pids().chain([busy.pid()]).collect();
    let options = ["-i", "50ms", "-d", "5s"];
    let (recordings, took) = attach(bench, &pids, &options)?;
    let snapshots = recordings.first().map_or(0, |recording| recording["coverage"]["snapshots"].as_u64().unwrap_or(0));
    let what = format!("snapshots of an idle process beside one with {BUSY_THREADS} busy threads, `-i 50ms -d 5s`");
    bench.table.row(what, format!("{snapshots} of 100"), "", goal(snapshots >= 95, "at least 95"));
    bench.table.row("the same, whole command", format!("{took:.2} s"), "", goal(took <= 5.3, "at most 5.3 s"));
    Ok(())
}

/// How long the command for one idle process takes, and how long it goes on after Ctrl-C.
fn start_and_end(bench: &mut Bench) -> Result<()> {
    let idle = Idle::start(1)?;
    let pids: Vec<String> = idle.pids().collect();
    let (mut snapshots, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..bench.runs {
        for pid in &pids {
            snapshots.push(bench.timed("snapshot", pid, &[])?.1);
        }
        let mut command = Command::new(repo::leakprobe());
        command.args(["attach", "-q", "-o"]).arg(bench.out.join("ended.json")).args(["-p", &pids[0]]);
        let mut attached = command.spawn().context("cannot start leakprobe")?;
        thread::sleep(PAUSE);
        let began = Instant::now();
        run::query(Command::new("kill").args(["-INT", &attached.id().to_string()]))?;
        attached.wait().context("cannot wait for leakprobe")?;
        ends.push(began.elapsed().as_secs_f64());
    }
    let (snapshot, end) = (1e3 * median(&mut snapshots), 1e3 * median(&mut ends));
    let what = "snapshot of a process with one thread, whole command";
    bench.table.row(what, format!("{snapshot:.0} ms"), "", goal(snapshot <= 40.0, "at most 40 ms"));
    bench.table.row("Ctrl-C to the end of attach", format!("{end:.0} ms"), "", goal(end <= 300.0, "at most 300 ms"));
    Ok(())
}

/// Attaches to the processes; returns their recordings, in their order, and how long the command took, s.
fn attach(bench: &Bench, pids: &[String], options: &[&str]) -> Result<(Vec<Value>, f64)> {
    let directory = bench.out.join("targets");
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let mut command = Command::new(repo::leakprobe());
    command.args(["attach", "-q", "-o"]).arg(directory.join("x.json")).args(options);
    for pid in pids {
        command.args(["-p", pid]);
    }
    let began = Instant::now();
    run::run(&mut command)?;
    let took = began.elapsed().as_secs_f64();
    let name = |pid: &String| if pids.len() == 1 { "x.json".to_owned() } else { format!("x-{pid}.json") };
    let recordings = pids.iter().map(|pid| read(&directory.join(name(pid)))).collect::<Result<_>>()?;
    Ok((recordings, took))
}
