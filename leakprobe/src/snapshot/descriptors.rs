//! What a process's file descriptors are.
//!
//! Nothing of the target's is opened: what a descriptor leads to is read from its link in `/proc/PID/fd`, from `/proc/PID/fdinfo`
//! and from attributes that the kernel keeps, without asking file servers.

mod fdinfo;
mod link;
mod words;

use std::{collections::HashMap, sync::Arc};

use nix::time::ClockId;

pub(crate) use link::{Link, PipeId, fifo, open_descriptors};
pub(crate) use words::count;

use self::fdinfo::Member;
pub(crate) use self::fdinfo::{FdInfo, MOST_MEMBERS};
use super::sockets::Sockets;
use crate::{
    model::{WaitKind, WaitTimer},
    target::clock_ns,
};

/// How deep timers are looked for: a descriptor, what an epoll watches, and that of an epoll in it.
const DEPTH: u32 = 3;
/// Members of an epoll that may be timers of which so many are looked at.
const MOST_TIMERS: usize = 1024;

/// What a descriptor of the task is, as a kind of wait and in words: `fd 5 (pipe:[1234])`. Costs two system calls or three.
pub(crate) fn describe(task: u32, fd: i32) -> (WaitKind, String) {
    match Link::read(task, fd) {
        Some(link) => (link.kind(), format!("fd {fd} ({link})")),
        None => (WaitKind::File, format!("fd {fd}")),
    }
}

/// What a descriptor is, in full.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) kind: WaitKind,
    /// `fd 7 (tcp 127.0.0.1:80 → 127.0.0.1:40112, established, idle 3.2 s)`.
    pub(crate) words: Arc<str>,
    /// What it leads to; `None` if it is closed.
    pub(crate) link: Option<Link>,
}

/// The descriptors of one task at one moment, with the addresses of sockets. Each is looked up once.
#[derive(Debug)]
pub(crate) struct Descriptors {
    task: u32,
    known: HashMap<i32, Described>,
    timers: HashMap<i32, Option<WaitTimer>>,
    sockets: Sockets,
}

impl Descriptors {
    /// Those of `task`: a thread that has the process's descriptors.
    pub(crate) fn new(task: u32) -> Self {
        Self { task, known: HashMap::new(), timers: HashMap::new(), sockets: Sockets::new(task) }
    }

    /// The sockets of the task's network namespace.
    pub(crate) fn sockets(&mut self) -> &mut Sockets {
        &mut self.sockets
    }

    /// Sockets that were met and are in no list of the task's network namespace, by their inodes.
    pub(crate) fn unlisted_sockets(&self) -> impl Iterator<Item = u64> {
        self.sockets.unlisted()
    }

    /// What a descriptor is: `fd 7 (tcp 127.0.0.1:80 → 127.0.0.1:40112, established, idle 3.2 s)`.
    pub(crate) fn describe(&mut self, fd: i32) -> Described {
        self.describe_nested(fd, true)
    }

    /// What `fdinfo` says of a descriptor.
    pub(crate) fn info(&self, fd: i32) -> Option<FdInfo> {
        FdInfo::read(self.task, fd)
    }

    /// The timer that fires first of those that these descriptors lead to: timerfds, and those that an epoll watches. `None` if
    /// there is none that is set.
    pub(crate) fn first_timer(&mut self, fds: &[i32]) -> Option<WaitTimer> {
        let mut first = |&fd: &i32| match self.timers.get(&fd) {
            Some(known) => *known,
            None => {
                let timer = self.timer(fd, DEPTH);
                self.timers.insert(fd, timer);
                timer
            }
        };
        fds.iter().filter_map(&mut first).min()
    }

    fn timer(&self, fd: i32, depth: u32) -> Option<WaitTimer> {
        let depth = depth.checked_sub(1)?;
        match Link::read(self.task, fd)? {
            Link::Anonymous(name) if name == "[timerfd]" => {
                let now_ns = clock_ns(ClockId::CLOCK_MONOTONIC);
                self.info(fd).and_then(|info| info.timer(now_ns))
            }
            Link::Anonymous(name) if name == "[eventpoll]" && depth > 0 && !self.are_many() => {
                let info = self.info(fd)?;
                // What has no name in any file system is all of one inode: the epoll itself, and what may be a timer.
                let may_be_timer =
                    |member: &&Member| member.is_read && info.inode.is_none_or(|inode| inode == member.inode);
                let members = info.members.iter().filter(may_be_timer).take(MOST_TIMERS);
                members.filter_map(|member| self.timer(member.fd, depth)).min()
            }
            _ => None,
        }
    }

    fn describe_nested(&mut self, fd: i32, with_members: bool) -> Described {
        if let Some(known) = self.known.get(&fd) {
            return known.clone();
        }
        let link = Link::read(self.task, fd);
        let inner = link.as_ref().map(|link| self.words(fd, link, with_members));
        let described = Described {
            kind: link.as_ref().map_or(WaitKind::File, Link::kind),
            words: inner.map_or_else(|| format!("fd {fd}"), |inner| format!("fd {fd} ({inner})")).into(),
            link,
        };
        if with_members {
            self.known.insert(fd, described.clone());
        }
        described
    }

    fn words(&mut self, fd: i32, link: &Link, with_members: bool) -> String {
        match link {
            Link::Socket(inode) => {
                let words = self.sockets.words(self.task, fd, *inode);
                words.unwrap_or_else(|| link.to_string())
            }
            Link::Anonymous(name) if name == "[eventpoll]" => {
                if with_members {
                    self.members(fd)
                } else {
                    "epoll".to_owned()
                }
            }
            Link::Anonymous(name) => match self.info(fd) {
                Some(info) => words::anonymous(name, &info),
                None => link.to_string(),
            },
            _ => link.to_string(),
        }
    }

    /// What an epoll descriptor watches.
    fn members(&mut self, epoll: i32) -> String {
        if self.are_many() {
            return "epoll of many".to_owned();
        }
        let Some(info) = self.info(epoll) else { return "epoll".to_owned() };
        let fds: Vec<i32> = info.members.iter().map(|member| member.fd).collect();
        let named: Vec<String> = info
            .members
            .iter()
            .take(words::MOST_NAMED)
            .map(|member| {
                let described = self.describe_nested(member.fd, false);
                // The number may lead to something else by now, while the epoll keeps what it led to.
                let is_same = described.link.as_ref().is_some_and(|link| link.may_have_inode(member.inode));
                if is_same { described.words.to_string() } else { format!("fd {} (closed since)", member.fd) }
            })
            .collect();
        let total = fds.len() as u64;
        match total {
            0 => "epoll of nothing".to_owned(),
            _ => format!("epoll of {}", words::list(&named, total)),
        }
    }

    /// Whether an epoll may watch that many descriptors that it is not looked at: the kernel lists the members under a lock that the
    /// target needs.
    fn are_many(&self) -> bool {
        open_descriptors(self.task).is_none_or(|open| open > MOST_MEMBERS)
    }

    /// Several descriptors: `3 descriptors: fd 5 (pipe:[1234]), fd 7 (…) and 1 more`.
    pub(crate) fn describe_all(&mut self, fds: &[i32], total: u64) -> String {
        let first = fds.iter().take(words::MOST_NAMED);
        let named: Vec<String> = first.map(|fd| self.describe_nested(*fd, false).words.to_string()).collect();
        words::list(&named, total)
    }
}
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(text: &str) {
    fdinfo::fuzz(text);
    let _ = Link::of_text(text);
}
