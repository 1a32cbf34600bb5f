//! Profiles for `go tool pprof` and what else reads its format, compressed with gzip as they all expect it.
//!
//! Two values a sample: how many tasks, and for how long they have been parked. What a task waits for, for how long and so on
//! are labels, so that pprof can filter and group by them (`-tagfocus`, `-tagroot`, `-tagleaf`).

mod proto;

use std::{
    collections::{HashMap, HashSet},
    io::{self, Write as _},
    rc::Rc,
};

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use prost::Message;

use self::proto::{Function, Label, Line, Location, Mapping, Profile, ValueType};
use super::{
    GroupBy, Options, Report, Weight, evidence, frames, groups,
    samples::{self, Entry, Sample},
    shown::Shown,
    stacks::MAX_TOTAL,
    words,
};
use crate::model::{Frame, Recording};

/// Most objects that are told apart; a label with more values is of no use, and pprof keeps each in memory.
const MAX_OBJECTS: usize = 1_000;

/// What stands for further objects.
const OTHER_OBJECTS: &str = "[another object]";

/// Characters of a label.
const MAX_LABEL: usize = 200;

/// Smallest unit of a mapping.
const PAGE: u64 = 4_096;

/// The `.pb.gz` format.
pub(super) struct Pprof;

impl Report for Pprof {
    fn write(&self, recording: &Recording, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
        let (profile, samples) = profile(&Shown::of(recording, options), options);
        // It writes no time into its header, so that the same recording gives the same bytes.
        let mut gzip = GzEncoder::new(out, Compression::default());
        // One at a time: their fields are the same messages, however often the profile's own begins anew.
        for sample in &samples {
            let part = Profile { sample: vec![sample.message()], ..Profile::default() };
            gzip.write_all(&part.encode_to_vec())?;
        }
        gzip.write_all(&profile.encode_to_vec())?;
        gzip.finish()?;
        Ok(())
    }
}

/// The profile without its samples, and these.
fn profile(shown: &Shown<'_>, options: &Options) -> (Profile, Vec<Weighted>) {
    let mut builder = Builder::new(shown);
    samples::each(shown, options, |sample| builder.add(shown, &sample));
    let (mut profile, samples) = builder.finish();
    let recording = shown.recording;
    let mut strings = Strings::of(std::mem::take(&mut profile.string_table));
    profile.sample_type = vec![
        ValueType { r#type: strings.intern("tasks"), unit: strings.intern("count") },
        ValueType { r#type: strings.intern("parked"), unit: strings.intern("milliseconds") },
    ];
    profile.default_sample_type = strings.intern(match options.weight {
        Weight::Tasks => "tasks",
        Weight::Time => "parked",
    });
    let started: Option<Timestamp> = recording.started.parse().ok();
    profile.time_nanos = started.and_then(|time| i64::try_from(time.as_nanosecond()).ok()).unwrap_or(0);
    profile.duration_nanos = signed(recording.duration_ms.saturating_mul(1_000_000));
    profile.comment = comments(shown).iter().map(|comment| strings.intern(comment)).collect();
    profile.string_table = strings.texts;
    (profile, samples)
}

/// What pprof has no other place for: whose profile it is, and what was not seen.
fn comments(shown: &Shown<'_>) -> Vec<String> {
    let target = &shown.recording.target;
    let of = format!("{} (pid {})", words::harmless(&target.comm), target.pid);
    let mut comments = vec![of, format!("{}, {}", evidence::alive(shown), evidence::parked(shown))];
    comments.extend(shown.filtered_words());
    comments.extend(evidence::unseen(shown).into_iter().map(|clause| format!("not seen: {clause}")));
    comments
}

/// What equal samples have in common. Locations are shared by all samples of a stack: labels make one of nearly each task.
type Key = (Rc<[u64]>, Rc<[Label]>);

/// A sample, and its two values.
struct Weighted {
    key: Key,
    value: [i64; 2],
}

impl Weighted {
    fn message(&self) -> proto::Sample {
        let (locations, labels) = &self.key;
        proto::Sample { location_id: locations.to_vec(), value: self.value.to_vec(), label: labels.to_vec() }
    }
}

struct Builder {
    profile: Profile,
    strings: Strings,
    /// The locations of each stack.
    stacks: HashSet<Rc<[u64]>>,
    /// Place in `samples`.
    places: HashMap<Key, usize>,
    /// With the sums of the two values.
    samples: Vec<(Key, [u64; 2])>,
    mappings: HashMap<String, u64>,
    functions: HashMap<(i64, i64), u64>,
    /// By the places of their frames in the recording, innermost first.
    locations: HashMap<Vec<u32>, u64>,
    notes: HashMap<String, u64>,
    objects: HashSet<String>,
}

impl Builder {
    fn new(shown: &Shown<'_>) -> Self {
        let mut builder = Self {
            profile: Profile::default(),
            strings: Strings::of(vec![String::new()]),
            stacks: HashSet::new(),
            places: HashMap::new(),
            samples: Vec::new(),
            mappings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
            notes: HashMap::new(),
            objects: HashSet::new(),
        };
        // pprof calls the profile by its first mapping.
        builder.mapping(&shown.recording.target.exe, 0);
        builder
    }

    fn add(&mut self, shown: &Shown<'_>, sample: &Sample<'_>) {
        let locations: Rc<[u64]> = self.locations_of(&sample.entries).into();
        let locations = self.stacks.get(&locations).cloned().unwrap_or_else(|| {
            self.stacks.insert(Rc::clone(&locations));
            locations
        });
        let key = (locations, self.labels(shown, sample).into());
        let place = *self.places.entry(key).or_insert_with_key(|key| {
            self.samples.push((key.clone(), [0, 0]));
            self.samples.len() - 1
        });
        if let Some((_, [tasks, ms])) = self.samples.get_mut(place) {
            *tasks = tasks.saturating_add(sample.tasks);
            *ms = ms.saturating_add(sample.ms);
        }
    }

    fn finish(mut self) -> (Profile, Vec<Weighted>) {
        let limit = MAX_TOTAL / self.samples.len().max(1) as u64;
        let weighted = |(key, sums): (Key, [u64; 2])| Weighted { key, value: sums.map(|sum| signed(sum.min(limit))) };
        self.profile.string_table = self.strings.texts;
        (self.profile, self.samples.into_iter().map(weighted).collect())
    }

    /// The locations of a stack, innermost first. A function and what is inlined into it are one.
    fn locations_of(&mut self, entries: &[Entry<'_>]) -> Vec<u64> {
        let mut locations = Vec::with_capacity(entries.len());
        let mut run: Vec<(u32, &Frame)> = Vec::new();
        for entry in entries.iter().rev() {
            match entry {
                Entry::Frame(place, frame) => {
                    run.push((*place, frame));
                    if !frame.inlined {
                        locations.extend(self.location(&mut run));
                    }
                }
                Entry::Note(note) => {
                    locations.extend(self.location(&mut run));
                    locations.push(self.note(note));
                }
            }
        }
        locations.extend(self.location(&mut run));
        locations
    }

    /// The location of the frames in `run`, which is empty after that.
    fn location(&mut self, run: &mut Vec<(u32, &Frame)>) -> Option<u64> {
        let &(_, outer) = run.last()?;
        let key: Vec<u32> = run.iter().map(|&(place, _)| place).collect();
        if let Some(&id) = self.locations.get(&key) {
            run.clear();
            return Some(id);
        }
        let address = outer.address.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
        let mapping_id = self.mapping(&outer.module, address);
        let line: Vec<Line> = run
            .drain(..)
            .map(|(_, frame)| Line {
                function_id: self.function(&frames::label(frame), frame.file.as_deref().unwrap_or_default()),
                line: i64::from(frame.line.unwrap_or(0)),
            })
            .collect();
        let id = self.push_location(mapping_id, address, line);
        self.locations.insert(key, id);
        Some(id)
    }

    fn note(&mut self, note: &str) -> u64 {
        if let Some(&id) = self.notes.get(note) {
            return id;
        }
        let function_id = self.function(note, "");
        let id = self.push_location(0, 0, vec![Line { function_id, line: 0 }]);
        self.notes.insert(note.to_owned(), id);
        id
    }

    fn push_location(&mut self, mapping_id: u64, address: u64, line: Vec<Line>) -> u64 {
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(Location { id, mapping_id, address, line });
        id
    }

    fn function(&mut self, name: &str, file: &str) -> u64 {
        let (name, filename) = (self.strings.intern(name), self.strings.intern(&words::harmless(file)));
        let id = self.profile.function.len() as u64 + 1;
        *self.functions.entry((name, filename)).or_insert_with(|| {
            self.profile.function.push(Function { id, name, system_name: name, filename });
            id
        })
    }

    /// The mapping of a module, which is made to hold `address`; 0 if there is none.
    ///
    /// Addresses are those within the module, so each mapping begins at 0. All has been symbolised, says the mapping, since the
    /// module of that path on the machine where pprof runs may be another one.
    fn mapping(&mut self, module: &str, address: u64) -> u64 {
        if module.is_empty() {
            return 0;
        }
        let next = self.profile.mapping.len() as u64 + 1;
        let id = *self.mappings.entry(module.to_owned()).or_insert_with(|| {
            self.profile.mapping.push(Mapping {
                id: next,
                filename: self.strings.intern(&words::harmless(module)),
                has_functions: true,
                has_filenames: true,
                has_line_numbers: true,
                has_inline_frames: true,
                ..Mapping::default()
            });
            next
        });
        let place = usize::try_from(id - 1).unwrap_or(usize::MAX);
        if let Some(mapping) = self.profile.mapping.get_mut(place) {
            let end = (address / PAGE).saturating_add(1).saturating_mul(PAGE);
            mapping.memory_limit = mapping.memory_limit.max(end);
        }
        id
    }

    fn labels(&mut self, shown: &Shown<'_>, sample: &Sample<'_>) -> Vec<Label> {
        let task = sample.task;
        let mut labels = Vec::with_capacity(10);
        labels.push(self.label("task", evidence::noun_of(task.kind)));
        labels.push(self.label("wait", sample.kind.name()));
        if let Some(site) = sample.site {
            labels.push(self.label("site", &site.id));
        }
        let creator = groups::name(shown, &GroupBy::Creator, task);
        labels.push(self.label("creator", creator.strip_prefix("by ").unwrap_or(&creator)));
        // Of those that are not listed no more is known than what all of a site have in common.
        if !sample.is_listed {
            return labels;
        }
        labels.push(self.label("state", task.state.name()));
        let thread = groups::name(shown, &GroupBy::ThreadName, task);
        labels.push(self.label("thread", &thread));
        if let Some(wait) = &task.wait {
            labels.push(self.label("reason", &wait.reason));
            if !wait.object.is_empty() {
                let object = self.object(&wait.object);
                labels.push(self.label("object", &object));
            }
            let (key, num_unit) = (self.strings.intern("age"), self.strings.intern("milliseconds"));
            labels.push(Label { key, num: signed(wait.age_ms), num_unit, ..Label::default() });
            labels.push(self.label("age_is", if wait.exact { "exact" } else { "lower bound" }));
        }
        labels
    }

    fn label(&mut self, key: &str, text: &str) -> Label {
        let text = words::cut_middle(&words::harmless(text), MAX_LABEL);
        Label { key: self.strings.intern(key), str: self.strings.intern(&text), ..Label::default() }
    }

    fn object(&mut self, object: &str) -> String {
        if self.objects.contains(object) {
            return object.to_owned();
        }
        if self.objects.len() >= MAX_OBJECTS {
            return OTHER_OBJECTS.to_owned();
        }
        self.objects.insert(object.to_owned());
        object.to_owned()
    }
}

/// Each text once.
struct Strings {
    texts: Vec<String>,
    indices: HashMap<String, i64>,
}

impl Strings {
    fn of(texts: Vec<String>) -> Self {
        let indices = texts.iter().cloned().zip(0..).collect();
        Self { texts, indices }
    }

    fn intern(&mut self, text: &str) -> i64 {
        if let Some(&index) = self.indices.get(text) {
            return index;
        }
        let index = i64::try_from(self.texts.len()).unwrap_or(i64::MAX);
        self.texts.push(text.to_owned());
        self.indices.insert(text.to_owned(), index);
        index
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(super) mod tests;
