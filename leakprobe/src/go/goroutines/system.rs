//! Which goroutines are the runtime's own: Go's dumps leave them out.

use std::collections::HashMap;

use super::waits::Reason;
use crate::{go::Code, model::GoStatus};

/// What the function that a goroutine began with says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    User,
    System,
    /// The runtime's own, except while it runs a finalizer or cleanup of the user.
    Finalizers,
}

/// Tells them apart.
#[derive(Debug, Default)]
pub(super) struct System {
    by_start: HashMap<u64, Origin>,
}

impl System {
    /// Whether the goroutine that began at `startpc` is the runtime's own.
    ///
    /// Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/traceback.go> (`isSystemGoroutine`). The runtime has a
    /// flag for whether a finalizer runs; from outside, what it waits for tells.
    pub(super) fn is_system(&mut self, code: &Code, startpc: u64, status: GoStatus, reason: Option<&Reason>) -> bool {
        /// Programs have some thousand functions that goroutines begin with.
        const MAX: usize = 1 << 16;
        if self.by_start.len() >= MAX {
            self.by_start.clear();
        }
        match self.by_start.entry(startpc).or_insert_with(|| origin(code, startpc)) {
            Origin::User => false,
            Origin::System => true,
            Origin::Finalizers => {
                matches!(status, GoStatus::Waiting | GoStatus::Leaked)
                    && reason.is_some_and(|reason| matches!(&*reason.text, "finalizer wait" | "cleanup wait"))
            }
        }
    }
}

fn origin(code: &Code, startpc: u64) -> Origin {
    let Some(function) = code.find(startpc).and_then(|module| module.table.find(startpc)) else {
        return Origin::User;
    };
    match &*function.name() {
        "runtime.main" | "runtime.corostart" | "runtime.handleAsyncEvent" => Origin::User,
        "runtime.runfinq" | "runtime.runFinalizers" | "runtime.runCleanups" => Origin::Finalizers,
        name if name.starts_with("runtime.") => Origin::System,
        _ => Origin::User,
    }
}
