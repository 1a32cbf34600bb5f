//! Parked goroutines, beside the target's own `runtime/pprof`.

use anyhow::Result;

use super::table::goal;
use super::target::Target;
use super::{Bench, cost, median, stall};
use crate::go_programs;

/// How deep the parked goroutines are.
const DEPTH: &str = "3";

pub(super) fn measure(bench: &mut Bench, goroutines: u32) -> Result<()> {
    let many = go_programs::built("default", "many")?;
    bench.table.section(
        "Parked goroutines",
        format!("Beside the program's own `runtime/pprof`. Medians of {} runs.", bench.runs),
    );
    let (mut target, _) = Target::start(&many, &[&goroutines.to_string(), DEPTH])?;
    snapshot(bench, &mut target, goroutines)?;
    again(bench, &mut target)?;
    stall::measure(bench, &mut target, goroutines)?;
    drop(target);
    let goroutines = goroutines.saturating_mul(10);
    let (mut target, _) = Target::start(&many, &[&goroutines.to_string(), DEPTH])?;
    million(bench, &mut target, goroutines)
}

/// The whole first snapshot, beside debug=2, which is what tells as much.
fn snapshot(bench: &mut Bench, target: &mut Target, goroutines: u32) -> Result<()> {
    let mut collecting = Vec::new();
    let mut whole = Vec::new();
    let mut texts = Vec::new();
    let mut theirs = Vec::new();
    let mut seen = 0;
    for n in 0..bench.runs {
        let (recording, took) = bench.timed("snapshot", &target.pid(), &["--kind", "goroutines"])?;
        whole.push(took * 1e3);
        texts.push(bench.text(&target.pid(), &["--kind", "goroutines"])? * 1e3);
        collecting.push(cost(&recording, "snapshot_ms"));
        seen = recording["coverage"]["go"]["goroutines"].as_u64().unwrap_or(0);
        if n * 5 < bench.runs * 2 {
            theirs.push(pprof(bench, target, 2)?);
        }
    }
    let (collecting, whole, theirs) = (median(&mut collecting), median(&mut whole), median(&mut theirs));
    let ratio = theirs / collecting;
    bench.table.row(
        format!("snapshot of {goroutines} goroutines ({seen} seen)"),
        format!("{collecting:.0} ms"),
        format!("debug=2 {theirs:.0} ms: ×{ratio:.0}"),
        goal(collecting < 200.0 && ratio >= 10.0, "under 200 ms, ×10"),
    );
    let ratio = theirs / whole;
    let what = "whole command, with the recording of all of them";
    bench.table.row(what, format!("{whole:.0} ms"), format!("×{ratio:.1}"), goal(ratio >= 5.0, "×5"));
    let ratio = theirs / median(&mut texts);
    let what = "whole command, with a text report";
    bench.table.row(what, format!("{:.0} ms", theirs / ratio), format!("×{ratio:.1}"), goal(ratio >= 10.0, "×10"));
    Ok(())
}

/// Snapshots after the first, of a target that runs meanwhile: one that has not run at all is not even looked at.
fn again(bench: &mut Bench, target: &mut Target) -> Result<()> {
    target.tell("stall 4")?;
    let recording = bench.leakprobe("attach", &target.pid(), &["--kind", "goroutines", "-i", "200ms", "-d", "3s"])?;
    let _ = target.line()?;
    let (first, repeated) = (cost(&recording, "snapshot_ms"), cost(&recording, "repeated_snapshot_ms"));
    let ratio = first / repeated;
    bench.table.row(
        "repeated while the program runs",
        format!("{repeated:.0} ms"),
        format!("the first one {first:.0} ms: ×{ratio:.1}"),
        goal(ratio >= 3.0, "×3"),
    );
    bench.table.row("largest memory while attached", format!("{:.0} MB", cost(&recording, "rss_mb")), "", None);
    Ok(())
}

fn million(bench: &mut Bench, target: &mut Target, goroutines: u32) -> Result<()> {
    let recording = bench.leakprobe("snapshot", &target.pid(), &["--kind", "goroutines"])?;
    let theirs = pprof(bench, target, 2)?;
    let (ours, memory) = (cost(&recording, "snapshot_ms"), cost(&recording, "rss_mb"));
    let seen = recording["coverage"]["go"]["goroutines"].as_u64().unwrap_or(0);
    bench.table.row(
        format!("snapshot of {goroutines} goroutines ({seen} seen)"),
        format!("{ours:.0} ms"),
        format!("debug=2 {theirs:.0} ms: ×{:.0}", theirs / ours),
        goal(ours < 3000.0, "under 3,000 ms"),
    );
    bench.table.row("largest memory", format!("{memory:.0} MB"), "", goal(memory < 300.0, "under 300 MB"));
    Ok(())
}

/// How long the target takes for its own goroutine profile, ms.
fn pprof(bench: &Bench, target: &mut Target, debug: u8) -> Result<f64> {
    let file = bench.out.join("pprof.txt");
    let took = target.ask(&format!("debug{debug} {}", file.display()))?;
    Ok(took.first().copied().unwrap_or(f64::NAN) / 1e6)
}
