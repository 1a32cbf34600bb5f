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

/// After how many ms from its beginning the thread's `wait` ends by the timeout of the socket that it waits for; `None` if it has
/// none, or if that is not known. Poll and its like heed no such timeouts.
pub(super) fn of_wait(record: &ThreadRecord, wait: &Blocking) -> Option<u64> {
    // The iterator takes the first argument from where 64-bit code has it.
    if wait.kind != WaitKind::Socket || arch::is_compat(&record.regs) {
        return None;
    }
    let jiffies = match wait.subject {
        Subject::Fd { access: Access::Read, .. } => record.receive_jiffies,
        Subject::Fd { access: Access::Write, .. } => record.send_jiffies,
        _ => return None,
    };
    in_ms(jiffies, (*JIFFY_NS)?)
}

fn in_ms(jiffies: u64, jiffy_ns: u64) -> Option<u64> {
    (jiffies > 0 && jiffies < NO_TIMEOUT).then(|| jiffies.saturating_mul(jiffy_ns) / NS_PER_MS)
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
            timer: None,
            subject: Subject::Fd { fd: 3, access },
            other_ends: None,
            futex: None,
        };
        Some(of_wait(&record, &wait)? * NS_PER_MS / JIFFY_NS.unwrap())
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
        assert_eq!(in_ms(15_000, 4_000_000), Some(60_000));
        assert_eq!(in_ms(18_000, 3_333_333), Some(59_999));
        assert_eq!((in_ms(0, 4_000_000), in_ms(NO_TIMEOUT, 4_000_000)), (None, None));
        assert_eq!(in_ms(NO_TIMEOUT - 1, 4_000_000), Some(u64::MAX / NS_PER_MS));
        assert!(matches!(*JIFFY_NS, Some(500_000..=10_000_000)));
    }
}
