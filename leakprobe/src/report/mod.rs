//! Output formats: one file each, behind one trait.
//!
//! A format is a pure function from a [`Recording`] to bytes. Nothing here looks at the machine, except [`files`], which puts
//! those bytes where the user wants them. To add a format: write its file, add a line to [`Format`].
//!
//! A recording may come from a file that somebody else wrote, and its names from a process that somebody else wrote. Both are
//! hostile input: [`json::read`] checks every index, and every name passes through `words::harmless` on its way out.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use regex::Regex;

use crate::model::Recording;

mod checked;
mod coded;
mod cost;
pub mod diff;
mod dot;
mod ends;
mod error;
mod evidence;
mod explain;
mod facts;
pub mod files;
mod folded;
mod frames;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod gaps;
mod github;
mod goroutines;
mod groups;
mod holders;
mod html;
pub mod json;
mod junit;
mod losses;
mod markdown;
mod overview;
mod perfetto;
mod pprof;
mod samples;
mod sarif;
mod shown;
mod speedscope;
mod stacks;
mod svg;
mod timers;
mod txt;
mod waits;
mod words;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod hostile;

pub use error::Error;
pub use explain::explain;
pub use github::annotations;
pub use overview::{overview, path_of_process};
pub(crate) use words::printable;

/// Turns a recording into one output format.
pub trait Report {
    /// Writes `recording` to `out`. The same recording and options give the same bytes.
    ///
    /// # Errors
    ///
    /// What `out` answers, and nothing else.
    fn write(&self, recording: &Recording, options: &Options, out: &mut dyn io::Write) -> io::Result<()>;
}

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Flame graph.
    Svg,
    /// One line a stack, for flame graph tools.
    Folded,
    /// The recording itself: the only format that can be read back.
    Json,
    /// Text for a person.
    Txt,
    /// Goroutines as Go's own dumps write them, so that tools which read those work.
    GoroutinesTxt,
    /// Profile for `go tool pprof`, compressed.
    Pprof,
    /// Profile for speedscope.
    Speedscope,
    /// Trace for Perfetto.
    Perfetto,
    /// One page with everything, flame graphs included.
    Html,
    /// Who waits for whom, as a picture.
    WaitsSvg,
    /// The same for graphviz.
    Dot,
    /// A check as test results.
    Junit,
    /// A check as results of an analysis.
    Sarif,
    /// A check as a summary for pull requests.
    Markdown,
}

impl Format {
    /// Every format, in the order of help texts.
    pub const ALL: &'static [Self] = &[
        Self::Svg,
        Self::Folded,
        Self::Json,
        Self::Txt,
        Self::GoroutinesTxt,
        Self::Pprof,
        Self::Speedscope,
        Self::Perfetto,
        Self::Html,
        Self::WaitsSvg,
        Self::Dot,
        Self::Junit,
        Self::Sarif,
        Self::Markdown,
    ];

    /// Its name, as `--format` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Svg => "svg",
            Self::Folded => "folded",
            Self::Json => "json",
            Self::Txt => "txt",
            Self::GoroutinesTxt => "goroutines-txt",
            Self::Pprof => "pprof",
            Self::Speedscope => "speedscope",
            Self::Perfetto => "perfetto",
            Self::Html => "html",
            Self::WaitsSvg => "waits-svg",
            Self::Dot => "dot",
            Self::Junit => "junit",
            Self::Sarif => "sarif",
            Self::Markdown => "markdown",
        }
    }

    /// Its file name extension, without the first dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::GoroutinesTxt => "goroutines.txt",
            Self::Pprof => "pb.gz",
            Self::Speedscope => "speedscope.json",
            Self::Perfetto => "pftrace",
            Self::WaitsSvg => "waits.svg",
            Self::Junit => "junit.xml",
            Self::Markdown => "md",
            _ => self.name(),
        }
    }

    /// The format that the extension of `path` stands for; upper and lower case are the same.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownExtension`] if it stands for none; so does `-`, which is stdout.
    pub fn from_path(path: &Path) -> Result<Self, Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_lowercase();
        // The end of the name and not `Path::extension`: an extension may have two dots, and then the longer one tells.
        let has_extension = |format: &&Self| {
            name.strip_suffix(format.extension()).is_some_and(|stem| stem.len() > 1 && stem.ends_with('.'))
        };
        let found = Self::ALL.iter().filter(has_extension).max_by_key(|format| format.extension().len());
        // A file may be called by nothing else, as `junit.xml` often is.
        let is_extension = |format: &&Self| format.extension().contains('.') && name == format.extension();
        let found = found.or_else(|| Self::ALL.iter().find(is_extension));
        found.copied().ok_or_else(|| Error::UnknownExtension { path: path.into() })
    }

    /// The format of that name, as `--format` takes it.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownFormat`] if there is none of that name.
    pub fn from_name(name: &str) -> Result<Self, Error> {
        Self::ALL
            .iter()
            .find(|format| format.name().eq_ignore_ascii_case(name))
            .copied()
            .ok_or_else(|| Error::UnknownFormat { name: name.into() })
    }

    /// For whom its files are: for their owner alone where they hold what the target keeps in memory besides the names of its
    /// functions and threads, above all profiler labels. Some formats always do, all others where tasks are grouped by it.
    #[must_use]
    pub fn access(self, options: &Options, owner: Option<files::Owner>) -> files::Access {
        let by_label = matches!(options.group_by, Some(GroupBy::Label(_)));
        files::Access { owner, private: by_label || self.holds_memory() }
    }

    /// Whether its files hold what the target keeps in memory, besides names of functions and threads, however tasks are grouped.
    fn holds_memory(self) -> bool {
        match self {
            Self::Json | Self::Html | Self::Txt | Self::GoroutinesTxt | Self::Pprof => true,
            Self::Svg
            | Self::Folded
            | Self::Speedscope
            | Self::Perfetto
            | Self::WaitsSvg
            | Self::Dot
            | Self::Junit
            | Self::Sarif
            | Self::Markdown => false,
        }
    }

    /// What writes it.
    #[must_use]
    pub fn report(self) -> &'static dyn Report {
        match self {
            Self::Svg => &svg::Svg,
            Self::Folded => &folded::Folded,
            Self::Json => &json::Json,
            Self::Txt => &txt::Txt,
            Self::GoroutinesTxt => &goroutines::GoroutinesTxt,
            Self::Pprof => &pprof::Pprof,
            Self::Speedscope => &speedscope::Speedscope,
            Self::Perfetto => &perfetto::Perfetto,
            Self::Html => &html::Html,
            Self::WaitsSvg => &svg::Waits,
            Self::Dot => &dot::Dot,
            Self::Junit => &junit::Junit,
            Self::Sarif => &sarif::Sarif,
            Self::Markdown => &markdown::Markdown,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What makes a stack weigh in flame graphs and folded stacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Weight {
    /// The number of parked tasks.
    #[default]
    Tasks,
    /// The ms for which they have been parked so far, at least 1 each.
    Time,
}

/// Which stack flame graphs and folded stacks show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum View {
    /// Where a task is parked.
    #[default]
    Parked,
    /// Where it was created.
    Creation,
}

/// Which tasks are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Goroutines, and the threads that do not belong to Go's runtime.
    #[default]
    All,
    /// Threads, whatever they run.
    Threads,
    /// Goroutines.
    Goroutines,
}

/// What tasks are grouped by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GroupBy {
    /// The function that created them.
    Creator,
    /// Their site.
    Site,
    /// What they wait for.
    Wait,
    /// The channels that they wait on.
    Channel,
    /// Their profiler labels, or the one of that name.
    Label(Option<String>),
    /// The name of the thread, or of the one that the goroutine is on.
    ThreadName,
}

/// How a report is to look. Each format uses what concerns it; the recording itself (json) is always whole.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which tasks are shown (svg, folded, txt).
    pub kind: Kind,
    /// What they are grouped by (svg, folded: the outermost frame; txt: a row); by site without a frame for it if `None`.
    pub group_by: Option<GroupBy>,
    /// Only tasks with a function that one of these matches, if there are any: where they are or where they were created.
    pub include: Vec<Regex>,
    /// No task with a function that one of these matches.
    pub exclude: Vec<Regex>,
    /// Whether frames are shown that Go's own dumps leave out (svg, folded, txt).
    pub all_frames: bool,
    /// Most frames of a stack that are shown, the innermost (svg, folded, txt); all if `None`.
    pub max_depth: Option<usize>,
    /// What makes a stack weigh (svg, folded).
    pub weight: Weight,
    /// Which stack is shown (svg, folded).
    pub view: View,
    /// Whether text may have ANSI colours (txt).
    pub color: bool,
    /// Whether to show every row and frame rather than the most important ones (txt).
    pub all: bool,
    /// The folder of the sources: what lies below it is named from there (junit, sarif, markdown).
    pub source_root: Option<PathBuf>,
    /// Width: columns of text (txt; 120 if `None`), or pixels of the picture (svg; as wide as the window if `None`).
    pub width: Option<usize>,
}

/// Writes `recording` in `format` to the file `path`, or to stdout if that is `-`. See [`files::write`].
///
/// # Errors
///
/// [`Error::Write`] says what could not be written, why, and what to do; [`Error::TooMuchToRender`] what would take too much memory,
/// [`Error::OutputTooLarge`] what would be too large.
pub fn write_file(
    recording: &Recording,
    format: Format,
    options: &Options,
    path: &Path,
    owner: Option<files::Owner>,
) -> Result<files::Written, Error> {
    write_within(format, &[recording], options, path, owner, |out| format.report().write(recording, options, out))
}

/// Writes `recording` so that it can be read back, to a file that nobody else may read, and only where nothing is yet. See
/// [`files::create`].
///
/// # Errors
///
/// [`Error::Write`], or [`Error::OutputTooLarge`] if it could not be read back; [`Error::is_taken`] if something is there.
pub fn keep(recording: &Recording, path: &Path, owner: Option<files::Owner>) -> Result<(), Error> {
    let (format, options) = (Format::Json, Options::default());
    let mut exceeded = false;
    let kept = files::create(path, format.access(&options, owner), |out| {
        format.report().write(recording, &options, &mut cost::Limited::new(out, json::MAX_BYTES, &mut exceeded))
    });
    if exceeded {
        return Err(Error::OutputTooLarge { path: path.into(), format, most_mib: json::MAX_BYTES >> 20 });
    }
    kept
}

/// The largest depth by which stacks can be cut (`max_depth`) so that `format` does not take too much memory; `None` if there is none.
#[must_use]
pub fn depth_that_fits(recording: &Recording, format: Format, options: &Options) -> Option<usize> {
    let depths = [512, 256, 128, 64, 32, 16, 8];
    let less = depths.into_iter().filter(|&depth| options.max_depth.is_none_or(|most| depth < most));
    less.into_iter().find(|&depth| {
        let cut = Options { max_depth: Some(depth), ..options.clone() };
        cost::check(format, &[recording], &cut, Path::new("-")).is_ok()
    })
}

/// The same of the page of a check, with what came since `baseline`.
///
/// # Errors
///
/// As [`write_file`].
pub fn write_page_of_check(
    recording: &Recording,
    baseline: &Recording,
    options: &Options,
    path: &Path,
    owner: Option<files::Owner>,
) -> Result<files::Written, Error> {
    let write = |out: &mut dyn io::Write| html::write(recording, Some(baseline), options, out);
    // The page of one, with the comparison of both.
    cost::check(Format::Html, &[recording], options, path)?;
    write_within(Format::Html, &[baseline, recording], options, path, owner, write)
}

/// [`files::write`] of what neither takes too much memory nor becomes too large.
fn write_within(
    format: Format,
    of: &[&Recording],
    options: &Options,
    path: &Path,
    owner: Option<files::Owner>,
    render: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
) -> Result<files::Written, Error> {
    cost::check(format, of, options, path)?;
    let most = cost::most_written(format, of);
    let mut exceeded = false;
    let written = files::write(path, format.access(options, owner), |out| {
        render(&mut cost::Limited::new(out, most, &mut exceeded))
    });
    if exceeded {
        return Err(Error::OutputTooLarge { path: path.into(), format, most_mib: most >> 20 });
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_tells_the_format() {
        for (path, format) in [
            ("parked.svg", Format::Svg),
            ("/tmp/a.b/OUT.SVG", Format::Svg),
            ("x.folded", Format::Folded),
            ("before.load.json", Format::Json),
            ("x.txt", Format::Txt),
            ("x.goroutines.txt", Format::GoroutinesTxt),
            ("goroutines.txt", Format::Txt),
            ("x.pb.gz", Format::Pprof),
            ("x.speedscope.json", Format::Speedscope),
            ("x.pftrace", Format::Perfetto),
            ("x.html", Format::Html),
            ("x.waits.svg", Format::WaitsSvg),
            ("waits.svg", Format::Svg),
            ("x.dot", Format::Dot),
            ("x.junit.xml", Format::Junit),
            ("out/junit.xml", Format::Junit),
            ("leakprobe.sarif", Format::Sarif),
            ("x.md", Format::Markdown),
        ] {
            assert_eq!(Format::from_path(Path::new(path)).unwrap(), format);
        }
        for path in ["-", "svg", ".svg", "x", "x.png", "x.gz", "", "dir.svg/x", "/"] {
            let error = Format::from_path(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains(".svg, .folded, .json, .txt, .goroutines.txt"), "{error}");
        }
    }

    #[test]
    fn whatever_shows_a_label_is_for_its_owner_alone() {
        let mut recording = fixture::go::service();
        for task in &mut recording.tasks {
            if let Some(goroutine) = &mut task.goroutine {
                goroutine.labels = std::sync::Arc::new([("tenant".to_owned(), "swordfish".to_owned())].into());
            }
        }
        let groups =
            [None, Some(GroupBy::Creator), Some(GroupBy::Label(None)), Some(GroupBy::Label(Some("tenant".into())))];
        let mut shown = 0;
        for (&format, group_by) in Format::ALL.iter().flat_map(|format| groups.iter().map(move |group| (format, group)))
        {
            let options = Options { group_by: group_by.clone(), ..Options::default() };
            let mut bytes = Vec::new();
            format.report().write(&recording, &options, &mut bytes).unwrap();
            let shows = bytes.windows(9).any(|window| window == b"swordfish");
            shown += u32::from(shows);
            assert!(!shows || format.access(&options, None).private, "{format} {group_by:?}");
        }
        assert!(shown > 10, "{shown}");
        assert!(!Format::Svg.access(&Options::default(), None).private);
    }

    #[test]
    fn every_format_has_a_name_that_leads_back_to_it() {
        for &format in Format::ALL {
            assert_eq!(Format::from_name(format.name()).unwrap(), format);
        }
        let error = Format::from_name("pdf").unwrap_err();
        insta::assert_snapshot!(error, @"`pdf` is no output format: use one of svg, folded, json, txt, goroutines-txt, pprof, speedscope, perfetto, html, waits-svg, dot, junit, sarif, markdown");
    }
}
