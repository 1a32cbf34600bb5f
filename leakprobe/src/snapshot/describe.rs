//! What waits are waited on, in full: descriptors with addresses and state, and who is at the other end.
//!
//! A snapshot says what is cheap to know of each thread. This goes through waits once more, all at once: it may ask the kernel for
//! lists of sockets and look through the descriptors of all processes, so it is not done each time that a thread waits. The target
//! decides how many waits there are and what each costs: so what is read is read once for all of them, and all that is within a
//! [`Patience`].

use std::{
    cell::{OnceCell, RefCell},
    collections::{HashMap, HashSet},
    fs,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::{
    children::{self, Family},
    descriptors::{Described, Descriptors, Link},
    ends::{self, Wanted},
    file_locks::{self, Locks},
    machine::Machine,
    patience::Patience,
    proc,
    sockets::Sockets,
};
use crate::{
    model::{Access, Children, EndRole, Gap, OtherEnd, OtherEnds, Subject, WaitTimer},
    target::Budget,
};

/// Network namespaces of one process in which the kernel is asked for sockets: that takes a socket of ours in each.
const MOST_NETWORKS: usize = 64;

/// What is to be told of a wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// As [`crate::model::Wait::object`]; `None` if there is no better one than before.
    pub object: Option<String>,
    /// As [`crate::model::Blocking::timer`].
    pub timer: Option<WaitTimer>,
    /// As [`crate::model::Wait::other_ends`].
    pub other_ends: Option<OtherEnds>,
}

/// Describes the waits of one process.
#[derive(Debug)]
pub struct Describer {
    pid: u32,
    machine: Machine,
    /// From which lists of sockets take memory.
    budget: Budget,
    gaps: Vec<Gap>,
}

impl Describer {
    /// For the process `pid`, with what it shares with other targets.
    #[must_use]
    pub fn new(pid: u32, machine: Machine, budget: Budget) -> Self {
        Self { pid, machine, budget, gaps: Vec::new() }
    }

    /// What could not be found out the last time, and why.
    #[must_use]
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Describes the waits of these threads, each given by its id and what its call was given. `task` is a thread that has the
    /// process's descriptors. `None` of those for which there was no time within `patience`; the search for other ends, which comes
    /// after that, takes a second at most.
    pub fn describe(&mut self, task: u32, waits: &[(u32, &Subject)], patience: &Patience) -> Vec<Option<Told>> {
        let look = Look::new(self.pid, &self.machine, patience.clone());
        let networks = Networks { machine: &self.machine, budget: &self.budget, known: HashMap::new() };
        let mut tables = Tables::new(task, patience.clone(), networks);
        // Many threads may wait for one thing.
        let mut places: HashMap<(u32, &Subject), usize> = HashMap::new();
        let mut distinct: Vec<(Told, Vec<Wanted>)> = Vec::new();
        let mut described: Vec<Option<usize>> = Vec::with_capacity(waits.len());
        for &(tid, subject) in waits {
            if patience.is_over() {
                break;
            }
            // Who traces it is the thread's own.
            let whose = if *subject == Subject::Tracer { tid } else { tables.of(tid).0 };
            let known = places.get(&(whose, subject)).copied();
            let place = known.or_else(|| {
                let one = look.one(tid, subject, &mut tables);
                // What was cut short in it is not known.
                (!patience.is_over()).then(|| {
                    distinct.push(one);
                    distinct.len() - 1
                })
            });
            places.extend(place.map(|place| ((whose, subject), place)));
            described.push(place);
        }
        described.resize(waits.len(), None);
        self.gaps = tables.networks.gaps();
        self.find_ends(task, &mut distinct);
        described.into_iter().map(|place| Some(distinct.get(place?)?.0.clone())).collect()
    }

    /// Adds who is at the other ends.
    fn find_ends(&mut self, task: u32, described: &mut [(Told, Vec<Wanted>)]) {
        let all: HashSet<Wanted> = described.iter().flat_map(|(_, wants)| wants).cloned().collect();
        if all.is_empty() {
            return;
        }
        let found = ends::find(self.pid, task, &all);
        for (told, wants) in described {
            add_ends(told, wants, &found);
        }
        if found.unread > 0 {
            self.gaps.push(Gap::PeersUnread { processes: found.unread });
        }
        if found.cut {
            self.gaps.push(Gap::PeersCut);
        }
    }
}

/// What is read once for all waits that are described at a time.
struct Look<'a> {
    pid: u32,
    machine: &'a Machine,
    began: Instant,
    patience: Patience,
    family: Family<'a>,
    locks: OnceCell<Arc<Locks>>,
}

impl<'a> Look<'a> {
    fn new(pid: u32, machine: &'a Machine, patience: Patience) -> Self {
        let family = Family::new(pid, machine);
        Self { pid, machine, began: Instant::now(), patience, family, locks: OnceCell::new() }
    }

    fn locks(&self) -> &Locks {
        self.locks.get_or_init(|| self.machine.locks(self.began))
    }

    fn one(&self, tid: u32, subject: &Subject, tables: &mut Tables<'_>) -> (Told, Vec<Wanted>) {
        let nothing = Vec::new();
        match subject {
            Subject::None => (Told::default(), nothing),
            Subject::Fd { fd, access } => {
                let (task, table) = tables.of(tid);
                let described = table.describe(*fd);
                let wants = other_end(task, table, *fd, &described, *access);
                let timer = if *access == Access::Read { table.first_timer(&[*fd]) } else { None };
                (Told { timer, ..as_told(&described) }, wants)
            }
            Subject::Copy { from, to } => {
                let (task, table) = tables.of(tid);
                let [source, sink] = [from, to].map(|fd| table.describe(*fd));
                let mut wants = other_end(task, table, *from, &source, Access::Read);
                wants.extend(other_end(task, table, *to, &sink, Access::Write));
                (Told { object: Some(format!("{} to {}", source.words, sink.words)), ..Told::default() }, wants)
            }
            Subject::Poll { fds, total } => {
                let (task, table) = tables.of(tid);
                let object = Some(table.describe_all(fds, *total));
                let timer = table.first_timer(fds);
                let wants = match (fds.as_slice(), total) {
                    ([fd], 1) => {
                        let described = table.describe(*fd);
                        other_end(task, table, *fd, &described, Access::Other)
                    }
                    _ => nothing,
                };
                (Told { object, timer, ..Told::default() }, wants)
            }
            Subject::Lock { fd } => {
                let (task, table) = tables.of(tid);
                let object = Some(table.describe(*fd).words.to_string());
                self.lock(task, *fd, object)
            }
            Subject::Child(which) => (self.child(*which, tid, tables), nothing),
            Subject::Vfork => (ends_told(self.family.borrower()), nothing),
            Subject::Tracer => (ends_told(tracer(tid).map(OtherEnds::of_one)), nothing),
        }
    }

    fn child(&self, which: Children, tid: u32, tables: &mut Tables<'_>) -> Told {
        if let Children::Pidfd(fd) = which {
            let (_, table) = tables.of(tid);
            let object = Some(table.describe(fd).words.to_string());
            let pid = table.info(fd).and_then(|info| u32::try_from(info.process?).ok());
            return Told { object, ..ends_told(pid.and_then(children::child).map(OtherEnds::of_one)) };
        }
        ends_told(self.family.waited_for(which, &self.patience))
    }

    /// Who holds the lock on a file.
    fn lock(&self, task: u32, fd: i32, object: Option<String>) -> (Told, Vec<Wanted>) {
        let told = Told { object, ..Told::default() };
        let path = format!("/proc/{task}/fd/{fd}");
        let Ok(stat) = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::INO) else { return (told, Vec::new()) };
        let (major, minor, inode) = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
        let locks = self.locks().blockers(self.pid, file_locks::File { major, minor, inode }).unwrap_or_default();
        // Who took it may have given it to others, or closed it; found by their descriptors below.
        let known: Vec<OtherEnd> = locks
            .iter()
            .filter_map(|lock| {
                let pid = lock.pid?;
                let (role, is_target) = (EndRole::Holder, pid == self.pid);
                Some(OtherEnd { role, pid, is_target, name: proc::comm(pid)?, fd: None, state: None })
            })
            .collect();
        let other_ends = (!known.is_empty()).then_some(OtherEnds { known, more: 0, complete: true });
        let told = Told { other_ends, ..told };
        (told, locks.into_iter().map(|lock| Wanted::Lock(inode, lock.text)).collect())
    }
}

/// The descriptors of the process, and of threads that have some of their own, or a network of their own, in which their sockets are.
struct Tables<'a> {
    task: u32,
    patience: Patience,
    network: Option<PathBuf>,
    own: Descriptors,
    others: HashMap<u32, Descriptors>,
    networks: Networks<'a>,
}

impl<'a> Tables<'a> {
    fn new(task: u32, patience: Patience, mut networks: Networks<'a>) -> Self {
        let network = network(task);
        let own = Descriptors::within(task, patience.clone(), networks.sockets(task, network.clone()));
        Self { task, patience, network, own, others: HashMap::new(), networks }
    }

    /// Those of a thread, and by which task they are reached.
    fn of(&mut self, tid: u32) -> (u32, &mut Descriptors) {
        if tid == self.task {
            return (tid, &mut self.own);
        }
        let network = network(tid);
        if children::share_descriptors(self.task, tid) && network == self.network {
            return (self.task, &mut self.own);
        }
        let (patience, networks) = (self.patience.clone(), &mut self.networks);
        let table = || Descriptors::within(tid, patience, networks.sockets(tid, network));
        (tid, self.others.entry(tid).or_insert_with(table))
    }
}

/// The sockets of each network namespace that threads of a process are in.
struct Networks<'a> {
    machine: &'a Machine,
    budget: &'a Budget,
    known: HashMap<Option<PathBuf>, Rc<RefCell<Sockets>>>,
}

impl Networks<'_> {
    /// Those of the namespace of `task`, which its link in `/proc` names so.
    fn sockets(&mut self, task: u32, network: Option<PathBuf>) -> Rc<RefCell<Sockets>> {
        let are_many = self.known.len() >= MOST_NETWORKS;
        let (machine, budget, of) = (self.machine, self.budget, network.clone());
        let sockets = || {
            let sockets = match of {
                Some(network) => Sockets::in_network(task, network, machine.clone(), budget.clone()),
                None => Sockets::new(task),
            };
            let sockets =
                if are_many { sockets.without_kernel("there are too many network namespaces") } else { sockets };
            Rc::new(RefCell::new(sockets))
        };
        Rc::clone(self.known.entry(network).or_insert_with(sockets))
    }

    /// What could not be found out.
    fn gaps(&self) -> Vec<Gap> {
        let why = self.known.values().find_map(|sockets| sockets.borrow().problem().map(str::to_owned));
        let unlisted: u64 = self.known.values().map(|sockets| sockets.borrow().unlisted()).sum();
        let unlisted = (unlisted > 0).then_some(Gap::UnlistedSockets { sockets: unlisted });
        why.map(|why| Gap::Sockets { why }).into_iter().chain(unlisted).collect()
    }
}

/// The network namespace of a task, as its link in /proc names it.
fn network(task: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{task}/ns/net")).ok()
}

fn as_told(described: &Described) -> Told {
    Told { object: Some(described.words.to_string()), ..Told::default() }
}

/// What to look for to find who is at the other end of a descriptor from which, or to which, something is wanted.
fn other_end(task: u32, table: &mut Descriptors, fd: i32, described: &Described, access: Access) -> Vec<Wanted> {
    match &described.link {
        Some(Link::Pipe(id, _)) => {
            let info = || table.info(fd);
            let access = match access {
                Access::Read | Access::Write => Some(access),
                // By what it is open for, if that is one thing only.
                Access::Other => {
                    info().and_then(|info| match [Access::Read, Access::Write].map(|one| info.allows(one)) {
                        [true, false] => Some(Access::Read),
                        [false, true] => Some(Access::Write),
                        _ => None,
                    })
                }
            };
            match access {
                Some(Access::Read) => vec![Wanted::Pipe(*id, Access::Write)],
                Some(Access::Write) => vec![Wanted::Pipe(*id, Access::Read)],
                _ => Vec::new(),
            }
        }
        Some(Link::Socket(inode)) => table.sockets().peer(task, fd, *inode).map(Wanted::Socket).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Adds what was found to what was known already.
fn add_ends(told: &mut Told, wants: &[Wanted], found: &ends::Found) {
    for ends in wants.iter().filter_map(|wanted| found.of(wanted)) {
        match &mut told.other_ends {
            Some(known) => {
                // What a descriptor proves is better than what was said without one.
                known.known.retain(|old| old.fd.is_some() || ends.known.iter().all(|new| new.pid != old.pid));
                known.known.extend(ends.known);
                known.more += ends.more;
                known.complete &= ends.complete;
            }
            None => told.other_ends = Some(ends),
        }
    }
}

fn ends_told(other_ends: Option<OtherEnds>) -> Told {
    Told { other_ends, ..Told::default() }
}

fn tracer(tid: u32) -> Option<OtherEnd> {
    let thread = proc::status_field(tid, "TracerPid").filter(|id| id != "0")?;
    let pid = proc::status_field(thread, "Tgid")?.parse().ok()?;
    let name = proc::comm(pid).unwrap_or_default();
    Some(OtherEnd { role: EndRole::Tracer, pid, is_target: false, name, fd: None, state: None })
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsRawFd, process, sync::mpsc, thread};

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn a_socket_in_the_network_of_its_thread_is_described_and_that_of_another_is_a_gap() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let tid = u32::try_from(nix::unistd::gettid().as_raw()).unwrap();
            tell.send((tid, listener.as_raw_fd(), listener.local_addr().unwrap())).unwrap();
            let _ = ended.recv();
        });
        let (tid, fd, at) = told.recv().unwrap();
        let own = process::id();
        let subject = Subject::Fd { fd, access: Access::Read };
        let mut describer = Describer::new(own, Machine::default(), Budget::default());
        let described = describer.describe(own, &[(tid, &subject)], &Patience::endless());
        let words = described[0].clone().unwrap().object.unwrap();
        assert!(words.contains(&format!("tcp {at}, listening")), "{words}");
        assert!(
            !describer.gaps().iter().any(|gap| matches!(gap, Gap::UnlistedSockets { .. })),
            "{:?}",
            describer.gaps()
        );
        describer.describe(own, &[(own, &subject)], &Patience::endless());
        assert!(describer.gaps().contains(&Gap::UnlistedSockets { sockets: 1 }), "{:?}", describer.gaps());
        drop(end);
        thread.join().unwrap();
    }

    #[test]
    fn what_there_is_no_time_for_is_not_described_and_what_many_wait_for_is_looked_up_once() {
        let own = process::id();
        let (read, _write) = nix::unistd::pipe().unwrap();
        let [pipe, child] = [Subject::Fd { fd: read.as_raw_fd(), access: Access::Read }, Subject::Child(Children::Any)];
        let waits: Vec<(u32, &Subject)> =
            [&pipe, &child].into_iter().cycle().take(1000).map(|one| (own, one)).collect();
        let mut describer = Describer::new(own, Machine::default(), Budget::default());
        let told = describer.describe(own, &waits, &Patience::endless());
        assert!(told[0].as_ref().is_some_and(|told| told.object.as_ref().is_some_and(|words| words.contains("pipe"))));
        assert!(told.chunks(2).all(|pair| pair == &told[..2]), "the same for all");
        let over = Patience::new(std::time::Duration::ZERO, std::time::Duration::ZERO);
        assert_eq!(describer.describe(own, &waits, &over), vec![None; 1000]);
    }
}
