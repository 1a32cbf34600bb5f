//! Profiles for speedscope (<https://www.speedscope.app>): two of them, by number of tasks and by time parked.
//!
//! The format: <https://www.speedscope.app/file-format-schema.json>.

use std::{
    collections::{BTreeMap, HashMap},
    io,
};

use serde::Serialize;

use super::{
    Options, Report, View, Weight, evidence, frames,
    samples::{self, Entry, Sample},
    shown::Shown,
    stacks::{MAX_TOTAL, wait_label},
    words,
};
use crate::model::Recording;

/// The `.speedscope.json` format.
pub(super) struct Speedscope;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(rename = "$schema")]
    schema: &'static str,
    exporter: String,
    name: String,
    active_profile_index: u8,
    shared: Shared,
    profiles: [Profile; 2],
}

#[derive(Serialize)]
struct Shared {
    frames: Vec<Frame>,
}

#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
struct Frame {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    r#type: &'static str,
    name: String,
    unit: &'static str,
    start_value: u64,
    end_value: u64,
    /// Places of frames, outermost first.
    samples: Vec<Vec<u32>>,
    weights: Vec<u64>,
}

impl Report for Speedscope {
    fn write(&self, recording: &Recording, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
        let shown = &Shown::of(recording, options);
        let mut frames = Frames::default();
        // By places of frames, which are in the order in which the recording first names them.
        let mut stacks: BTreeMap<Vec<u32>, (u64, u64)> = BTreeMap::new();
        samples::each(shown, options, |sample| {
            let (tasks, ms) = stacks.entry(frames.stack(&sample)).or_default();
            *tasks = tasks.saturating_add(sample.tasks);
            *ms = ms.saturating_add(sample.ms);
        });
        let limit = MAX_TOTAL / stacks.len().max(1) as u64;
        let profile = |name: String, unit, value: fn(&(u64, u64)) -> u64| {
            let weights: Vec<u64> = stacks.values().map(|values| value(values).min(limit)).collect();
            let samples = stacks.keys().cloned().collect();
            Profile { r#type: "sampled", name, unit, start_value: 0, end_value: weights.iter().sum(), samples, weights }
        };
        let what = match options.view {
            View::Parked => "parked",
            View::Creation => "parked, where they were created",
        };
        let file = File {
            schema: "https://www.speedscope.app/file-format-schema.json",
            exporter: format!("leakprobe {}", words::harmless(&recording.tool.version)),
            name: name(shown),
            active_profile_index: u8::from(options.weight == Weight::Time),
            profiles: [
                profile(format!("{}s {what}", evidence::noun(shown)), "none", |&(tasks, _)| tasks),
                profile(format!("time {what}"), "milliseconds", |&(_, ms)| ms),
            ],
            shared: Shared { frames: frames.list },
        };
        serde_json::to_writer(&mut *out, &file)?;
        writeln!(out)
    }
}

/// Whose profile it is, and how much was not seen: speedscope shows nothing but this name.
fn name(shown: &Shown<'_>) -> String {
    let target = &shown.recording.target;
    let unseen = evidence::unseen(shown);
    let unseen = if unseen.is_empty() { String::new() } else { format!(" (not seen: {})", unseen.join("; ")) };
    let left_out = shown.filtered_words().map_or_else(String::new, |left_out| format!(" ({left_out})"));
    format!("{} (pid {}){left_out}{unseen}", words::harmless(&target.comm), target.pid)
}

/// Each frame once.
#[derive(Default)]
struct Frames {
    list: Vec<Frame>,
    places: HashMap<Frame, u32>,
    /// By place in the recording.
    known: HashMap<u32, u32>,
}

impl Frames {
    fn stack(&mut self, sample: &Sample<'_>) -> Vec<u32> {
        let mut stack = Vec::with_capacity(sample.entries.len() + 1);
        for entry in &sample.entries {
            stack.push(match entry {
                Entry::Note(note) => self.named(note.clone()),
                Entry::Frame(place, frame) => {
                    let known = self.known.get(place).copied();
                    let found = known.unwrap_or_else(|| {
                        self.intern(Frame {
                            name: frames::label(frame),
                            file: frame.file.as_deref().map(words::harmless),
                            line: frame.line,
                        })
                    });
                    self.known.insert(*place, found);
                    found
                }
            });
        }
        stack.push(self.named(wait_label(sample.kind)));
        stack
    }

    fn named(&mut self, name: String) -> u32 {
        self.intern(Frame { name, file: None, line: None })
    }

    fn intern(&mut self, frame: Frame) -> u32 {
        if let Some(&place) = self.places.get(&frame) {
            return place;
        }
        let place = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(frame.clone());
        self.places.insert(frame, place);
        place
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::{Format, fixture};

    /// Checks a file against speedscope's own schema, and what that cannot say.
    pub(in crate::report) fn check(text: &str) {
        let schema: serde_json::Value = serde_json::from_str(include_str!("fixture/speedscope.schema.json")).unwrap();
        let mut compiler = boon::Compiler::new();
        let mut schemas = boon::Schemas::new();
        compiler.add_resource("speedscope.json", schema).unwrap();
        let compiled = compiler.compile("speedscope.json", &mut schemas).unwrap();
        let file: serde_json::Value = serde_json::from_str(text).unwrap();
        if let Err(error) = schemas.validate(&file, compiled) {
            panic!("{error:#}");
        }
        let frames = file["shared"]["frames"].as_array().unwrap().len() as u64;
        for profile in file["profiles"].as_array().unwrap() {
            let samples = profile["samples"].as_array().unwrap();
            let weights: Vec<u64> =
                profile["weights"].as_array().unwrap().iter().map(|w| w.as_u64().unwrap()).collect();
            assert_eq!(samples.len(), weights.len());
            assert_eq!(profile["endValue"].as_u64().unwrap(), weights.iter().sum::<u64>());
            for frame in samples.iter().flat_map(|sample| sample.as_array().unwrap()) {
                assert!(frame.as_u64().unwrap() < frames);
            }
        }
    }

    #[test]
    fn the_schema_finds_what_is_wrong() {
        let mut out = Vec::new();
        Format::Speedscope.report().write(&fixture::single_thread(), &Options::default(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        check(&text);
        for (good, bad) in [("\"sampled\"", "\"simple\""), ("\"none\"", "\"tasks\""), ("\"weights\"", "\"weight\"")] {
            let broken = text.replace(good, bad);
            assert_ne!(broken, text);
            assert!(std::panic::catch_unwind(|| check(&broken)).is_err(), "{bad}");
        }
    }
}
