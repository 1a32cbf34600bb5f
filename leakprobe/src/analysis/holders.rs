//! From what locks say of their holders to threads of the live table: who would have to act, and what is sure of that.
//!
//! A lock is read at one moment and the threads at another. A holder that does not exist, and a circle of waits, are told only if a
//! second look has confirmed them ([`Confirmed`]).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    Frames, Live, LiveThread,
    chains::Graph,
    futex,
    locks::{self, Held},
};
use crate::model::{
    Activity, Blocking, Deadlock, DeadlockedTask, Frame, FutexMemory, Link, LinkWait, Owner, Relation, Task, TaskState,
};

/// How much a thread may seem to be younger than the wait for what it holds: the clocks of the two are not the same.
const SLACK_NS: u64 = 10_000_000;

/// What a second look at the locks has confirmed.
#[derive(Clone, Debug, Default)]
pub(super) struct Confirmed {
    /// Circles of waiting threads.
    cycles: BTreeSet<Vec<u32>>,
    /// Threads that wait for one that is gone, and its id.
    gone: BTreeMap<u32, u32>,
}

/// What only a second look can confirm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// The threads whose locks are to be read again.
    pub waiters: Vec<u32>,
    /// Ids of holders that no snapshot has seen, in the target's own pid namespace.
    pub missing: Vec<u32>,
}

/// Whom a thread waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Blocker {
    /// A thread of the table.
    Thread(u32, Relation),
    /// One that is not in the table.
    Missing { tid: u32, shared: bool },
    /// Nobody in particular, in words.
    Note(String),
    /// Nothing is known.
    Unknown,
}

/// Names the futex waits that have not been named yet, by their stacks.
pub(super) fn name(thread: &mut LiveThread, symbols: &dyn Frames, frames: &[Frame]) {
    let Some(stack) = thread.stack else {
        return;
    };
    let Activity::Blocked(blocking) = &mut thread.activity else {
        return;
    };
    let Some(wait) = blocking.futex.as_deref_mut().filter(|wait| wait.primitive.is_none()) else {
        return;
    };
    let stack = symbols.of(stack).iter().filter_map(|&place| frames.get(place as usize));
    let primitive = futex::primitive(stack, wait);
    wait.primitive = Some(primitive);
    if primitive.name.is_empty() {
        return;
    }
    let kind = wait.memory.as_deref().map_or("", |memory| locks::mutex_kind(primitive, memory));
    blocking.reason = if kind.is_empty() { primitive.name.to_owned() } else { format!("{} ({kind})", primitive.name) };
}

/// What is to be looked at a second time.
pub(super) fn doubts(live: &Live) -> Doubts {
    let mut doubts = Doubts::default();
    let mut graph = Graph::default();
    for (tid, blocking) in futex_waits(live) {
        match blocker(live, tid, blocking) {
            Blocker::Thread(holder, _) => graph.insert(tid, holder),
            Blocker::Missing { tid: missing, shared: false } => {
                doubts.waiters.push(tid);
                doubts.missing.push(missing);
            }
            _ => {}
        }
    }
    doubts.waiters.extend(graph.cycles().into_iter().flatten());
    for ids in [&mut doubts.waiters, &mut doubts.missing] {
        ids.sort_unstable();
        ids.dedup();
    }
    doubts
}

/// Takes in a second look: for each thread that has slept all the time what it waits on, read twice, and which of the missing
/// holders the process does not have. Whoever was looked for between the two reads and not found cannot have released anything
/// since.
pub(super) fn confirm(live: &Live, twice: &HashMap<u32, [Arc<FutexMemory>; 2]>, gone: &BTreeSet<u32>) -> Confirmed {
    let mut confirmed = Confirmed::default();
    let mut graph = Graph::default();
    for (tid, blocking) in futex_waits(live) {
        let (Some(both), Some(wait)) = (twice.get(&tid), blocking.futex.as_deref()) else {
            continue;
        };
        let [first, second] = both.each_ref().map(|memory| locks::held_in(wait, memory));
        if first != second || first != locks::held(wait) {
            continue;
        }
        match blocker(live, tid, blocking) {
            Blocker::Thread(holder, _) => graph.insert(tid, holder),
            Blocker::Missing { tid: missing, shared: false } if gone.contains(&missing) => {
                confirmed.gone.insert(tid, missing);
            }
            _ => {}
        }
    }
    confirmed.cycles = graph.cycles().into_iter().collect();
    confirmed
}

fn futex_waits(live: &Live) -> impl Iterator<Item = (u32, &Blocking)> {
    live.threads().iter().filter_map(|(&tid, thread)| match &thread.activity {
        Activity::Blocked(blocking) if blocking.futex.is_some() => Some((tid, blocking)),
        _ => None,
    })
}

fn blocker(live: &Live, waiter: u32, blocking: &Blocking) -> Blocker {
    let Some(wait) = blocking.futex.as_deref() else {
        return Blocker::Unknown;
    };
    match locks::held(wait) {
        Held::By { tid, shared } => thread(live, waiter, blocking, tid, shared, Relation::Holds),
        Held::Join(tid) => match thread(live, waiter, blocking, tid, true, Relation::Joined) {
            Blocker::Missing { .. } => Blocker::Unknown, // it is on its way out, or not yet seen
            other => other,
        },
        Held::Readers(1) => Blocker::Note("held by 1 reader; this kind of lock does not record which".to_owned()),
        Held::Readers(count) => {
            Blocker::Note(format!("held by {count} readers; this kind of lock does not record which"))
        }
        Held::OwnerDied => Blocker::Note("its holder has exited without releasing it".to_owned()),
        Held::NotRecorded => Blocker::Note("holder not recorded by this kind of lock".to_owned()),
        Held::Unknown => Blocker::Unknown,
    }
}

/// The thread that has this id in the target's pid namespace, if it can be the one.
fn thread(live: &Live, waiter: u32, blocking: &Blocking, own_id: u32, shared: bool, relation: Relation) -> Blocker {
    let Some(tid) = live.outer_id(own_id) else {
        return Blocker::Missing { tid: own_id, shared };
    };
    let Some(holder) = live.threads().get(&tid) else {
        return Blocker::Missing { tid: own_id, shared };
    };
    // Whoever got a lock while others slept on it may be younger than their waits; and an id may be in use again. If nobody
    // else waits, the lock has not changed hands since.
    if tid != waiter && holder.started_ns() > blocking.since_ns.saturating_add(SLACK_NS) {
        return Blocker::Note(format!(
            "held by thread id {own_id}, which a younger thread has now: whether it is that one is not known"
        ));
    }
    Blocker::Thread(tid, relation)
}

/// Fills in whom the threads among `tasks` wait for, and finds the deadlocks.
pub(super) fn fill(live: &Live, tasks: &mut [Task]) -> Vec<Deadlock> {
    let confirmed = live.confirmed();
    let mut graph = Graph::default();
    let mut relations: HashMap<u32, Relation> = HashMap::new();
    let mut owners: HashMap<u32, Owner> = HashMap::new();
    let mut notes: HashMap<u32, Arc<str>> = HashMap::new();
    for (tid, blocking) in futex_waits(live) {
        match blocker(live, tid, blocking) {
            Blocker::Thread(holder, relation) => {
                graph.insert(tid, holder);
                relations.insert(tid, relation);
            }
            Blocker::Missing { tid: missing, shared: true } => {
                notes.insert(tid, format!("held by thread id {missing}, which is none of this process").into());
            }
            Blocker::Missing { tid: missing, shared: false } if confirmed.gone.get(&tid) == Some(&missing) => {
                owners.insert(tid, exited(live, missing));
            }
            Blocker::Missing { .. } | Blocker::Unknown => {}
            Blocker::Note(note) => {
                notes.insert(tid, note.into());
            }
        }
    }
    let by_id: HashMap<u32, usize> = tasks
        .iter()
        .enumerate()
        .filter(|(_, task)| task.goroutine.is_none())
        .filter_map(|(place, task)| Some((u32::try_from(task.id).ok()?, place)))
        .collect();
    let links: HashMap<u32, Link> =
        by_id.iter().filter_map(|(&tid, &place)| Some((tid, link(tasks.get(place)?, Relation::Holds)))).collect();
    let of = |waiter: u32, holder: u32| -> Option<Link> {
        let link = links.get(&holder)?;
        let relation = relations.get(&waiter).copied().unwrap_or_default();
        Some(Link { owner: Owner { relation, ..link.owner.clone() }, wait: link.wait.clone() })
    };
    let mut chains: HashMap<u32, Arc<[Link]>> = HashMap::new();
    for (&tid, &place) in &by_id {
        let Some(wait) = tasks.get_mut(place).and_then(|task| task.wait.as_mut()) else {
            continue;
        };
        wait.owner_note = notes.remove(&tid);
        if let Some(owner) = owners.remove(&tid) {
            wait.owner = Some(Box::new(owner));
            continue;
        }
        let Some(holder) = graph.next(tid) else {
            continue;
        };
        wait.owner = of(tid, holder).map(|link| Box::new(link.owner));
        if links.get(&holder).is_some_and(|link| link.wait.is_none()) || holder == tid {
            continue;
        }
        let chain = chains.entry(tid).or_insert_with(|| {
            let mut before = tid;
            let step = |&next: &u32| of(std::mem::replace(&mut before, next), next);
            graph.chain(tid).iter().filter_map(step).collect()
        });
        wait.chain = Arc::clone(chain);
    }
    deadlocks(&graph, confirmed, &links, tasks, &by_id)
}

fn deadlocks(
    graph: &Graph,
    confirmed: &Confirmed,
    links: &HashMap<u32, Link>,
    tasks: &[Task],
    by_id: &HashMap<u32, usize>,
) -> Vec<Deadlock> {
    let wait_of = |tid: &u32| by_id.get(tid).and_then(|&place| tasks.get(place)).and_then(|task| task.wait.as_ref());
    let for_ever = |cycle: &Vec<u32>| {
        confirmed.cycles.contains(cycle)
            && cycle.iter().all(|tid| wait_of(tid).is_some_and(|wait| wait.timeout_ms.is_none()))
    };
    let cycles: Vec<Vec<u32>> = graph.cycles().into_iter().filter(for_ever).collect();
    let behind = graph.behind(&cycles);
    let member = |tid: &u32| {
        let link = links.get(tid)?;
        Some(DeadlockedTask { task: link.owner.task, name: link.owner.name.as_str().into(), wait: link.wait.clone()? })
    };
    cycles
        .iter()
        .zip(behind)
        .map(|(cycle, behind)| Deadlock { tasks: cycle.iter().filter_map(member).collect(), behind })
        .collect()
}

fn exited(live: &Live, own_id: u32) -> Owner {
    let name = live.name_of_exited(own_id).unwrap_or_default().to_owned();
    Owner { task: u64::from(own_id), name, state: Some(TaskState::Exited), ..Owner::default() }
}

fn link(task: &Task, relation: Relation) -> Link {
    let owner = Owner { task: task.id, name: task.name.to_string(), relation, process: None, state: Some(task.state) };
    let wait = task.wait.as_ref().map(|wait| LinkWait {
        reason: Arc::clone(&wait.reason),
        object: Arc::clone(&wait.object),
        age_ms: wait.age_ms,
        exact: wait.exact,
    });
    Link { owner, wait }
}
