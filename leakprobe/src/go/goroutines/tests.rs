//! The engine against memory that is made up, and that changes while it is read.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::Instant,
};

use proptest::prelude::*;

use super::*;
use crate::{
    go::{Code, Layout, Version},
    model::{GoObject, GoroutineSample, QueuePlace, StackEnd},
    target::Budget,
};

const ALLGS: u64 = 0x50_0000;
const LIST: u64 = 0xc000_0000_0000 - 0x1000_0000;
const GS: u64 = 0xc0_0000_0000;
const STACKS: u64 = 0xc1_0000_0000;
const SUDOG: u64 = 0xc2_0000_0000;
const CHAN: u64 = 0xc3_0000_0000;
const WAITING: u64 = 4;
/// The read that follows that of the first `g`: before come the length of the list, the list itself and twice its address.
const AFTER_G: u64 = 6;

/// From this read on it is as that makes it.
type Change = (u64, Box<dyn Fn(&Target)>);

/// Memory by words. Everything at which nothing was put is unreadable.
#[derive(Default)]
struct Target {
    words: RefCell<BTreeMap<u64, u64>>,
    reads: Cell<u64>,
    /// What happens at which read.
    then: RefCell<Vec<Change>>,
}

impl Memory for Target {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        self.reads.set(self.reads.get() + 1);
        let due = |then: &mut Change| self.reads.get() >= then.0;
        let now: Vec<_> = self.then.borrow_mut().extract_if(.., due).collect();
        now.iter().for_each(|(_, change)| change(self));
        let words = self.words.borrow();
        let word = |at: u64| words.get(&(at & !7)).map(|word| word.to_le_bytes()[(at & 7) as usize]);
        for (at, byte) in (address..).zip(into.iter_mut()) {
            match word(at) {
                Some(known) => *byte = known,
                None => return (at - address) as usize,
            }
        }
        into.len()
    }
}

impl Target {
    fn put(&self, address: u64, words: &[u64]) {
        self.words.borrow_mut().extend((address..).step_by(8).zip(words.iter().copied()));
    }

    fn at_read(&self, number: u64, change: impl Fn(&Self) + 'static) {
        self.then.borrow_mut().push((number, Box::new(change)));
    }

    /// Puts a goroutine into a slot of the list, which grows with it.
    fn goroutine(&self, slot: u64, id: u64, status: u64, reason: u64) {
        let layout = layout();
        let g = g_at(slot);
        let (lo, hi) = (STACKS + slot * 4096, STACKS + slot * 4096 + 2048);
        if !self.words.borrow().contains_key(&g) {
            self.put(g, &[0; 64]);
            self.put(lo, &[0; 256]);
        }
        let fields = [
            (layout.g.stack_lo, lo),
            (layout.g.stack_hi, hi),
            (layout.g.sched_sp, hi - 64),
            (layout.g.sched_pc, 0x40_1000),
            (layout.g.atomicstatus, status),
            (layout.g.goid, id),
            (layout.g.waitreason, reason),
        ];
        fields.iter().for_each(|&(offset, value)| self.put(g + u64::from(offset), &[value]));
        self.put(LIST + 8 * slot, &[g]);
        let len = self.words.borrow().get(&(ALLGS + 8)).copied().unwrap_or(0);
        self.put(ALLGS, &[LIST, len.max(slot + 1), 1 << 20]);
    }

    fn field(&self, slot: u64, offset: u16, value: u64) {
        self.put(g_at(slot) + u64::from(offset), &[value]);
    }

    /// Lets a goroutine wait on a channel, by the sudog of this number. `next` is that of the next one in its select.
    fn waits_on(&self, slot: u64, number: u64, channel: u64, next: Option<u64>) {
        let layout = layout();
        let sudog = SUDOG + number * 128;
        self.put(sudog, &[0; 16]);
        self.put(sudog + u64::from(layout.sudog.g), &[g_at(slot)]);
        self.put(sudog + u64::from(layout.sudog.c), &[channel]);
        self.put(sudog + u64::from(layout.sudog.waitlink), &[next.map_or(0, |next| SUDOG + next * 128)]);
    }

    /// Puts a channel, and those that wait to receive from it or to send to it, by the numbers of their sudogs.
    fn channel(&self, address: u64, receivers: &[u64], senders: &[u64]) {
        let layout = layout();
        self.put(address, &[0; 16]);
        self.put(address + u64::from(layout.hchan.dataqsiz), &[3]);
        for (queue, sudogs) in [(layout.hchan.recvq, receivers), (layout.hchan.sendq, senders)] {
            let at = |number: Option<&u64>| number.map_or(0, |number| SUDOG + number * 128);
            self.put(address + u64::from(queue), &[at(sudogs.first()), at(sudogs.last())]);
            for pair in sudogs.windows(2) {
                self.put(at(pair.first()) + u64::from(layout.sudog.next), &[at(pair.last())]);
            }
        }
    }
}

fn g_at(slot: u64) -> u64 {
    GS + slot * 512
}

fn layout() -> Layout {
    Layout::of(&Version::parse("go1.27.3").unwrap()).unwrap()
}

pub(super) fn engine() -> Goroutines {
    let reasons = ["", "chan receive", "select", "sync.Mutex.Lock", "select (no cases)", "sleep", "IO wait"];
    let runtime = Runtime {
        version: Version::parse("go1.27.3").unwrap(),
        layout: layout(),
        code: Arc::new(Code::new(Vec::new())),
        allgs: ALLGS,
        allm: None,
        scheduler: None,
        bss: 0..0,
        reasons: reasons.into_iter().map(Arc::from).collect(),
        gaps: Vec::new(),
    };
    Goroutines::new(std::process::id(), runtime, Arc::default())
}

/// Nothing may be kept besides stacks and waits.
fn no_room() -> Costs {
    let costs = Costs::default();
    for room in [&costs.label_bytes, &costs.ancestor_bytes] {
        room.take_up_to(u64::MAX);
    }
    costs
}

/// Keeps what it is told.
#[derive(Default)]
struct Sink {
    all: BTreeMap<u32, GoroutineSample>,
    told: Vec<&'static str>,
}

impl GoroutineSink for Sink {
    fn put(&mut self, slot: u32, sample: GoroutineSample) {
        self.told.push("put");
        self.all.insert(slot, sample);
    }

    fn set_object(&mut self, slot: u32, object: GoObject) {
        self.told.push("set");
        self.all.get_mut(&slot).unwrap().wait.as_mut().unwrap().object = object;
    }

    fn set_timer(&mut self, slot: u32, until_ns: Option<u64>, period_ns: Option<u64>) {
        let wait = self.all.get_mut(&slot).unwrap().wait.as_mut().unwrap();
        (wait.until_ns, wait.period_ns) = (until_ns, period_ns);
    }

    fn set_queue(&mut self, slot: u32, place: Option<QueuePlace>) {
        self.told.push("queue");
        if let GoObject::Sync { queue, .. } = &mut self.all.get_mut(&slot).unwrap().wait.as_mut().unwrap().object {
            *queue = place;
        }
    }

    fn remove(&mut self, slot: u32) {
        self.told.push("remove");
        self.all.remove(&slot);
    }
}

impl Sink {
    fn object(&self, slot: u32) -> &GoObject {
        &self.all[&slot].wait.as_ref().unwrap().object
    }

    fn take(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.told)
    }
}

#[test]
fn a_run_that_is_over_reads_the_first_and_keeps_what_was_seen() {
    let (target, mut engine, budget) = (Target::default(), engine(), Budget::default());
    let (mut stacks, mut sink) = (StackTable::default(), Sink::default());
    engine.costs = Arc::new(Costs::new(budget.clone()));
    let first = costs::READ_AT_LEAST as u64;
    (0..first + 5).for_each(|slot| target.goroutine(slot, slot + 1, WAITING, 1));
    assert_eq!(engine.snapshot(&target, &mut stacks, &mut sink).unwrap().alive, first + 5);
    budget.end_at(Instant::now());
    assert!(!engine.costs.is_over(costs::READ_AT_LEAST), "there is time for a last look");
    while !engine.costs.is_over(costs::READ_AT_LEAST) {
        std::thread::sleep(Duration::from_millis(10));
    }
    target.goroutine(first + 5, first + 6, WAITING, 1);
    let summary = engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
    assert_eq!((summary.alive, summary.ever, sink.all.len() as u64), (first, None, first + 5));
    assert_eq!((engine.losses().not_read, engine.losses().left_out), (6, 0));
}

/// On a busy machine its threads may come late: what a few goroutines wait on is no less than the truth.
#[test]
fn a_run_that_is_over_reads_all_of_a_few() {
    let (target, mut engine, budget) = (Target::default(), engine(), Budget::default());
    let (mut stacks, mut sink) = (StackTable::default(), Sink::default());
    engine.costs = Arc::new(Costs::new(budget.clone()));
    budget.end_at(Instant::now());
    while !engine.costs.is_over(costs::READ_AT_LEAST) {
        std::thread::sleep(Duration::from_millis(10));
    }
    target.goroutine(0, 1, WAITING, 1);
    target.field(0, layout().g.waiting, SUDOG);
    target.waits_on(0, 0, CHAN, None);
    target.channel(CHAN, &[0], &[]);
    assert_eq!(engine.snapshot(&target, &mut stacks, &mut sink).unwrap().alive, 1);
    target.put(CHAN + u64::from(layout().hchan.closed & !7), &[1 << (8 * (layout().hchan.closed % 8))]);
    sink.take();
    engine.refresh_objects(&target, &mut sink).unwrap();
    assert_eq!(sink.take(), ["set"], "its channel was closed, though it has not run");
}

#[test]
fn runtimes_of_one_process_share_what_a_snapshot_may_cost() {
    let (target, mut first, mut second) = (Target::default(), engine(), engine());
    let (mut stacks, mut sink) = (StackTable::default(), Sink::default());
    second.costs = Arc::clone(&first.costs);
    (0..5).for_each(|slot| target.goroutine(slot, slot + 1, WAITING, 1));
    let costs = Arc::clone(&first.costs);
    let mut look = |engine: &mut Goroutines| {
        let summary = engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
        (summary.alive, summary.left_out)
    };
    costs.slots.take(costs.slots.left() - 8);
    assert_eq!([look(&mut first), look(&mut second)], [(5, 0), (3, 2)]);
    costs.begin_snapshot();
    assert_eq!([look(&mut second), look(&mut first)], [(5, 0), (5, 0)]);
    // There is less room than there was: what is not looked at is not listed either.
    costs.begin_snapshot();
    costs.slots.take(costs.slots.left() - 4);
    assert_eq!((look(&mut first), first.records.len()), ((4, 1), 4));
    assert_eq!(sink.all.len(), 4);
}

#[test]
fn a_list_that_becomes_shorter_is_another_one() {
    let (target, mut engine, mut sink) = (Target::default(), engine(), Sink::default());
    (0..5).for_each(|slot| target.goroutine(slot, slot + 1, WAITING, 1));
    assert_eq!(engine.snapshot(&target, &mut StackTable::default(), &mut sink).unwrap().alive, 5);
    target.put(ALLGS + 8, &[3]);
    let shrunk = engine.snapshot(&target, &mut StackTable::default(), &mut sink);
    assert_eq!((shrunk, sink.all.len()), (Err(ReadError::Shrunk(ALLGS)), 5));
    // The right one is elsewhere, and may be shorter.
    let list = ALLGS + 0x100;
    target.put(list, &[LIST, 3]);
    engine.update(Runtime { allgs: list, ..engine.runtime().clone() });
    assert_eq!(engine.snapshot(&target, &mut StackTable::default(), &mut sink).unwrap().alive, 3);
    assert_eq!(sink.all.len(), 3);
}

#[test]
fn what_has_not_run_is_told_once_and_what_has_ended_is_removed() {
    let (target, mut engine) = (Target::default(), engine());
    let (mut stacks, mut sink) = (StackTable::default(), Sink::default());
    target.goroutine(0, 1, WAITING, 4);
    target.goroutine(1, 2, WAITING, 5);
    let summary = engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
    assert_eq!((summary.alive, summary.of(GoStatus::Waiting), summary.ever), (2, 2, None));
    let first = sink.all[&0].clone();
    assert!(first.wait.as_ref().unwrap().forever);
    assert_eq!(first.wait.unwrap().not_before_ns, None, "it may have waited for long");
    assert_eq!(sink.take(), ["put", "put"]);
    engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
    assert_eq!(sink.take(), [""; 0]);
    // The slot of the second is used again: that is another goroutine, which cannot have waited for longer than we watch.
    target.goroutine(1, 77, WAITING, 5);
    engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
    assert_eq!((sink.take(), sink.all[&1].id), (vec!["put"], 77));
    assert!(sink.all[&1].wait.as_ref().unwrap().not_before_ns.is_some());
    for (status, alive) in [(6, 1), (6, 1)] {
        target.goroutine(1, 77, status, 0);
        assert_eq!(engine.snapshot(&target, &mut stacks, &mut sink).unwrap().alive, alive);
    }
    assert_eq!(sink.take(), ["remove"]);
}

#[test]
fn a_wait_goes_on_when_its_stack_is_moved_and_begins_anew_when_it_has_run() {
    let (target, mut engine) = (Target::default(), engine());
    let (mut stacks, mut sink) = (StackTable::default(), Sink::default());
    let g = layout().g;
    target.goroutine(0, 1, WAITING, 5);
    engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
    let since = sink.all[&0].wait.as_ref().unwrap().since_ns;
    // Shrunk by the garbage collector: as deep as before, elsewhere.
    target.put(STACKS + 0x10_0000, &[0; 256]);
    target.field(0, g.stack_lo, STACKS + 0x10_0000);
    target.field(0, g.stack_hi, STACKS + 0x10_0800);
    target.field(0, g.sched_sp, STACKS + 0x10_0800 - 64);
    engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
    let moved = sink.all[&0].wait.clone().unwrap();
    assert_eq!((sink.take().len(), moved.since_ns, moved.not_before_ns), (2, since, None));
    target.field(0, g.tracking_seq.unwrap() & !7, 0x0101_0101_0101_0101);
    engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
    let anew = sink.all[&0].wait.clone().unwrap();
    assert!(anew.since_ns > since && anew.not_before_ns.is_some_and(|at| at >= since), "{anew:?}");
}

#[test]
fn one_that_runs_at_every_look_is_unstable_and_one_that_settles_is_not() {
    for (changes, end) in [(1, StackEnd::NoUnwindInfo), (200, StackEnd::Unstable)] {
        let (target, mut engine) = (Target::default(), engine());
        let (mut stacks, mut sink) = (StackTable::default(), Sink::default());
        target.goroutine(0, 1, WAITING, 5);
        for n in 0..changes {
            target.at_read(AFTER_G + n, move |target| target.field(0, layout().g.sched_pc, 0x40_2000 + n));
        }
        engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
        assert_eq!(stacks.get(sink.all[&0].stack).unwrap().end, end);
        assert_eq!(engine.losses().unstable, u64::from(end == StackEnd::Unstable));
        assert_eq!(sink.take(), ["put"]);
    }
}

#[test]
fn a_stack_and_a_g_of_two_goroutines_are_never_mixed() {
    let (target, mut engine) = (Target::default(), engine());
    let (mut stacks, mut sink) = (StackTable::default(), Sink::default());
    target.goroutine(0, 1, WAITING, 5);
    target.at_read(AFTER_G, |target| target.goroutine(0, 2, WAITING, 4));
    engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
    let sample = &sink.all[&0];
    assert_eq!((sample.id, &*sample.wait.as_ref().unwrap().reason), (2, "select (no cases)"));
}

#[test]
fn waiters_of_a_channel_are_counted_with_those_in_selects() {
    let (target, mut engine) = (Target::default(), engine());
    let (mut stacks, mut sink) = (StackTable::default(), Sink::default());
    let other = CHAN + 0x1000;
    for slot in 0..3 {
        target.goroutine(slot, slot + 1, WAITING, if slot == 2 { 2 } else { 1 });
        target.field(slot, layout().g.waiting, SUDOG + slot * 128);
    }
    target.waits_on(0, 0, CHAN, None);
    target.waits_on(1, 1, CHAN, None);
    target.waits_on(2, 2, CHAN, Some(3));
    target.waits_on(2, 3, other, None);
    target.channel(CHAN, &[0, 1, 2], &[]);
    target.channel(other, &[], &[3]);
    engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
    let GoObject::Channel(channel) = sink.object(0) else { panic!("{:?}", sink.object(0)) };
    assert_eq!((channel.address, channel.cap, channel.receivers, channel.send), (CHAN, 3, 3, Some(false)));
    let GoObject::Select(channels) = sink.object(2) else { panic!("{:?}", sink.object(2)) };
    let told: Vec<_> = channels.iter().map(|channel| (channel.send, channel.receivers, channel.senders)).collect();
    assert_eq!(told, [(Some(false), 3, 0), (Some(true), 0, 1)]);
    // Closed meanwhile, as none of them has noticed yet.
    sink.take();
    engine.refresh_objects(&target, &mut sink).unwrap();
    assert_eq!(sink.take(), [""; 0]);
    target.put(CHAN + u64::from(layout().hchan.closed & !7), &[1 << (8 * (layout().hchan.closed % 8))]);
    engine.refresh_objects(&target, &mut sink).unwrap();
    assert_eq!(sink.take(), ["set", "set", "set"]);
}

#[test]
fn lists_that_go_round_come_to_an_end() {
    let (target, mut engine) = (Target::default(), engine());
    let (mut stacks, mut sink) = (StackTable::default(), Sink::default());
    target.goroutine(0, 1, WAITING, 2);
    target.field(0, layout().g.waiting, SUDOG);
    target.waits_on(0, 0, CHAN, Some(1));
    target.waits_on(0, 1, CHAN, Some(0));
    target.channel(CHAN, &[0, 1, 0, 2], &[]);
    target.waits_on(0, 2, CHAN, None);
    target.put(SUDOG + u64::from(layout().sudog.next), &[SUDOG + 128]);
    target.put(SUDOG + 128 + u64::from(layout().sudog.next), &[SUDOG]);
    engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
    assert!(engine.losses().channels_cut > 0);
}

#[test]
fn absurd_lengths_and_a_process_that_ends_are_told() {
    let (target, mut engine) = (Target::default(), engine());
    let (mut stacks, mut sink) = (StackTable::default(), Sink::default());
    assert_eq!(engine.snapshot(&target, &mut stacks, &mut sink), Err(ReadError::List(ALLGS)));
    target.goroutine(0, 1, WAITING, 5);
    target.put(ALLGS, &[LIST, u64::MAX, u64::MAX]);
    assert_eq!(engine.snapshot(&target, &mut stacks, &mut sink), Err(ReadError::List(ALLGS)));
    assert!(engine.losses().left_out > 0);
    assert!(engine.records.is_empty(), "nothing is set aside for a list that is not there");
    // Ends in the midst.
    target.put(ALLGS, &[LIST, 1, 1]);
    target.at_read(0, |target| target.words.borrow_mut().clear());
    assert_eq!(engine.snapshot(&target, &mut stacks, &mut sink), Err(ReadError::List(ALLGS)));
}

#[test]
fn a_list_that_leads_nowhere_is_not_followed_to_its_end() {
    let (target, mut engine) = (Target::default(), engine());
    let (mut stacks, mut sink) = (StackTable::default(), Sink::default());
    let nowhere: Vec<u64> = (1..2 * costs::UNREAD).map(|n| n << 12).collect();
    let len = nowhere.len() as u64 + 1;
    target.put(LIST + 8, &nowhere);
    target.goroutine(0, 1, WAITING, 5);
    target.put(ALLGS, &[LIST, len, len]);
    let summary = engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
    let (unreadable, left_out) = (engine.losses().unreadable, engine.losses().left_out);
    assert!((costs::UNREAD..costs::UNREAD + CHUNK as u64).contains(&unreadable), "{unreadable}");
    assert_eq!((summary.alive, summary.left_out, 1 + unreadable + left_out), (1, left_out, len));
    // What is read of it later may have been there all the time.
    let last = len - 1;
    target.put(ALLGS, &[LIST, len, len]);
    target.put(LIST + 8, &vec![0; nowhere.len()]);
    target.goroutine(last, 2, WAITING, 5);
    engine.costs.begin_snapshot();
    engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
    let late = sink.all[&(last as u32)].wait.clone().unwrap();
    assert_eq!(late.not_before_ns, None);
}

#[test]
fn a_goroutine_that_is_listed_twice_is_one() {
    let (target, mut engine) = (Target::default(), engine());
    let (mut stacks, mut sink) = (StackTable::default(), Sink::default());
    target.goroutine(0, 1, WAITING, 5);
    target.put(LIST + 8, &vec![g_at(0); 2 * costs::UNREAD as usize]);
    let len = 2 * costs::UNREAD + 1;
    target.put(ALLGS, &[LIST, len, len]);
    for _ in 0..2 {
        engine.costs.begin_snapshot();
        let summary = engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
        assert_eq!((summary.alive, summary.left_out, summary.ever), (1, len - 1, None));
    }
    assert_eq!(sink.all.len(), 1);
}

#[test]
fn what_has_no_number_is_no_goroutine() {
    let (target, mut engine) = (Target::default(), engine());
    (0..3).for_each(|slot| target.goroutine(slot, slot, slot, 0));
    let summary = engine.snapshot(&target, &mut StackTable::default(), &mut Sink::default()).unwrap();
    assert_eq!((summary.alive, summary.of(GoStatus::Idle)), (2, 0));
}

#[test]
fn the_list_grows_while_it_is_read() {
    let (target, mut engine) = (Target::default(), engine());
    let (mut stacks, mut sink) = (StackTable::default(), Sink::default());
    target.goroutine(0, 1, WAITING, 5);
    // After its place was read it moves, and what was there is no longer a list.
    target.at_read(3, |target| {
        target.put(LIST + 0x1000, &[g_at(0)]);
        target.put(ALLGS, &[LIST + 0x1000, 1, 2]);
        target.put(LIST, &[0xdead_beef]);
    });
    engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
    assert_eq!(sink.all[&0].id, 1);
}

proptest! {
    /// Whatever the memory holds, and wherever its pointers lead, a snapshot comes to an end, and the next one, too.
    #[test]
    fn hostile_memory_is_survived(
        values in prop::collection::vec(
            prop_oneof![any::<u64>(), 0..16u64, (0..64u64).prop_map(|n| GS + 8 * n), (0..64u64).prop_map(|n| STACKS + 8 * n)],
            192,
        ),
        slots in 0..5u64,
    ) {
        let (target, mut engine) = (Target::default(), engine());
        let (mut stacks, mut sink) = (StackTable::default(), Sink::default());
        target.put(GS, &values);
        target.put(STACKS, &values);
        target.put(LIST, &[GS, GS + 64, STACKS, GS + 512, u64::MAX - 4]);
        target.put(ALLGS, &[LIST, slots, slots]);
        for _ in 0..2 {
            engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
            engine.refresh_objects(&target, &mut sink).unwrap();
            engine.pending_timers(&target, &mut stacks);
            prop_assert!(engine.confirm_syscalls(&target).len() as u64 <= slots);
        }
    }
}

#[test]
fn what_there_is_too_much_of_is_left_out_and_counted() {
    let (target, mut engine) = (Target::default(), engine());
    let (mut stacks, mut sink) = (StackTable::default(), Sink::default());
    let set = 0xc4_0000_0000;
    target.put(set, &[set + 16, 1, set + 48, 8, set + 48, 8, u64::from_le_bytes(*b"requests")]);
    for slot in 0..2 {
        target.goroutine(slot, slot + 1, WAITING, 5);
        target.field(slot, layout().g.labels, set);
    }
    engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
    assert!(
        sink.all.values().all(|sample| sample.labels.as_ref().is_some_and(|labels| labels["requests"] == "requests"))
    );
    assert_eq!(engine.losses().details_left_out, 0);
    engine.labels = Labels::new(&no_room());
    (0..2).for_each(|slot| target.goroutine(slot, slot + 11, WAITING, 5));
    engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
    assert!(sink.all.values().all(|sample| sample.labels.is_none()));
    assert_eq!(engine.losses().details_left_out, 2);
}

#[test]
fn deep_stacks_are_read_as_far_as_the_snapshot_may() {
    let (target, mut engine) = (Target::default(), engine());
    let (mut stacks, mut sink) = (StackTable::default(), Sink::default());
    engine.unwinder.know(0x40_1000, 24);
    let mut depth = |engine: &mut Goroutines, id| {
        target.goroutine(0, id, WAITING, 1);
        target.field(0, layout().g.sched_sp, STACKS);
        target.put(STACKS, &[0x40_1000; 256]);
        engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
        let stack = stacks.get(sink.all[&0].stack).unwrap();
        (stack.addresses.len(), stack.end)
    };
    let left = engine.costs.stack_bytes.left();
    assert_eq!(depth(&mut engine, 1), (65, StackEnd::NoUnwindInfo));
    assert_eq!(left - engine.costs.stack_bytes.left(), 2048);
    engine.costs.stack_bytes.take_up_to(left);
    assert_eq!(depth(&mut engine, 2), (17, StackEnd::TooDeep), "what is read at first");
    assert_eq!(engine.losses().too_deep, 1);
}

#[test]
fn equal_ancestors_are_held_once_and_too_many_are_left_out_and_counted() {
    let (target, mut engine) = (Target::default(), engine());
    let (mut stacks, mut sink) = (StackTable::default(), Sink::default());
    let layout = layout();
    let (infos, pcs, count) = (0xc4_0001_0000, 0xc4_0002_0000, 200);
    target.put(pcs, &vec![0x40_1000; count as usize]);
    target.put(infos, &[0; 64]);
    for n in 0..2 {
        let info = infos + n * u64::from(layout.ancestor.size);
        target.put(info + u64::from(layout.ancestor.pcs), &[pcs, count]);
        target.put(info + u64::from(layout.ancestor.goid), &[n + 5]);
        target.put(info + u64::from(layout.ancestor.gopc), &[0x40_2000]);
    }
    let mut look = |engine: &mut Goroutines, round: u64| {
        for slot in 0..2 {
            target.goroutine(slot, 10 * round + slot, WAITING, 5);
            // As the runtime has it: each goroutine has a list of its own.
            let list = 0xc4_0000_0000 + slot * 64;
            target.put(list, &[infos, 2, 2]);
            target.field(slot, layout.g.ancestors, list);
        }
        engine.snapshot(&target, &mut stacks, &mut sink).unwrap();
        (sink.all[&0].ancestors.clone(), sink.all[&1].ancestors.clone())
    };
    let (first, second) = look(&mut engine, 1);
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(first.iter().map(|one| one.id).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(engine.losses().details_left_out, 0);
    engine.ancestors = Ancestors::new(&no_room());
    assert_eq!((look(&mut engine, 2), engine.losses().details_left_out), ((None, None), 2));
    let costs = Costs::default();
    costs.ancestors_read.take(costs.ancestors_read.left() - 1);
    let mut ancestors = Ancestors::new(&costs);
    let mut at = |address| ancestors.at(&layout.ancestor, &target, address, &mut StackTable::default()).is_ok();
    assert_eq!((at(0xc4_0000_0000), at(0xc4_0000_0040), at(0)), (true, false, true));
}
