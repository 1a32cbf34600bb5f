//! When a wait began, from the scheduler's own accounts: also for threads that were parked long before we came.
//!
//! Two figures in `task_struct` bound the moment at which a thread stopped running, both in clocks of the scheduler:
//!
//! * `se.exec_start`, the task clock of its CPU when it was last accounted. That clock stands still during interrupts and
//!   while the hypervisor runs somebody else, so it lags behind by `rq.clock - rq.clock_task`. That lag grows: adding
//!   today's lag gives a moment that is never too early.
//! * `sched_info.last_arrival`, the scheduler's clock when it last got a CPU, and how long it ran from then on (`sum_exec_runtime -
//!   prev_sum_exec_runtime`). That run time leaves out interrupts too, so this moment is never too late.
//!
//! Where the two meet, the moment is exact. Else the later one is taken, which makes the age a lower bound, and it is
//! said so.
//!
//! Sources: <https://elixir.bootlin.com/linux/v6.12/source/kernel/sched/core.c#L759> (`update_rq_clock_task`),
//! <https://elixir.bootlin.com/linux/v6.12/source/kernel/sched/fair.c#L1165> (`update_curr`),
//! <https://elixir.bootlin.com/linux/v6.12/source/kernel/sched/stats.h#L250> (`sched_info_arrive`).

use leakprobe_common::thread::ThreadRecord;

/// The two bounds may differ by this much, ns, or by a thousandth of the age, and the age still counts as exact.
const TOLERANCE_NS: u64 = 1_000_000;

/// The scheduler's clock against `CLOCK_MONOTONIC`, at the moment of one reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SchedClock {
    monotonic: u64,
    sched: u64,
}

impl SchedClock {
    /// From the records of a pass. The scheduler's clock of the reader's CPU stands still between updates, of which one was
    /// made just before the pass, so that it is never ahead: of all readings the one that is least behind is the best.
    pub(crate) fn of_pass(records: &[ThreadRecord]) -> Option<Self> {
        let readings = records.iter().filter(|record| record.reader_clock != 0);
        let best = readings.max_by_key(|record| record.reader_clock.wrapping_sub(record.ktime).cast_signed())?;
        Some(Self { monotonic: best.ktime, sched: best.reader_clock })
    }

    /// When the wait of the thread began, `CLOCK_MONOTONIC` ns, and whether that is exact.
    pub(crate) fn wait_began(self, record: &ThreadRecord) -> (u64, bool) {
        if record.exec_start == 0 || record.rq_clock == 0 {
            return (record.ktime, false); // this kernel does not tell; the age counts from now on
        }
        let lag = record.rq_clock.saturating_sub(record.rq_clock_task);
        let latest = self.to_monotonic(record.exec_start.saturating_add(lag)).min(record.ktime);
        if record.last_arrival == 0 {
            return (latest, false);
        }
        let earliest = self.to_monotonic(record.last_arrival.saturating_add(record.last_slice));
        let age = record.ktime.saturating_sub(latest);
        let exact = latest.saturating_sub(earliest) <= TOLERANCE_NS.max(age / 1000);
        (latest, exact)
    }

    fn to_monotonic(self, sched: u64) -> u64 {
        self.monotonic.saturating_add_signed(sched.wrapping_sub(self.sched).cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use leakprobe_common::arch::REG_WORDS;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn parked() -> ThreadRecord {
        ThreadRecord {
            tid: 1,
            tgid: 1,
            state: 1,
            exit_state: 0,
            flags: 0,
            on_cpu: 0,
            switches: 1,
            start_boottime: 0,
            exec_start: 100 * SECOND,
            last_arrival: 99 * SECOND,
            last_slice: SECOND,
            rq_clock: 160 * SECOND,
            rq_clock_task: 160 * SECOND,
            ktime: 1160 * SECOND,
            reader_clock: 160 * SECOND,
            comm: [0; 16],
            receive_jiffies: 0,
            send_jiffies: 0,
            wait_started: 0,
            wait_word: 0,
            wait_op: 0,
            pad: 0,
            regs: [0; REG_WORDS],
        }
    }

    #[test]
    fn bounds_that_meet_are_exact() {
        let record = parked();
        let clock = SchedClock::of_pass(&[record]).unwrap();
        assert_eq!(clock.wait_began(&record), (1100 * SECOND, true));
    }

    #[test]
    fn time_stolen_since_makes_a_lower_bound() {
        // Two seconds of the minute since went to the hypervisor: the task clock lags, the true start is 1100 s.
        let record = ThreadRecord { rq_clock_task: 158 * SECOND, ..parked() };
        let clock = SchedClock::of_pass(&[record]).unwrap();
        assert_eq!(clock.wait_began(&record), (1102 * SECOND, false));
    }

    #[test]
    fn a_lag_from_before_the_wait_does_no_harm() {
        let record = ThreadRecord { rq_clock_task: 150 * SECOND, exec_start: 90 * SECOND, ..parked() };
        let clock = SchedClock::of_pass(&[record]).unwrap();
        assert_eq!(clock.wait_began(&record), (1100 * SECOND, true));
    }

    #[test]
    fn a_kernel_that_does_not_tell_gives_age_zero_not_exact() {
        let record = ThreadRecord { exec_start: 0, ..parked() };
        let clock = SchedClock::of_pass(&[record]).unwrap();
        assert_eq!(clock.wait_began(&record), (record.ktime, false));
        assert!(SchedClock::of_pass(&[ThreadRecord { reader_clock: 0, ..parked() }]).is_none());
    }

    #[test]
    fn time_in_which_the_machine_is_suspended_does_not_count() {
        // CLOCK_MONOTONIC and the scheduler's clock stand still meanwhile; what CLOCK_BOOTTIME says is not asked. Ten seconds before
        // the machine was suspended and after it woke up again make a wait ten seconds longer, and not an hour.
        let before = parked();
        let awake = 10 * SECOND;
        let after = ThreadRecord {
            ktime: before.ktime + awake,
            reader_clock: before.reader_clock + awake,
            rq_clock: before.rq_clock + awake,
            rq_clock_task: before.rq_clock_task + awake,
            ..before
        };
        let clock = SchedClock::of_pass(&[after]).unwrap();
        assert_eq!(clock.wait_began(&after), (1100 * SECOND, true));
        assert_eq!(after.ktime - clock.wait_began(&after).0, 70 * SECOND);
    }

    #[test]
    fn a_clock_that_was_read_late_does_no_harm() {
        // The first record was made 6 ms after the scheduler's clock was updated, the second right after an update.
        let record = parked();
        let late = ThreadRecord { ktime: record.ktime + 6_000_000, ..record };
        let clock = SchedClock::of_pass(&[late, record]).unwrap();
        assert_eq!(clock.wait_began(&late), (1100 * SECOND, true));
    }
}
