//! From snapshots and changes to what is told: pure functions over the model, no I/O.

mod call_path;
mod chains;
mod check;
mod diff;
mod ended;
mod former;
mod futex;
mod goroutine_tasks;
mod goroutines;
mod history;
mod holders;
mod hotspot;
mod interned;
mod join;
mod live;
mod locks;
mod owners;
mod recording;
mod sites;
mod slices;
mod timeline;
mod timers;
mod unseen;
mod verdict;
mod wait_end;

pub use check::{Terms, conclude, fails};
pub use diff::{Change, Diff, Numbers, Outcome, Row, Side, diff};
pub use goroutines::{DescriptorWait, GoId, Goroutines, SLOT_BITS, Turnover};
pub use holders::Doubts;
pub use join::{Callback, GoFacts};
pub use live::{Creation, Live, LiveThread};
pub use recording::{Facts, record};
pub use unseen::{Signs, unseen};
pub use verdict::{Criteria, History, Judgement, Judgements, Moment, WaitedFor, judge, knots, power, tell};

use crate::model::Frames;
