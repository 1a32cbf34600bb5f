//! What `--group-by` groups tasks by, as text.

use std::collections::HashMap;

use super::{GroupBy, frames, shown::Shown, words};
use crate::model::{Site, Task, TaskState};

/// Tasks that have something in common.
#[derive(Debug, Default)]
pub(super) struct Group<'a> {
    /// What they have in common.
    pub(super) name: String,
    pub(super) count: u64,
    pub(super) parked: u64,
    /// The one that has waited longest of those that are listed.
    pub(super) oldest: Option<&'a Task>,
    /// How many of them wait at which site: places in [`Shown::sites`].
    pub(super) sites: HashMap<usize, u64>,
}

/// What stands for tasks of which the recording tells only the number.
const NOT_LISTED: &str = "[not listed one by one]";

/// The group of a task that waits, which may be at a site.
pub(super) fn name(shown: &Shown<'_>, by: &GroupBy, task: &Task) -> String {
    let name = words::harmless(&in_common(shown, by, task));
    if name.is_empty() { "[no name]".to_owned() } else { name }
}

fn in_common(shown: &Shown<'_>, by: &GroupBy, task: &Task) -> String {
    let of_goroutine = || task.goroutine.as_deref();
    match by {
        GroupBy::Creator => creator(shown, &task.created_by.stack),
        GroupBy::Site => {
            let site = shown.site_of(task).and_then(|place| shown.sites.get(place));
            site.map_or_else(|| "no site".to_owned(), |site| site_name(site))
        }
        GroupBy::Wait => task.wait.as_ref().map_or_else(|| "no wait".to_owned(), |wait| wait.kind.to_string()),
        GroupBy::Channel => {
            let channels = of_goroutine().map(|goroutine| &*goroutine.channels).unwrap_or_default();
            match channels {
                [] => "no channel".to_owned(),
                _ => task.wait.as_ref().map_or_else(String::new, |wait| wait.object.to_string()),
            }
        }
        GroupBy::Label(key) => {
            let labels = of_goroutine().into_iter().flat_map(|goroutine| goroutine.labels.iter());
            let wanted = labels.filter(|(name, _)| key.as_ref().is_none_or(|key| key == *name));
            let wanted: Vec<String> = wanted.map(|(name, value)| format!("{name}={value}")).collect();
            match (wanted.is_empty(), key) {
                (false, _) => wanted.join(", "),
                (true, None) => "no label".to_owned(),
                (true, Some(key)) => format!("no label {key}"),
            }
        }
        GroupBy::ThreadName => {
            let thread = of_goroutine().map(|goroutine| goroutine.thread.map(u64::from));
            let name = match thread {
                None => Some(&*task.name),
                Some(None) => None,
                Some(Some(id)) => shown.thread(id).map(|thread| &*thread.name),
            };
            name.unwrap_or("no thread").to_owned()
        }
    }
}

/// The group of those tasks of a site that are not listed one by one.
pub(super) fn name_of_unlisted(shown: &Shown<'_>, by: &GroupBy, site: &Site) -> String {
    match by {
        GroupBy::Creator => creator(shown, &site.creation),
        GroupBy::Site => site_name(site),
        GroupBy::Wait => site.kind.to_string(),
        GroupBy::Channel | GroupBy::Label(_) | GroupBy::ThreadName => NOT_LISTED.to_owned(),
    }
}

/// All tasks that are at sites, by group, the largest first.
pub(super) fn groups<'a>(shown: &Shown<'a>, by: &GroupBy) -> Vec<Group<'a>> {
    let mut groups: HashMap<String, Group<'a>> = HashMap::new();
    for ((place, site), members) in shown.sites.iter().enumerate().zip(shown.members()) {
        let mut parked = 0;
        for &task in &members {
            let group = groups.entry(name(shown, by, task)).or_default();
            let is_parked = u64::from(task.state == TaskState::Parked);
            parked += is_parked;
            group.count = group.count.saturating_add(1);
            group.parked = group.parked.saturating_add(is_parked);
            let here = group.sites.entry(place).or_default();
            *here = here.saturating_add(1);
            let age = |task: &Task| task.wait.as_ref().map(|wait| (wait.age_ms, wait.exact));
            if group.oldest.is_none_or(|oldest| age(oldest) < age(task)) {
                group.oldest = Some(task);
            }
        }
        let more = site.count.saturating_sub(members.len() as u64);
        if more > 0 {
            let group = groups.entry(name_of_unlisted(shown, by, site)).or_default();
            group.count = group.count.saturating_add(more);
            group.parked = group.parked.saturating_add(site.parked.saturating_sub(parked).min(more));
            let here = group.sites.entry(place).or_default();
            *here = here.saturating_add(more);
        }
    }
    let mut groups: Vec<Group<'a>> = groups.into_iter().map(|(name, group)| Group { name, ..group }).collect();
    groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
    groups
}

fn creator(shown: &Shown<'_>, creation: &[u32]) -> String {
    let innermost = || shown.frames(creation).first().copied();
    match frames::innermost_users(shown, creation).or_else(innermost) {
        Some(frame) => format!("by {}", frames::label(frame)),
        None => "creation not seen".to_owned(),
    }
}

fn site_name(site: &Site) -> String {
    format!("site {}", words::harmless(&site.id))
}
