//! When a thread's wait ends by itself: by its own timeout, or by a timer that it waits for.

use crate::model::{Blocking, WaitKind};

const NS_PER_MS: u64 = 1_000_000;
/// How long a thread whose timer has fired waits for a processor, at most.
const SLACK_MS: u64 = 1_000;

/// How a thread's wait ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WaitEnd {
    /// As [`crate::model::Wait::timeout_ms`].
    pub(super) timeout_ms: u64,
    /// As [`crate::model::Wait::due_ms`].
    pub(super) due_ms: u64,
    /// As [`crate::model::Wait::period_ms`].
    pub(super) period_ms: Option<u64>,
}

impl WaitEnd {
    /// By its own timeout, or by a timer that it waits for if that is earlier. `None` if by neither.
    pub(super) fn of(blocking: &Blocking, now_ns: u64) -> Option<Self> {
        let age_ms = now_ns.saturating_sub(blocking.since_ns) / NS_PER_MS;
        let latest = |timeout: u64| timeout.saturating_add(blocking.late_ms);
        // A socket's timeout that has not ended the wait was set after that had begun.
        let is_over =
            |timeout: u64| blocking.kind == WaitKind::Socket && age_ms > latest(timeout).saturating_add(SLACK_MS);
        let own = blocking.timeout_ms.filter(|&timeout| !is_over(timeout)).map(|timeout_ms| Self {
            timeout_ms,
            due_ms: latest(timeout_ms).saturating_sub(age_ms),
            period_ms: None,
        });
        let timer = blocking.timer.map(|timer| Self {
            timeout_ms: timer.due_ns.saturating_sub(blocking.since_ns) / NS_PER_MS,
            due_ms: timer.due_ns.saturating_sub(now_ns) / NS_PER_MS,
            period_ms: timer.period_ns.map(|period| (period / NS_PER_MS).max(1)),
        });
        own.into_iter().chain(timer).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Subject, WaitTimer};

    const SECOND: u64 = 1_000_000_000;

    fn end(kind: WaitKind, timeout_ms: Option<u64>, timer: Option<(u64, Option<u64>)>, age_s: u64) -> Option<WaitEnd> {
        let blocking = Blocking {
            kind,
            reason: String::new(),
            object: String::new(),
            since_ns: 10 * SECOND,
            exact: true,
            timeout_ms,
            late_ms: 2_000,
            timer: timer.map(|(due_s, period_ns)| WaitTimer { due_ns: due_s * SECOND, period_ns }),
            subject: Subject::None,
            other_ends: None,
            futex: None,
        };
        WaitEnd::of(&blocking, (10 + age_s) * SECOND)
    }

    #[test]
    fn the_earliest_timer_ends_the_wait() {
        let after = |timeout_ms, due_ms, period_ms| Some(WaitEnd { timeout_ms, due_ms, period_ms });
        let poll = |timeout_ms, timer| end(WaitKind::Poll, timeout_ms, timer, 1);
        assert_eq!(poll(None, None), None);
        assert_eq!(poll(Some(5_000), None), after(5_000, 6_000, None));
        assert_eq!(poll(None, Some((70, None))), after(60_000, 59_000, None));
        assert_eq!(poll(Some(5_000), Some((70, Some(SECOND)))), after(5_000, 6_000, None));
        assert_eq!(poll(Some(90_000), Some((70, Some(SECOND)))), after(60_000, 59_000, Some(1_000)));
        // One that was due before the wait began, and a period of less than 1 ms.
        assert_eq!(poll(None, Some((9, Some(1)))), after(0, 0, Some(1)));
    }

    #[test]
    fn a_socket_s_timeout_that_has_not_ended_the_wait_does_not_count() {
        let socket = |age_s| end(WaitKind::Socket, Some(60_000), None, age_s).is_some();
        assert_eq!([socket(1), socket(60), socket(63), socket(64)], [true, true, true, false]);
        assert!(end(WaitKind::Futex, Some(60_000), None, 64).is_some());
    }
}
