//! Every report of a check, in one directory.

use std::{
    error::Error as _,
    path::{Path, PathBuf},
};

use super::super::{ExitCode, Failure, output::Plan};
use crate::{
    cli::Ci,
    model::Recording,
    report::{self, Format, diff::Pair, files},
};

/// What is written, and in which formats.
const REPORTS: [(&str, Format); 7] = [
    // The first, since all others can be made from it.
    ("recording.json", Format::Json),
    ("report.txt", Format::Txt),
    ("report.md", Format::Markdown),
    ("junit.xml", Format::Junit),
    ("leakprobe.sarif", Format::Sarif),
    ("after.svg", Format::Svg),
    ("after.folded", Format::Folded),
];

/// Finds out before hours of load that nothing can be written there.
pub(super) fn check(options: &Ci, plan: &Plan) -> Result<(), Failure> {
    let usage = |error: report::Error| Failure::from(error).with_code(ExitCode::Usage);
    if let Some(path) = &options.write_baseline {
        files::check(path, plan.owner()).map_err(usage)?;
    }
    match &options.artifacts {
        Some(directory) => files::create_directory(directory, plan.owner()).map_err(|error| {
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            let what = format!(
                "cannot create files in {}: {why}; choose another directory for --artifacts",
                directory.display()
            );
            Failure::new(ExitCode::Usage, what)
        }),
        None => Ok(()),
    }
}

/// Writes what a later check takes for known. Of the other processes the names have their ids.
pub(super) fn write_baseline(path: &Path, recording: &Recording, is_other: bool, plan: &Plan) -> Result<(), Failure> {
    let pid = recording.target.pid;
    let path = if is_other { report::path_of_process(path, pid) } else { path.to_owned() };
    plan.write_one(recording, Format::Json, &path, &mut None)
}

/// Writes them all; the first failure is told once all were tried. Of the other processes the names have their ids.
pub(super) fn write(
    options: &Ci,
    recording: &Recording,
    baseline: Option<&Recording>,
    is_other: bool,
    plan: &Plan,
) -> Result<(), Failure> {
    let place = |path: PathBuf| if is_other { report::path_of_process(&path, recording.target.pid) } else { path };
    let Some(directory) = &options.artifacts else {
        return Ok(());
    };
    let mut failure = None;
    let mut keep = |result: Result<(), Failure>| failure = failure.take().or(result.err());
    let mut kept = None;
    for (name, format) in REPORTS {
        keep(plan.write_one(recording, format, &place(directory.join(name)), &mut kept));
    }
    let page = place(directory.join("report.html"));
    keep(match baseline {
        Some(baseline) => plan.write_page_of_check(recording, baseline, &page),
        None => plan.write_one(recording, Format::Html, &page, &mut kept),
    });
    if let Some(baseline) = baseline {
        let mut kept = None;
        keep(plan.write_one(baseline, Format::Json, &place(directory.join("baseline.json")), &mut kept));
        keep(plan.write_one(baseline, Format::Svg, &place(directory.join("before.svg")), &mut kept));
        let named = |name: &str, recording: &Recording| (name.to_owned(), recording.clone());
        let pair = Pair { before: named("baseline", baseline), after: named("after the last round", recording) };
        keep(plan.write_pair(&pair, Format::Svg, &place(directory.join("difference.svg"))));
    }
    failure.map_or(Ok(()), Err)
}
