//! Every thread of the target at one moment, with its stack: read from outside, nothing stopped.

mod arch;
mod cfi;
mod clock;
mod engine;
mod memory;
mod rule;
mod unwind;
mod waits;

pub use engine::{Engine, Losses};
pub use memory::ProcessMemory;
pub use unwind::{StackMemory, Unwinder, stack_pointer};
pub(crate) use waits::{clock_ns, futex_reason};
