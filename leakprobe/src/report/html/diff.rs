//! Two recordings compared, as a page.

use std::io;

use super::{
    MAX_SITES, left_out,
    page::{Cell, Page},
};
use crate::{
    analysis::Change,
    model::Recording,
    report::{Options, diff::Compared, shown::Shown, svg, txt::sites, words},
};

/// The differential flame graph of two recordings, the first one being that from before.
pub(super) fn picture([before, after]: [&Recording; 2], options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
    let (before, after) = (Shown::of(before, options), Shown::of(after, options));
    let compared = Compared::of(["baseline", "after the last round"], &before, &after);
    svg::write_diff(&compared, &Options { width: None, ..options.clone() }, out)
}

pub(in crate::report) fn write(compared: &Compared<'_>, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
    let diff = &compared.diff;
    let [before, after] = &compared.names;
    let mut page = Page::begin(out, &format!("{before} → {after}"))?;
    for (label, shown) in [("before", compared.before), ("after", compared.after)] {
        let target = &shown.recording.target;
        let started = words::utc(&shown.recording.started);
        let parked = words::thousands(shown.parked());
        page.sentence("dim", &format!("{label}: {} (pid {}) at {started}, {parked} parked", target.comm, target.pid))?;
    }
    let fewer = compared.fewer();
    let fewer = if fewer.is_empty() { fewer } else { format!("; {fewer}") };
    page.sentence("lead", &format!("{}{fewer}", words::capitalized(&compared.sentence())))?;
    page.sentence("warn", &compared.after.filtered_words().unwrap_or_default())?;
    page.list("warn", &diff.reasons)?;
    page.list("", &diff.notes)?;
    let mut picture = Vec::new();
    svg::write_diff(compared, &Options { width: None, ..options.clone() }, &mut picture)?;
    page.heading("Differential flame graph")?;
    page.picture("differential flame graph", &picture)?;
    page.heading("Sites")?;
    let placed = diff.rows.iter().filter_map(|row| compared.place_of(row).map(|(shown, site)| (row, shown, site)));
    let rows: Vec<Vec<Cell>> = placed
        .clone()
        .take(MAX_SITES)
        .map(|(row, shown, site)| {
            vec![
                Cell::Text(row.change.name().to_owned()),
                Cell::Number(words::thousands(row.before.count)),
                Cell::Number(words::thousands(row.after.count)),
                Cell::Text(site.verdict.name().to_owned()),
                Cell::Text(sites::wait_words(site)),
                Cell::Function(sites::creator(shown, site, None)),
                Cell::Function(sites::place(shown, &site.stack, None)),
                Cell::Link(row.id.to_owned()),
            ]
        })
        .collect();
    page.table(&["change", "before", "after", "verdict", "wait", "created by", "parked in", "site"], &rows)?;
    left_out(&mut page, diff.rows.len(), MAX_SITES, "site")?;
    for (row, shown, site) in placed.take(MAX_SITES) {
        let title = format!("Site {}: {} → {}", row.id, row.before.count, row.after.count);
        page.details(row.id, &title, row.change <= Change::Grown, |page| {
            page.stack("parked in", shown, &site.stack, "")?;
            let why = if site.creation.is_empty() { "its creation was not seen" } else { "" };
            page.stack("created by", shown, &site.creation, why)
        })?;
    }
    page.end()
}
