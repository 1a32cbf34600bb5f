//! After how long a thread gives up waiting for a socket: `SO_RCVTIMEO` and `SO_SNDTIMEO`, as the task iterator read them.

use std::sync::LazyLock;

use leakprobe_common::thread::{NO_TIMEOUT, ThreadRecord};
use nix::time::{ClockId, clock_getres};

use super::arch;
use crate::model::{Access, Blocking, Subject, WaitKind};

const NS_PER_MS: u64 = 1_000_000;

/// ns between two jiffies: coarse clocks go by them. `None` if the kernel does not tell.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/include/linux/hrtimer_defs.h#L18> (`KTIME_LOW_RES`)
static JIFFY_NS: LazyLock<Option<u64>> = LazyLock::new(|| {
    let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).ok()?;
    u64::try_from(resolution.tv_nsec()).ok().filter(|&ns| ns > 0)
});

/// A socket's timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timeout {
    /// How long it is, ms.
    pub(super) ms: u64,
    /// How much later the kernel wakes the thread at most, ms.
    pub(super) late_ms: u64,
}

/// The timeout of the socket that a thread's `wait` is for; `None` if it has none, or if that is not known. Poll and its like heed
/// no such timeouts.
pub(super) fn of_wait(record: &ThreadRecord, wait: &Blocking) -> Option<Timeout> {
    // The iterator takes the first argument from where 64-bit code has it.
    if wait.kind != WaitKind::Socket || arch::is_compat(&record.regs) {
        return None;
    }
    let jiffies = match wait.subject {
        Subject::Fd { access: Access::Read, .. } => record.receive_jiffies,
        Subject::Fd { access: Access::Write, .. } => record.send_jiffies,
        _ => return None,
    };
    timeout(jiffies, (*JIFFY_NS)?)
}

fn timeout(jiffies: u64, jiffy_ns: u64) -> Option<Timeout> {
    let ms = |jiffies: u64| jiffies.saturating_mul(jiffy_ns) / NS_PER_MS;
    (jiffies > 0 && jiffies < NO_TIMEOUT)
        .then(|| Timeout { ms: ms(jiffies), late_ms: ms(granularity(jiffies).saturating_add(1)) })
}

/// The kernel's timer wheel fires a timer by whole multiples of so many jiffies, the longer it is the more.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/kernel/time/timer.c#L71>
fn granularity(jiffies: u64) -> u64 {
    /// Levels of the wheel, of which each has 64 places and is 8 times as coarse as the one before.
    const LEVELS: u32 = 9;
    (0..LEVELS)
        .map(|level| 1 << (3 * level))
        .find(|granularity| jiffies < 63 * granularity)
        .unwrap_or(1 << (3 * LEVELS))
}

#[cfg(test)]
mod tests {
    use leakprobe_common::{arch::CS, read_plain};

    use super::*;

    /// What a thread waits for, whose socket has timeouts of 2 and 3 ticks.
    fn ticks(kind: WaitKind, access: Access, code: u64) -> Option<u64> {
        let mut record: ThreadRecord = read_plain(&[0; size_of::<ThreadRecord>()]).unwrap();
        record.regs[CS] = code;
        (record.receive_jiffies, record.send_jiffies) = (2, 3);
        let wait = Blocking {
            kind,
            reason: String::new(),
            object: String::new(),
            since_ns: 0,
            exact: true,
            timeout_ms: None,
            late_ms: 0,
            timer: None,
            subject: Subject::Fd { fd: 3, access },
            other_ends: None,
            futex: None,
        };
        Some((of_wait(&record, &wait)?.ms + 1) * NS_PER_MS / JIFFY_NS.unwrap())
    }

    #[test]
    fn who_receives_and_who_sends_have_their_own() {
        let native = arch::NATIVE_CODE;
        assert_eq!(ticks(WaitKind::Socket, Access::Read, native), Some(2));
        assert_eq!(ticks(WaitKind::Socket, Access::Write, native), Some(3));
        assert_eq!(ticks(WaitKind::Socket, Access::Other, native), None);
        assert_eq!(ticks(WaitKind::Poll, Access::Read, native), None);
        // 32-bit code
        assert_eq!(ticks(WaitKind::Socket, Access::Read, 0x23), None);
    }

    #[test]
    fn jiffies_are_as_long_as_the_kernel_counts_them() {
        assert_eq!(timeout(15_000, 4_000_000), Some(Timeout { ms: 60_000, late_ms: 4 * 513 }));
        assert_eq!(timeout(18_000, 3_333_333).map(|timeout| timeout.ms), Some(59_999));
        assert_eq!((timeout(0, 4_000_000), timeout(NO_TIMEOUT, 4_000_000)), (None, None));
        assert_eq!(timeout(NO_TIMEOUT - 1, 4_000_000).map(|timeout| timeout.ms), Some(u64::MAX / NS_PER_MS));
        assert_eq!([62, 63, 503, 504, u64::MAX].map(granularity), [1, 8, 8, 64, 1 << 27]);
        assert!(matches!(*JIFFY_NS, Some(500_000..=10_000_000)));
    }
}
