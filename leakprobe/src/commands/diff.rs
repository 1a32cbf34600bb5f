//! `diff`: what is parked in one recording and not in another.

use std::path::Path;

use super::{ExitCode, Failure, output::Plan};
use crate::{
    analysis::Outcome,
    cli::Output,
    report::{self, diff::Pair, json},
};

/// Compares two recordings; the exit code says what it came to.
pub(super) fn diff(before: &Path, after: &Path, output: &Output) -> Result<ExitCode, Failure> {
    let plan = Plan::of(output, None)?;
    plan.formats().try_for_each(report::diff::check_format)?;
    if before == Path::new("-") && after == Path::new("-") {
        let what = "cannot read both recordings from stdin; give at least one of them as a file";
        return Err(Failure::new(ExitCode::Usage, what));
    }
    let read = |path: &Path| json::read(path).map(|recording| (path.display().to_string(), recording));
    let pair = Pair { before: read(before)?, after: read(after)? };
    plan.write_diff(&pair)?;
    Ok(match pair.outcome(plan.options()) {
        Outcome::More => ExitCode::Leak,
        Outcome::NoMore => ExitCode::Done,
        Outcome::Incomplete => ExitCode::Incomplete,
    })
}
