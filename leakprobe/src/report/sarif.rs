//! A check as results of an analysis (SARIF 2.1.0), for GitHub's code scanning and for editors: a rule for each verdict, a result for
//! each site that may be leaked.
//!
//! The format: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.

use std::{io, path::Path};

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{
    Options, Report,
    checked::{self, Judged, Source},
    frames,
    shown::Shown,
    words,
};
use crate::model::{Check, CheckOutcome, Frame, Recording, Verdict};

/// Results that are written: GitHub shows no more of a run.
const MAX_RESULTS: usize = 5_000;

/// Frames of a stack that are written.
const MAX_FRAMES: usize = 60;

/// Where paths begin that are below the root of the sources.
const ROOT: &str = "%SRCROOT%";

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// The `.sarif` format.
pub(super) struct Sarif;

/// What is told of a verdict.
struct Told {
    verdict: Verdict,
    id: &'static str,
    name: &'static str,
    short: &'static str,
    help: &'static str,
    /// How bad it is if it does not fail the check.
    level: &'static str,
}

const RULES: [Told; 3] = [
    Told {
        verdict: Verdict::Proven,
        id: "leak-proven",
        name: "TaskCannotWake",
        short: "Threads or goroutines that can never wake",
        help: "They wait for what cannot happen, by construction: a nil channel, a select without cases, a circle of locks, a lock whose holder is dead. Each of them keeps its stack, and whatever it refers to, until the program ends.",
        level: "warning",
    },
    Told {
        verdict: Verdict::Likely,
        id: "leak-likely",
        name: "TaskLikelyLeaked",
        short: "Threads or goroutines that are likely leaked",
        help: "There are more of them after each round of the same load, and none was woken by anybody else since it came: they are left behind by what the load does, and nobody needs them.",
        level: "warning",
    },
    Told {
        verdict: Verdict::Suspect,
        id: "leak-suspect",
        name: "TaskMayBeLeaked",
        short: "Threads or goroutines that may be leaked",
        help: "There are more of them than before the load, or nobody is left who would wake them, but the rounds do not tell that it goes on. More rounds tell more.",
        level: "note",
    },
];

impl Report for Sarif {
    fn write(&self, recording: &Recording, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
        // Whatever is asked to be shown, as in `.junit.xml`.
        let shown = &Shown::of(recording, &Options { source_root: options.source_root.clone(), ..Options::default() });
        let judged = checked::judged(shown);
        let found = judged.iter().filter(|judged| judged.is_found()).count();
        let base = |root: &Path| {
            let uri = format!("{}/", uri(&root.to_string_lossy()).trim_end_matches('/'));
            json!({ ROOT: { "uri": uri } })
        };
        let run = Run {
            automation_details: json!({ "id": format!("leakprobe/{}/", words::harmless(&recording.target.comm)) }),
            column_kind: "unicodeCodePoints",
            invocations: [invocation(recording, found.saturating_sub(MAX_RESULTS))],
            original_uri_base_ids: options.source_root.as_deref().map(base),
            results: Results { of_site: Writer { shown, check: recording.check.as_ref(), options }, judged: &judged },
            tool: json!({ "driver": driver(recording) }),
        };
        serde_json::to_writer_pretty(&mut *out, &Log { schema: SCHEMA, runs: [run], version: "2.1.0" })?;
        writeln!(out)
    }
}

/// The file.
#[derive(Serialize)]
struct Log<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    runs: [Run<'a>; 1],
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run<'a> {
    automation_details: Value,
    column_kind: &'static str,
    invocations: [Value; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    original_uri_base_ids: Option<Value>,
    results: Results<'a>,
    tool: Value,
}

/// What was found, each put together when it is written: all of them repeat the texts of the same frames.
struct Results<'a> {
    of_site: Writer<'a>,
    judged: &'a [Judged<'a>],
}

impl Serialize for Results<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let found = self.judged.iter().filter(|judged| judged.is_found()).take(MAX_RESULTS);
        serializer.collect_seq(found.map(|judged| self.of_site.result(judged)))
    }
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

fn driver(recording: &Recording) -> Value {
    let rule = |told: &Told| {
        json!({
            "id": told.id,
            "name": told.name,
            "shortDescription": { "text": told.short },
            "fullDescription": { "text": told.help },
            "help": { "text": told.help },
            "helpUri": concat!(env!("CARGO_PKG_REPOSITORY"), "#in-ci"),
            "defaultConfiguration": { "level": told.level },
            "properties": { "tags": ["leak", "concurrency"] },
        })
    };
    json!({
        "name": "leakprobe",
        "version": words::harmless(&recording.tool.version),
        "informationUri": env!("CARGO_PKG_REPOSITORY"),
        "rules": RULES.iter().map(rule).collect::<Vec<Value>>(),
    })
}

/// Whether the check was done, and what it says besides its results.
fn invocation(recording: &Recording, left_out: usize) -> Value {
    let notification = |level: &str, text: String| json!({ "level": level, "message": { "text": text } });
    let check = recording.check.as_ref();
    let mut told: Vec<Value> = Vec::new();
    if let Some(check) = check {
        // What failed it are results, except for the number of tasks.
        told.push(notification("note", checked::outcome(recording, check)));
        told.extend(check.incomplete.iter().map(|why| notification("error", words::harmless(why))));
        told.extend(check.notes.iter().map(|note| notification("note", words::harmless(note))));
    }
    if left_out > 0 {
        told.push(notification("warning", format!("{} are not listed", words::count(left_out as u64, "result"))));
    }
    let outcome = check.map(|check| check.outcome).unwrap_or_default();
    let mut invocation = json!({
        "executionSuccessful": outcome != CheckOutcome::Incomplete,
        "toolExecutionNotifications": told,
    });
    if let Some(started) = words::timestamp(&recording.started) {
        set(&mut invocation, "startTimeUtc", Value::String(started));
    }
    invocation
}

struct Writer<'a> {
    shown: &'a Shown<'a>,
    check: Option<&'a Check>,
    options: &'a Options,
}

impl Writer<'_> {
    fn result(&self, judged: &Judged<'_>) -> Value {
        let site = judged.site;
        let place = RULES.iter().position(|told| told.verdict == site.verdict).unwrap_or(RULES.len() - 1);
        let told = &RULES[place];
        let fails = site.verdict >= checked::fail_on(self.check);
        let mut result = json!({
            "ruleId": told.id,
            "ruleIndex": place,
            "level": if fails { "error" } else { told.level },
            "message": { "text": self.message(judged) },
            "locations": [self.location(&site.stack)],
            "partialFingerprints": { "leakprobeSite/v1": words::harmless(&site.id) },
            "stacks": self.stacks(judged),
            "properties": {
                "site": words::harmless(&site.id),
                "verdict": site.verdict.name(),
                "count": site.count,
                "rounds": site.course.as_ref().map(|course| course.counts.clone()).unwrap_or_default(),
                "evidence": judged.facts(),
            },
        });
        if site.count > 0 {
            // Readers count in 32 bits.
            set(&mut result, "occurrenceCount", json!(site.count.min(u64::from(i32::MAX.unsigned_abs()))));
        }
        if !site.creation.is_empty() {
            let mut created = self.location(&site.creation);
            set(&mut created, "id", json!(1));
            set(&mut created, "message", json!({ "text": format!("created by {}", judged.creator(self.shown)) }));
            set(&mut result, "relatedLocations", json!([created]));
        }
        if let Some(why) = judged.accepted() {
            let justified = json!({ "kind": "external", "status": "accepted", "justification": why });
            set(&mut result, "suppressions", json!([justified]));
        }
        result
    }

    /// What it is, how it went, and what to do about it. A result has room for a few sentences.
    fn message(&self, judged: &Judged<'_>) -> String {
        let mut sentences = vec![judged.sentence(self.shown)];
        let creator = judged.creator(self.shown);
        sentences.push(format!("created by {creator}"));
        sentences.extend(judged.facts());
        let text: Vec<String> = sentences.iter().map(|sentence| words::capitalized(sentence) + ".").collect();
        let advice = judged.advice();
        format!("{} {advice}", text.join(" ")).trim_end().to_owned()
    }

    fn stacks(&self, judged: &Judged<'_>) -> Value {
        let stacks = judged.stacks();
        let known = stacks.iter().filter(|(_, stack, _)| !stack.is_empty());
        let of_frames = |(title, stack, cut): &(&str, &[u32], String)| {
            let all = self.shown.frames(stack);
            let frames: Vec<Value> = all.iter().take(MAX_FRAMES).map(|frame| self.frame(frame)).collect();
            let mut title = vec![(*title).to_owned()];
            if all.len() > frames.len() {
                title.push(format!("{} left out", words::count((all.len() - frames.len()) as u64, "outer frame")));
            }
            title.extend(Some(cut.clone()).filter(|cut| !cut.is_empty()));
            json!({ "message": { "text": title.join("; ") }, "frames": frames })
        };
        known.map(of_frames).collect()
    }

    fn frame(&self, frame: &Frame) -> Value {
        let mut location = self.physical(frame);
        set(&mut location, "logicalLocations", json!([logical(frame)]));
        json!({ "location": location, "module": words::harmless(frame.module_name()) })
    }

    /// The line of a stack that a person would look at, or else the file whose code is there.
    fn location(&self, stack: &[u32]) -> Value {
        let frame = Judged::source(self.shown, stack)
            .or_else(|| frames::innermost_users(self.shown, stack))
            .or_else(|| self.shown.frames(stack).first().copied());
        let Some(frame) = frame else {
            let exe = words::harmless(&self.shown.recording.target.exe);
            return json!({ "physicalLocation": { "artifactLocation": { "uri": uri(&exe) } } });
        };
        let mut location = self.physical(frame);
        if location.get("physicalLocation").is_none() {
            let artifact = json!({ "uri": uri(&words::harmless(&frame.module)) });
            set(&mut location, "physicalLocation", json!({ "artifactLocation": artifact }));
        }
        set(&mut location, "logicalLocations", json!([logical(frame)]));
        location
    }

    /// File and line of a frame, if they are known.
    fn physical(&self, frame: &Frame) -> Value {
        let Some(source) = Source::of(frame, self.options.source_root.as_deref()) else {
            return json!({});
        };
        let mut artifact = json!({ "uri": uri(&source.path) });
        if source.is_in_root {
            set(&mut artifact, "uriBaseId", json!(ROOT));
        }
        let mut physical = json!({ "artifactLocation": artifact });
        if let Some(line) = source.line {
            set(&mut physical, "region", json!({ "startLine": line.min(i32::MAX.unsigned_abs()) }));
        }
        json!({ "physicalLocation": physical })
    }
}

fn logical(frame: &Frame) -> Value {
    json!({ "fullyQualifiedName": frames::label(frame), "kind": "function" })
}

/// A path as a URI: an absolute one names its scheme, of others it is not known where they begin.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(char::from(byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
pub(super) mod tests;
