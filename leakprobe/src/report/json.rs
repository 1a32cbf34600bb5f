//! The recording as JSON: written, read back and checked, and described by a schema.

mod bounds;
mod document;
mod metered;

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeSeed};
use serde_json::{Serializer, error::Category, ser::Formatter};

use super::{Error, Options, Report, files, words};
use crate::model::Recording;
use document::{Document, Schema};
use metered::{Limit, MOST_TEXT, Metered};

/// The largest file that is read, bytes. A recording of a million threads is well below it.
pub const MAX_BYTES: u64 = 1 << 30;

/// The `.json` format.
pub(super) struct Json;

impl Report for Json {
    fn write(&self, recording: &Recording, _options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
        let mut serializer = Serializer::with_formatter(&mut *out, LinePerItem::default());
        recording.serialize(&mut serializer)?;
        writeln!(out)
    }
}

/// Reads the recording in the file `path`, or from stdin if that is `-`, and checks that it can be used without a second look:
/// its schema is ours, and every index in it points to something. It takes at most 3 bytes of memory for each byte of the file.
///
/// # Errors
///
/// One of [`Error`]'s variants about recordings.
pub fn read(path: &Path) -> Result<Recording, Error> {
    let input = files::open_input(path).map_err(|source| Error::Read { path: path.into(), source })?;
    read_from(input, path)
}

/// As [`read`], from any reader; `path` is what errors call it.
///
/// # Errors
///
/// As [`read`].
pub fn read_from(reader: impl Read, path: &Path) -> Result<Recording, Error> {
    read_up_to(MAX_BYTES, reader, path)
}

fn read_up_to(max_bytes: u64, reader: impl Read, path: &Path) -> Result<Recording, Error> {
    let (mut reader, reached) = Metered::new(reader, max_bytes);
    let mut schema = Schema::default();
    let mut deserializer = serde_json::Deserializer::from_reader(&mut reader);
    let read = Document(&mut schema).deserialize(&mut deserializer);
    let read = read.and_then(|recording| deserializer.end().map(|()| recording));
    let path: PathBuf = path.into();
    let recording = match (read, schema) {
        (_, Schema::Other(found)) => {
            return Err(Error::OtherSchema { path, found: words::harmless(&words::cut_middle(&found, 60)) });
        }
        (Ok(recording), _) => recording,
        (Err(error), schema) => {
            return Err(match (error.classify(), reached.get()) {
                (Category::Io, Some(Limit::Size)) => Error::TooLarge { path },
                (Category::Io, Some(Limit::Memory)) => Error::TooMuchMemory { path },
                (Category::Io, Some(Limit::Text)) => {
                    Error::Damaged { path, what: format!("a text in it is longer than {} MiB", MOST_TEXT >> 20) }
                }
                (Category::Io, None) => Error::Read { path, source: error.into() },
                (Category::Syntax | Category::Eof, _) => Error::NotJson { path, source: error },
                (Category::Data, _) if schema == Schema::Ours => Error::Damaged { path, what: error.to_string() },
                (Category::Data, _) => Error::NotARecording { path },
            });
        }
    };
    let checked = check_indices(&recording);
    let checked = checked.and_then(|()| bounds::check(&recording));
    checked.map_err(|what| Error::Damaged { path, what })?;
    Ok(recording)
}

/// Says which index of a recording points nowhere.
fn check_indices(recording: &Recording) -> Result<(), String> {
    let frames = recording.frames.len();
    let sites = recording.sites.len();
    let check = |stack: &[u32], whose: &dyn Fn() -> String| match stack.iter().find(|&&frame| frame as usize >= frames)
    {
        Some(frame) => Err(format!("{} has frame {frame} and there are {frames}", whose())),
        None => Ok(()),
    };
    for task in &recording.tasks {
        check(&task.stack, &|| format!("the stack of task {}", task.id))?;
        check(&task.kernel_stack, &|| format!("the kernel stack of task {}", task.id))?;
        check(&task.created_by.stack, &|| format!("the creation stack of task {}", task.id))?;
        for ancestor in task.goroutine.iter().flat_map(|goroutine| goroutine.ancestors.iter()) {
            let whose = || format!("the stack of ancestor {} of task {}", ancestor.id, task.id);
            check(&ancestor.stack, &whose)?;
            check(&ancestor.creation, &whose)?;
        }
        if let Some(site) = task.site.filter(|&site| site as usize >= sites) {
            return Err(format!("task {} has site {site} and there are {sites}", task.id));
        }
    }
    for (place, site) in recording.sites.iter().enumerate() {
        check(&site.stack, &|| format!("the stack of site {place}"))?;
        check(&site.creation, &|| format!("the creation stack of site {place}"))?;
    }
    for timers in &recording.timers {
        check(&timers.callback, &|| format!("the callback of timers {}", words::harmless(&timers.id)))?;
    }
    for (place, wait) in recording.ended_waits.iter().enumerate() {
        check(&wait.stack, &|| format!("the stack of ended wait {place}"))?;
    }
    let places = recording.ended_waits.len();
    match recording.timeline.iter().find(|wait| wait.place as usize >= places) {
        Some(wait) => Err(format!("a wait of task {} has place {} and there are {places}", wait.task, wait.place)),
        None => Ok(()),
    }
}

/// The JSON schema of recordings, as `docs/recording.schema.json` holds it.
///
/// # Errors
///
/// None that can happen: a schema is plain JSON.
pub fn schema() -> Result<String, serde_json::Error> {
    let schema = schemars::schema_for!(Recording);
    serde_json::to_string_pretty(&schema).map(|text| text + "\n")
}

/// One line for each field of the recording and for each item of its lists: a task, a frame or a site is one line, so that
/// line tools and diffs work on recordings, and a thousand deep stacks do not fill a hundred thousand lines.
#[derive(Default)]
struct LinePerItem {
    depth: usize,
    has_items: bool,
}

/// How deep lines are broken: the recording is 1, its lists and objects are 2.
const BROKEN_DEPTH: usize = 2;

impl LinePerItem {
    fn open<W: ?Sized + io::Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.has_items = false;
        out.write_all(bracket)
    }

    fn item<W: ?Sized + io::Write>(&self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(b",")?;
        }
        self.line_break(out)
    }

    fn close<W: ?Sized + io::Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        let broken = self.depth <= BROKEN_DEPTH && self.has_items;
        self.depth -= 1;
        self.has_items = true;
        if broken {
            self.line_break(out)?;
        }
        out.write_all(bracket)
    }

    fn line_break<W: ?Sized + io::Write>(&self, out: &mut W) -> io::Result<()> {
        if self.depth <= BROKEN_DEPTH {
            write!(out, "\n{:width$}", "", width = self.depth)?;
        }
        Ok(())
    }
}

impl Formatter for LinePerItem {
    fn begin_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.item(out, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, _out: &mut W) -> io::Result<()> {
        self.has_items = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.item(out, first)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, _out: &mut W) -> io::Result<()> {
        self.has_items = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::TimedWait, report::fixture};

    fn written(recording: &Recording) -> String {
        let mut out = Vec::new();
        Json.write(recording, &Options::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn read_text(text: &str) -> Result<Recording, Error> {
        read_from(text.as_bytes(), Path::new("x.json"))
    }

    #[test]
    fn what_is_written_is_read_back() {
        for recording in fixture::all() {
            assert_eq!(read_text(&written(&recording)).unwrap(), recording);
        }
    }

    #[test]
    fn a_task_is_one_line() {
        let recording = fixture::checkout();
        let text = written(&recording);
        let tasks = text.lines().filter(|line| line.starts_with("  {\"kind\":\"thread\""));
        assert_eq!(tasks.count(), recording.tasks.len());
        let text = written(&fixture::idle());
        assert!(text.contains("\n \"ended_waits\":[],\n"), "{text}");
    }

    #[test]
    fn what_is_no_recording_is_told_in_one_sentence() {
        let mut errors = String::new();
        for text in [
            "",
            "PK\u{3}\u{4}",
            "[1, 2]",
            "{}",
            r#"{"schema": 1}"#,
            r#"{"schema": "leakprobe/2", "tasks": [], "more": {"a": [1]}}"#,
            r#"{"schema": "leakprobe/1"}"#,
        ] {
            let error = read_text(text).unwrap_err();
            errors += &format!("{error}\n");
        }
        let text = written(&fixture::checkout());
        let error = read_text(&text[..text.len() / 2]).unwrap_err();
        errors += &format!("{error}\n");
        let error = read_up_to(100, text.as_bytes(), Path::new("x.json")).unwrap_err();
        errors += &format!("{error}\n");
        let error = read(Path::new("/no/such/file.json")).unwrap_err();
        errors += &format!("{error}\n");
        let error = read(Path::new("/")).unwrap_err();
        errors += &format!("{error}\n");
        insta::assert_snapshot!(errors);
    }

    #[test]
    fn the_schema_may_come_later() {
        let text = written(&fixture::idle());
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(!value.to_string().starts_with("{\"schema\""), "it is sorted by name");
        assert_eq!(read_text(&value.to_string()).unwrap(), fixture::idle());
        value["schema"] = "leakprobe/99".into();
        assert!(matches!(read_text(&value.to_string()).unwrap_err(), Error::OtherSchema { .. }));
        value.as_object_mut().unwrap().remove("schema");
        assert!(matches!(read_text(&value.to_string()).unwrap_err(), Error::NotARecording { .. }));
    }

    #[test]
    fn deep_nesting_is_no_recording() {
        for text in ["[".repeat(200), format!("{{\"schema\":\"leakprobe/1\",\"x\":{}", "[{\"x\":".repeat(200))] {
            assert!(matches!(read_text(&text).unwrap_err(), Error::NotJson { .. } | Error::NotARecording { .. }));
        }
    }

    #[test]
    fn no_cut_recording_is_accepted() {
        let text = written(&fixture::idle());
        for end in 0..text.trim_end().len() {
            assert!(read_text(text.get(..end).unwrap_or_default()).is_err());
        }
    }

    #[test]
    fn an_index_that_points_nowhere_is_told() {
        let good = fixture::checkout();
        let frames = u32::try_from(good.frames.len()).unwrap();
        let sites = u32::try_from(good.sites.len()).unwrap();
        let break_it: [fn(&mut Recording, u32, u32); 8] = [
            |bad, frames, _| bad.tasks[3].stack = [frames].into(),
            |bad, _, _| bad.tasks[3].created_by.stack = [u32::MAX].into(),
            |bad, _, sites| bad.tasks[3].site = Some(sites),
            |bad, frames, _| bad.sites[1].stack.push(frames),
            |bad, frames, _| bad.sites[0].creation.insert(0, frames),
            |bad, frames, _| bad.tasks[0].goroutine = Some(fixture::go::with_ancestor(frames, &[])),
            |bad, frames, _| bad.tasks[0].goroutine = Some(fixture::go::with_ancestor(0, &[frames])),
            |bad, _, _| {
                let place = u32::try_from(bad.ended_waits.len()).unwrap();
                bad.timeline =
                    vec![TimedWait { place, task: 1, name: "x".into(), began_us: 0, lasted_us: 0, exact: true }];
            },
        ];
        for break_it in break_it {
            let mut bad = good.clone();
            break_it(&mut bad, frames, sites);
            let error = read_text(&written(&bad)).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
            assert!(error.to_string().contains("and there are"), "{error}");
        }
    }

    #[test]
    fn the_schema_in_docs_is_that_of_the_types() {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/recording.schema.json"));
        let schema = schema().unwrap();
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &schema).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == schema,
            "docs/recording.schema.json is not that of the types: run \
             `UPDATE_SCHEMA=1 cargo test -p leakprobe --lib schema`, look at the difference, and commit it"
        );
    }
}
