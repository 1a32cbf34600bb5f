//! What the target feels: the longest time for which one of its goroutines, which does nothing but read the clock, did not
//! get to do so.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::target::Target;
use super::{Bench, median};

/// How long each measurement lasts, s.
const SECONDS: u64 = 3;

/// While nothing else happens, while leakprobe takes snapshots, and while the target writes its own goroutine profile.
pub(super) fn measure(bench: &mut Bench, target: &mut Target, goroutines: u32) -> Result<()> {
    let mut idle = Vec::new();
    let mut ours = Vec::new();
    for _ in 0..bench.runs {
        idle.push(longest(target, || Ok(()))?);
        let pid = target.pid();
        let watch = || {
            let duration = format!("{}s", SECONDS - 1);
            bench.leakprobe("attach", &pid, &["--kind", "goroutines", "-i", "100ms", "-d", &duration]).map(drop)
        };
        ours.push(longest(target, watch)?);
    }
    let mut profiles = Vec::new();
    for debug in 0..=2 {
        let stall = target.ask(&format!("stalldebug {debug}"))?;
        profiles.push(format!("debug={debug} {:.1} ms", ms(&stall)));
    }
    let worst = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let (worst_idle, worst_ours) = (worst(&idle), worst(&ours));
    bench.table.row(
        format!("longest stall of the program, {goroutines} goroutines, ten snapshots a second: median (worst)"),
        format!("{:.1} ({worst_ours:.1}) ms", median(&mut ours)),
        format!("idle {:.1} ({worst_idle:.1}) ms, {}", median(&mut idle), profiles.join(", ")),
        None,
    );
    Ok(())
}

/// The longest stall in a time in which `meanwhile` happens, ms.
fn longest(target: &mut Target, meanwhile: impl FnOnce() -> Result<()>) -> Result<f64> {
    target.tell(&format!("stall {SECONDS}"))?;
    thread::sleep(Duration::from_millis(300));
    meanwhile()?;
    Ok(ms(&target.answer()?))
}

/// The first number of an answer, which is in ns.
fn ms(answer: &[f64]) -> f64 {
    answer.first().copied().unwrap_or(f64::NAN) / 1e6
}
