//! Event loops that can be woken from within their own process.

use std::{collections::HashSet, fs};

use super::{
    descriptors::{FdInfo, Link, MOST_MEMBERS, open_descriptors},
    sockets::Sockets,
};

/// Most epolls of a process, and most members of each, that are looked at.
const MOST_EPOLLS: usize = 64;
const MOST_LOOKED_AT: usize = 1024;

/// Whether an epoll of the process watches one end of a pair of sockets of which the process holds the other end, too: by such a pair
/// other threads and signal handlers wake an event loop, e.g. each of asyncio's. `task` is a thread that has the process's
/// descriptors. Costs two system calls a descriptor, some ms in all; nothing is looked at if that would take long.
/// Source: <https://github.com/python/cpython/blob/v3.11.7/Lib/asyncio/selector_events.py#L105>
pub(crate) fn wakes_itself(task: u32) -> bool {
    // The kernel lists the members of an epoll under a lock that the target needs.
    if open_descriptors(task).is_none_or(|open| open > MOST_MEMBERS) {
        return false;
    }
    let mut sockets = HashSet::new();
    let mut epolls = Vec::new();
    for entry in fs::read_dir(format!("/proc/{task}/fd")).into_iter().flatten().flatten() {
        match fs::read_link(entry.path()).ok().as_deref().and_then(|link| Link::of_text(link.to_str()?)) {
            Some(Link::Socket(inode)) => drop(sockets.insert(inode)),
            Some(Link::Anonymous(name)) if name == "[eventpoll]" && epolls.len() < MOST_EPOLLS => {
                epolls.extend(entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
            }
            _ => {}
        }
    }
    let mut asked = Sockets::new(task);
    epolls.into_iter().filter_map(|epoll| FdInfo::read(task, epoll)).any(|mut info| {
        // A loop makes the pair before anything else that it watches.
        info.members.sort_unstable_by_key(|member| member.fd);
        let members = info.members.iter().filter(|member| sockets.contains(&member.inode)).take(MOST_LOOKED_AT);
        let mut peers = members.filter_map(|member| asked.unix_peer(task, member.fd, member.inode));
        peers.any(|peer| sockets.contains(&peer))
    })
}

#[cfg(test)]
mod tests {
    use tokio::{net::UnixStream, runtime};

    use super::*;

    #[test]
    fn a_loop_that_watches_one_end_of_a_pair_wakes_itself() {
        let runtime = runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _entered = runtime.enter();
        let _pair = UnixStream::pair().unwrap();
        assert!(wakes_itself(std::process::id()));
    }
}
