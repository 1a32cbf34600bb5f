//! The live table of goroutines: by slot, in some hundred bytes each, because a program may have a million.
//!
//! What many have in common is held once, and the numbers that every snapshot needs are kept true by each change rather than
//! counted anew.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::Hash,
    num::NonZeroU32,
    sync::Arc,
};

use super::{history::Key, slices};
use crate::model::{
    Access, AncestorSample, Channel, GoObject, GoStatus, GoWait, GoroutineSample, GoroutineSink, HeldLock, OtherEnds,
    QueuePlace, StackId, Subject, TaskKind, WaitKind,
};

/// Slots that a runtime can have, as a power of two: those of a process's runtimes, counted from 0, follow each other.
pub const SLOT_BITS: u32 = 24;

/// Slots that are allocated together: growing never copies what is there.
const CHUNK: usize = 1 << 12;

/// Most wordings of waits; a runtime has some forty. Further ones are told by their kind alone.
const MAX_WAITS: usize = 4096;

/// So many details of objects are kept at least before those that nobody uses any more are dropped.
const MIN_DETAILS: usize = 4096;

/// Most places that are kept, each a stack and where whoever has it was created: together they are far more than the stacks. And
/// so many are kept at least before those where nobody is any more are dropped.
const MAX_PLACES: usize = 1 << 16;
const MIN_PLACES: usize = 4096;

/// The place of those whose places are not kept.
const LEFT_OUT: u32 = u32::MAX;

/// The goroutines that there are, and how many wait where.
#[derive(Debug)]
pub struct Goroutines {
    chunks: Vec<Vec<Option<Entry>>>,
    waits: Interned<WaitWords>,
    details: Interned<Detail>,
    places: Vec<Place>,
    place_of: HashMap<(Option<StackId>, StackId), u32>,
    /// How often a place was not kept.
    places_left_out: u64,
    ages: Ages,
    alive: u64,
    system: u64,
    /// How many were there before us; known at the first snapshot's end. Until then, whoever comes was.
    at_first: Option<u64>,
    /// Created and ended since the first snapshot, as far as each was seen: without the runtime's own, and those alone.
    seen: [Turnover; 2],
    turnover: Turnover,
    now_ns: u64,
    /// The number of the present snapshot, from 1 on.
    snapshots: u32,
    /// Snapshots that are younger than the threshold, and when they were.
    recent: VecDeque<(u32, u64)>,
    /// The newest snapshot that is not.
    long_ago: Option<u32>,
}

/// How many tasks have come and gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turnover {
    /// Created.
    pub created: u64,
    /// Ended.
    pub gone: u64,
}

/// What the table holds of one goroutine.
#[derive(Debug)]
struct Entry {
    id: u64,
    parent: u64,
    /// As in [`GoWait`]; 0 where there is none.
    since_ns: u64,
    not_before_ns: u64,
    until_ns: u64,
    /// How long its wait lasts, as far as a timer tells that.
    length: Length,
    /// The snapshot that was the first to see it; 0 if it was there before us.
    first: u32,
    object: Object,
    extra: Option<Box<Extra>>,
    place: u32,
    /// Its wording in `waits`; `None` if it is not blocked in the runtime.
    wait: Option<NonZeroU32>,
    thread: Option<NonZeroU32>,
    status: GoStatus,
    runs: Option<u8>,
    system: bool,
}

/// [`GoObject`] without what many have in common, which is a place in `details`.
#[derive(Debug)]
enum Object {
    None,
    At(u32, u64),
    /// The same, and the place in its queue.
    Queued(u32, u64, QueuePlace),
    Select(Box<[(u32, u64)]>),
    Descriptor(Box<Descriptor>),
}

/// A descriptor that a goroutine waits for.
#[derive(Debug)]
struct Descriptor {
    fd: i32,
    access: Access,
    words: Arc<str>,
    other_ends: Option<Box<OtherEnds>>,
    /// Whether it was described in full in this wait.
    is_described: bool,
}

/// A goroutine that waits for a descriptor.
#[derive(Debug)]
pub struct DescriptorWait<'a> {
    /// Its slot: see [`SLOT_BITS`].
    pub slot: u32,
    /// As in [`GoWait`].
    pub since_ns: u64,
    /// As in [`GoWait`].
    pub not_before_ns: Option<u64>,
    descriptor: &'a mut Descriptor,
}

impl DescriptorWait<'_> {
    /// What is waited for.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject::Fd { fd: self.descriptor.fd, access: self.descriptor.access }
    }

    /// Whether [`Self::set`] was called in this wait.
    #[must_use]
    pub fn is_described(&self) -> bool {
        self.descriptor.is_described
    }

    /// Takes in what it is, and who is at its other end.
    pub fn set(&mut self, words: Option<String>, other_ends: Option<OtherEnds>) {
        if let Some(words) = words {
            self.descriptor.words = words.into();
        }
        self.descriptor.other_ends = other_ends.map(Box::new);
        self.descriptor.is_described = true;
    }
}

/// What is told of an object besides its address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Detail {
    /// The channel's address is 0 here.
    Channel(Channel),
    Sync(&'static str),
}

/// The longest time that was left of a goroutine's waits at one place when they were seen, 31 bits of ms; and whether timers alone
/// have ended those before: then its wait is as old as the first.
#[derive(Clone, Copy, Debug, Default)]
struct Length(u32);

impl Length {
    const IN_SLICES: u32 = 1 << 31;

    fn of(ns: u64, in_slices: bool) -> Self {
        let ms = u32::try_from(ns.div_ceil(1_000_000)).unwrap_or(u32::MAX) & !Self::IN_SLICES;
        Self(if in_slices { ms | Self::IN_SLICES } else { ms })
    }

    fn ns(self) -> u64 {
        u64::from(self.0 & !Self::IN_SLICES) * 1_000_000
    }

    fn slice_ms(self) -> Option<u64> {
        (self.0 & Self::IN_SLICES != 0).then(|| self.ns() / 1_000_000)
    }
}

/// What few goroutines have.
#[derive(Debug, Default, PartialEq)]
struct Extra {
    locked: bool,
    labels: Option<Arc<BTreeMap<String, String>>>,
    ancestors: Option<Arc<[AncestorSample]>>,
    bubble: Option<u64>,
    /// As in [`GoWait`].
    period_ns: Option<u64>,
    holds: Option<Arc<[HeldLock]>>,
}

/// What a wait is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct WaitWords {
    kind: WaitKind,
    reason: Arc<str>,
    forever: bool,
}

/// Where goroutines are, and how many of them, without the runtime's own, are there.
#[derive(Clone, Copy, Debug)]
struct Place {
    creation: Option<StackId>,
    stack: StackId,
    count: u64,
}

/// Which goroutine of a process: each runtime numbers its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoId {
    /// Which runtime, counted from 0.
    pub runtime: u32,
    /// Its number there.
    pub id: u64,
}

/// A goroutine of the table, as whoever reads the table sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live<'a> {
    table: &'a Goroutines,
    slot: u32,
    entry: &'a Entry,
}

impl Goroutines {
    /// An empty table. Goroutines whose wait is older than `min_block_ns` count as parked. `from_start`: the program was watched from
    /// its beginning, so that none is older than us.
    pub(super) fn new(min_block_ns: u64, from_start: bool) -> Self {
        Self {
            chunks: Vec::new(),
            waits: Interned::default(),
            details: Interned::default(),
            places: Vec::new(),
            place_of: HashMap::new(),
            places_left_out: 0,
            ages: Ages { min_block_ns, ..Ages::default() },
            alive: 0,
            system: 0,
            at_first: from_start.then_some(0),
            seen: [Turnover::default(); 2],
            turnover: Turnover::default(),
            now_ns: 0,
            snapshots: 1,
            recent: VecDeque::new(),
            long_ago: None,
        }
    }

    /// To be called when all goroutines of a snapshot are put. `taken_ns` is its moment (`CLOCK_MONOTONIC`), `counted` how many
    /// goroutines have come and gone since watching began as the runtime counts them, its own included; `None` if it does not
    /// tell: then those that were seen to come and go are counted, which are fewer.
    pub fn end_snapshot(&mut self, taken_ns: u64, counted: Option<Turnover>) {
        self.now_ns = taken_ns;
        self.ages.advance(taken_ns);
        if self.at_first.is_none() && counted.is_some_and(|all| all.created > 0) {
            // It counts from the program's start, when there was none of the runtime's own either.
            self.seen(true).created = self.system;
        }
        self.at_first.get_or_insert(self.alive + self.system);
        let [own, system] = self.seen;
        let turnover = counted.map_or(own, |all| Turnover {
            created: all.created.saturating_sub(system.created),
            gone: all.gone.saturating_sub(system.gone),
        });
        self.turnover = Turnover { created: self.turnover.created.max(turnover.created), gone: turnover.gone };
        self.recent.push_back((self.snapshots, taken_ns));
        self.snapshots = self.snapshots.saturating_add(1);
        while let Some(&(number, at_ns)) = self.recent.front()
            && taken_ns.saturating_sub(at_ns) >= self.ages.min_block_ns
        {
            self.long_ago = Some(number);
            self.recent.pop_front();
        }
        let population = usize::try_from(self.alive + self.system).unwrap_or(usize::MAX);
        if self.details.len() > MIN_DETAILS.max(population.saturating_mul(2)) {
            self.drop_unused_details();
        }
        if self.places.len() > MIN_PLACES.max(population.saturating_mul(2).min(MAX_PLACES / 2)) {
            self.drop_unused_places();
        }
    }

    /// Goroutines alive, without the runtime's own.
    #[must_use]
    pub fn alive(&self) -> u64 {
        self.alive
    }

    /// The runtime's own.
    #[must_use]
    pub fn system(&self) -> u64 {
        self.system
    }

    /// How many were parked in the runtime at the last snapshot, without the runtime's own.
    #[must_use]
    pub fn parked(&self) -> u64 {
        self.ages.parked
    }

    /// Created and ended since the first snapshot, without the runtime's own.
    #[must_use]
    pub fn turnover(&self) -> Turnover {
        self.turnover
    }

    /// The moment of the last snapshot, `CLOCK_MONOTONIC`, ns.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// How often where a goroutine is was not kept: there are too many places.
    #[must_use]
    pub fn places_left_out(&self) -> u64 {
        self.places_left_out
    }

    /// How many are where.
    pub(super) fn places(&self) -> impl Iterator<Item = (Key, u64)> {
        self.places.iter().map(|place| ((TaskKind::Goroutine, place.creation, Some(place.stack)), place.count))
    }

    /// How many have these stacks.
    pub(super) fn count_at(&self, creation: Option<StackId>, stack: StackId) -> u64 {
        let place = self.place_of.get(&(creation, stack)).and_then(|&place| self.places.get(place as usize));
        place.map_or(0, |place| place.count)
    }

    /// Those that wait for descriptors.
    pub fn descriptor_waits(&mut self) -> impl Iterator<Item = DescriptorWait<'_>> {
        let chunks = (0..).step_by(CHUNK).zip(&mut self.chunks);
        let slots = chunks.flat_map(|(first, chunk)| (first..).zip(chunk));
        slots.filter_map(|(slot, entry)| {
            let entry = entry.as_mut()?;
            let (since_ns, not_before) = (entry.since_ns, entry.not_before_ns);
            let Object::Descriptor(descriptor) = &mut entry.object else { return None };
            Some(DescriptorWait { slot, since_ns, not_before_ns: (not_before > 0).then_some(not_before), descriptor })
        })
    }

    /// All goroutines, in the order of the runtime's own list.
    pub(super) fn iter(&self) -> impl Iterator<Item = Live<'_>> {
        let chunks = (0..).step_by(CHUNK).zip(&self.chunks);
        let slots = chunks.flat_map(|(first, chunk)| (first..).zip(chunk));
        slots.filter_map(|(slot, entry)| Some(Live { table: self, slot, entry: entry.as_ref()? }))
    }

    fn slot(&mut self, slot: u32) -> Option<&mut Option<Entry>> {
        self.chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)
    }

    fn place(&mut self, creation: Option<StackId>, stack: StackId) -> u32 {
        if let Some(&place) = self.place_of.get(&(creation, stack)) {
            return place;
        }
        if self.places.len() >= MAX_PLACES {
            self.places_left_out += 1;
            return LEFT_OUT;
        }
        self.keep_place(Place { creation, stack, count: 0 })
    }

    fn keep_place(&mut self, place: Place) -> u32 {
        let number = u32::try_from(self.places.len()).unwrap_or(LEFT_OUT);
        self.place_of.insert((place.creation, place.stack), number);
        self.places.push(place);
        number
    }

    fn pack(&mut self, object: GoObject) -> Object {
        let mut channel = |channel: Channel| {
            let detail = self.details.intern(Detail::Channel(Channel { address: 0, ..channel }));
            (detail, channel.address)
        };
        match object {
            GoObject::None => Object::None,
            GoObject::Channel(one) => {
                let (detail, address) = channel(one);
                Object::At(detail, address)
            }
            GoObject::Select(channels) => Object::Select(channels.iter().map(|&one| channel(one)).collect()),
            GoObject::Sync { name, address, queue } => {
                let detail = self.details.intern(Detail::Sync(name));
                queue.map_or(Object::At(detail, address), |place| Object::Queued(detail, address, place))
            }
            GoObject::Descriptor { fd, access, words } => {
                Object::Descriptor(Box::new(Descriptor { fd, access, words, other_ends: None, is_described: false }))
            }
        }
    }

    fn wait(&mut self, wait: &GoWait) -> Option<NonZeroU32> {
        let reason = if self.waits.len() < MAX_WAITS { Arc::clone(&wait.reason) } else { wait.kind.name().into() };
        let words = WaitWords { kind: wait.kind, reason, forever: wait.forever };
        NonZeroU32::new(self.waits.intern(words).saturating_add(1))
    }

    fn seen(&mut self, system: bool) -> &mut Turnover {
        let [own, of_runtime] = &mut self.seen;
        if system { of_runtime } else { own }
    }

    /// Keeps the numbers true: `entry` has come, or is about to go.
    fn count(&mut self, entry: &Entry, comes: bool) {
        let change = |number: &mut u64| *number = if comes { *number + 1 } else { number.saturating_sub(1) };
        if entry.system {
            return change(&mut self.system);
        }
        change(&mut self.alive);
        // In whatever state: those in system calls and C code wait here, too, and who is about to run has not gone away.
        if let Some(place) = self.places.get_mut(entry.place as usize) {
            change(&mut place.count);
        }
        if entry.wait.is_some() {
            self.ages.count(entry.since_ns, comes);
        }
    }

    fn drop_unused_places(&mut self) {
        let old = std::mem::take(&mut self.places);
        self.place_of.clear();
        let mut numbers = vec![LEFT_OUT; old.len()];
        let mut chunks = std::mem::take(&mut self.chunks);
        for entry in chunks.iter_mut().flatten().flatten() {
            let number = entry.place as usize;
            let (Some(&place), Some(number)) = (old.get(number), numbers.get_mut(number)) else { continue };
            if *number == LEFT_OUT {
                *number = self.keep_place(place);
            }
            entry.place = *number;
        }
        self.chunks = chunks;
    }

    fn drop_unused_details(&mut self) {
        let old = std::mem::take(&mut self.details);
        for entry in self.chunks.iter_mut().flatten().flatten() {
            let mut renew = |detail: &mut u32| {
                if let Some(known) = old.get(*detail) {
                    *detail = self.details.intern(known.clone());
                }
            };
            match &mut entry.object {
                Object::At(detail, _) | Object::Queued(detail, ..) => renew(detail),
                Object::Select(channels) => channels.iter_mut().for_each(|(detail, _)| renew(detail)),
                Object::None | Object::Descriptor(_) => {}
            }
        }
    }
}

impl Goroutines {
    /// A wait that follows none.
    fn begun(mut entry: Entry) -> Entry {
        entry.length = Length::of(left_ns(&entry), false);
        entry
    }

    /// `next` as the same goroutine's next slice, if timers alone have woken it since `old`.
    fn continued(&self, old: &Entry, mut next: Entry) -> Entry {
        if (old.place, old.wait) != (next.place, next.wait) || next.place == LEFT_OUT || next.wait.is_none() {
            return Self::begun(next);
        }
        if old.until_ns == next.until_ns && next.until_ns > 0 {
            (next.length, next.since_ns) = (old.length, old.since_ns.min(next.since_ns));
            return next; // the same wait
        }
        let left_ns = left_ns(&next).max(old.length.ns());
        let due = slices::Due {
            was_ns: old.until_ns,
            is_ns: next.until_ns,
            left_ns,
            runs: old.runs.zip(next.runs).map(|(before, now)| now.wrapping_sub(before)),
            only_timers: self.waits_for_timers_alone(&next),
        };
        let Some(slice_ns) = slices::of_goroutine(&due) else {
            return Self::begun(next);
        };
        next.length = Length::of(slice_ns, true);
        (next.since_ns, next.not_before_ns) = (old.since_ns.min(next.since_ns), 0);
        next
    }

    fn waits_for_timers_alone(&self, entry: &Entry) -> bool {
        let is_timer =
            |detail: u32| matches!(self.details.get(detail), Some(Detail::Channel(channel)) if channel.timer);
        let kind = entry.wait.and_then(|wait| self.waits.get(wait.get() - 1)).map(|words| words.kind);
        match &entry.object {
            Object::At(detail, _) => is_timer(*detail),
            Object::Select(channels) => channels.iter().all(|&(detail, _)| is_timer(detail)),
            Object::None | Object::Queued(..) | Object::Descriptor(_) => kind == Some(WaitKind::Sleep),
        }
    }
}

/// How long the wait still lasted when it was first seen, ns; 0 if no timer ends it.
fn left_ns(entry: &Entry) -> u64 {
    entry.until_ns.saturating_sub(entry.since_ns)
}

impl GoroutineSink for Goroutines {
    fn put(&mut self, slot: u32, sample: GoroutineSample) {
        let old = self.slot(slot).and_then(Option::take);
        if let Some(old) = &old {
            self.count(old, false);
            if old.id != sample.id {
                self.seen(old.system).gone += 1;
            }
        }
        let same = old.filter(|old| old.id == sample.id);
        if same.is_none() && self.at_first.is_some() {
            self.seen(sample.system).created += 1;
        }
        let now = if self.at_first.is_none() { 0 } else { self.snapshots };
        let first = same.as_ref().map_or(now, |old| old.first);
        let wait = sample.wait.as_ref();
        let extra = Extra {
            locked: sample.locked,
            labels: sample.labels,
            ancestors: sample.ancestors,
            bubble: sample.bubble,
            holds: sample.holds,
            period_ns: wait.and_then(|wait| wait.period_ns),
        };
        let entry = Entry {
            id: sample.id,
            parent: sample.parent,
            since_ns: wait.map_or(0, |wait| wait.since_ns),
            not_before_ns: wait.and_then(|wait| wait.not_before_ns).unwrap_or(0),
            until_ns: wait.and_then(|wait| wait.until_ns).unwrap_or(0),
            wait: wait.and_then(|wait| self.wait(wait)),
            object: sample.wait.map_or(Object::None, |wait| self.pack(wait.object)),
            extra: (extra != Extra::default()).then(|| Box::new(extra)),
            place: self.place(sample.creation, sample.stack),
            thread: sample.thread.and_then(NonZeroU32::new),
            status: sample.status,
            runs: sample.runs,
            length: Length::default(),
            first,
            system: sample.system,
        };
        let entry = match same {
            Some(old) => self.continued(&old, entry),
            None => Self::begun(entry),
        };
        self.count(&entry, true);
        while self.chunks.len() <= slot as usize / CHUNK {
            self.chunks.push(Vec::new());
        }
        if let Some(chunk) = self.chunks.get_mut(slot as usize / CHUNK) {
            if chunk.is_empty() {
                chunk.resize_with(CHUNK, || None);
            }
            if let Some(place) = chunk.get_mut(slot as usize % CHUNK) {
                *place = Some(entry);
            }
        }
    }

    fn set_object(&mut self, slot: u32, object: GoObject) {
        let mut object = self.pack(object);
        if let Some(Some(entry)) = self.slot(slot) {
            // It is in the same wait.
            if let (Object::Descriptor(old), Object::Descriptor(new)) = (&mut entry.object, &mut object)
                && old.fd == new.fd
            {
                (new.other_ends, new.is_described) = (old.other_ends.take(), old.is_described);
            }
            entry.object = object;
        }
    }

    fn set_timer(&mut self, slot: u32, until_ns: Option<u64>, period_ns: Option<u64>) {
        if let Some(Some(entry)) = self.slot(slot) {
            entry.until_ns = until_ns.unwrap_or(0);
            if let Some(extra) = &mut entry.extra {
                extra.period_ns = period_ns;
            } else if period_ns.is_some() {
                entry.extra = Some(Box::new(Extra { period_ns, ..Extra::default() }));
            }
        }
    }

    fn set_queue(&mut self, slot: u32, place: Option<QueuePlace>) {
        if let Some(Some(entry)) = self.slot(slot)
            && let Object::At(detail, address) | Object::Queued(detail, address, _) = entry.object
        {
            entry.object = place.map_or(Object::At(detail, address), |place| Object::Queued(detail, address, place));
        }
    }

    fn remove(&mut self, slot: u32) {
        if let Some(old) = self.slot(slot).and_then(Option::take) {
            self.count(&old, false);
            self.seen(old.system).gone += 1;
        }
    }
}

impl<'a> Live<'a> {
    pub(super) fn id(self) -> u64 {
        self.entry.id
    }

    pub(super) fn go_id(self) -> GoId {
        GoId { runtime: self.runtime(), id: self.id() }
    }

    pub(super) fn runtime(self) -> u32 {
        self.slot >> SLOT_BITS
    }

    pub(super) fn parent(self) -> u64 {
        self.entry.parent
    }

    pub(super) fn status(self) -> GoStatus {
        self.entry.status
    }

    pub(super) fn is_system(self) -> bool {
        self.entry.system
    }

    pub(super) fn is_locked(self) -> bool {
        self.entry.extra.as_ref().is_some_and(|extra| extra.locked)
    }

    /// Whether it is new: created while we watched. `Some(true)` if it has been there for at least the threshold since.
    pub(super) fn is_new(self) -> Option<bool> {
        let is_old = self.table.long_ago.is_some_and(|snapshot| self.entry.first <= snapshot);
        (self.entry.first > 0).then_some(is_old)
    }

    pub(super) fn thread(self) -> Option<u32> {
        self.entry.thread.map(NonZeroU32::get)
    }

    /// The number of its place: equal for all that have the same stacks.
    pub(super) fn place(self) -> u32 {
        self.entry.place
    }

    /// Whether its stacks were not kept: then it has none.
    pub(super) fn is_place_left_out(self) -> bool {
        self.entry.place == LEFT_OUT
    }

    pub(super) fn creation(self) -> Option<StackId> {
        self.table.places.get(self.entry.place as usize).and_then(|place| place.creation)
    }

    pub(super) fn stack(self) -> Option<StackId> {
        self.table.places.get(self.entry.place as usize).map(|place| place.stack)
    }

    pub(super) fn labels(self) -> Option<&'a Arc<BTreeMap<String, String>>> {
        self.entry.extra.as_ref().and_then(|extra| extra.labels.as_ref())
    }

    pub(super) fn ancestors(self) -> &'a [AncestorSample] {
        self.entry.extra.as_ref().and_then(|extra| extra.ancestors.as_deref()).unwrap_or_default()
    }

    pub(super) fn bubble(self) -> Option<u64> {
        self.entry.extra.as_ref().and_then(|extra| extra.bubble)
    }

    pub(super) fn holds(self) -> Option<&'a Arc<[HeldLock]>> {
        self.entry.extra.as_ref().and_then(|extra| extra.holds.as_ref())
    }

    /// Its wait, if it is blocked in the runtime, without the object.
    pub(super) fn wait(self) -> Option<RuntimeWait<'a>> {
        let words = self.table.waits.get(self.entry.wait?.get() - 1)?;
        let some = |ns: u64| (ns > 0).then_some(ns);
        Some(RuntimeWait {
            kind: words.kind,
            reason: &words.reason,
            forever: words.forever,
            since_ns: self.entry.since_ns,
            not_before_ns: some(self.entry.not_before_ns),
            until_ns: some(self.entry.until_ns),
            period_ns: self.entry.extra.as_ref().and_then(|extra| extra.period_ns),
            slice_ms: self.entry.length.slice_ms(),
        })
    }

    /// What it waits on.
    pub(super) fn object(self) -> GoObject {
        let detail = |detail: u32, address: u64| match self.table.details.get(detail) {
            Some(Detail::Channel(channel)) => GoObject::Channel(Channel { address, ..*channel }),
            Some(Detail::Sync(name)) => GoObject::Sync { name, address, queue: None },
            None => GoObject::None,
        };
        match &self.entry.object {
            Object::None => GoObject::None,
            &Object::At(place, address) => detail(place, address),
            &Object::Queued(place, address, of) => match detail(place, address) {
                GoObject::Sync { name, address, .. } => GoObject::Sync { name, address, queue: Some(of) },
                other => other,
            },
            Object::Select(channels) => {
                let channel = |&(place, address): &(u32, u64)| match detail(place, address) {
                    GoObject::Channel(channel) => Some(channel),
                    _ => None,
                };
                GoObject::Select(channels.iter().filter_map(channel).collect())
            }
            Object::Descriptor(of) => {
                GoObject::Descriptor { fd: of.fd, access: of.access, words: Arc::clone(&of.words) }
            }
        }
    }

    /// Who is at the other end of the descriptor that it waits for.
    pub(super) fn other_ends(self) -> Option<&'a OtherEnds> {
        match &self.entry.object {
            Object::Descriptor(of) => of.other_ends.as_deref(),
            _ => None,
        }
    }
}

/// [`GoWait`] without its object, which is made only for those goroutines that are told one by one.
#[derive(Clone, Copy, Debug)]
pub(super) struct RuntimeWait<'a> {
    pub(super) kind: WaitKind,
    pub(super) reason: &'a Arc<str>,
    pub(super) forever: bool,
    pub(super) since_ns: u64,
    pub(super) not_before_ns: Option<u64>,
    pub(super) until_ns: Option<u64>,
    pub(super) period_ns: Option<u64>,
    /// As [`crate::model::Wait::slice_ms`]; `since_ns` is that of the first slice.
    pub(super) slice_ms: Option<u64>,
}

/// How many waits are older than the threshold, without looking at each: those that are not yet wait in the order in which they
/// will be.
#[derive(Debug, Default)]
struct Ages {
    min_block_ns: u64,
    parked: u64,
    /// Waits that began up to this moment are in `parked`; `None` until there can be any.
    parked_until_ns: Option<u64>,
    /// How many of the others began at which moment.
    younger: BTreeMap<u64, u64>,
}

impl Ages {
    fn count(&mut self, since_ns: u64, comes: bool) {
        if self.parked_until_ns.is_some_and(|until| since_ns <= until) {
            self.parked = if comes { self.parked + 1 } else { self.parked.saturating_sub(1) };
        } else if comes {
            *self.younger.entry(since_ns).or_default() += 1;
        } else if let Some(count) = self.younger.get_mut(&since_ns) {
            *count -= 1;
            if *count == 0 {
                self.younger.remove(&since_ns);
            }
        }
    }

    fn advance(&mut self, now_ns: u64) {
        let Some(until) = now_ns.checked_sub(self.min_block_ns) else {
            return;
        };
        let until = self.parked_until_ns.map_or(until, |before| before.max(until));
        while let Some(first) = self.younger.first_entry().filter(|first| *first.key() <= until) {
            self.parked += first.remove();
        }
        self.parked_until_ns = Some(until);
    }
}

/// Holds each distinct value once.
#[derive(Debug)]
struct Interned<T> {
    places: HashMap<T, u32>,
    values: Vec<T>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self { places: HashMap::new(), values: Vec::new() }
    }
}

impl<T: Clone + Eq + Hash> Interned<T> {
    fn intern(&mut self, value: T) -> u32 {
        if let Some(&place) = self.places.get(&value) {
            return place;
        }
        let place = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        self.values.push(value.clone());
        self.places.insert(value, place);
        place
    }

    fn get(&self, place: u32) -> Option<&T> {
        self.values.get(place as usize)
    }

    fn len(&self) -> usize {
        self.values.len()
    }
}

#[cfg(test)]
#[path = "goroutines_tests.rs"]
mod tests;
