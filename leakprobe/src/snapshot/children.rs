//! Which process a wait for a child is about.

use libc::c_long;

use super::proc;
use crate::{
    model::{Children, EndRole, OtherEnd},
    target::{Stat, processes},
};

/// Processes that are looked at while children are searched for.
const MOST_PROCESSES: usize = 1 << 16;
/// `KCMP_VM` and `KCMP_FILES`.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/kcmp.h#L8>
const KCMP_VM: c_long = 1;
const KCMP_FILES: c_long = 2;

/// The processes that a task of `target` waits for. Not those of a pidfd.
pub(crate) fn children(target: u32, which: Children) -> Vec<OtherEnd> {
    let is_ours = |pid: u32| {
        let stat = Stat::of(pid)?;
        // Who traces a process waits for it as for a child.
        let traces = || proc::status_field(pid, "TracerPid").is_some_and(|tracer| tracer == target.to_string());
        (stat.parent == target || traces()).then_some(stat)
    };
    match which {
        Children::One(pid) => {
            let pid = u32::try_from(pid).ok();
            match depth(target) {
                Some(1) => pid.filter(|pid| is_ours(*pid).is_some()).and_then(child).into_iter().collect(),
                Some(depth) => {
                    let is_it =
                        |candidate: &u32| in_namespace(*candidate, depth) == pid && is_ours(*candidate).is_some();
                    of_parent(target).into_iter().filter(is_it).take(1).filter_map(child).collect()
                }
                None => Vec::new(),
            }
        }
        Children::Any => of_parent(target).into_iter().filter_map(child).collect(),
        Children::Group(group) => {
            let group = match (group, depth(target)) {
                (0, _) => Stat::of(target).map(|stat| stat.group),
                (group, Some(1)) => Some(group),
                // Process groups are numbered otherwise there.
                _ => None,
            };
            let is_in = |pid: &u32| Stat::of(*pid).map(|stat| stat.group) == group;
            group.map(|_| of_parent(target).into_iter().filter(is_in).filter_map(child).collect()).unwrap_or_default()
        }
        Children::Pidfd(_) => Vec::new(),
    }
}

/// The child that runs in the memory of `target`, whose thread waits for that to end.
pub(crate) fn borrower(target: u32) -> Option<OtherEnd> {
    of_parent(target).into_iter().find(|pid| is_shared(KCMP_VM, target, *pid)).and_then(child)
}

/// Whether two threads have the same descriptors.
pub(crate) fn share_descriptors(one: u32, other: u32) -> bool {
    one == other || is_shared(KCMP_FILES, one, other)
}

/// A process as the end of a wait for it.
pub(crate) fn child(pid: u32) -> Option<OtherEnd> {
    let stat = Stat::of(pid)?;
    let name = proc::comm(pid).unwrap_or_default();
    Some(OtherEnd { role: EndRole::Child, pid, is_target: false, name, fd: None, state: Some(char::from(stat.state)) })
}

fn of_parent(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| Stat::of(*pid).is_some_and(|stat| stat.parent == parent);
    processes().take(MOST_PROCESSES).filter(is_child).collect()
}

/// In how many pid namespaces a process is, as far as we see: 1 if only in ours.
fn depth(pid: u32) -> Option<usize> {
    Some(proc::status_field(pid, "NSpid")?.split_ascii_whitespace().count())
}

/// The id of a process in the namespace at that depth.
fn in_namespace(pid: u32, depth: usize) -> Option<u32> {
    proc::status_field(pid, "NSpid")?.split_ascii_whitespace().nth(depth.checked_sub(1)?)?.parse().ok()
}

fn is_shared(what: c_long, one: u32, other: u32) -> bool {
    // SAFETY: kcmp takes five integers and compares two pointers of the kernel's own; it touches no memory of ours.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, c_long::from(one), c_long::from(other), what, 0_i64, 0_i64) };
    order == 0
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_is_known_with_its_name_and_state() {
        let mut command = Command::new("sleep");
        let mut sleeper = command.arg("100").stdin(Stdio::null()).spawn().unwrap();
        let id = std::process::id();
        let is_it = |end: &OtherEnd| end.pid == sleeper.id() && end.role == EndRole::Child && end.state.is_some();
        let one = children(id, Children::One(sleeper.id() as i32));
        assert!(matches!(&one[..], [end] if is_it(end)), "{one:?}");
        assert!(children(id, Children::Any).iter().any(is_it));
        assert!(children(id, Children::Group(0)).iter().any(is_it));
        assert_eq!(children(id, Children::One(1)), [], "that is no child of ours");
        assert_eq!(children(id, Children::One(-7)), []);
        assert!(!share_descriptors(id, sleeper.id()));
        assert!(share_descriptors(id, nix::unistd::gettid().as_raw() as u32));
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
}
