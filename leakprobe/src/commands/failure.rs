//! How a command ends: exit codes, and errors of one sentence.

use crate::{
    report,
    watch::{self, ErrorKind},
};

/// Exit codes; scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Done = 0,
    /// More is parked than before.
    Leak = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// leakprobe itself failed.
    Failed = 3,
    /// No such process, or it ended before anything could be said.
    NoTarget = 4,
    /// Not permitted, or the kernel cannot do it.
    NotPermitted = 5,
    /// What was seen does not tell.
    Incomplete = 6,
    /// Reading the target has hung, and there is no report.
    Unanswered = 7,
    /// A signal came before there was anything to report, or a second one: as shells do for Ctrl-C.
    Interrupted = 130,
    /// Not seen by users: what the child of `run` ends with if it cannot become the program, as a shell would.
    CannotExec = 127,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// Why a command failed: one sentence that says what failed, on what, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The exit code.
    pub code: ExitCode,
    message: String,
    #[source]
    source: Option<anyhow::Error>,
}

impl Failure {
    /// A failure without a deeper cause.
    pub fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), source: None }
    }

    /// A failure that has been told already.
    pub fn silent(code: ExitCode) -> Self {
        Self::new(code, "")
    }

    /// The message for a terminal: without control characters, since it may quote a file that somebody else wrote.
    #[must_use]
    pub fn printable(&self) -> String {
        report::printable(&self.message)
    }

    /// The messages of the errors behind this one, the nearest first, without control characters.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        let first = std::error::Error::source(self);
        std::iter::successors(first, |error| error.source())
            .map(|error| report::printable(&error.to_string()))
            .collect()
    }

    /// This failure, of which there is more to say.
    pub(super) fn and(mut self, more: &str) -> Self {
        self.message += &format!("; {more}");
        self
    }

    /// This failure, with `code` as the exit code of leakprobe.
    pub(super) fn with_code(self, code: ExitCode) -> Self {
        Self { code, ..self }
    }

    fn from_error(code: ExitCode, error: impl Into<anyhow::Error>) -> Self {
        let error = error.into();
        Self { code, message: error.to_string(), source: Some(error) }
    }
}

impl From<watch::Error> for Failure {
    fn from(error: watch::Error) -> Self {
        let (kind, message, source) = error.into_parts();
        let code = match kind {
            ErrorKind::NoTarget => ExitCode::NoTarget,
            ErrorKind::Unsuitable => ExitCode::Usage,
            ErrorKind::NotPermitted => ExitCode::NotPermitted,
            ErrorKind::Unanswered => ExitCode::Unanswered,
            ErrorKind::Stopped => ExitCode::Interrupted,
            ErrorKind::Failed => ExitCode::Failed,
        };
        Self { code, message, source }
    }
}

impl From<report::Error> for Failure {
    fn from(error: report::Error) -> Self {
        let code = match &error {
            report::Error::Write { .. }
            | report::Error::TooMuchToRender { .. }
            | report::Error::OutputTooLarge { .. } => ExitCode::Failed,
            _ => ExitCode::Usage,
        };
        Self::from_error(code, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_does_not_reach_the_terminal_raw() {
        let text = r#"{"schema":"leakprobe/1","tasks":[{"kind":"\u001b[2J"}]}"#;
        let failure: Failure = report::json::read_from(text.as_bytes(), "x\u{7}.json".as_ref()).unwrap_err().into();
        assert!(failure.to_string().contains('\u{1b}'), "{failure:?}");
        for message in failure.causes().into_iter().chain([failure.printable()]) {
            assert!(!message.chars().any(char::is_control), "{message:?}");
        }
        assert!(!failure.causes().is_empty());
    }
}
