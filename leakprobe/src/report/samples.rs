//! The tasks of a recording that are or may be parked, one by one, with the frames that are shown of each: what flame graphs
//! and profiles are made of.

use super::{Options, View, Weight, frames, groups, shown::Shown, words};
use crate::model::{Frame, Site, StackEnd, Task, TaskState, WaitKind};

/// One entry of a stack.
#[derive(Debug)]
pub(super) enum Entry<'a> {
    /// A frame, and its place in the recording.
    Frame(u32, &'a Frame),
    /// What stands for frames that are missing, or for a group of tasks; harmless, in brackets if it is not a group.
    Note(String),
}

/// A task, or several that are told as one.
#[derive(Debug)]
pub(super) struct Sample<'a> {
    /// Outermost first; the wait is not among them.
    pub(super) entries: Vec<Entry<'a>>,
    /// What is waited for.
    pub(super) kind: WaitKind,
    /// How many tasks these are.
    pub(super) tasks: u64,
    /// How long they have waited together, ms; at least 1 each.
    pub(super) ms: u64,
    /// The task, or one that is like these.
    pub(super) task: &'a Task,
    /// Whether the recording lists the task; of those at a site that it does not list, only number and sum of ages are known.
    pub(super) is_listed: bool,
    /// The site.
    pub(super) site: Option<&'a Site>,
}

impl Sample<'_> {
    /// What it weighs, at least 1.
    pub(super) fn weight(&self, weight: Weight) -> u64 {
        match weight {
            Weight::Tasks => self.tasks,
            Weight::Time => self.ms,
        }
    }
}

/// Calls `put` with each task that is or may be parked, in the order of the recording, and then with those that it does not list.
pub(super) fn each<'a>(shown: &Shown<'a>, options: &Options, mut put: impl FnMut(Sample<'a>)) {
    let mut listed_ms = vec![(0_u64, 0_u64); shown.sites.len()];
    for &task in &shown.tasks {
        let place = shown.site_of(task);
        let may_be_parked = || place.is_some() && task.may_be_parked(shown.recording.min_block_ms);
        if task.state != TaskState::Parked && !may_be_parked() {
            continue;
        }
        let wait = task.wait.as_ref();
        let age_ms = wait.map_or(0, |wait| wait.age_ms);
        if let Some(listed) = place.and_then(|place| listed_ms.get_mut(place)) {
            *listed = (listed.0 + 1, listed.1.saturating_add(age_ms));
        }
        let group = options.group_by.as_ref().map(|by| groups::name(shown, by, task));
        put(Sample {
            entries: entries(shown, options.view, task, group),
            kind: wait.map_or(WaitKind::Other, |wait| wait.kind),
            tasks: 1,
            ms: age_ms.max(1),
            task,
            is_listed: true,
            site: place.and_then(|place| shown.sites.get(place).copied()),
        });
    }
    // Those that the recording does not list one by one are like one that it does.
    for ((&site, members), (listed, listed_ms)) in shown.sites.iter().zip(shown.members()).zip(listed_ms) {
        let more = site.count.saturating_sub(site.brief).saturating_sub(listed);
        if let (true, Some(like)) = (more > 0, members.first()) {
            let group = options.group_by.as_ref().map(|by| groups::name_of_unlisted(shown, by, site));
            put(Sample {
                entries: entries(shown, options.view, like, group),
                kind: site.kind,
                tasks: more,
                ms: site.total_ms.saturating_sub(listed_ms).max(more),
                task: like,
                is_listed: false,
                site: Some(site),
            });
        }
    }
}

/// What is shown of a task, outermost first: its group, if there are groups, and its frames.
fn entries<'a>(shown: &Shown<'a>, view: View, task: &'a Task, group: Option<String>) -> Vec<Entry<'a>> {
    let mut entries = Vec::with_capacity(task.stack.len() + 3);
    entries.extend(group.map(Entry::Note));
    match view {
        View::Parked => park_stack(shown, task, &mut entries),
        View::Creation => creation_stack(shown, task, &mut entries),
    }
    entries
}

fn park_stack<'a>(shown: &Shown<'a>, task: &'a Task, entries: &mut Vec<Entry<'a>>) {
    let note = match (task.stack_end, task.stack.is_empty()) {
        (StackEnd::Complete, false) => None,
        (StackEnd::Complete, true) => Some("[no stack]".to_owned()),
        (end, true) => Some(format!("[no stack: {}]", end.explain())),
        (end, false) => Some(format!("[stack cut: {}]", end.explain())),
    };
    entries.extend(note.map(Entry::Note));
    push_frames(shown, &task.stack, entries);
    // Those in the kernel are none that --max-depth counts.
    let in_kernel = shown.resolve(&task.kernel_stack);
    entries.extend(in_kernel.into_iter().rev().map(|(place, frame)| Entry::Frame(place, frame)));
}

fn creation_stack<'a>(shown: &Shown<'a>, task: &'a Task, entries: &mut Vec<Entry<'a>>) {
    let creation = &task.created_by;
    if creation.stack.is_empty() {
        let why = creation.why_unknown.as_deref().unwrap_or("reason not known");
        entries.push(Entry::Note(format!("[creation not seen: {}]", words::harmless(why))));
        // Where it began says at least which of the unknown ones belong together.
        if task.stack_end == StackEnd::Complete
            && let Some(entry) = frames::outermost_users(shown, &task.stack)
        {
            entries.push(Entry::Note(frames::label(entry)));
        }
    }
    push_frames(shown, &creation.stack, entries);
}

fn push_frames<'a>(shown: &Shown<'a>, stack: &[u32], entries: &mut Vec<Entry<'a>>) {
    let frames = shown.resolve(stack);
    let (frames, more) = shown.cut(&frames);
    if more > 0 {
        // Without their number, so that stacks stay together that are alike.
        entries.push(Entry::Note(format!("[outer frames left out by --max-depth {}]", frames.len())));
    }
    entries.extend(frames.iter().rev().map(|&(place, frame)| Entry::Frame(place, frame)));
}
