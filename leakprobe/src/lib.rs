//! leakprobe finds leaked and parked threads of any running Linux process, from outside.
//!
//! Data goes one way: [`model`] is plain data in the middle; what is left of it touches the machine, what is right of it
//! does not. ARCHITECTURE.md walks through one run.

pub mod analysis;
mod aside;
pub mod cli;
pub mod commands;
pub mod config;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod go;
pub mod jvm;
pub mod model;
mod pool;
mod privilege;
pub mod probes;
pub mod report;
mod shared;
pub mod snapshot;
pub mod symbols;
pub mod target;
