//! After each snapshot: what the futex waits are, who holds what is waited for, and a second look where the first is not enough.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
};

use crate::{analysis::Live, probes::Source, snapshot::Engine, symbols};

/// Names the waits, and confirms what only a second look can: circles of waits, and holders that have exited.
pub(super) fn look(live: &mut Live, engine: &mut Engine, probes: &Source, symbols: &symbols::Stacks) {
    live.name_futexes(symbols, symbols.frames());
    let doubts = live.doubts();
    if doubts.waiters.is_empty() {
        return;
    }
    let mut gone = BTreeSet::new();
    let missing = || gone = missing_in(engine.pid(), &doubts.missing);
    match engine.read_twice(probes, &doubts.waiters, missing) {
        Ok(twice) => {
            let twice = twice.into_iter().map(|(tid, first, second)| (tid, [first, second])).collect();
            live.confirm(&twice, &gone);
        }
        Err(error) => tracing::debug!("second look at locks: {error}"),
    }
}

/// Those of `own_ids`, thread ids in the process's own pid namespace, that it does not have.
fn missing_in(pid: u32, own_ids: &[u32]) -> BTreeSet<u32> {
    let is_here = |tid: &u32| fs::metadata(format!("/proc/{pid}/task/{tid}")).is_ok();
    let ids = outer_ids(pid);
    let exists = |tid: &u32| ids.as_ref().map_or_else(|| is_here(tid), |ids| ids.contains_key(tid));
    own_ids.iter().copied().filter(|tid| !exists(tid)).collect()
}

/// The ids of a process's threads in its own pid namespace, and here; `None` if that is the same namespace.
fn outer_ids(pid: u32) -> Option<HashMap<u32, u32>> {
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/pid")).ok();
    if namespace(&pid.to_string())? == namespace("self")? {
        return None;
    }
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let ids = tasks.filter_map(|task| {
        let tid = task.ok()?.file_name().to_str()?.parse().ok()?;
        Some((own_id(&fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).ok()?)?, tid))
    });
    Some(ids.collect())
}

/// The id in the innermost namespace, from /proc/PID/status.
/// Source: <https://man7.org/linux/man-pages/man5/proc_pid_status.5.html> (`NSpid`).
fn own_id(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_ascii_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_namespace_comes_last() {
        assert_eq!(own_id("Name:\tx\nNSpid:\t4711\t12\t3\nNSsid:\t1\n"), Some(3));
        assert_eq!(own_id("Name:\tNSpid: 7\n"), None);
        assert_eq!(own_id("NSpid:\n"), None);
    }

    #[test]
    fn a_process_has_its_own_threads_and_no_others() {
        let pid = std::process::id();
        assert_eq!(missing_in(pid, &[pid, u32::MAX]), BTreeSet::from([u32::MAX]));
    }
}
