//! Losses in words.

use super::words;
use crate::model::Loss;

/// What a loss means that was counted `n` times. The code of another version is shown as it is.
pub(super) fn sentence(loss: &Loss, n: u64) -> String {
    let ring_full = "the ring buffer was full";
    let (noun, what) = match loss {
        Loss::ProgramSkipped => ("event", "perhaps not recorded: our program was interrupted on that CPU".into()),
        Loss::RingFullCreated => ("creation", format!("not recorded: {ring_full}")),
        Loss::RingFullExited => ("exit", format!("not recorded: {ring_full}")),
        Loss::RingFullExec => ("exec", format!("not recorded: {ring_full}")),
        Loss::RingFullRenamed => ("change", format!("of a name not recorded: {ring_full}")),
        Loss::RingFullWait => ("ended wait", format!("not recorded: {ring_full}")),
        Loss::RingFullStack => ("event", "recorded without a stack: the ring buffer was half full".into()),
        Loss::CreationStackRateLimited => ("creation", "recorded without a stack: too many at once".into()),
        Loss::WaitStackRateLimited => ("ended wait", "recorded without a stack: too many at once".into()),
        Loss::RegsUnreadable => ("event", "recorded without a stack: registers could not be read".into()),
        Loss::EventStackUnreadable => ("event", "recorded without a stack: its memory could not be read".into()),
        Loss::StackUnreadable => ("stack", "whose memory could not be read".into()),
        Loss::ThreadMemoryUnanswered => (
            "thread",
            "whose stack does not answer: it is memory that a userfaultfd handler or a file server is to provide"
                .into(),
        ),
        Loss::ThreadUnstable => ("stack", "not read: the thread ran whenever it was looked at".into()),
        Loss::StackTooDeep => ("stack", "cut: deeper than what is read of one".into()),
        Loss::StackRegisterUnknown => {
            ("stack", "cut: the outer frames could not be found without registers that /proc does not tell".into())
        }
        Loss::StackNoUnwindInfo => ("stack", "cut: the outer frames could not be found".into()),
        Loss::StackLeftOut => ("stack", "not kept: those of one run may take no more memory".into()),
        Loss::EventStackTooDeep => ("event", "with its stack cut: deeper than what is read of one".into()),
        Loss::EventStackNoUnwindInfo => ("event", "with its stack cut: the outer frames could not be found".into()),
        Loss::RecordMalformed => ("event", "not recorded: what came from the kernel could not be understood".into()),
        Loss::EventsMadeGoodBySnapshot => ("event", "missed, and made good by a snapshot".into()),
        Loss::RingFullForked => ("new process", format!("not recorded: {ring_full}")),
        Loss::WaitSlotTaken => ("wait", "not timed: another thread's wait had its slot".into()),
        Loss::EndedWaitStackUnseen => ("ended wait", "without a stack: no snapshot was taken while it lasted".into()),
        Loss::EventsNotTold => ("creation or exit", "counted, but its record was lost".into()),
        Loss::GoroutineUnstable => ("goroutine stack", "not read: the goroutine ran whenever it was looked at".into()),
        Loss::GoroutineStackTooDeep => ("goroutine stack", "cut: deeper than what is read of one".into()),
        Loss::GoroutineStackNoUnwindInfo => ("goroutine stack", "cut: the outer frames could not be found".into()),
        Loss::GoroutineStackUnreadable => ("goroutine stack", "cut: the memory could not be read".into()),
        Loss::GoroutineUnreadable => ("goroutine", "not read: the memory could not be read".into()),
        Loss::GoRuntimeUnreadable => ("Go runtime", "whose goroutines could not be read".into()),
        Loss::GoroutineListUnreadable => ("list", "of goroutines not read: the memory could not be read".into()),
        Loss::GoroutineListMistaken => ("list", "of goroutines was another one: some that came were seen late".into()),
        Loss::GoroutineLeftOut => ("goroutine", "neither listed nor counted: there are too many".into()),
        Loss::GoroutineNotRead => (
            "goroutine",
            "not read in the last snapshot, which was to end soon: listed as seen before, or not at all".into(),
        ),
        Loss::GoroutineChannelsCut => {
            ("list", "of select cases or of a channel's waiters read only in part: too long".into())
        }
        Loss::GoroutineLocksUnknown => {
            ("goroutine", "listed without the lock it waits for: it was not found in the runtime's queues".into())
        }
        Loss::GoroutineDetailsLeftOut => (
            "goroutine",
            "listed without its labels, its ancestors or some of the locks it is to release: there were too many"
                .into(),
        ),
        Loss::TimersLeftOut => ("timer", "not counted: too many, or in a heap that could not be read".into()),
        Loss::GoroutinesNotListed => {
            ("goroutine", "counted at their sites, but not listed one by one: there are too many".into())
        }
        Loss::EndedWaitsNotListed => {
            ("ended wait", "counted at its place, but not listed one by one: there are too many".into())
        }
        Loss::WaitsNotDescribed => {
            ("wait", "shown without timers and who is at the other end: looking that up took too long".into())
        }
        Loss::SitesNotListed => ("task", "at sites that are not listed: there are too many".into()),
        Loss::FilesBeyondBudget => {
            ("file", "not read, or not completely: beyond what one run may spend on files of the target".into())
        }
        Loss::FilesCorrupt => ("file", "with code that is corrupt: names are missing there, or stacks are cut".into()),
        Loss::TaskUnreadable => ("task", "with a field that could not be read".into()),
        Loss::Unknown(code) => {
            let name = words::harmless(&code.replace('_', " "));
            return format!("{name}: {}", words::thousands(n));
        }
    };
    format!("{} {what}", words::count(n, noun))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_sentences() {
        assert_eq!(sentence(&Loss::RingFullCreated, 1), "1 creation not recorded: the ring buffer was full");
        assert_eq!(sentence(&Loss::GoroutineStackUnreadable, 1), "1 goroutine stack cut: the memory could not be read");
        assert_eq!(sentence(&Loss::Unknown("some_new_loss".into()), 1_234), "some new loss: 1,234");
    }
}
