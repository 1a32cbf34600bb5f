//! Finding processes by name, executable, control group or container.

use std::time::Duration;

use regex::Regex;

use super::{
    Budget, Status, containers,
    family::processes,
    groups::{groups, is_below},
    identity::executable,
    proc_file, silent,
};
use crate::aside::map_all;

/// What a process must be like. Of nothing that is said, nothing is asked.
#[derive(Clone, Debug, Default)]
pub struct Pattern {
    /// Its name (`comm`).
    pub comm: Option<Regex>,
    /// The path of its executable, as the process sees it.
    pub exe: Option<Regex>,
    /// The control group that it is in, or one above: a path as `/proc/PID/cgroup` has it.
    pub cgroup: Option<String>,
    /// The containers of which it is in one: see [`containers::names_in`].
    pub containers: Option<Vec<String>>,
}

impl Pattern {
    /// Whether the process `pid` is like that now.
    #[must_use]
    pub fn matches(&self, pid: u32) -> bool {
        let is = |pattern: &Option<Regex>, text: &dyn Fn() -> Option<String>| {
            pattern.as_ref().is_none_or(|pattern| text().is_some_and(|text| pattern.is_match(&text)))
        };
        let comm = || {
            let comm = proc_file(format!("/proc/{pid}/comm")).ok()?;
            Some(String::from_utf8_lossy(comm.strip_suffix(b"\n").unwrap_or(&comm)).into_owned())
        };
        let exe = || {
            let exe = silent::ask(pid, silent::PATIENCE, move || executable(pid)).flatten()?;
            Some(exe.to_string_lossy().into_owned())
        };
        is(&self.comm, &comm) && self.in_groups(pid) && is(&self.exe, &exe)
    }

    fn in_groups(&self, pid: u32) -> bool {
        if self.cgroup.is_none() && self.containers.is_none() {
            return true;
        }
        let groups = groups(pid);
        self.cgroup.as_ref().is_none_or(|wanted| groups.iter().any(|group| is_below(group, wanted)))
            && self.containers.as_ref().is_none_or(|wanted| {
                groups.iter().any(|group| containers::names_in(group).any(|name| wanted.contains(&name)))
            })
    }

    /// All processes that are like that but ourselves, by id. Kernel threads and zombies are none. Once the run is to end, no more of them.
    #[must_use]
    pub fn find(&self) -> Vec<u32> {
        let own = std::process::id();
        let pids: Vec<u32> = processes().filter(|&pid| pid != own).collect();
        let matches = {
            let pattern = self.clone();
            move |pid| (Status::of(pid).is_some_and(Status::runs_program) && pattern.matches(pid)).then_some(pid)
        };
        let run = Budget::of_run();
        // One that hangs keeps no other waiting.
        let results = map_all(pids, matches, || run.is_over(Duration::ZERO));
        let mut found: Vec<u32> = results.into_iter().flatten().flatten().collect();
        found.sort_unstable();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_found_by_name_and_by_executable() {
        let own = std::process::id();
        let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
        let by = |comm: Option<&str>, exe: Option<&str>| {
            let compile = |text: &str| Regex::new(text).unwrap();
            Pattern { comm: comm.map(compile), exe: exe.map(compile), ..Pattern::default() }
        };
        assert!(by(Some(&format!("^{}$", regex::escape(comm.trim_end()))), None).matches(own));
        assert!(by(None, Some("leakprobe")).matches(own));
        assert!(!by(Some("^no such name$"), Some("leakprobe")).matches(own));
        assert!(!by(None, Some("leakprobe")).find().contains(&own), "never ourselves");
        assert!(by(Some("^no such name$"), None).find().is_empty());
    }
}
