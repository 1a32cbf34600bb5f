//! What the stacks of a recording grow to once each frame stands in it as text, as in pictures and traces: a stack names frames by
//! number, so a small file can say much. What one stack and one frame may be is bounded here; what all of them come to, where an
//! output is made (`report/cost.rs`): a recording itself is never refused for it, since other outputs, or shorter stacks, can be had.

use std::{
    collections::HashSet,
    mem::{Discriminant, discriminant},
};

use crate::model::{Frame, Recording, StackEnd, WaitKind};

/// Most frames of one stack: four times as many return addresses as are followed, as calls that were inlined add to them.
const MOST_FRAMES: usize = 1 << 16;
/// Most bytes of one text of a frame.
const MOST_TEXT: usize = 64 << 10;

/// What makes tasks a stack of their own in a picture.
type Key<'a> = (&'a [u32], &'a [u32], Option<WaitKind>, Option<Discriminant<StackEnd>>);

/// What the distinct stacks of a recording are once each frame stands in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::report) struct Expanded {
    /// Bytes of text of all frames.
    pub(in crate::report) text: u64,
    /// Frames.
    pub(in crate::report) frames: u64,
}

impl Expanded {
    /// Of all stacks, each down to `max_depth` frames; no more is added once `most` bytes of text are exceeded.
    pub(in crate::report) fn of(recording: &Recording, max_depth: Option<usize>, most: u64) -> Self {
        let lengths: Vec<u64> =
            recording.frames.iter().map(|frame| texts(frame).map(|text| text.len() as u64).sum()).collect();
        let length = |frame: &u32| lengths.get(*frame as usize).copied().unwrap_or(0);
        let mut known: HashSet<Key<'_>> = HashSet::new();
        let mut all = Self::default();
        for key in keys(recording) {
            let (stack, in_kernel, ..) = key;
            if all.text > most || !known.insert(key) {
                continue;
            }
            let stack = stack.get(..max_depth.unwrap_or(stack.len())).unwrap_or(stack);
            let frames = stack.iter().chain(in_kernel);
            all.frames = all.frames.saturating_add((stack.len() + in_kernel.len()) as u64);
            all.text = frames.map(length).fold(all.text, u64::saturating_add);
        }
        all
    }
}

/// Says which stack is too deep, or what is too long in the frames of a recording.
pub(super) fn check(recording: &Recording) -> Result<(), String> {
    let is_long = |frame: &Frame| texts(frame).any(|text| text.len() > MOST_TEXT);
    if let Some(place) = recording.frames.iter().position(is_long) {
        return Err(format!("a text of frame {place} is longer than {} KiB", MOST_TEXT >> 10));
    }
    if keys(recording).any(|(stack, in_kernel, ..)| stack.len().max(in_kernel.len()) > MOST_FRAMES) {
        return Err(format!("a stack in it has more than {MOST_FRAMES} frames"));
    }
    Ok(())
}

/// What reports write of a frame.
fn texts(frame: &Frame) -> impl Iterator<Item = &str> {
    let optional = [&frame.file, &frame.unknown, &frame.called_as];
    let optional = optional.into_iter().flatten().map(String::as_str);
    [frame.function.as_str(), &frame.module, &frame.address].into_iter().chain(optional)
}

/// All stacks of a recording.
fn keys(recording: &Recording) -> impl Iterator<Item = Key<'_>> {
    let parked = recording.tasks.iter().map(|task| -> Key<'_> {
        let kind = task.wait.as_ref().map(|wait| wait.kind);
        (&task.stack, &task.kernel_stack, kind, Some(discriminant(&task.stack_end)))
    });
    let created = recording.tasks.iter().map(|task| alone(&task.created_by.stack));
    let goroutines = recording.tasks.iter().filter_map(|task| task.goroutine.as_ref());
    let ancestors = goroutines.flat_map(|goroutine| goroutine.ancestors.iter());
    let ancestors = ancestors.flat_map(|ancestor| [alone(&ancestor.stack), alone(&ancestor.creation)]);
    let sites = recording.sites.iter().flat_map(|site| [alone(&site.stack), alone(&site.creation)]);
    let timers = recording.timers.iter().map(|timers| alone(&timers.callback));
    let ended = recording.ended_waits.iter().map(|wait| alone(&wait.stack));
    parked.chain(created).chain(ancestors).chain(sites).chain(timers).chain(ended)
}

fn alone(stack: &[u32]) -> Key<'_> {
    (stack, &[], None, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    /// A recording with one task, whose stack is `depth` times a frame with a name of `length` bytes.
    fn recording(length: usize, depth: usize) -> Recording {
        let mut recording = fixture::checkout();
        recording.frames[0] = Frame { function: "x".repeat(length), ..Frame::default() };
        recording.tasks.truncate(1);
        recording.tasks[0].stack = vec![0; depth].into();
        recording
    }

    #[test]
    fn stacks_are_bounded() {
        assert_eq!(check(&recording(1, MOST_FRAMES)), Ok(()));
        let error = check(&recording(1, MOST_FRAMES + 1)).unwrap_err();
        assert_eq!(error, "a stack in it has more than 65536 frames");
    }

    #[test]
    fn texts_are_bounded() {
        assert_eq!(check(&recording(MOST_TEXT, 1)), Ok(()));
        let error = check(&recording(MOST_TEXT + 1, 1)).unwrap_err();
        assert_eq!(error, "a text of frame 0 is longer than 64 KiB");
    }
}
