//! What leakprobe knows, as plain owned data: no I/O, no kernel, no clock.
//!
//! [`Recording`] is the whole result of a run: commands write it, `report` reads it back, every output format is made
//! from it. The words are those of ARCHITECTURE.md.

mod frame;
mod goroutine;
mod owner;
mod recording;
mod site;
mod snapshot;
mod stack;
mod task;
mod wait;

pub use frame::Frame;
pub use goroutine::{
    Ancestor, AncestorSample, Channel, GoFrame, GoObject, GoStatus, GoWait, Goroutine, GoroutineSample, GoroutineSink,
};
pub use owner::{Deadlock, DeadlockedTask, Link, LinkWait, Owner, Relation};
pub use recording::{Cost, Coverage, EndedWait, GoCoverage, GrowthSample, Pause, Recording, SCHEMA, TargetInfo, Tool};
pub use site::Site;
pub use snapshot::{Activity, Blocking, Change, ChangeKind, News, Snapshot, ThreadSample};
pub use stack::{Stack, StackEnd, StackId, StackKind, StackTable};
pub use task::{CreatedBy, Role, Task, TaskKind, TaskState};
pub use wait::{Wait, WaitKind};
