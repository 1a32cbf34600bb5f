//! The control groups of processes.

use std::fs;

use super::{containers, family::processes};

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// The control groups of a process, one for each hierarchy (v1), or one in all (v2). Empty if it is gone.
/// Source: <https://man7.org/linux/man-pages/man7/cgroups.7.html>
pub(super) fn groups(pid: u32) -> Vec<String> {
    let text = fs::read(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    paths(&String::from_utf8_lossy(&text))
}

/// The containers in which processes run, each once: see [`containers::names_in`].
#[must_use]
pub fn containers_that_run() -> Vec<String> {
    let mut names: Vec<String> =
        processes().flat_map(groups).flat_map(|group| containers::names_in(&group).collect::<Vec<_>>()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether `group` is `wanted` or below it.
pub(super) fn is_below(group: &str, wanted: &str) -> bool {
    group.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || wanted == "/")
}

/// The path that `/proc/PID/cgroup` has of a group that may be given as a folder of the file system. `is_v2`: whether what is
/// mounted there is version 2, and not a folder for each hierarchy of version 1.
#[must_use]
pub fn group_path(given: &str, is_v2: bool) -> String {
    let trimmed = given.trim_end_matches('/');
    let path = match trimmed.strip_prefix(MOUNT) {
        Some(below) if is_v2 => below,
        Some(below) => below.get(1..).and_then(|below| below.find('/').map(|at| &below[at..])).unwrap_or(""),
        None => trimmed,
    };
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

pub(super) fn paths(cgroup: &str) -> Vec<String> {
    cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_matched_by_whole_parts() {
        assert_eq!(paths("4:memory:/a/b\n0::/c\nnonsense\n"), ["/a/b", "/c"]);
        assert!(is_below("/a/b", "/a") && is_below("/a", "/a") && is_below("/a", "/"));
        assert!(!is_below("/ab", "/a") && !is_below("/", "/a"));
    }

    #[test]
    fn a_group_may_be_given_as_a_folder() {
        for (given, is_v2, path) in [
            ("system.slice/x.service/", true, "/system.slice/x.service"),
            ("/system.slice", true, "/system.slice"),
            ("/sys/fs/cgroup/system.slice", true, "/system.slice"),
            ("/sys/fs/cgroup/memory/a/b", false, "/a/b"),
            ("/sys/fs/cgroup/memory", false, "/"),
            ("/sys/fs/cgroup", true, "/"),
        ] {
            assert_eq!(group_path(given, is_v2), path, "{given}");
        }
    }

    #[test]
    fn our_own_groups_are_there() {
        assert!(groups(std::process::id()).iter().all(|group| group.starts_with('/')));
        assert!(groups(u32::MAX).is_empty());
    }
}
