//! What memory it takes to write a recording in a format, known before it is done: a stack names frames by number, so a small file can
//! grow to much.

use std::path::Path;

use super::{Error, Format, Options, json::expanded::Expanded};
use crate::model::Recording;

/// Most bytes of memory that writing one output may take, besides the recording itself.
const MOST_MEMORY: u64 = 320 << 20;

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
}
