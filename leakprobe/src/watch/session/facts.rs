//! What a recording tells besides what the live table knows: what was watched, what was not seen, what it cost.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{super::guard::AtWork, Session};
use crate::{
    analysis::{self, Facts, GoFacts, Live, Signs},
    model::{Cost, Gap, Loss, Recording, StackEnd, StackTable, TargetInfo, TaskKind},
    probes, symbols,
    target::{Namespace, OwnMemory},
};

/// One of the files that are corrupt, and how many there are.
fn corrupt(symbols: &symbols::Stacks) -> Option<Gap> {
    let mut files = symbols.corrupt();
    let more = files.len().checked_sub(1)? as u64;
    files.next().map(|(file, why)| Gap::FilesCorrupt { file: file.to_owned(), why: why.to_owned(), more })
}

impl Session {
    /// The result.
    pub(crate) fn into_recording(mut self, single: bool) -> Recording {
        let _at_work = AtWork::on(self.target.pid);
        let facts = self.facts(single);
        let signs = self.signs.now(&mut self.engine, &mut self.jvm);
        let Self { live, stacks, symbols, namespace, goroutines, engine, .. } = self;
        // What the readers remember is of no use any more, and a recording needs room.
        drop((goroutines, engine));
        recorded(&live, &stacks, &symbols, &namespace, facts, &signs)
    }

    /// The result so far; watching goes on.
    pub(crate) fn recording(&mut self) -> Recording {
        let _at_work = AtWork::on(self.target.pid);
        let facts = self.facts(false);
        let signs = self.signs.now(&mut self.engine, &mut self.jvm);
        recorded(&self.live, &self.stacks, &self.symbols, &self.namespace, facts, &signs)
    }

    /// What a recording tells besides what the live table knows; names what has not been named.
    fn facts(&mut self, single: bool) -> Facts {
        if !single && self.target.is_alive() {
            self.goroutines.refresh(self.engine.modules(), &mut self.live);
            self.waits.describe_all(&mut self.engine, &self.probes, &mut self.live, &self.goroutines);
        }
        let timers = if self.target.is_alive() {
            self.goroutines.timers(self.engine.modules(), &mut self.stacks)
        } else {
            Vec::new()
        };
        self.resolve();
        self.symbols.follow_made(self.engine.modules(), true);
        let counted =
            self.probes.counters().into_iter().chain(self.lost.iter().map(|(&counter, &count)| (counter, count)));
        let mut losses: BTreeMap<Loss, u64> = BTreeMap::new();
        for (counter, count) in counted.filter(|&(_, count)| count > 0) {
            if let Some(loss) = probes::loss(counter) {
                *losses.entry(loss).or_default() += count;
            }
        }
        let lost = [Loss::RingFullCreated, Loss::RingFullExited].iter().filter_map(|loss| losses.get(loss)).sum();
        losses.extend(self.engine.losses().named());
        let mut lose = |loss: Loss, count: u64| {
            if count > 0 {
                losses.insert(loss, count);
            }
        };
        lose(Loss::RecordMalformed, self.malformed);
        lose(Loss::ProgramSkipped, self.probes.skipped());
        lose(Loss::EventsMadeGoodBySnapshot, self.live.made_good());
        lose(Loss::FilesBeyondBudget, self.budget.count_left_out());
        lose(Loss::FilesCorrupt, self.symbols.corrupt().len() as u64);
        lose(Loss::WaitsNotDescribed, self.waits.left_out());
        lose(Loss::EndedWaitStackUnseen, self.live.unseen_stacks);
        lose(Loss::EventsNotTold, self.live.not_told(lost));
        for (loss, count) in self.goroutines.losses() {
            *losses.entry(loss).or_default() += count; // of each runtime
        }
        let mut gaps = self.probes.all_gaps();
        gaps.extend(self.goroutines.gaps());
        gaps.extend(self.jvm.gap());
        gaps.extend(self.waits.gaps());
        gaps.extend(self.unloaded());
        let unanswered = self.engine.modules().unanswered().into_iter();
        gaps.extend(unanswered.map(|(path, filesystem)| Gap::FileUnanswered { path, filesystem }));
        if self.stacks.iter().any(|(_, stack)| stack.end == StackEnd::ThirtyTwoBit) {
            gaps.push(Gap::NarrowStacks);
        }
        gaps.extend(self.symbols.hidden_kernel_names().map(|why| Gap::KernelNames { why: why.to_owned() }));
        gaps.extend(self.symbols.ignored_names().map(|why| Gap::JitNames { why: why.to_owned() }));
        gaps.extend(self.symbols.made_gap());
        gaps.extend(
            self.symbols
                .losses()
                .map(|(module, why)| Gap::DebugInformation { module: module.to_owned(), why: why.to_owned() }),
        );
        gaps.extend(corrupt(&self.symbols));
        gaps.extend(self.budget.gaps());
        let (pauses, programs_percent) = match self.hub.governing().filter(|_| !single && !self.probes.is_proc()) {
            Some(governing) => (governing.pauses(self.began), governing.percent()),
            None => (Vec::new(), None),
        };
        Facts {
            target: TargetInfo {
                pid: self.target.pid,
                parent: self.parent,
                ns_pid: self.ns_pid,
                comm: self.target.comm.clone(),
                exe: self.target.exe.to_string_lossy().into_owned(),
                runtime: self.goroutines.versions().unwrap_or_else(|| "native".to_owned()),
                ended: self.ended.clone(),
                execs: self.live.execs,
            },
            started: self.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            duration_ms: if single { 0 } else { u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX) },
            sources: self.probes.sources(),
            gaps,
            pauses,
            events: self.events,
            snapshots: self.engine.snapshots(),
            go: GoFacts { other_targets: self.hub.most_targets().saturating_sub(1), ..self.goroutines.facts() },
            timers,
            losses,
            cost: Cost { programs_percent, ..looks(self.first_snapshot, self.later_snapshots) },
        }
    }

    /// Of the code that was unloaded, that to which threads are still to return.
    fn unloaded(&mut self) -> Vec<Gap> {
        let mut threads: BTreeMap<String, u64> = BTreeMap::new();
        for id in self.live.threads().values().filter_map(|thread| thread.stack) {
            let Some(stack) = self.stacks.get(id) else { continue };
            let probes = stack.addresses.iter().enumerate();
            let probes = probes.map(|(depth, address)| address.saturating_sub(u64::from(stack.is_return(depth))));
            let modules = self.engine.modules();
            let gone = probes.filter_map(|probe| modules.recall(probe)).collect::<Vec<_>>();
            let paths: BTreeSet<String> =
                gone.into_iter().filter_map(|id| Some(self.engine.modules().get(id)?.path.clone())).collect();
            for path in paths {
                *threads.entry(path).or_default() += 1;
            }
        }
        threads.into_iter().map(|(path, threads)| Gap::UnloadedCode { threads, path }).collect()
    }
}

fn recorded(
    live: &Live,
    stacks: &StackTable,
    symbols: &symbols::Stacks,
    namespace: &Namespace,
    facts: Facts,
    signs: &Signs,
) -> Recording {
    let mut recording = analysis::record(live, stacks, symbols, symbols.frames().to_vec(), facts);
    for task in recording.tasks.iter_mut().filter(|task| task.kind == TaskKind::Thread) {
        task.ns_id = u32::try_from(task.id).ok().and_then(|tid| namespace.thread(tid));
    }
    recording.coverage.unseen = analysis::unseen(&recording, signs);
    // Making it took time and memory, too.
    recording.cost = used(recording.cost);
    recording
}

/// What snapshots cost.
fn looks(first: Option<Duration>, later: (u32, Duration)) -> Cost {
    let tenths = |time: Duration| (time.as_secs_f64() * 10_000.0).round() / 10.0;
    let (count, together) = later;
    Cost {
        snapshot_ms: first.map_or(0.0, tenths),
        repeated_snapshot_ms: together.checked_div(count).map_or(0.0, tenths),
        ..Cost::default()
    }
}

/// The same, with what leakprobe has used so far in all.
fn used(cost: Cost) -> Cost {
    Cost {
        cpu_ms: u64::try_from(super::own_cpu_time().as_millis()).unwrap_or(u64::MAX),
        rss_mb: ((OwnMemory::now().peak_kb + symbols::helper_cost().1) as f64 / 102.4).round() / 10.0,
        ..cost
    }
}
