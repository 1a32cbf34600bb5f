//! Descriptors that must be free before something begins that cannot do without.

use std::io;

use nix::sys::resource::{Resource, getrlimit};

use super::{Error, ErrorKind};
use crate::target::descriptors;

/// Descriptors that are free whenever something begins that cannot do without: an event loop, a child with its pipes, an output.
pub(crate) const SPARE: usize = 24;
/// Descriptors that must be free before the first process is watched: for BPF programs, maps, links and perf events, and its own.
pub(super) const SPARE_OF_PROGRAMS: usize = 56;
/// Descriptors that must be free before one more process is watched: for its iterators, its memory, and what wakes its thread.
pub(super) const SPARE_OF_SESSION: usize = 32;
// Files of targets leave as many free as it takes to watch one more process.
const _: () = assert!(descriptors::SPARE >= SPARE + SPARE_OF_SESSION);

/// Makes sure that some descriptors are left. Libraries panic where they get none, and others say that something is not permitted.
pub(crate) fn check_descriptors(count: usize) -> Result<(), Error> {
    if descriptors::are_free(count) { Ok(()) } else { Err(too_few()) }
}

/// What to say where descriptors have run out, whatever was tried by that.
pub(crate) fn too_few() -> Error {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    let what = format!(
        "leakprobe needs more open files than its limit of {limit} (RLIMIT_NOFILE); raise it, for example by `ulimit -n 1024`, or watch \
         fewer processes"
    );
    Error::new(ErrorKind::Failed, what)
}

/// Whether an error comes of too few descriptors.
pub(crate) fn comes_of_too_few(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // Some libraries keep no more of an error than its words.
        let number = format!("(os error {})", libc::EMFILE);
        if error.downcast_ref::<io::Error>().is_some_and(descriptors::is_too_few) || error.to_string().contains(&number)
        {
            return true;
        }
        cause = error.source();
    }
    false
}
