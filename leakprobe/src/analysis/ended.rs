//! Waits that were longer than the threshold and ended while we watched, by place.

use std::collections::HashMap;

use super::{
    Frames, futex,
    timeline::{Single, Timeline},
};
use crate::model::{Blocking, EndedWait, Frame, StackId, StackTable, TimedWait, Wait};

/// Most places that are kept; further ones are counted together, without a stack.
const MAX_PLACES: usize = 4096;

#[derive(Debug)]
struct Place {
    /// Its number, counted from the first that was seen.
    number: usize,
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
    timeline: Timeline,
}

impl EndedWaits {
    /// Adds one, of the thread `tid`, which ended at `end_ns`.
    pub(super) fn add(&mut self, tid: u32, name: &str, end_ns: u64, wait: Blocking, stack: Option<StackId>) {
        let age_ns = end_ns.saturating_sub(wait.since_ns);
        let stack = stack.filter(|_| self.places.len() < MAX_PLACES);
        let key = (stack, wait.reason.clone());
        let number = self.places.get(&key).map_or(self.places.len(), |place| place.number);
        self.timeline.add(Single {
            lasted_ns: age_ns,
            began_ns: wait.since_ns,
            tid,
            place: number,
            exact: wait.exact,
            name: name.into(),
        });
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
            let place = Place { number, count: 1, total_ns: age_ns, longest_ns: age_ns, wait, tid, name };
            self.places.insert(key, place);
        }
    }

    /// How many are not told one by one.
    pub(super) fn not_listed(&self) -> u64 {
        self.timeline.not_listed
    }

    /// All of them, those that waited longest together first; and single ones, from `origin_ns` on (`CLOCK_MONOTONIC`).
    pub(super) fn list(
        &self,
        origin_ns: u64,
        symbols: &dyn Frames,
        frames: &[Frame],
        stacks: &StackTable,
    ) -> (Vec<EndedWait>, Vec<TimedWait>) {
        let mut list: Vec<(EndedWait, usize)> = self
            .places
            .iter()
            .map(|((stack, reason), place)| {
                (
                    EndedWait {
                        wait: Wait {
                            kind: place.wait.kind,
                            reason: name(*stack, &place.wait, symbols, frames).unwrap_or(reason).into(),
                            object: place.wait.object.as_str().into(),
                            age_ms: place.longest_ns / 1_000_000,
                            exact: place.wait.exact,
                            at_most_ms: None,
                            timeout_ms: place.wait.timeout_ms,
                            due_ms: None,
                            period_ms: None,
                            slice_ms: None,
                            queue: None,
                            owner: None,
                            owner_note: None,
                            chain: std::sync::Arc::default(),
                            other_ends: None,
                        },
                        count: place.count,
                        total_ms: place.total_ns / 1_000_000,
                        stack: stack
                            .filter(|&id| stacks.get(id).is_some())
                            .map(|id| symbols.of(id).to_vec())
                            .unwrap_or_default(),
                        task: u64::from(place.tid),
                        name: place.name.clone(),
                    },
                    place.number,
                )
            })
            .collect();
        list.sort_by(|(a, _), (b, _)| {
            let key = |wait: &EndedWait| (u64::MAX - wait.total_ms, wait.stack.clone(), wait.wait.reason.clone());
            key(a).cmp(&key(b))
        });
        let (list, numbers): (Vec<EndedWait>, Vec<usize>) = list.into_iter().unzip();
        let indices: HashMap<usize, u32> = numbers.into_iter().zip(0..).collect();
        (list, self.timeline.list(origin_ns, |number| indices.get(&number).copied()))
    }
}

/// What a futex was a part of, if the stack tells.
fn name(stack: Option<StackId>, wait: &Blocking, symbols: &dyn Frames, frames: &[Frame]) -> Option<&'static str> {
    let stack = symbols.of(stack?).iter().filter_map(|&place| frames.get(place as usize));
    let primitive = futex::primitive(stack, wait.futex.as_deref()?);
    (!primitive.name.is_empty()).then_some(primitive.name)
}
