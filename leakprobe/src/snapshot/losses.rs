//! What snapshots did not see, by name.

use crate::model::{Loss, Stack, StackEnd};

/// What was not seen, over all snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Threads that ran each time they were read.
    pub unstable: u64,
    /// Stacks of which not one word could be read.
    pub unreadable: u64,
    /// Threads with a stack in memory that does not answer: whoever is to provide it does not.
    pub unanswered: u64,
    /// Stacks deeper than what was read.
    pub too_deep: u64,
    /// Stacks from whose last frame no unwind information led on.
    pub no_unwind_info: u64,
    /// Stacks from whose last frame only a register led on that is not known.
    pub register_unknown: u64,
    /// As `too_deep`, of stacks that came with an event.
    pub event_too_deep: u64,
    /// As `no_unwind_info`, of stacks that came with an event.
    pub event_no_unwind_info: u64,
}

impl Losses {
    /// Counts what is missing in a thread's stack.
    pub(super) fn count(&mut self, stack: &Stack) {
        match stack.end {
            StackEnd::Unreadable => self.unreadable += 1,
            StackEnd::TooDeep => self.too_deep += 1,
            StackEnd::NoUnwindInfo => self.no_unwind_info += 1,
            StackEnd::RegisterUnknown => self.register_unknown += 1,
            StackEnd::Complete
            | StackEnd::Running
            | StackEnd::Unstable
            | StackEnd::LeftOut
            | StackEnd::ThirtyTwoBit
            | StackEnd::None => {}
        }
    }

    /// The losses that are not 0, with the codes that recordings have for them.
    pub fn named(&self) -> impl Iterator<Item = (Loss, u64)> {
        [
            (Loss::ThreadUnstable, self.unstable),
            (Loss::StackUnreadable, self.unreadable),
            (Loss::ThreadMemoryUnanswered, self.unanswered),
            (Loss::StackTooDeep, self.too_deep),
            (Loss::StackNoUnwindInfo, self.no_unwind_info),
            (Loss::StackRegisterUnknown, self.register_unknown),
            (Loss::EventStackTooDeep, self.event_too_deep),
            (Loss::EventStackNoUnwindInfo, self.event_no_unwind_info),
        ]
        .into_iter()
        .filter(|&(_, count)| count > 0)
    }
}
