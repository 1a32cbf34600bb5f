//! What leakprobe knows, as plain owned data: no I/O, no kernel, no clock.
//!
//! [`Recording`] is the whole result of a run: commands write it, `report` reads it back, every output format is made
//! from it. The words are those of ARCHITECTURE.md.

mod coded;
mod ends;
mod fact;
mod frame;
mod futex;
mod gap;
mod goroutine;
mod growth;
mod lock_owner;
mod loss;
mod owner;
mod pending;
mod pool;
mod primitive;
mod recording;
mod rules;
mod site;
mod snapshot;
mod source;
mod span;
mod stack;
mod subject;
mod task;
mod users;
mod verdict;
mod wait;

pub use ends::{EndRole, OtherEnd, OtherEnds};
pub use fact::{Behind, CannotWake, Fact, SiteName, Still, WhereTasksAre, WokenBy};
pub use frame::{Frame, Frames};
pub use futex::{BEFORE_WORD, DESCRIPTOR_BEFORE_TID, FROM_WORD, FutexMemory, FutexWait};
pub use gap::{FileLimit, Gap};
pub use goroutine::{
    Ancestor, AncestorSample, Channel, GoFrame, GoObject, GoStatus, GoWait, Goroutine, GoroutineSample, GoroutineSink,
    HeldLock,
};
pub use growth::growth;
pub use lock_owner::{ById, LockMemory, ObjectId, OtherMappers, OwnerClaim, OwnerFacts, OwnerThread};
pub use loss::Loss;
pub use owner::{Deadlock, DeadlockedTask, Link, LinkWait, Owner, Relation};
pub use pending::{PendingTimers, TimerSample, TimerUse, UnseenTasks};
pub use pool::Pool;
pub use primitive::{Holder, Primitive};
pub use recording::{
    Cost, Coverage, EndedWait, GoCoverage, GrowthSample, Pause, Recording, SCHEMA, TargetInfo, TimedWait, Tool,
};
pub(crate) use rules::package;
pub use rules::{Rule, RuleKind, Text};
pub use site::{Place, Site};
pub use snapshot::{Activity, Blocking, Change, ChangeKind, News, Snapshot, ThreadSample, WaitTimer};
pub use source::Source;
pub(crate) use span::{numbers, span, thousands};
pub use stack::{Stack, StackEnd, StackId, StackKind, StackTable};
pub use subject::{Access, Children, Subject};
pub use task::{CreatedBy, Role, Task, TaskKind, TaskState};
pub use verdict::{Check, CheckOutcome, Course, Finding, Ground, Power, Round, Verdict};
pub use wait::{QueuePlace, Wait, WaitKind};
