//! `attach`: processes that run.

use std::path::PathBuf;

use super::{ExitCode, Failure, output::Plan, targets, watching};
use crate::cli::{Targets, Watch};

/// Watches until the processes end, the time is over or a signal comes; then reports.
pub(super) fn attach(of: &Targets, options: &Watch) -> Result<ExitCode, Failure> {
    let plan = Plan::of(&options.output, Some(PathBuf::from("leakprobe.svg")))?;
    let sessions = targets::open(of, &options.options, true)?;
    let recordings = watching::watch(sessions, options, || Ok(()))?;
    plan.write(&recordings)?;
    Ok(ExitCode::Done)
}
