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
    locks::{self, Held, Release},
    owners::{self, Known},
};
use crate::model::{
    Activity, Blocking, Deadlock, DeadlockedTask, Frame, FutexMemory, Link, LinkWait, Owner, OwnerClaim, OwnerFacts,
    OwnerThread, Relation, Task, TaskState,
};

/// How much a thread may seem to be younger than the wait for what it holds: the clocks of the two are not the same.
const SLACK_NS: u64 = 10_000_000;

/// What a second look at the locks has confirmed.
#[derive(Clone, Debug, Default)]
pub(super) struct Confirmed {
    /// Circles of threads that wait without time-out.
    cycles: BTreeSet<Vec<u32>>,
    /// Threads that wait without time-out for a lock of one that is on a circle, or of one that does.
    stuck: BTreeSet<u32>,
    /// Threads that wait for one that is gone, and its id.
    gone: BTreeMap<u32, u32>,
    /// Threads that wait on what nothing else knows.
    parked_for_good: BTreeSet<u32>,
    /// What was found of the owners that locks name.
    owners: HashMap<OwnerClaim, OwnerFacts>,
}

/// What only a second look can confirm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// The threads whose locks are to be read again.
    pub waiters: Vec<u32>,
    /// The owners that are to be looked up: of locks that name no thread of the target, and of those on circles.
    pub owners: BTreeSet<OwnerClaim>,
}

/// Whom a thread waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Blocker {
    /// A thread of the table, which holds what the lock names as its owner.
    Holder(u32, OwnerClaim),
    /// A thread of the table, which is joined.
    Joined(u32),
    /// One that is not in the table, or has exited.
    Missing { owner: OwnerClaim, shared: bool, release: Release },
    /// No one: nothing else knows what is waited on.
    NoOne,
    /// Nobody in particular, in words.
    Note(String),
    /// Nothing is known.
    Unknown,
}

impl Blocker {
    /// The thread of the table, and how it is the one.
    fn thread(&self) -> Option<(u32, Relation)> {
        match *self {
            Self::Holder(tid, _) => Some((tid, Relation::Holds)),
            Self::Joined(tid) => Some((tid, Relation::Joined)),
            _ => None,
        }
    }
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
    let mut claims: HashMap<u32, OwnerClaim> = HashMap::new();
    for (tid, blocking) in futex_waits(live) {
        let blocker = blocker(live, tid, blocking);
        if let Some((holder, _)) = blocker.thread() {
            graph.insert(tid, holder);
        }
        match blocker {
            Blocker::Holder(_, owner) => {
                claims.insert(tid, owner);
            }
            Blocker::Missing { owner, .. } => {
                doubts.waiters.push(tid);
                doubts.owners.insert(owner);
            }
            Blocker::NoOne => doubts.waiters.push(tid),
            _ => {}
        }
    }
    let cycles = graph.cycles();
    let behind = graph.leading_to(&cycles).into_keys();
    let stuck: Vec<u32> = cycles.into_iter().flatten().chain(behind).collect();
    doubts.owners.extend(stuck.iter().filter_map(|tid| claims.get(tid)));
    doubts.waiters.extend(stuck);
    doubts.waiters.sort_unstable();
    doubts.waiters.dedup();
    doubts
}

/// Takes in a second look: for each thread that has slept all the time what it waits on, read twice, and what was found of the
/// owners between the two reads. Whoever was looked for then and not found cannot have released anything since.
pub(super) fn confirm(
    live: &Live,
    twice: &HashMap<u32, [Arc<FutexMemory>; 2]>,
    owners: HashMap<OwnerClaim, OwnerFacts>,
) -> Confirmed {
    let mut confirmed = Confirmed::default();
    let (mut all, mut held) = (Graph::default(), Graph::default());
    for (tid, blocking) in futex_waits(live) {
        let (Some(both), Some(wait)) = (twice.get(&tid), blocking.futex.as_deref()) else {
            continue;
        };
        let [first, second] = both.each_ref().map(|memory| locks::held_in(wait, memory));
        if first != second || first != locks::held(wait) {
            continue;
        }
        let is_timed = wait.timed || blocking.timeout_ms.is_some();
        match blocker(live, tid, blocking) {
            Blocker::Holder(holder, owner) if !is_timed && owners.get(&owner).is_some_and(owners::is_of_target) => {
                all.insert(tid, holder);
                held.insert(tid, holder);
            }
            Blocker::Joined(thread) if !is_timed => all.insert(tid, thread),
            Blocker::Missing { owner, release, .. } => {
                let facts = owners.get(&owner);
                if facts.is_some_and(|facts| known(live, owner, facts, release) == Known::Exited) {
                    confirmed.gone.insert(tid, owner.id);
                }
            }
            Blocker::NoOne => {
                confirmed.parked_for_good.insert(tid);
            }
            _ => {}
        }
    }
    let cycles = all.cycles();
    confirmed.stuck = held.leading_to(&cycles).into_keys().collect();
    confirmed.cycles = cycles.into_iter().collect();
    confirmed.owners = owners;
    confirmed
}

fn known<'a>(live: &Live, owner: OwnerClaim, facts: &'a OwnerFacts, release: Release) -> Known<'a> {
    owners::known(facts, release, live.has_seen_exit(owner.id))
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
        Held::By { tid, shared, release } => {
            let owner = OwnerClaim { word: wait.word, id: tid };
            match thread(live, waiter, blocking, tid) {
                Ok(Some(holder)) => Blocker::Holder(holder, owner),
                Ok(None) => Blocker::Missing { owner, shared, release },
                Err(note) => Blocker::Note(note),
            }
        }
        Held::Join(tid) => match thread(live, waiter, blocking, tid) {
            Ok(Some(joined)) => Blocker::Joined(joined),
            Ok(None) => Blocker::Unknown, // it is on its way out, or not yet seen
            Err(note) => Blocker::Note(note),
        },
        Held::NoOne => Blocker::NoOne,
        Held::Readers(1) => Blocker::Note("held by 1 reader; this kind of lock does not record which".to_owned()),
        Held::Readers(count) => {
            Blocker::Note(format!("held by {count} readers; this kind of lock does not record which"))
        }
        Held::OwnerDied => Blocker::Note("its holder has exited without releasing it".to_owned()),
        Held::NotRecorded => Blocker::Note("holder not recorded by this kind of lock".to_owned()),
        Held::Unknown => Blocker::Unknown,
    }
}

/// The thread that has this id in the target's pid namespace and has not exited, if there is one; a note if it cannot be the one.
fn thread(live: &Live, waiter: u32, blocking: &Blocking, own_id: u32) -> Result<Option<u32>, String> {
    let Some(tid) = live.outer_id(own_id) else {
        return Ok(None);
    };
    let Some(holder) = live.threads().get(&tid).filter(|holder| holder.activity != Activity::Exited) else {
        return Ok(None);
    };
    // Whoever got a lock while others slept on it may be younger than their waits; and an id may be in use again. If nobody
    // else waits, the lock has not changed hands since.
    if tid != waiter && holder.started_ns() > blocking.since_ns.saturating_add(SLACK_NS) {
        return Err(format!(
            "held by thread id {own_id}, which a younger thread has now: whether it is that one is not known"
        ));
    }
    Ok(Some(tid))
}

/// Who holds the lock of a thread that waits for one that is not in the table: an owner, a note, or nothing.
fn missing(live: &Live, waiter: u32, blocker: &Blocker, is_timed: bool) -> (Option<Owner>, Option<String>) {
    let &Blocker::Missing { owner, shared, release } = blocker else {
        return (None, None);
    };
    let id = owner.id;
    let confirmed = live.confirmed();
    let known = confirmed.owners.get(&owner).map_or(Known::Nothing, |facts| known(live, owner, facts, release));
    let note = match known {
        Known::Is(thread) => {
            let (task, process) = (u64::from(thread.tid), Some(thread.process));
            return (Some(Owner { task, name: thread.name.clone(), process, ..Owner::default() }), None);
        }
        Known::IsLikely(OwnerThread { tid, process, name }) if tid == process => {
            format!("likely held by {name} (process {process}), which is thread id {id} in its own pid namespace")
        }
        Known::IsLikely(OwnerThread { tid, process, name }) => {
            format!(
                "likely held by {name} ({tid}) of process {process}, which is thread id {id} in its own pid namespace"
            )
        }
        Known::Exited if confirmed.gone.get(&waiter) != Some(&id) => return (None, None),
        Known::Exited if is_timed => format!("held by thread id {id}, which has exited"),
        Known::Exited => return (Some(exited(live, id)), None),
        Known::NotFound => format!("held by thread id {id}, which was not found"),
        Known::Nothing if shared => format!("held by thread id {id}, which is none of this process"),
        Known::Nothing => return (None, None),
    };
    (None, Some(note))
}

/// Fills in whom the threads among `tasks` wait for, and finds the deadlocks.
pub(super) fn fill(live: &Live, tasks: &mut [Task]) -> Vec<Deadlock> {
    let confirmed = live.confirmed();
    let mut graph = Graph::default();
    let mut relations: HashMap<u32, Relation> = HashMap::new();
    let mut owners: HashMap<u32, Owner> = HashMap::new();
    let mut notes: HashMap<u32, Arc<str>> = HashMap::new();
    for (tid, blocking) in futex_waits(live) {
        let blocker = blocker(live, tid, blocking);
        if let Some((holder, relation)) = blocker.thread() {
            graph.insert(tid, holder);
            relations.insert(tid, relation);
        }
        match blocker {
            Blocker::Missing { .. } => {
                let is_timed = blocking.timeout_ms.is_some() || blocking.futex.as_ref().is_some_and(|wait| wait.timed);
                let (owner, note) = missing(live, tid, &blocker, is_timed);
                owners.extend(owner.map(|owner| (tid, owner)));
                notes.extend(note.map(|note| (tid, note.into())));
            }
            Blocker::NoOne if confirmed.parked_for_good.contains(&tid) => {
                owners.insert(tid, Owner { relation: Relation::NoOne, ..Owner::default() });
            }
            Blocker::Note(note) => {
                notes.insert(tid, note.into());
            }
            _ => {}
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
    deadlocks(&graph, confirmed, &links)
}

fn deadlocks(graph: &Graph, confirmed: &Confirmed, links: &HashMap<u32, Link>) -> Vec<Deadlock> {
    let cycles: Vec<Vec<u32>> = graph.cycles().into_iter().filter(|cycle| confirmed.cycles.contains(cycle)).collect();
    let leading = graph.leading_to(&cycles);
    let behind = |place: usize| leading.iter().filter(move |(_, to)| **to == place).map(|(tid, _)| tid);
    let member = |tid: &u32| {
        let link = links.get(tid)?;
        Some(DeadlockedTask { task: link.owner.task, name: link.owner.name.as_str().into(), wait: link.wait.clone()? })
    };
    let deadlock = |(place, cycle): (usize, &Vec<u32>)| Deadlock {
        tasks: cycle.iter().filter_map(member).collect(),
        behind: behind(place).count() as u64,
        stuck: behind(place).filter(|tid| confirmed.stuck.contains(tid)).map(|tid| u64::from(*tid)).collect(),
    };
    cycles.iter().enumerate().map(deadlock).collect()
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
