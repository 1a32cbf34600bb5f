//! `snapshot`: every thread at this moment.

use super::{
    ExitCode, Failure,
    output::Plan,
    session::{Session, ended_early},
    targets,
};
use crate::{
    cli::{Targets, Watch},
    model::Recording,
};

/// One look, no waiting.
pub(super) fn snapshot(of: &Targets, watch: &Watch) -> Result<ExitCode, Failure> {
    let plan = Plan::of(&watch.output, None)?;
    let mut sessions = targets::open(of, watch, false)?;
    let pid = sessions.first().map_or(0, |session| session.target.pid);
    for session in &mut sessions {
        session.snapshot()?;
    }
    let seen = sessions.into_iter().filter(Session::has_seen_something);
    let recordings: Vec<Recording> = seen.map(|session| session.into_recording(true)).collect();
    if recordings.is_empty() {
        return Err(ended_early(pid));
    }
    plan.write(&recordings)?;
    Ok(ExitCode::Done)
}
