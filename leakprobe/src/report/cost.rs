//! What memory it takes to write a recording in a format, known before it is done: a stack names frames by number, so a small file can
//! grow to much. And how large the output may become, which is known only while it is written.

use std::{io, path::Path};

use super::{Error, Format, Options, json::expanded::Expanded};
use crate::model::Recording;

/// Most bytes of memory that writing one output may take, besides the recording itself.
const MOST_MEMORY: u64 = 320 << 20;

/// Most bytes of an output that writes out stacks one after the other: so much in any case, and for each task that is listed,
/// of which most take a few KiB.
const MOST_WRITTEN: u64 = 256 << 20;
const MOST_WRITTEN_FOR_TASK: u64 = 8 << 10;

/// Bytes of memory that a format takes for each byte of text and for each frame of the distinct stacks, at most.
struct Cost {
    text: u64,
    frame: u64,
}

impl Cost {
    /// Measured, with a part added, of recordings with 256 MiB of text in 4,000 frames, and with 12 million frames of one byte each.
    const fn of(format: Format) -> Self {
        let (text, frame) = match format {
            // Nodes of a tree; the picture is put together in memory, and the page holds it twice.
            Format::Svg => (3, 80),
            Format::Html => (4, 80),
            // Text is held once for each stack, and once more for the packet.
            Format::Perfetto => (3, 16),
            // Numbers; each frame's text once.
            Format::Pprof => (0, 24),
            Format::Speedscope | Format::Folded => (0, 16),
            // One stack at a time, or the most important ones.
            Format::Json
            | Format::Txt
            | Format::GoroutinesTxt
            | Format::WaitsSvg
            | Format::Dot
            | Format::Junit
            | Format::Sarif
            | Format::Markdown => (0, 0),
        };
        Self { text, frame }
    }
}

/// Whether these recordings together can be written in `format`.
///
/// # Errors
///
/// [`Error::TooMuchToRender`].
pub(super) fn check(format: Format, of: &[&Recording], options: &Options, path: &Path) -> Result<(), Error> {
    let cost = Cost::of(format);
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
    match format {
        // The same stack is written for each task or site, each holder and each member of a deadlock.
        Format::Html | Format::Txt | Format::GoroutinesTxt => {
            let tasks = of.iter().map(|recording| recording.tasks.len() as u64).fold(0, u64::saturating_add);
            MOST_WRITTEN.saturating_add(tasks.saturating_mul(MOST_WRITTEN_FOR_TASK))
        }
        // What is large here takes memory, and is refused before.
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Frame, report::fixture};

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
        assert_eq!(refused(&frames, &Options::default()), [Format::Svg, Format::Html]);
        let cut = Options { max_depth: Some(20), ..Options::default() };
        assert_eq!((refused(&long, &cut), refused(&frames, &cut)), (vec![], vec![]));
        assert!(check(Format::Svg, &[&recording(100, 20, 32 << 10); 2], &Options::default(), Path::new("x")).is_err());
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
    fn formats_that_write_stacks_out_end_somewhere() {
        let recording = recording(1_000, 1, 1);
        for format in [Format::Html, Format::Txt, Format::GoroutinesTxt] {
            assert_eq!(most_written(format, &[&recording; 2]), (256 << 20) + 2 * 1_000 * (8 << 10));
        }
    }
}
