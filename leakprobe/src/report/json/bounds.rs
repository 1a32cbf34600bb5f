//! How deep a stack and how long a text of a frame may be: a stack names frames by number, so a small file can say much. What all
//! stacks come to is bounded where an output is made (`report/cost.rs`): a recording itself is never refused for it, since other
//! outputs, or shorter stacks, can be had.

use crate::model::{Frame, Recording};

/// Most frames of one stack: four times as many return addresses as are followed, as calls that were inlined add to them.
const MOST_FRAMES: usize = 1 << 16;
/// Most bytes of one text of a frame.
const MOST_TEXT: usize = 64 << 10;

/// Says which stack is too deep, or what is too long in the frames of a recording.
pub(super) fn check(recording: &Recording) -> Result<(), String> {
    let is_long = |frame: &Frame| texts(frame).any(|text| text.len() > MOST_TEXT);
    if let Some(place) = recording.frames.iter().position(is_long) {
        return Err(format!("a text of frame {place} is longer than {} KiB", MOST_TEXT >> 10));
    }
    if stacks(recording).any(|stack| stack.len() > MOST_FRAMES) {
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
fn stacks(recording: &Recording) -> impl Iterator<Item = &[u32]> {
    let tasks = recording.tasks.iter();
    let tasks = tasks.flat_map(|task| [&*task.stack, &*task.kernel_stack, &*task.created_by.stack]);
    let goroutines = recording.tasks.iter().filter_map(|task| task.goroutine.as_ref());
    let ancestors = goroutines.flat_map(|goroutine| goroutine.ancestors.iter());
    let ancestors = ancestors.flat_map(|ancestor| [&*ancestor.stack, &*ancestor.creation]);
    let sites = recording.sites.iter().flat_map(|site| [&*site.stack, &*site.creation]);
    let timers = recording.timers.iter().map(|timers| &*timers.callback);
    let ended = recording.ended_waits.iter().map(|wait| &*wait.stack);
    tasks.chain(ancestors).chain(sites).chain(timers).chain(ended)
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
