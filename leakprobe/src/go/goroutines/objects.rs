//! What goroutines wait on, and until when: each kind of wait asked where it is known.

use super::{
    batch::Batch,
    channels::{self, Channels, Waiter},
    clock::Clock,
    costs::Costs,
    g::{G, mix},
    netpoll::Netpoll,
    semaphores::{self, Semaphores},
    stack_words::Stack,
    timers::{Fires, Timers},
    waits::Class,
};
use crate::{
    go::Runtime,
    model::{Access, Channel, GoObject, WaitKind},
    snapshot::Descriptors,
    target::{Memory, Piece},
};

/// A goroutine that is blocked in the runtime.
pub(super) struct Blocked<'a> {
    pub(super) g: &'a G,
    pub(super) class: Class,
    pub(super) stack: Stack<'a>,
}

/// What was found out about a wait.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Found {
    pub(super) object: GoObject,
    /// Another kind than the reason says.
    pub(super) kind: Option<WaitKind>,
    /// When it ends by itself, `CLOCK_MONOTONIC`, ns.
    pub(super) until_ns: Option<u64>,
    /// After how long the timer that ends it fires again, ns.
    pub(super) period_ns: Option<u64>,
    /// It could not be found out, but may be in a moment.
    pub(super) is_missing: bool,
}

/// Finds out what goroutines wait on. What it learned of stacks holds for the life of the process.
#[derive(Debug)]
pub(super) struct Objects {
    batch: Batch,
    pub(super) semaphores: Semaphores,
    netpoll: Netpoll,
    pub(super) timers: Timers,
}

/// What holds for one snapshot.
pub(super) struct Context<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) memory: &'a dyn Memory,
    pub(super) clock: Clock,
    pub(super) channels: Channels,
    pub(super) descriptors: Descriptors,
}

impl Objects {
    pub(super) fn new(costs: &Costs) -> Self {
        Self {
            batch: Batch::default(),
            semaphores: Semaphores::default(),
            netpoll: Netpoll::default(),
            timers: Timers::new(costs),
        }
    }

    /// What each goroutine waits on.
    pub(super) fn read(&mut self, context: &mut Context<'_>, blocked: &[Blocked<'_>]) -> Vec<Found> {
        let mut found = vec![Found::default(); blocked.len()];
        self.channels(context, blocked, &mut found);
        self.semaphores(context, blocked, &mut found);
        self.sleeps(context, blocked, &mut found);
        self.descriptors(context, blocked, &mut found);
        found
    }

    fn semaphores(&mut self, context: &Context<'_>, blocked: &[Blocked<'_>], found: &mut [Found]) {
        let (places, waiters): (Vec<usize>, Vec<semaphores::Waiter<'_>>) = blocked
            .iter()
            .enumerate()
            .filter_map(|(n, one)| match one.class {
                Class::Sync(primitive) => Some((n, (one.g, primitive, one.stack))),
                _ => None,
            })
            .unzip();
        if waiters.is_empty() {
            return;
        }
        let read = self.semaphores.read(context.runtime, context.memory, &waiters);
        for (n, read) in places.into_iter().zip(read) {
            (found[n].object, found[n].is_missing) = (read.object, read.is_missing);
        }
    }

    fn sleeps(&mut self, context: &Context<'_>, blocked: &[Blocked<'_>], found: &mut [Found]) {
        let sleeping: Vec<usize> = (0..blocked.len()).filter(|&n| blocked[n].class == Class::Sleep).collect();
        let when = context.runtime.layout.timer.when;
        let timer = |g: &G| if g.sleep_when.is_some() { 0 } else { g.timer };
        let pieces: Vec<Piece> =
            sleeping.iter().map(|&n| Piece { address: timer(blocked[n].g), len: usize::from(when) + 8 }).collect();
        self.batch.read(context.memory, &pieces);
        for (index, n) in sleeping.into_iter().enumerate() {
            let at = blocked[n].g.sleep_when.or_else(|| self.batch.word(index, when));
            found[n].until_ns = at.and_then(|at| context.clock.fires(at));
        }
    }

    fn descriptors(&mut self, context: &mut Context<'_>, blocked: &[Blocked<'_>], found: &mut [Found]) {
        let Some(layout) = &context.runtime.layout.poll else { return };
        let waiting: Vec<usize> = (0..blocked.len()).filter(|&n| blocked[n].class == Class::Descriptor).collect();
        if waiting.is_empty() {
            return;
        }
        let stacks: Vec<Stack<'_>> = waiting.iter().map(|&n| blocked[n].stack).collect();
        let polled = self.netpoll.read(layout, context.memory, &stacks);
        for (n, polled) in waiting.into_iter().zip(polled) {
            let Some(polled) = polled else { continue };
            let described = context.descriptors.describe(polled.fd);
            found[n] = Found {
                object: GoObject::Descriptor { fd: polled.fd, access: polled.access, words: described.words },
                kind: Some(described.kind),
                until_ns: polled.deadline.and_then(|at| context.clock.fires(at)),
                ..Found::default()
            };
        }
    }

    /// The channels of those that wait on channels.
    fn channels(&mut self, context: &mut Context<'_>, blocked: &[Blocked<'_>], found: &mut [Found]) {
        let (places, waiters): (Vec<usize>, Vec<Waiter>) =
            blocked.iter().enumerate().filter_map(|(n, one)| Some((n, waiter(one.g, one.class)?))).unzip();
        if !waiters.is_empty() {
            let read = context.channels.read(context.runtime, context.memory, &mut self.timers, &waiters);
            for ((n, waiter), channels) in places.into_iter().zip(&waiters).zip(read) {
                (found[n].until_ns, found[n].period_ns) = first(context.clock, &channels);
                found[n].object = object(waiter, channels.into_iter().map(|(channel, _)| channel).collect());
            }
        }
        for (found, one) in found.iter_mut().zip(blocked) {
            if let Class::NilChannel { send } = one.class {
                found.object = GoObject::Channel(nil_channel(send));
            }
        }
    }
}

/// When the first of some channels is filled by a timer, `CLOCK_MONOTONIC`, ns, and after how long that fires again.
pub(super) fn first(clock: Clock, channels: &[channels::Found]) -> (Option<u64>, Option<u64>) {
    let timers = channels.iter().filter_map(|(_, fires)| *fires);
    let first = timers.filter_map(|Fires { when, period }| Some((clock.fires(when)?, period))).min();
    first.map_or((None, None), |(until, period)| (Some(until), Some(period).filter(|&period| period > 0)))
}

/// How to ask for the channels of a goroutine; `None` if it waits on none.
pub(super) fn waiter(g: &G, class: Class) -> Option<Waiter> {
    let (is_select, send) = match class {
        Class::Channel { send } => (false, send),
        Class::Select => (true, false),
        _ => return None,
    };
    Some(Waiter { g: g.address, waiting: g.waiting, is_select, send })
}

/// What a goroutine that waits on these channels waits on.
pub(super) fn object(waiter: &Waiter, channels: Vec<Channel>) -> GoObject {
    match channels.as_slice() {
        [] => GoObject::None,
        [channel] if !waiter.is_select => GoObject::Channel(*channel),
        _ => GoObject::Select(channels.into()),
    }
}

fn nil_channel(send: bool) -> Channel {
    Channel {
        address: 0,
        send: Some(send),
        len: 0,
        cap: 0,
        closed: false,
        receivers: 0,
        senders: 0,
        timer: false,
        value_bytes: None,
    }
}

impl Found {
    /// What is to be remembered of it: a number that is another one if a channel has changed; for a descriptor, of which much
    /// changes without the program's doing, the one that leads to it again.
    pub(super) fn mark(&self) -> u32 {
        match self.object {
            // One more, since 0 stands for nothing.
            GoObject::Descriptor { fd, access, .. } => {
                (fd as u32 + 1) & !WRITES | if access == Access::Write { WRITES } else { 0 }
            }
            _ => fingerprint(&self.object),
        }
    }
}

/// In the mark of a descriptor: something is wanted to be written to it.
const WRITES: u32 = 1 << 31;

/// The descriptor that was remembered, and what is wanted of it.
pub(super) fn marked_descriptor(mark: u32) -> Option<(i32, Access)> {
    let fd = i32::try_from((mark & !WRITES).checked_sub(1)?).ok()?;
    Some((fd, if mark & WRITES == 0 { Access::Read } else { Access::Write }))
}

/// A number that is another one if a channel has changed, except for one case in 2^32. 0 for what has no channels.
pub(super) fn fingerprint(object: &GoObject) -> u32 {
    let channels = match object {
        GoObject::Channel(channel) => std::slice::from_ref(channel),
        GoObject::Select(channels) => channels,
        _ => return 0,
    };
    let words = channels.iter().flat_map(|channel| {
        let bits = u64::from(channel.closed) << 3 | u64::from(channel.timer) << 2 | channel.send.map_or(2, u64::from);
        [channel.address, channel.len, channel.cap, channel.receivers, channel.senders, bits]
    });
    mix(words) as u32
}
