//! What a check came to: the one sentence, the rounds that it rests on, and what does not count.

use std::io;

use super::{Page, paint::Style, wrap};
use crate::{
    analysis,
    model::{CheckOutcome, Site, Verdict},
    report::words,
};

/// Sites that are shown in full, unless all are asked for.
const MAX_FOUND: usize = 10;

impl Page<'_> {
    /// The outcome and the rounds; nothing if it was no check.
    pub(super) fn check(&mut self) -> io::Result<()> {
        let recording = self.recording;
        let Some(check) = &recording.check else {
            return Ok(());
        };
        let outcome = check.outcome.name().to_uppercase();
        let sentence = match check.reasons.split_first() {
            Some((first, _)) => format!("{outcome}: {}", words::harmless(first)),
            None => {
                format!("{outcome}: no leak in {}", words::count(check.rounds.len().saturating_sub(1) as u64, "round"))
            }
        };
        let style = if check.outcome == CheckOutcome::Passed { Style::Bold } else { Style::Warning };
        writeln!(self.out)?;
        self.wrapped("", 2, &wrap::sentence(&sentence), style)?;
        for reason in check.reasons.iter().skip(1) {
            self.wrapped("  ", 4, &wrap::sentence(&words::harmless(reason)), style)?;
        }
        let tasks = |round: &crate::model::Round| {
            let threads = words::count(round.threads, "thread");
            if round.goroutines > 0 { words::count(round.goroutines, "goroutine") } else { threads }
        };
        for (number, round) in check.rounds.iter().enumerate() {
            let name = if number == 0 { "baseline".to_owned() } else { format!("round {number}") };
            let mut told = vec![tasks(round)];
            told.extend(round.requests.map(|requests| words::count(requests, "request")));
            told.extend(round.load_ms.map(|ms| format!("load {}", words::span(ms))));
            let level = if round.settled { "level after" } else { "not level after" };
            told.push(format!("{level} {}", words::span(round.settle_ms)));
            self.wrapped(&format!("  {name:<10}"), 12, &wrap::sentence(&told.join(", ")), Style::Plain)?;
        }
        for site in recording.sites.iter().filter(|site| site.accepted.is_some()) {
            let why = words::harmless(site.accepted.as_deref().unwrap_or_default());
            let text = format!("{} at site {}, {why}", site.verdict.name(), words::harmless(&site.id));
            self.wrapped("  accepted  ", 12, &wrap::sentence(&text), Style::Dim)?;
        }
        for note in &check.notes {
            self.wrapped("  note      ", 12, &wrap::sentence(&words::harmless(note)), Style::Dim)?;
        }
        Ok(())
    }

    /// How many sites are shown in full: what was found, or else the first one.
    pub(super) fn in_full(&self) -> usize {
        let Some(check) = &self.recording.check else {
            return 1;
        };
        let found = self.shown.sites.iter().filter(|site| analysis::fails(site, check.fail_on)).count();
        found.clamp(1, MAX_FOUND)
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
