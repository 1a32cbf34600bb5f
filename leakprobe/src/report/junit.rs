//! A check as test results, as JUnit writes them and CI systems read them: a test case for each site that was judged, one for the
//! evidence, and one for the number of tasks if it is limited.
//!
//! There is no standard; this is what Jenkins, GitLab, GitHub's actions and junitparser have in common.

use std::io;

use quick_xml::escape::escape;

use super::{
    Options, Report,
    checked::{self, Judged, Source},
    evidence,
    shown::Shown,
    words,
};
use crate::model::{Check, Recording};

/// Frames of a stack that are written.
const MAX_FRAMES: usize = 60;

/// Test cases of sites.
const MAX_SITES: usize = 5_000;

/// The name of the suite, and of the package of the test cases that are about no site.
const OURS: &str = "leakprobe";

/// The `.junit.xml` format.
pub(super) struct Junit;

/// A test case.
struct Case {
    class: String,
    name: String,
    source: Option<Source>,
    seconds: f64,
    result: Result<(), Bad>,
    /// What it says besides.
    output: String,
}

/// How a test case did not pass.
struct Bad {
    element: &'static str,
    kind: &'static str,
    message: String,
    text: String,
}

impl Report for Junit {
    fn write(&self, recording: &Recording, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
        // Whatever is asked to be shown: a leak that is not shown would pass.
        let shown = &Shown::of(recording, &Options { source_root: options.source_root.clone(), ..Options::default() });
        let judged = checked::judged(shown);
        let check = recording.check.as_ref();
        let sites = judged.get(..MAX_SITES).unwrap_or(&judged);
        let ours: Vec<Case> =
            [whole(shown, check, judged.len())].into_iter().chain(check.and_then(number_of_tasks)).collect();
        let name = format!("{OURS}: {}", words::harmless(&recording.target.comm));
        let elements = || {
            let of_sites = sites.iter().filter_map(|judged| Standing::of(judged, check).element());
            ours.iter().filter_map(Case::element).chain(of_sites)
        };
        let count = |element: &str| elements().filter(|&it| it == element).count();
        let totals = format!(
            "tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{:.3}\"",
            ours.len() + sites.len(),
            count("failure"),
            count("error"),
            count("skipped"),
            seconds(check)
        );
        writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
        writeln!(out, "<testsuites name=\"{OURS}\" {totals}>")?;
        let started = words::timestamp(&recording.started).map(|it| format!(" timestamp=\"{it}\"")).unwrap_or_default();
        writeln!(out, "  <testsuite name=\"{}\" {totals}{started}>", escape(&name))?;
        properties(recording, check, out)?;
        ours.iter().try_for_each(|case| case.write(out))?;
        // One at a time: all of them repeat the texts of the same frames.
        sites.iter().try_for_each(|judged| site(shown, check, judged, options).write(out))?;
        writeln!(out, "  </testsuite>\n</testsuites>")
    }
}

/// How long the rounds took.
fn seconds(check: Option<&Check>) -> f64 {
    check.map_or(0.0, |check| checked::took_ms(check) as f64 / 1_000.0)
}

fn properties(recording: &Recording, check: Option<&Check>, out: &mut dyn io::Write) -> io::Result<()> {
    let target = &recording.target;
    let mut properties = vec![
        ("leakprobe.version".to_owned(), recording.tool.version.clone()),
        ("target.exe".to_owned(), target.exe.clone()),
        ("target.runtime".to_owned(), target.runtime.clone()),
        ("target.pid".to_owned(), target.pid.to_string()),
    ];
    if let Some(check) = check {
        properties.push(("outcome".to_owned(), check.outcome.name().to_owned()));
        properties.push(("fail-on".to_owned(), check.fail_on.name().to_owned()));
        properties.push(("load".to_owned(), check.load.join(" ")));
        for (number, round) in check.rounds.iter().enumerate() {
            let [tasks, requests, load, level] = checked::round(round);
            let load = if load.is_empty() { load } else { format!("load {load}") };
            let cells = [tasks, requests, load, level].into_iter().filter(|cell| !cell.is_empty());
            properties.push((checked::round_name(number), cells.collect::<Vec<_>>().join(", ")));
        }
    }
    writeln!(out, "    <properties>")?;
    for (name, value) in properties {
        let value = words::harmless(&value);
        writeln!(out, "      <property name=\"{name}\" value=\"{}\"/>", escape(&value))?;
    }
    writeln!(out, "    </properties>")
}

/// The evidence: an error if it does not suffice. All the time that the check took is its.
fn whole(shown: &Shown<'_>, check: Option<&Check>, sites: usize) -> Case {
    let mut told = Vec::new();
    let mut result = Ok(());
    match check {
        Some(check) => {
            told.push(checked::outcome(shown.recording, check));
            told.push(checked::coverage(check));
            told.extend(check.notes.iter().map(|note| format!("note: {}", words::harmless(note))));
            if let Some(first) = check.incomplete.first() {
                let why: Vec<String> = check.incomplete.iter().map(|why| words::harmless(why)).collect();
                result = Err(Bad::new("error", "incomplete", &words::harmless(first), why.join("\n")));
            }
        }
        None => {
            let message = "this recording is of no check: only what can never wake is judged";
            result = Err(Bad::new("skipped", "", message, String::new()));
        }
    }
    told.extend(evidence::unseen(shown).into_iter().map(|clause| format!("not seen: {clause}")));
    if sites > MAX_SITES {
        told.push(format!("{} are not listed", words::count((sites - MAX_SITES) as u64, "site")));
    }
    Case {
        class: OURS.to_owned(),
        name: "evidence".to_owned(),
        source: None,
        seconds: seconds(check),
        result,
        output: told.join("\n"),
    }
}

fn number_of_tasks(check: &Check) -> Option<Case> {
    let most = check.max_tasks?;
    let (tasks, allowed) = (words::count(check.tasks, "task"), words::thousands(most));
    let message = format!("{tasks} at the end, and at most {allowed} are allowed");
    let bad = || Bad::new("failure", "tasks", &message, String::new());
    Some(Case {
        class: OURS.to_owned(),
        name: "number of tasks".to_owned(),
        source: None,
        seconds: 0.0,
        result: if check.tasks > most { Err(bad()) } else { Ok(()) },
        output: String::new(),
    })
}

fn site(shown: &Shown<'_>, check: Option<&Check>, judged: &Judged<'_>, options: &Options) -> Case {
    let root = options.source_root.as_deref();
    let sentence = judged.sentence(shown);
    let verdict = judged.site.verdict.name();
    let standing = Standing::of(judged, check);
    let bad = |kind, message: &str, text| {
        standing.element().map_or(Ok(()), |element| Err(Bad::new(element, kind, message, text)))
    };
    let (result, output) = match standing {
        Standing::Accepted => {
            let why = judged.accepted().unwrap_or_default();
            (bad("", &format!("{verdict}, {why}"), String::new()), String::new())
        }
        Standing::Fails => (bad(verdict, &sentence, in_full(shown, judged, options)), String::new()),
        Standing::Found => (Ok(()), format!("{verdict}: {sentence}\n{}", in_full(shown, judged, options))),
        Standing::Passes => (Ok(()), judged.facts().join("\n")),
    };
    Case {
        class: judged.package(shown),
        name: format!("{} ({})", judged.place(shown), words::harmless(&judged.site.id)),
        source: Judged::source(shown, &judged.site.stack).and_then(|frame| Source::of(frame, root)),
        seconds: 0.0,
        result,
        output,
    }
}

/// Numbers, evidence, stacks and advice.
fn in_full(shown: &Shown<'_>, judged: &Judged<'_>, options: &Options) -> String {
    let mut lines = Vec::new();
    let counts = judged.counts();
    if !counts.is_empty() {
        lines.push(format!("after each round: {counts}"));
    }
    lines.extend(judged.facts());
    for (title, stack, cut) in judged.stacks() {
        lines.push(format!("{title}:"));
        let frames = checked::stack_lines(shown, stack, options.source_root.as_deref(), MAX_FRAMES);
        lines.extend(frames.into_iter().map(|line| format!("  {line}")));
        if !cut.is_empty() {
            lines.push(format!("  ({cut})"));
        }
    }
    let advice = judged.advice();
    if !advice.is_empty() {
        lines.push(format!("advice: {advice}"));
    }
    lines.join("\n")
}

/// What a site is to the check.
#[derive(Clone, Copy)]
enum Standing {
    Accepted,
    Fails,
    /// Something is wrong with it that does not fail the check.
    Found,
    Passes,
}

impl Standing {
    fn of(judged: &Judged<'_>, check: Option<&Check>) -> Self {
        match judged.is_found() {
            true if judged.site.accepted.is_some() => Self::Accepted,
            true if judged.fails(check) => Self::Fails,
            true => Self::Found,
            false => Self::Passes,
        }
    }

    /// The element that says so in a test case; `None` of one that passes.
    fn element(self) -> Option<&'static str> {
        match self {
            Self::Accepted => Some("skipped"),
            Self::Fails => Some("failure"),
            Self::Found | Self::Passes => None,
        }
    }
}

impl Bad {
    fn new(element: &'static str, kind: &'static str, message: &str, text: String) -> Self {
        Self { element, kind, message: message.to_owned(), text }
    }
}

impl Case {
    /// The element that says that it did not pass.
    fn element(&self) -> Option<&'static str> {
        self.result.as_ref().err().map(|bad| bad.element)
    }

    fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let source = self.source.as_ref().map(|source| {
            let line = source.line.map(|line| format!(" line=\"{line}\"")).unwrap_or_default();
            format!(" file=\"{}\"{line}", escape(&source.path))
        });
        write!(
            out,
            "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"{}",
            escape(&self.class),
            escape(&self.name),
            self.seconds,
            source.unwrap_or_default()
        )?;
        if self.result.is_ok() && self.output.is_empty() {
            return writeln!(out, "/>");
        }
        writeln!(out, ">")?;
        if let Err(Bad { element, kind, message, text }) = &self.result {
            let kind = if kind.is_empty() { String::new() } else { format!(" type=\"{kind}\"") };
            let message = escape(message);
            if text.is_empty() {
                writeln!(out, "      <{element} message=\"{message}\"{kind}/>")?;
            } else {
                writeln!(out, "      <{element} message=\"{message}\"{kind}>{}</{element}>", escape(text))?;
            }
        }
        if !self.output.is_empty() {
            writeln!(out, "      <system-out>{}</system-out>", escape(&self.output))?;
        }
        writeln!(out, "    </testcase>")
    }
}

#[cfg(test)]
pub(super) mod tests;
