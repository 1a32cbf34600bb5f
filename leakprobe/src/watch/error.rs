//! Why a target cannot be watched.

use crate::{probes::ProbeError, target::TargetError};

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No such process, or it exited before anything could be seen of it.
    NoTarget,
    /// A process that cannot be watched, whoever asks: a kernel thread, or the caller itself.
    Unsuitable,
    /// Not permitted, or the kernel cannot do it.
    NotPermitted,
    /// The process, or a file that it depends on, does not answer.
    Unanswered,
    /// Watching was stopped before there was anything to report.
    Stopped,
    /// Anything else.
    Failed,
}

/// Why a target cannot be watched: one sentence that says what failed, on what, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    #[source]
    source: Option<anyhow::Error>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    fn caused_by(kind: ErrorKind, error: impl Into<anyhow::Error>) -> Self {
        let error = error.into();
        Self { kind, message: error.to_string(), source: Some(error) }
    }

    /// A fault of leakprobe's own.
    pub(crate) fn internal(what: &str, error: &dyn std::fmt::Display) -> Self {
        let what = format!("leakprobe could not {what}: {error}; this should not happen, please report it");
        Self::new(ErrorKind::Failed, what)
    }

    /// The process `pid` was gone before anything could be seen.
    pub(crate) fn ended_early(pid: u32) -> Self {
        let what = format!(
            "process {pid} ended before a first snapshot could be taken; watch a process that lasts, or start it with `leakprobe run -- CMD`"
        );
        Self::new(ErrorKind::NoTarget, what)
    }

    /// Somebody stopped watching before there was anything to report.
    pub(crate) fn stopped() -> Self {
        Self::new(ErrorKind::Stopped, "interrupted before there was anything to report")
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence, and the error behind it.
    pub(crate) fn into_parts(self) -> (ErrorKind, String, Option<anyhow::Error>) {
        (self.kind, self.message, self.source)
    }
}

impl From<TargetError> for Error {
    fn from(error: TargetError) -> Self {
        let kind = match &error {
            TargetError::NoSuchProcess(_) | TargetError::Zombie { .. } => ErrorKind::NoTarget,
            TargetError::IsThread { .. } | TargetError::KernelThread { .. } | TargetError::Ourselves(_) => {
                ErrorKind::Unsuitable
            }
            TargetError::NotPermitted { .. } => ErrorKind::NotPermitted,
            TargetError::Silent(_) => ErrorKind::Unanswered,
            TargetError::Proc { .. } => ErrorKind::Failed,
        };
        Self::caused_by(kind, error)
    }
}

impl From<ProbeError> for Error {
    fn from(error: ProbeError) -> Self {
        let kind = match &error {
            ProbeError::Iterator { .. } => ErrorKind::Failed,
            _ => ErrorKind::NotPermitted,
        };
        Self::caused_by(kind, error)
    }
}
