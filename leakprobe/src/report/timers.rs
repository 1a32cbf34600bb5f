//! Pending timers in words: how many there are, when they fire, what they call.

use super::{frames, shown::Shown, words};
use crate::model::{PendingTimers, TimerUse, Verdict, numbers};

/// The titles of the columns of [`Row::cells`].
pub(super) const TITLES: [&str; 7] = ["timers", "verdict", "after each round", "fire in", "use", "calls", "id"];

/// Later than that is never: what Go does with a time beyond its clock's end.
const NEVER_MS: u64 = 100 * 365 * 24 * 60 * 60 * 1000;

/// Timers that are one row of the table.
pub(super) struct Row<'a> {
    shown: &'a Shown<'a>,
    /// The timers.
    pub(super) timers: &'a PendingTimers,
}

/// The rows of the table, most timers first.
pub(super) fn rows<'a>(shown: &'a Shown<'a>) -> Vec<Row<'a>> {
    let timers = shown.recording.timers.iter().filter(|timers| shown.shows_timers(timers));
    let mut rows: Vec<Row<'_>> = timers.map(|timers| Row { shown, timers }).collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.timers.verdict, row.timers.count)));
    rows
}

impl Row<'_> {
    /// One text for each of [`TITLES`]; empty where there is nothing to tell.
    pub(super) fn cells(&self) -> [String; 7] {
        let timers = self.timers;
        let verdict = if timers.verdict == Verdict::Unjudged { "" } else { timers.verdict.name() };
        [
            words::thousands(timers.count),
            verdict.to_owned(),
            numbers(&timers.counts),
            self.fires(),
            self.usage().to_owned(),
            self.callback(),
            words::harmless(&timers.id),
        ]
    }

    /// What a person would call these timers, and why they are judged as they are, one fact each; empty if they are not judged.
    pub(super) fn judged(&self) -> Option<(String, Vec<String>)> {
        let timers = self.timers;
        let is_judged = timers.verdict != Verdict::Unjudged && !timers.evidence.is_empty();
        let called = match self.callback() {
            callback if callback.is_empty() => self.usage().to_owned(),
            callback => callback,
        };
        is_judged.then(|| (called, timers.evidence.iter().map(|fact| words::harmless(&fact.to_string())).collect()))
    }

    fn usage(&self) -> &'static str {
        match (self.timers.usage, self.timers.periodic) {
            (TimerUse::Callback, _) => "AfterFunc",
            (TimerUse::Context, _) => "context deadline",
            (TimerUse::Channel, 0) => "timer's channel",
            (TimerUse::Channel, periodic) if periodic == self.timers.count => "ticker's channel",
            (TimerUse::Channel, _) => "timers' and tickers' channels",
        }
    }

    fn fires(&self) -> String {
        let span = |ms: u64| if ms > NEVER_MS { "never".to_owned() } else { words::span(ms) };
        let (soonest, latest) = (span(self.timers.soonest_ms), span(self.timers.latest_ms));
        if soonest == latest { soonest } else { format!("{soonest} to {latest}") }
    }

    /// The function that is called.
    fn callback(&self) -> String {
        let frame = self.shown.frames(&self.timers.callback).first().copied();
        frame.map(frames::label).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Fact, Recording},
        report::{Format, Options, fixture},
    };

    const HOUR_MS: u64 = 60 * 60 * 1000;

    fn recording() -> Recording {
        let mut recording = fixture::go::service();
        let place = recording.frames.len() as u32;
        recording.frames.push(crate::model::Frame {
            function: "shop/orders.(*session).expire-fm".into(),
            ..recording.frames[0].clone()
        });
        let timers = |id: &str, usage, count, latest_ms| PendingTimers {
            id: id.into(),
            usage,
            count,
            soonest_ms: HOUR_MS,
            latest_ms,
            ..PendingTimers::default()
        };
        recording.timers = vec![
            PendingTimers { periodic: 2, ..timers("11aa22bb", TimerUse::Channel, 1_500, u64::MAX) },
            PendingTimers {
                callback: [place].into(),
                counts: vec![3, 23, 43],
                verdict: Verdict::Likely,
                evidence: vec![Fact::Text("20 more with each round".into())],
                ..timers("33cc44dd", TimerUse::Callback, 43, HOUR_MS)
            },
        ];
        recording
    }

    fn written(format: Format, recording: &Recording, options: &Options) -> String {
        let mut out = Vec::new();
        format.report().write(recording, options, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_report_for_people_has_the_table() {
        let recording = recording();
        for format in [Format::Txt, Format::Markdown, Format::Html] {
            let text = written(format, &recording, &Options::default());
            for part in [
                "Pending timers, for which no task waits",
                "1,500",
                "1h 0m to never",
                " and tickers",
                "likely",
                "3, 23, 43",
                "AfterFunc",
                "expire-fm",
                "20 more with each round",
                "33cc44dd",
            ] {
                assert!(text.contains(part), "{part} in {text}");
            }
            let none = written(format, &fixture::go::service(), &Options::default());
            assert!(!none.contains("Pending timers"), "nothing is said if there is none");
        }
    }

    #[test]
    fn rows_are_those_of_what_is_shown() {
        let recording = recording();
        let of = |options: &Options| -> Vec<String> {
            let shown = Shown::of(&recording, options);
            rows(&shown).iter().map(|row| row.timers.id.clone()).collect()
        };
        assert_eq!(of(&Options::default()), ["33cc44dd", "11aa22bb"], "what is judged first");
        assert!(of(&Options { kind: crate::report::Kind::Threads, ..Options::default() }).is_empty());
    }
}
