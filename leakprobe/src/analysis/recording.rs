//! From the live table to a [`Recording`].

use std::collections::BTreeMap;

use super::{
    Frames, Live,
    live::{LiveThread, creation_stack},
    sites::{self, Context},
};
use crate::model::{
    Activity, Cost, Coverage, CreatedBy, Frame, Recording, SCHEMA, StackEnd, StackTable, TargetInfo, Task, TaskKind,
    TaskState, Tool, Wait,
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
    pub sources: Vec<String>,
    /// See `sources`.
    pub gaps: Vec<String>,
    /// See `sources`.
    pub events: u64,
    /// Snapshots taken.
    pub snapshots: u64,
    /// What could not be seen, by name.
    pub losses: BTreeMap<String, u64>,
    /// What leakprobe used.
    pub cost: Cost,
}

/// Makes the recording. `frames` are what `symbols` points into.
#[must_use]
pub fn record(live: &Live, stacks: &StackTable, symbols: &dyn Frames, frames: Vec<Frame>, facts: Facts) -> Recording {
    let mut tasks = Vec::with_capacity(live.threads().len());
    let mut contexts = Vec::with_capacity(live.threads().len());
    for (&tid, thread) in live.threads() {
        let task = task(tid, thread, facts.target.pid, live, stacks, symbols);
        let trend = match (task.state, thread.stack) {
            (TaskState::Parked, Some(stack)) => live.trend(creation_stack(thread), stack),
            _ => Vec::new(),
        };
        contexts.push(Context { new: !thread.before_us, trend });
        tasks.push(task);
    }
    let sites = sites::group(&mut tasks, &contexts, &frames);
    let coverage = coverage(&tasks, live, &facts);
    Recording {
        schema: SCHEMA.to_owned(),
        tool: Tool { version: env!("CARGO_PKG_VERSION").to_owned() },
        target: facts.target,
        started: facts.started,
        duration_ms: facts.duration_ms,
        min_block_ms: live.min_block_ns() / NS_PER_MS,
        tasks,
        sites,
        ended_waits: live.ended_waits(symbols, stacks),
        growth: live.growth(),
        coverage,
        losses: facts.losses,
        cost: facts.cost,
        frames,
    }
}

fn task(tid: u32, thread: &LiveThread, pid: u32, live: &Live, stacks: &StackTable, symbols: &dyn Frames) -> Task {
    let now = live.now_ns();
    let wait = match &thread.activity {
        Activity::Blocked(blocking) => Some(Wait {
            kind: blocking.kind,
            reason: blocking.reason.clone(),
            object: blocking.object.clone(),
            age_ms: now.saturating_sub(blocking.since_ns) / NS_PER_MS,
            exact: blocking.exact,
            timeout_ms: blocking.timeout_ms,
            owner: None,
        }),
        _ => None,
    };
    let state = match &thread.activity {
        Activity::Blocked(_) if thread.parked(now, live.min_block_ns()).is_some() => TaskState::Parked,
        Activity::Blocked(_) => TaskState::Blocked,
        Activity::Running => TaskState::Running,
        Activity::Runnable => TaskState::Runnable,
        Activity::Exited => TaskState::Exited,
    };
    let why_unseen = if tid == pid {
        "it is the process's first thread"
    } else if thread.before_us {
        "created before leakprobe attached"
    } else {
        "the event of its creation was lost"
    };
    let lifetime = thread.lifetime.map(|(lifetime, at)| lifetime + now.saturating_sub(at));
    Task {
        kind: TaskKind::Thread,
        id: u64::from(tid),
        name: thread.name.clone(),
        state,
        wait,
        stack: thread.stack.map(|id| symbols.of(id).to_vec()).unwrap_or_default(),
        stack_end: thread.stack.and_then(|id| stacks.get(id)).map_or(StackEnd::None, |stack| stack.end),
        lifetime_ms: lifetime.map(|lifetime| lifetime / NS_PER_MS),
        created_by: created_by(thread, symbols, why_unseen),
        site: None,
    }
}

fn created_by(thread: &LiveThread, symbols: &dyn Frames, why_unseen: &str) -> CreatedBy {
    let Some(creation) = &thread.creation else {
        return CreatedBy { why_unknown: Some(why_unseen.to_owned()), ..CreatedBy::default() };
    };
    let (stack, why_unknown) = match &creation.stack {
        Ok(id) => (symbols.of(*id).to_vec(), None),
        Err(why) => (Vec::new(), Some(why.clone())),
    };
    CreatedBy {
        task: Some(u64::from(creation.creator)),
        name: creation.creator_name.clone(),
        known: why_unknown.is_none(),
        stack,
        why_unknown,
    }
}

fn coverage(tasks: &[Task], live: &Live, facts: &Facts) -> Coverage {
    let count = |test: &dyn Fn(&Task) -> bool| tasks.iter().filter(|task| test(task)).count() as u64;
    let blocked = |task: &Task| matches!(task.state, TaskState::Blocked | TaskState::Parked);
    Coverage {
        snapshots: facts.snapshots,
        threads: tasks.len() as u64,
        blocked: count(&blocked),
        stacks_complete: count(&|task| blocked(task) && task.stack_end == StackEnd::Complete),
        creations_known: count(&|task| task.created_by.known),
        created: live.created,
        exited: live.exited,
        events: facts.events,
        sources: facts.sources.clone(),
        gaps: facts.gaps.clone(),
    }
}
