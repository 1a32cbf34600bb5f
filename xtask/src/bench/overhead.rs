//! What each wait costs the target while it is watched: two threads on one CPU that do nothing but wake each other through a
//! futex, which is the worst that there is.

use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::attached::{Attached, PAUSE};
use super::table::{Goal, goal};
use super::target::Target;
use super::{Bench, median};
use crate::programs;

/// How long each measurement lasts, s.
const SECONDS: &str = "4";
/// bpftrace compiles first.
const COMPILING: Duration = Duration::from_secs(4);

/// Who watches.
struct Watcher {
    name: &'static str,
    start: fn(&str) -> Result<Attached>,
    goal: Option<f64>,
    is_ours: bool,
}

const WATCHERS: [Watcher; 7] = [
    Watcher { name: "attach", start: |pid| Attached::leakprobe(pid, &[]), goal: Some(1.05), is_ours: true },
    Watcher {
        name: "attach, with 15 more processes",
        start: |pid| Attached::leakprobe_and_others(pid, 15),
        goal: Some(1.10),
        is_ours: true,
    },
    Watcher {
        name: "attach --max-overhead off",
        start: |pid| Attached::leakprobe(pid, &["--max-overhead", "off"]),
        goal: Some(1.35),
        is_ours: true,
    },
    Watcher {
        name: "attach --probe sched --max-overhead off",
        start: |pid| Attached::leakprobe(pid, &["--probe", "sched", "--max-overhead", "off"]),
        goal: Some(1.10),
        is_ours: true,
    },
    Watcher {
        name: "attach --probe snapshot",
        start: |pid| Attached::leakprobe(pid, &["--probe", "snapshot"]),
        goal: None,
        is_ours: true,
    },
    Watcher {
        name: "offcputime -p (libbpf-tools)",
        start: |pid| Attached::tool(Command::new("offcputime").args(["-p", pid]), PAUSE),
        goal: None,
        is_ours: false,
    },
    Watcher {
        name: "bpftrace, sched_switch with user stacks",
        start: |pid| {
            let program = format!("tracepoint:sched:sched_switch /pid == {pid}/ {{ @[ustack] = count(); }}");
            Attached::tool(Command::new("bpftrace").args(["-e", &program]), COMPILING)
        },
        goal: None,
        is_ours: false,
    },
];

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let pingpong = programs::build()?.join("pingpong");
    let (mut target, _) = Target::start(&pingpong, &[])?;
    let mut untraced = Vec::new();
    let mut watched = WATCHERS.map(|_| Vec::new());
    for _ in 0..bench.runs {
        thread::sleep(PAUSE);
        untraced.push(round_trip(&mut target)?);
        for (watcher, times) in WATCHERS.iter().zip(&mut watched) {
            let attached = (watcher.start)(&target.pid())?;
            times.push(round_trip(&mut target)?);
            attached.detach()?;
        }
    }
    let base = median(&mut untraced);
    bench.table.section(
        "What a wait costs while it is watched",
        format!(
            "Two threads on one CPU wake each other through a futex, as fast as they can, for {SECONDS} s in each turn: a \
             round trip takes {base:.0} ns untraced. Medians of {} turns.",
            bench.runs
        ),
    );
    for (watcher, times) in WATCHERS.iter().zip(&mut watched) {
        let ratio = median(times) / base;
        let figure = format!("×{ratio:.2}");
        let (ours, beside) = if watcher.is_ours { (figure, String::new()) } else { (String::new(), figure) };
        let goal: Option<Goal> = watcher.goal.and_then(|most| goal(ratio <= most, format!("at most ×{most:.2}")));
        bench.table.row(watcher.name, ours, beside, goal);
    }
    Ok(())
}

/// What a round trip takes, ns.
fn round_trip(target: &mut Target) -> Result<f64> {
    Ok(target.ask(SECONDS)?.first().copied().unwrap_or(f64::NAN))
}
