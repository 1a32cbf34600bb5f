//! Waits that were longer than the threshold and ended while we watched, by place.

use std::collections::HashMap;

use super::Frames;
use crate::model::{Blocking, EndedWait, StackId, StackTable, Wait};

/// Most places that are kept; further ones are counted together, without a stack.
const MAX_PLACES: usize = 4096;

#[derive(Debug)]
struct Place {
    count: u64,
    total_ns: u64,
    longest_ns: u64,
    /// The longest of them.
    wait: Blocking,
    tid: u32,
    name: String,
}

/// Ended waits by stack and what was waited for.
#[derive(Debug, Default)]
pub(super) struct EndedWaits {
    places: HashMap<(Option<StackId>, String), Place>,
}

impl EndedWaits {
    /// Adds one, of the thread `tid`, which ended at `end_ns`.
    pub(super) fn add(&mut self, tid: u32, name: &str, end_ns: u64, wait: Blocking, stack: Option<StackId>) {
        let age_ns = end_ns.saturating_sub(wait.since_ns);
        let stack = stack.filter(|_| self.places.len() < MAX_PLACES);
        let key = (stack, wait.reason.clone());
        if let Some(place) = self.places.get_mut(&key) {
            place.count += 1;
            place.total_ns = place.total_ns.saturating_add(age_ns);
            if age_ns < place.longest_ns {
                return;
            }
            (place.longest_ns, place.wait, place.tid) = (age_ns, wait, tid);
            name.clone_into(&mut place.name);
        } else {
            let name = name.to_owned();
            self.places.insert(key, Place { count: 1, total_ns: age_ns, longest_ns: age_ns, wait, tid, name });
        }
    }

    /// All of them, those that waited longest together first.
    pub(super) fn list(&self, frames: &dyn Frames, stacks: &StackTable) -> Vec<EndedWait> {
        let mut list: Vec<EndedWait> = self
            .places
            .iter()
            .map(|((stack, reason), place)| EndedWait {
                wait: Wait {
                    kind: place.wait.kind,
                    reason: reason.as_str().into(),
                    object: place.wait.object.as_str().into(),
                    age_ms: place.longest_ns / 1_000_000,
                    exact: place.wait.exact,
                    at_most_ms: None,
                    timeout_ms: place.wait.timeout_ms,
                    owner: None,
                    owner_note: None,
                    chain: std::sync::Arc::default(),
                    other_ends: None,
                },
                count: place.count,
                total_ms: place.total_ns / 1_000_000,
                stack: stack
                    .filter(|&id| stacks.get(id).is_some())
                    .map(|id| frames.of(id).to_vec())
                    .unwrap_or_default(),
                task: u64::from(place.tid),
                name: place.name.clone(),
            })
            .collect();
        list.sort_by(|a, b| {
            let key = |wait: &EndedWait| (u64::MAX - wait.total_ms, wait.stack.clone(), wait.wait.reason.clone());
            key(a).cmp(&key(b))
        });
        list
    }
}
