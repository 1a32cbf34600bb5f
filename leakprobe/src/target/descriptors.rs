//! Our own file descriptors: files of targets take only those that nothing else needs.

use std::{fs::File, io};

use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit},
};

/// Descriptors that files of targets leave free.
pub(crate) const SPARE: usize = 56;
/// Most mapped files of one target that are held open.
const MOST_MAPPED: u64 = 1 << 12;
/// One target's may be one part in so many of the descriptors that there are.
const SHARE_OF_TARGET: u64 = 4;

/// How many mapped files of one target may be open at a time, by the limit that there is now.
pub(crate) fn most_of_target() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(MOST_MAPPED, |(soft, _)| soft);
    usize::try_from(MOST_MAPPED.min(limit / SHARE_OF_TARGET)).unwrap_or(0)
}

/// Whether one more file may be open, so that [`SPARE`] descriptors are still free: some 20 µs.
pub(crate) fn has_room() -> bool {
    are_free(SPARE + 1)
}

/// Whether so many descriptors are free. They need not be the highest ones, so they are tried.
pub(crate) fn are_free(count: usize) -> bool {
    let first = File::open("/");
    let tried: io::Result<Vec<File>> = first.and_then(|first| (1..count).map(|_| first.try_clone()).collect());
    !tried.is_err_and(|error| is_too_few(&error))
}

/// Whether an error comes of too few descriptors.
pub(crate) fn is_too_few(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EMFILE as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_may_have_some_files_open_and_not_all() {
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert!((1..=4096).contains(&most_of_target()) && most_of_target() as u64 * 4 <= limit);
        assert!(has_room());
    }
}
