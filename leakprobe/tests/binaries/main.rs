//! Binaries as they are found in the wild: libraries that come and go, files that were deleted or replaced, other roots and other
//! C libraries, 32-bit programs, code that is made at run time.
//!
//! Needs root, and the compilers that `cargo xtask test` installs. Never run in guests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod built;
mod contained;
mod deduplicated;
mod futexes;
mod granted;
mod in_kernel;
mod libraries;
mod made;
mod narrow;
mod roots;
mod runtimes;
mod unseen;
