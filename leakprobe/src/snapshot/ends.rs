//! Who holds the other end of a pipe or socket, or a lock on a file: found among the descriptors of all processes.
//!
//! Only links are read, and `fdinfo` of those that lead to what is looked for.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs, io,
    path::Path,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::{
    descriptors::{FdInfo, Link, PipeId},
    file_locks::Lock,
    proc,
};
use crate::{
    aside::Aside,
    model::{Access, EndRole, OtherEnd, OtherEnds},
    shared::lock,
    target::{answers, is_silent, keeps_waiting, processes},
};

/// How long the search may take, and how much of that in the target itself.
const MOST_TIME: Duration = Duration::from_millis(1000);
const MOST_TIME_IN_TARGET: Duration = Duration::from_millis(500);
/// How long one process may keep it waiting, and in how many it may be so.
const PATIENCE: Duration = Duration::from_millis(200);
const MOST_HANGING: u32 = 4;
/// After so many descriptors the time is looked at.
const STEP: u32 = 256;
/// Processes at one end that are named.
const MOST_NAMED: usize = 8;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wanted {
    /// Descriptors of a pipe that allow this.
    Pipe(PipeId, Access),
    /// Descriptors of a socket, by inode.
    Socket(u64),
    /// The descriptor by which a lock was taken: the file's inode, and the lock as the kernel writes it.
    Lock(u64, String),
}

impl Wanted {
    fn role(&self) -> EndRole {
        match self {
            Self::Pipe(_, Access::Read) => EndRole::Reader,
            Self::Pipe(..) => EndRole::Writer,
            Self::Socket(_) => EndRole::Peer,
            Self::Lock(..) => EndRole::Holder,
        }
    }

    fn locked(&self) -> Option<u64> {
        match self {
            Self::Lock(inode, _) => Some(*inode),
            _ => None,
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    ends: HashMap<Wanted, OtherEnds>,
    /// Processes whose descriptors may not be looked at.
    pub(crate) unread: u64,
    /// Whether time ran out.
    pub(crate) cut: bool,
}

impl Found {
    /// Who holds what was looked for; `None` if nobody was found though everything was looked through.
    pub(crate) fn of(&self, wanted: &Wanted) -> Option<OtherEnds> {
        let complete = !self.cut && self.unread == 0;
        match self.ends.get(wanted) {
            Some(ends) => Some(OtherEnds { complete, ..ends.clone() }),
            None if complete => None,
            None => Some(OtherEnds { complete, ..OtherEnds::default() }),
        }
    }
}

/// Looks for all of `wanted`, in the target first: `task` is a thread of it that has its descriptors. Processes that hang in exec, of
/// which the kernel tells no descriptor, are passed over.
pub(crate) fn find(target: u32, task: u32, wanted: &HashSet<Wanted>) -> Found {
    let deadline = Instant::now() + MOST_TIME;
    let others = processes().filter(|&pid| pid != target).map(|pid| (pid, pid));
    let left = Arc::new(Mutex::new([(target, task)].into_iter().chain(others).collect::<VecDeque<_>>()));
    let found = Arc::new(Mutex::new(Found::default()));
    for _ in 0..MOST_HANGING {
        let looked_at = Arc::new(AtomicU32::new(0));
        let mut search = Search::new(target, wanted.clone(), Arc::clone(&found));
        let (left, at) = (Arc::clone(&left), Arc::clone(&looked_at));
        let look = move || {
            // The lock is released before the process is looked at.
            while let Some((pid, task)) = take(&left) {
                if Instant::now() > deadline {
                    search.found().cut = true;
                    break;
                }
                if is_silent(pid) {
                    search.found().unread += 1;
                    continue;
                }
                at.store(pid, Ordering::Relaxed);
                let in_target = Instant::now() + MOST_TIME_IN_TARGET;
                search.process(pid, task, if pid == target { in_target } else { deadline });
                answers(pid);
            }
        };
        if HANGING.run_large(look, |quiet| quiet.silent < PATIENCE).is_some() {
            return std::mem::take(&mut *lock(&found));
        }
        let hangs = looked_at.load(Ordering::Relaxed);
        if hangs == 0 {
            break; // too many are left behind already
        }
        // The others may still be looked through.
        keeps_waiting(hangs);
        lock(&found).unread += 1;
    }
    let mut found = std::mem::take(&mut *lock(&found));
    found.cut = true;
    found
}

/// What was left behind of all searches.
static HANGING: LazyLock<Aside> = LazyLock::new(Aside::default);

fn take(left: &Mutex<VecDeque<(u32, u32)>>) -> Option<(u32, u32)> {
    lock(left).pop_front()
}

struct Search {
    target: u32,
    wanted: HashSet<Wanted>,
    fifos: bool,
    /// The inodes of files with locks that are looked for.
    locked: HashSet<u64>,
    /// Whether something was looked at that may take long: then the time is looked at before [`STEP`].
    is_clock_due: bool,
    /// For whoever waits, and may not want to wait any longer.
    found: Arc<Mutex<Found>>,
}

impl Search {
    fn new(target: u32, wanted: HashSet<Wanted>, found: Arc<Mutex<Found>>) -> Self {
        Self {
            target,
            fifos: wanted.iter().any(|one| matches!(one, Wanted::Pipe(PipeId::Named(..), _))),
            locked: wanted.iter().filter_map(Wanted::locked).collect(),
            wanted,
            is_clock_due: false,
            found,
        }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        lock(&self.found)
    }

    fn process(&mut self, pid: u32, task: u32, deadline: Instant) {
        let entries = match fs::read_dir(format!("/proc/{task}/fd")) {
            Ok(entries) => entries,
            Err(error) => {
                // Others have ended meanwhile.
                self.found().unread += u64::from(error.kind() == io::ErrorKind::PermissionDenied);
                return;
            }
        };
        for (count, entry) in (1_u32..).zip(entries) {
            let is_clock_due = std::mem::take(&mut self.is_clock_due) || count.is_multiple_of(STEP);
            if is_clock_due && Instant::now() > deadline {
                self.found().cut = true;
                return;
            }
            let Ok(entry) = entry else { continue };
            let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            self.descriptor(pid, task, fd, &entry.path());
        }
    }

    fn descriptor(&mut self, pid: u32, task: u32, fd: i32, path: &Path) {
        let Ok(link) = fs::read_link(path) else { return };
        let link = link.to_str().and_then(Link::of_text);
        match link {
            Some(Link::Socket(inode)) => self.note(Wanted::Socket(inode), pid, fd),
            Some(Link::Pipe(id, _)) => self.pipe(id, pid, task, fd),
            Some(_) => {}
            None => self.file(pid, task, fd, path),
        }
    }

    fn pipe(&mut self, id: PipeId, pid: u32, task: u32, fd: i32) {
        let sides = [Access::Read, Access::Write].map(|access| (access, Wanted::Pipe(id, access)));
        if !sides.iter().any(|(_, wanted)| self.wanted.contains(wanted)) {
            return;
        }
        self.is_clock_due = true;
        let Some(info) = FdInfo::read(task, fd) else { return };
        for (access, wanted) in sides {
            if info.allows(access) {
                self.note(wanted, pid, fd);
            }
        }
    }

    /// What has a path: a FIFO, or a file with a lock.
    fn file(&mut self, pid: u32, task: u32, fd: i32, path: &Path) {
        if self.fifos
            && let Some(id) = super::descriptors::fifo(path)
        {
            return self.pipe(id, pid, task, fd);
        }
        if self.locked.is_empty() {
            return;
        }
        let Some(inode) = inode(path).filter(|inode| self.locked.contains(inode)) else { return };
        self.is_clock_due = true;
        let locks = FdInfo::read(task, fd).map(|info| info.locks).unwrap_or_default();
        for lock in locks.iter().filter_map(|line| Lock::parse(line)) {
            self.note(Wanted::Lock(inode, lock.text), pid, fd);
        }
    }

    fn note(&mut self, wanted: Wanted, pid: u32, fd: i32) {
        if !self.wanted.contains(&wanted) {
            return;
        }
        let role = wanted.role();
        let mut found = self.found();
        let ends = found.ends.entry(wanted).or_default();
        // One descriptor of each process tells enough; they come one process after another.
        if ends.known.last().is_some_and(|last| last.pid == pid) {
            return;
        }
        if ends.known.len() < MOST_NAMED {
            let name = proc::comm(pid).unwrap_or_default();
            ends.known.push(OtherEnd { role, pid, is_target: pid == self.target, name, fd: Some(fd), state: None });
        } else {
            ends.more += 1;
        }
    }
}

/// The inode that a descriptor's link leads to; no file server is asked.
fn inode(path: &Path) -> Option<u64> {
    statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::INO).ok().map(|stat| stat.stx_ino)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn found(wanted: &Wanted) -> Option<OtherEnds> {
        let id = std::process::id();
        find(id, id, &HashSet::from([wanted.clone()])).of(wanted)
    }

    fn pipe_of(fd: &impl AsRawFd) -> PipeId {
        match Link::read(std::process::id(), fd.as_raw_fd()) {
            Some(Link::Pipe(id, _)) => id,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_end_of_a_pipe_is_found_by_what_it_allows() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let id = pipe_of(&read);
        for (access, role, fd) in [(Access::Read, EndRole::Reader, &read), (Access::Write, EndRole::Writer, &write)] {
            let ends = found(&Wanted::Pipe(id, access)).unwrap();
            let first = &ends.known[0];
            assert_eq!((first.role, first.pid, first.fd), (role, std::process::id(), Some(fd.as_raw_fd())));
        }
        drop(write);
        // Another test may just fork, with all that we have open.
        let nobody = || found(&Wanted::Pipe(id, Access::Write)).is_none_or(|ends| ends.known.is_empty());
        assert!((0..100).any(|_| nobody()), "{:?}", found(&Wanted::Pipe(id, Access::Write)));
    }

    #[test]
    fn a_socket_is_found_by_its_inode() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let Some(Link::Socket(inode)) = Link::read(std::process::id(), one.as_raw_fd()) else { panic!() };
        let ends = found(&Wanted::Socket(inode)).unwrap();
        assert_eq!((ends.known[0].role, ends.known[0].fd), (EndRole::Peer, Some(one.as_raw_fd())));
        assert!(found(&Wanted::Socket(u64::MAX)).is_none_or(|ends| ends.known.is_empty() && !ends.complete));
    }

    #[test]
    fn what_was_not_looked_through_is_not_complete() {
        let wanted = Wanted::Socket(1);
        let found = |unread, cut| Found { unread, cut, ..Found::default() }.of(&wanted).map(|ends| ends.complete);
        assert_eq!(found(0, false), None);
        assert_eq!(found(1, false), Some(false));
        assert_eq!(found(0, true), Some(false));
    }
}
