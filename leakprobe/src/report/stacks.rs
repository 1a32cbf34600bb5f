//! A recording as weighted stacks: what folded lines and flame graphs are made of.

use std::collections::HashMap;

use super::{Options, View, Weight, frames, groups, shown::Shown, words};
use crate::model::{StackEnd, Task, TaskState, WaitKind};

/// The largest sum of weights: what the script in a flame graph can count exactly. Only a recording made up by hand is over it.
const MAX_TOTAL: u64 = 1 << 53;

/// The tasks of a recording that are or may be parked, those with equal stacks together.
#[derive(Debug)]
pub(super) struct Stacks {
    /// Each distinct frame text once, harmless in folded lines. A text has no `;`, no line break, and is not empty.
    labels: Vec<String>,
    /// Sorted by their texts.
    stacks: Vec<WeightedStack>,
}

/// Tasks that are parked at one place.
#[derive(Debug)]
pub(super) struct WeightedStack {
    /// Indices of labels, outermost first, the wait last.
    frames: Vec<u32>,
    /// What they wait for.
    pub(super) kind: WaitKind,
    /// How many they are.
    pub(super) tasks: u64,
    /// What they weigh, at least 1.
    pub(super) weight: u64,
}

impl Stacks {
    /// The weighted stacks of what is `shown`; none if nothing is parked.
    pub(super) fn of(shown: &Shown<'_>, options: &Options) -> Self {
        let mut labels = Labels::new(shown, options);
        let mut found: HashMap<(Vec<u32>, WaitKind), (u64, u64)> = HashMap::new();
        let mut add = |stack: Vec<u32>, kind: WaitKind, tasks: u64, weight: u64| {
            let (count, sum) = found.entry((stack, kind)).or_default();
            *count = count.saturating_add(tasks);
            *sum = sum.saturating_add(weight);
        };
        let mut listed_ms = vec![0_u64; shown.sites.len()];
        for &task in &shown.tasks {
            let site = shown.site_of(task);
            if task.state != TaskState::Parked && site.is_none() {
                continue;
            }
            let wait = task.wait.as_ref();
            let age_ms = wait.map_or(0, |wait| wait.age_ms);
            if let Some(listed) = site.and_then(|site| listed_ms.get_mut(site)) {
                *listed = listed.saturating_add(age_ms);
            }
            let weight = match options.weight {
                Weight::Tasks => 1,
                Weight::Time => age_ms.max(1),
            };
            let group = options.group_by.as_ref().map(|by| groups::name(shown, by, task));
            let kind = wait.map_or(WaitKind::Other, |wait| wait.kind);
            add(labels.stack_of(task, kind, group), kind, 1, weight);
        }
        // Those that the recording does not list one by one are like one that it does.
        for ((site, members), listed_ms) in shown.sites.iter().zip(shown.members()).zip(listed_ms) {
            let more = site.count.saturating_sub(members.len() as u64);
            if let (true, Some(like)) = (more > 0, members.first()) {
                let weight = match options.weight {
                    Weight::Tasks => more,
                    Weight::Time => site.total_ms.saturating_sub(listed_ms).max(more),
                };
                let group = options.group_by.as_ref().map(|by| groups::name_of_unlisted(shown, by, site));
                add(labels.stack_of(like, site.kind, group), site.kind, more, weight);
            }
        }
        let labels = labels.texts;
        let limit = MAX_TOTAL / found.len().max(1) as u64;
        let mut stacks: Vec<WeightedStack> = found
            .into_iter()
            .map(|((frames, kind), (tasks, weight))| WeightedStack { frames, kind, tasks, weight: weight.min(limit) })
            .collect();
        // No two are equal: the last label is the kind's, and each label has one index.
        stacks.sort_unstable_by(|a, b| texts(&labels, a).cmp(texts(&labels, b)));
        Self { labels, stacks }
    }

    /// The stacks, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &WeightedStack> {
        self.stacks.iter()
    }

    /// The frame texts of `stack`, outermost first, the wait last.
    pub(super) fn texts<'a>(&'a self, stack: &'a WeightedStack) -> impl Iterator<Item = &'a str> {
        texts(&self.labels, stack)
    }

    /// Whether nothing is parked.
    pub(super) fn is_empty(&self) -> bool {
        self.stacks.is_empty()
    }

    /// The stack as a folded line, without a line end: `main;f;[futex] 12`.
    pub(super) fn folded(&self, stack: &WeightedStack) -> String {
        let texts: Vec<&str> = self.texts(stack).collect();
        format!("{} {}", texts.join(";"), stack.weight)
    }
}

/// The frame that stands for a wait.
pub(super) fn wait_label(kind: WaitKind) -> String {
    format!("[{kind}]")
}

fn texts<'a>(labels: &'a [String], stack: &'a WeightedStack) -> impl Iterator<Item = &'a str> {
    let text = |&index: &u32| labels.get(index as usize).map(String::as_str);
    stack.frames.iter().filter_map(text)
}

/// Gives each distinct frame text one index: ten thousand parked tasks need some hundred texts.
struct Labels<'a> {
    shown: &'a Shown<'a>,
    view: View,
    /// The index of each frame's text, once it was needed.
    of_frame: HashMap<u32, u32>,
    indices: HashMap<String, u32>,
    texts: Vec<String>,
}

impl<'a> Labels<'a> {
    fn new(shown: &'a Shown<'a>, options: &Options) -> Self {
        Self { shown, view: options.view, of_frame: HashMap::new(), indices: HashMap::new(), texts: Vec::new() }
    }

    /// The labels of a task, outermost first: its group, if there are groups, its frames, and what it waits for.
    fn stack_of(&mut self, task: &Task, kind: WaitKind, group: Option<String>) -> Vec<u32> {
        let mut labels = Vec::with_capacity(task.stack.len() + 3);
        if let Some(group) = group {
            labels.push(self.intern(text(&group)));
        }
        match self.view {
            View::Parked => self.park_stack(task, &mut labels),
            View::Creation => self.creation_stack(task, &mut labels),
        }
        labels.push(self.intern(wait_label(kind)));
        labels
    }

    fn park_stack(&mut self, task: &Task, labels: &mut Vec<u32>) {
        match (task.stack_end, task.stack.is_empty()) {
            (StackEnd::Complete, false) => {}
            (StackEnd::Complete, true) => labels.push(self.intern("[no stack]".into())),
            (end, true) => labels.push(self.intern(format!("[no stack: {}]", end.explain()))),
            (end, false) => labels.push(self.intern(format!("[stack cut: {}]", end.explain()))),
        }
        self.push_frames(&task.stack, labels);
    }

    fn creation_stack(&mut self, task: &Task, labels: &mut Vec<u32>) {
        let creation = &task.created_by;
        if creation.stack.is_empty() {
            let why = creation.why_unknown.as_deref().unwrap_or("reason not known");
            labels.push(self.intern(text(&format!("[creation not seen: {}]", words::harmless(why)))));
            // Where it began says at least which of the unknown ones belong together.
            if task.stack_end == StackEnd::Complete
                && let Some(entry) = frames::outermost_users(self.shown, &task.stack)
            {
                labels.push(self.intern(text(&frames::label(entry))));
            }
        }
        self.push_frames(&creation.stack, labels);
    }

    fn push_frames(&mut self, stack: &[u32], labels: &mut Vec<u32>) {
        let frames = self.shown.resolve(stack);
        let (frames, more) = self.shown.cut(&frames);
        if more > 0 {
            // Without their number, so that stacks stay together that are alike.
            labels.push(self.intern(format!("[outer frames left out by --max-depth {}]", frames.len())));
        }
        for &(place, frame) in frames.iter().rev() {
            let known = self.of_frame.get(&place).copied();
            let label = known.unwrap_or_else(|| self.intern(text(&frames::label(frame))));
            self.of_frame.insert(place, label);
            labels.push(label);
        }
    }

    fn intern(&mut self, text: String) -> u32 {
        if let Some(&index) = self.indices.get(&text) {
            return index;
        }
        let index = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push(text.clone());
        self.indices.insert(text, index);
        index
    }
}

/// `name`, which is harmless elsewhere, as a frame of a folded line: `;` separates frames there, and a line that begins with `# ` is a comment.
fn text(name: &str) -> String {
    let mut text = name.replace(';', ",");
    if text.starts_with("# ") {
        text.replace_range(1..2, "_");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Recording, report::fixture};

    fn folded(recording: &Recording, options: &Options) -> Vec<String> {
        let stacks = Stacks::of(&Shown::of(recording, options), options);
        stacks.iter().map(|stack| stacks.folded(stack)).collect()
    }

    #[test]
    fn names_that_mean_something_in_a_folded_line_are_made_harmless() {
        for (name, harmless) in
            [("<[u8; 4] as T>::f", "<[u8, 4] as T>::f"), ("a;b;", "a,b,"), ("# comment", "#_comment"), ("f 12", "f 12")]
        {
            assert_eq!(text(name), harmless);
        }
    }

    #[test]
    fn weights_that_nobody_can_add_up_are_capped() {
        let mut recording = fixture::checkout();
        for task in &mut recording.tasks {
            if let Some(wait) = &mut task.wait {
                wait.age_ms = u64::MAX;
            }
        }
        let options = Options { weight: Weight::Time, ..Options::default() };
        let stacks = Stacks::of(&Shown::of(&recording, &options), &options);
        let total: u64 = stacks.iter().map(|stack| stack.weight).sum();
        assert!(total <= MAX_TOTAL && total > MAX_TOTAL / 2);
    }

    #[test]
    fn a_wait_of_less_than_a_millisecond_still_weighs() {
        let mut recording = fixture::checkout();
        for task in &mut recording.tasks {
            if let Some(wait) = &mut task.wait {
                wait.age_ms = 0;
            }
        }
        let by_time = Options { weight: Weight::Time, ..Options::default() };
        assert_eq!(folded(&recording, &by_time), folded(&recording, &Options::default()));
    }

    #[test]
    fn nothing_parked_gives_no_stack() {
        assert!(folded(&fixture::idle(), &Options::default()).is_empty());
    }
}
