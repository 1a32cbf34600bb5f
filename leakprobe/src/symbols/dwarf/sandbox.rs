//! What the helper gives up before it reads anything: it keeps one connection, and what every user may read.
//!
//! Each step is one of several fences. One that this kernel does not have, or that a container forbids, is left out: what is read is
//! then guarded by the others.

use caps::CapSet;
use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, Scope};
use nix::{
    sys::{
        prctl::{set_dumpable, set_name, set_no_new_privs, set_pdeathsig},
        resource::{Resource, setrlimit},
        signal::Signal,
    },
    unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid},
};

use super::server;

/// The user that owns nothing: <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>, "overflow user ID".
const NOBODY: u32 = 65_534;

/// What it takes to begin with, bytes of address space.
const OWN: u64 = 32 << 20;
/// Most files that are open at once.
const MOST_FILES: u64 = 4096;
/// Most CPU time, s. The budget of the run, `target/budget.rs`, ends it earlier unless it has left us to ourselves.
const LONGEST: u64 = 600;

/// The newest rules that are asked for; an older kernel follows those that it knows.
const RULES: ABI = ABI::V6;

/// Gives up all rights that reading debug information does not need. What is not that of a mapped file may take so much `memory`, bytes.
pub(super) fn enter(memory: u64) {
    close_others();
    let _ = set_name(c"debuginfo");
    for (resource, most) in [
        (Resource::RLIMIT_DATA, memory.saturating_add(OWN + server::STACK as u64)),
        (Resource::RLIMIT_NOFILE, MOST_FILES),
        (Resource::RLIMIT_CPU, LONGEST),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_CORE, 0),
    ] {
        let _ = setrlimit(resource, most, most);
    }
    if geteuid().is_root() {
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        let _ = setgroups(&[]);
        let _ = setresgid(group, group, group);
        let _ = setresuid(user, user, user);
    }
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        let _ = caps::clear(None, set);
    }
    let _ = set_no_new_privs();
    // A change of the user takes it back.
    let _ = set_pdeathsig(Signal::SIGKILL);
    let _ = set_dumpable(false);
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_write(RULES) | AccessFs::Execute | AccessFs::ReadDir)
        .and_then(|rules| rules.handle_access(AccessNet::from_all(RULES)))
        .and_then(|rules| rules.scope(Scope::from_all(RULES)))
        .and_then(Ruleset::create);
    let _ = rules.and_then(|rules| rules.restrict_self());
}

/// Closes what else was inherited.
fn close_others() {
    // SAFETY: nothing in this process owns a descriptor above 2 yet.
    let _ = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}
