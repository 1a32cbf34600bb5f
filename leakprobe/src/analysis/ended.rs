//! Waits that were longer than the threshold and ended while we watched, by place.

use std::collections::HashMap;

use super::Frames;
use crate::model::{EndedWait, StackId, StackTable, Wait, WaitKind};

/// Most places that are kept; further ones are counted together, without a stack.
const MAX_PLACES: usize = 4096;

#[derive(Debug)]
struct Place {
    count: u64,
    total_ns: u64,
    longest_ns: u64,
    object: String,
    tid: u32,
    name: String,
}

/// Ended waits by stack and operation.
#[derive(Debug, Default)]
pub(super) struct EndedWaits {
    places: HashMap<(Option<StackId>, String), Place>,
}

impl EndedWaits {
    /// Adds one.
    pub(super) fn add(
        &mut self,
        tid: u32,
        name: &str,
        age_ns: u64,
        reason: String,
        object: String,
        stack: Option<StackId>,
    ) {
        let stack = stack.filter(|_| self.places.len() < MAX_PLACES);
        let place = self.places.entry((stack, reason)).or_insert_with(|| Place {
            count: 0,
            total_ns: 0,
            longest_ns: 0,
            object: String::new(),
            tid,
            name: String::new(),
        });
        place.count += 1;
        place.total_ns = place.total_ns.saturating_add(age_ns);
        if age_ns >= place.longest_ns {
            place.longest_ns = age_ns;
            place.object = object;
            place.tid = tid;
            name.clone_into(&mut place.name);
        }
    }

    /// All of them, those that waited longest together first.
    pub(super) fn list(&self, frames: &dyn Frames, stacks: &StackTable) -> Vec<EndedWait> {
        let mut list: Vec<EndedWait> = self
            .places
            .iter()
            .map(|((stack, reason), place)| EndedWait {
                wait: Wait {
                    kind: WaitKind::Futex,
                    reason: reason.as_str().into(),
                    object: place.object.as_str().into(),
                    age_ms: place.longest_ns / 1_000_000,
                    exact: true,
                    at_most_ms: None,
                    timeout_ms: None,
                    owner: None,
                    owner_note: None,
                    chain: std::sync::Arc::default(),
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
