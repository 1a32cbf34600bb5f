//! Stacks line by line: function, and where it stands.

use std::{collections::HashMap, hash::Hash, io};

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

/// So much is kept of frames that come again: texts of each kind, and bytes of each, which no terminal has room for.
const MAX_KEPT: usize = 1 << 14;
const MAX_KEPT_BYTES: usize = 1 << 10;

/// What was made of frames' texts, by the frame and the width that there was: many stacks may have the same long names.
#[derive(Default)]
pub(super) struct Texts {
    functions: HashMap<(u32, usize), String>,
    locations: HashMap<(u32, usize), String>,
    /// Characters of a frame's location, and whether it is the user's own.
    facts: HashMap<u32, (usize, bool)>,
}

impl Texts {
    fn function(&mut self, place: u32, frame: &Frame, width: usize) -> String {
        let make = || words::shorten(&frames::label(frame), width);
        kept(&mut self.functions, (place, width), make, |text| text.len() <= MAX_KEPT_BYTES)
    }

    fn location(&mut self, place: u32, frame: &Frame, width: usize) -> String {
        let make = || words::cut_middle(&location(frame), width);
        kept(&mut self.locations, (place, width), make, |text| text.len() <= MAX_KEPT_BYTES)
    }

    fn facts(&mut self, place: u32, frame: &Frame) -> (usize, bool) {
        kept(&mut self.facts, place, || (location(frame).chars().count(), frame.is_users()), |_| true)
    }
}

/// What is known of `key`, or what `make` makes, which is known from then on if it is small.
fn kept<K: Eq + Hash, V: Clone>(
    known: &mut HashMap<K, V>,
    key: K,
    make: impl FnOnce() -> V,
    is_small: impl FnOnce(&V) -> bool,
) -> V {
    if let Some(value) = known.get(&key) {
        return value.clone();
    }
    let value = make();
    if is_small(&value) {
        if known.len() >= MAX_KEPT {
            known.clear();
        }
        known.insert(key, value.clone());
    }
    value
}

/// Writes `stack`, innermost frame first, in lines of at most `width` characters; all of it or its most telling frames.
pub(super) fn write(
    shown: &Shown<'_>,
    stack: &[u32],
    all: bool,
    width: usize,
    paint: Paint,
    texts: &mut Texts,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let frames = shown.resolve(stack);
    let (frames, beyond) = shown.cut(&frames);
    // One line that says that one frame is left out would be no shorter.
    let is_cut = !all && frames.len() > INNERMOST + OUTERMOST + 1;
    let (inner, outer) =
        if is_cut { (&frames[..INNERMOST], &frames[frames.len() - OUTERMOST..]) } else { (frames, &frames[..0]) };
    let lines = || inner.iter().chain(outer);
    let room = width.saturating_sub(INDENT.len() + GAP);
    // Functions get what locations do not need, but at least half.
    let longest = lines().map(|&(place, frame)| texts.facts(place, frame).0).max();
    let at_most = room - longest.unwrap_or(0).min(room / 2);
    let longest = lines().map(|&(place, frame)| texts.function(place, frame, at_most).chars().count()).max();
    let column = longest.unwrap_or(0);

    let mut line = |&(place, frame): &(u32, &Frame), out: &mut dyn io::Write| {
        let function = texts.function(place, frame, at_most);
        let location = texts.location(place, frame, room.saturating_sub(column));
        let padding = if location.is_empty() { 0 } else { column - function.chars().count() + GAP };
        let function = if texts.facts(place, frame).1 { paint.bold(&function) } else { function };
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
    words::harmless(&words::both_ends(&format!("{place}{inlined}")))
}

#[cfg(test)]
mod tests {
    use crate::{
        model::Site,
        report::{Format, Options, fixture},
    };

    #[test]
    fn a_long_name_that_many_stacks_have_is_looked_at_once() {
        let mut recording = fixture::checkout();
        let long = "store::Queue<int>::".repeat(50_000);
        recording.frames[0].file = Some(long.clone());
        recording.frames[0].function = long;
        let site = Site { stack: vec![0; 100], creation: vec![0], ..recording.sites[0].clone() };
        recording.sites = vec![site; 400];
        recording.tasks.truncate(1);
        let mut out = Vec::new();
        // Made harmless for each stack, it would be 100 GB.
        let options = Options { all: true, ..Options::default() };
        Format::Txt.report().write(&recording, &options, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().filter(|line| line.starts_with("    ")).count() > 40_000);
        assert!(
            text.lines().all(|line| line.chars().count() <= 240),
            "{:?}",
            text.lines().max_by_key(|line| line.len())
        );
    }
}
