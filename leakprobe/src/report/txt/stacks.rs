//! Stacks line by line: function, and where it stands.

use std::io;

use super::paint::Paint;
use crate::{
    model::Frame,
    report::{frames, shown::Shown, words},
};

/// Of a deep stack, so many innermost and outermost frames are shown: what waits, and what it was started for.
const INNERMOST: usize = 20;
const OUTERMOST: usize = 6;

const INDENT: &str = "    ";

/// Between function and location.
const GAP: usize = 2;

/// Writes `stack`, innermost frame first, in lines of at most `width` characters; all of it or its most telling frames.
pub(super) fn write(
    shown: &Shown<'_>,
    stack: &[u32],
    all: bool,
    width: usize,
    paint: Paint,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let frames = shown.frames(stack);
    let (frames, beyond) = shown.cut(&frames);
    // One line that says that one frame is left out would be no shorter.
    let is_cut = !all && frames.len() > INNERMOST + OUTERMOST + 1;
    let (inner, outer) =
        if is_cut { (&frames[..INNERMOST], &frames[frames.len() - OUTERMOST..]) } else { (frames, &frames[..0]) };
    let lines = || inner.iter().chain(outer);
    let room = width.saturating_sub(INDENT.len() + GAP);
    // Functions get what locations do not need, but at least half.
    let longest = lines().map(|frame| location(frame).chars().count()).max();
    let at_most = room - longest.unwrap_or(0).min(room / 2);
    let function = |frame: &Frame| words::shorten(&frames::label(frame), at_most);
    let longest = lines().map(|frame| function(frame).chars().count()).max();
    let column = longest.unwrap_or(0);

    let line = |frame: &Frame, out: &mut dyn io::Write| {
        let function = function(frame);
        let location = words::cut_middle(&location(frame), room.saturating_sub(column));
        let padding = if location.is_empty() { 0 } else { column - function.chars().count() + GAP };
        let function = if frame.is_users() { paint.bold(&function) } else { function };
        let location = paint.dim(&location);
        writeln!(out, "{INDENT}{function}{:padding$}{location}", "")
    };
    for frame in inner {
        line(frame, out)?;
    }
    if is_cut {
        let left_out = (frames.len() - INNERMOST - OUTERMOST) as u64;
        let text = format!("… {} (--all shows them)", words::count(left_out, "more frame"));
        writeln!(out, "{INDENT}{}", paint.dim(&text))?;
    }
    for frame in outer {
        line(frame, out)?;
    }
    if beyond > 0 {
        let text = format!("… {} left out by --max-depth", words::count(beyond, "outer frame"));
        writeln!(out, "{INDENT}{}", paint.dim(&text))?;
    }
    Ok(())
}

/// Source line, or else the address in its module, and whether the frame is inlined.
fn location(frame: &Frame) -> String {
    let place = match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!("{file}:{line}"),
        (Some(file), None) => file.clone(),
        // The label of a frame without a function is module and address already.
        (None, _) if frame.function.is_empty() || frame.unknown.is_some() => frame.remark(),
        (None, _) if frame.module.is_empty() => frame.address.clone(),
        (None, _) => format!("{}+{}", frame.module_name(), frame.address),
    };
    let inlined = if frame.inlined { " (inlined)" } else { "" };
    words::harmless(&format!("{place}{inlined}"))
}
