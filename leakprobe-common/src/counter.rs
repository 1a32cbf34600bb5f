//! What is counted in the kernel, for each target and by name: everything that goes wrong or is left out, which is shown to the user,
//! and a few numbers that must hold even if the records behind them are lost.

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// One of [`crate::target::Account::counters`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Counter {
            $($(#[$doc])* $variant),+
        }

        impl Counter {
            /// Every counter, in the order of the array.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name under which it appears in reports and recordings.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }
    };
}

counters! {
    /// Records put into the ring buffer. No loss.
    Streamed = "events_streamed",
    /// Threads that were created. No loss: holds also where their records are lost.
    Created = "threads_created",
    /// Threads that exited, but those that did with their whole process. No loss.
    Exited = "threads_exited",
    /// A creation record did not fit into the ring buffer.
    RingFullCreated = "ring_full_created",
    /// An exit record did not fit into the ring buffer.
    RingFullExited = "ring_full_exited",
    /// An exec record did not fit into the ring buffer.
    RingFullExec = "ring_full_exec",
    /// A rename record did not fit into the ring buffer.
    RingFullRenamed = "ring_full_renamed",
    /// A record of an ended wait did not fit into the ring buffer.
    RingFullWait = "ring_full_wait",
    /// A record of a new process did not fit into the ring buffer.
    RingFullForked = "ring_full_forked",
    /// A creation was streamed without the creator's stack, because too many were created at once.
    CreationStackRateLimited = "creation_stack_rate_limited",
    /// An ended wait was streamed without its stack, because too many ended at once.
    WaitStackRateLimited = "wait_stack_rate_limited",
    /// The ring buffer was half full, so that a record was streamed without its stack: stacks never take the room of records.
    RingFullStack = "ring_full_stack",
    /// The user registers of a thread could not be had, so a record was streamed without a stack.
    RegsUnreadable = "regs_unreadable",
    /// Not one byte of a stack could be read, so a record was streamed without it.
    StackUnreadable = "event_stack_unreadable",
    /// A wait was not timed, because another thread's wait has the same slot.
    WaitSlotTaken = "wait_slot_taken",
    /// A field of a task could not be read.
    TaskUnreadable = "task_unreadable",
}

/// Number of counters.
pub const COUNTERS: u32 = Counter::ALL.len() as u32;

impl Counter {
    /// Whether it counts something that was not seen.
    #[must_use]
    pub const fn is_loss(self) -> bool {
        !matches!(self, Self::Streamed | Self::Created | Self::Exited)
    }
}
