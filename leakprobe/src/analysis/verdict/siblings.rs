//! Tasks that may wait for their siblings: the same function created, with each round, as many that end by timers of their own.
//!
//! What a task waits on does not tell who will end the wait: it may be a goroutine that sleeps and then closes the channel, or a thread
//! that works for a minute and then posts a semaphore. As long as as many siblings of each round are not due, rounds cannot tell such a
//! pair from a leak beside something that expires.

use std::collections::HashSet;

use super::{
    Judgement, TimersJudgement,
    cohorts::Cohorts,
    moment::{self, CreatorKey},
};
use crate::{
    analysis::call_path::CallPaths,
    model::{Fact, Ground, Recording, Site, TimerUse, WaitKind},
};

/// What ends by timers, not one of which has been due yet.
struct Pending<'a> {
    by: By<'a>,
    /// How many each round has left.
    left: Vec<u64>,
    /// In how many ms the last of the timers fires.
    due_ms: u64,
}

/// Who has begun it.
#[derive(Clone, Copy)]
enum By<'a> {
    /// The creator of tasks.
    Creator(CreatorKey),
    /// Of a timer nobody notes who has set it. But what it calls is a closure of some function: this is the closure's name.
    Closure(&'a str),
}

/// Of sites that wait for what nobody knows, calls those not due that have as many siblings which are not. `is_open` is of each site
/// whether more rounds could change it.
pub(super) fn judge(
    recording: &Recording,
    paths: &CallPaths<'_>,
    cohorts: &[Cohorts],
    timers: &[TimersJudgement],
    judgements: &mut [Judgement],
    is_open: &mut [bool],
) {
    let pending = pending(recording, paths, cohorts, timers, judgements);
    let tasks = recording.tasks.iter();
    let with_owner = tasks.filter(|task| task.wait.as_ref().is_some_and(|wait| !wait.chain.is_empty()));
    // For whom they wait is known, and judged.
    let known: HashSet<u32> = with_owner.filter_map(|task| task.site).collect();
    let all = recording.sites.iter().zip(cohorts).zip(judgements).zip(is_open);
    for (place, (((site, cohorts), judgement), is_open)) in (0..).zip(all) {
        let may_wait_for_siblings = matches!(judgement.ground, Some(Ground::EveryRound | Ground::Unclear));
        if !may_wait_for_siblings || known.contains(&place) || super::is_blocked(site) || cohorts.arrived() == 0 {
            continue;
        }
        let creator = moment::creator(site.task, &site.creation, paths);
        let own = own_half(cohorts);
        let siblings = pending.iter().filter(|pending| is_kin(pending.by, creator, site, recording));
        let due_ms = own.or_else(|| {
            siblings.filter(|pending| are_as_many(pending, cohorts, site)).map(|pending| pending.due_ms).max()
        });
        let Some(due_ms) = due_ms else { continue };
        judgement.ground = Some(Ground::NotDue);
        judgement.evidence.push(Fact::SiblingsNotDue { due_ms });
        if let Some(course) = &mut judgement.course {
            course.due_ms = Some(due_ms);
        }
        *is_open = false;
    }
}

/// All that ends by timers which have not been due yet.
fn pending<'a>(
    recording: &'a Recording,
    paths: &CallPaths<'_>,
    cohorts: &[Cohorts],
    timers: &[TimersJudgement],
    judgements: &[Judgement],
) -> Vec<Pending<'a>> {
    let is_pending = |ground: Option<Ground>| ground == Some(Ground::NotDue);
    let sites =
        recording.sites.iter().zip(cohorts).zip(judgements).filter(|(_, judgement)| is_pending(judgement.ground));
    let tasks = sites.filter_map(|((site, cohorts), _)| {
        let creator = moment::creator(site.task, &site.creation, paths)?;
        Some(Pending { by: By::Creator(creator), left: cohorts.left.clone(), due_ms: cohorts.due_ms })
    });
    let callbacks = recording
        .timers
        .iter()
        .zip(timers)
        .filter(|(timers, judgement)| timers.usage == TimerUse::Callback && is_pending(judgement.ground));
    let callbacks = callbacks.filter_map(|(timers, judgement)| {
        let function = &*recording.frames.get(*timers.callback.last()? as usize)?.function;
        let left = judgement.counts.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
        Some(Pending { by: By::Closure(function), left, due_ms: timers.latest_ms })
    });
    tasks.chain(callbacks).collect()
}

/// Whether both were begun by the same function.
fn is_kin(by: By<'_>, creator: Option<CreatorKey>, site: &Site, recording: &Recording) -> bool {
    match by {
        By::Creator(key) => creator == Some(key),
        By::Closure(function) => {
            let creators = site.creation.iter().filter_map(|&index| recording.frames.get(index as usize));
            // Go names closures by the function that they are in: `main.serve.func1`.
            let mut names = creators.map(|frame| &*frame.function).filter(|name| !name.is_empty());
            names.any(|name| function.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
        }
    }
}

/// Whether each of a site's tasks can have one of its own; several if it waits for several by its nature.
fn are_as_many(pending: &Pending<'_>, cohorts: &Cohorts, site: &Site) -> bool {
    let waits_for_several = site.kind == WaitKind::Sync && site.wait.contains("WaitGroup");
    let rounds = || cohorts.left.iter().zip(&pending.left);
    let sum = |left: &[u64]| left.iter().fold(0, |sum: u64, &left| sum.saturating_add(left));
    let (left, pending) = (sum(&cohorts.left), sum(&pending.left));
    let times = if waits_for_several { (pending / left.max(1)).max(1) } else { 1 };
    pending > 0 && rounds().all(|(&left, &pending)| left.checked_mul(times) == Some(pending))
}

/// In how many ms the last of a site's timers fires, if half of its tasks end by such and the other half may wait for those.
fn own_half(cohorts: &Cohorts) -> Option<u64> {
    (cohorts.pending > 0 && cohorts.pending.checked_mul(2) == Some(cohorts.arrived())).then_some(cohorts.due_ms)
}
