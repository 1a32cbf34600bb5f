//! Limits of the process: raised as far as they may be for us, and as they were for what we start.

use std::{error::Error, io, os::unix::process::CommandExt, process::Command, sync::OnceLock};

use nix::sys::{
    resource::{Resource, getrlimit, rlim_t, setrlimit},
    signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
};

use super::{ExitCode, Failure};
use crate::target::descriptors;

/// Descriptors that are free whenever something begins that cannot do without: an event loop, a child with its pipes, an output.
pub(super) const SPARE: usize = 24;
/// Descriptors that must be free before the first process is watched: for BPF programs, maps, links and perf events, and its own.
pub(super) const SPARE_OF_PROGRAMS: usize = 56;
/// Descriptors that must be free before one more process is watched: for its iterators, its memory, and what wakes its thread.
pub(super) const SPARE_OF_SESSION: usize = 32;
// Files of targets leave as many free as it takes to watch one more process.
const _: () = assert!(descriptors::SPARE >= SPARE + SPARE_OF_SESSION);

/// How many descriptors we might have had open before that was changed: the soft and the hard limit.
static DESCRIPTORS: OnceLock<(rlim_t, rlim_t)> = OnceLock::new();

/// Raises the limit of descriptors as far as is allowed, and makes files that become too large an error in the place of a signal.
/// To be called before there are threads.
pub(super) fn prepare() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok()
    {
        let _ = DESCRIPTORS.set((soft, hard));
    }
    // A signal that is ignored would be so in programs that we start, too; a handler is not handed on.
    let nothing = SigAction::new(SigHandler::Handler(do_nothing), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing.
    let _ = unsafe { sigaction(Signal::SIGXFSZ, &nothing) };
}

extern "C" fn do_nothing(_signal: libc::c_int) {}

/// Makes sure that some descriptors are left. Libraries panic where they get none, and others say that something is not permitted.
pub(super) fn check_descriptors(count: usize) -> Result<(), Failure> {
    if descriptors::are_free(count) { Ok(()) } else { Err(too_few()) }
}

/// What to say where descriptors have run out, whatever was tried by that.
pub(super) fn too_few() -> Failure {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    let what = format!(
        "leakprobe needs more open files than its limit of {limit} (RLIMIT_NOFILE); raise it, for example by `ulimit -n 1024`, or watch \
         fewer processes"
    );
    Failure::new(ExitCode::Failed, what)
}

/// Whether an error comes of too few descriptors.
pub(super) fn comes_of_too_few(error: &(dyn Error + 'static)) -> bool {
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

/// Gives the process of a command the limits that we were started with: some programs take time or memory for each descriptor that
/// they may have.
pub(super) fn as_before(command: &mut Command) {
    if let Some(&(soft, hard)) = DESCRIPTORS.get() {
        // SAFETY: between fork and exec it makes one system call and allocates nothing.
        unsafe { command.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_has_the_limits_of_before() {
        prepare();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(soft, hard);
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n; kill -XFSZ $$"]);
        as_before(&mut command);
        let output = command.output().unwrap();
        let before = DESCRIPTORS.get().map_or(soft, |&(soft, _)| soft);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), before.to_string());
        assert!(!output.status.success(), "SIGXFSZ does as ever there");
    }
}
