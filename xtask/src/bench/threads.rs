//! Parked threads, beside `eu-stack`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use serde_json::Value;

use super::table::goal;
use super::target::Target;
use super::{Bench, cost, median};
use crate::{programs, run};

pub(super) fn measure(bench: &mut Bench, threads: u32) -> Result<()> {
    let many = programs::build()?.join("many");
    bench.table.section(
        "Parked threads",
        format!(
            "A program whose threads all wait for ever. Medians of {} runs; of eu-stack and gdb, which stop the program \
             meanwhile, fewer.",
            bench.runs
        ),
    );
    let (target, _) = Target::start(&many, &[&threads.to_string()])?;
    snapshot(bench, &target, threads)?;
    attach(bench, &target, &format!("{threads} parked threads"))?;
    drop(target);
    let (some, _) = Target::start(&many, &[&GDB_THREADS.to_string()])?;
    gdb(bench, &some)?;
    unseen(bench, &some)?;
    drop(some);
    let (few, _) = Target::start(&many, &["20"])?;
    attach(bench, &few, "20 parked threads")
}

/// The whole command, beside `eu-stack -p`.
fn snapshot(bench: &mut Bench, target: &Target, threads: u32) -> Result<()> {
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    let mut collecting = Vec::new();
    let mut memory: f64 = 0.0;
    let mut peer = String::new();
    let mut recording = Value::Null;
    for n in 0..bench.runs {
        // What eu-stack prints is a text of all stacks; the nearest to that is the recording.
        let took;
        (recording, took) = bench.timed("snapshot", &target.pid(), &[])?;
        ours.push(took);
        collecting.push(cost(&recording, "snapshot_ms"));
        memory = memory.max(cost(&recording, "rss_mb"));
        if n * 5 < bench.runs * 2 {
            let began = Instant::now();
            peer = run::output(Command::new("eu-stack").args(["-p", &target.pid()]))?;
            theirs.push(began.elapsed().as_secs_f64());
        }
    }
    let (ours, theirs, collecting) = (median(&mut ours), median(&mut theirs), median(&mut collecting));
    let ratio = theirs / ours;
    let what = format!("snapshot of {threads} threads, whole command");
    let met = goal(ratio >= 100.0, "×100");
    bench.table.row(what, format!("{ours:.3} s"), format!("eu-stack {theirs:.2} s: ×{ratio:.0}"), met);
    let collecting_met = goal(collecting < 150.0, "under 150 ms");
    bench.table.row("of it, collecting alone", format!("{collecting:.0} ms"), "", collecting_met);
    bench.table.row("largest memory", format!("{memory:.0} MB"), "", goal(memory < 80.0, "under 80 MB"));
    let (same, seen) = compare(&peer, &recording);
    bench.table.row(
        "threads with the same frames as eu-stack",
        format!("{same} of {seen}"),
        "",
        goal(same == seen, "all"),
    );
    Ok(())
}

/// As many threads as gdb is asked to look at: it takes minutes for ten times as many.
const GDB_THREADS: u32 = 1_000;

fn gdb(bench: &mut Bench, target: &Target) -> Result<()> {
    let (_, ours) = bench.timed("snapshot", &target.pid(), &[])?;
    let began = Instant::now();
    run::output(Command::new("gdb").args(["-p", &target.pid(), "-batch", "-ex", "thread apply all backtrace"]))?;
    let theirs = began.elapsed().as_secs_f64();
    let what = format!("snapshot of {GDB_THREADS} threads, whole command");
    bench.table.row(what, format!("{ours:.3} s"), format!("gdb {theirs:.2} s: ×{:.0}", theirs / ours), None);
    Ok(())
}

/// How many of threads that are parked for ever each tool sees in three seconds.
fn unseen(bench: &mut Bench, target: &Target) -> Result<()> {
    let recording = bench.leakprobe("attach", &target.pid(), &["-d", "3s"])?;
    let tasks = recording["tasks"].as_array().map_or(&[][..], Vec::as_slice);
    let parked = tasks.iter().filter(|task| task["state"] == "parked").count();
    let said = run::output(Command::new("offcputime").args(["-p", &target.pid(), "3"]))?;
    // One paragraph a stack, which ends in the thread's name and id.
    let theirs = said.lines().filter(|line| line.contains(" - ") || line.trim_end().ends_with(')')).count();
    bench.table.row(
        "parked threads seen in 3 s",
        format!("{parked} of {}", tasks.len()),
        format!("offcputime {theirs}"),
        goal(parked == tasks.len(), "all"),
    );
    Ok(())
}

/// What attach costs while nothing happens: two runs of different length, so that the start counts for nothing.
fn attach(bench: &mut Bench, target: &Target, what: &str) -> Result<()> {
    let mut cpu = Vec::new();
    let mut memory: f64 = 0.0;
    const SECONDS: [u32; 2] = [5, 25];
    for seconds in SECONDS {
        let recording = bench.leakprobe("attach", &target.pid(), &["-d", &format!("{seconds}s")])?;
        cpu.push(cost(&recording, "cpu_ms"));
        memory = memory.max(cost(&recording, "rss_mb"));
    }
    let idle = (cpu[1] - cpu[0]) / 10.0 / f64::from(SECONDS[1] - SECONDS[0]);
    let what = format!("attach -i 1s to {what} while nothing happens, of a core");
    bench.table.row(what, format!("{idle:.2} %"), "", goal(idle < 0.5, "under 0.5 %"));
    bench.table.row("largest memory meanwhile", format!("{memory:.0} MB"), "", goal(memory < 80.0, "under 80 MB"));
    Ok(())
}

/// How many threads have the same functions in both, of those that eu-stack saw. Inlined functions, which eu-stack does not
/// show by default, are left out; names are compared without symbol versions and leading underscores, since one address may
/// have several names.
fn compare(peer: &str, recording: &Value) -> (usize, usize) {
    let plain = |name: &str| name.split('@').next().unwrap_or(name).trim_start_matches('_').to_owned();
    let mut theirs: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut tid = None;
    for line in peer.lines() {
        if let Some(id) = line.strip_prefix("TID ") {
            tid = id.trim_end_matches(':').parse().ok();
            theirs.extend(tid.map(|tid| (tid, Vec::new())));
        } else if let (Some(tid), true) = (tid, line.starts_with('#')) {
            let name = line.split_whitespace().nth(2).unwrap_or_default();
            theirs.entry(tid).or_default().push(plain(name));
        }
    }
    let frames = recording["frames"].as_array().map_or(&[][..], Vec::as_slice);
    let name = |index: &Value| {
        let frame = frames.get(usize::try_from(index.as_u64()?).ok()?)?;
        let inlined = frame["inlined"].as_bool().unwrap_or(false);
        (!inlined).then(|| plain(frame["function"].as_str().unwrap_or_default()))
    };
    let mut same = BTreeSet::new();
    for task in recording["tasks"].as_array().into_iter().flatten() {
        let stack: Vec<String> = task["stack"].as_array().into_iter().flatten().filter_map(name).collect();
        let id = task["id"].as_u64().unwrap_or(0);
        if theirs.get(&id) == Some(&stack) {
            same.insert(id);
        }
    }
    (same.len(), theirs.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn stacks_are_compared_by_function() {
        let peer = "PID 1 - process\nTID 1:\n#0  0x01 __poll\n#1  0x02 main@@V1\nTID 2:\n#0  0x01 read\n";
        let recording = json!({
            "frames": [{"function": "poll"}, {"function": "inner", "inlined": true}, {"function": "main"}],
            "tasks": [{"id": 1, "stack": [0, 1, 2]}, {"id": 2, "stack": [0]}],
        });
        assert_eq!(compare(peer, &recording), (1, 2));
    }
}
