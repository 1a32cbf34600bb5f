//! leakprobe finds leaked and parked threads of any running Linux process, from outside.
//!
//! Data goes one way: [`model`] is plain data in the middle; what is left of it touches the machine, what is right of it
//! does not. ARCHITECTURE.md walks through one run.

pub mod model;
pub mod report;
pub mod symbols;
