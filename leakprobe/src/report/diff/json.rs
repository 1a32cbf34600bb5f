//! The comparison as JSON, for scripts.

use std::io;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::Compared;
use crate::{
    analysis::{Numbers, Row},
    model::Recording,
    report::{evidence, frames, shown::Shown},
};

/// The schema of a comparison.
const SCHEMA: &str = "leakprobe-diff/1";

/// Two recordings compared.
#[derive(Serialize, JsonSchema)]
struct File<'a> {
    /// `leakprobe-diff/1`.
    schema: &'static str,
    /// The first recording.
    before: About<'a>,
    /// The second one.
    after: About<'a>,
    /// `more` if more is parked at a site than before, `no more` if not, `incomplete` if the recordings do not tell.
    outcome: &'static str,
    /// Why it is `incomplete`.
    reasons: &'a [String],
    /// What else makes the recordings hard to compare.
    notes: &'a [String],
    /// How many more are parked, at the sites where there are more.
    more: u64,
    /// How many fewer wait, at the sites where there are fewer.
    fewer: u64,
    /// Every site of either, those with most more first.
    #[schemars(with = "Vec<Entry<'a>>")]
    sites: Sites<'a>,
}

/// A recording.
#[derive(Serialize, JsonSchema)]
struct About<'a> {
    /// Its file.
    file: &'a str,
    /// The process.
    pid: u32,
    /// Its name.
    comm: &'a str,
    /// When watching began, RFC 3339.
    started: &'a str,
    /// How long it lasted, ms.
    duration_ms: u64,
    /// The parked threshold, ms.
    min_block_ms: u64,
    /// Tasks parked at its end.
    parked: u64,
}

/// A site.
#[derive(Serialize, JsonSchema)]
struct Entry<'a> {
    /// Its id.
    id: &'a str,
    /// `new`, `grown`, `unclear`, `fewer`, `gone` or `same`.
    change: &'static str,
    /// `thread` or `goroutine`.
    task: &'static str,
    /// The kind of wait.
    kind: &'static str,
    /// What is waited for, in words.
    wait: &'a str,
    /// What is thought of it in the recording that has it, the second one if both have; empty if nothing was judged.
    verdict: &'static str,
    /// In the first recording.
    before: Count,
    /// In the second one.
    after: Count,
    /// How many more are parked than waited there before.
    more: u64,
    /// Whether sites with other creators were taken together, since one of the recordings does not know the creators.
    creators_unknown: bool,
    /// Where the tasks wait, innermost function first.
    #[schemars(with = "Vec<String>")]
    stack: Names<'a>,
    /// Where they were created, likewise; empty if that is not known.
    #[schemars(with = "Vec<String>")]
    creation: Names<'a>,
}

/// The sites, each put together when it is written: all of them repeat the names of the same frames.
struct Sites<'a>(&'a Compared<'a>);

impl Serialize for Sites<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.diff.rows.iter().filter_map(|row| entry(self.0, row)))
    }
}

/// The names of a stack's functions.
struct Names<'a> {
    shown: &'a Shown<'a>,
    stack: &'a [u32],
}

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.shown.frames(self.stack).into_iter().map(frames::label))
    }
}

/// Tasks at a site.
#[derive(Serialize, JsonSchema)]
struct Count {
    /// How many wait there.
    count: u64,
    /// Of them parked; of the others it is not known for how long they wait.
    parked: u64,
    /// Age of the oldest wait, ms.
    oldest_ms: u64,
}

impl From<Numbers> for Count {
    fn from(numbers: Numbers) -> Self {
        Self { count: numbers.count, parked: numbers.parked, oldest_ms: numbers.oldest_ms }
    }
}

pub(super) fn write(compared: &Compared<'_>, out: &mut dyn io::Write) -> io::Result<()> {
    let diff = &compared.diff;
    let [first, second] = &compared.names;
    let file = File {
        schema: SCHEMA,
        before: about(first, compared.before),
        after: about(second, compared.after),
        outcome: diff.outcome.name(),
        reasons: &diff.reasons,
        notes: &diff.notes,
        more: diff.more(),
        fewer: diff.fewer(),
        sites: Sites(compared),
    };
    serde_json::to_writer_pretty(&mut *out, &file)?;
    writeln!(out)
}

fn about<'a>(file: &'a str, shown: &Shown<'a>) -> About<'a> {
    let recording: &'a Recording = shown.recording;
    About {
        file,
        pid: recording.target.pid,
        comm: &recording.target.comm,
        started: &recording.started,
        duration_ms: recording.duration_ms,
        min_block_ms: recording.min_block_ms,
        parked: shown.parked(),
    }
}

fn entry<'a>(compared: &Compared<'a>, row: &Row<'a>) -> Option<Entry<'a>> {
    let (shown, site) = compared.place_of(row)?;
    let names = |stack| Names { shown, stack };
    Some(Entry {
        id: row.id,
        change: row.change.name(),
        task: evidence::noun_of(site.task),
        kind: site.kind.name(),
        wait: &site.wait,
        verdict: site.verdict.name(),
        before: row.before.into(),
        after: row.after.into(),
        more: row.more(),
        creators_unknown: row.creators_unknown,
        stack: names(&site.stack),
        creation: names(&site.creation),
    })
}

/// The JSON schema of comparisons, as `docs/diff.schema.json` holds it.
///
/// # Errors
///
/// None that can happen: a schema is plain JSON.
pub fn schema() -> Result<String, serde_json::Error> {
    let schema = schemars::schema_for!(File<'_>);
    serde_json::to_string_pretty(&schema).map(|text| text + "\n")
}
