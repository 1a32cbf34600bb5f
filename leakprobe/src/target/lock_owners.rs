//! Finds the owners that locks name: the id is one of the owner's pid namespace, and the owner may live in another process that maps
//! the same memory.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs::File,
    ops::ControlFlow,
    os::fd::AsRawFd,
    sync::OnceLock,
    time::{Duration, Instant},
};

use super::{
    Stat,
    mappers::{Budget, FORKED, Mappers, Named, Objects, mapped_by, namespace_of, object},
    maps,
    modules::own_cpu_time,
};
use crate::{
    aside::Aside,
    model::{ById, LockMemory, OtherMappers, OwnerClaim, OwnerFacts},
};

/// CPU time for looking up ids at most.
const MOST_TIME: Duration = Duration::from_millis(500);
/// A search through all processes comes after so many times of what the last one took: 5 % of a CPU.
const REST: u32 = 20;
/// What the mapping of anonymous shared memory is called.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/mm/shmem.c#L5271> (`shmem_zero_setup`).
const ANONYMOUS: &[u8] = b"/dev/zero (deleted)";
/// `NS_GET_PID_FROM_PIDNS`, kernel 6.11: our id of a thread, by its id in a pid namespace.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/nsfs.h#L36>
const PID_FROM_NAMESPACE: libc::c_ulong = 0x8004_b706;
/// `KCMP_VM`. Source: <https://man7.org/linux/man-pages/man2/kcmp.2.html>
const KCMP_VM: libc::c_int = 1;

/// How long is waited for the mappings of processes, unless they are being read.
const LONGEST_LOCKED: Duration = Duration::from_secs(2);

/// Looks up the owners of locks of one process.
#[derive(Debug)]
pub struct LockOwners {
    aside: Aside,
    finder: Finder,
}

/// Does so, and may hang: the list of a process's mappings takes a lock that is held for as long as a page does not come.
#[derive(Debug)]
struct Finder {
    pid: u32,
    last: Option<Search>,
}

/// The last search through all processes.
#[derive(Debug)]
struct Search {
    ended: Instant,
    took: Duration,
    objects: Objects,
    /// What it was made for. Of other locks it may have missed who has come since.
    claims: BTreeSet<OwnerClaim>,
    found: Mappers,
}

/// In which pid namespace the target is.
enum Ids {
    /// In ours: the ids are the same.
    Ours,
    /// In this one, which the kernel translates.
    Translated(File),
    /// In this one; the kernel is older than 6.11.
    Listed(String),
    Unknown,
}

impl LockOwners {
    /// Of the process `pid`.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self { aside: Aside::default(), finder: Finder { pid, last: None } }
    }

    /// What there is to know of each of `claims`. `reader` is a thread of the process that has memory. All processes are looked
    /// through only if a lock lies in shared memory or the kernel does not translate ids, and at most for a second; more
    /// often than a CPU should be used for it, what was found last is said again. Needs `CAP_SYS_PTRACE` for other users' processes.
    pub fn find(&mut self, reader: u32, claims: &BTreeSet<OwnerClaim>) -> HashMap<OwnerClaim, OwnerFacts> {
        let mut finder = Finder { pid: self.finder.pid, last: self.finder.last.take() };
        let of = claims.clone();
        // What hangs would hang again.
        let found = (self.aside.left() == 0).then(|| {
            self.aside.within(LONGEST_LOCKED, move || {
                let facts = finder.find(reader, &of);
                (facts, finder)
            })
        });
        let Some((facts, finder)) = found.flatten() else {
            let unknown = OwnerFacts { memory: None, by_id: ById::Unknown, others: None, is_forked: true };
            return claims.iter().map(|&claim| (claim, unknown.clone())).collect();
        };
        self.finder = finder;
        facts
    }
}

impl Finder {
    fn find(&mut self, reader: u32, claims: &BTreeSet<OwnerClaim>) -> HashMap<OwnerClaim, OwnerFacts> {
        let is_forked = Stat::of(self.pid).is_none_or(|stat| stat.flags & FORKED != 0);
        let (memory, objects) = memory_of(reader, claims.iter().map(|claim| claim.word), is_forked);
        let ids = Ids::of(reader);
        let namespace = match &ids {
            Ids::Listed(namespace) => Some(namespace.as_str()),
            _ => None,
        };
        if !objects.ids.is_empty() || namespace.is_some() {
            self.search(&objects, namespace, claims);
        }
        let search = self.last.as_ref();
        let budget = Budget::of(MOST_TIME);
        let mut threads: HashMap<u32, Option<Option<Named>>> = HashMap::new();
        let mut reaches: HashMap<(u32, LockMemory), Option<bool>> = HashMap::new();
        let mut facts = HashMap::with_capacity(claims.len());
        for &claim in claims {
            let memory = memory.get(&claim.word).copied();
            let is_late = budget.is_spent();
            let thread = threads.entry(claim.id).or_insert_with(|| {
                let tid = if is_late { None } else { ids.tid(claim, search) };
                match tid {
                    Some(Some(tid)) => Named::read(tid).ok(),
                    Some(None) => Some(None),
                    None => None,
                }
            });
            let by_id = match thread {
                None => ById::Unknown,
                Some(None) => ById::None,
                // It is in a namespace within the target's, so that it writes another id into its locks.
                Some(Some(thread)) if thread.own_id != claim.id => ById::None,
                Some(Some(thread)) if thread.process == self.pid => ById::OfTarget,
                Some(Some(thread)) => {
                    let reaches = memory.and_then(|memory| {
                        let process = thread.process;
                        *reaches.entry((process, memory)).or_insert_with(|| match memory {
                            LockMemory::Own => shares_memory(reader, process),
                            LockMemory::Shared(object) => {
                                let only = Objects { ids: HashSet::from([object]), ..objects };
                                Some(!mapped_by(process, &only, &budget)?.is_empty())
                            }
                        })
                    });
                    ById::OfOther { thread: thread.clone().into(), reaches }
                }
            };
            let others = match memory {
                Some(LockMemory::Shared(object)) => {
                    search.filter(|search| search.objects.ids.contains(&object)).map(|search| OtherMappers {
                        complete: search.is_complete_for(claim),
                        ..search.found.of(object, claim.id)
                    })
                }
                _ => None,
            };
            facts.insert(claim, OwnerFacts { memory, by_id, others, is_forked });
        }
        facts
    }

    /// Looks through all processes, unless that was done just before.
    fn search(&mut self, objects: &Objects, namespace: Option<&str>, claims: &BTreeSet<OwnerClaim>) {
        let rests = |last: &Search| last.ended.elapsed() < last.took * REST;
        if self.last.as_ref().is_some_and(rests) {
            return;
        }
        let began = own_cpu_time();
        let found = Mappers::search(self.pid, objects, namespace);
        let took = own_cpu_time().saturating_sub(began);
        self.last =
            Some(Search { ended: Instant::now(), took, objects: objects.clone(), claims: claims.clone(), found });
    }
}

impl Search {
    /// Whether nothing was missed that matters to this lock.
    fn is_complete_for(&self, claim: OwnerClaim) -> bool {
        self.found.complete && self.claims.contains(&claim)
    }
}

impl Ids {
    fn of(reader: u32) -> Self {
        let (Some(own), Some(ours)) = (namespace_of(reader), namespace_of(std::process::id())) else {
            return Self::Unknown;
        };
        if own == ours {
            return Self::Ours;
        }
        let file = File::open(format!("/proc/{reader}/ns/pid")).ok();
        match file {
            // The first process of a namespace lives as long as the namespace.
            Some(file) if matches!(translate(&file, 1), Some(Some(_))) => Self::Translated(file),
            _ => Self::Listed(own),
        }
    }

    /// Our id of the thread that has this one in the target's namespace; `Some(None)` if there is none.
    fn tid(&self, claim: OwnerClaim, search: Option<&Search>) -> Option<Option<u32>> {
        match self {
            Self::Ours => Some(Some(claim.id)),
            Self::Translated(file) => translate(file, claim.id),
            Self::Listed(_) => {
                let search = search?;
                let namesake = search.found.namesake(claim.id);
                namesake.map_or_else(|| search.is_complete_for(claim).then_some(None), |tid| Some(Some(tid)))
            }
            Self::Unknown => None,
        }
    }
}

fn translate(namespace: &File, id: u32) -> Option<Option<u32>> {
    // SAFETY: the call takes the id by value and writes nothing.
    let tid = unsafe { libc::ioctl(namespace.as_raw_fd(), PID_FROM_NAMESPACE, libc::c_ulong::from(id)) };
    match u32::try_from(tid) {
        Ok(0) => None,
        Ok(tid) => Some(Some(tid)),
        Err(_) => (std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)).then_some(None),
    }
}

/// Whether two threads have the same address space, as after `vfork`; `None` if the kernel does not say.
fn shares_memory(one: u32, other: u32) -> Option<bool> {
    // SAFETY: five integers.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_VM, 0, 0) };
    (order >= 0).then_some(order == 0)
}

/// Whose memory each of these words lies in, by the mappings that `reader` sees; and the objects among that.
fn memory_of(reader: u32, words: impl Iterator<Item = u64>, is_forked: bool) -> (HashMap<u64, LockMemory>, Objects) {
    let mut words: Vec<u64> = words.collect();
    words.sort_unstable();
    words.dedup();
    let mut found = HashMap::with_capacity(words.len());
    let mut objects = Objects { are_inherited: !is_forked, ..Objects::default() };
    let mut next = 0;
    // Both ascend.
    let _ = maps::each(reader, |mapping| {
        while let Some(&word) = words.get(next).filter(|word| **word < mapping.end) {
            next += 1;
            if word < mapping.start {
                continue;
            }
            if !mapping.is_shared() {
                found.insert(word, LockMemory::Own);
            } else if let Some(object) = object(&mapping) {
                found.insert(word, LockMemory::Shared(object));
                objects.ids.insert(object);
                objects.are_inherited &=
                    mapping.name() == ANONYMOUS && anonymous_device().is_some_and(|device| device == object.device);
            }
        }
        if next < words.len() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    (found, objects)
}

/// The device of anonymous shared memory; a file of another may bear the same name.
fn anonymous_device() -> Option<(u32, u32)> {
    static DEVICE: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    const LEN: usize = 4096;
    *DEVICE.get_or_init(|| {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, which nothing accesses.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), LEN, libc::PROT_NONE, flags, -1, 0) };
        if page == libc::MAP_FAILED {
            return None;
        }
        let mut device = None;
        let _ = maps::each(std::process::id(), |mapping| {
            if mapping.start > page as u64 || mapping.end <= page as u64 {
                return ControlFlow::Continue(());
            }
            device = mapping.device().filter(|_| mapping.name() == ANONYMOUS);
            ControlFlow::Break(())
        });
        // SAFETY: the mapping from above, to which nothing points.
        unsafe { libc::munmap(page, LEN) };
        device
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> u32 {
        std::process::id()
    }

    fn only(word: u64, id: u32) -> OwnerFacts {
        let claim = OwnerClaim { word, id };
        LockOwners::new(own()).find(own(), &BTreeSet::from([claim])).remove(&claim).unwrap()
    }

    #[test]
    fn a_word_lies_in_our_own_memory_or_nowhere() {
        let word = 7_u64;
        let at = std::ptr::from_ref(&word) as u64;
        let (found, objects) = memory_of(own(), [at, 0, at, u64::MAX].into_iter(), false);
        assert_eq!((found, objects.ids.len()), (HashMap::from([(at, LockMemory::Own)]), 0));
        assert_eq!(memory_of(u32::MAX, [at].into_iter(), false).0, HashMap::new());
        assert!(anonymous_device().is_some_and(|(major, _)| major == 0));
    }

    #[test]
    fn an_id_is_that_of_our_thread_or_of_no_one() {
        let word = 7_u64;
        let at = std::ptr::from_ref(&word) as u64;
        let own_id = Named::read(own()).unwrap().unwrap().own_id;
        let facts = only(at, own_id);
        assert_eq!((facts.memory, facts.by_id, facts.others), (Some(LockMemory::Own), ById::OfTarget, None));
        assert!(!facts.is_forked, "the test has been executed");
        assert_eq!(only(at, (1 << 22) - 1).by_id, ById::None);
        assert_eq!(only(8, own_id).memory, None);
    }

    #[test]
    fn a_process_shares_its_memory_with_itself() {
        assert_eq!(shares_memory(own(), own()), Some(true));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert_ne!(shares_memory(own(), child.id()), None);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(shares_memory(own(), u32::MAX), None);
    }
}
