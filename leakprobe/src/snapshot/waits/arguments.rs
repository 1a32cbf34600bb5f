//! Arguments of system calls that lie in the caller's memory: lists of descriptors, sets of signals, paths.

use crate::target::ProcessMemory;

/// Descriptors of a poll or select that are kept; the rest is counted.
const MAX_FDS: usize = 64;
/// Entries of a pollfd array that are looked at, and bits of an fd_set: as many as a process can have open by default. Beyond
/// that they are taken to count.
const MAX_LOOKED_AT: usize = 4096;
/// `struct pollfd`. Source: <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/asm-generic/poll.h#L36>
const POLLFD: usize = 8;
/// Longest path (`PATH_MAX`).
const MAX_PATH: usize = 4096;

/// The first of the descriptors that poll was given, and how many it was given. Those below zero are left out, as the kernel does.
pub(super) fn pollfds(memory: &ProcessMemory, address: u64, count: u64) -> (Vec<i32>, u64) {
    let looked_at = usize::try_from(count).unwrap_or(usize::MAX).min(MAX_LOOKED_AT);
    let mut bytes = vec![0; looked_at * POLLFD];
    let read = memory.read(address, &mut bytes);
    let entries = bytes.get(..read).unwrap_or_default().chunks_exact(POLLFD);
    let seen = entries.len() as u64;
    let all: Vec<i32> = entries
        .filter_map(|entry| Some(i32::from_le_bytes(entry.first_chunk().copied()?)))
        .filter(|fd| *fd >= 0)
        .collect();
    // What could not be read, or is beyond the limit, may all be descriptors.
    let total = all.len() as u64 + count.saturating_sub(seen);
    (all.into_iter().take(MAX_FDS).collect(), total)
}

/// The first of the descriptors in up to three fd_sets below `end`, and how many there are; `None` if a set cannot be read.
pub(super) fn fd_sets(memory: &ProcessMemory, sets: [u64; 3], end: u64) -> Option<(Vec<i32>, u64)> {
    let bits = usize::try_from(end as u32 as i32).ok()?.min(MAX_LOOKED_AT);
    let mut union = vec![0_u8; bits.div_ceil(64) * 8];
    for set in sets.into_iter().filter(|set| *set != 0) {
        let mut bytes = vec![0; union.len()];
        if memory.read(set, &mut bytes) != bytes.len() {
            return None;
        }
        union.iter_mut().zip(bytes).for_each(|(all, byte)| *all |= byte);
    }
    let is_set = |fd: &usize| union.get(fd / 8).is_some_and(|byte| byte >> (fd % 8) & 1 == 1);
    let fds: Vec<usize> = (0..bits).filter(is_set).collect();
    Some((fds.iter().take(MAX_FDS).filter_map(|fd| i32::try_from(*fd).ok()).collect(), fds.len() as u64))
}

/// The path at `address`; `None` if it cannot be read to its end.
pub(super) fn path(memory: &ProcessMemory, address: u64) -> Option<String> {
    let mut bytes = vec![0; MAX_PATH];
    let read = memory.read(address, &mut bytes);
    let bytes = bytes.get(..read)?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(bytes.get(..end)?).into_owned())
}

/// The signals of a set, by name: `SIGUSR1, SIGUSR2`; of a large one those that are not in it.
pub(crate) fn signal_set(set: u64) -> String {
    /// `SIGRTMAX`; the kernel's sets have so many bits.
    const LAST: i32 = 64;
    let named = |wanted: bool| {
        let is_in = |signal: &i32| (set >> (signal - 1) & 1 == 1) == wanted;
        (1..=LAST).filter(is_in).map(signal_name).collect::<Vec<_>>()
    };
    match set.count_ones() {
        0 => "no signal".to_owned(),
        64 => "any signal".to_owned(),
        33.. => format!("any signal but {}", named(false).join(", ")),
        _ => named(true).join(", "),
    }
}

fn signal_name(signal: i32) -> String {
    match nix::sys::signal::Signal::try_from(signal) {
        Ok(known) => known.as_str().to_owned(),
        // glibc keeps 32 and 33 for itself.
        Err(_) if signal >= 34 => format!("SIGRTMIN+{}", signal - 34),
        Err(_) => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> ProcessMemory {
        ProcessMemory::new(std::process::id())
    }

    #[test]
    fn polled_descriptors_are_read_and_counted() {
        let entries: Vec<libc::pollfd> =
            [5, -1, 7].iter().map(|&fd| libc::pollfd { fd, events: 1, revents: 0 }).collect();
        assert_eq!(pollfds(&own(), entries.as_ptr() as u64, 3), (vec![5, 7], 2));
        let many: Vec<libc::pollfd> = (0..100).map(|fd| libc::pollfd { fd, events: 1, revents: 0 }).collect();
        let (fds, total) = pollfds(&own(), many.as_ptr() as u64, 100);
        assert_eq!((fds.len(), total), (MAX_FDS, 100));
        // What is not there, and a length that nobody can have.
        assert_eq!(pollfds(&own(), 8, 3), (vec![], 3));
        assert_eq!(pollfds(&own(), 8, u64::MAX), (vec![], u64::MAX));
        assert_eq!(pollfds(&own(), 0, 0), (vec![], 0));
    }

    #[test]
    fn descriptors_of_all_sets_are_read() {
        let (read, write) = ([1_u64 << 3 | 1 << 63, 1], [1_u64 << 3, 1 << 6]);
        let sets = [read.as_ptr() as u64, write.as_ptr() as u64, 0];
        assert_eq!(fd_sets(&own(), sets, 128), Some((vec![3, 63, 64, 70], 4)));
        assert_eq!(fd_sets(&own(), sets, 64), Some((vec![3, 63], 2)));
        assert_eq!(fd_sets(&own(), sets, 0), Some((vec![], 0)));
        assert_eq!(fd_sets(&own(), [8, 0, 0], 64), None);
        assert_eq!(fd_sets(&own(), [0; 3], u64::MAX), None);
        assert_eq!(fd_sets(&own(), [0; 3], i32::MAX as u64), Some((vec![], 0)));
    }

    #[test]
    fn paths_are_read_up_to_their_end() {
        assert_eq!(path(&own(), c"/run/fifo".as_ptr() as u64), Some("/run/fifo".to_owned()));
        assert_eq!(path(&own(), 8), None);
        assert_eq!(path(&own(), vec![b'x'; 2 * MAX_PATH].as_ptr() as u64), None);
    }

    #[test]
    fn sets_of_signals_are_named() {
        assert_eq!(signal_set(0), "no signal");
        assert_eq!(signal_set(1 << 9 | 1 << 11), "SIGUSR1, SIGUSR2");
        assert_eq!(signal_set(u64::MAX), "any signal");
        assert_eq!(signal_set(!(1 << 1)), "any signal but SIGINT");
        assert_eq!(signal_set(1 << 33 | 1 << 31), "signal 32, SIGRTMIN+0");
    }
}
