//! Which processes map an object, and how their threads know themselves: one search through all of `/proc`.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    ops::ControlFlow,
    os::unix::fs::DirEntryExt,
    time::{Duration, Instant},
};

use caps::Capability::CAP_SYS_PTRACE;

use super::{Stat, maps, modules::own_cpu_time};
use crate::{
    model::{ObjectId, OtherMappers, OwnerThread},
    privilege,
};

/// CPU time of one search at most.
const MOST_TIME: Duration = Duration::from_millis(500);
/// How much longer it may take where we have to wait for a CPU, or for another process's memory map.
const WAITING: u32 = 10;
/// `PF_FORKNOEXEC`: forked, and no program begun since.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/include/linux/sched.h#L1654>
pub(super) const FORKED: u32 = 0x40;
/// How often `/proc` is listed again to find processes that were created meanwhile, or could not be read for a moment.
const MOST_LISTINGS: u32 = 32;
/// Until then.
const PAUSE: Duration = Duration::from_millis(2);
/// `PF_EXITING`.
const EXITING: u32 = 4;
/// Most threads whose ids are read.
const MOST_THREADS: usize = 1 << 16;
/// Mappings of one process after which the time is looked at.
const STEP: u32 = 4096;
/// The inode of the initial pid namespace, in which every process is seen.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/include/linux/proc_ns.h#L44> (`PROC_PID_INIT_INO`).
const INITIAL_NAMESPACE: &str = "pid:[4026531836]";

/// Objects that processes may share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Objects {
    pub(super) ids: HashSet<ObjectId>,
    /// Whether only those have them that the target has forked, and that have begun no program since: anonymous memory of a target
    /// that has begun its own program.
    pub(super) are_inherited: bool,
}

/// A time by which to be done.
#[derive(Debug)]
pub(super) struct Budget {
    cpu_time: Duration,
    end: Instant,
}

impl Budget {
    /// From now on.
    pub(super) fn of(cpu_time: Duration) -> Self {
        Self { cpu_time: own_cpu_time() + cpu_time, end: Instant::now() + cpu_time * WAITING }
    }

    pub(super) fn is_spent(&self) -> bool {
        own_cpu_time() > self.cpu_time || Instant::now() > self.end
    }
}

/// What a search has found.
#[derive(Debug, Default)]
pub(super) struct Mappers {
    /// Processes that map each object.
    processes: HashMap<ObjectId, HashSet<u32>>,
    /// The threads of those, by the id by which they know themselves.
    threads: HashMap<u32, Vec<(ObjectId, OwnerThread)>>,
    /// The threads of the namespace that was asked for, likewise.
    namesakes: HashMap<u32, u32>,
    read: usize,
    pub(super) complete: bool,
}

impl Mappers {
    /// Looks through all processes but `target`, for those that map one of `objects`; and, if `namespace` is given, for all threads
    /// whose processes are in that pid namespace, as the link in `/proc/PID/ns` names it.
    pub(super) fn search(target: u32, objects: &Objects, namespace: Option<&str>) -> Self {
        let mut search = Search {
            target,
            objects,
            namespace,
            budget: Budget::of(MOST_TIME),
            found: Self { complete: sees_all(), ..Self::default() },
        };
        // By inode, too, which is another one for a process that has got an id again.
        let mut known: HashSet<(u32, u64)> = HashSet::new();
        // Whoever maps an object may have a child and end before it is looked at, so the last listing must bring no process that was
        // not looked at: all that live then did not map it.
        for _ in 0..MOST_LISTINGS {
            let new: Vec<(u32, u64)> = listing().filter(|process| known.insert(*process)).collect();
            if new.is_empty() {
                return search.found;
            }
            let mut is_unsettled = false;
            for process in new {
                if search.is_late() {
                    return search.found;
                }
                if !search.process(process.0) {
                    known.remove(&process);
                    is_unsettled = true;
                }
            }
            if is_unsettled {
                std::thread::sleep(PAUSE);
            }
        }
        search.found.complete = false;
        search.found
    }

    /// Who maps `object`, and which of their threads know themselves by `id`.
    pub(super) fn of(&self, object: ObjectId, id: u32) -> OtherMappers {
        let named = self.threads.get(&id).into_iter().flatten().filter(|(of, _)| *of == object);
        OtherMappers {
            count: self.processes.get(&object).map_or(0, |processes| processes.len() as u64),
            named: named.map(|(_, thread)| thread.clone()).collect(),
            complete: self.complete,
        }
    }

    /// Our id of the thread of the namespace that was asked for, by its id there.
    pub(super) fn namesake(&self, id: u32) -> Option<u32> {
        self.namesakes.get(&id).copied()
    }
}

/// Whether no process is hidden from us: by a pid namespace, by a mount of `/proc` with `hidepid`.
fn sees_all() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == INITIAL_NAMESPACE)
        && privilege::may(CAP_SYS_PTRACE)
}

fn listing() -> impl Iterator<Item = (u32, u64)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.ino())))
}

struct Search<'a> {
    target: u32,
    objects: &'a Objects,
    namespace: Option<&'a str>,
    budget: Budget,
    found: Mappers,
}

impl Search<'_> {
    fn is_late(&mut self) -> bool {
        let is_late = self.budget.is_spent();
        self.found.complete &= !is_late;
        is_late
    }

    /// Whether the process could be read; if not, it is to be tried again.
    fn process(&mut self, pid: u32) -> bool {
        if pid != self.target && !self.objects.ids.is_empty() {
            let Some(objects) = mapped_by(pid, self.objects, &self.budget) else {
                return false;
            };
            for object in objects {
                self.found.processes.entry(object).or_default().insert(pid);
                self.threads_of(pid, |found, thread| {
                    found.threads.entry(thread.own_id).or_default().push((object, thread.into()));
                });
            }
        }
        if self.namespace.is_some() && namespace_of(pid).as_deref() == self.namespace {
            self.threads_of(pid, |found, thread| {
                found.namesakes.insert(thread.own_id, thread.tid);
            });
        }
        true
    }

    fn threads_of(&mut self, pid: u32, mut take: impl FnMut(&mut Mappers, Named)) {
        for tid in threads(pid) {
            if self.found.read >= MOST_THREADS || self.is_late() {
                self.found.complete = false;
                return;
            }
            self.found.read += 1;
            match Named::read(tid) {
                Ok(Some(thread)) if thread.process == pid => take(&mut self.found, thread),
                Ok(_) => {}
                Err(_) => self.found.complete = false,
            }
        }
    }
}

/// Those of `objects` that a process shares with others by mapping them; `None` if that could not be found out. What has no memory
/// maps nothing: threads of the kernel, and processes that have ended.
pub(super) fn mapped_by(pid: u32, objects: &Objects, budget: &Budget) -> Option<Vec<ObjectId>> {
    // The first thread may have exited before the others; only these show the mappings then.
    let others = std::iter::once_with(|| threads(pid)).flatten().filter(|thread| *thread != pid);
    for thread in std::iter::once(pid).chain(others) {
        let (mut found, mut count, mut is_late) = (HashSet::new(), 0_u32, false);
        let read = maps::each(thread, |mapping| {
            count = count.saturating_add(1);
            is_late = count.is_multiple_of(STEP) && budget.is_spent();
            if mapping.is_shared() {
                found.extend(object(&mapping).filter(|object| objects.ids.contains(object)));
            }
            if is_late { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if read.is_ok() && count > 0 {
            return (!is_late).then(|| found.into_iter().collect());
        }
        match (read, Stat::read(thread)) {
            (_, Ok(stat)) if stat.is_kernels() => return Some(Vec::new()),
            // Its memory is gone before it is.
            (Ok(()), Ok(stat)) if stat.flags & EXITING != 0 => {}
            (_, Ok(stat)) if stat.has_exited() => {}
            (_, Err(error)) if is_gone(&error) => {}
            // It may not be read, even by root, but has begun a program and thus inherited nothing.
            (Err(error), Ok(stat)) if !is_gone(&error) && objects.are_inherited && stat.flags & FORKED == 0 => {
                return Some(Vec::new());
            }
            // It is about to end, or to begin a program; or it may not be read.
            _ => return None,
        }
    }
    Some(Vec::new())
}

/// The object that is mapped there.
pub(super) fn object(mapping: &maps::Mapping<'_>) -> Option<ObjectId> {
    Some(ObjectId { device: mapping.device()?, inode: mapping.inode()? })
}

/// The pid namespace of a process, as `/proc` names it.
pub(super) fn namespace_of(pid: u32) -> Option<String> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?.into_os_string().into_string().ok()
}

fn threads(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).take(MOST_THREADS).collect()
}

pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// A living thread that runs a program, and how it knows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) tid: u32,
    pub(super) process: u32,
    /// Its id in its own pid namespace.
    pub(super) own_id: u32,
    name: String,
}

impl Named {
    /// The thread with our id `tid`; `None` if it has exited, or is one of the kernel's.
    ///
    /// # Errors
    /// If that cannot be found out.
    pub(super) fn read(tid: u32) -> io::Result<Option<Self>> {
        match (Stat::read(tid), super::proc_file(format!("/proc/{tid}/status"))) {
            (Ok(stat), Ok(_)) if stat.is_kernels() || stat.has_exited() => Ok(None),
            (Ok(stat), Ok(status)) => match Self::parse(tid, &String::from_utf8_lossy(&status), stat.name()) {
                Some(named) => Ok(Some(named)),
                None => Err(io::Error::new(io::ErrorKind::InvalidData, "its status has another shape")),
            },
            (Err(error), _) | (_, Err(error)) if is_gone(&error) => Ok(None),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// `NSpid` lists the ids from our namespace inwards; a kernel without pid namespaces has no such line.
    /// Source: <https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>
    fn parse(tid: u32, status: &str, name: String) -> Option<Self> {
        let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let own_id = match field("NSpid") {
            Some(ids) => ids.split_whitespace().last()?.parse().ok()?,
            None => tid,
        };
        Some(Self { tid, process: field("Tgid")?.trim().parse().ok()?, own_id, name })
    }
}

impl From<Named> for OwnerThread {
    fn from(thread: Named) -> Self {
        Self { tid: thread.tid, process: thread.process, name: thread.name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_knows_itself_by_the_innermost_id() {
        let parse = |status| Named::parse(7, status, "x".to_owned()).map(|named| (named.process, named.own_id));
        assert_eq!(parse("Name:\tx\nTgid:\t5\nNSpid:\t7\t3\t1\n"), Some((5, 1)));
        assert_eq!(parse("Tgid:\t5\n"), Some((5, 7)));
        for broken in ["", "NSpid:\t7\n", "Tgid:\t5\nNSpid:\n", "Tgid:\tx\n"] {
            assert_eq!(parse(broken), None, "{broken}");
        }
        let own = Named::read(std::process::id()).unwrap().unwrap();
        assert_eq!((own.tid, own.process), (std::process::id(), std::process::id()));
        assert_eq!(Named::read(u32::MAX).unwrap(), None);
    }

    #[test]
    fn who_maps_an_object_is_found_with_its_threads() {
        // Ourselves, seen from a target that does not exist.
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        use std::os::fd::AsRawFd;
        let (null, fd) = (std::ptr::null_mut(), file.as_raw_fd());
        // SAFETY: a new mapping of a file of ours, which nobody accesses.
        let page = unsafe { libc::mmap(null, 4096, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
        let mut here = None;
        maps::each(std::process::id(), |mapping| {
            if mapping.start == page as u64 {
                here = object(&mapping).filter(|_| mapping.is_shared());
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        let here = here.unwrap();
        let nothing = ObjectId { inode: u64::MAX, ..here };
        let objects = |ids: &[ObjectId]| Objects { ids: ids.iter().copied().collect(), are_inherited: false };
        let found = Mappers::search(u32::MAX, &objects(&[here, nothing]), None);
        let own_id = Named::read(std::process::id()).unwrap().unwrap().own_id;
        let mappers = found.of(here, own_id);
        assert_eq!((mappers.count, mappers.named.len()), (1, 1));
        assert_eq!((mappers.named[0].tid, mappers.named[0].process), (std::process::id(), std::process::id()));
        assert_eq!(found.of(here, u32::MAX).named, []);
        assert_eq!(found.of(nothing, own_id).count, 0);
        // The target itself is none of the others.
        assert_eq!(Mappers::search(std::process::id(), &objects(&[here]), None).of(here, own_id).count, 0);
    }

    #[test]
    fn what_has_ended_or_is_the_kernels_maps_nothing() {
        let late = Budget::of(MOST_TIME);
        assert_eq!(mapped_by(u32::MAX, &Objects::default(), &late), Some(Vec::new()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        while Stat::of(child.id()).is_some_and(|stat| !stat.has_exited()) {
            std::thread::yield_now();
        }
        assert_eq!(mapped_by(child.id(), &Objects::default(), &late), Some(Vec::new()), "a zombie");
        child.wait().unwrap();
    }
}
