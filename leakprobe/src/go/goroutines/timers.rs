//! What the runtime's timers are for: which of them fill which channels, and which are pending though no goroutine waits.
//!
//! Since Go 1.23 a channel leads to its timer, which is in a heap only while a goroutine waits. Before, and in programs that ask
//! for the old ways (`GODEBUG=asynctimerchan=1`, or an old `go` line in go.mod), the timer leads to the channel, and only
//! the heaps lead to the timer.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::{Duration, Instant},
};

use super::{
    batch::Batch,
    clock::Clock,
    contexts::Contexts,
    costs::{Allowance, Costs, OF_CHANNEL},
    heaps::{self, Timer},
};
use crate::{
    go::{Runtime, memory::Words},
    model::TimerUse,
    target::{Memory, Piece},
};

/// Most functions that timers call whose meaning is remembered.
const MAX_FUNCTIONS: usize = 1 << 12;
/// Most groups of pending timers.
const MAX_GROUPS: usize = 1 << 12;
/// Going through the heaps takes at most one part in so many of the time, except when it must be known.
const SHARE: u32 = 20;

/// When a timer fires, in the target's `CLOCK_MONOTONIC`, ns, and after how long again; 0 if it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fires {
    pub(super) when: u64,
    pub(super) period: u64,
}

/// What a timer does when it fires.
///
/// Source: <https://github.com/golang/go/blob/go1.27.0/src/time/sleep.go> (`sendTime`, `goFunc`), and the same of Go 1.19.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// It fills the channel that it is called with.
    Fill,
    /// It calls the func value that it is called with.
    Call,
    /// Something of the runtime's own: it ends a sleep or a wait for a descriptor, which is told of the goroutine.
    Other,
}

/// Pending timers of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) usage: TimerUse,
    /// The entry of the function that is called; 0 if there is none, or it is not known.
    pub(super) function: u64,
    pub(super) count: u64,
    pub(super) soonest_ms: u64,
    pub(super) latest_ms: u64,
    pub(super) periodic: u64,
}

/// Knows the timers of one runtime.
#[derive(Debug)]
pub(super) struct Timers {
    batch: Batch,
    /// By func value.
    does: HashMap<u64, Does>,
    /// Timers by the channels that they fill, as the heaps were last.
    channels: HashMap<u64, u64>,
    /// Channels that deadlines close, as the heaps were last.
    contexts: Contexts,
    /// The memory for channels that are remembered, of timers and of contexts.
    room: Allowance,
    /// Whether the heaps were gone through in this snapshot.
    is_fresh: bool,
    /// Whether they must be, if something is not known.
    must_know: bool,
    /// When they may be again.
    not_before: Option<Instant>,
    /// Timers that were not looked at, the last time and at most.
    pub(super) left_out: u64,
}

impl Timers {
    pub(super) fn new(costs: &Costs) -> Self {
        Self {
            batch: Batch::default(),
            does: HashMap::new(),
            channels: HashMap::new(),
            contexts: Contexts::default(),
            room: costs.channel_bytes.clone(),
            is_fresh: false,
            must_know: false,
            not_before: None,
            left_out: 0,
        }
    }

    /// A snapshot begins. `must_know`: whatever it costs.
    pub(super) fn begin(&mut self, must_know: bool) {
        (self.is_fresh, self.must_know) = (false, must_know);
    }

    /// When these channels, which do not lead to timers themselves, are filled by timers. Those that are not are left out.
    pub(super) fn of_channels(
        &mut self,
        runtime: &Runtime,
        memory: &dyn Memory,
        channels: &[u64],
    ) -> HashMap<u64, Fires> {
        let mut found = self.known(runtime, memory, channels);
        let may = || self.must_know || self.not_before.is_none_or(|at| at <= Instant::now());
        if found.len() < channels.len() && !self.is_fresh && may() {
            self.learn(runtime, memory);
            found = self.known(runtime, memory, channels);
        }
        found
    }

    /// When the deadlines of contexts close these channels. Those that none closes are left out. It is only looked for if it must be
    /// known; in between, what was found then holds while its timers are pending.
    pub(super) fn of_contexts(
        &mut self,
        runtime: &Runtime,
        memory: &dyn Memory,
        channels: &[u64],
    ) -> HashMap<u64, Fires> {
        if self.must_know && !self.is_fresh && channels.iter().any(|&channel| self.contexts.get(channel).is_none()) {
            self.learn(runtime, memory);
        }
        let known: Vec<_> =
            channels.iter().filter_map(|&channel| Some((channel, self.contexts.get(channel)?))).collect();
        let layout = &runtime.layout.timer;
        let piece = |address| Piece { address, len: usize::from(layout.size) };
        self.batch.read(memory, &known.iter().map(|(_, deadline)| piece(deadline.timer)).collect::<Vec<_>>());
        let mut found = HashMap::new();
        for (n, (channel, deadline)) in known.into_iter().enumerate() {
            let timer = Timer::parse(layout, deadline.timer, self.batch.get(n));
            if let Some(timer) = timer.filter(|timer| timer.arg == deadline.closure)
                && does(&mut self.does, runtime, memory, timer.f) == Does::Call
            {
                found.insert(channel, Fires { when: timer.when, period: 0 });
            }
        }
        found
    }

    /// Of these channels those whose timers are remembered and pending still.
    fn known(&mut self, runtime: &Runtime, memory: &dyn Memory, channels: &[u64]) -> HashMap<u64, Fires> {
        let known: Vec<(u64, u64)> =
            channels.iter().filter_map(|channel| Some((*channel, *self.channels.get(channel)?))).collect();
        let layout = &runtime.layout.timer;
        let pieces: Vec<Piece> =
            known.iter().map(|&(_, address)| Piece { address, len: usize::from(layout.size) }).collect();
        self.batch.read(memory, &pieces);
        let mut found = HashMap::new();
        for (n, (channel, address)) in known.into_iter().enumerate() {
            let timer = Timer::parse(layout, address, self.batch.get(n)).filter(|timer| timer.arg == channel);
            if let Some(timer) = timer
                && does(&mut self.does, runtime, memory, timer.f) == Does::Fill
            {
                found.insert(channel, Fires { when: timer.when, period: timer.period });
            }
        }
        found
    }

    /// Goes through the heaps for the timers that fill channels, and for those of deadlines.
    fn learn(&mut self, runtime: &Runtime, memory: &dyn Memory) {
        let began = Instant::now();
        self.room.give_back(self.channels.len() as u64 * OF_CHANNEL);
        self.channels.clear();
        let (channels, known, room) = (&mut self.channels, &mut self.does, &self.room);
        let mut forgotten = 0;
        let (mut deadlines, mut usages) = (Vec::new(), HashMap::new());
        let must_know = self.must_know;
        let mut left_out = heaps::walk(runtime, memory, |timers| {
            let mut calls = Vec::new();
            for timer in timers {
                match does(known, runtime, memory, timer.f) {
                    // One that is there already takes no more.
                    Does::Fill => match channels.entry(timer.arg) {
                        Entry::Occupied(mut known) => {
                            known.insert(timer.address);
                        }
                        Entry::Vacant(new) if room.take(OF_CHANNEL) => {
                            new.insert(timer.address);
                        }
                        Entry::Vacant(_) => forgotten += 1,
                    },
                    Does::Call if must_know => calls.push(*timer),
                    _ => {}
                }
            }
            let functions = functions(runtime, memory, &calls);
            let of_contexts = calls.iter().zip(functions).filter(|(_, function)| {
                *usages.entry(*function).or_insert_with(|| usage(runtime, *function)) == TimerUse::Context
            });
            deadlines.extend(of_contexts.map(|(timer, _)| *timer));
        });
        if must_know {
            self.room.give_back(self.contexts.len() as u64 * OF_CHANNEL);
            self.contexts.learn(runtime, memory, &deadlines);
            self.contexts.keep(self.room.take_up_to(self.contexts.len() as u64 * OF_CHANNEL) / OF_CHANNEL);
            left_out += self.contexts.left_out;
        }
        left_out += forgotten;
        self.left_out = self.left_out.max(left_out);
        self.is_fresh = true;
        self.not_before = Instant::now().checked_add(began.elapsed().max(Duration::from_micros(50)) * SHARE);
    }

    /// The timers that are pending though no goroutine waits for them.
    pub(super) fn pending(&mut self, runtime: &Runtime, memory: &dyn Memory, clock: Clock) -> Vec<Pending> {
        let mut groups: HashMap<(TimerUse, u64), Pending> = HashMap::new();
        let mut usages: HashMap<u64, TimerUse> = HashMap::new();
        let known = &mut self.does;
        let mut not_counted = 0;
        let left_out = heaps::walk(runtime, memory, |timers| {
            let mut of = |wanted: Does| -> Vec<Timer> {
                let is = |timer: &&Timer| does(known, runtime, memory, timer.f) == wanted;
                timers.iter().filter(is).copied().collect()
            };
            let (calls, fills) = (of(Does::Call), of(Does::Fill));
            let mut count = |usage, function, timer: &Timer| {
                let in_ms = clock.in_ms(timer.when);
                if groups.len() >= MAX_GROUPS && !groups.contains_key(&(usage, function)) {
                    not_counted += 1;
                    return;
                }
                let group = groups.entry((usage, function)).or_insert(Pending {
                    usage,
                    function,
                    count: 0,
                    soonest_ms: in_ms,
                    latest_ms: in_ms,
                    periodic: 0,
                });
                group.count += 1;
                group.soonest_ms = group.soonest_ms.min(in_ms);
                group.latest_ms = group.latest_ms.max(in_ms);
                group.periodic += u64::from(timer.period > 0);
            };
            for (timer, function) in calls.iter().zip(functions(runtime, memory, &calls)) {
                let usage = *usages.entry(function).or_insert_with(|| usage(runtime, function));
                count(usage, function, timer);
            }
            let receivers = u64::from(runtime.layout.hchan.recvq);
            let first =
                memory.each_word(&fills.iter().map(|timer| timer.arg.wrapping_add(receivers)).collect::<Vec<_>>());
            for (timer, _) in fills.iter().zip(first).filter(|(_, first)| *first == Some(0)) {
                count(TimerUse::Channel, 0, timer);
            }
        });
        self.left_out = self.left_out.max(left_out + not_counted);
        let mut pending: Vec<Pending> = groups.into_values().collect();
        pending.sort_unstable_by_key(|group| (group.usage, group.function));
        pending
    }
}

/// What a timer does that calls this func value.
fn does(known: &mut HashMap<u64, Does>, runtime: &Runtime, memory: &dyn Memory, f: u64) -> Does {
    if let Some(&known) = known.get(&f) {
        return known;
    }
    let name = memory.word(f).and_then(|pc| Some(runtime.code.find(pc)?.table.find(pc)?.name().into_owned()));
    let does = match name.as_deref() {
        Some("time.sendTime") => Does::Fill,
        Some("time.goFunc") => Does::Call,
        _ => Does::Other,
    };
    if known.len() >= MAX_FUNCTIONS {
        known.clear();
    }
    known.insert(f, does);
    does
}

/// The functions that timers call which call a func value; 0 where it is not known.
fn functions(runtime: &Runtime, memory: &dyn Memory, timers: &[Timer]) -> Vec<u64> {
    // The first word of a func value is the address of its code.
    let words = memory.each_word(&timers.iter().map(|timer| timer.arg).collect::<Vec<_>>());
    let entry = |word: Option<u64>| word.filter(|&function| runtime.code.is_entry(function)).unwrap_or(0);
    words.into_iter().map(entry).collect()
}

/// What a timer is for that calls this function: a context of package context begins one for its deadline.
fn usage(runtime: &Runtime, function: u64) -> TimerUse {
    let function = runtime.code.find(function).and_then(|module| module.table.find(function));
    let is_context = function.is_some_and(|function| function.name().starts_with("context."));
    if is_context { TimerUse::Context } else { TimerUse::Callback }
}
