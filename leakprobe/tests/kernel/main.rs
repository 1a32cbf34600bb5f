//! The real leakprobe on real programs and the real kernel, as root. Also run in guests by `cargo xtask kernels`, so these
//! tests need no other programs than our own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod checks;
mod creation;
mod embedding;
mod ends;
mod errors;
mod governor;
mod helper;
mod hostile;
mod interrupted;
mod live;
mod locks;
mod machine;
mod objects;
mod outputs;
mod places;
mod privilege;
mod proc;
mod processes;
mod run;
mod shared_locks;
mod stacks;
mod timers;
mod told;
mod unanswered;
mod waits;
