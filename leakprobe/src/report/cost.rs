//! What memory it takes to write a recording in a format, known before it is done: a stack names frames by number, so a small file can
//! grow to much. And how large the output may become, which is known only while it is written.

use std::{io, path::Path};

use super::{Error, Format, Options, json::expanded::Expanded};
use crate::model::Recording;

/// Most bytes of memory that writing one output may take, besides the recording itself.
const MOST_MEMORY: u64 = 320 << 20;

/// Most bytes of an output: so much in any case, and for each task that is listed, of which most take a few KiB. The time that it
/// takes is bounded with them.
const MOST_WRITTEN: u64 = 256 << 20;
const MOST_WRITTEN_FOR_TASK: u64 = 8 << 10;

/// What a format takes at most.
struct Cost {
    /// Bytes of memory for each byte of text of the distinct stacks.
    text: u64,
    /// Bytes of memory for each of their frames.
    frame: u64,
    size: Size,
}

/// How large an output gets.
enum Size {
    /// Each text of the recording stands in it once.
    AsRecording,
    /// The same stack is written for each task or site, each holder and each member of a deadlock.
    Repeating,
}

impl Cost {
    /// Of one recording, or of the comparison of several. Measured, with a part added, of recordings with 256 MiB of text in 4,000
    /// frames, and with 12 million frames of one byte each.
    const fn of(format: Format, is_comparison: bool) -> Self {
        let (text, frame, size) = match format {
            Format::Json if !is_comparison => (0, 0, Size::AsRecording),
            // Nodes of a tree; the picture is put together in memory, and the page holds it twice.
            Format::Svg => (3, 80, Size::Repeating),
            Format::Html => (4, 80, Size::Repeating),
            // Text is held once for each stack, and once more for the packet.
            Format::Perfetto => (3, 16, Size::Repeating),
            // Numbers; each frame's text once. Two frames may be a location of their own, if the inner one is inlined.
            Format::Pprof => (0, 100, Size::Repeating),
            // Lines of both recordings are found by their text.
            Format::Folded if is_comparison => (2, 16, Size::Repeating),
            Format::Speedscope | Format::Folded => (0, 16, Size::Repeating),
            // One stack at a time, or the most important ones.
            Format::Json
            | Format::Txt
            | Format::GoroutinesTxt
            | Format::WaitsSvg
            | Format::Dot
            | Format::Junit
            | Format::Sarif
            | Format::Markdown => (0, 0, Size::Repeating),
        };
        Self { text, frame, size }
    }
}

/// Whether these recordings together can be written in `format`.
///
/// # Errors
///
/// [`Error::TooMuchToRender`].
pub(super) fn check(format: Format, of: &[&Recording], options: &Options, path: &Path) -> Result<(), Error> {
    let cost = Cost::of(format, of.len() > 1);
    let memory = |recording: &&Recording| {
        let Expanded { text, frames } = Expanded::of(recording, options.max_depth, MOST_MEMORY);
        text.saturating_mul(cost.text).saturating_add(frames.saturating_mul(cost.frame))
    };
    let memory = of.iter().map(memory).fold(0, u64::saturating_add);
    if memory > MOST_MEMORY {
        return Err(Error::TooMuchToRender { path: path.into(), format, most_mib: MOST_MEMORY >> 20 });
    }
    Ok(())
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

/// Most bytes that the output of these recordings may have.
pub(super) fn most_written(format: Format, of: &[&Recording]) -> u64 {
    match Cost::of(format, of.len() > 1).size {
        Size::AsRecording => u64::MAX,
        Size::Repeating => {
            let tasks = of.iter().map(|recording| recording.tasks.len() as u64).fold(0, u64::saturating_add);
            MOST_WRITTEN.saturating_add(tasks.saturating_mul(MOST_WRITTEN_FOR_TASK))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Frame, Site, Verdict},
        report::{diff, fixture},
    };

    /// `count` tasks with different stacks of `depth` frames, which have names of `length` bytes.
    fn recording(count: u32, depth: u32, length: usize) -> Recording {
        let mut recording = fixture::checkout();
        recording.frames =
            (0..10).map(|n| Frame { function: n.to_string().repeat(length), ..Frame::default() }).collect();
        let task = recording.tasks[0].clone();
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

    fn refused(recording: &Recording, options: &Options) -> Vec<Format> {
        let is_refused = |format: &Format| check(*format, &[recording], options, Path::new("x")).is_err();
        Format::ALL.iter().copied().filter(is_refused).collect()
    }

    #[test]
    fn what_grows_to_much_is_refused_by_the_formats_that_write_it_out() {
        assert_eq!(refused(&recording(1_000, 50, 100), &Options::default()), []);
        let long = recording(100, 40, 32 << 10);
        assert_eq!(refused(&long, &Options::default()), [Format::Svg, Format::Perfetto, Format::Html]);
        let frames = recording(6_000, 1_000, 1);
        assert_eq!(refused(&frames, &Options::default()), [Format::Svg, Format::Pprof, Format::Html]);
        let cut = Options { max_depth: Some(20), ..Options::default() };
        assert_eq!((refused(&long, &cut), refused(&frames, &cut)), (vec![], vec![]));
        assert!(check(Format::Svg, &[&recording(100, 20, 32 << 10); 2], &Options::default(), Path::new("x")).is_err());
    }

    #[test]
    fn what_is_refused_can_be_cut_until_it_fits() {
        let options = Options::default();
        let depth =
            |recording: &Recording, options: &Options| crate::report::depth_that_fits(recording, Format::Svg, options);
        let frames = recording(6_000, 1_000, 1);
        assert_eq!(depth(&frames, &options), Some(512));
        let long = recording(100, 40, 32 << 10);
        assert_eq!(depth(&long, &options), Some(32));
        assert_eq!(depth(&long, &Options { max_depth: Some(32), ..options.clone() }), Some(16));
        assert_eq!(depth(&recording(1_000, 40, 64 << 10), &options), None);
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
