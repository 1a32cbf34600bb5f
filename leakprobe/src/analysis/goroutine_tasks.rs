//! From the live table of goroutines to sites, which count every one, and to tasks, which are as many as a recording can hold.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    Live,
    goroutines::{self, GoId, Goroutines},
    interned::Interned,
    join::{self, Clock, Doing},
    live::creation_stack,
    recording::{Known, NOT_BLOCKED, thread_created_by},
    sites::{Member, Ordered, SiteKey, Sites, Standing, Tally},
};
use crate::model::{
    Ancestor, AncestorSample, Channel, CreatedBy, Frame, GoCoverage, GoObject, Goroutine, Role, StackEnd, StackId,
    Task, TaskKind, TaskState, WaitKind,
};

/// Most goroutines of all targets that are listed one by one: each takes some 450 bytes until the recording is written.
const MAX_LISTED: usize = 250_000;

/// Most channels of a select that its object names.
const MAX_NAMED_CHANNELS: usize = 4;

/// Goroutines that are alike in all that a site is made of. Comparing places is cheaper than comparing stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Alike {
    place: u32,
    role: Role,
    kind: Option<WaitKind>,
    /// Whether they are or may be parked, or live on since they were created while we watched.
    at_site: bool,
    /// For those whose stack begins or ends on a thread: which one.
    thread: Option<u32>,
}

/// What was found out of all goroutines.
pub(super) struct Survey<'a> {
    table: &'a Goroutines,
    /// For each goroutine, in the table's order, its group.
    group_of: Vec<u32>,
    groups: Vec<Group>,
    coverage: GoCoverage,
    listed_each: u64,
}

struct Group {
    stacks: Stacks,
    site: Option<SiteKey>,
    tally: Tally,
    count: u64,
}

/// The stacks that all goroutines of a group have.
struct Stacks {
    stack: Arc<[u32]>,
    end: StackEnd,
    creation: Arc<[u32]>,
}

/// All goroutines, ascending.
pub(super) fn ids(live: &Live) -> Vec<GoId> {
    let mut ids: Vec<GoId> =
        live.goroutines().into_iter().flat_map(Goroutines::iter).map(goroutines::Live::go_id).collect();
    ids.sort_unstable();
    ids
}

/// Looks at every goroutine and counts it into its site; `None` if the target has none.
pub(super) fn survey<'a>(known: Known<'a>, sites: &mut Sites) -> Option<Survey<'a>> {
    let table = known.live.goroutines()?;
    let goroutines::Turnover { created, gone } = table.turnover();
    let mut coverage = GoCoverage { created, gone, ..GoCoverage::default() };
    let mut group_of = Vec::with_capacity(usize::try_from(table.alive() + table.system()).unwrap_or(0));
    let mut groups: Vec<Group> = Vec::new();
    let mut places: HashMap<Alike, u32> = HashMap::new();
    let mut interned = Interned::default();
    for goroutine in table.iter() {
        let doing = doing(goroutine, known);
        cover(&mut coverage, goroutine, &doing, known);
        let alike = alike(goroutine, &doing, known);
        let next = u32::try_from(groups.len()).unwrap_or(u32::MAX);
        let place = *places.entry(alike).or_insert(next);
        if place == next {
            let stacks = Stacks::of(goroutine, &doing, known, &mut interned);
            let kind = doing.wait.as_ref().map_or(WaitKind::Other, |wait| wait.kind);
            let site = alike.at_site.then(|| stacks.site_key(alike.role, kind));
            groups.push(Group { stacks, site, tally: Tally::default(), count: 0 });
        }
        group_of.push(place);
        let Some(group) = groups.get_mut(place as usize) else { continue };
        group.count += 1;
        if let Some(standing) = standing(goroutine, &doing, known) {
            let wait = doing.wait.as_ref();
            let member = Member {
                standing,
                new: goroutine.is_new().is_some(),
                creator_seen: goroutine.creation().is_some(),
                waits: wait.is_some(),
                slice_ms: wait.and_then(|wait| wait.slice_ms),
                from_start: false,
                age_ms: wait.map_or(0, |wait| wait.age_ms),
                exact: wait.is_none_or(|wait| wait.exact),
                timeout_ms: wait.and_then(|wait| wait.timeout_ms),
                timeout_is_known: wait.is_some_and(|wait| wait.goroutine_timeout_ms().is_some()),
                reason: wait.map_or(NOT_BLOCKED, |wait| &wait.reason),
                name: "",
            };
            let trend = goroutine.stack().map(|stack| (TaskKind::Goroutine, goroutine.creation(), Some(stack)));
            group.tally.add(&member, trend);
        }
    }
    for group in &mut groups {
        if let Some(site) = &group.site {
            sites.add(site.clone(), std::mem::take(&mut group.tally));
        }
    }
    let listed_each = listed_each(&groups, (MAX_LISTED / (1 + known.go.other_targets)) as u64);
    Some(Survey { table, group_of, groups, coverage, listed_each })
}

/// How many of each group are listed at most, so that no more than `limit` are in all and every group is represented.
fn listed_each(groups: &[Group], limit: u64) -> u64 {
    let listed = |each: u64| groups.iter().fold(0_u64, |sum, group| sum.saturating_add(group.count.min(each)));
    if listed(u64::MAX) <= limit {
        return u64::MAX;
    }
    let (mut fits, mut too_many) = (0, limit + 1);
    while too_many - fits > 1 {
        let middle = fits + (too_many - fits) / 2;
        if listed(middle) <= limit { fits = middle } else { too_many = middle }
    }
    fits
}

impl Survey<'_> {
    /// How many goroutines are counted, but not listed.
    pub(super) fn not_listed(&self) -> u64 {
        self.groups.iter().map(|group| group.count.saturating_sub(self.listed_each)).sum()
    }

    pub(super) fn coverage(&self) -> GoCoverage {
        self.coverage.clone()
    }

    /// Adds the goroutines that are told one by one, in the order of the runtime's own list.
    pub(super) fn tasks(&self, known: Known<'_>, sites: &Ordered, tasks: &mut Vec<Task>) {
        let count: u64 = self.groups.iter().map(|group| group.count.min(self.listed_each)).sum();
        // Growing by and by would need twice the room.
        tasks.reserve_exact(usize::try_from(count).unwrap_or(0));
        let no_labels = Arc::default();
        let mut lineages = Lineages { known, stacks: HashMap::new(), lists: HashMap::new() };
        let ids = ids(known.live);
        let of_group: Vec<Option<u32>> =
            self.groups.iter().map(|group| group.site.as_ref().and_then(|key| sites.place(key))).collect();
        let mut listed = vec![0_u64; self.groups.len()];
        for (goroutine, &group) in self.table.iter().zip(&self.group_of) {
            let place = group as usize;
            let (Some(group), Some(listed)) = (self.groups.get(place), listed.get_mut(place)) else { continue };
            *listed += 1;
            if *listed <= self.listed_each {
                let site = of_group.get(place).copied().flatten();
                let ancestors = lineages.of(goroutine.ancestors());
                let common = Common { ids: &ids, no_labels: &no_labels, ancestors };
                tasks.push(task(goroutine, &group.stacks, site, known, common));
            }
        }
    }
}

/// The thread that `goroutine` is on, by the id that we know it by.
fn thread(goroutine: goroutines::Live<'_>, known: Known<'_>) -> Option<u32> {
    known.live.outer_id(goroutine.thread()?)
}

/// The thread that carries `goroutine` while it is in a system call or in C code, if that is confirmed.
fn carrier<'a>(goroutine: goroutines::Live<'_>, known: Known<'a>) -> Option<(&'a super::LiveThread, &'a [u32])> {
    if !known.go.confirmed.contains(&goroutine.go_id()) {
        return None;
    }
    let thread = known.live.threads().get(&thread(goroutine, known)?)?;
    Some((thread, thread.stack.map_or(&[], |stack| known.symbols.of(stack))))
}

/// Of a goroutine that C has called, that, and the thread that has called it.
fn callback<'a>(
    goroutine: goroutines::Live<'_>,
    known: Known<'a>,
) -> Option<(&'a join::Callback, &'a super::LiveThread)> {
    let callback = known.go.callbacks.get(&goroutine.go_id())?;
    Some((callback, known.live.threads().get(&callback.thread)?))
}

/// Of a goroutine that C has called and that has not returned yet: the call, and the thread that has made it.
fn call<'a>(goroutine: goroutines::Live<'_>, known: Known<'a>) -> Option<(&'a join::Callback, &'a super::LiveThread)> {
    callback(goroutine, known).filter(|(callback, _)| !callback.at_rest)
}

fn doing(goroutine: goroutines::Live<'_>, known: Known<'_>) -> Doing {
    let table = known.live.goroutines();
    let clock = Clock { now_ns: table.map_or(0, Goroutines::now_ns), min_block_ns: known.live.min_block_ns() };
    join::doing(goroutine, carrier(goroutine, known), known.frames, clock)
}

/// Why a goroutine counts at a site; `None` if it does not.
fn standing(goroutine: goroutines::Live<'_>, doing: &Doing, known: Known<'_>) -> Option<Standing> {
    let may_be_parked = || {
        doing.wait.as_ref().is_some_and(|wait| {
            let min_block_ms = known.live.min_block_ns() / 1_000_000;
            !wait.exact && wait.at_most_ms.is_none_or(|most| most >= min_block_ms)
        })
    };
    match doing.state {
        // Its thread is.
        _ if role(goroutine, known) == Role::Carrier => return None,
        TaskState::Parked => return Some(Standing::Parked),
        TaskState::Blocked if may_be_parked() => return Some(Standing::Unknown),
        TaskState::Exited => return None,
        TaskState::Blocked | TaskState::Running | TaskState::Runnable => {}
    }
    let is_lasting = goroutine.is_new().filter(|_| !goroutine.is_system())?;
    Some(if is_lasting { Standing::Lasting } else { Standing::Young })
}

fn alike(goroutine: goroutines::Live<'_>, doing: &Doing, known: Known<'_>) -> Alike {
    let at_site = standing(goroutine, doing, known).is_some();
    Alike {
        place: goroutine.place(),
        role: role(goroutine, known),
        kind: doing.wait.as_ref().map(|wait| wait.kind),
        at_site,
        thread: match callback(goroutine, known) {
            Some((callback, _)) => Some(callback.thread),
            None => goroutine.thread().filter(|_| doing.native > 0),
        },
    }
}

fn role(goroutine: goroutines::Live<'_>, known: Known<'_>) -> Role {
    match callback(goroutine, known) {
        Some((callback, _)) if callback.at_rest => Role::Carrier,
        _ if goroutine.is_system() => Role::Runtime,
        _ => Role::Own,
    }
}

impl Stacks {
    fn of(goroutine: goroutines::Live<'_>, doing: &Doing, known: Known<'_>, interned: &mut Interned) -> Self {
        let own = frames(goroutine.stack(), known);
        let native = carrier(goroutine, known).and_then(|(_, stack)| stack.get(..doing.native));
        let called = call(goroutine, known);
        let caller = called.and_then(|(callback, _)| callback.caller);
        let outer = frames(caller, known);
        // That which C has called returns there, and not to where goroutines end.
        let own = if outer.is_empty() { own } else { without_exit(own, known.frames) };
        Self {
            // Before its own frames, the native ones of the C code that it has called; behind them those of the code that called it.
            stack: interned.of(&[native.unwrap_or_default(), own, outer].concat()),
            end: stack_end(goroutine, known),
            creation: match called.map(|(_, thread)| creation_stack(thread)) {
                Some(creation) => interned.of(frames(creation, known)),
                None => interned.of(frames(goroutine.creation(), known)),
            },
        }
    }

    fn site_key(&self, role: Role, kind: WaitKind) -> SiteKey {
        let (creation, stack) = (Arc::clone(&self.creation), Arc::clone(&self.stack));
        SiteKey { task: TaskKind::Goroutine, role, creation, stack, kind }
    }
}

/// The frames of a goroutine without that which stands for its end.
fn without_exit<'a>(own: &'a [u32], frames: &[Frame]) -> &'a [u32] {
    let is_exit = |place: &u32| {
        let frame = frames.get(*place as usize);
        frame.is_some_and(|frame| matches!(frame.function.as_str(), "runtime.goexit" | "runtime.goexit.abi0"))
    };
    own.split_last().filter(|(last, _)| is_exit(last)).map_or(own, |(_, rest)| rest)
}

fn frames<'a>(stack: Option<StackId>, known: Known<'a>) -> &'a [u32] {
    stack.map(|id| known.symbols.of(id)).unwrap_or_default()
}

/// Whether nothing can ever end its wait.
fn is_forever(goroutine: goroutines::Live<'_>) -> bool {
    goroutine.wait().is_some_and(|wait| wait.forever)
}

/// How the reading of its stack ended, with that of the code that has called it.
fn stack_end(goroutine: goroutines::Live<'_>, known: Known<'_>) -> StackEnd {
    let end_of = |stack: StackId| known.stacks.get(stack).map(|stack| stack.end);
    let none = if goroutine.is_place_left_out() { StackEnd::LeftOut } else { StackEnd::None };
    let own = goroutine.stack().and_then(end_of).unwrap_or(none);
    match call(goroutine, known).filter(|_| own == StackEnd::Complete) {
        Some((callback, _)) => callback.caller.and_then(end_of).unwrap_or(StackEnd::NoUnwindInfo),
        None => own,
    }
}

fn cover(coverage: &mut GoCoverage, goroutine: goroutines::Live<'_>, doing: &Doing, known: Known<'_>) {
    if goroutine.is_system() {
        coverage.system += 1;
        return;
    }
    coverage.goroutines += 1;
    let caller = callback(goroutine, known).and_then(|(_, thread)| creation_stack(thread));
    coverage.creations_known += u64::from(caller.or(goroutine.creation()).is_some());
    match doing.state {
        TaskState::Parked | TaskState::Blocked => {
            coverage.blocked += 1;
            coverage.stacks_complete += u64::from(stack_end(goroutine, known) == StackEnd::Complete);
        }
        TaskState::Running => coverage.running += 1,
        TaskState::Runnable | TaskState::Exited => {}
    }
}

/// Ancestors as recordings tell them: equal ones, and equal stacks of different ones, are held once.
struct Lineages<'a> {
    known: Known<'a>,
    stacks: HashMap<StackId, Arc<[u32]>>,
    lists: HashMap<&'a [AncestorSample], Arc<[Ancestor]>>,
}

impl<'a> Lineages<'a> {
    fn of(&mut self, samples: &'a [AncestorSample]) -> Arc<[Ancestor]> {
        let Self { known, stacks, lists } = self;
        let mut shared = |stack: Option<StackId>| match stack {
            Some(id) => Arc::clone(stacks.entry(id).or_insert_with(|| known.symbols.of(id).into())),
            None => Arc::default(),
        };
        let ancestor = |sample: &AncestorSample| Ancestor {
            id: sample.id,
            stack: shared(Some(sample.stack)),
            creation: shared(sample.creation),
        };
        Arc::clone(lists.entry(samples).or_insert_with(|| samples.iter().map(ancestor).collect()))
    }
}

/// What the tasks of goroutines are made with besides what each group has in common.
struct Common<'a> {
    /// All goroutines, ascending.
    ids: &'a [GoId],
    /// What those without labels share.
    no_labels: &'a Arc<BTreeMap<String, String>>,
    /// The ancestors of this goroutine, nearest first.
    ancestors: Arc<[Ancestor]>,
}

fn task(
    goroutine: goroutines::Live<'_>,
    stacks: &Stacks,
    site: Option<u32>,
    known: Known<'_>,
    common: Common<'_>,
) -> Task {
    let Doing { state, mut wait, .. } = doing(goroutine, known);
    let object = goroutine.object();
    if let Some(wait) = wait.as_mut().filter(|wait| wait.object.is_empty()) {
        wait.object = object_words(&object);
    }
    if let (Some(wait), GoObject::Sync { queue, .. }) = (&mut wait, &object) {
        wait.queue = *queue;
    }
    if let Some((wait, ends)) = wait.as_mut().zip(goroutine.other_ends()) {
        wait.owner = ends.only().map(Box::new);
        wait.other_ends = Some(Box::new(ends.clone()));
    }
    Task {
        kind: TaskKind::Goroutine,
        id: goroutine.id(),
        role: role(goroutine, known),
        runs: None,
        name: Arc::default(),
        state,
        wait,
        stack: Arc::clone(&stacks.stack),
        stack_end: stacks.end,
        kernel_stack: Arc::default(),
        ns_id: None,
        lifetime_ms: None,
        created_by: match call(goroutine, known) {
            // By whoever has created the thread that C has called it on: no goroutine.
            Some((callback, thread)) => CreatedBy {
                task: None,
                name: Arc::default(),
                stack: Arc::clone(&stacks.creation),
                ..thread_created_by(callback.thread, thread, known)
            },
            None => created_by(goroutine, &stacks.creation, common.ids),
        },
        site,
        goroutine: Some(Box::new(Goroutine {
            status: goroutine.status(),
            thread: thread(goroutine, known),
            locked_to_thread: goroutine.is_locked(),
            labels: Arc::clone(goroutine.labels().unwrap_or(common.no_labels)),
            channels: match &object {
                GoObject::Channel(channel) => [*channel].into(),
                GoObject::Select(channels) => Arc::clone(channels),
                GoObject::None | GoObject::Sync { .. } | GoObject::Descriptor { .. } => Arc::default(),
            },
            forever: is_forever(goroutine),
            ancestors: common.ancestors,
            bubble: goroutine.bubble(),
            holds: goroutine.holds().map(Arc::clone).unwrap_or_default(),
            runtime: goroutine.runtime(),
        })),
    }
}

fn created_by(goroutine: goroutines::Live<'_>, creation: &Arc<[u32]>, ids: &[GoId]) -> CreatedBy {
    let parent = Some(goroutine.parent()).filter(|&parent| parent > 0);
    let runtime = goroutine.runtime();
    let why_unknown = match goroutine.creation() {
        Some(_) => None,
        None if goroutine.is_place_left_out() => Some("not kept: the stacks of one run may take no more memory"),
        None if goroutine.id() == 1 => Some("it is the process's first goroutine"),
        None => Some("the runtime does not tell"),
    };
    CreatedBy {
        task: parent,
        alive: parent.map(|id| ids.binary_search(&GoId { runtime, id }).is_ok()),
        name: Arc::default(),
        stack: Arc::clone(creation),
        known: why_unknown.is_none(),
        why_unknown: why_unknown.map(Into::into),
    }
}

/// What is waited on, as one text: equal for those who wait on the same.
fn object_words(object: &GoObject) -> Arc<str> {
    let address = |channel: &Channel| match channel.address {
        0 => "nil channel".to_owned(),
        address => format!("chan {address:#x}"),
    };
    match object {
        GoObject::None => Arc::default(),
        GoObject::Channel(channel) => address(channel).into(),
        GoObject::Select(channels) => {
            let named: Vec<String> = channels.iter().take(MAX_NAMED_CHANNELS).map(address).collect();
            match channels.len() - named.len() {
                0 => named.join(", ").into(),
                more => format!("{} and {more} more", named.join(", ")).into(),
            }
        }
        GoObject::Sync { name, address, .. } => format!("{name} {address:#x}").into(),
        GoObject::Descriptor { words, .. } => Arc::clone(words),
    }
}

#[cfg(test)]
#[path = "goroutine_tasks_tests.rs"]
mod tests;
