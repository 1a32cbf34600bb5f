//! Text for the person who was woken up: what hangs, where, who made it, and what all of that rests on.

mod evidence;
mod paint;
mod sites;
mod stacks;
mod table;
mod unparked;
mod wrap;

use std::io;

use self::paint::{Paint, Style};
use super::{Options, Report, evidence as facts, words};
use crate::model::Recording;

/// Width if none is given: fits a log viewer, and most terminals.
const DEFAULT_WIDTH: usize = 120;

/// The `.txt` format.
pub(super) struct Txt;

impl Report for Txt {
    fn write(&self, recording: &Recording, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
        let mut page = Page {
            recording,
            all: options.all,
            width: options.width.unwrap_or(DEFAULT_WIDTH),
            paint: Paint { color: options.color },
            out,
        };
        page.headline()?;
        if facts::parked(recording) == 0 {
            page.nothing_parked()?;
        } else {
            page.sites()?;
            page.sites_in_full()?;
        }
        page.unparked()?;
        page.ended_waits()?;
        page.growth()?;
        page.evidence()
    }
}

/// What is being written, and how. Each part of the page is one method, in the file that it has to do with.
struct Page<'a> {
    recording: &'a Recording,
    all: bool,
    width: usize,
    paint: Paint,
    out: &'a mut dyn io::Write,
}

impl Page<'_> {
    /// Who was watched for how long, and the one sentence that matters.
    fn headline(&mut self) -> io::Result<()> {
        let recording = self.recording;
        let target = &recording.target;
        let name = format!("{} (pid {})", words::harmless(&target.comm), target.pid);
        let mut about = vec![words::harmless(&target.exe)];
        if target.runtime != "native" {
            about.push(words::harmless(&target.runtime));
        }
        about.retain(|part| !part.is_empty());
        let about = if about.is_empty() { String::new() } else { format!("  {}", self.paint.dim(&about.join(" · "))) };
        writeln!(self.out, "{}{about}", self.paint.bold(&name))?;
        writeln!(self.out, "{}", self.watched())?;

        let noun = facts::noun(recording);
        let parked = facts::parked(recording);
        let alive = words::count(facts::alive(recording), noun);
        let sentence = if parked == 0 {
            format!("{alive}, none parked longer than {}", self.threshold())
        } else {
            format!(
                "{alive}, {} parked longer than {}, at {}",
                words::thousands(parked),
                self.threshold(),
                words::count(recording.sites.len() as u64, "site")
            )
        };
        writeln!(self.out, "{}", self.paint.bold(&sentence))
    }

    /// When and how long, and what became of the target meanwhile.
    fn watched(&self) -> String {
        let recording = self.recording;
        let target = &recording.target;
        let start = words::utc(&recording.started);
        let mut watched = if recording.duration_ms == 0 {
            format!("seen once, at {start}")
        } else {
            let duration = words::span(recording.duration_ms);
            format!("watched for {duration} from {start}")
        };
        if target.execs > 0 {
            let times = if target.execs == 1 { "once".into() } else { words::count(target.execs, "time") };
            watched += &format!("; began another program {times}");
        }
        if let Some(ended) = &target.ended {
            let ended = words::harmless(ended);
            watched += &format!("; the process {}", if ended.is_empty() { "ended" } else { &ended });
        }
        watched
    }

    fn threshold(&self) -> String {
        words::short_span(self.recording.min_block_ms)
    }

    /// In place of the sites: what was found, and next to it what that does not cover.
    fn nothing_parked(&mut self) -> io::Result<()> {
        let found = facts::nothing_parked(self.recording);
        let unseen = facts::unseen(self.recording);
        let when = if self.recording.duration_ms == 0 { "at that moment" } else { "when watching ended" };
        if unseen.is_empty() {
            let sentence = format!("{} {when}.", capitalized(&found));
            writeln!(self.out)?;
            return self.wrapped("", 0, &wrap::sentence(&sentence), Style::Plain);
        }
        let sentence = format!("{} {when}, as far as was seen. Not seen:", capitalized(&found));
        writeln!(self.out)?;
        self.wrapped("", 0, &wrap::sentence(&sentence), Style::Warning)?;
        for clause in unseen {
            self.wrapped("  ", 4, &wrap::sentence(&clause), Style::Plain)?;
        }
        Ok(())
    }

    /// `label` and then `pieces`, in lines that fit the width; those after the first begin with `indent` spaces.
    fn wrapped(&mut self, label: &str, indent: usize, pieces: &[String], style: Style) -> io::Result<()> {
        let room = self.width.saturating_sub(indent.max(label.chars().count()));
        let mut label = label.to_owned();
        for line in wrap::lines(pieces, room) {
            writeln!(self.out, "{label}{}", self.paint.paint(style, &line))?;
            label = " ".repeat(indent);
        }
        Ok(())
    }

    /// Starts a part of the page.
    fn heading(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "\n{}", self.paint.bold(text))
    }
}

fn capitalized(sentence: &str) -> String {
    let mut chars = sentence.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}
