//! `attach`: a process that runs.

use std::path::PathBuf;

use super::{ExitCode, Failure, output::Plan, session::Session, watch};
use crate::cli::Watch;

/// Watches until the process ends, the time is over or a signal comes; then reports.
pub(super) fn attach(options: &Watch) -> Result<ExitCode, Failure> {
    let picture = PathBuf::from(format!("leakprobe-{}.svg", options.pid));
    let plan = Plan::of(&options.output, Some(picture))?;
    let session = Session::open(options, true)?;
    let recording = watch::watch(session, options, || Ok(()))?;
    plan.write(&recording)?;
    Ok(ExitCode::Done)
}
