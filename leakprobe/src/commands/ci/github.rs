//! What GitHub Actions is told besides the report: annotations, and the summary of the job.

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
};

use super::super::output::Plan;
use crate::{
    model::Recording,
    report::{self, Format, files},
};

/// Tells it, if this is such a job. What it cannot be told is a warning: the verdict does not depend on it.
pub(super) fn tell(recording: &Recording, plan: &Plan) {
    if !is_job() {
        return;
    }
    if !plan.is_quiet() {
        let annotations = report::annotations(recording, plan.options());
        // The runner reads both; what somebody else reads from stdout stays whole.
        let result = match plan.has_text_on_stdout() {
            true => io::stdout().write_all(annotations.as_bytes()),
            false => io::stderr().write_all(annotations.as_bytes()),
        };
        if let Err(error) = result {
            tracing::warn!("cannot write annotations: {error}");
        }
    }
    if let Some(path) = env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()).map(PathBuf::from) {
        let mut summary = Vec::new();
        let access = Format::Markdown.access(plan.options(), plan.owner());
        let rendered = Format::Markdown.report().write(recording, plan.options(), &mut summary);
        let written = rendered
            .map_err(|source| report::Error::Write { path: path.clone(), source })
            .and_then(|()| files::append(&path, access, &summary));
        if let Err(error) = written {
            tracing::warn!("the job has no summary: {error}");
        }
    }
}

/// Whether we run in a job of GitHub Actions.
pub(in crate::commands) fn is_job() -> bool {
    env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true")
}
