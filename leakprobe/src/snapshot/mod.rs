//! Every thread of the target at one moment, with its stack: read from outside, nothing stopped.

mod arch;
mod cfi;
mod channels;
mod children;
mod clock;
mod code_pages;
mod compat;
mod describe;
mod descriptors;
mod ends;
mod engine;
mod epilogue;
mod file_locks;
mod futexes;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod known;
mod loops;
mod losses;
mod machine;
mod patience;
mod proc;
mod rule;
mod socket_timeouts;
mod sockets;
mod stack_memory;
mod unwind;
mod waits;

pub use describe::{Describer, Told};
pub(crate) use descriptors::Descriptors;
pub use engine::{Engine, FutexTwice, process_cpu_time};
pub(crate) use loops::wakes_itself;
pub use losses::Losses;
pub use machine::Machine;
pub use patience::Patience;
pub use stack_memory::StackMemory;
pub use unwind::{FrameSize, FrameSizes, Unwinder, stack_pointer};
pub(crate) use waits::futex_reason;
