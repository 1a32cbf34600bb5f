//! From the live table to a [`Recording`].

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Frames, GoFacts, Live, goroutine_tasks, holders,
    join::thread_wait,
    live::{self, LiveThread},
    sites::{Member, SiteKey, Sites, Standing, Tally},
    timers, verdict,
};
use crate::model::{
    Activity, Cost, Coverage, CreatedBy, Frame, Gap, Loss, Pause, Recording, Role, SCHEMA, Source, StackEnd,
    StackTable, TargetInfo, Task, TaskKind, TaskState, TimerSample, Tool, WaitKind,
};

const NS_PER_MS: u64 = 1_000_000;

/// What a recording tells besides what the live table knows.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The process.
    pub target: TargetInfo,
    /// When watching began, RFC 3339, UTC.
    pub started: String,
    /// How long it lasted, ms.
    pub duration_ms: u64,
    /// What was watched, what was not, and how many events came.
    pub sources: Vec<Source>,
    /// See `sources`.
    pub gaps: Vec<Gap>,
    /// What was paused meanwhile.
    pub pauses: Vec<Pause>,
    /// See `sources`.
    pub events: u64,
    /// Snapshots taken.
    pub snapshots: u64,
    /// How threads and goroutines belong together; of no effect if the target has no goroutines.
    pub go: GoFacts,
    /// Timers that are pending and for which no task waits.
    pub timers: Vec<TimerSample>,
    /// What could not be seen, and how often.
    pub losses: BTreeMap<Loss, u64>,
    /// What leakprobe used.
    pub cost: Cost,
}

/// All that a task is made from.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) live: &'a Live,
    pub(super) stacks: &'a StackTable,
    pub(super) symbols: &'a dyn Frames,
    pub(super) frames: &'a [Frame],
    pub(super) go: &'a GoFacts,
    pub(super) pid: u32,
}

/// Makes the recording. `frames` are what `symbols` points into.
#[must_use]
pub fn record(
    live: &Live,
    stacks: &StackTable,
    symbols: &dyn Frames,
    frames: Vec<Frame>,
    mut facts: Facts,
) -> Recording {
    let go = std::mem::take(&mut facts.go).in_our_namespace(live);
    let known = Known { live, stacks, symbols, frames: &frames, go: &go, pid: facts.target.pid };
    let mut sites = Sites::default();
    let mut tasks = threads(known, &mut sites);
    let goroutines = goroutine_tasks::survey(known, &mut sites);
    sites.follow(live.followed(symbols));
    let ordered = sites.order(&frames, &facts.target.exe, |key| live.trend(key));
    for task in &mut tasks {
        let thread = u32::try_from(task.id).ok().and_then(|tid| live.threads().get(&tid));
        let is_at_site = thread.is_some_and(|thread| standing(task, thread, live).is_some());
        task.site = is_at_site.then(|| ordered.place(&site_key(task))).flatten();
    }
    let deadlocks = holders::fill(live, &mut tasks);
    let mut coverage = coverage(&tasks, live, &facts);
    let mut lose = |loss: Loss, count: u64| {
        if count > 0 {
            facts.losses.insert(loss, count);
        }
    };
    let places_left_out = live.goroutines().map_or(0, super::Goroutines::places_left_out);
    lose(Loss::StackLeftOut, stacks.left_out().saturating_add(places_left_out));
    lose(Loss::SitesNotListed, ordered.left_out);
    lose(Loss::EndedWaitsNotListed, live.ended_waits_not_listed());
    if let Some(goroutines) = goroutines {
        lose(Loss::GoroutinesNotListed, goroutines.not_listed());
        coverage.go = Some(goroutines.coverage());
        goroutines.tasks(known, &ordered, &mut tasks);
    }
    let timers = timers::pending(&facts.timers, symbols, &frames);
    let (ended_waits, timeline) = live.ended_waits(symbols, &frames, stacks);
    let mut recording = Recording {
        schema: SCHEMA.to_owned(),
        tool: Tool { version: env!("CARGO_PKG_VERSION").to_owned() },
        target: facts.target,
        started: facts.started,
        duration_ms: facts.duration_ms,
        min_block_ms: live.min_block_ns() / NS_PER_MS,
        tasks,
        sites: ordered.sites,
        timers,
        deadlocks,
        check: None,
        ended_waits,
        timeline,
        growth: live.growth(),
        coverage,
        losses: facts.losses,
        cost: facts.cost,
        frames,
    };
    let judgements = verdict::judge(&recording, verdict::History::default(), &verdict::Criteria::default());
    verdict::tell(&mut recording, judgements);
    recording
}

/// The threads as tasks, counted into their sites.
fn threads(known: Known<'_>, sites: &mut Sites) -> Vec<Task> {
    let goroutines = goroutine_tasks::ids(known.live);
    let mut tasks = Vec::with_capacity(known.live.threads().len());
    for (&tid, thread) in known.live.threads() {
        let mut task = thread_task(tid, thread, known);
        if let Some(runs) = known.go.threads.get(&tid) {
            task.runs = runs.map(|runs| runs.id);
            task.role = match runs {
                None => Role::Runtime,
                Some(runs) if goroutines.binary_search(runs).is_ok() => Role::Carrier,
                // What it runs is not told elsewhere.
                Some(_) => Role::Own,
            };
        }
        if let Some(standing) = standing(&task, thread, known.live) {
            let wait = task.wait.as_ref();
            let member = Member {
                standing,
                new: !thread.before_us,
                creator_seen: task.created_by.known,
                waits: wait.is_some(),
                slice_ms: wait.and_then(|wait| wait.slice_ms),
                from_start: known.live.is_in_slices_from_start(thread),
                age_ms: wait.map_or(0, |wait| wait.age_ms),
                exact: wait.is_none_or(|wait| wait.exact),
                timeout_ms: wait.and_then(|wait| wait.timeout_ms),
                timeout_is_known: true,
                reason: wait.map_or(NOT_BLOCKED, |wait| &wait.reason),
                name: &task.name,
            };
            let mut tally = Tally::default();
            tally.add(&member, Some(live::place(thread)));
            sites.add(site_key(&task), tally);
        }
        tasks.push(task);
    }
    tasks
}

/// What is said of a task that runs, or would if it had a processor, in place of a wait.
pub(super) const NOT_BLOCKED: &str = "running";

/// Why a thread counts at a site; `None` if it does not.
fn standing(task: &Task, thread: &LiveThread, live: &Live) -> Option<Standing> {
    if task.state == TaskState::Parked {
        return Some(Standing::Parked);
    }
    let is_lasting = live.is_new(thread).filter(|_| task.state != TaskState::Exited && task.role.is_own())?;
    Some(if is_lasting { Standing::Lasting } else { Standing::Young })
}

/// The site of a thread.
fn site_key(task: &Task) -> SiteKey {
    SiteKey {
        task: task.kind,
        role: task.role,
        creation: Arc::clone(&task.created_by.stack),
        stack: Arc::clone(&task.stack),
        kind: task.wait.as_ref().map_or(WaitKind::Other, |wait| wait.kind),
    }
}

fn thread_task(tid: u32, thread: &LiveThread, known: Known<'_>) -> Task {
    let Known { live, stacks, symbols, .. } = known;
    let now = live.now_ns();
    let wait = match &thread.activity {
        Activity::Blocked(blocking) => Some(thread_wait(thread, blocking, now)),
        _ => None,
    };
    let state = match &thread.activity {
        Activity::Blocked(_) if thread.parked(now, live.min_block_ns()).is_some() => TaskState::Parked,
        Activity::Blocked(_) => TaskState::Blocked,
        Activity::Running => TaskState::Running,
        Activity::Runnable => TaskState::Runnable,
        Activity::Exited => TaskState::Exited,
    };
    let lifetime = thread.lifetime.map(|(lifetime, at)| lifetime + now.saturating_sub(at));
    Task {
        kind: TaskKind::Thread,
        id: u64::from(tid),
        role: Role::Own,
        runs: None,
        name: thread.name.as_str().into(),
        state,
        wait,
        stack: thread.stack.map(|id| symbols.of(id).into()).unwrap_or_default(),
        stack_end: thread.stack.and_then(|id| stacks.get(id)).map_or(StackEnd::None, |stack| stack.end),
        kernel_stack: thread.kernel_stack.map(|id| symbols.of(id).into()).unwrap_or_default(),
        ns_id: None,
        lifetime_ms: lifetime.map(|lifetime| lifetime / NS_PER_MS),
        created_by: thread_created_by(tid, thread, known),
        site: None,
        goroutine: None,
    }
}

/// Who has created a thread.
pub(super) fn thread_created_by(tid: u32, thread: &LiveThread, known: Known<'_>) -> CreatedBy {
    let why_unseen = if tid == known.pid {
        "it is the process's first thread"
    } else if thread.before_us {
        "created before leakprobe attached"
    } else {
        "the event of its creation was lost"
    };
    let Some(creation) = &thread.creation else {
        return CreatedBy { why_unknown: Some(why_unseen.into()), ..CreatedBy::default() };
    };
    let (stack, why_unknown) = match &creation.stack {
        Ok(id) => (known.symbols.of(*id).into(), None),
        Err(why) => (Arc::default(), Some(why.as_str().into())),
    };
    CreatedBy {
        task: Some(u64::from(creation.creator)),
        alive: None,
        name: creation.creator_name.as_str().into(),
        known: why_unknown.is_none(),
        stack,
        why_unknown,
    }
}

fn coverage(threads: &[Task], live: &Live, facts: &Facts) -> Coverage {
    let count = |test: &dyn Fn(&Task) -> bool| threads.iter().filter(|task| test(task)).count() as u64;
    let blocked = |task: &Task| matches!(task.state, TaskState::Blocked | TaskState::Parked);
    Coverage {
        snapshots: facts.snapshots,
        threads: threads.len() as u64,
        blocked: count(&blocked),
        stacks_complete: count(&|task| blocked(task) && task.stack_end == StackEnd::Complete),
        creations_known: count(&|task| task.created_by.known),
        created: live.turnover().created,
        exited: live.turnover().gone,
        go: None,
        events: facts.events,
        sources: facts.sources.clone(),
        gaps: facts.gaps.clone(),
        unseen: Vec::new(),
        pauses: facts.pauses.clone(),
    }
}
