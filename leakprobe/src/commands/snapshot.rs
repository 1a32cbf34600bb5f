//! `snapshot`: every thread at this moment.

use std::time::Duration;

use super::{ExitCode, Failure, output::Plan, targets};
use crate::{
    aside::{Aside, map_all},
    cli::{Targets, Watch},
    model::{Gap, Recording},
    target::TargetError,
    watch::{Error, Session},
};

/// How long one target may keep the others waiting without anything going on.
const PATIENCE: Duration = Duration::from_secs(8);

/// One look, no waiting.
pub(super) fn snapshot(of: &Targets, watch: &Watch) -> Result<ExitCode, Failure> {
    let plan = Plan::of(&watch.output, None)?;
    let sessions = targets::open(of, &watch.options, false)?;
    let pid = sessions.first().map_or(0, |session| session.target.pid);
    let mut recordings = Vec::new();
    let mut unanswered = Vec::new();
    let pids: Vec<u32> = sessions.iter().map(|session| session.target.pid).collect();
    // One that hangs keeps no other waiting.
    let look_aside = |session| Aside::default().run_large(move || look(session), |quiet| quiet.silent < PATIENCE);
    for (pid, looked) in pids.into_iter().zip(map_all(sessions, look_aside, || false)) {
        match looked.flatten() {
            Some(recording) => recordings.extend(recording?),
            None => unanswered.push(pid),
        }
    }
    let Some(first) = recordings.first_mut() else {
        let silent = unanswered.first().map(|&pid| Error::from(TargetError::Silent(pid)));
        return Err(silent.unwrap_or_else(|| Error::ended_early(pid)).into());
    };
    for &pid in &unanswered {
        tracing::warn!("{}", TargetError::Silent(pid));
        first.coverage.gaps.push(Gap::ProcessUnanswered { pid });
    }
    plan.write(&recordings)?;
    Ok(ExitCode::Done)
}

/// What there is to see of one; `None` if it has ended before.
fn look(mut session: Session) -> Result<Option<Recording>, Error> {
    session.snapshot()?;
    Ok(session.has_seen_something().then(|| session.into_recording(true)))
}
