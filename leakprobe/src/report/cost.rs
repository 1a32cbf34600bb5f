//! What memory it takes to write a recording in a format, known before it is done: a stack names frames by number, so a small file can
//! grow to much. And how large the output may become, which is known only while it is written.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, Hash, Hasher, RandomState},
    io,
    path::Path,
};

use super::{
    Error, Format, Options, frames, html,
    samples::{self, Entry},
    shown::Shown,
    stacks::Stacks,
    svg,
};
use crate::model::Recording;

/// Most bytes of memory that writing one output may take, besides the recording itself.
const MOST_MEMORY: u64 = 320 << 20;

/// Most bytes of an output: so much in any case, and for each task that is listed, of which most take a few KiB. The time that it
/// takes is bounded with them.
const MOST_WRITTEN: u64 = 256 << 20;
const MOST_WRITTEN_FOR_TASK: u64 = 8 << 10;

/// Most bytes that a frame of a distinct stack takes as a number, and one of the tree of all stacks until it is drawn; in a comparison
/// this one is also looked up by its name, and its weights are kept.
const NUMBER: u64 = 8;
const DRAWN: u64 = 64;
const COMPARED: u64 = 192;
/// And one of a profile. Two frames may be a location of their own, if the inner one is inlined.
const OF_SPEEDSCOPE: u64 = 16;
const OF_PPROF: u64 = 100;
/// Most bytes that a distinct stack takes besides its frames, and a distinct frame besides its text.
const STACK: u64 = 256;
const LABEL: u64 = 256;

/// Whether these recordings can be written in `format`: one of them, or the comparison of two, the later one being the second.
///
/// # Errors
///
/// [`Error::TooMuchToRender`].
pub(super) fn check(format: Format, of: &[&Recording], options: &Options, path: &Path) -> Result<(), Error> {
    if memory(format, of, options) > MOST_MEMORY {
        return Err(Error::TooMuchToRender { path: path.into(), format, most_mib: MOST_MEMORY >> 20 });
    }
    Ok(())
}

/// Bytes of memory that it takes at most.
fn memory(format: Format, of: &[&Recording], options: &Options) -> u64 {
    let shown = || of.iter().map(|recording| Shown::of(recording, options));
    match format {
        Format::Svg | Format::Html => match *shown().collect::<Vec<_>>().as_slice() {
            [ref before, ref after] => compared_picture([before, after], options),
            ref all if format == Format::Svg => all.iter().map(|shown| picture(shown, options).0).sum(),
            // The picture is held as a part of the page, too.
            ref all => {
                let views = html::views(options);
                let page = |shown| views.iter().map(|view| picture(shown, view)).map(|(all, drawn)| all + drawn).max();
                all.iter().filter_map(page).sum()
            }
        },
        Format::Folded => {
            let lines = |shown| Lines::of(&Stacks::of(&shown, options));
            // Lines of both recordings are found by their text; those of one are written without being put together.
            let text = |lines: Lines| lines.stacks + if of.len() > 1 { lines.text } else { 0 };
            shown().map(lines).map(text).sum()
        }
        Format::Perfetto => shown().map(|shown| trace(&shown)).sum(),
        Format::Speedscope => shown().map(|shown| distinct_frames(&shown, options) * OF_SPEEDSCOPE).sum(),
        Format::Pprof => shown().map(|shown| distinct_frames(&shown, options) * OF_PPROF).sum(),
        // One stack at a time, or the most important ones.
        Format::Json
        | Format::Txt
        | Format::GoroutinesTxt
        | Format::WaitsSvg
        | Format::Dot
        | Format::Junit
        | Format::Sarif
        | Format::Markdown => 0,
    }
}

/// The distinct stacks of a recording as folded lines.
#[derive(Clone, Copy)]
struct Lines {
    /// Bytes of memory until they are put together.
    stacks: u64,
    /// Bytes of all lines.
    text: u64,
    /// Bytes of each text once.
    labels: u64,
}

impl Lines {
    fn of(stacks: &Stacks) -> Self {
        let labels: Vec<u64> = stacks.labels().iter().map(|label| label.len() as u64).collect();
        let length = |label: &u32| labels.get(*label as usize).copied().unwrap_or(0) + 1;
        let all: u64 = labels.iter().sum();
        let held = |frames: &[u32]| frames.len() as u64 * NUMBER + STACK;
        Self {
            // Texts are found by themselves.
            stacks: 2 * all + labels.len() as u64 * LABEL + stacks.iter().map(|stack| held(&stack.frames)).sum::<u64>(),
            text: stacks.iter().flat_map(|stack| &stack.frames).map(length).sum(),
            labels: all,
        }
    }
}

/// Bytes of memory for a flame graph, and how many of them are the picture.
fn picture(shown: &Shown<'_>, options: &Options) -> (u64, u64) {
    let stacks = Stacks::of(shown, options);
    let (lines, size) = (Lines::of(&stacks), svg::Size::of(&stacks, options));
    // Colours are found by text.
    (lines.stacks + lines.labels + lines.text + size.frames * DRAWN + size.bytes, size.bytes)
}

/// Bytes of memory for the flame graph of a comparison: each picture that is made of another one is held beside that alone.
fn compared_picture([before, after]: [&Shown<'_>; 2], options: &Options) -> u64 {
    let [before, after] = [before, after].map(|shown| Stacks::of(shown, options));
    let (was, is) = (Lines::of(&before), Lines::of(&after));
    let (tree, size) = (svg::Size::of(&before, options), svg::Size::of(&after, options));
    // The lines of both are found by their text, and those that are drawn are held as well.
    let lines = was.stacks + is.stacks + was.text + 2 * is.text;
    lines + (tree.frames + size.frames) * COMPARED + 2 * size.bytes
}

/// Bytes of memory for a trace: each distinct stack is a text, and the one that is written is held three times more.
fn trace(shown: &Shown<'_>) -> u64 {
    let parked = shown.tasks.iter().filter(|task| task.wait.is_some()).map(|task| &*task.stack);
    let created = shown.tasks.iter().filter(|task| task.created_by.task.is_some()).map(|task| &*task.created_by.stack);
    let ended = shown.recording.ended_waits.iter().filter(|wait| shown.shows_ended(wait)).map(|wait| &*wait.stack);
    let mut labels: HashMap<u32, u64> = HashMap::new();
    let mut known: HashSet<&[u32]> = HashSet::new();
    let (mut all, mut largest) = (0, 0);
    for stack in parked.chain(created).chain(ended) {
        if known.insert(stack) {
            let frames = shown.resolve(stack);
            let length =
                |&(place, frame)| *labels.entry(place).or_insert_with(|| frames::label(frame).len() as u64) + 1;
            let text: u64 = shown.cut(&frames).0.iter().map(length).sum();
            all += text + STACK;
            largest = largest.max(text);
        }
    }
    all + 3 * largest + labels.values().map(|label| label + LABEL).sum::<u64>()
}

/// Frames of all stacks that differ in one of them, or in what is waited for.
fn distinct_frames(shown: &Shown<'_>, options: &Options) -> u64 {
    let hashes = RandomState::new();
    let (mut known, mut frames) = (HashSet::new(), 0);
    samples::each(shown, options, |sample| {
        let mut hash = hashes.build_hasher();
        for entry in &sample.entries {
            match entry {
                Entry::Frame(place, _) => place.hash(&mut hash),
                Entry::Note(note) => note.hash(&mut hash),
            }
        }
        sample.kind.hash(&mut hash);
        if known.insert(hash.finish()) {
            frames += sample.entries.len() as u64 + 1;
        }
    });
    frames
}

/// A writer that fails where an output gets too large.
pub(super) struct Limited<'a> {
    out: &'a mut dyn io::Write,
    left: u64,
    exceeded: &'a mut bool,
}

impl<'a> Limited<'a> {
    /// Takes `most` bytes for `out`; beyond them `exceeded` is set.
    pub(super) fn new(out: &'a mut dyn io::Write, most: u64, exceeded: &'a mut bool) -> Self {
        Self { out, left: most, exceeded }
    }
}

impl io::Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            *self.exceeded = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        let written = self.out.write(bytes)?;
        self.left = left;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Most bytes that the output of these recordings may have. A recording as itself has each text once; all else writes the same stack
/// for each task or site, each holder and each member of a deadlock.
pub(super) fn most_written(format: Format, of: &[&Recording]) -> u64 {
    if format == Format::Json && of.len() == 1 {
        return u64::MAX;
    }
    let tasks = of.iter().map(|recording| recording.tasks.len() as u64).fold(0, u64::saturating_add);
    MOST_WRITTEN.saturating_add(tasks.saturating_mul(MOST_WRITTEN_FOR_TASK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Frame, Site, TaskState, Verdict},
        report::{GroupBy, diff, fixture},
    };

    /// `count` tasks with different stacks of `depth` frames, which have names of `length` bytes.
    fn recording(count: u32, depth: u32, length: usize) -> Recording {
        named(count, depth, |n| n.to_string().repeat(length))
    }

    /// `count` tasks with different stacks of `depth` frames; there are ten frames, with the names that `name` gives their numbers.
    fn named(count: u32, depth: u32, name: impl Fn(u32) -> String) -> Recording {
        let mut recording = fixture::checkout();
        recording.frames = (0..10).map(|n| Frame { function: name(n), ..Frame::default() }).collect();
        let task = recording.tasks.iter().find(|task| task.state == TaskState::Parked).unwrap().clone();
        recording.sites.clear();
        recording.timeline.clear();
        recording.ended_waits.clear();
        let digit = |number: u32, place: u32| number.checked_div(10_u32.saturating_pow(place)).unwrap_or(0) % 10;
        recording.tasks = (0..count)
            .map(|n| {
                let mut task = task.clone();
                task.stack = (0..depth).map(|place| digit(n, place)).collect();
                task.created_by.stack = [].into();
                task.site = None;
                task
            })
            .collect();
        recording
    }

    /// `recording` with its stacks turned round, so that their outermost frames differ.
    fn turned(mut recording: Recording) -> Recording {
        for task in &mut recording.tasks {
            task.stack = task.stack.iter().rev().copied().collect();
        }
        recording
    }

    fn refused(recording: &Recording, options: &Options) -> Vec<Format> {
        let is_refused = |format: &Format| check(*format, &[recording], options, Path::new("x")).is_err();
        Format::ALL.iter().copied().filter(is_refused).collect()
    }

    fn refused_comparisons(before: &Recording, after: &Recording) -> Vec<Format> {
        let is_refused =
            |format: &Format| check(*format, &[before, after], &Options::default(), Path::new("x")).is_err();
        diff::FORMATS.iter().copied().filter(is_refused).collect()
    }

    #[test]
    fn what_grows_to_much_is_refused_by_the_formats_that_write_it_out() {
        assert_eq!(refused(&recording(1_000, 50, 100), &Options::default()), []);
        // Of names of more than 16 KiB both ends are written.
        let long = recording(600, 40, 32 << 10);
        assert_eq!(refused(&long, &Options::default()), [Format::Svg, Format::Perfetto, Format::Html]);
        let frames = recording(3_500, 1_000, 1);
        assert_eq!(refused(&frames, &Options::default()), [Format::Pprof]);
        let wide = turned(recording(1_500, 1_000, 1));
        assert_eq!(refused(&wide, &Options::default()), [Format::Svg, Format::Html]);
        let cut = Options { max_depth: Some(20), ..Options::default() };
        for recording in [&long, &frames, &wide] {
            assert_eq!(refused(recording, &cut), []);
        }
    }

    #[test]
    fn a_comparison_takes_what_both_take() {
        let idle = fixture::idle();
        // 125 MiB of text, and no more than 1 MiB of frames that have a name of their own.
        let long = recording(400, 20, 32 << 10);
        assert_eq!(refused(&long, &Options::default()), []);
        assert_eq!(refused_comparisons(&long, &idle), []);
        assert_eq!(refused_comparisons(&long, &long), [Format::Svg, Format::Html]);
        let longer = recording(600, 20, 32 << 10);
        assert_eq!(refused_comparisons(&idle, &longer), [Format::Svg, Format::Html]);
        assert_eq!(refused_comparisons(&longer, &longer), [Format::Svg, Format::Folded, Format::Html]);
    }

    #[test]
    fn names_count_as_they_are_written() {
        // 64 MB of text in the tree of a picture, which is 390 MB as `&quot;`.
        let tree = |text: &str| turned(named(100, 400, |n| format!("{n}{}", text.repeat(1_600))));
        assert_eq!(refused(&tree("a"), &Options::default()), []);
        assert_eq!(refused(&tree("\""), &Options::default()), [Format::Svg, Format::Html]);
        assert_eq!(refused_comparisons(&fixture::idle(), &tree("\"")), [Format::Svg, Format::Html]);
        // Each of these bytes is three, as it stands for a character that can be shown.
        let lines = |text: &str| named(100, 1_000, |n| format!("{n}{}", text.repeat(1_600)));
        assert_eq!(refused(&lines("a"), &Options::default()), []);
        assert_eq!(refused(&lines("\u{7f}"), &Options::default()), [Format::Svg, Format::Perfetto, Format::Html]);
    }

    #[test]
    fn a_group_makes_a_stack_of_its_own() {
        let mut recording = named(1_000, 40, |n| n.to_string().repeat(16 << 10));
        let stack = recording.tasks[0].stack.clone();
        for (n, task) in recording.tasks.iter_mut().enumerate() {
            (task.name, task.stack) = (n.to_string().into(), stack.clone());
        }
        assert_eq!(refused(&recording, &Options::default()), []);
        let grouped = Options { group_by: Some(GroupBy::ThreadName), ..Options::default() };
        assert_eq!(refused(&recording, &grouped), [Format::Svg, Format::Html]);
    }

    #[test]
    fn what_is_refused_can_be_cut_until_it_fits() {
        let options = Options::default();
        let frames = recording(3_500, 1_000, 1);
        assert_eq!(crate::report::depth_that_fits(&frames, Format::Pprof, &options), Some(512));
        let depth =
            |recording: &Recording, options: &Options| crate::report::depth_that_fits(recording, Format::Svg, options);
        let long = recording(800, 40, 32 << 10);
        assert_eq!(depth(&long, &options), Some(16));
        assert_eq!(depth(&long, &Options { max_depth: Some(16), ..options.clone() }), Some(8));
        assert_eq!(depth(&recording(4_000, 40, 64 << 10), &options), None);
    }

    #[test]
    fn an_output_that_gets_too_large_is_given_up() {
        use io::Write as _;
        let (mut out, mut exceeded) = (Vec::new(), false);
        let mut limited = Limited::new(&mut out, 5, &mut exceeded);
        assert!(
            limited.write_all(b"abc").is_ok() && limited.write_all(b"def").is_err() && limited.write_all(b"gh").is_ok()
        );
        assert_eq!((out.as_slice(), exceeded), (b"abcgh".as_slice(), true));
    }

    #[test]
    fn a_stack_that_comes_again_and_again_makes_no_endless_output() {
        let mut recording = fixture::go::service();
        let is_shown = |&&place: &&u32| recording.frames[place as usize].go.is_some_and(|go| !go.hidden);
        let waits = |task: &&crate::model::Task| task.goroutine.is_some() && task.role.is_own() && task.wait.is_some();
        let (task, place) = recording
            .tasks
            .iter()
            .filter(waits)
            .find_map(|task| Some((task, *task.stack.iter().find(is_shown)?)))
            .unwrap();
        let mut task = task.clone();
        task.stack = vec![place; 100].into();
        recording.frames[place as usize].function = "f".repeat(16 << 10);
        let written = |recording: &Recording| {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("out");
            let result = crate::report::write_file(recording, Format::GoroutinesTxt, &Options::default(), &path, None);
            result.map(|_| ()).map_err(|error| (error.to_string(), path.exists()))
        };
        recording.tasks = vec![task.clone(); 100];
        assert_eq!(written(&recording), Ok(()));
        recording.tasks = vec![task; 1_000];
        let (error, exists) = written(&recording).unwrap_err();
        assert!(error.contains("larger than 263 MiB") && error.contains("--max-depth") && !exists, "{error}");
    }

    #[test]
    fn every_output_but_the_recording_itself_ends_somewhere() {
        let recording = recording(1_000, 1, 1);
        for &format in Format::ALL {
            let of_one = if format == Format::Json { u64::MAX } else { (256 << 20) + 1_000 * (8 << 10) };
            assert_eq!(most_written(format, &[&recording]), of_one, "{format}");
            assert_eq!(most_written(format, &[&recording; 2]), (256 << 20) + 2 * 1_000 * (8 << 10), "{format}");
        }
    }

    /// Writes into 1 MiB; whether that was too little.
    fn exceeds(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> bool {
        let mut exceeded = false;
        let written = write(&mut Limited::new(&mut io::sink(), 1 << 20, &mut exceeded));
        assert_eq!(written.is_err(), exceeded);
        exceeded
    }

    #[test]
    fn sites_are_put_together_one_at_a_time() {
        let mut recording = recording(1, 60, 64 << 10);
        let site = &fixture::check::failed().sites[0];
        let (stack, creation) = (recording.tasks[0].stack.to_vec(), recording.tasks[0].stack.to_vec());
        let site = Site { stack, creation, verdict: Verdict::Proven, ..site.clone() };
        // 100 GB, were all of it put together before a part is written.
        recording.sites = (0..50_000).map(|n| Site { id: n.to_string(), ..site.clone() }).collect();
        for format in [Format::Sarif, Format::Junit] {
            assert!(exceeds(|out| format.report().write(&recording, &Options::default(), out)), "{format}");
        }
        let pair = diff::Pair { before: ("a".into(), fixture::idle()), after: ("b".into(), recording) };
        assert!(exceeds(|out| pair.write(Format::Json, &Options::default(), out)));
    }
}
