//! The processes that there are, and those that a process has created.

use std::{collections::HashMap, fs};

use super::{Stat, Status};

/// Most processes that are looked at.
const MOST: usize = 1 << 16;

/// The ids of all processes.
pub fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The children of `pid`, as far as the kernel tells without all processes being looked at (`CONFIG_PROC_CHILDREN`).
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    children.flat_map(|text| text.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>()).collect()
}

/// The children of `pid` that have not ended, theirs, and so on, in the order of their ids. What was left to another process, since its
/// parent has ended, is none of them. Some ms where there are many processes.
#[must_use]
pub fn descendants(pid: u32) -> Vec<(u32, Stat)> {
    let mut created: HashMap<u32, Vec<u32>> = HashMap::new();
    for id in processes().take(MOST) {
        if let Some(status) = Status::of(id) {
            created.entry(status.parent).or_default().push(id);
        }
    }
    let mut found = created.remove(&pid).unwrap_or_default();
    let mut next = 0;
    while let Some(id) = found.get(next) {
        found.extend(created.remove(id).unwrap_or_default());
        next += 1;
    }
    found.sort_unstable();
    found.into_iter().filter_map(|id| Some((id, Stat::of(id).filter(|stat| !stat.is_over())?))).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn children_of_children_are_told_until_they_end() {
        let script = "(read never) & echo $!; wait";
        let mut child = Command::new("/bin/bash")
            .args(["-c", &format!("exec 3<&0; ({script}) <&3 & wait")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while descendants(child.id()).len() != 2 {
            assert!(began.elapsed() < Duration::from_secs(60), "{:?}", descendants(child.id()));
            std::thread::sleep(Duration::from_millis(5));
        }
        let found = descendants(child.id());
        let has = |id: u32| found.iter().any(|(found, stat)| *found == id && stat.comm == b"bash");
        assert!(children(child.id()).into_iter().all(has), "{found:?}");
        assert!(descendants(std::process::id()).iter().any(|(id, _)| *id == child.id()));
        drop(child.stdin.take());
        let mut rest = String::new();
        child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        child.wait().unwrap();
        assert_eq!(descendants(child.id()), []);
    }
}
