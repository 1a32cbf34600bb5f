//! Pending timers for a recording: those of all runtimes together, by what they are for and whom they call.

use std::collections::BTreeMap;

use super::Frames;
use crate::model::{Frame, PendingTimers, TimerSample, TimerUse};

/// The timers of `samples`, most first.
pub(super) fn pending(samples: &[TimerSample], symbols: &dyn Frames, frames: &[Frame]) -> Vec<PendingTimers> {
    let mut all: BTreeMap<String, PendingTimers> = BTreeMap::new();
    for sample in samples {
        let callback = sample.callback.map(|stack| symbols.of(stack)).unwrap_or_default();
        let id = stable_id(sample.usage, callback, frames);
        let timers = all.entry(id).or_insert_with_key(|id| PendingTimers {
            id: id.clone(),
            usage: sample.usage,
            callback: callback.into(),
            soonest_ms: sample.soonest_ms,
            ..PendingTimers::default()
        });
        timers.count += sample.count;
        timers.soonest_ms = timers.soonest_ms.min(sample.soonest_ms);
        timers.latest_ms = timers.latest_ms.max(sample.latest_ms);
        timers.periodic += sample.periodic;
    }
    let mut all: Vec<PendingTimers> = all.into_values().collect();
    all.sort_by(|a, b| (b.count, &a.id).cmp(&(a.count, &b.id)));
    all
}

/// Eight hex digits from the use and the callback's name alone, so that they are the same in the next run: FNV-1a, 64 bits, folded.
fn stable_id(usage: TimerUse, callback: &[u32], frames: &[Frame]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let functions =
        callback.iter().filter_map(|&index| frames.get(index as usize)).map(|frame| frame.function.as_str());
    for text in [usage.name()].into_iter().chain(functions) {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{:08x}", (hash >> 32) as u32 ^ hash as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Stack, StackId, StackTable};

    struct Each(Vec<Vec<u32>>);

    impl Frames for Each {
        fn of(&self, stack: StackId) -> &[u32] {
            &self.0[stack.index()]
        }
    }

    #[test]
    fn timers_that_call_a_function_of_the_same_name_are_one_row() {
        let mut stacks = StackTable::default();
        let [first, same, other] = [1, 2, 3].map(|entry| stacks.intern(Stack::of_function(entry)));
        let frame = |function: &str| Frame { function: function.to_owned(), ..Frame::default() };
        let frames = [frame("main.expire"), frame("main.expire"), frame("main.reap")];
        let symbols = Each(vec![vec![0], vec![1], vec![2]]);
        let sample = |usage, callback, count, soonest_ms, latest_ms| TimerSample {
            usage,
            callback,
            count,
            soonest_ms,
            latest_ms,
            periodic: 0,
        };
        let samples = [
            sample(TimerUse::Callback, Some(first), 2, 50, 70),
            sample(TimerUse::Callback, Some(same), 3, 20, 60),
            sample(TimerUse::Context, Some(other), 9, 1, 1),
            sample(TimerUse::Callback, Some(other), 5, 1, 1),
            sample(TimerUse::Channel, None, 1, 0, 0),
        ];
        let timers = pending(&samples, &symbols, &frames);
        let rows: Vec<_> = timers.iter().map(|row| (row.usage, row.count, row.soonest_ms, row.latest_ms)).collect();
        assert_eq!(rows.len(), 4);
        assert_eq!(rows[0], (TimerUse::Context, 9, 1, 1));
        assert!(rows.contains(&(TimerUse::Callback, 5, 20, 70)), "{rows:?}");
        assert_eq!(timers[0].id.len(), 8);
    }
}
