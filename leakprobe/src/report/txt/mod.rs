//! Text for the person who was woken up: what hangs, where, who made it, and what all of that rests on.

mod check;
mod diff;
mod ends;
mod evidence;
pub(super) mod goroutines;
mod groups;
mod holders;
mod paint;
pub(super) mod sites;
mod stacks;
mod table;
mod timers;
mod unparked;
pub(super) mod wrap;

use std::io;

pub(super) use self::diff::write as write_diff;
use self::paint::{Paint, Style};
use super::{GroupBy, Options, Report, evidence as facts, shown::Shown, words};
use crate::model::Recording;

/// Width if none is given: fits a log viewer, and most terminals.
const DEFAULT_WIDTH: usize = 120;

/// The `.txt` format.
pub(super) struct Txt;

impl Report for Txt {
    fn write(&self, recording: &Recording, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
        let mut page = Page {
            recording,
            shown: &Shown::of(recording, options),
            all: options.all,
            width: options.width.unwrap_or(DEFAULT_WIDTH),
            paint: Paint { color: options.color },
            texts: stacks::Texts::default(),
            out,
        };
        page.outcome()?;
        page.headline()?;
        page.rounds()?;
        page.deadlocks()?;
        if page.shown.sites.is_empty() {
            page.nothing_parked()?;
        } else if let Some(by) = options.group_by.as_ref().filter(|&by| *by != GroupBy::Site) {
            page.groups(by)?;
        } else {
            page.sites()?;
            page.sites_in_full()?;
        }
        page.timers()?;
        page.unparked()?;
        page.ended_waits()?;
        page.growth()?;
        page.evidence()?;
        page.next()
    }
}

/// What is being written, and how. Each part of the page is one method, in the file that it has to do with.
struct Page<'a> {
    recording: &'a Recording,
    shown: &'a Shown<'a>,
    all: bool,
    width: usize,
    paint: Paint,
    texts: stacks::Texts,
    out: &'a mut dyn io::Write,
}

impl Page<'_> {
    /// Who was watched for how long, and the one sentence that matters.
    fn headline(&mut self) -> io::Result<()> {
        let recording = self.recording;
        let target = &recording.target;
        let inside = target.ns_pid.map_or(String::new(), |pid| format!(", {pid} in its namespace"));
        let name = format!("{} (pid {}{inside})", words::harmless(&target.comm), target.pid);
        let mut about = vec![words::harmless(&target.exe)];
        if target.runtime != "native" {
            about.push(words::harmless(&target.runtime));
        }
        about.retain(|part| !part.is_empty());
        let about = if about.is_empty() { String::new() } else { format!("  {}", self.paint.dim(&about.join(" · "))) };
        writeln!(self.out, "{}{about}", self.paint.bold(&name))?;
        writeln!(self.out, "{}", self.watched())?;

        let mut sentence = format!("{}, {}", facts::alive(self.shown), facts::parked(self.shown));
        if !self.shown.sites.is_empty() {
            sentence += &format!(", at {}", words::count(self.shown.sites.len() as u64, "site"));
        }
        writeln!(self.out, "{}", self.paint.bold(&sentence))?;
        let not_shown = self.shown.not_shown();
        if !not_shown.is_empty() {
            let text = format!("not shown: {}", not_shown.join(", "));
            self.wrapped("", 2, &wrap::sentence(&text), Style::Dim)?;
        }
        match self.shown.filtered_words() {
            Some(left_out) => self.wrapped("", 2, &wrap::sentence(&left_out), Style::Warning),
            None => Ok(()),
        }
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
        let found = facts::nothing_parked(self.shown);
        let unseen = facts::unseen(self.shown);
        let when = if self.recording.duration_ms == 0 { "at that moment" } else { "when watching ended" };
        if unseen.is_empty() {
            let sentence = format!("{} {when}.", words::capitalized(&found));
            writeln!(self.out)?;
            return self.wrapped("", 0, &wrap::sentence(&sentence), Style::Plain);
        }
        let sentence = format!("{} {when}, as far as was seen. Not seen:", words::capitalized(&found));
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
