//! Records of the ring buffer, taken apart.

use leakprobe_common::{
    Plain,
    arch::Regs,
    counter::Counter,
    event::{Capture, Created, Exec, Exited, Forked, Header, Kind, Renamed, Slept, WaitEnded},
    read_plain,
};

/// What happened to a thread of a target.
#[derive(Debug)]
pub struct Event<'a> {
    /// The thread that it is about.
    pub tid: u32,
    /// When that thread started, `CLOCK_BOOTTIME`, ns; 0 if it could not be read.
    pub start_boottime: u64,
    /// When, `CLOCK_MONOTONIC`, ns.
    pub time_ns: u64,
    /// What happened.
    pub what: What<'a>,
}

/// The kinds of events.
#[derive(Debug)]
pub enum What<'a> {
    /// The thread was created.
    Created {
        /// The thread that created it.
        creator: u32,
        /// That thread's name.
        creator_name: String,
        /// The creator's registers and stack.
        captured: Captured<'a>,
    },
    /// The thread exited.
    Exited {
        /// Because its whole process does.
        with_process: bool,
    },
    /// The thread called exec and is now the process's only one.
    Exec {
        /// Its id until then.
        old_tid: u32,
    },
    /// The thread got another name.
    Renamed(
        /// The new name.
        String,
    ),
    /// A thread slept for longer than the threshold, for whatever it waited.
    Slept {
        /// When the sleep began, `CLOCK_MONOTONIC`, ns.
        started_ns: u64,
        /// Its user registers, which tell what it waited for; all zero if they could not be read.
        regs: &'a Regs,
    },
    /// The target created another process, which is what the event is about.
    Forked {
        /// The thread that created it.
        creator: u32,
    },
    /// A futex wait ended that was longer than the threshold.
    WaitEnded {
        /// When it began, `CLOCK_MONOTONIC`, ns.
        started_ns: u64,
        /// The futex word's address.
        word: u64,
        /// The operation.
        op: u32,
        /// The thread's registers and stack at the end.
        captured: Captured<'a>,
    },
}

/// A stack taken in the kernel, or why there is none.
#[derive(Clone, Copy, Debug)]
pub enum Captured<'a> {
    /// Registers, and stack memory from the stack pointer upwards.
    Stack(&'a Regs, &'a [u8]),
    /// The counter that tells why it is missing.
    Missing(Counter),
}

/// A record that is not what it should be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a record of the ring buffer is malformed")]
pub struct Malformed;

/// Takes a record apart. `regs` is where its registers, which may lie unaligned in `bytes`, are put.
///
/// # Errors
/// If the record is shorter than its kind says, or of no known kind.
pub fn parse<'a>(bytes: &'a [u8], regs: &'a mut Regs) -> Result<Event<'a>, Malformed> {
    let header: Header = read(bytes)?;
    let what = match Kind::from_raw(header.kind).ok_or(Malformed)? {
        Kind::Created => {
            let record: Created = read(bytes)?;
            What::Created {
                creator: record.creator,
                creator_name: name(&record.creator_comm),
                captured: captured(&record.capture, bytes.get(size_of::<Created>()..), regs),
            }
        }
        Kind::Exited => What::Exited { with_process: read::<Exited>(bytes)?.with_process != 0 },
        Kind::Exec => What::Exec { old_tid: read::<Exec>(bytes)?.old_tid },
        Kind::Renamed => What::Renamed(name(&read::<Renamed>(bytes)?.comm)),
        Kind::Slept => {
            let record: Slept = read(bytes)?;
            *regs = record.regs;
            What::Slept { started_ns: record.started_ns, regs }
        }
        Kind::Forked => What::Forked { creator: read::<Forked>(bytes)?.creator },
        Kind::WaitEnded => {
            let record: WaitEnded = read(bytes)?;
            What::WaitEnded {
                started_ns: record.started_ns,
                word: record.word,
                op: record.op,
                captured: captured(&record.capture, bytes.get(size_of::<WaitEnded>()..), regs),
            }
        }
    };
    Ok(Event { tid: header.tid, start_boottime: header.thread_start, time_ns: header.time_ns, what })
}

/// The target that a record is of, and when that started, `CLOCK_BOOTTIME`, ns (0 if it is not known); `None` if it is malformed.
#[must_use]
pub fn process(bytes: &[u8]) -> Option<(u32, u64)> {
    read::<Header>(bytes).ok().map(|header| (header.tgid, header.process_start))
}

/// The counter of what is lost with a record.
#[must_use]
pub fn lost_with(bytes: &[u8]) -> Counter {
    match read::<Header>(bytes).ok().and_then(|header| Kind::from_raw(header.kind)) {
        Some(Kind::Created) => Counter::RingFullCreated,
        Some(Kind::Exited) => Counter::RingFullExited,
        Some(Kind::Exec) => Counter::RingFullExec,
        Some(Kind::Renamed) => Counter::RingFullRenamed,
        Some(Kind::Forked) => Counter::RingFullForked,
        Some(Kind::WaitEnded | Kind::Slept) | None => Counter::RingFullWait,
    }
}

/// Takes the stack out of a record that has one; returns whether it had.
pub fn cut_stack(record: &mut Vec<u8>) -> bool {
    let kind = read::<Header>(record).ok().and_then(|header| Kind::from_raw(header.kind));
    let front = match kind {
        Some(Kind::Created) => size_of::<Created>(),
        Some(Kind::WaitEnded) => size_of::<WaitEnded>(),
        _ => return false,
    };
    if record.len() <= front {
        return false;
    }
    record.truncate(front);
    // The capture's last two fields end the front: its length, and why there is none.
    let missing = Counter::RingFullStack as u32 + 1;
    record[front - 8..front - 4].fill(0);
    record[front - 4..].copy_from_slice(&missing.to_ne_bytes());
    true
}

/// Whether a record says that a thread exits because its whole process does.
#[must_use]
pub fn is_end_of_process(bytes: &[u8]) -> bool {
    read::<Exited>(bytes).is_ok_and(|record| record.header.kind == Kind::Exited as u32 && record.with_process != 0)
}

fn read<T: Plain>(bytes: &[u8]) -> Result<T, Malformed> {
    read_plain(bytes).ok_or(Malformed)
}

fn captured<'a>(capture: &Capture, rest: Option<&'a [u8]>, regs: &'a mut Regs) -> Captured<'a> {
    match rest.and_then(|rest| rest.get(..capture.len as usize)) {
        Some(stack) if !stack.is_empty() => {
            *regs = capture.regs;
            Captured::Stack(regs, stack)
        }
        _ => {
            let index = capture.missing.checked_sub(1).map(|index| index as usize);
            let counter = index.and_then(|index| Counter::ALL.get(index));
            Captured::Missing(counter.copied().unwrap_or(Counter::StackUnreadable))
        }
    }
}

/// A thread's name as the kernel keeps it: at most 15 bytes and a NUL.
#[must_use]
pub fn name(comm: &[u8]) -> String {
    let len = comm.iter().position(|&byte| byte == 0).unwrap_or(comm.len());
    String::from_utf8_lossy(&comm[..len]).into_owned()
}

#[cfg(test)]
mod tests {
    use leakprobe_common::arch::REG_WORDS;

    use super::*;

    #[test]
    fn short_and_unknown_records_are_malformed() {
        let mut regs = [0; REG_WORDS];
        for kind in 0..10u32 {
            let mut bytes = kind.to_le_bytes().to_vec();
            bytes.resize(size_of::<Header>() - 1, 0);
            assert_eq!((process(&bytes), cut_stack(&mut bytes)), (None, false));
            assert_eq!(parse(&bytes, &mut regs).unwrap_err(), Malformed, "kind {kind}");
        }
        let mut created = (Kind::Created as u32).to_le_bytes().to_vec();
        created.resize(size_of::<Created>() - 1, 0);
        assert!(parse(&created, &mut regs).is_err());
        created.push(0);
        let event = parse(&created, &mut regs).unwrap();
        let What::Created { captured, .. } = event.what else { panic!("not a creation: {event:?}") };
        assert!(matches!(captured, Captured::Missing(_)));
    }

    #[test]
    fn a_stack_is_cut_off_and_said_to_be_missing() {
        let mut regs = [0; REG_WORDS];
        for (kind, front) in [(Kind::Created, size_of::<Created>()), (Kind::WaitEnded, size_of::<WaitEnded>())] {
            let mut bytes = (kind as u32).to_le_bytes().to_vec();
            bytes.resize(front, 0);
            bytes[8..12].copy_from_slice(&7u32.to_le_bytes());
            assert!(!cut_stack(&mut bytes));
            bytes[front - 8..front - 4].copy_from_slice(&100u32.to_le_bytes());
            bytes.extend([1; 200]);
            assert!(cut_stack(&mut bytes));
            assert_eq!((bytes.len(), process(&bytes)), (front, Some((7, 0))));
            let (What::Created { captured, .. } | What::WaitEnded { captured, .. }) =
                parse(&bytes, &mut regs).unwrap().what
            else {
                panic!("{kind:?}")
            };
            assert!(matches!(captured, Captured::Missing(Counter::RingFullStack)), "{captured:?}");
        }
        let mut exited = (Kind::Exited as u32).to_le_bytes().to_vec();
        exited.resize(size_of::<Exited>() + 100, 0);
        assert!(!cut_stack(&mut exited));
        assert_eq!(lost_with(&exited), Counter::RingFullExited);
    }

    #[test]
    fn the_end_of_a_process_is_told_from_that_of_a_thread() {
        let mut exited = (Kind::Exited as u32).to_le_bytes().to_vec();
        exited.resize(size_of::<Exited>(), 0);
        assert!(!is_end_of_process(&exited));
        exited[size_of::<Header>()] = 1;
        assert!(is_end_of_process(&exited) && !is_end_of_process(&exited[..size_of::<Exited>() - 1]));
        exited[0] = Kind::Renamed as u8;
        assert!(!is_end_of_process(&exited));
    }

    #[test]
    fn a_length_beyond_the_record_is_a_missing_stack() {
        let mut regs = [0; REG_WORDS];
        let mut bytes = (Kind::WaitEnded as u32).to_le_bytes().to_vec();
        bytes.resize(size_of::<WaitEnded>(), 0);
        let len_at = size_of::<WaitEnded>() - 8;
        bytes[len_at..len_at + 4].copy_from_slice(&100u32.to_le_bytes());
        bytes.extend([0; 50]);
        let event = parse(&bytes, &mut regs).unwrap();
        let What::WaitEnded { captured, .. } = event.what else { panic!("not a wait: {event:?}") };
        assert!(matches!(captured, Captured::Missing(_)));
    }
}
