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
        shortest_timeout_ms: waits.iter().filter_map(|wait| wait.timeout_ms).min(),
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
    if let (Some(first), Some(last)) = (site.trend.first(), site.trend.last())
        && last > first
    {
        facts.push(format!("grew from {first} to {last} waiting here while watched"));
    }
    if site.created_while_watched > 0 {
        facts.push(format!("{} of {} created while watched, and still parked", site.created_while_watched, site.count));
    }
    if site.with_timeout == 0 {
        facts.push("none of the waits has a timeout".to_owned());
    } else if site.with_timeout == site.count {
        let earliest = site.shortest_timeout_ms.map(|ms| format!(", after {} at the earliest", span(ms)));
        facts.push(format!("all of the waits end by themselves{}", earliest.unwrap_or_default()));
    }
    facts
}

/// A timeout in words, to two significant units, as tables write it: `100 ms`, `1.5 s`, `1m 30s`, `8h`.
fn span(ms: u64) -> String {
    let two = |unit: u64, name: &str, lesser: u64, lesser_name: &str| match ms % unit / lesser {
        0 => format!("{}{name}", ms / unit),
        rest => format!("{}{name} {rest}{lesser_name}", ms / unit),
    };
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => match ms % 1_000 / 100 {
            0 => format!("{} s", ms / 1_000),
            tenths => format!("{}.{tenths} s", ms / 1_000),
        },
        60_000..3_600_000 => two(60_000, "m", 1_000, "s"),
        3_600_000..86_400_000 => two(3_600_000, "h", 60_000, "m"),
        86_400_000.. => two(86_400_000, "d", 3_600_000, "h"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CreatedBy, StackEnd, TaskKind, TaskState};

    fn task(id: u64, timeout_ms: Option<u64>) -> Task {
        Task {
            kind: TaskKind::Thread,
            id,
            name: "worker".to_owned(),
            state: TaskState::Parked,
            wait: Some(Wait {
                kind: WaitKind::Futex,
                reason: "futex wait".to_owned(),
                object: String::new(),
                age_ms: 2_000,
                exact: true,
                timeout_ms,
                owner: None,
            }),
            stack: Vec::new(),
            stack_end: StackEnd::Complete,
            lifetime_ms: None,
            created_by: CreatedBy::default(),
            site: None,
        }
    }

    fn site_of(timeouts: &[Option<u64>], trend: &[u64]) -> Site {
        let mut tasks: Vec<Task> = (1..).zip(timeouts).map(|(id, &timeout)| task(id, timeout)).collect();
        let contexts = vec![Context { new: false, trend: trend.to_vec() }; tasks.len()];
        let mut sites = group(&mut tasks, &contexts, &[]);
        assert_eq!(sites.len(), 1);
        sites.remove(0)
    }

    #[test]
    fn a_site_knows_its_shortest_timeout() {
        let site = site_of(&[Some(28_800_000), Some(90_000_000)], &[]);
        assert_eq!((site.with_timeout, site.shortest_timeout_ms), (2, Some(28_800_000)));
        assert_eq!(site.evidence, ["all of the waits end by themselves, after 8h at the earliest"]);
        let some = site_of(&[None, Some(100)], &[]);
        assert_eq!((some.with_timeout, some.shortest_timeout_ms), (1, Some(100)));
        assert!(some.evidence.is_empty());
        let none = site_of(&[None], &[]);
        assert_eq!(none.shortest_timeout_ms, None);
        assert_eq!(none.evidence, ["none of the waits has a timeout"]);
    }

    #[test]
    fn growth_is_of_all_that_wait_here() {
        let site = site_of(&[None], &[0, 3, 37]);
        assert_eq!(site.evidence[0], "grew from 0 to 37 waiting here while watched");
    }

    #[test]
    fn timeouts_have_two_units_at_most() {
        for (ms, words) in [
            (0, "0 ms"),
            (100, "100 ms"),
            (1_000, "1 s"),
            (1_550, "1.5 s"),
            (90_000, "1m 30s"),
            (28_800_000, "8h"),
            (93_600_000, "1d 2h"),
        ] {
            assert_eq!(span(ms), words);
        }
    }
}
