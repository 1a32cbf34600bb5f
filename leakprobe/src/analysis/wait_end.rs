//! When a thread's wait ends by itself: by its own timeout, or by a timer that it waits for.

use crate::model::{Blocking, WaitKind};

const NS_PER_MS: u64 = 1_000_000;

/// How a thread's wait ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WaitEnd {
    /// As [`crate::model::Wait::timeout_ms`].
    pub(super) timeout_ms: u64,
    /// As [`crate::model::Wait::period_ms`].
    pub(super) period_ms: Option<u64>,
}

impl WaitEnd {
    /// By its own timeout, or by a timer that it waits for if that is earlier. `None` if by neither.
    pub(super) fn of(blocking: &Blocking, now_ns: u64) -> Option<Self> {
        let age_ms = now_ns.saturating_sub(blocking.since_ns) / NS_PER_MS;
        // The kernel's timers for sockets are late by an eighth at most. What is later than that has begun before the socket was
        // given the timeout.
        let is_late = |timeout: u64| age_ms > timeout.saturating_add(timeout / 4).saturating_add(1_000);
        let own = blocking.timeout_ms.filter(|&timeout| blocking.kind != WaitKind::Socket || !is_late(timeout));
        let own = own.map(|timeout_ms| Self { timeout_ms, period_ms: None });
        let timer = blocking.timer.map(|timer| Self {
            timeout_ms: timer.due_ns.saturating_sub(blocking.since_ns) / NS_PER_MS,
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
            timer: timer.map(|(due_s, period_ns)| WaitTimer { due_ns: due_s * SECOND, period_ns }),
            subject: Subject::None,
            other_ends: None,
            futex: None,
        };
        WaitEnd::of(&blocking, (10 + age_s) * SECOND)
    }

    #[test]
    fn the_earliest_timer_ends_the_wait() {
        let after = |timeout_ms, period_ms| Some(WaitEnd { timeout_ms, period_ms });
        let poll = |timeout_ms, timer| end(WaitKind::Poll, timeout_ms, timer, 1);
        assert_eq!(poll(None, None), None);
        assert_eq!(poll(Some(5_000), None), after(5_000, None));
        assert_eq!(poll(None, Some((70, None))), after(60_000, None));
        assert_eq!(poll(Some(5_000), Some((70, Some(SECOND)))), after(5_000, None));
        assert_eq!(poll(Some(90_000), Some((70, Some(SECOND)))), after(60_000, Some(1_000)));
        // One that was due before the wait began, and a period of less than 1 ms.
        assert_eq!(poll(None, Some((9, Some(1)))), after(0, Some(1)));
    }

    #[test]
    fn a_socket_s_timeout_that_has_not_ended_the_wait_does_not_count() {
        let socket = |age_s| end(WaitKind::Socket, Some(60_000), None, age_s).is_some();
        assert_eq!([socket(1), socket(60), socket(68), socket(77)], [true, true, true, false]);
        assert!(end(WaitKind::Futex, Some(60_000), None, 77).is_some());
    }
}
