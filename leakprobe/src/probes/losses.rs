//! What the kernel side counts, as losses.

use leakprobe_common::counter::Counter;

use crate::model::Loss;

/// The loss that a counter stands for; `None` if it counts what was seen.
#[must_use]
pub const fn loss(counter: Counter) -> Option<Loss> {
    Some(match counter {
        Counter::Streamed | Counter::Created | Counter::Exited => return None,
        Counter::RingFullCreated => Loss::RingFullCreated,
        Counter::RingFullExited => Loss::RingFullExited,
        Counter::RingFullExec => Loss::RingFullExec,
        Counter::RingFullRenamed => Loss::RingFullRenamed,
        Counter::RingFullWait => Loss::RingFullWait,
        Counter::RingFullForked => Loss::RingFullForked,
        Counter::CreationStackRateLimited => Loss::CreationStackRateLimited,
        Counter::WaitStackRateLimited => Loss::WaitStackRateLimited,
        Counter::RingFullStack => Loss::RingFullStack,
        Counter::RegsUnreadable => Loss::RegsUnreadable,
        Counter::StackUnreadable => Loss::EventStackUnreadable,
        Counter::WaitSlotTaken => Loss::WaitSlotTaken,
        Counter::TaskUnreadable => Loss::TaskUnreadable,
    })
}

/// Whether a counter counts records that were dropped.
#[must_use]
pub const fn is_dropped_record(counter: Counter) -> bool {
    matches!(
        counter,
        Counter::RingFullCreated
            | Counter::RingFullExited
            | Counter::RingFullExec
            | Counter::RingFullRenamed
            | Counter::RingFullWait
            | Counter::RingFullForked
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_have_the_names_of_their_counters() {
        for &counter in Counter::ALL {
            let loss = loss(counter);
            assert_eq!(loss.is_some(), counter.is_loss(), "{counter:?}");
            assert!(loss.is_none_or(|loss| loss.code() == counter.name()), "{counter:?}");
        }
    }
}
