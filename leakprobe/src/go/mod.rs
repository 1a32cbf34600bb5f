//! The Go runtimes of a live process, found from outside: which version, where its lists of goroutines and threads are, how its
//! structures are laid out.
//!
//! Nothing is needed but memory that can be read: no symbols, no debug information, no help of the process.

mod allgs;
mod allm;
mod build_version;
mod buildinfo;
mod calibrate;
mod code;
mod finder;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod goroutines;
mod image;
mod layout;
mod memory;
mod mentions;
mod moduledata;
pub mod pclntab;
mod reasons;
mod runtime;
mod scheduler;
mod version;

use std::{ops::Range, sync::Arc};

use crate::model::Gap;

pub use code::{Code, GoModule};
pub use finder::Finder;
pub use layout::{
    AncestorLayout, GLayout, HchanLayout, Labels, Layout, MLayout, Offset, PLayout, PollLayout, SchedLayout,
    SudogLayout, SyncLayout, TimerLayout, TimerState,
};
pub use scheduler::Scheduler;
pub use version::Version;

/// A Go runtime in a process. There can be several: each shared library that is written in Go has its own.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Its version.
    pub version: Version,
    /// How its structures are laid out.
    pub layout: Layout,
    /// Its code.
    pub code: Arc<Code>,
    /// Address of `runtime.allgs`, a slice (pointer, length, capacity) of pointers to `g`. It only ever grows.
    pub allgs: u64,
    /// Address of `runtime.allm`, a pointer to the first `m`, which are linked by [`MLayout::alllink`]; if it was found.
    pub allm: Option<u64>,
    /// Its processors, which keep its timers, and its scheduler; if they were found.
    pub scheduler: Option<Scheduler>,
    /// Where its variables lie that may hold pointers and that the program's file has no values for.
    pub bss: Range<u64>,
    /// Its words for why a goroutine waits, by [`GLayout::waitreason`]. Empty if they were not found.
    pub reasons: Arc<[Arc<str>]>,
    /// What could not be found out of it or is not sure.
    pub gaps: Vec<Gap>,
}

impl Runtime {
    /// Whether both are what was found of the same runtime: they have code in common.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        other.code.modules().iter().any(|module| self.code.find(module.text.start).is_some())
    }
}

/// Why a process, or a module of it, has no Go runtime that could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is still starting up: to be tried again.
    #[error("the Go runtime of {0} is still starting up")]
    NotYet(String),
    /// leakprobe does not know how to read it.
    #[error("{0}")]
    Unsupported(String),
    /// It cannot be read, or does not hold what it should.
    #[error("{0}")]
    Unreadable(String),
}
