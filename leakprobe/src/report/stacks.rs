//! A recording as weighted stacks: what folded lines and flame graphs are made of.

use std::collections::HashMap;

use super::{
    Options, frames,
    samples::{self, Entry, Sample},
    shown::Shown,
};
use crate::model::WaitKind;

/// The largest sum of weights: what the script in a flame graph can count exactly. Only a recording made up by hand is over it.
pub(super) const MAX_TOTAL: u64 = 1 << 53;

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
    pub(super) frames: Vec<u32>,
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
        let mut labels = Labels::default();
        let mut found: HashMap<(Vec<u32>, WaitKind), (u64, u64)> = HashMap::new();
        samples::each(shown, options, |sample| {
            let stack = labels.of(&sample);
            let (tasks, sum) = found.entry((stack, sample.kind)).or_default();
            *tasks = tasks.saturating_add(sample.tasks);
            *sum = sum.saturating_add(sample.weight(options.weight));
        });
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

    /// Each distinct frame text, by its index.
    pub(super) fn labels(&self) -> &[String] {
        &self.labels
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
#[derive(Default)]
struct Labels {
    /// The index of each frame's text, once it was needed.
    of_frame: HashMap<u32, u32>,
    indices: HashMap<String, u32>,
    texts: Vec<String>,
}

impl Labels {
    /// The labels of a sample, outermost first, and what it waits for last.
    fn of(&mut self, sample: &Sample<'_>) -> Vec<u32> {
        let mut labels = Vec::with_capacity(sample.entries.len() + 1);
        for entry in &sample.entries {
            labels.push(match entry {
                Entry::Note(note) => self.intern(text(note)),
                Entry::Frame(place, frame) => {
                    let known = self.of_frame.get(place).copied();
                    let label = known.unwrap_or_else(|| self.intern(text(&frames::label(frame))));
                    self.of_frame.insert(*place, label);
                    label
                }
            });
        }
        labels.push(self.intern(wait_label(sample.kind)));
        labels
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

/// `name`, which is harmless elsewhere, as a frame of a folded line: `;` separates frames there, and a line that begins with
/// `# ` is a comment.
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
    use crate::{
        model::Recording,
        report::{Weight, fixture},
    };

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
