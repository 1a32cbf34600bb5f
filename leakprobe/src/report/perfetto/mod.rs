//! Traces for Perfetto (<https://ui.perfetto.dev>): threads and goroutines are tracks, waits are slices, creations are arrows
//! from the creator's track to the new one's.
//!
//! Open waits last until the end of the recording; ended waits are those that the recording lists one by one. What is known of
//! a moment only as a bound is told beside it: a wait whose age is a lower bound begins here at the latest moment at which it
//! can have begun.

mod proto;
mod writer;

use std::{
    collections::{BTreeMap, HashMap},
    io,
};

use jiff::Timestamp;

use self::{
    proto::{ProcessDescriptor, ThreadDescriptor, TrackDescriptor},
    writer::{Event, NameId, Note, TextId, Writer},
};
use super::{Options, Report, evidence, frames, groups, shown::Shown, words};
use crate::model::{Recording, Task, TaskKind, Wait};

/// The `.pftrace` format.
pub(super) struct Perfetto;

/// The process's own track, and that of the time in which it was watched.
const PROCESS: u64 = 1;
const WATCHED: u64 = 2;

/// The first task's track; the others follow.
const FIRST_TASK: u64 = 16;

const NS_PER_US: i128 = 1_000;
const US_PER_MS: i128 = 1_000;

impl Report for Perfetto {
    fn write(&self, recording: &Recording, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
        let shown = &Shown::of(recording, options);
        let mut trace = Trace::of(shown, options);
        trace.open_waits();
        trace.ended_waits();
        trace.creations();
        trace.write(out)
    }
}

/// A task, also one that the recording does not list since it has ended: its kind, its number, and of which Go runtime it is.
type Id = (TaskKind, u64, u32);

/// A wait on a track; µs since watching began.
struct Slice<'a> {
    begin_us: i128,
    end_us: i128,
    wait: &'a Wait,
    stack: &'a [u32],
    /// The id of the site that it is at.
    site: Option<&'a str>,
    group: Option<String>,
    notes: Vec<(&'static str, Note)>,
}

/// A task that came to be.
struct Creation<'a> {
    child: Id,
    creator: Id,
    at_us: i128,
    is_exact: bool,
    stack: &'a [u32],
}

struct Track<'a> {
    uuid: u64,
    name: String,
    slices: Vec<Slice<'a>>,
}

/// Everything that is drawn.
struct Trace<'a> {
    shown: &'a Shown<'a>,
    options: &'a Options,
    /// The moment when watching began, ns since 1970.
    base_ns: i128,
    end_us: i128,
    tracks: BTreeMap<Id, Track<'a>>,
    creations: Vec<Creation<'a>>,
}

impl<'a> Trace<'a> {
    fn of(shown: &'a Shown<'a>, options: &'a Options) -> Self {
        let recording = shown.recording;
        let started: Option<Timestamp> = recording.started.parse().ok();
        let mut trace = Self {
            shown,
            options,
            base_ns: started.map_or(0, |started| started.as_nanosecond().max(0)),
            end_us: i128::from(recording.duration_ms) * US_PER_MS,
            tracks: BTreeMap::new(),
            creations: Vec::new(),
        };
        for task in &shown.tasks {
            trace.track(id_of(task), &task.name);
        }
        trace
    }

    /// The track of a task, which is there from now on.
    fn track(&mut self, id: Id, name: &str) -> &mut Track<'a> {
        let uuid = FIRST_TASK + self.tracks.len() as u64;
        self.tracks.entry(id).or_insert_with(|| Track { uuid, name: words::harmless(name), slices: Vec::new() })
    }

    fn open_waits(&mut self) {
        for &task in &self.shown.tasks {
            let Some(wait) = &task.wait else { continue };
            let group = self.options.group_by.as_ref().map(|by| groups::name(self.shown, by, task));
            let site = self.shown.site_of(task).and_then(|place| self.shown.sites.get(place));
            let notes = vec![("open", Note::Bool(true)), ("state", Note::Text(task.state.name().to_owned()))];
            let slice = Slice {
                begin_us: self.end_us - i128::from(wait.age_ms) * US_PER_MS,
                end_us: self.end_us,
                wait,
                stack: &task.stack,
                site: site.map(|site| &*site.id),
                group,
                notes,
            };
            self.track(id_of(task), &task.name).slices.push(slice);
        }
    }

    /// The waits that ended while watched. They are of threads; of goroutines nobody tells.
    fn ended_waits(&mut self) {
        let recording = self.shown.recording;
        for timed in &recording.timeline {
            let Some(place) = recording.ended_waits.get(timed.place as usize) else { continue };
            let id = (TaskKind::Thread, timed.task, 0);
            let is_listed = self.tracks.contains_key(&id);
            // Of threads that have gone it is not known whose work they did; those that are listed and not shown stay so.
            let is_hidden = !is_listed && self.shown.thread(timed.task).is_some();
            if is_hidden || !self.shown.shows_ended(place) {
                continue;
            }
            let begin_us = i128::from(timed.began_us);
            let slice = Slice {
                begin_us,
                end_us: begin_us + i128::from(timed.lasted_us),
                wait: &place.wait,
                stack: &place.stack,
                site: None,
                group: None,
                notes: vec![("open", Note::Bool(false)), ("exact", Note::Bool(timed.exact))],
            };
            self.track(id, &timed.name).slices.push(slice);
        }
    }

    fn creations(&mut self) {
        for &task in &self.shown.tasks {
            let Some(creator) = task.created_by.task else { continue };
            let child = id_of(task);
            let creator = (task.kind, creator, child.2);
            let exact = task.lifetime_ms.map(|ms| self.end_us - i128::from(ms) * US_PER_MS);
            let first = || {
                let slices = self.tracks.get(&child).map(|track| track.slices.as_slice()).unwrap_or_default();
                slices.iter().map(|slice| slice.begin_us).min()
            };
            let at_us = exact.or_else(first).unwrap_or(self.end_us);
            let name = &task.created_by.name;
            self.track(creator, name);
            let stack = &task.created_by.stack;
            self.creations.push(Creation { child, creator, at_us, is_exact: exact.is_some(), stack });
        }
    }

    fn write(mut self, out: &mut dyn io::Write) -> io::Result<()> {
        let base = self.ns(0);
        let mut writer = Writer::begin(out, base)?;
        self.write_process(&mut writer)?;
        let shown = self.shown;
        let mut texts = Texts::of(shown);
        let tracks = std::mem::take(&mut self.tracks);
        for (&id, track) in &tracks {
            writer.track(self.descriptor(id, track))?;
        }
        for track in tracks.values() {
            self.write_slices(track, &mut texts, &mut writer)?;
        }
        let name_of = |id: &Id| match tracks.get(id) {
            Some(track) if !track.name.is_empty() => format!("{} {} ({})", evidence::noun_of(id.0), id.1, track.name),
            _ => format!("{} {}", evidence::noun_of(id.0), id.1),
        };
        let mut named: HashMap<(&'static str, Id), NameId> = HashMap::new();
        for (flow, creation) in (1..).zip(&self.creations) {
            let (Some(creator), Some(child)) = (tracks.get(&creation.creator), tracks.get(&creation.child)) else {
                continue;
            };
            let mut name = |what: &'static str, id: Id, writer: &mut Writer<'_>| {
                *named.entry((what, id)).or_insert_with(|| writer.name(&format!("{what} {}", name_of(&id))))
            };
            let time = if creation.is_exact { "exact" } else { "at the latest: what is known is only when it waited" };
            let at = self.ns(creation.at_us);
            let event = Event {
                name: name("creates", creation.child, &mut writer),
                category: "creation",
                notes: vec![
                    ("time", Note::Text(time.to_owned())),
                    ("stack", Note::Known(texts.stack(creation.stack, &mut writer))),
                ],
            };
            writer.instant(creator.uuid, at, event, &[flow], &[])?;
            let event = Event {
                name: name("created by", creation.creator, &mut writer),
                category: "creation",
                notes: vec![("time", Note::Text(time.to_owned()))],
            };
            writer.instant(child.uuid, at, event, &[], &[flow])?;
        }
        Ok(())
    }

    /// The process, and when it was watched, with what was not seen.
    fn write_process(&self, writer: &mut Writer<'_>) -> io::Result<()> {
        let target = &self.shown.recording.target;
        let pid = i32::try_from(target.pid).unwrap_or(i32::MAX);
        let process = ProcessDescriptor {
            pid,
            cmdline: Some(words::harmless(&target.exe)).into_iter().filter(|exe| !exe.is_empty()).collect(),
            process_name: words::harmless(&target.comm),
        };
        writer.track(TrackDescriptor { uuid: PROCESS, process: Some(process), ..TrackDescriptor::default() })?;
        let name = Some("watched by leakprobe".to_owned());
        writer.track(TrackDescriptor {
            uuid: WATCHED,
            parent_uuid: Some(PROCESS),
            name,
            ..TrackDescriptor::default()
        })?;
        let summary = format!("{}, {}", evidence::alive(self.shown), evidence::parked(self.shown));
        let mut notes = vec![("summary", Note::Text(summary))];
        notes.extend(self.shown.filtered_words().map(|left_out| ("left out", Note::Text(left_out))));
        let unseen = evidence::unseen(self.shown);
        if !unseen.is_empty() {
            notes.push(("not seen", Note::Text(unseen.join("\n"))));
        }
        let event = Event { name: writer.name("watched"), category: "leakprobe", notes };
        writer.slice(WATCHED, self.ns(0), self.ns(self.end_us), event)
    }

    fn descriptor(&self, id: Id, track: &Track<'_>) -> TrackDescriptor {
        let (kind, number, runtime) = id;
        let mut descriptor =
            TrackDescriptor { uuid: track.uuid, parent_uuid: Some(PROCESS), ..TrackDescriptor::default() };
        match kind {
            TaskKind::Thread => {
                descriptor.thread = Some(ThreadDescriptor {
                    pid: i32::try_from(self.shown.recording.target.pid).unwrap_or(i32::MAX),
                    tid: i64::try_from(number).unwrap_or(i64::MAX),
                    thread_name: track.name.clone(),
                });
            }
            TaskKind::Goroutine => {
                let runtime = if runtime > 0 { format!(" of runtime {runtime}") } else { String::new() };
                descriptor.name = Some(format!("goroutine {number}{runtime}"));
            }
        }
        descriptor
    }

    /// The waits of a task, which cannot overlap: ages are rounded to ms, so that one may seem to begin before the last one's end.
    fn write_slices(&self, track: &Track<'a>, texts: &mut Texts<'a>, writer: &mut Writer<'_>) -> io::Result<()> {
        let mut slices: Vec<&Slice<'a>> = track.slices.iter().collect();
        slices.sort_by_key(|slice| (slice.begin_us, slice.end_us));
        let mut free_from = i128::MIN;
        for slice in slices {
            let begin_us = slice.begin_us.max(free_from);
            if begin_us > slice.end_us {
                continue;
            }
            free_from = slice.end_us;
            let wait = slice.wait;
            let mut notes = vec![("kind", Note::Text(wait.kind.name().to_owned()))];
            if slice.notes.iter().all(|(name, _)| *name != "exact") {
                notes.push(("exact", Note::Bool(wait.exact)));
                notes.push(("age_ms", Note::Number(wait.age_ms)));
                notes.extend(texts.note(&wait.object, writer).map(|object| ("object", Note::Known(object))));
                notes.extend(wait.timeout_ms.map(|ms| ("timeout_ms", Note::Number(ms))));
            }
            notes.extend(slice.notes.iter().cloned());
            notes.extend(slice.site.and_then(|id| texts.note(id, writer)).map(|id| ("site", Note::Known(id))));
            notes.extend(slice.group.iter().map(|group| ("group", Note::Text(group.clone()))));
            notes.push(("stack", Note::Known(texts.stack(slice.stack, writer))));
            let event = Event { name: texts.name(&wait.reason, writer), category: wait.kind.name(), notes };
            writer.slice(track.uuid, self.ns(begin_us), self.ns(slice.end_us), event)?;
        }
        Ok(())
    }

    /// The moment in the trace's clock; what lies before 1970 is put there.
    fn ns(&self, us: i128) -> u64 {
        let ns = self.base_ns.saturating_add(us.saturating_mul(NS_PER_US));
        u64::try_from(ns.clamp(0, i128::from(i64::MAX))).unwrap_or(0)
    }
}

fn id_of(task: &Task) -> Id {
    (task.kind, task.id, task.goroutine.as_ref().map_or(0, |goroutine| goroutine.runtime))
}

/// What was written of a recording: a text is made harmless, and a stack put together, once, however many events tell it. Texts are
/// known by where they lie, and outlive this, so that nothing else can lie there meanwhile; stacks by their frames, since equal
/// ones of different tasks lie at different places.
struct Texts<'a> {
    shown: &'a Shown<'a>,
    names: HashMap<(*const u8, usize), NameId>,
    notes: HashMap<(*const u8, usize), Option<TextId>>,
    stacks: HashMap<&'a [u32], TextId>,
    /// By the frame's place in the recording.
    labels: HashMap<u32, String>,
}

impl<'a> Texts<'a> {
    fn of(shown: &'a Shown<'a>) -> Self {
        Self { shown, names: HashMap::new(), notes: HashMap::new(), stacks: HashMap::new(), labels: HashMap::new() }
    }

    /// An event's name.
    fn name(&mut self, name: &'a str, writer: &mut Writer<'_>) -> NameId {
        let place = (name.as_ptr(), name.len());
        *self.names.entry(place).or_insert_with(|| writer.name(&words::harmless(name)))
    }

    /// A text beside an event; `None` if nothing of it is left.
    fn note(&mut self, text: &'a str, writer: &mut Writer<'_>) -> Option<TextId> {
        let place = (text.as_ptr(), text.len());
        *self.notes.entry(place).or_insert_with(|| {
            let text = words::harmless(text);
            (!text.is_empty()).then(|| writer.text(&text))
        })
    }

    /// A stack, a frame a line, innermost first.
    fn stack(&mut self, stack: &'a [u32], writer: &mut Writer<'_>) -> TextId {
        let Self { shown, labels, .. } = self;
        *self.stacks.entry(stack).or_insert_with(|| {
            let resolved = shown.resolve(stack);
            let (inner, more) = shown.cut(&resolved);
            let mut text = String::new();
            for &(place, frame) in inner {
                text += labels.entry(place).or_insert_with(|| frames::label(frame));
                text.push('\n');
            }
            if more > 0 {
                text += &format!("[{} left out by --max-depth]", words::count(more, "outer frame"));
            }
            if text.is_empty() { writer.text("[no stack]") } else { writer.text(text.trim_end_matches('\n')) }
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
