//! What a check came to: the one sentence, the rounds that it rests on, what does not count, and what to do next.

use std::io;

use super::{
    Page,
    paint::Style,
    table::{self, Column, Layout},
    wrap,
};
use crate::{
    analysis,
    model::{Check, CheckOutcome, Site, Verdict},
    report::{checked, words},
};

/// Sites that are shown in full, unless all are asked for.
const MAX_FOUND: usize = 10;

impl Page<'_> {
    /// The outcome; nothing if it was no check.
    pub(super) fn outcome(&mut self) -> io::Result<()> {
        let Some(check) = &self.recording.check else {
            return Ok(());
        };
        self.because(check)?;
        writeln!(self.out)
    }

    fn because(&mut self, check: &Check) -> io::Result<()> {
        let style = if check.outcome == CheckOutcome::Passed { Style::Bold } else { Style::Warning };
        self.wrapped("", 2, &wrap::sentence(&checked::outcome(self.recording, check)), style)?;
        for reason in checked::because(check).skip(1) {
            self.wrapped("  ", 4, &wrap::sentence(&reason), style)?;
        }
        Ok(())
    }

    /// The rounds, and what does not count.
    pub(super) fn rounds(&mut self) -> io::Result<()> {
        let recording = self.recording;
        let Some(check) = &recording.check else {
            return Ok(());
        };
        let rounds: Vec<[String; 4]> = check.rounds.iter().map(checked::round).collect();
        let column = |title: &str, place: usize| {
            Column::new(title, Layout::Left, Style::Plain, rounds.iter().map(|round| round[place].clone()))
        };
        let names = (0..rounds.len()).map(checked::round_name);
        let columns = vec![
            Column::new("after", Layout::Left, Style::Bold, names),
            column("tasks", 0),
            column("requests", 1),
            column("load", 2),
            column("numbers", 3),
        ];
        if !rounds.is_empty() {
            writeln!(self.out)?;
            table::write(columns, self.width, self.paint, self.out)?;
        }
        let mut told: Vec<(&str, String)> = vec![("coverage", checked::coverage(check))];
        for site in recording.sites.iter().filter(|site| site.accepted.is_some()) {
            let why = words::harmless(site.accepted.as_deref().unwrap_or_default());
            told.push(("accepted", format!("{} at site {}, {why}", site.verdict.name(), words::harmless(&site.id))));
        }
        told.extend(check.notes.iter().map(|note| ("note", words::harmless(note))));
        for (label, text) in told {
            self.wrapped(&format!("{label:<10}"), 10, &wrap::sentence(&text), Style::Dim)?;
        }
        Ok(())
    }

    /// What to do now, and once more what it came to: in a log, the end is what one sees first.
    pub(super) fn next(&mut self) -> io::Result<()> {
        let Some(check) = &self.recording.check else {
            return Ok(());
        };
        let steps = checked::next(self.shown, check);
        if !steps.is_empty() {
            self.heading("Next")?;
        }
        for step in &steps {
            self.wrapped("  ", 4, &wrap::sentence(step), Style::Plain)?;
        }
        writeln!(self.out)?;
        self.because(check)
    }

    /// Whether each of the sites is shown in full: what fails the check, or else the first one.
    pub(super) fn in_full(&self) -> Vec<bool> {
        let sites = &self.shown.sites;
        let fail_on = checked::fail_on(self.recording.check.as_ref());
        let fails = |site: &Site| self.recording.check.is_some() && analysis::fails(site, fail_on);
        let found: Vec<usize> = (0..sites.len()).filter(|&place| fails(sites[place])).take(MAX_FOUND).collect();
        (0..sites.len()).map(|place| found.contains(&place) || (found.is_empty() && place == 0)).collect()
    }

    /// What is thought of a site, and what it looks like.
    pub(super) fn verdict(&mut self, site: &Site) -> io::Result<()> {
        if site.verdict < Verdict::Suspect {
            return Ok(());
        }
        let looks = site.finding.as_ref().map(|finding| format!(": looks like a {}", words::harmless(&finding.title)));
        let text = format!("{}{}", site.verdict.name(), looks.unwrap_or_default());
        self.wrapped("  ", 4, &wrap::sentence(&text), Style::Warning)
    }

    /// How to mend it.
    pub(super) fn advice(&mut self, site: &Site) -> io::Result<()> {
        match &site.finding {
            Some(finding) if site.verdict >= Verdict::Suspect => {
                let text = words::harmless(&finding.advice);
                self.wrapped("  advice: ", 4, &wrap::sentence(&text), Style::Plain)
            }
            _ => Ok(()),
        }
    }
}
