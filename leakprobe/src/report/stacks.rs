//! A recording as weighted stacks: what folded lines and flame graphs are made of.

use std::collections::HashMap;

use super::{Options, View, Weight, frames, words};
use crate::model::{Recording, StackEnd, Task, TaskState, WaitKind};

/// The largest sum of weights: what the script in a flame graph can count exactly. Only a recording made up by hand is over it.
const MAX_TOTAL: u64 = 1 << 53;

/// The parked tasks of a recording, those with equal stacks together.
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
    /// The weighted stacks of `recording`; none if nothing is parked.
    pub(super) fn of(recording: &Recording, options: &Options) -> Self {
        let mut labels = Labels::new(recording);
        let mut found: HashMap<(Vec<u32>, WaitKind), (u64, u64)> = HashMap::new();
        for task in &recording.tasks {
            if task.state != TaskState::Parked {
                continue;
            }
            let wait = task.wait.as_ref();
            let kind = wait.map_or(WaitKind::Other, |wait| wait.kind);
            let weight = match options.weight {
                Weight::Tasks => 1,
                Weight::Time => wait.map_or(1, |wait| wait.age_ms.max(1)),
            };
            let mut stack = match options.view {
                View::Parked => labels.park_stack(task),
                View::Creation => labels.creation_stack(task),
            };
            stack.push(labels.intern(wait_label(kind)));
            let (tasks, sum) = found.entry((stack, kind)).or_default();
            *tasks += 1;
            *sum = sum.saturating_add(weight);
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
    recording: &'a Recording,
    /// Per frame of the recording: the index of its text, once it was needed.
    of_frame: Vec<Option<u32>>,
    indices: HashMap<String, u32>,
    texts: Vec<String>,
}

impl<'a> Labels<'a> {
    fn new(recording: &'a Recording) -> Self {
        Self { recording, of_frame: vec![None; recording.frames.len()], indices: HashMap::new(), texts: Vec::new() }
    }

    fn park_stack(&mut self, task: &Task) -> Vec<u32> {
        let mut labels = Vec::with_capacity(task.stack.len() + 2);
        match (task.stack_end, task.stack.is_empty()) {
            (StackEnd::Complete, false) => {}
            (StackEnd::Complete, true) => labels.push(self.intern("[no stack]".into())),
            (end, true) => labels.push(self.intern(format!("[no stack: {}]", end.explain()))),
            (end, false) => labels.push(self.intern(format!("[stack cut: {}]", end.explain()))),
        }
        self.push_frames(&task.stack, &mut labels);
        labels
    }

    fn creation_stack(&mut self, task: &Task) -> Vec<u32> {
        let creation = &task.created_by;
        let mut labels = Vec::with_capacity(creation.stack.len() + 2);
        if creation.stack.is_empty() {
            let why = creation.why_unknown.as_deref().unwrap_or("reason not known");
            labels.push(self.intern(text(&format!("[creation not seen: {}]", words::harmless(why)))));
            // Where it began says at least which of the unknown ones belong together.
            if task.stack_end == StackEnd::Complete
                && let Some(entry) = frames::outermost_users(self.recording, &task.stack)
            {
                labels.push(self.intern(text(&frames::label(entry))));
            }
        }
        self.push_frames(&creation.stack, &mut labels);
        labels
    }

    fn push_frames(&mut self, stack: &[u32], labels: &mut Vec<u32>) {
        let recording = self.recording;
        for &frame in stack.iter().rev() {
            let index = frame as usize;
            // An index that points nowhere is left out; reading a recording lets none in.
            let (Some(known), Some(frame)) = (self.of_frame.get(index).copied(), recording.frames.get(index)) else {
                continue;
            };
            let label = known.unwrap_or_else(|| self.intern(text(&frames::label(frame))));
            self.of_frame[index] = Some(label);
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
    use crate::report::fixture;

    fn folded(recording: &Recording, options: &Options) -> Vec<String> {
        let stacks = Stacks::of(recording, options);
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
        let stacks = Stacks::of(&recording, &options);
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
        assert!(Stacks::of(&fixture::idle(), &Options::default()).is_empty());
    }
}
