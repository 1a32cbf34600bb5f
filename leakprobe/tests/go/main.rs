//! leakprobe's goroutines against what Go's runtime says of its own, in programs of every Go version.
//!
//! `cargo xtask programs` builds the programs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod buildinfo;
mod compare;
mod crowds;
mod distribution;
mod dump;
mod embedded;
mod ends;
mod equality;
mod hosts;
mod leak_profile;
mod leak_suite;
mod lists;
mod namespaces;
mod objects;
mod pprof;
#[path = "../support/mod.rs"]
mod support;
mod target;
mod threads;
mod timers;
mod versions;
