//! How the number of threads went, what the report rests on, and what it cost.

use std::io;

use super::{Page, paint::Style, wrap};
use crate::report::{evidence as facts, words};

/// In shorter runs the start, which costs the same in each, would pass for a lasting share of a core, ms.
const MIN_SHARE_MS: u64 = 10_000;

/// Characters of a sparkline.
const SPARK_WIDTH: usize = 40;

const SPARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

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
        self.heading(&format!("Growth in {time}"))?;
        let noun = format!("{}s", facts::noun(self.recording));
        let tasks: Vec<u64> = growth.iter().map(|sample| sample.tasks).collect();
        let parked: Vec<u64> = growth.iter().map(|sample| sample.parked).collect();
        self.grown(&noun, &tasks)?;
        self.grown("parked", &parked)
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
        writeln!(self.out, "  {name:<12} {change:<24} {}", spark(numbers))
    }

    /// What was looked at, how completely, what was lost, what it cost.
    pub(super) fn evidence(&mut self) -> io::Result<()> {
        let recording = self.recording;
        let coverage = &recording.coverage;
        self.heading("Evidence")?;
        let sources: Vec<String> = coverage.sources.iter().map(|source| words::harmless(source)).collect();
        let sources = if sources.is_empty() { "nothing".into() } else { sources.join(", ") };
        self.fact(
            "watched",
            &format!(
                "{sources}: {}, {}",
                words::count(coverage.snapshots, "snapshot"),
                words::count(coverage.events, "event")
            ),
        )?;
        let noun = facts::noun(recording);
        self.fact(
            "stacks",
            &format!(
                "complete for {} of {}",
                words::thousands(coverage.stacks_complete),
                words::count(coverage.blocked, &format!("blocked {noun}"))
            ),
        )?;
        let mut creations = format!(
            "seen with stack for {} of {}",
            words::thousands(coverage.creations_known),
            words::count(coverage.threads, noun),
        );
        if recording.duration_ms > 0 {
            creations += &format!(
                " ({} created, {} exited meanwhile)",
                words::thousands(coverage.created),
                words::thousands(coverage.exited)
            );
        }
        self.fact("creations", &creations)?;
        // If nothing is parked, the report began with these.
        if facts::parked(recording) > 0 {
            // A gap is a sentence that says itself what was not watched.
            self.facts("gap", facts::gaps(recording))?;
            self.facts("not known", facts::unknown_ages(recording).into_iter())?;
            self.facts("lost", facts::losses(recording))?;
        }

        let cost = &recording.cost;
        let mut text = format!("{} of CPU", words::span(cost.cpu_ms));
        if recording.duration_ms >= MIN_SHARE_MS {
            let share = cost.cpu_ms as f64 / recording.duration_ms as f64 * 100.0;
            text += &format!(" ({share:.1} % of one core)");
        }
        text += &format!(", {:.1} MB of memory", cost.rss_mb);
        if cost.snapshot_ms > 0.0 {
            text += &format!(", first snapshot read in {:.1} ms", cost.snapshot_ms);
        }
        self.fact("own cost", &text)
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

/// `numbers` as a line of blocks, from the least to the greatest of them; the last of each group if there are too many.
fn spark(numbers: &[u64]) -> String {
    let (Some(&least), Some(&greatest)) = (numbers.iter().min(), numbers.iter().max()) else {
        return String::new();
    };
    let width = numbers.len().min(SPARK_WIDTH);
    let height = |number: u64| {
        let part = (number - least) as f64 / ((greatest - least) as f64).max(1.0);
        SPARKS[(part * (SPARKS.len() - 1) as f64).round() as usize % SPARKS.len()]
    };
    (1..=width).map(|place| height(numbers[numbers.len() * place / width - 1])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparks_go_from_the_least_to_the_greatest() {
        assert_eq!(spark(&[]), "");
        assert_eq!(spark(&[5, 5]), "▁▁");
        assert_eq!(spark(&[10, 17, 12]), "▁█▃");
        let long: Vec<u64> = (0..1_000).collect();
        let long = spark(&long);
        assert_eq!(long.chars().count(), SPARK_WIDTH);
        assert!(long.starts_with('▁') && long.ends_with('█'));
        assert_eq!(spark(&[0, u64::MAX]), "▁█");
    }
}
