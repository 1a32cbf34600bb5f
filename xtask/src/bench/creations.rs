//! A flood of threads that come and go.

use std::thread;

use anyhow::Result;

use super::attached::PAUSE;
use super::table::goal;
use super::target::Target;
use super::{Bench, cost};
use crate::programs;

/// Threads a second, and for how long.
const RATE: u32 = 20_000;
const SECONDS: u32 = 10;

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let churn = programs::build()?.join("churn");
    let (mut target, _) = Target::start(&churn, &[])?;
    let pid = target.pid();
    let recording = thread::scope(|scope| {
        let bench = &*bench;
        let watch = scope.spawn(move || {
            let seconds = format!("{}s", SECONDS + 5);
            bench.leakprobe("attach", &pid, &["-i", "1s", "-d", &seconds])
        });
        thread::sleep(PAUSE);
        let answer = target.ask(&format!("rate {RATE} {SECONDS}"));
        (watch.join(), answer)
    });
    let (watched, answer) = recording;
    let recording = watched.map_err(|_| anyhow::anyhow!("what watched has panicked"))??;
    let answer = answer?;
    let (created, took) = (answer.first().copied().unwrap_or(0.0), answer.get(1).copied().unwrap_or(f64::NAN));
    let seen = recording["coverage"]["created"].as_f64().unwrap_or(0.0);
    let loss = |name: &str| recording["losses"][name].as_u64().unwrap_or(0);
    bench.table.section(
        "A flood of threads",
        format!(
            "A program creates threads that end at once: {created:.0} in {:.1} s, which is {:.0} a second.",
            took / 1e3,
            created / took * 1e3
        ),
    );
    let same = (seen - created).abs() < 0.5;
    bench.table.row("creations counted", format!("{seen:.0} of {created:.0}"), "", goal(same, "none lost"));
    let stacks = loss("creation_stack_rate_limited") + loss("ring_full_stack");
    bench.table.row("of them without a stack, which is said", stacks.to_string(), "", None);
    let records = loss("events_not_told");
    bench.table.row("counted, but their record lost, which is said", records.to_string(), "", None);
    let percent = recording["cost"]["programs_percent"].as_f64().unwrap_or(f64::NAN);
    bench.table.row("programs in the kernel, of one core", format!("{percent:.1} %"), "", None);
    let cpu = cost(&recording, "cpu_ms") / f64::from(SECONDS + 5) / 10.0;
    bench.table.row("leakprobe's own CPU, of one core", format!("{cpu:.0} %"), "", None);
    Ok(())
}
