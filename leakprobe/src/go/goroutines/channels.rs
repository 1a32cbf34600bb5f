//! The channels that goroutines wait on, and how many wait on each.
//!
//! A goroutine that waits on channels has one `sudog` in the queue of each. Of a channel's two queues, at most one has
//! anybody in it, but for one goroutine that would both send and receive:
//! <https://github.com/golang/go/blob/go1.27.0/src/runtime/chan.go> ("Invariants"). So the queue that is not empty tells the
//! direction of all of them. How many there are is counted by going through the queue, once for each channel.

use std::collections::HashMap;

use super::{
    batch::Batch,
    pages::Pages,
    timers::{Fires, Timers},
};
use crate::{
    go::{Layout, Runtime, memory::word_at},
    model::Channel,
    target::{Memory, Piece},
};

/// Most cases of a select that are looked at.
const MAX_CASES: usize = 256;

/// Offset of `hchan.elemsize`, 16 bits, after the number of values, that of places, and the address of the buffer: in every version.
/// Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/chan.go> (`hchan`)
const VALUE_BYTES: u16 = 24;

/// A goroutine that waits on channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    /// Address of its `g`.
    pub(super) g: u64,
    /// Its first `sudog`.
    pub(super) waiting: u64,
    /// Whether it is in a select, which can have several.
    pub(super) is_select: bool,
    /// Whether it would send, if it is in no select.
    pub(super) send: bool,
}

/// Bytes of a `time.Time`, which timers send, and how many of them their channels hold.
/// Source: <https://github.com/golang/go/blob/go1.27.0/src/time/sleep.go> (`newTimer`)
const TIME: (u64, u64) = (24, 1);

/// A channel that a goroutine waits on, and when a timer fills it or a deadline closes it.
pub(super) type Found = (Channel, Option<Fires>);

/// One place in a queue.
#[derive(Clone, Copy, Debug)]
struct Case {
    waiter: u32,
    sudog: u64,
    channel: u64,
}

/// The first and the last of a queue.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    first: u64,
    last: u64,
}

/// A channel, without those that wait on it.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    len: u64,
    cap: u64,
    closed: bool,
    /// Its timer, if it leads to one.
    timer: u64,
    /// Whether it may have one, though it does not lead to it.
    may_be_timers: bool,
    /// Whether it may be that of a context: without places, and of values without bytes.
    may_be_contexts: bool,
    value_bytes: Option<u16>,
    receivers: Queue,
    senders: Queue,
}

/// Reads channels. To be made anew for each snapshot: it counts the queue of each channel once.
#[derive(Debug)]
pub(super) struct Channels {
    batch: Batch,
    pages: Pages,
    /// Of the queues with more than one `sudog`, by the address of the first.
    counts: HashMap<u64, u64>,
    /// `sudog`s that may still be read: what a hostile process can make us do.
    left: usize,
    /// Selects and queues of which a part was left out.
    pub(super) cut: u64,
}

impl Channels {
    /// For a snapshot of `goroutines`.
    pub(super) fn new(goroutines: usize) -> Self {
        Self {
            batch: Batch::default(),
            pages: Pages::default(),
            counts: HashMap::new(),
            left: goroutines.saturating_mul(8).saturating_add(1 << 16),
            cut: 0,
        }
    }

    /// The channels of each waiter, in the order of its cases' locks. None if they cannot be read.
    pub(super) fn read(
        &mut self,
        runtime: &Runtime,
        memory: &dyn Memory,
        timers: &mut Timers,
        waiters: &[Waiter],
    ) -> Vec<Vec<Found>> {
        let layout = &runtime.layout;
        self.pages.clear();
        let cases = self.cases(layout, memory, waiters);
        let states = self.states(layout, memory, &cases);
        let asked: Vec<u64> =
            states.iter().filter(|(_, state)| state.may_be_timers).map(|(&channel, _)| channel).collect();
        let others = if asked.is_empty() { HashMap::new() } else { timers.of_channels(runtime, memory, &asked) };
        let asked: Vec<u64> =
            states.iter().filter(|(_, state)| state.may_be_contexts).map(|(&channel, _)| channel).collect();
        let deadlines = if asked.is_empty() { HashMap::new() } else { timers.of_contexts(runtime, memory, &asked) };
        let own = self.own_timers(layout, memory, &states);
        let mut found = vec![Vec::new(); waiters.len()];
        for case in &cases {
            let Some(state) = states.get(&case.channel) else { continue };
            let (Some(waiter), Some(found)) = (waiters.get(case.waiter as usize), found.get_mut(case.waiter as usize))
            else {
                continue;
            };
            let mut count = |queue| self.count(layout, memory, case.channel, queue);
            let (receivers, senders) = (count(state.receivers), count(state.senders));
            let send = if waiter.is_select {
                match (state.receivers.first != 0, state.senders.first != 0) {
                    (false, true) => Some(true),
                    (true, false) => Some(false),
                    (true, true) if state.receivers.first == case.sudog => Some(false),
                    (true, true) if state.senders.first == case.sudog => Some(true),
                    _ => None,
                }
            } else {
                Some(waiter.send)
            };
            let channel = Channel {
                address: case.channel,
                send,
                len: state.len,
                cap: state.cap,
                closed: state.closed,
                receivers,
                senders,
                timer: state.timer != 0 || others.contains_key(&case.channel),
                value_bytes: state.value_bytes,
            };
            let fires = [&own, &others, &deadlines].into_iter().find_map(|fires| fires.get(&case.channel));
            found.push((channel, fires.copied().filter(|_| send != Some(true))));
        }
        found
    }

    /// All places in queues of all waiters, by waiter.
    fn cases(&mut self, layout: &Layout, memory: &dyn Memory, waiters: &[Waiter]) -> Vec<Case> {
        let sudog = &layout.sudog;
        let mut cases = Vec::with_capacity(waiters.len());
        // The next one of each waiter that has one.
        let mut next: Vec<(u32, u64)> = (0..).zip(waiters).map(|(n, waiter)| (n, waiter.waiting)).collect();
        for _ in 0..MAX_CASES {
            next.retain(|&(_, address)| address != 0);
            if next.is_empty() || self.left < next.len() {
                break;
            }
            self.left -= next.len();
            let pieces: Vec<Piece> = next.iter().map(|&(_, address)| piece(address, sudog.size)).collect();
            self.batch.read(memory, &pieces);
            for (index, (waiter, address)) in next.iter_mut().enumerate() {
                let at = |offset| self.batch.word(index, offset);
                let own = waiters.get(*waiter as usize).filter(|waiter| at(sudog.g) == Some(waiter.g));
                let (Some(own), Some(channel), Some(link)) = (own, at(sudog.c), at(sudog.waitlink)) else {
                    *address = 0;
                    continue;
                };
                if channel != 0 {
                    cases.push(Case { waiter: *waiter, sudog: *address, channel });
                }
                *address = if own.is_select { link } else { 0 };
            }
        }
        self.cut += next.iter().filter(|&&(_, address)| address != 0).count() as u64;
        cases.sort_by_key(|case| case.waiter);
        cases
    }

    fn states(&mut self, layout: &Layout, memory: &dyn Memory, cases: &[Case]) -> HashMap<u64, State> {
        let hchan = &layout.hchan;
        let mut addresses: Vec<u64> = cases.iter().map(|case| case.channel).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let pieces: Vec<Piece> = addresses.iter().map(|&address| piece(address, hchan.size)).collect();
        self.batch.read(memory, &pieces);
        let state = |bytes: &[u8]| {
            let at = |offset: u16| word_at(bytes, offset);
            let queue = |offset| Some(Queue { first: at(offset)?, last: at(offset + 8)? });
            let (cap, timer) = (at(hchan.dataqsiz)?, hchan.timer.map_or(Some(0), at)?);
            let element = at(hchan.elemsize)? & 0xffff;
            Some(State {
                len: at(hchan.qcount)?,
                cap,
                closed: at(hchan.closed)? as u32 != 0,
                timer,
                may_be_contexts: timer == 0 && (element, cap) == (0, 0),
                may_be_timers: layout.timer.may_be_async && timer == 0 && (element, cap) == TIME,
                value_bytes: at(VALUE_BYTES).map(|word| word as u16),
                receivers: queue(hchan.recvq)?,
                senders: queue(hchan.sendq)?,
            })
        };
        addresses.iter().enumerate().filter_map(|(n, &address)| Some((address, state(self.batch.get(n))?))).collect()
    }

    /// How many goroutines are in a queue.
    fn count(&mut self, layout: &Layout, memory: &dyn Memory, channel: u64, queue: Queue) -> u64 {
        if queue.first == 0 || queue.first == queue.last {
            return u64::from(queue.first != 0);
        }
        if let Some(&count) = self.counts.get(&queue.first) {
            return count;
        }
        let sudog = &layout.sudog;
        let (mut count, mut at, mut last) = (0, queue.first, 0);
        while at != 0 {
            if self.left == 0 {
                self.cut += 1;
                break;
            }
            self.left -= 1;
            let Some(bytes) = self.pages.get(memory, piece(at, sudog.size)) else { break };
            let (Some(g), Some(c), Some(next)) =
                (word_at(bytes, sudog.g), word_at(bytes, sudog.c), word_at(bytes, sudog.next))
            else {
                break;
            };
            if c != channel {
                break; // taken out meanwhile
            }
            // One that has two cases with this channel has them one after the other: selects queue by the channels' addresses.
            count += u64::from(g != last);
            if at == queue.last {
                break;
            }
            (at, last) = (next, g);
        }
        self.counts.insert(queue.first, count);
        count
    }

    /// When the timers fire that channels lead to.
    fn own_timers(
        &mut self,
        layout: &Layout,
        memory: &dyn Memory,
        states: &HashMap<u64, State>,
    ) -> HashMap<u64, Fires> {
        let own: Vec<(u64, u64)> = states
            .iter()
            .filter(|(_, state)| state.timer != 0)
            .map(|(&channel, state)| (channel, state.timer))
            .collect();
        let timer = &layout.timer;
        let pieces: Vec<Piece> = own.iter().map(|&(_, address)| piece(address, timer.period + 8)).collect();
        self.batch.read(memory, &pieces);
        let fires = |(n, (channel, _)): (usize, (u64, u64))| {
            let (when, period) = (self.batch.word(n, timer.when)?, self.batch.word(n, timer.period)?);
            Some((channel, Fires { when, period: if period > i64::MAX as u64 { 0 } else { period } }))
        };
        own.into_iter().enumerate().filter_map(fires).collect()
    }
}

fn piece(address: u64, len: u16) -> Piece {
    Piece { address, len: usize::from(len) }
}
