//! Flame graph: as wide as many tasks are parked, coloured by what they wait for.
//!
//! inferno draws it; what it cannot do (a legend, a word on what was not seen, colours by position) is put into its picture by
//! [`head`].

mod before;
mod diff;
mod head;
mod layout;
mod palette;
mod size;
mod waits;

use std::io;

use inferno::flamegraph::{self, color};

pub(super) use self::{diff::write as write_diff, size::Size, waits::Waits};
use self::{
    head::{FONT_SIZE, Head, LegendEntry},
    palette::Runs,
};
use super::{
    Options, Report, View, Weight, evidence,
    shown::Shown,
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
        let shown = &Shown::of(recording, options);
        let stacks = Stacks::of(shown, options);
        let head = Head {
            title: title(shown, options),
            subtitle: subtitle(shown, options, &stacks),
            root: root(shown, &stacks),
            legend: legend(shown, options, &stacks),
            unseen: evidence::unseen(shown),
            width: options.width.unwrap_or(DEFAULT_WIDTH).max(MIN_WIDTH),
        };
        if stacks.is_empty() {
            head.write_alone(&evidence::nothing_parked(shown), out)
        } else {
            let mut lines: Vec<(String, &WeightedStack)> =
                stacks.iter().map(|stack| (palette::marked(&stacks.folded(stack)), stack)).collect();
            // inferno wants the order of the whole lines.
            lines.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            let runs = lines.iter().map(|(_, stack)| (stack.kind, stack.weight));
            let runs = Runs::of(runs);
            let mut palette = palette::by_text(&stacks);
            let lines = lines.iter().map(|(line, _)| line.as_str());
            let picture = flame_graph(shown, options, lines, &mut palette, &head)?;
            head.write_into(&picture, &runs, out)
        }
    }
}

/// The picture as inferno draws it from folded `lines`, which are sorted.
fn flame_graph<'a>(
    shown: &Shown<'_>,
    options: &Options,
    lines: impl Iterator<Item = &'a str>,
    palette: &mut color::PaletteMap,
    head: &Head,
) -> io::Result<String> {
    let mut drawing = flamegraph::Options::default();
    drawing.title.clone_from(&head.title);
    drawing.subtitle = Some(head.subtitle.clone());
    drawing.count_name = match options.weight {
        Weight::Tasks => format!("{}s", evidence::noun(shown)),
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

fn title(shown: &Shown<'_>, options: &Options) -> String {
    let noun = evidence::noun(shown);
    let target = &shown.recording.target;
    let name = words::harmless(&target.comm);
    let parked = if shown.parked() > 0 || shown.sites.is_empty() { "parked" } else { "waiting" };
    let title = match options.view {
        View::Parked => format!("{parked} {noun}s of {name} (pid {})", target.pid),
        View::Creation => format!("where {parked} {noun}s of {name} (pid {}) were created", target.pid),
    };
    words::capitalized(&title)
}

/// What stands below everything: the process, and how many of its tasks are drawn.
fn root(shown: &Shown<'_>, stacks: &Stacks) -> String {
    let target = &shown.recording.target;
    let tasks = stacks.iter().fold(0, |tasks: u64, stack| tasks.saturating_add(stack.tasks));
    let tasks = words::count(tasks, evidence::noun(shown));
    format!("{} (pid {}), {tasks}", words::harmless(&target.comm), target.pid)
}

fn subtitle(shown: &Shown<'_>, options: &Options, stacks: &Stacks) -> String {
    let noun = evidence::noun(shown);
    let alive = evidence::alive(shown);
    let moment = words::utc(&shown.recording.started);
    let left_out = shown.filtered_words().map_or_else(String::new, |left_out| format!(" · {left_out}"));
    if stacks.is_empty() {
        return format!("{alive} · {moment}{left_out}");
    }
    let width = match options.weight {
        Weight::Tasks => format!("number of {noun}s"),
        Weight::Time => "time parked so far".into(),
    };
    let parked = words::thousands(shown.parked());
    let threshold = words::short_span(shown.recording.min_block_ms);
    let unknown = evidence::unknown(shown);
    format!("{parked} of {alive} parked longer than {threshold}{unknown} · {moment} · width: {width}{left_out}")
}

/// One entry for each kind of wait that occurs, and one for what leads to several.
fn legend(shown: &Shown<'_>, options: &Options, stacks: &Stacks) -> Vec<LegendEntry> {
    let weight_of = |kind: WaitKind| {
        let stacks = stacks.iter().filter(|stack| stack.kind == kind);
        stacks.fold((0, 0), |(tasks, weight): (u64, u64), stack| {
            (tasks.saturating_add(stack.tasks), weight.saturating_add(stack.weight))
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
                    "{} in waits of this kind; click to mark them",
                    words::count(tasks, evidence::noun(shown))
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
