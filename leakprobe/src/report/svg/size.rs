//! How large a flame graph becomes, known before it is drawn: a name is longer in it than in a recording, as characters that mean
//! something in XML are written out, and each frame has some 200 bytes beside its name.

use inferno::flamegraph;
use quick_xml::escape::escape;

use super::{
    DEFAULT_WIDTH, MIN_WIDTH,
    head::{FONT_ASPECT, FONT_SIZE},
};
use crate::report::{Options, stacks::Stacks};

/// Most bytes that a frame takes in a picture beside its name: tags, numbers, and what stands in its title beside the name.
const MARKUP: u64 = 288;

/// Most bytes of a character, written out.
const CHARACTER: u64 = 6;

/// Of the flame graph of some stacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::report) struct Size {
    /// Frames of the tree that the stacks make, whether or not they are wide enough to be drawn.
    pub(in crate::report) frames: u64,
    /// Most bytes of those that are drawn.
    pub(in crate::report) bytes: u64,
}

impl Size {
    pub(in crate::report) fn of(stacks: &Stacks, options: &Options) -> Self {
        let names: Vec<u64> = stacks.labels().iter().map(|label| escape(label.as_str()).len() as u64).collect();
        let total: u64 = stacks.iter().map(|stack| stack.weight).sum();
        let least = total as f64 * flamegraph::Options::default().min_width / 100.0;
        let width = options.width.unwrap_or(DEFAULT_WIDTH).max(MIN_WIDTH) as f64;
        let characters = width / (FONT_SIZE as f64 * FONT_ASPECT);
        let mut size = Self::default();
        let mut add = |label: u32, weight: u64| {
            size.frames += 1;
            if (weight as f64) < least {
                return;
            }
            let name = names.get(label as usize).copied().unwrap_or(0);
            let room = (characters * weight as f64 / total as f64) as u64;
            size.bytes += name + name.min(room * CHARACTER) + MARKUP;
        };
        // The frames that lie on each other at `x`, outermost first, and where each begins.
        let mut open: Vec<(u32, u64)> = Vec::new();
        let mut x = 0;
        for stack in stacks.iter() {
            let shared = open.iter().zip(&stack.frames).take_while(|((label, _), frame)| label == *frame).count();
            open.drain(shared..).for_each(|(label, start)| add(label, x - start));
            open.extend(stack.frames.iter().skip(shared).map(|&label| (label, x)));
            x += stack.weight;
        }
        open.into_iter().for_each(|(label, start)| add(label, x - start));
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Frame, Recording},
        report::{Format, diff::Pair, fixture, shown::Shown},
    };

    /// Head, style and script of a picture.
    const AROUND: u64 = 64 << 10;

    /// As many tasks as `names`, each parked at one of its own on top of the others.
    fn recording(names: &[String]) -> Recording {
        let mut recording = fixture::single_thread();
        recording.frames = names.iter().map(|name| Frame { function: name.clone(), ..Frame::default() }).collect();
        let all: Vec<u32> = (0..).take(names.len()).collect();
        let task = recording.tasks[0].clone();
        let tasks = (0..names.len()).map(|first| {
            let mut task = task.clone();
            task.site = None;
            task.stack = [&all[first..], &all[..first]].concat().into();
            task
        });
        recording.tasks = tasks.collect();
        recording
    }

    #[test]
    fn a_picture_is_no_larger_than_was_reckoned() {
        let names = |text: &str| (0..20).map(|n| format!("{n}{}", text.repeat(1_000))).collect::<Vec<String>>();
        let hostile = ["a", "\"", "&", "'<>", "\u{1}", "\u{7f}", "界", "_[k]"].map(|text| recording(&names(text)));
        for recording in fixture::all().into_iter().chain(hostile) {
            for width in [None, Some(20_000)] {
                let options = Options { width, ..Options::default() };
                let stacks = Stacks::of(&Shown::of(&recording, &options), &options);
                let most = Size::of(&stacks, &options).bytes;
                let pair = Pair { before: ("a".into(), fixture::idle()), after: ("b".into(), recording.clone()) };
                let (mut alone, mut compared) = (Vec::new(), Vec::new());
                Format::Svg.report().write(&recording, &options, &mut alone).unwrap();
                pair.write(Format::Svg, &options, &mut compared).unwrap();
                for written in [alone.len() as u64, compared.len() as u64] {
                    assert!(written <= most + AROUND, "{written} {most}");
                    assert!(most <= written * 3 / 2 + AROUND, "{written} {most}");
                }
            }
        }
    }

    #[test]
    fn what_is_too_narrow_to_be_drawn_takes_no_room_in_it() {
        let mut recording = fixture::single_thread();
        let task = recording.tasks[0].clone();
        recording.frames = (0..40_000).map(|n| Frame { function: n.to_string(), ..Frame::default() }).collect();
        let own = |n: u32| crate::model::Task { site: None, stack: [n].into(), ..task.clone() };
        recording.tasks = (0..40_000).map(own).collect();
        let options = Options::default();
        let size = Size::of(&Stacks::of(&Shown::of(&recording, &options), &options), &options);
        assert!(size.frames == 80_000 && size.bytes == 0, "{size:?}");
    }
}
