//! Figures, side by side with the peer in one run, printed as ratios: absolute times vary from machine to machine and from run
//! to run. Nothing here is a test; a missed goal is printed, not failed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{debian, programs, repo, run};

/// Measure leakprobe beside eu-stack: speed, memory, own CPU. Needs root
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Parked threads of the target
    #[arg(long, default_value_t = 10_000)]
    threads: u32,
    /// Runs of leakprobe of which the median counts; eu-stack, which takes a hundred times longer, gets two fifths of them
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if !debian::is_root()? {
        bail!("bench watches processes through BPF: run `sudo -E env PATH=$PATH cargo xtask bench`");
    }
    let needed = [("cc", "gcc"), ("/usr/include/stdio.h", "libc6-dev"), ("eu-stack", "elfutils")];
    debian::install_missing(&needed, "the bench")?;
    run::run(repo::cargo().args(["build", "--release", "--locked", "--package", "leakprobe"]))?;
    let many = programs::build()?.join("many");
    let out = repo::target().join("bench");
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;

    let target = Target::start(&many, args.threads)?;
    let mut bench = Bench { out, lines: Vec::new() };
    bench.snapshot(&target, args)?;
    bench.attach(&target, &format!("{} parked threads", args.threads))?;
    drop(target);
    let small = Target::start(&many, 20)?;
    bench.attach(&small, "20 parked threads")?;

    run::say("");
    for line in &bench.lines {
        run::say(line);
    }
    Ok(())
}

/// A program with parked threads; ends when its stdin closes.
struct Target(Child);

impl Target {
    fn start(program: &PathBuf, threads: u32) -> Result<Self> {
        run::say(&format!("$ {} {threads} &", program.display()));
        let mut command = Command::new(program);
        command.arg(threads.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let stdout = child.stdout.take().context("the target has no stdout")?;
        let target = Self(child);
        let mut lines = BufReader::new(stdout).lines();
        if !lines.any(|line| line.is_ok_and(|line| line == "ready")) {
            bail!("{} ended before it was ready; is the limit on threads below {threads}?", program.display());
        }
        // Every wait is older than the parked threshold then.
        thread::sleep(Duration::from_millis(1500));
        Ok(target)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

struct Bench {
    out: PathBuf,
    lines: Vec<String>,
}

impl Bench {
    fn tell(&mut self, line: String) {
        self.lines.push(line);
    }

    /// The whole command, beside `eu-stack -p`.
    fn snapshot(&mut self, target: &Target, args: &Args) -> Result<()> {
        let json = self.out.join("snapshot.json");
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        let mut collecting = Vec::new();
        let mut memory: f64 = 0.0;
        let mut peer = String::new();
        for n in 0..args.runs {
            let began = Instant::now();
            // What eu-stack prints is a text of all stacks; the nearest to that is the recording.
            let mut command = Command::new(repo::leakprobe());
            run::run(command.args(["snapshot", "-q", "-p", &target.pid(), "-o"]).arg(&json))?;
            ours.push(began.elapsed().as_secs_f64());
            let recording = read(&json)?;
            collecting.push(recording["cost"]["snapshot_ms"].as_f64().unwrap_or(f64::NAN));
            memory = memory.max(recording["cost"]["rss_mb"].as_f64().unwrap_or(f64::NAN));
            if n * 5 < args.runs * 2 {
                let began = Instant::now();
                peer = run::output(Command::new("eu-stack").args(["-p", &target.pid()]))?;
                theirs.push(began.elapsed().as_secs_f64());
            }
        }
        let (ours, theirs) = (median(&mut ours), median(&mut theirs));
        let ratio = theirs / ours;
        self.tell(format!(
            "snapshot of {} threads, whole command: {:.3} s, eu-stack {theirs:.2} s: ×{ratio:.0} ({})",
            args.threads,
            ours,
            goal(ratio >= 60.0, "goal: ×60")
        ));
        let collecting = median(&mut collecting);
        self.tell(format!(
            "  collecting alone: {collecting:.0} ms ({})",
            goal(collecting < 150.0, "goal: under 150 ms")
        ));
        self.tell(format!("  largest memory: {memory:.0} MB ({})", goal(memory < 80.0, "goal: under 80 MB")));
        let (same, seen) = compare(&peer, &read(&json)?);
        self.tell(format!("  threads with the same frames as eu-stack: {same} of {seen}"));
        Ok(())
    }

    /// What attach costs while nothing happens: two runs of different length, so that the start counts for nothing.
    fn attach(&mut self, target: &Target, what: &str) -> Result<()> {
        let json = self.out.join("attach.json");
        let mut cpu = Vec::new();
        let mut memory: f64 = 0.0;
        const SECONDS: [u32; 2] = [5, 25];
        for seconds in SECONDS {
            let duration = format!("{seconds}s");
            let mut command = Command::new(repo::leakprobe());
            run::run(command.args(["attach", "-q", "-d", &duration, "-p", &target.pid(), "-o"]).arg(&json))?;
            let recording = read(&json)?;
            cpu.push(recording["cost"]["cpu_ms"].as_f64().unwrap_or(f64::NAN));
            memory = memory.max(recording["cost"]["rss_mb"].as_f64().unwrap_or(f64::NAN));
        }
        let idle = (cpu[1] - cpu[0]) / 10.0 / f64::from(SECONDS[1] - SECONDS[0]);
        self.tell(format!(
            "attach to {what} while nothing happens: {idle:.2} % of a core ({}), memory {memory:.0} MB ({})",
            goal(idle < 0.5, "goal: under 0.5 %"),
            goal(memory < 80.0, "goal: under 80 MB")
        ));
        Ok(())
    }
}

fn goal(met: bool, what: &str) -> String {
    format!("{what}, {}", if met { "met" } else { "MISSED" })
}

fn read(path: &PathBuf) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
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
