//! Numbers over time of places where nobody is any more.
//!
//! Numbers are followed by stacks, down to the instruction, and told by sites, which are places by their functions. Tasks that go from
//! one line of a function to another are no more than before: so where they were counts at the site as well.

use std::collections::{HashMap, HashSet};

use super::{call_path::CallPaths, history};
use crate::model::TaskKind;

/// A number that is followed over time, with the stacks that it is followed by.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    pub(super) key: history::Key,
    pub(super) creation: Vec<u32>,
    pub(super) stack: Vec<u32>,
}

/// What is followed and has no tasks now, by place.
#[derive(Debug, Default)]
pub(super) struct Former(HashMap<(TaskKind, Vec<u32>, Vec<u32>), Vec<history::Key>>);

impl Former {
    /// All that is not among `present`.
    pub(super) fn of(followed: Vec<Followed>, present: &HashSet<history::Key>, paths: &CallPaths<'_>) -> Self {
        let mut places: HashMap<_, Vec<history::Key>> = HashMap::new();
        for Followed { key, creation, stack } in followed.into_iter().filter(|it| !present.contains(&it.key)) {
            places.entry((key.0, paths.path(&creation), paths.path(&stack))).or_default().push(key);
        }
        Self(places)
    }

    /// By what the tasks were followed that were at a place: of these functions.
    pub(super) fn at(&self, task: TaskKind, creation: &[u32], stack: &[u32]) -> impl Iterator<Item = history::Key> {
        let keys = self.0.get(&(task, creation.to_vec(), stack.to_vec()));
        keys.into_iter().flatten().copied()
    }
}
