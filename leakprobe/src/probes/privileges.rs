//! What these privileges and this kernel's set-up allow.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use caps::Capability::{CAP_BPF, CAP_PERFMON};
use nix::mount::{MsFlags, mount};

use crate::privilege::may;

/// The capabilities that do all of leakprobe's work.
pub const NEEDED: &str = "CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH and CAP_CHECKPOINT_RESTORE (and CAP_SYS_ADMIN where tracefs has to be \
     mounted)";

/// Whether we may load tracing programs.
#[must_use]
pub fn may_load() -> bool {
    may(CAP_BPF) && may(CAP_PERFMON)
}

/// Whether process ids mean the same to us as to the kernel's programs.
/// The initial pid namespace has a fixed inode number:
/// <https://elixir.bootlin.com/linux/v6.12/source/include/linux/proc_ns.h#L42>
#[must_use]
pub fn in_initial_pid_namespace() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link == Path::new("pid:[4026531836]"))
}

/// Whether users may not look into their own processes, unless those are their children.
/// Source: <https://www.kernel.org/doc/html/latest/admin-guide/LSM/Yama.html>
#[must_use]
pub fn restricts_ptrace() -> bool {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    scope.is_ok_and(|scope| scope.trim() != "0")
}

/// The running kernel's release, e.g. `6.18.44`.
#[must_use]
pub fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |release| release.trim().to_owned())
}

/// Places where tracefs may be.
const TRACEFS: &[&str] = &["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Where tracefs is, if it is mounted.
#[must_use]
pub fn tracefs() -> Option<PathBuf> {
    TRACEFS.iter().map(PathBuf::from).find(|path| path.join("events").is_dir())
}

/// Mounts tracefs where the kernel keeps a place for it, if it is not mounted. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
/// What the kernel says, with what to do.
pub fn ensure_tracefs() -> io::Result<()> {
    if tracefs().is_some() {
        return Ok(());
    }
    let place = TRACEFS[0];
    // It belongs to root and is closed to others: what looks unmounted may only be unreadable.
    if let Err(error) = fs::read_dir(place)
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        let what = format!("cannot read {place}: {error}; run with sudo, or grant CAP_DAC_READ_SEARCH");
        return Err(io::Error::other(what));
    }
    mount(Some("tracefs"), place, Some("tracefs"), MsFlags::empty(), None::<&str>).map_err(|error| {
        io::Error::other(format!("cannot mount tracefs on {place}: {error}; mount it, or run with sudo"))
    })?;
    tracing::info!("mounted tracefs on {place}");
    Ok(())
}

/// Why performance events, on which the tracepoints of system calls rest, may be refused though all capabilities are there that they
/// need elsewhere.
#[must_use]
pub fn perf_hint() -> Option<String> {
    let level: i32 = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok()?.trim().parse().ok()?;
    // Source: <https://sources.debian.org/patches/linux/6.1.0-1/features/all/security-perf-allow-further-restriction-of-perf_event_open.patch/>
    (level > 2).then(|| {
        format!(" (kernel.perf_event_paranoid is {level}: some distributions' kernels then ask for CAP_SYS_ADMIN)")
    })
}

/// Whether this kernel has a tracepoint.
#[must_use]
pub fn has_tracepoint(category: &str, name: &str) -> bool {
    tracefs().is_some_and(|path| path.join("events").join(category).join(name).is_dir())
}
