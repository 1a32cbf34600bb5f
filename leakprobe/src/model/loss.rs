//! What could not be seen, by kind. The sentences are `report`'s.

use std::cmp::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! losses {
    ($($(#[$doc:meta])* $variant:ident = $code:literal),+ $(,)?) => {
        /// A kind of thing that could not be seen, and is counted. Ordered by code.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(from = "String", into = "String")]
        #[schemars(with = "String")]
        pub enum Loss {
            $($(#[$doc])* $variant,)+
            /// The code of a kind that this version does not know, from a recording of another version.
            Unknown(Box<str>),
        }

        impl Loss {
            /// Every kind that is known.
            pub const KNOWN: &'static [Self] = &[$(Self::$variant),+];

            /// The name under which recordings count it.
            #[must_use]
            pub fn code(&self) -> &str {
                match self {
                    $(Self::$variant => $code,)+
                    Self::Unknown(code) => code,
                }
            }
        }

        impl From<String> for Loss {
            fn from(code: String) -> Self {
                match code.as_str() {
                    $($code => Self::$variant,)+
                    _ => Self::Unknown(code.into()),
                }
            }
        }
    };
}

losses! {
    /// Events of which one of the kernel-side programs was skipped, since it was interrupted on that CPU.
    ProgramSkipped = "program_skipped",
    /// Creations without a record: the ring buffer was full.
    RingFullCreated = "ring_full_created",
    /// Exits without a record: the ring buffer was full.
    RingFullExited = "ring_full_exited",
    /// Execs without a record: the ring buffer was full.
    RingFullExec = "ring_full_exec",
    /// Changes of a name without a record: the ring buffer was full.
    RingFullRenamed = "ring_full_renamed",
    /// Ended waits without a record: the ring buffer was full.
    RingFullWait = "ring_full_wait",
    /// New processes without a record: the ring buffer was full.
    RingFullForked = "ring_full_forked",
    /// Events recorded without a stack: the ring buffer was half full.
    RingFullStack = "ring_full_stack",
    /// Creations recorded without a stack: too many at once.
    CreationStackRateLimited = "creation_stack_rate_limited",
    /// Ended waits recorded without a stack: too many at once.
    WaitStackRateLimited = "wait_stack_rate_limited",
    /// Events recorded without a stack: the registers could not be read.
    RegsUnreadable = "regs_unreadable",
    /// Events recorded without a stack: its memory could not be read.
    EventStackUnreadable = "event_stack_unreadable",
    /// Stacks deeper than what is copied with an event.
    EventStackTooDeep = "event_stack_too_deep",
    /// Stacks of events whose outer frames could not be found.
    EventStackNoUnwindInfo = "event_stack_no_unwind_info",
    /// Records of the ring buffer that could not be parsed.
    RecordMalformed = "record_malformed",
    /// Events that were missed, and whose effect a later snapshot showed.
    EventsMadeGoodBySnapshot = "events_made_good_by_snapshot",
    /// Creations or exits that the kernel counted and whose record never came.
    EventsNotTold = "events_not_told",
    /// Waits without a begin: another thread's wait had the same slot.
    WaitSlotTaken = "wait_slot_taken",
    /// Ended waits without a stack: no snapshot was taken while they lasted.
    EndedWaitStackUnseen = "ended_wait_stack_unseen",
    /// Waits of which only is told what a snapshot sees: there was no time to look up what they are waited on.
    WaitsNotDescribed = "waits_not_described",
    /// Ended waits that are counted where they were, and not listed one by one.
    EndedWaitsNotListed = "ended_waits_not_listed",
    /// Tasks with a field that could not be read.
    TaskUnreadable = "task_unreadable",
    /// Threads that ran each time they were read.
    ThreadUnstable = "thread_unstable",
    /// Threads with a stack in memory whose provider does not answer.
    ThreadMemoryUnanswered = "thread_memory_unanswered",
    /// Stacks of which not one word could be read.
    StackUnreadable = "stack_unreadable",
    /// Stacks deeper than what is read.
    StackTooDeep = "stack_too_deep",
    /// Stacks whose outer frames could not be found.
    StackNoUnwindInfo = "stack_no_unwind_info",
    /// Stacks whose outer frames need a register that is not known.
    StackRegisterUnknown = "stack_register_unknown",
    /// Stacks that were read, but not kept: those of one run may take no more memory.
    StackLeftOut = "stack_left_out",
    /// Goroutines that ran each time they were read.
    GoroutineUnstable = "goroutine_unstable",
    /// Stacks of goroutines deeper than what is read.
    GoroutineStackTooDeep = "goroutine_stack_too_deep",
    /// Stacks of goroutines whose outer frames could not be found.
    GoroutineStackNoUnwindInfo = "goroutine_stack_no_unwind_info",
    /// Stacks of goroutines that could not be read.
    GoroutineStackUnreadable = "goroutine_stack_unreadable",
    /// Goroutines that could not be read.
    GoroutineUnreadable = "goroutine_unreadable",
    /// Goroutines beyond the limit, neither listed nor counted.
    GoroutineLeftOut = "goroutine_left_out",
    /// Goroutines that the last snapshot did not come to before the run was to end: they are listed as they were seen before, if they
    /// were.
    GoroutineNotRead = "goroutine_not_read",
    /// Lists of select cases, or of a channel's waiters, that were too long to be read to their end.
    GoroutineChannelsCut = "goroutine_channels_cut",
    /// Goroutines that wait for a lock whose address was not found.
    GoroutineLocksUnknown = "goroutine_locks_unknown",
    /// Goroutines without their labels, their ancestors or some of the locks that they are to release: there were too many.
    GoroutineDetailsLeftOut = "goroutine_details_left_out",
    /// Lists of goroutines that could not be read.
    GoroutineListUnreadable = "goroutine_list_unreadable",
    /// Lists of goroutines that turned out to be stale.
    GoroutineListMistaken = "goroutine_list_mistaken",
    /// Goroutines that are counted at their sites, and not listed one by one.
    GoroutinesNotListed = "goroutines_not_listed",
    /// Go runtimes whose goroutines could not be read.
    GoRuntimeUnreadable = "go_runtime_unreadable",
    /// Timers that were not counted.
    TimersLeftOut = "timers_left_out",
    /// Tasks at sites beyond the limit.
    SitesNotListed = "sites_not_listed",
    /// Files that were not read, or not completely: beyond what one run may spend.
    FilesBeyondBudget = "files_beyond_budget",
    /// Files with code that are corrupt: functions have no names, or stacks are cut.
    FilesCorrupt = "files_corrupt",
}

impl From<Loss> for String {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::Unknown(code) => code.into(),
            known => known.code().to_owned(),
        }
    }
}

impl Ord for Loss {
    fn cmp(&self, other: &Self) -> Ordering {
        self.code().cmp(other.code())
    }
}

impl PartialOrd for Loss {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_back() {
        for known in Loss::KNOWN {
            assert_eq!(Loss::from(known.code().to_owned()), *known);
        }
        let unknown = Loss::from("of_another_version".to_owned());
        assert_eq!(
            (unknown.code(), String::from(unknown.clone())),
            ("of_another_version", "of_another_version".into())
        );
    }
}
