//! Flame graph: as wide as many tasks are parked, coloured by what they wait for.
//!
//! inferno draws it; what it cannot do (a legend, a word on what was not seen, colours by position) is put into its picture by
//! [`head`].

mod head;
mod palette;

use std::io;

use inferno::flamegraph::{self, color};

use self::{
    head::{FONT_SIZE, Head, LegendEntry},
    palette::Runs,
};
use super::{
    Options, Report, View, Weight, evidence,
    stacks::{Stacks, WeightedStack},
    words,
};
use crate::model::{Recording, WaitKind};

/// Width in pixels if none is asked for; a browser then stretches the picture to its window.
const DEFAULT_WIDTH: usize = 1_200;

/// No picture is narrower, in pixels: below it title and buttons overlap.
const MIN_WIDTH: usize = 400;

/// The `.svg` format.
pub(super) struct Svg;

impl Report for Svg {
    fn write(&self, recording: &Recording, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
        let stacks = Stacks::of(recording, options);
        let head = Head {
            title: title(recording, options),
            subtitle: subtitle(recording, options, &stacks),
            legend: legend(recording, options, &stacks),
            unseen: evidence::unseen(recording),
            width: options.width.unwrap_or(DEFAULT_WIDTH).max(MIN_WIDTH),
        };
        if stacks.is_empty() {
            head.write_alone(&evidence::nothing_parked(recording), out)
        } else {
            let mut lines: Vec<(String, &WeightedStack)> =
                stacks.iter().map(|stack| (stacks.folded(stack), stack)).collect();
            // inferno wants the order of the whole lines.
            lines.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            let runs = lines.iter().map(|(_, stack)| (stack.kind, stack.weight));
            let runs = Runs::of(runs);
            let mut palette = palette::by_text(&stacks);
            let lines = lines.iter().map(|(line, _)| line.as_str());
            let picture = flame_graph(recording, options, lines, &mut palette, &head)?;
            head.write_into(&picture, &runs, out)
        }
    }
}

/// The picture as inferno draws it from folded `lines`, which are sorted.
fn flame_graph<'a>(
    recording: &Recording,
    options: &Options,
    lines: impl Iterator<Item = &'a str>,
    palette: &mut color::PaletteMap,
    head: &Head,
) -> io::Result<String> {
    let mut drawing = flamegraph::Options::default();
    drawing.title.clone_from(&head.title);
    drawing.subtitle = Some(head.subtitle.clone());
    drawing.count_name = match options.weight {
        Weight::Tasks => format!("{}s", evidence::noun(recording)),
        Weight::Time => "ms".into(),
    };
    drawing.font_size = FONT_SIZE;
    drawing.font_width = head::FONT_ASPECT;
    drawing.image_width = options.width.map(|_| head.width);
    drawing.palette_map = Some(palette);
    // Every text is in the palette; should one not be, its colour shall at least be no random one.
    drawing.deterministic = true;
    drawing.no_sort = true;
    drawing.bgcolors = Some(color::BackgroundColor::Flat(head::BACKGROUND));
    let mut picture = Vec::new();
    flamegraph::from_lines(&mut drawing, lines, &mut picture)?;
    String::from_utf8(picture).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn title(recording: &Recording, options: &Options) -> String {
    let noun = evidence::noun(recording);
    let target = &recording.target;
    let name = words::harmless(&target.comm);
    match options.view {
        View::Parked => format!("Parked {noun}s of {name} (pid {})", target.pid),
        View::Creation => format!("Where parked {noun}s of {name} (pid {}) were created", target.pid),
    }
}

fn subtitle(recording: &Recording, options: &Options, stacks: &Stacks) -> String {
    let noun = evidence::noun(recording);
    let alive = words::count(evidence::alive(recording), noun);
    let threshold = words::short_span(recording.min_block_ms);
    let moment = words::utc(&recording.started);
    if stacks.is_empty() {
        return format!("{alive} · {moment}");
    }
    let parked = words::thousands(evidence::parked(recording));
    let width = match options.weight {
        Weight::Tasks => format!("number of {noun}s"),
        Weight::Time => "time parked so far".into(),
    };
    format!("{parked} of {alive} parked longer than {threshold} · {moment} · width: {width}")
}

/// One entry for each kind of wait that occurs, and one for what leads to several.
fn legend(recording: &Recording, options: &Options, stacks: &Stacks) -> Vec<LegendEntry> {
    let weight_of = |kind: WaitKind| {
        let stacks = stacks.iter().filter(|stack| stack.kind == kind);
        stacks.fold((0, 0), |(tasks, weight): (u64, u64), stack| {
            (tasks + stack.tasks, weight.saturating_add(stack.weight))
        })
    };
    let mut legend = Vec::new();
    for &kind in WaitKind::ALL {
        let (tasks, weight) = weight_of(kind);
        if tasks > 0 {
            legend.push(LegendEntry {
                color: palette::of_kind(kind),
                name: kind.name(),
                amount: match options.weight {
                    Weight::Tasks => words::thousands(tasks),
                    Weight::Time => words::span(weight),
                },
                about: format!(
                    "{} parked in waits of this kind; click to mark them",
                    words::count(tasks, evidence::noun(recording))
                ),
                kind: Some(kind),
            });
        }
    }
    if legend.len() > 1 {
        legend.push(LegendEntry {
            color: palette::MIXED,
            name: "several kinds",
            amount: String::new(),
            about: "leads to waits of several kinds; a lighter tint leads to one kind".into(),
            kind: None,
        });
    }
    legend
}

#[cfg(test)]
mod tests;
