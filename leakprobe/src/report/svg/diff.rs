//! Differential flame graph: as wide as many tasks are parked in the second recording, red where there are more than in the
//! first, blue where there are fewer.

use std::{collections::BTreeMap, io};

use inferno::flamegraph;

use super::{
    DEFAULT_WIDTH, MIN_WIDTH,
    before::{Before, FEWER, MORE, NO_WIDTH, SAME},
    head::{self, FONT_SIZE, Head, LegendEntry},
    palette::Runs,
};
use crate::{
    analysis::Change,
    report::{
        Options, Weight,
        diff::{Compared, folded},
        evidence, words,
    },
};

pub(in crate::report) fn write(compared: &Compared<'_>, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
    let stacks = folded::stacks(compared, options);
    let head = Head {
        title: title(compared),
        subtitle: subtitle(compared, options),
        root: root(compared),
        legend: legend(compared),
        unseen: compared.diff.reasons.clone(),
        width: options.width.unwrap_or(DEFAULT_WIDTH).max(MIN_WIDTH),
    };
    if stacks.values().all(|&[_, after]| after == 0) {
        return head.write_alone(&words::capitalized(&compared.sentence()), out);
    }
    let (picture, before) = draw(&stacks, compared, options, &head)?;
    // No more is held than is still needed: each of these is as large as the picture.
    drop(stacks);
    let mut whole = Vec::new();
    head.write_into(&picture, &Runs::of(std::iter::empty()), &mut whole)?;
    drop(picture);
    before.write_into(&String::from_utf8(whole).map_err(head::invalid)?, out)
}

/// The picture as inferno draws it, and what its frames weighed before.
fn draw(
    stacks: &BTreeMap<String, [u64; 2]>,
    compared: &Compared<'_>,
    options: &Options,
    head: &Head,
) -> io::Result<(String, Before)> {
    // inferno wants the order of the whole lines; what has no width it does not draw.
    let mut lines: Vec<(String, &str, u64)> = Vec::new();
    for (stack, &[_, after]) in stacks.iter().filter(|(_, [_, after])| *after > 0) {
        lines.push((format!("{stack} {after}"), stack, after));
    }
    lines.sort_unstable();
    let before = Before::of(stacks, lines.iter().map(|&(_, stack, after)| (stack, after)));
    let mut drawing = flamegraph::Options::default();
    drawing.title.clone_from(&head.title);
    drawing.subtitle = Some(head.subtitle.clone());
    drawing.count_name = match options.weight {
        Weight::Tasks => format!("{}s", evidence::noun(compared.after)),
        Weight::Time => "ms".into(),
    };
    drawing.font_size = FONT_SIZE;
    drawing.font_width = head::FONT_ASPECT;
    drawing.image_width = options.width.map(|_| head.width);
    drawing.deterministic = true;
    drawing.no_sort = true;
    drawing.bgcolors = Some(flamegraph::color::BackgroundColor::Flat(head::BACKGROUND));
    let mut picture = Vec::new();
    flamegraph::from_lines(&mut drawing, lines.iter().map(|(line, _, _)| line.as_str()), &mut picture)?;
    Ok((String::from_utf8(picture).map_err(head::invalid)?, before))
}

fn title(compared: &Compared<'_>) -> String {
    let target = &compared.after.recording.target;
    let noun = evidence::noun(compared.after);
    words::capitalized(&format!("parked {noun}s of {}: after and before", words::harmless(&target.comm)))
}

fn subtitle(compared: &Compared<'_>, options: &Options) -> String {
    let [before, after] = &compared.names;
    let width = match options.weight {
        Weight::Tasks => "number",
        Weight::Time => "time parked",
    };
    format!("{} · {before} → {after} · width: {width} in the second", compared.sentence())
}

fn root(compared: &Compared<'_>) -> String {
    let target = &compared.after.recording.target;
    format!("{} (pid {})", words::harmless(&target.comm), target.pid)
}

fn legend(compared: &Compared<'_>) -> Vec<LegendEntry> {
    let diff = &compared.diff;
    let entry = |color, name, amount: u64, about: &str| LegendEntry {
        color,
        name,
        amount: if amount > 0 { words::thousands(amount) } else { String::new() },
        about: about.to_owned(),
        kind: None,
    };
    let gone = diff.rows.iter().filter(|row| row.change == Change::Gone);
    let gone = gone.map(|row| row.before.count).fold(0, u64::saturating_add);
    let mut legend = vec![
        entry(
            MORE,
            "more",
            diff.more(),
            "more are parked here than before; the redder, the larger a part of them is new",
        ),
        entry(
            FEWER,
            "fewer",
            diff.fewer(),
            "fewer are parked here than before; the bluer, the larger a part of them has gone",
        ),
        entry(SAME, "as many", 0, "as many as before"),
    ];
    if gone > 0 {
        legend.push(entry(
            NO_WIDTH,
            "gone, no width:",
            gone,
            "of sites where nothing is parked any more only the callers are seen",
        ));
    }
    legend
}
