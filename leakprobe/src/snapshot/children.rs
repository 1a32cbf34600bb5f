//! Which process a wait for a child is about.

use std::{
    cell::OnceCell,
    cmp::Ordering,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use libc::c_long;

use super::{machine::Machine, patience::Patience, proc};
use crate::{
    aside::Aside,
    model::{Children, EndRole, OtherEnd, OtherEnds},
    target::{Status, processes},
};

/// Processes that are looked at while children are searched for.
const MOST_PROCESSES: usize = 1 << 15;
/// Of many children the first are named.
const MOST_NAMED: usize = 8;
/// How long the kernel may take to compare the memory of a process with that of its children.
const PATIENCE: Duration = Duration::from_millis(500);
/// `KCMP_FILE`, `KCMP_VM` and `KCMP_FILES`.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/kcmp.h#L8>
const KCMP_FILE: c_long = 0;
const KCMP_VM: c_long = 1;
const KCMP_FILES: c_long = 2;

/// All processes by their parents, at one moment.
#[derive(Debug)]
pub(crate) struct Processes {
    /// Each with its id and its process group.
    of_parent: HashMap<u32, Vec<(u32, i32)>>,
    /// Whether these are all.
    is_whole: bool,
}

impl Processes {
    /// Costs some 20 µs for each. What hangs in exec is among them.
    pub(super) fn read() -> Self {
        let mut of_parent: HashMap<u32, Vec<(u32, i32)>> = HashMap::new();
        let mut all = processes();
        for pid in all.by_ref().take(MOST_PROCESSES) {
            if let Some(status) = Status::of(pid) {
                of_parent.entry(status.parent).or_default().push((pid, status.group));
            }
        }
        Self { of_parent, is_whole: all.next().is_none() }
    }

    fn of(&self, parent: u32) -> &[(u32, i32)] {
        self.of_parent.get(&parent).map_or(&[], Vec::as_slice)
    }
}

/// The children of one process, at one look at it.
#[derive(Debug)]
pub(crate) struct Family<'a> {
    target: u32,
    machine: &'a Machine,
    began: Instant,
    /// Read when it is first needed.
    processes: OnceCell<Arc<Processes>>,
    /// In how many pid namespaces the process is, as far as we see: 1 if only in ours.
    depth: Option<usize>,
    /// From the ids that children have in the process's own namespace to those in ours.
    by_inner_id: OnceCell<HashMap<u32, u32>>,
}

impl<'a> Family<'a> {
    /// That of `target`, from now on.
    pub(crate) fn new(target: u32, machine: &'a Machine) -> Self {
        let depth = proc::status_field(target, "NSpid").map(|ids| ids.split_ascii_whitespace().count());
        let (processes, by_inner_id) = (OnceCell::new(), OnceCell::new());
        Self { target, machine, began: Instant::now(), processes, depth, by_inner_id }
    }

    /// The processes that a task of it waits for. Not those of a pidfd.
    pub(crate) fn waited_for(&self, which: Children, patience: &Patience) -> Option<OtherEnds> {
        match which {
            Children::Any => self.ends(self.all().iter().map(|(pid, _)| *pid)),
            Children::One(id) => self.one(u32::try_from(id).ok()?, patience).and_then(child).map(OtherEnds::of_one),
            Children::Group(group) => {
                let group = match (group, self.depth) {
                    (0, _) => Status::of(self.target)?.group,
                    (group, Some(1)) => group,
                    // Process groups are numbered otherwise there.
                    _ => return None,
                };
                self.ends(self.all().iter().filter(|(_, of)| *of == group).map(|(pid, _)| *pid))
            }
            Children::Pidfd(_) => None,
        }
    }

    /// The child that runs in its memory, whose thread waits for that to end.
    pub(crate) fn borrower(&self) -> Option<OtherEnds> {
        let (target, children): (u32, Vec<u32>) = (self.target, self.all().iter().map(|(pid, _)| *pid).collect());
        // A child that hangs in exec keeps whoever compares its memory waiting.
        let find = move || children.into_iter().find(|pid| is_shared(KCMP_VM, target, *pid));
        let borrower = Aside::default().within(PATIENCE, find).flatten();
        borrower.and_then(child).map(OtherEnds::of_one)
    }

    fn all(&self) -> &[(u32, i32)] {
        self.processes().of(self.target)
    }

    fn processes(&self) -> &Processes {
        self.processes.get_or_init(|| self.machine.processes(self.began))
    }

    /// The child of that id in the process's own namespace.
    fn one(&self, id: u32, patience: &Patience) -> Option<u32> {
        let pid = match self.depth? {
            1 => id,
            depth => {
                let by_id = || {
                    let in_time = self.all().iter().take_while(|_| !patience.is_over());
                    in_time.filter_map(|(pid, _)| Some((in_namespace(*pid, depth)?, *pid))).collect()
                };
                *self.by_inner_id.get_or_init(by_id).get(&id)?
            }
        };
        let is_ours = Status::of(pid)?.parent == self.target;
        // Who traces a process waits for it as for a child.
        let traces = || proc::status_field(pid, "TracerPid").is_some_and(|tracer| tracer == self.target.to_string());
        (is_ours || traces()).then_some(pid)
    }

    fn ends(&self, pids: impl IntoIterator<Item = u32>) -> Option<OtherEnds> {
        let mut pids = pids.into_iter();
        let known: Vec<OtherEnd> = pids.by_ref().filter_map(child).take(MOST_NAMED).collect();
        let (more, complete) = (pids.count() as u64, self.processes().is_whole);
        (!known.is_empty()).then_some(OtherEnds { known, more, complete })
    }
}

/// Whether two threads have the same descriptors.
pub(crate) fn share_descriptors(one: u32, other: u32) -> bool {
    one == other || is_shared(KCMP_FILES, one, other)
}

/// A process as the end of a wait for it.
pub(crate) fn child(pid: u32) -> Option<OtherEnd> {
    let status = Status::of(pid)?;
    let name = proc::comm(pid).unwrap_or_default();
    Some(OtherEnd {
        role: EndRole::Child,
        pid,
        is_target: false,
        name,
        fd: None,
        state: Some(char::from(status.state)),
    })
}

/// The id of a process in the namespace at that depth.
fn in_namespace(pid: u32, depth: usize) -> Option<u32> {
    proc::status_field(pid, "NSpid")?.split_ascii_whitespace().nth(depth.checked_sub(1)?)?.parse().ok()
}

/// How the kernel orders the open files that two descriptors of a task lead to; `None` if it does not say. It is the same
/// order for as long as they are open.
pub(crate) fn order_files(task: u32, one: i32, other: i32) -> Option<Ordering> {
    let [one, other] = [one, other].map(c_long::from);
    match compare(KCMP_FILE, [task; 2], [one, other]) {
        0 => Some(Ordering::Equal),
        1 => Some(Ordering::Less),
        2 => Some(Ordering::Greater),
        _ => None,
    }
}

fn is_shared(what: c_long, one: u32, other: u32) -> bool {
    compare(what, [one, other], [0; 2]) == 0
}

fn compare(what: c_long, [one, other]: [u32; 2], [first, second]: [c_long; 2]) -> c_long {
    // SAFETY: kcmp takes five integers and compares two pointers of the kernel's own; it touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_kcmp, c_long::from(one), c_long::from(other), what, first, second) }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn ends(which: Children) -> Vec<OtherEnd> {
        let machine = Machine::default();
        let family = Family::new(std::process::id(), &machine);
        family.waited_for(which, &Patience::endless()).map(|ends| ends.known).unwrap_or_default()
    }

    #[test]
    fn a_child_is_known_with_its_name_and_state() {
        let mut command = Command::new("sleep");
        let mut sleeper = command.arg("100").stdin(Stdio::null()).spawn().unwrap();
        let id = std::process::id();
        let is_it = |end: &OtherEnd| end.pid == sleeper.id() && end.role == EndRole::Child && end.state.is_some();
        let one = ends(Children::One(sleeper.id() as i32));
        assert!(matches!(&one[..], [end] if is_it(end)), "{one:?}");
        assert!(ends(Children::Any).iter().any(is_it));
        assert!(ends(Children::Group(0)).iter().any(is_it));
        assert_eq!(ends(Children::One(1)), [], "that is no child of ours");
        assert_eq!(ends(Children::One(-7)), []);
        assert!(!share_descriptors(id, sleeper.id()));
        assert!(share_descriptors(id, nix::unistd::gettid().as_raw() as u32));
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }

    #[test]
    fn of_many_children_the_first_are_named_and_those_that_are_gone_are_not() {
        let own = std::process::id();
        let children = std::iter::once(u32::MAX).chain(std::iter::repeat_n(own, 20)).map(|pid| (pid, 7)).collect();
        let processes = Processes { of_parent: HashMap::from([(own, children)]), is_whole: false };
        let machine = Machine::default();
        let family = Family { processes: OnceCell::from(Arc::new(processes)), ..Family::new(own, &machine) };
        let ends = family.waited_for(Children::Any, &Patience::endless()).unwrap();
        assert_eq!((ends.known.len(), ends.more, ends.complete), (MOST_NAMED, 12, false));
        assert_eq!(family.waited_for(Children::Group(8), &Patience::endless()), None);
    }
}
