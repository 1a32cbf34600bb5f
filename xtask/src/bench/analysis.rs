//! How long a verdict takes, once everything was seen.

use anyhow::{Context, Result};

use super::Bench;
use super::table::goal;
use crate::{repo, run};

/// What the measuring test prints before its figure.
const MARK: &str = "ms to judge a million tasks in ten rounds: ";

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let mut test = repo::cargo();
    test.args(["test", "--release", "--locked", "--package", "leakprobe", "--lib", "--", "--ignored", "--nocapture"]);
    let output = run::output(test.arg("a_million_tasks_in_ten_rounds"))?;
    let figure = output.lines().find_map(|line| line.split_once(MARK)?.1.trim().parse::<f64>().ok());
    let ms = figure.context("the test that measures the analysis printed no figure")?;
    bench.table.section(
        "Verdicts",
        "1,000,000 goroutines at 1,000 sites, looked at in ten rounds, a tenth of them new in each; the recordings are there already.",
    );
    bench.table.row("to judge all of them", format!("{ms:.0} ms"), "", goal(ms < 2_000.0, "below 2,000 ms"));
    Ok(())
}
