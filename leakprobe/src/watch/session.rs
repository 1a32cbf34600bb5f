//! One target under observation: every room that touches it, side by side.

mod facts;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Once},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use leakprobe_common::{
    arch::{REG_WORDS, Regs},
    counter::Counter,
    futex,
};
use nix::{
    sys::resource::{UsageWho, getrusage},
    time::ClockId,
};

use super::{
    Error, ErrorKind, Probe,
    bell::Bell,
    goroutines::Goroutines,
    hub::{CountedTarget, Hub},
    limits, locks,
    ring::Records,
    signs,
    waits::Waits,
};
use crate::{
    analysis::{Live, Turnover},
    aside::{Aside, Quiet, map_all},
    jvm,
    model::{Blocking, Change, ChangeKind, FutexWait, Gap, StackTable, Subject, WaitKind},
    privilege,
    probes::{
        self, Source,
        event::{self, Captured, Event, What},
    },
    snapshot::{Engine, futex_reason},
    symbols,
    target::clock_ns,
    target::{
        Budget, LockOwners, Namespace, Target, TargetError,
        exec::{self, Program},
    },
};

/// How long attaching to a target may make no progress.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may do nothing but wait once watching is to end, for which somebody waits.
const PATIENCE_AT_END: Duration = Duration::from_millis(250);
/// Most records that are taken in before signals and the clock are looked at again.
pub(super) const RECORDS_AT_ONCE: usize = 1024;

/// A target and all that is known of it.
pub(crate) struct Session {
    pub(crate) target: Target,
    namespace: Namespace,
    /// The process's id in its namespace, if that is not ours.
    ns_pid: Option<u32>,
    /// The process that has created it, if that was told.
    pub(super) parent: Option<u32>,
    /// Processes that it has created, and that were not asked for yet.
    forked: Vec<u32>,
    probes: Source,
    hub: Hub,
    _counted: CountedTarget,
    /// Rung when there is something for it.
    bell: Arc<Bell>,
    /// Without BPF there are none.
    records: Option<Records>,
    /// Records that were left out on our side.
    lost: BTreeMap<Counter, u64>,
    /// What tells one program of the target from the next, where no event does.
    program: Option<Program>,
    engine: Engine,
    owners: LockOwners,
    goroutines: Goroutines,
    jvm: jvm::Finder,
    signs: signs::Look,
    waits: Waits,
    stacks: StackTable,
    symbols: symbols::Stacks,
    budget: Budget,
    pub(super) live: Live,
    began: Instant,
    started: Timestamp,
    events: u64,
    malformed: u64,
    /// New names of threads that were lost, up to the last snapshot.
    lost_names: u64,
    /// In how many snapshots to look for them.
    looks_for_names: u8,
    first_snapshot: Option<Duration>,
    /// Later snapshots before which something had run: how many, and how long they took together.
    later_snapshots: (u32, Duration),
    /// How the target ended, once it has.
    pub(super) ended: Option<String>,
    /// Whether its threads are being ended, all of them: what snapshots would see from now on is no longer what it was.
    is_dying: bool,
}

impl Session {
    /// Attaches to each of these processes, in that order; the first one has the programs loaded. One that hangs keeps no other waiting. Once
    /// watching is to end, that is the error of all but the first whose turn has not come.
    pub(crate) fn open_all(hub: &Hub, pids: &[u32]) -> Vec<Result<Self, Error>> {
        let hub = hub.clone();
        let open = move |(place, pid)| {
            if place > 0 && hub.stop().is_stopped() { Err(Error::stopped()) } else { Self::open(&hub, pid) }
        };
        let opened = map_all(pids.iter().copied().enumerate().collect(), open, || false);
        let panicked = || Err(Error::internal("attach to a process", &"a thread has panicked"));
        opened.into_iter().map(|opened| opened.unwrap_or_else(panicked)).collect()
    }

    /// Attaches to a target. One that hangs meanwhile is left behind.
    pub(crate) fn open(hub: &Hub, pid: u32) -> Result<Self, Error> {
        limits::check_descriptors(if hub.is_loaded() { limits::SPARE_OF_SESSION } else { limits::SPARE_OF_PROGRAMS })?;
        let attach = {
            let hub = hub.clone();
            move || Self::attach(&hub, pid)
        };
        let is_stopped = || hub.stop().is_stopped();
        // Whoever wants to stop does not wait for one that waits itself.
        let wait = |quiet: Quiet| quiet.silent < PATIENCE && (quiet.idle < PATIENCE_AT_END || !is_stopped());
        let silent = || if is_stopped() { Error::stopped() } else { TargetError::Silent(pid).into() };
        Aside::default().run_large(attach, wait).unwrap_or_else(|| Err(silent()))
    }

    /// Attaches to the target, for as long as that takes.
    fn attach(hub: &Hub, pid: u32) -> Result<Self, Error> {
        let options = hub.options();
        let _room = privilege::room_for_files();
        let mut target = Target::open(pid)?;
        let events = hub.events();
        let bell = Bell::new().map(Arc::new).map_err(|_| limits::too_few())?;
        let records = if options.probe == Probe::Proc { None } else { hub.records(pid, &bell) };
        let mut probes = match options.probe {
            Probe::Proc => Source::proc(pid, events, "--probe proc")?,
            _ => Source::open(hub.programs(), pid, events)?,
        };
        if let Some(records) = &records {
            records.only(probes.process_start());
        }
        if probes.is_proc() && options.follow_forks {
            probes.gaps().push(Gap::ChildrenNeedBpf);
        }
        if probes.is_proc() && options.probe != Probe::Proc {
            warn_of(probes.gaps());
        }
        // From now on exec is reported; what a fork began meanwhile was not.
        target.refresh();
        if events && options.probe == Probe::Snapshot {
            probes.gaps().push(Gap::SnapshotsAlone);
        }
        let engine = if probes.is_proc() { Engine::from_proc(pid) } else { Engine::new(pid) };
        let mut engine = engine.map_err(|error| {
            if error.kind() == io::ErrorKind::TimedOut {
                let what = format!(
                    "process {pid} does not answer: {error}; what it waits for may be a file system that is gone"
                );
                Error::new(ErrorKind::Unanswered, what)
            } else if target.is_alive() {
                Error::new(
                    ErrorKind::NotPermitted,
                    format!(
                        "cannot read the mappings of process {}: {error}{}",
                        pid,
                        match error.kind() {
                            io::ErrorKind::PermissionDenied => privilege::advice_to_read_others(),
                            _ => String::new(),
                        }
                    ),
                )
            } else {
                Error::ended_early(pid)
            }
        })?;
        let min_block_ns = u64::try_from(options.min_block.as_nanos()).unwrap_or(u64::MAX);
        let budget = hub.stop().budget().for_target();
        engine.modules().set_budget(budget.clone());
        let mut symbols = symbols::Stacks::new(symbols::Options {
            debug_info: options.debug_info,
            budget: budget.clone(),
            cache: hub.symbols().clone(),
            ..symbols::Options::default()
        });
        symbols.set_process(pid);
        let namespace = Namespace::of(pid);
        let live = Live::new(min_block_ns, clock_ns(ClockId::CLOCK_MONOTONIC)).within(budget.kept());
        Ok(Self {
            target,
            ns_pid: namespace.process(),
            namespace,
            parent: None,
            forked: Vec::new(),
            program: if probes.is_proc() { exec::settled_program(pid) } else { None },
            records: records.filter(|_| !probes.is_proc()),
            probes,
            _counted: hub.count_target(),
            hub: hub.clone(),
            bell,
            lost: BTreeMap::new(),
            engine,
            owners: LockOwners::new(pid),
            goroutines: Goroutines::new(pid, budget.clone()),
            jvm: jvm::Finder::default(),
            signs: signs::Look::default(),
            waits: Waits::new(pid, hub.machine(), &budget, !events),
            stacks: StackTable::within(budget.kept()),
            symbols,
            budget,
            live,
            began: Instant::now(),
            started: Timestamp::now(),
            events: 0,
            malformed: 0,
            lost_names: 0,
            looks_for_names: 0,
            first_snapshot: None,
            later_snapshots: (0, Duration::ZERO),
            ended: None,
            is_dying: false,
        })
    }

    /// What it shares with all others.
    pub(super) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Wakes whoever watches it.
    pub(super) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Takes in up to `most` of the records that were collected; returns how many.
    pub(super) fn drain(&mut self, most: usize) -> usize {
        let mut taken = 0;
        while taken < most
            && let Some(record) = self.records.as_ref().and_then(Records::next)
        {
            self.take_in(&record);
            taken += 1;
        }
        taken
    }

    /// Makes the records that have come by now to be had, which else takes some ms.
    pub(super) fn collect(&mut self) {
        let Some(records) = &self.records else { return };
        records.collect();
        for (counter, count) in records.take_lost() {
            *self.lost.entry(counter).or_default() += count;
        }
    }

    /// Some of the records that have come.
    fn pending(&mut self) -> Vec<Vec<u8>> {
        self.collect();
        let next = || self.records.as_ref().and_then(Records::next);
        std::iter::from_fn(next).take(RECORDS_AT_ONCE).collect()
    }

    /// Looks at the kernel's own count of creations and exits. To be called before the records are read: a thread that is counted has been
    /// told of then.
    pub(super) fn count_events(&mut self) {
        if self.records.is_some() {
            let [created, gone] = [Counter::Created, Counter::Exited].map(|counter| self.probes.counter(counter));
            self.live.set_turnover(Turnover { created, gone });
        }
    }

    /// Whether snapshots have seen threads come or go whose records have not come yet.
    pub(super) fn expects_records(&self) -> bool {
        self.records.is_some() && self.live.made_good() > 0
    }

    /// Processes that the target has created since this was last asked.
    pub(super) fn take_forked(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.forked)
    }

    /// Takes a snapshot into the live table. Records that came while it was taken are taken in after it.
    pub(crate) fn snapshot(&mut self) -> Result<(), Error> {
        let _room = privilege::room_for_files();
        self.notice_exec();
        // A new name whose event was lost is seen by looking, but a thread that has not run is not looked at again. And the
        // thread gets its name only after the event, so that one look may be too early.
        let lost_names = self.probes.counter(Counter::RingFullRenamed) + self.lost_here(Counter::RingFullRenamed);
        if lost_names != self.lost_names {
            self.lost_names = lost_names;
            self.looks_for_names = 2;
        }
        if self.looks_for_names > 0 {
            self.looks_for_names -= 1;
            self.engine.forget_threads();
        }
        self.goroutines.find(&mut self.engine, &mut self.symbols);
        if self.jvm.find(self.engine.modules()) {
            self.engine.set_made_frame_sizes(self.jvm.frame_sizes());
        }
        if self.symbols.follow_made(self.engine.modules(), false) {
            self.stacks.forget_addresses();
        }
        self.signs.now_and_then(&mut self.engine, &mut self.jvm);
        let began = Instant::now();
        if !self.is_dying {
            self.goroutines.snapshot(&mut self.engine, &mut self.symbols, &mut self.stacks, &mut self.live);
        }
        let snapshot = match self.engine.snapshot(&self.probes, &mut self.stacks) {
            Ok(snapshot) => snapshot,
            Err(_) if !self.target.is_alive() => return Ok(()), // its end is told elsewhere
            Err(error) => return Err(error.into()),
        };
        self.goroutines.join(&mut self.engine, &mut self.stacks);
        let took = began.elapsed();
        if self.first_snapshot.is_none() {
            self.first_snapshot = Some(took);
        } else if snapshot.news.is_some() {
            self.later_snapshots.0 += 1;
            self.later_snapshots.1 += took;
        }
        tracing::debug!("took a snapshot in {:?}", began.elapsed());
        let meanwhile = self.pending();
        self.is_dying |= meanwhile.iter().any(|record| event::is_end_of_process(record));
        let is_empty = snapshot.news.as_ref().is_some_and(|news| news.alive.is_empty());
        // Of a process that ends, what it was before is told, not the few threads that are left.
        if !is_empty && !self.is_dying {
            let is_news = snapshot.news.is_some();
            if let Some(news) = &snapshot.news {
                self.namespace.keep(&news.alive);
                news.changed.iter().for_each(|thread| self.namespace.meet(thread.tid, thread.start_boottime));
                if let Some(ids) = self.namespace.outer_ids() {
                    self.live.set_outer_ids(ids);
                }
            }
            self.live.apply_snapshot(snapshot);
            self.waits.describe_new(&mut self.engine, &self.probes, &mut self.live, &self.goroutines);
            self.resolve();
            if is_news {
                locks::look(&mut self.live, &mut self.engine, &mut self.owners, &self.probes, &self.symbols);
            }
            tracing::debug!("took it in and symbolised what was new within {:?}", began.elapsed());
        }
        for record in meanwhile {
            self.take_in(&record);
        }
        Ok(())
    }

    /// Where no event tells of it: whether the target has begun another program since the last look.
    fn notice_exec(&mut self) {
        if !self.probes.is_proc() || exec::program(self.target.pid) == self.program {
            return;
        }
        let program = exec::settled_program(self.target.pid);
        if program.is_some() && program != self.program {
            self.program = program;
            self.begin_program();
            let tid = self.target.pid;
            let start_boottime = self.live.threads().get(&tid).map_or(0, |first| first.start_boottime);
            let (time_ns, what) = (clock_ns(ClockId::CLOCK_MONOTONIC), ChangeKind::Exec { old_tid: tid });
            self.live.apply_change(Change { tid, start_boottime, time_ns, what });
        }
    }

    /// Whether anything was seen at all.
    pub(crate) fn has_seen_something(&self) -> bool {
        self.live.now_ns() > 0 && (!self.live.threads().is_empty() || self.events > 0 || self.live.turnover().gone > 0)
    }

    /// Symbolises what is new, while the code is there that it belongs to.
    fn resolve(&mut self) {
        self.symbols.resolve_new(&self.stacks, self.engine.modules());
    }

    /// Takes in one record of the ring buffer.
    fn take_in(&mut self, record: &[u8]) {
        self.is_dying |= event::is_end_of_process(record);
        self.engine.expect_news();
        let mut regs: Regs = [0; REG_WORDS];
        match event::parse(record, &mut regs) {
            Ok(event) => {
                self.events += 1;
                self.apply(event);
            }
            Err(event::Malformed) => self.malformed += 1,
        }
    }

    fn apply(&mut self, event: Event<'_>) {
        if event.tid == self.target.pid && matches!(event.what, What::Exited { .. }) {
            return; // the first thread stays listed for as long as there are others; snapshots say that it has exited
        }
        let what = match event.what {
            What::Created { creator, creator_name, captured } => {
                ChangeKind::Created { creator, creator_name, stack: self.unwind(captured) }
            }
            What::Exited { with_process } => ChangeKind::Exited { with_process },
            What::Exec { old_tid } => {
                self.begin_program();
                ChangeKind::Exec { old_tid }
            }
            What::Renamed(name) => ChangeKind::Renamed(name),
            What::WaitEnded { started_ns, word, op, captured } => ChangeKind::WaitEnded {
                wait: Blocking {
                    kind: WaitKind::Futex,
                    reason: futex_reason(op),
                    object: format!("{word:#x}"),
                    since_ns: started_ns,
                    exact: true,
                    timeout_ms: None,
                    late_ms: 0,
                    timer: None,
                    subject: Subject::None,
                    other_ends: None,
                    futex: Some(Box::new(FutexWait::new(word, (op < futex::OP_WAITV).then(|| futex::command(op)), 0))),
                },
                stack: self.unwind(captured).ok(),
            },
            What::Slept { started_ns, regs } => {
                ChangeKind::WaitEnded { wait: self.engine.sleep(regs, started_ns), stack: None }
            }
            What::Forked { .. } => return self.forked.push(event.tid),
        };
        let Event { tid, start_boottime, time_ns, .. } = event;
        self.live.apply_change(Change { tid, start_boottime, time_ns, what });
    }

    fn unwind(&mut self, captured: Captured<'_>) -> Result<crate::model::StackId, String> {
        match captured {
            Captured::Stack(regs, bytes) => Ok(self.engine.intern_captured(regs, bytes, &mut self.stacks)),
            Captured::Missing(counter) => Err(why_missing(counter).to_owned()),
        }
    }

    /// The target has called exec: its old code is gone, what is known of it must be named now.
    fn begin_program(&mut self) {
        self.resolve();
        self.stacks.forget_addresses();
        if let Err(error) = self.engine.restart() {
            tracing::debug!("after exec: {error}");
        }
        self.goroutines = Goroutines::of_new_program(self.target.pid, self.budget.clone());
        self.jvm = jvm::Finder::default();
        self.signs = signs::Look::default();
        self.engine.set_made_frame_sizes(None);
        self.waits.forget();
        self.symbols.set_process(self.target.pid);
        self.target.refresh();
    }

    /// Events that were lost so far.
    pub(super) fn lost_events(&self) -> u64 {
        let dropped = |&(counter, _): &(Counter, u64)| probes::is_dropped_record(counter);
        let in_kernel = self.probes.counters().into_iter().filter(dropped).map(|(_, count)| count);
        let here = self.lost.iter().map(|(&counter, &count)| (counter, count)).filter(dropped).map(|(_, count)| count);
        in_kernel.chain(here).sum()
    }

    /// How many records were left out on our side.
    fn lost_here(&self, counter: Counter) -> u64 {
        self.lost.get(&counter).copied().unwrap_or(0)
    }

    /// Events taken in so far.
    pub(super) fn events(&self) -> u64 {
        self.events
    }
}

/// Tells on stderr that BPF is not to be had, once.
fn warn_of(gaps: &[Gap]) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| gaps.iter().for_each(|gap| tracing::warn!("{gap}")));
}

fn why_missing(counter: Counter) -> &'static str {
    match counter {
        Counter::CreationStackRateLimited | Counter::WaitStackRateLimited => "too many at once: the stack was left out",
        Counter::RingFullStack => "the buffer from the kernel had no room for the stack",
        Counter::RegsUnreadable => "the registers could not be read",
        _ => "the stack could not be read",
    }
}

/// CPU time that leakprobe has used so far, with the process that reads debug information.
pub(crate) fn own_cpu_time() -> Duration {
    let (of_helper, _) = symbols::helper_cost();
    getrusage(UsageWho::RUSAGE_SELF).map_or(of_helper, |usage| {
        let micros = |time: nix::sys::time::TimeVal| {
            u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_usec()).unwrap_or(0)
        };
        of_helper + Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
    })
}
