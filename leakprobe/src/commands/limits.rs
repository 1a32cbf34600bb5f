//! Limits of the process: raised as far as they may be for us, and as they were for what we start.

use std::{os::unix::process::CommandExt, process::Command, sync::OnceLock};

use nix::sys::{
    resource::{Resource, getrlimit, rlim_t, setrlimit},
    signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
};

/// What is as large as that is mapped by itself, bytes.
#[cfg(target_env = "gnu")]
const LARGE_BYTES: libc::c_int = 128 << 10;

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
    // What is large goes back to the system when it is freed, wherever it lies: by itself the C library's allocator keeps ever more.
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number of the allocator.
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES) };
    // A signal that is ignored would be so in programs that we start, too; a handler is not handed on.
    let nothing = SigAction::new(SigHandler::Handler(do_nothing), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing.
    let _ = unsafe { sigaction(Signal::SIGXFSZ, &nothing) };
}

extern "C" fn do_nothing(_signal: libc::c_int) {}

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
