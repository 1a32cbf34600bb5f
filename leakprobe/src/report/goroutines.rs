//! Goroutines as Go's own dumps write them (`debug=2`, or what a signal makes a Go program print), so that tools for those work.
//!
//! Each version of Go writes them in its own way; this writes them as the target's does. Two things cannot be known from
//! outside: arguments are written as `...`, as Go does for functions that the compiler inlined, and `GODEBUG=tracebacklabels`
//! is taken to be what it is by default.
//!
//! Source: `goroutineheader`, `traceback1`, `traceback2`, `printcreatedby1` and `printAncestorTraceback` in
//! <https://github.com/golang/go/blob/go1.27.0/src/runtime/traceback.go>, and the same file of the earlier versions.

use std::{
    borrow::Cow,
    collections::HashMap,
    io::{self, Write},
};

use super::{Kind, Options, Report, shown::Shown, words};
use crate::model::{Ancestor, Frame, GoFrame, GoStatus, Goroutine, Loss, Recording, Role, StackEnd, Task, TaskKind};

/// Frames that Go writes at each end of a deep stack; until Go 1.20 it writes this many in all.
const FRAMES_AT_EACH_END: usize = 50;
const FRAMES_IN_ALL: usize = 100;

/// So much text of stacks is kept for those that come again, bytes: many goroutines have few stacks.
const MAX_KEPT_BYTES: usize = 8 << 20;

/// The `.goroutines.txt` format.
pub(super) struct GoroutinesTxt;

impl Report for GoroutinesTxt {
    fn write(&self, recording: &Recording, options: &Options, out: &mut dyn Write) -> io::Result<()> {
        // Always goroutines, and every frame is needed to know which of them Go leaves out.
        let options = Options { kind: Kind::Goroutines, all: true, all_frames: true, ..options.clone() };
        let shown = Shown::of(recording, &options);
        let mut stacks = StackTexts::default();
        let dumps: Vec<Dump<'_>> = Version::of_each(recording).map(|version| Dump { shown: &shown, version }).collect();
        // Go lists one that C has called until the thread ends.
        let goroutines =
            shown.tasks.iter().filter(|task| task.kind == TaskKind::Goroutine && task.role != Role::Runtime);
        for (place, task) in goroutines.enumerate() {
            if place > 0 {
                writeln!(out)?;
            }
            let runtime = task.goroutine.as_ref().map_or(0, |goroutine| goroutine.runtime);
            if let Some(dump) = dumps.get(runtime as usize).or(dumps.last()) {
                dump.goroutine(task, &mut stacks, out)?;
            }
        }
        let not_listed = recording.losses.get(&Loss::GoroutinesNotListed).copied().unwrap_or(0);
        if not_listed > 0 {
            writeln!(out, "\n...{not_listed} goroutines elided...")?;
        }
        Ok(())
    }
}

/// What the versions of Go that matter here differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    minor: u32,
}

impl Version {
    /// Those of the target's runtimes; one that is not known is taken for the newest.
    fn of_each(recording: &Recording) -> impl Iterator<Item = Self> {
        recording.target.runtime.split(", ").map(|runtime| {
            let minor = runtime.strip_prefix("go1.").map(|rest| {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                digits.parse().unwrap_or(u32::MAX)
            });
            Self { minor: minor.unwrap_or(u32::MAX) }
        })
    }

    /// Whether deep stacks are cut in the middle, and type arguments in names: Go 1.21 has a new way of walking stacks.
    const fn cuts_the_middle(self) -> bool {
        self.minor >= 21
    }

    /// Whether labels stand in the header unless somebody turned that off.
    const fn writes_labels(self) -> bool {
        self.minor >= 27
    }

    /// Whether both lists of type arguments are cut in a generic method of a generic type.
    const fn knows_generic_methods(self) -> bool {
        self.minor >= 27
    }
}

/// What was written of stacks, for those that come again.
#[derive(Default)]
struct StackTexts<'a> {
    kept: HashMap<(&'a [u32], StackEnd), Vec<u8>>,
    bytes: usize,
}

impl<'a> StackTexts<'a> {
    /// Writes the stack of `task`, by way of `render` if it is new.
    fn write(
        &mut self,
        task: &'a Task,
        out: &mut dyn Write,
        render: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let key = (&*task.stack, task.stack_end);
        if let Some(text) = self.kept.get(&key) {
            return out.write_all(text);
        }
        let mut text = Vec::new();
        render(&mut text)?;
        out.write_all(&text)?;
        self.bytes += text.len();
        if self.bytes <= MAX_KEPT_BYTES {
            self.kept.insert(key, text);
        }
        Ok(())
    }
}

struct Dump<'a> {
    shown: &'a Shown<'a>,
    version: Version,
}

impl Dump<'_> {
    fn goroutine<'a>(&self, task: &'a Task, stacks: &mut StackTexts<'a>, out: &mut dyn Write) -> io::Result<()> {
        let Some(goroutine) = &task.goroutine else {
            return writeln!(out, "goroutine {} [???]:", task.id);
        };
        self.header(task, goroutine, out)?;
        // Go stops all others before it looks at them; one that ran each time that we looked is like one that runs.
        if goroutine.status == GoStatus::Running || task.stack_end == StackEnd::Unstable {
            writeln!(out, "\tgoroutine running on other thread; stack unavailable")?;
        } else {
            stacks.write(task, out, |out| self.stack(task, out))?;
        }
        if task.id != 1 {
            self.created_by(&task.created_by.stack, task.created_by.task.unwrap_or(0), out)?;
        }
        goroutine.ancestors.iter().try_for_each(|ancestor| self.ancestor(ancestor, out))
    }

    fn header(&self, task: &Task, goroutine: &Goroutine, out: &mut dyn Write) -> io::Result<()> {
        let status = goroutine.status;
        let is_in_runtime = matches!(status, GoStatus::Waiting | GoStatus::Leaked);
        let reason = task.wait.as_ref().filter(|_| is_in_runtime).map(|wait| words::harmless(&wait.reason));
        let mut header = format!("goroutine {} [{}", task.id, reason.as_deref().unwrap_or(status.name()));
        if status == GoStatus::Leaked {
            header += " (leaked)";
        }
        let minutes = task.wait.as_ref().map_or(0, |wait| wait.age_ms / 60_000);
        if matches!(status, GoStatus::Waiting | GoStatus::Syscall) && minutes >= 1 {
            header += &format!(", {minutes} minutes");
        }
        if goroutine.locked_to_thread {
            header += ", locked to thread";
        }
        if let Some(bubble) = goroutine.bubble {
            header += &format!(", synctest bubble {bubble}");
        }
        header.push(']');
        if self.version.writes_labels() && !goroutine.labels.is_empty() {
            let labels: Vec<String> =
                goroutine.labels.iter().map(|(name, value)| format!("{}: {}", quoted(name), quoted(value))).collect();
            header += &format!(" {{{}}}", labels.join(", "));
        }
        writeln!(out, "{header}:")
    }

    fn stack(&self, task: &Task, out: &mut dyn Write) -> io::Result<()> {
        // Go knows nothing of native frames.
        let frames: Vec<(&Frame, GoFrame)> =
            self.shown.frames(&task.stack).into_iter().filter_map(|frame| Some((frame, frame.go?))).collect();
        let is_shown = |(_, go): &&(&Frame, GoFrame)| !go.hidden;
        let all = !frames.iter().any(|frame| is_shown(&frame));
        let listed = |frames: &[(&Frame, GoFrame)]| -> Vec<(Frame, GoFrame)> {
            let frames = frames.iter().filter(|frame| all || is_shown(frame));
            frames.map(|&(frame, go)| (frame.clone(), go)).collect()
        };
        let is_cut = task.stack_end == StackEnd::TooDeep;
        if !self.version.cuts_the_middle() {
            // What is limited are functions that the compiler did not inline; what the dump counts are lines.
            let physical = frames.iter().enumerate().filter(|(_, (frame, _))| !frame.inlined).map(|(place, _)| place);
            let physical: Vec<usize> = physical.take(FRAMES_IN_ALL).collect();
            let end = physical.last().map_or(0, |last| last + 1);
            let frames = listed(&frames[..end]);
            self.lines(&frames, out)?;
            if frames.len() == FRAMES_IN_ALL || is_cut && physical.len() < FRAMES_IN_ALL {
                writeln!(out, "...additional frames elided...")?;
            }
            return Ok(());
        }
        let frames = listed(&frames);
        let (inner, outer) = frames.split_at(frames.len().min(FRAMES_AT_EACH_END));
        self.lines(inner, out)?;
        if is_cut {
            // The outermost are not known, nor how many there are.
            self.lines(&outer[..outer.len().min(FRAMES_AT_EACH_END)], out)?;
            return writeln!(out, "...additional frames elided...");
        }
        let elided = outer.len().saturating_sub(FRAMES_AT_EACH_END);
        if elided > 0 {
            writeln!(out, "...{elided} frames elided...")?;
        }
        self.lines(&outer[elided..], out)
    }

    fn lines(&self, frames: &[(Frame, GoFrame)], out: &mut dyn Write) -> io::Result<()> {
        for (frame, go) in frames {
            writeln!(out, "{}(...)", self.function(frame))?;
            place(frame, go.offset.filter(|_| !frame.inlined), out)?;
        }
        Ok(())
    }

    /// The `go` statement, of which Go names the function that was compiled, and the line that was written.
    fn created_by(&self, creation: &[u32], parent: u64, out: &mut dyn Write) -> io::Result<()> {
        let frames = self.shown.frames(creation);
        let (Some(line), Some(function)) = (frames.first(), frames.last()) else {
            return Ok(());
        };
        let Some(go) = function.go.filter(|go| !go.hidden) else {
            return Ok(());
        };
        write!(out, "created by {}", self.function(function))?;
        if parent != 0 {
            write!(out, " in goroutine {parent}")?;
        }
        writeln!(out)?;
        place(line, go.offset, out)
    }

    fn ancestor(&self, ancestor: &Ancestor, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "[originating from goroutine {}]:", ancestor.id)?;
        let frames = self.shown.frames(&ancestor.stack);
        let mut addresses = 0;
        // One line for each address: what was inlined there innermost, at the offset in the function that was compiled.
        for frames in frames.split_inclusive(|frame| !frame.inlined) {
            addresses += 1;
            if let (Some(line), Some(go)) = (frames.first(), frames.last().and_then(|frame| frame.go))
                && !go.hidden
            {
                writeln!(out, "{}(...)", self.function(line))?;
                place(line, go.offset, out)?;
            }
        }
        if addresses == if self.version.cuts_the_middle() { FRAMES_AT_EACH_END } else { FRAMES_IN_ALL } {
            writeln!(out, "...additional frames elided...")?;
        }
        if ancestor.id == 1 { Ok(()) } else { self.created_by(&ancestor.creation, 0, out) }
    }

    /// A function's name as Go writes it: `panic` is its own, type arguments are left out.
    fn function(&self, frame: &Frame) -> String {
        let name = words::harmless(&frame.function);
        if name == "runtime.gopanic" {
            return "panic".to_owned();
        }
        if !self.version.cuts_the_middle() {
            return name;
        }
        without_type_arguments(&name, self.version.knows_generic_methods()).unwrap_or(name)
    }
}

fn place(frame: &Frame, offset: Option<u64>, out: &mut dyn Write) -> io::Result<()> {
    let file = words::harmless(frame.file.as_deref().unwrap_or("?"));
    write!(out, "\t{file}:{}", frame.line.unwrap_or(0))?;
    if let Some(offset) = offset.filter(|&offset| offset > 0) {
        write!(out, " +{offset:#x}")?;
    }
    writeln!(out)
}

/// `main.Map[go.shape.int].f` as `main.Map[...].f`; `None` if there are none, or if the brackets do not pair.
///
/// Go 1.27 has generic methods of generic types, whose names have two such lists.
fn without_type_arguments(name: &str, generic_methods: bool) -> Option<String> {
    let (before, rest) = name.split_once('[')?;
    let (inside, after) = rest.rsplit_once(']')?;
    if !generic_methods || !inside.contains('[') {
        return Some(format!("{before}[...]{after}"));
    }
    let mut depth = 1_i32;
    let mut first_end = None;
    for (at, c) in inside.char_indices() {
        match c {
            '[' => {
                depth += 1;
                if depth == 1 {
                    let between = &inside[first_end? + 1..at];
                    return Some(format!("{before}[...]{between}[...]{after}"));
                }
            }
            ']' => {
                depth -= 1;
                if depth < 0 {
                    return None;
                }
                if depth == 0 {
                    first_end = Some(at);
                }
            }
            _ => {}
        }
    }
    (depth == 1 && first_end.is_none()).then(|| format!("{before}[...]{after}"))
}

/// A label's name or value as Go writes it: in quotes if it has anything but letters, digits, dots, slashes and underscores.
fn quoted(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '_')) {
        return text.into();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            '\\' | '"' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            '\0'..'\x7f' => quoted += &format!("\\x{:02x}", u32::from(c)),
            '\x7f'..='\u{ffff}' => quoted += &format!("\\u{:04x}", u32::from(c)),
            _ => quoted += &format!("\\U{:08x}", u32::from(c)),
        }
    }
    quoted.push('"');
    quoted.into()
}

#[cfg(test)]
#[path = "goroutines_tests.rs"]
mod tests;
