//! How the number of threads went, what the report rests on, and what it cost.

use std::io;

use super::{Page, paint::Style, wrap};
use crate::{
    model::{GrowthSample, TaskKind},
    report::{Kind, evidence as facts, words},
};

/// Characters of a sparkline.
const SPARK_WIDTH: usize = 40;

impl Page<'_> {
    /// First and last number of tasks, and the way between.
    pub(super) fn growth(&mut self) -> io::Result<()> {
        let growth = &self.recording.growth;
        let (Some(first), Some(last)) = (growth.first(), growth.last()) else {
            return Ok(());
        };
        if growth.len() < 2 {
            return Ok(()); // one look shows no growth
        }
        let time = words::span(last.at_ms.saturating_sub(first.at_ms));
        // It was counted before anybody asked for a part.
        let whole = if self.shown.filtered_words().is_some() { ", of the whole process" } else { "" };
        self.heading(&format!("Growth in {time}{whole}"))?;
        let numbers = |of: fn(&GrowthSample) -> u64| growth.iter().map(of).collect::<Vec<u64>>();
        if self.recording.coverage.go.is_some() && self.shown.kind != Kind::Threads {
            self.grown("goroutines", &numbers(|sample| sample.goroutines))?;
            self.grown("parked", &numbers(|sample| sample.goroutines_parked))?;
            if let Some(text) = facts::goroutines_created(self.shown) {
                writeln!(self.out, "  {text}")?;
            }
        }
        // Of a Go program's threads most are the runtime's.
        if self.recording.coverage.go.is_none() || self.shown.kind == Kind::Threads {
            self.grown("threads", &numbers(|sample| sample.tasks))?;
            self.grown("parked", &numbers(|sample| sample.parked))?;
        }
        Ok(())
    }

    fn grown(&mut self, name: &str, numbers: &[u64]) -> io::Result<()> {
        let (Some(&from), Some(&to)) = (numbers.first(), numbers.last()) else {
            return Ok(());
        };
        let sign = if to < from { "-" } else { "+" };
        let change = format!(
            "{} → {} ({sign}{})",
            words::thousands(from),
            words::thousands(to),
            words::thousands(from.abs_diff(to))
        );
        writeln!(self.out, "  {name:<12} {change:<24} {}", words::spark(numbers, SPARK_WIDTH))
    }

    /// What was looked at, how completely, what was lost, what it cost.
    pub(super) fn evidence(&mut self) -> io::Result<()> {
        let recording = self.recording;
        let coverage = &recording.coverage;
        self.heading("Evidence")?;
        let sources: Vec<String> = coverage.sources.iter().map(|source| words::harmless(&source.to_string())).collect();
        let sources = if sources.is_empty() { "nothing".into() } else { sources.join(", ") };
        self.fact(
            "watched",
            &format!(
                "{sources}: {}, {}",
                words::count(coverage.snapshots, "snapshot"),
                words::count(coverage.events, "event")
            ),
        )?;
        let complete = facts::stacks(self.shown).into_iter().map(|(kind, complete, blocked)| {
            let blocked = words::count(blocked, &format!("blocked {}", facts::noun_of(kind)));
            format!("{} of {blocked}", words::thousands(complete))
        });
        self.fact("stacks", &format!("complete for {}", complete.collect::<Vec<_>>().join(" and ")))?;
        self.creations()?;
        // If nothing is parked, the report began with these.
        if !self.shown.sites.is_empty() {
            // A gap is a sentence that says itself what was not watched.
            self.facts("gap", facts::gaps(recording))?;
            self.facts("not known", facts::unknown_ages(self.shown).into_iter())?;
            self.facts("lost", facts::losses(recording))?;
        }

        self.facts("paused", facts::pauses(recording))?;

        self.fact("own cost", &facts::cost(recording))
    }

    /// Of how many tasks it is known where they were created.
    fn creations(&mut self) -> io::Result<()> {
        let coverage = &self.recording.coverage;
        let go = coverage.go.as_ref().filter(|_| self.shown.kind != Kind::Threads);
        if let Some(go) = go {
            let known = words::thousands(go.creations_known);
            self.fact("creations", &format!("known for {known} of {}", words::count(go.goroutines, "goroutine")))?;
        }
        if go.is_some() && !self.shown.has(TaskKind::Thread) {
            return Ok(());
        }
        let mut creations = format!(
            "seen with stack for {} of {}",
            words::thousands(coverage.creations_known),
            words::count(coverage.threads, "thread"),
        );
        if self.recording.duration_ms > 0 {
            creations += &format!(
                " ({} created, {} exited meanwhile)",
                words::thousands(coverage.created),
                words::thousands(coverage.exited)
            );
        }
        self.fact(if go.is_some() { "" } else { "creations" }, &creations)
    }

    fn fact(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.labelled(name, text, Style::Plain)
    }

    /// Several facts of one name, which is written once; none is nothing to write.
    fn facts(&mut self, name: &str, texts: impl Iterator<Item = String>) -> io::Result<()> {
        let mut name = name;
        for text in texts {
            self.labelled(name, &text, Style::Warning)?;
            name = "";
        }
        Ok(())
    }

    fn labelled(&mut self, name: &str, text: &str, style: Style) -> io::Result<()> {
        let label = format!("  {name:<12} ");
        self.wrapped(&label, label.chars().count(), &wrap::sentence(text), style)
    }
}
