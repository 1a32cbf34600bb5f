//! Grouping parked tasks: same creation stack, same park stack, same kind of wait.

use std::collections::{BTreeMap, HashMap};

use crate::model::{Frame, Site, Task, Wait, WaitKind};

/// Most names of tasks that a site keeps.
const MAX_NAMES: usize = 5;

/// What a task brings to its site besides itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Context {
    /// Whether it was created while we watched.
    pub(super) new: bool,
    /// Parked tasks with the same stacks over time.
    pub(super) trend: Vec<u64>,
}

type Key<'a> = (&'a [u32], &'a [u32], WaitKind);

/// Groups the parked ones among `tasks`, most suspicious first, and tells each task its site.
pub(super) fn group(tasks: &mut [Task], contexts: &[Context], frames: &[Frame]) -> Vec<Site> {
    let mut members: HashMap<Key<'_>, Vec<usize>> = HashMap::new();
    for (index, task) in tasks.iter().enumerate() {
        if let (Some(wait), true) = (&task.wait, task.state == crate::model::TaskState::Parked) {
            members.entry((&task.created_by.stack, &task.stack, wait.kind)).or_default().push(index);
        }
    }
    let mut sites: Vec<(Site, Vec<usize>)> =
        members.into_iter().map(|(key, members)| (site(key, &members, tasks, contexts, frames), members)).collect();
    sites.sort_by(|(a, _), (b, _)| suspicion(b).cmp(&suspicion(a)).then_with(|| a.id.cmp(&b.id)));
    let mut ordered = Vec::with_capacity(sites.len());
    for (place, (site, members)) in sites.into_iter().enumerate() {
        for index in members {
            tasks[index].site = u32::try_from(place).ok();
        }
        ordered.push(site);
    }
    ordered
}

/// What makes a site suspicious, in this order: its number grew while we watched; waits that nothing but somebody else will
/// end; their age.
fn suspicion(site: &Site) -> (u64, u64, u64) {
    let growth = match (site.trend.first(), site.trend.last()) {
        (Some(first), Some(last)) => last.saturating_sub(*first),
        _ => 0,
    };
    (growth, site.count - site.with_timeout, site.oldest_ms)
}

fn site(key: Key<'_>, members: &[usize], tasks: &[Task], contexts: &[Context], frames: &[Frame]) -> Site {
    let (creation, stack, kind) = key;
    let waits: Vec<&Wait> = members.iter().filter_map(|&index| tasks[index].wait.as_ref()).collect();
    let oldest = waits.iter().max_by_key(|wait| (wait.age_ms, wait.exact));
    let mut names: BTreeMap<&str, u64> = BTreeMap::new();
    for &index in members {
        *names.entry(tasks[index].name.as_str()).or_default() += 1;
    }
    let mut names: Vec<(&str, u64)> = names.into_iter().collect();
    names.sort_by_key(|&(name, count)| (std::cmp::Reverse(count), name));
    let count = members.len() as u64;
    let created_while_watched = members.iter().filter(|&&index| contexts[index].new).count() as u64;
    let with_timeout = waits.iter().filter(|wait| wait.timeout_ms.is_some()).count() as u64;
    let trend = members.iter().map(|&index| &contexts[index].trend).max_by_key(|trend| trend.len());
    let mut site = Site {
        id: stable_id(creation, stack, kind, frames),
        kind,
        count,
        parked: count,
        created_while_watched,
        oldest_ms: oldest.map_or(0, |wait| wait.age_ms),
        oldest_exact: oldest.is_none_or(|wait| wait.exact),
        total_ms: waits.iter().map(|wait| wait.age_ms).fold(0, u64::saturating_add),
        wait: oldest.map_or_else(String::new, |wait| wait.reason.clone()),
        with_timeout,
        stack: stack.to_vec(),
        creation: creation.to_vec(),
        names: names.iter().take(MAX_NAMES).map(|&(name, _)| name.to_owned()).collect(),
        trend: trend.cloned().unwrap_or_default(),
        verdict: String::new(),
        evidence: Vec::new(),
    };
    site.evidence = evidence(&site);
    site
}

fn evidence(site: &Site) -> Vec<String> {
    let mut facts = Vec::new();
    if let (Some(first), Some(last)) = (site.trend.first(), site.trend.last()) {
        if last > first {
            facts.push(format!("grew from {first} to {last} while watched"));
        }
    }
    if site.created_while_watched > 0 {
        facts.push(format!("{} of {} created while watched, and still parked", site.created_while_watched, site.count));
    }
    if site.with_timeout == 0 {
        facts.push("none of the waits has a timeout".to_owned());
    } else if site.with_timeout == site.count {
        facts.push("all of the waits end by themselves".to_owned());
    }
    facts
}

/// Eight hex digits from functions and modules alone, so that they are the same in the next run: FNV-1a, 64 bits, folded.
fn stable_id(creation: &[u32], stack: &[u32], kind: WaitKind, frames: &[Frame]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |text: &str| {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for part in [creation, stack] {
        for frame in part.iter().filter_map(|&index| frames.get(index as usize)) {
            add(frame.module_name());
            add(if frame.function.is_empty() { &frame.address } else { &frame.function });
        }
        add("");
    }
    add(kind.name());
    format!("{:08x}", (hash >> 32) as u32 ^ hash as u32)
}
