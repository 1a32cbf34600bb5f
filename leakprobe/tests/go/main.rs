//! leakprobe's goroutines against what Go's runtime says of its own, in programs of every Go version.
//!
//! `cargo xtask programs` builds the programs.

mod compare;
mod dump;
#[path = "../support/mod.rs"]
mod support;
