//! What a check came to, on the page: outcome, rounds, what was found, what is accepted.

use std::io;

use super::{
    MAX_ROWS, left_out,
    page::{Cell, Page},
};
use crate::{
    model::{CheckOutcome, Site, Verdict},
    report::{
        checked::{self, Judged},
        evidence,
        shown::Shown,
        words,
    },
};

/// The outcome; nothing if it was no check.
pub(super) fn outcome(page: &mut Page<'_>, shown: &Shown<'_>) -> io::Result<()> {
    let Some(check) = &shown.recording.check else {
        return Ok(());
    };
    let class = match check.outcome {
        CheckOutcome::Passed => "outcome passed",
        CheckOutcome::Failed => "outcome failed",
        CheckOutcome::Incomplete => "outcome incomplete",
    };
    page.sentence(class, &checked::outcome(shown.recording, check))?;
    page.list("warn", &checked::because(check).skip(1).collect::<Vec<_>>())
}

/// The rounds and what they showed; nothing if it was no check.
pub(super) fn in_full(page: &mut Page<'_>, shown: &Shown<'_>) -> io::Result<()> {
    let Some(check) = &shown.recording.check else {
        return Ok(());
    };
    page.heading("Check")?;
    let round = |(number, round)| {
        let mut cells = vec![Cell::Text(checked::round_name(number))];
        cells.extend(checked::round(round).map(Cell::Text));
        cells
    };
    let skipped = check.rounds.len().saturating_sub(MAX_ROWS);
    let rounds: Vec<Vec<Cell>> = check.rounds.iter().enumerate().skip(skipped).map(round).collect();
    page.table(&["after", "tasks", "requests", "load", "numbers"], &rounds)?;
    page.sentence("dim", &format!("load: {}", check.load.join(" ")))?;
    page.sentence("dim", &format!("coverage: {}", checked::coverage(check)))?;

    let judged = checked::judged(shown);
    let (accepted, found): (Vec<&Judged<'_>>, Vec<&Judged<'_>>) =
        judged.iter().filter(|judged| judged.is_found()).partition(|judged| judged.site.accepted.is_some());
    sites(page, shown, "Found", "looks like", &found, |judged| {
        judged.site.finding.as_ref().map(|finding| finding.title.clone()).unwrap_or_default()
    })?;
    sites(page, shown, "Accepted", "why", &accepted, |judged| judged.accepted().unwrap_or_default())?;
    page.list("", &checked::next(shown, check).iter().map(|step| format!("next: {step}")).collect::<Vec<_>>())?;
    page.list("", &check.notes.iter().map(|note| format!("note: {note}")).collect::<Vec<_>>())
}

/// A table of sites, whose last but one column is `what`.
fn sites(
    page: &mut Page<'_>,
    shown: &Shown<'_>,
    title: &str,
    what: &str,
    sites: &[&Judged<'_>],
    told: impl Fn(&Judged<'_>) -> String,
) -> io::Result<()> {
    if sites.is_empty() {
        return Ok(());
    }
    page.sentence("lead", title)?;
    let row = |judged: &&Judged<'_>| {
        vec![
            Cell::Text(judged.site.verdict.name().to_owned()),
            Cell::Number(words::count(judged.site.count, evidence::noun_of(judged.site.task))),
            Cell::Number(judged.counts()),
            Cell::Function(judged.place(shown)),
            Cell::Function(judged.creator(shown)),
            Cell::Text(told(judged)),
            Cell::Link(judged.site.id.clone()),
        ]
    };
    let rows: Vec<Vec<Cell>> = sites.iter().take(MAX_ROWS).map(row).collect();
    page.table(&["verdict", "now", "after each round", "waits in", "created by", what, "site"], &rows)?;
    left_out(page, sites.len(), MAX_ROWS, "site")
}

/// What is thought of a site, what it looks like, and whether that is accepted.
pub(super) fn verdict(page: &mut Page<'_>, site: &Site) -> io::Result<()> {
    if site.verdict < Verdict::Suspect {
        return Ok(());
    }
    let looks = site.finding.as_ref().map(|finding| format!(": looks like a {}", finding.title)).unwrap_or_default();
    let accepted = site.accepted.as_ref().map(|why| format!(" (accepted, {why})")).unwrap_or_default();
    page.sentence("alarm", &format!("{}{looks}{accepted}", site.verdict.name()))
}

/// How to mend it.
pub(super) fn advice(page: &mut Page<'_>, site: &Site) -> io::Result<()> {
    match &site.finding {
        Some(finding) if site.verdict >= Verdict::Suspect => {
            page.sentence("advice", &format!("Advice: {}", finding.advice))
        }
        _ => Ok(()),
    }
}
