//! `snapshot`: every thread at this moment.

use super::{
    ExitCode, Failure,
    output::Plan,
    session::{Session, ended_early},
};
use crate::cli::Watch;

/// One look, no waiting.
pub(super) fn snapshot(watch: &Watch) -> Result<ExitCode, Failure> {
    let plan = Plan::of(&watch.output, None)?;
    let mut session = Session::open(watch, false)?;
    session.snapshot(Vec::new)?;
    if !session.has_seen_something() {
        return Err(ended_early(watch.pid));
    }
    plan.write(&session.into_recording(true))?;
    Ok(ExitCode::Done)
}
