//! leakprobe finds leaked and parked threads of any running Linux process, from outside.
//!
//! A program that watches others begins with a [`watch::Watcher`]:
//!
//! ```no_run
#![doc = include_str!("../examples/growing_sites.rs")]
//! ```
//!
//! What is seen of a process is a [`model::Recording`]; [`report`] writes it in any of leakprobe's formats. The program needs the rights that
//! the `leakprobe` command needs. Debug information of other processes is parsed in a process of its own without rights if `main` begins
//! with [`symbols::is_helper`], and else in the program itself.
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
pub mod watch;
