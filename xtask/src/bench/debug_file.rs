//! A program whose debug information has 2 GB, as those of browsers have: real debug information, many times over.

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::table::goal;
use super::target::Target;
use super::{Bench, cost, median};
use crate::{programs, run};

/// Size of the debug information, bytes.
const SIZE: usize = 2_000_000_000;

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    bench.table.section(
        "A debug file of 2 GB",
        format!(
            "A program in Rust, whose debug information is in a file of its own and was repeated until it had {} GB. Medians of {} \
             runs; the file is in the page cache. Most of the memory is that file, mapped.",
            SIZE / 1_000_000_000,
            bench.runs
        ),
    );
    let folder = bench.out.join("debug-file");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join(".debug")).with_context(|| format!("cannot create {}", folder.display()))?;
    let [program, debug, info] = ["program", ".debug/program.debug", "info"].map(|name| folder.join(name));
    let objcopy = |options: &[&str]| {
        let mut objcopy = Command::new("objcopy");
        objcopy.current_dir(&folder).args(options);
        objcopy
    };
    fs::copy(programs::build()?.join("futexes_rust"), &program).context("cannot copy the program")?;
    run::run(&mut objcopy(&["--only-keep-debug", "--dump-section", ".debug_info=info", "program", "split"]))?;
    let once = fs::read(&info).with_context(|| format!("cannot read {}", info.display()))?;
    if once.is_empty() {
        bail!("{} has no debug information", program.display());
    }
    let mut repeated = File::create(&info).with_context(|| format!("cannot write {}", info.display()))?;
    for _ in 0..SIZE.div_ceil(once.len()) {
        repeated.write_all(&once).with_context(|| format!("cannot write {}", info.display()))?;
    }
    run::run(&mut objcopy(&["--update-section", ".debug_info=info", "split", ".debug/program.debug"]))?;
    run::run(&mut objcopy(&["--strip-debug", "--add-gnu-debuglink=.debug/program.debug", "program"]))?;
    fs::remove_file(&info).with_context(|| format!("cannot remove {}", info.display()))?;

    let (target, _) = Target::start(&program, &[])?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let (mut memory, mut least, mut lines) = (0.0_f64, 0.0_f64, 0);
    for _ in 0..bench.runs {
        let (recording, took) = bench.timed("snapshot", &target.pid(), &[])?;
        with.push(took);
        memory = memory.max(cost(&recording, "rss_mb"));
        let frames = recording["frames"].as_array().map_or(&[][..], Vec::as_slice);
        let is_read = |frame: &&Value| {
            let is_its = frame["module"].as_str().is_some_and(|module| module.ends_with("/program"));
            is_its && frame["file"].is_string()
        };
        lines = frames.iter().filter(is_read).count();
        let (recording, took) = bench.timed("snapshot", &target.pid(), &["--no-debuginfo"])?;
        without.push(took);
        least = least.max(cost(&recording, "rss_mb"));
    }
    drop(target);
    let size = fs::metadata(&debug).with_context(|| format!("cannot read {}", debug.display()))?.len();
    let _ = fs::remove_dir_all(&folder);
    bench.table.row(
        format!("snapshot, whole command ({:.2} GB, {lines} frames of it with their lines)", size as f64 / 1e9),
        format!("{:.2} s", median(&mut with)),
        format!("--no-debuginfo {:.2} s", median(&mut without)),
        goal(lines > 0, "lines are found"),
    );
    bench.table.row(
        "largest memory",
        format!("{memory:.0} MB"),
        format!("--no-debuginfo {least:.0} MB"),
        goal(memory < 2.0 * size as f64 / 1e6, "under twice the file"),
    );
    Ok(())
}
