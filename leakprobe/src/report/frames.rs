//! Which frames of a stack are shown where there is room for one.
//!
//! A report has room for one frame of a stack. The innermost of all is always the same few functions of libc; what tells a
//! person something is the innermost one that they, or a library that they chose, wrote.

use super::{shown::Shown, words};
use crate::model::Frame;

/// The innermost of the user's frames on `stack`, which is innermost first. One without a name says nothing, so it stands
/// only if none has one.
pub(super) fn innermost_users<'a>(shown: &Shown<'a>, stack: &[u32]) -> Option<&'a Frame> {
    let frames = shown.frames(stack);
    let users = || frames.iter().copied().filter(|frame| frame.is_users());
    users().find(|frame| !frame.function.is_empty()).or_else(|| users().next())
}

/// The outermost of the user's frames on `stack`: on a complete stack, the function that the thread was started with. A closure
/// says nothing by its name, so the first function within it that has one is preferred.
pub(super) fn outermost_users<'a>(shown: &Shown<'a>, stack: &[u32]) -> Option<&'a Frame> {
    let frames = shown.frames(stack);
    let users = || frames.iter().rev().copied().filter(|frame| frame.is_users());
    users().find(|frame| !is_closure(&frame.function)).or_else(|| users().next())
}

/// Whether a name is that of a closure alone, as debug information gives it.
fn is_closure(function: &str) -> bool {
    function.starts_with("{closure#") || function.starts_with("{lambda(") || function.starts_with("operator()")
}

/// The frame's text in reports: harmless, on one line, not empty, and of a very long one both ends.
pub(super) fn label(frame: &Frame) -> String {
    // As other tools mark them.
    let kernel = if frame.is_kernels() { "_[k]" } else { "" };
    let label = if frame.function.is_empty() { frame.label().into() } else { words::both_ends(&frame.function) };
    let label = words::harmless(&format!("{}{kernel}", words::both_ends(&label)));
    if label.is_empty() { "[no name]".into() } else { label }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Options, fixture};

    fn frame(function: &str, module: &str) -> Frame {
        Frame { function: function.into(), module: module.into(), ..Frame::default() }
    }

    #[test]
    fn a_frame_without_a_name_stands_only_if_none_has_one() {
        let mut recording = fixture::idle();
        let server = "/usr/sbin/server";
        recording.frames = vec![
            frame("pthread_cond_wait", "/lib/libc.so.6"),
            frame("", server),
            frame("handle_connection", server),
            frame("main", server),
        ];
        let innermost = |stack: &[u32]| innermost_users(&Shown::of(&recording, &Options::default()), stack).map(label);
        assert_eq!(innermost(&[0, 1, 2, 3]).as_deref(), Some("handle_connection"));
        assert_eq!(innermost(&[0, 1]).as_deref(), Some("[server+]"));
        assert_eq!(innermost(&[0]), None);
    }
}
