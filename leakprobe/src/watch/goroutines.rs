//! The goroutines of a session's target: their runtimes are found, read before each look at the threads, and joined with it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    analysis::{self, GoFacts, GoId, SLOT_BITS},
    go::{
        Finder,
        goroutines::{self, Caller, Costs, ReadError},
    },
    model::{Gap, GoObject, GoroutineSample, GoroutineSink, Loss, QueuePlace, StackId, StackTable, TimerSample},
    snapshot::{Engine, process_cpu_time},
    symbols,
    target::{Budget, Modules, ProcessMemory, has_memory},
};

/// Most Go runtimes in one process that are read: each shared library that is written in Go has one.
const MAX_RUNTIMES: usize = 16;

/// What a session knows of its target's goroutines.
pub(super) struct Goroutines {
    pid: u32,
    finder: Finder,
    readers: Vec<Watched>,
    costs: Arc<Costs>,
    /// Runtimes that could not be read, and why; what is not sure of the others.
    problems: BTreeSet<Gap>,
    /// Runtimes that could not be read at the last look.
    unreadable: u64,
    /// The CPU time of the whole process, read just before the last snapshot, ns.
    cpu_time: Option<u64>,
    /// Lists of goroutines that could not be read.
    unread: u64,
    /// What was taken for a list of goroutines and turned out to be another one.
    mistaken: u64,
    /// Whether the program was watched from its start, so that what came before the first snapshot counts, too.
    is_from_start: bool,
    facts: GoFacts,
    /// Stacks of C code that has called goroutines, by where they begin.
    callers: HashMap<Caller, StackId>,
}

/// A runtime.
struct Watched {
    /// Its place among the runtimes, which it keeps when others come.
    place: u32,
    reader: goroutines::Goroutines,
    /// What had come and gone at the first snapshot, and at the last; `None` if the runtime does not tell.
    turnover: Option<[goroutines::Turnover; 2]>,
}

impl Goroutines {
    /// Nothing is known yet of the process `pid`; `budget` is that of the run.
    pub(super) fn new(pid: u32, budget: Budget) -> Self {
        Self {
            pid,
            finder: Finder::default(),
            readers: Vec::new(),
            costs: Arc::new(Costs::new(budget)),
            problems: BTreeSet::new(),
            unreadable: 0,
            cpu_time: None,
            unread: 0,
            mistaken: 0,
            is_from_start: false,
            facts: GoFacts::default(),
            callers: HashMap::new(),
        }
    }

    /// The same for a program that the process has just begun.
    pub(super) fn of_new_program(pid: u32, budget: Budget) -> Self {
        Self { is_from_start: true, ..Self::new(pid, budget) }
    }

    /// Looks for runtimes, if any can have come or gone since the last time.
    pub(super) fn find(&mut self, engine: &mut Engine, symbols: &mut symbols::Stacks) {
        let modules = engine.modules();
        let mut runtimes = Vec::new();
        self.problems.clear();
        self.unreadable = 0;
        for found in self.finder.find(modules, &self.memory(modules)) {
            match found {
                Ok(runtime) => {
                    self.problems.extend(runtime.gaps.iter().cloned());
                    runtimes.push(runtime);
                }
                Err(problem) => {
                    self.unreadable += 1;
                    self.problems.insert(Gap::GoRuntime { why: problem.to_string() });
                }
            }
        }
        let code = |known: &Watched| Arc::clone(&known.reader.runtime().code);
        let is_known = |code_of| self.readers.iter().any(|known| Arc::ptr_eq(code_of, &code(known)));
        if runtimes.iter().all(|runtime| is_known(&runtime.code)) {
            return;
        }
        let mut known = std::mem::take(&mut self.readers);
        let mut next = known.iter().map(|known| known.place + 1).max().unwrap_or(0);
        for runtime in runtimes {
            // It stays the same when a plugin is loaded, or when what was taken for its list was another one.
            let place = known.iter().position(|known| known.reader.runtime().is_same(&runtime));
            let watched = match place.map(|place| known.swap_remove(place)) {
                Some(mut watched) => {
                    watched.reader.update(runtime);
                    watched
                }
                None => {
                    next += 1;
                    let reader = goroutines::Goroutines::new(self.pid, runtime, Arc::clone(&self.costs));
                    Watched { place: next - 1, reader, turnover: None }
                }
            };
            self.readers.push(watched);
        }
        // No runtime ever leaves a process: what was not found again is read as before.
        self.readers.append(&mut known);
        self.readers.sort_unstable_by_key(|known| known.place);
        if self.readers.len() > MAX_RUNTIMES {
            let (found, read) = (self.readers.len() as u64, MAX_RUNTIMES as u64);
            self.problems.insert(Gap::GoRuntimesLeftOut { found, read });
            self.unreadable += (self.readers.len() - MAX_RUNTIMES) as u64;
            self.readers.truncate(MAX_RUNTIMES);
        }
        engine.set_frame_sizes(self.readers.iter().map(|known| code(known) as _).collect());
        symbols.set_go(self.readers.iter().map(|known| known.reader.runtime()));
    }

    /// Reads the goroutines into the live table. To be called before the threads are looked at.
    pub(super) fn snapshot(
        &mut self,
        engine: &mut Engine,
        symbols: &mut symbols::Stacks,
        stacks: &mut StackTable,
        live: &mut analysis::Live,
    ) {
        if self.readers.is_empty() {
            return;
        }
        // As with threads: if nothing has run since, nothing has changed.
        let cpu_time = process_cpu_time(self.pid);
        let ran = cpu_time.is_none() || cpu_time != self.cpu_time;
        self.cpu_time = cpu_time;
        if ran && self.read_lists(engine.modules(), stacks, live) {
            self.finder.doubt();
            self.find(engine, symbols);
            self.read_lists(engine.modules(), stacks, live);
        }
        let now = crate::target::clock_ns(nix::time::ClockId::CLOCK_MONOTONIC);
        live.goroutines_mut().end_snapshot(now, self.turnover());
    }

    /// What has come and gone since the first snapshot, in all runtimes; `None` if one of them does not tell.
    fn turnover(&self) -> Option<analysis::Turnover> {
        self.readers.iter().try_fold(analysis::Turnover::default(), |sum, known| {
            let [first, last] = known.turnover?;
            Some(analysis::Turnover {
                created: sum.created.saturating_add(last.created.saturating_sub(first.created)),
                gone: sum.gone.saturating_add(last.ended.saturating_sub(first.ended)),
            })
        })
    }

    /// Returns whether what was taken for a list has turned out to be another one.
    fn read_lists(&mut self, modules: &Modules, stacks: &mut StackTable, live: &mut analysis::Live) -> bool {
        let (memory, table) = (self.memory(modules), live.goroutines_mut());
        let mistaken = self.mistaken;
        self.costs.begin_snapshot();
        for known in &mut self.readers {
            let mut sink = Shifted { table, by: known.place << SLOT_BITS };
            match known.reader.snapshot(&memory, stacks, &mut sink) {
                Ok(summary) => {
                    if let Some(ever) = summary.ever {
                        let first = if self.is_from_start { goroutines::Turnover::default() } else { ever };
                        let [first, _] = known.turnover.unwrap_or([first, ever]);
                        known.turnover = Some([first, ever]);
                    }
                }
                Err(ReadError::Shrunk(_)) => self.mistaken += 1,
                Err(error) => {
                    tracing::debug!("goroutines: {error}");
                    // The end of the process is told elsewhere.
                    self.unread += u64::from(has_memory(self.pid));
                }
            }
        }
        self.mistaken > mistaken
    }

    /// Joins what was read with the threads. To be called after these were looked at.
    pub(super) fn join(&mut self, engine: &mut Engine, stacks: &mut StackTable) {
        if self.readers.is_empty() {
            return;
        }
        let callers = self.callers(engine, stacks);
        let memory = self.memory(engine.modules());
        self.facts = GoFacts::default();
        for known in &self.readers {
            let threads = known.reader.threads().unwrap_or_default();
            let go_id = |id| GoId { runtime: known.place, id };
            self.facts.threads.extend(threads.iter().map(|thread| (thread.tid, thread.goroutine.map(go_id))));
            let confirmed = known.reader.confirm_syscalls(&memory);
            self.facts.confirmed.extend(confirmed.iter().map(|goroutine| go_id(goroutine.id)));
            for callback in known.reader.confirm_callbacks(&memory) {
                let (id, thread, at_rest) = (callback.id, callback.thread, callback.call.is_none());
                let caller = callback.call.and_then(|call| callers.get(&call.caller?).copied());
                match at_rest {
                    true => self.facts.threads.remove(&thread),
                    false => self.facts.threads.insert(thread, Some(go_id(callback.id))),
                };
                let callback = analysis::Callback { thread, caller, at_rest };
                self.facts.callbacks.insert(go_id(id), callback);
            }
        }
        self.callers = callers;
    }

    /// The stacks of the C code that has called goroutines. As long as one is in the same call, its caller's stack is the same.
    fn callers(&mut self, engine: &mut Engine, stacks: &mut StackTable) -> HashMap<Caller, StackId> {
        let mut old = std::mem::take(&mut self.callers);
        let calls = self.readers.iter().flat_map(|known| known.reader.callbacks()).filter_map(|callback| callback.call);
        let mut callers = HashMap::new();
        for caller in calls.filter_map(|call| call.caller) {
            let stack =
                old.remove(&caller).unwrap_or_else(|| engine.intern_from((caller.ip, caller.sp, caller.bp), stacks));
            callers.insert(caller, stack);
        }
        callers
    }

    /// Those of some slots of the live table whose goroutines have not run since the last snapshot.
    pub(super) fn still_waiting(&self, modules: &Modules, slots: &[u32]) -> HashSet<u32> {
        let memory = self.memory(modules);
        let of_runtime = |known: &Watched| {
            let base = known.place << SLOT_BITS;
            let own = slots.iter().filter(|&slot| slot >> SLOT_BITS == known.place).map(|slot| slot - base);
            known.reader.still_waiting(&memory, &own.collect::<Vec<_>>()).into_iter().map(move |slot| slot + base)
        };
        self.readers.iter().flat_map(of_runtime).collect()
    }

    /// Looks again at what goroutines wait on, which changes without them.
    pub(super) fn refresh(&mut self, modules: &Modules, live: &mut analysis::Live) {
        let memory = self.memory(modules);
        for known in &mut self.readers {
            let mut sink = Shifted { table: live.goroutines_mut(), by: known.place << SLOT_BITS };
            if let Err(error) = known.reader.refresh_objects(&memory, &mut sink) {
                tracing::debug!("channels: {error}");
            }
        }
    }

    /// The timers that are pending now and for which no goroutine waits.
    pub(super) fn timers(&mut self, modules: &Modules, stacks: &mut StackTable) -> Vec<TimerSample> {
        let memory = self.memory(modules);
        self.readers.iter_mut().flat_map(|known| known.reader.pending_timers(&memory, stacks)).collect()
    }

    /// The versions of the runtimes, e.g. `go1.27.3`; `None` if there is none.
    pub(super) fn versions(&self) -> Option<String> {
        let versions: Vec<String> =
            self.readers.iter().map(|known| known.reader.runtime().version.to_string()).collect();
        (!versions.is_empty()).then(|| versions.join(", "))
    }

    /// What could not be seen, and why.
    pub(super) fn gaps(&self) -> impl Iterator<Item = Gap> {
        let is_counted = self.readers.is_empty() || self.turnover().is_some();
        let not_counted = (!is_counted).then_some(Gap::GoTurnover);
        self.problems.iter().cloned().chain(not_counted)
    }

    /// What was lost, and how often.
    pub(super) fn losses(&self) -> impl Iterator<Item = (Loss, u64)> {
        let of_readers = self.readers.iter().flat_map(|known| known.reader.losses().named().collect::<Vec<_>>());
        let own = [
            (Loss::GoroutineListUnreadable, self.unread),
            (Loss::GoroutineListMistaken, self.mistaken),
            (Loss::GoRuntimeUnreadable, self.unreadable),
        ];
        of_readers.chain(own.into_iter().filter(|(_, count)| *count > 0))
    }

    /// How threads and goroutines belonged together at the last snapshot.
    pub(super) fn facts(&self) -> GoFacts {
        self.facts.clone()
    }

    fn memory(&self, modules: &Modules) -> ProcessMemory {
        modules.memory().unwrap_or_else(|| ProcessMemory::new(self.pid))
    }
}

/// Puts the slots of one runtime behind those of the others.
struct Shifted<'a> {
    table: &'a mut analysis::Goroutines,
    by: u32,
}

impl GoroutineSink for Shifted<'_> {
    fn put(&mut self, slot: u32, sample: GoroutineSample) {
        self.table.put(self.by + slot, sample);
    }

    fn set_object(&mut self, slot: u32, object: GoObject) {
        self.table.set_object(self.by + slot, object);
    }

    fn set_timer(&mut self, slot: u32, until_ns: Option<u64>, period_ns: Option<u64>) {
        self.table.set_timer(self.by + slot, until_ns, period_ns);
    }

    fn set_queue(&mut self, slot: u32, place: Option<QueuePlace>) {
        self.table.set_queue(self.by + slot, place);
    }

    fn remove(&mut self, slot: u32) {
        self.table.remove(self.by + slot);
    }
}
