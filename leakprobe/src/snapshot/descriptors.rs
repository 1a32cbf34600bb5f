//! What a process's file descriptors are.
//!
//! Nothing of the target's is opened: what a descriptor leads to is read from its link in `/proc/PID/fd`, from `/proc/PID/fdinfo`
//! and from attributes that the kernel keeps, without asking file servers.

mod by_file;
mod fdinfo;
mod link;
mod words;

use std::{
    cell::{RefCell, RefMut},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
};

use nix::time::ClockId;

pub(crate) use link::{Link, PipeId, fifo, open_descriptors};
pub(crate) use words::count;

pub(crate) use self::fdinfo::{FdInfo, MOST_MEMBERS};
use self::{by_file::ByFile, fdinfo::Member};
use super::{patience::Patience, sockets::Sockets};
use crate::{
    model::{WaitKind, WaitTimer},
    target::clock_ns,
};

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

/// What an epoll watches.
#[derive(Clone, Debug)]
struct Watched {
    /// `epoll of 3 descriptors: …`.
    words: Arc<str>,
    /// The first timer of what it watches, and of what epolls among that do.
    timer: Option<WaitTimer>,
}

/// The descriptors of one task at one moment, with the addresses of sockets. Each is looked up once, and each epoll, however many
/// descriptors lead to it.
#[derive(Debug)]
pub(crate) struct Descriptors {
    task: u32,
    patience: Patience,
    known: HashMap<i32, Described>,
    timers: HashMap<i32, Option<WaitTimer>>,
    epolls: ByFile<Watched>,
    /// The first timers of epolls that others watch.
    inner_timers: ByFile<Option<WaitTimer>>,
    sockets: Rc<RefCell<Sockets>>,
}

impl Descriptors {
    /// Those of `task`: a thread that has the process's descriptors.
    pub(crate) fn new(task: u32) -> Self {
        Self::within(task, Patience::endless(), Rc::new(RefCell::new(Sockets::new(task))))
    }

    /// The same, with the sockets of the task's network namespace; once `patience` is over, what takes long is left out of what
    /// is said.
    pub(crate) fn within(task: u32, patience: Patience, sockets: Rc<RefCell<Sockets>>) -> Self {
        Self {
            task,
            patience,
            known: HashMap::new(),
            timers: HashMap::new(),
            epolls: ByFile::default(),
            inner_timers: ByFile::default(),
            sockets,
        }
    }

    /// The sockets of the task's network namespace.
    pub(crate) fn sockets(&self) -> RefMut<'_, Sockets> {
        self.sockets.borrow_mut()
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
                let timer = self.timer(fd);
                self.timers.insert(fd, timer);
                timer
            }
        };
        fds.iter().filter_map(&mut first).min()
    }

    fn timer(&mut self, fd: i32) -> Option<WaitTimer> {
        match self.anonymous(fd)?.as_str() {
            "[timerfd]" => self.set_timer(fd),
            "[eventpoll]" => self.watched(fd)?.timer,
            _ => None,
        }
    }

    /// The timer of what an epoll watches.
    fn watched_timer(&mut self, fd: i32) -> Option<WaitTimer> {
        match self.anonymous(fd)?.as_str() {
            "[timerfd]" => self.set_timer(fd),
            "[eventpoll]" => self.inner_timer(fd),
            _ => None,
        }
    }

    /// The first timer of what an epoll watches that another one watches. Epolls in that are not looked at.
    fn inner_timer(&mut self, fd: i32) -> Option<WaitTimer> {
        if let Some(known) = self.inner_timers.get(self.task, fd) {
            return known;
        }
        let is_timer = |&fd: &i32| self.anonymous(fd).is_some_and(|name| name == "[timerfd]");
        let info = self.info(fd)?;
        let timers = may_be_timers(&info).take_while(|_| !self.patience.is_over()).filter(is_timer);
        let timer = timers.filter_map(|fd| self.set_timer(fd)).min();
        self.inner_timers.insert(self.task, fd, timer);
        timer
    }

    fn set_timer(&self, fd: i32) -> Option<WaitTimer> {
        let now_ns = clock_ns(ClockId::CLOCK_MONOTONIC);
        self.info(fd).and_then(|info| info.timer(now_ns))
    }

    /// The type of what has no name in any file system.
    fn anonymous(&self, fd: i32) -> Option<String> {
        match Link::read(self.task, fd)? {
            Link::Anonymous(name) => Some(name),
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
                let words = self.sockets().words(self.task, fd, *inode);
                words.unwrap_or_else(|| link.to_string())
            }
            Link::Anonymous(name) if name == "[eventpoll]" => {
                if with_members {
                    self.watched(fd).map_or_else(|| "epoll of many".to_owned(), |watched| watched.words.to_string())
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

    /// What an epoll watches; `None` if that may be too many.
    fn watched(&mut self, epoll: i32) -> Option<Watched> {
        if let Some(known) = self.epolls.get(self.task, epoll) {
            return Some(known);
        }
        if self.are_many() {
            return None;
        }
        let Some(info) = self.info(epoll) else { return Some(Watched { words: "epoll".into(), timer: None }) };
        let words = self.members(&info).into();
        let mut timer = None;
        let patience = self.patience.clone();
        for fd in may_be_timers(&info).take_while(|_| !patience.is_over()) {
            timer = timer.into_iter().chain(self.watched_timer(fd)).min();
        }
        let watched = Watched { words, timer };
        self.epolls.insert(self.task, epoll, watched.clone());
        Some(watched)
    }

    fn members(&mut self, info: &FdInfo) -> String {
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
        match info.members.len() as u64 {
            0 => "epoll of nothing".to_owned(),
            total => format!("epoll of {}", words::list(&named, total)),
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

/// Of what an epoll watches, what may be a timer, or watch one.
fn may_be_timers(info: &FdInfo) -> impl Iterator<Item = i32> {
    // What has no name in any file system is all of one inode: the epoll itself, and what may be a timer.
    let may_be = |member: &&Member| member.is_read && info.inode.is_none_or(|inode| inode == member.inode);
    info.members.iter().filter(may_be).take(MOST_TIMERS).map(|member| member.fd)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(text: &str) {
    fdinfo::fuzz(text);
    let _ = Link::of_text(text);
}
