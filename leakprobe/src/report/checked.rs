//! What a check came to, in the words and numbers that all of its reports share.

use std::path::{Component, Path, PathBuf};

use super::{evidence, frames, shown::Shown, txt::sites, words};
use crate::{
    analysis,
    model::{Check, CheckOutcome, Frame, Ground, Recording, Round, Site, Task, Verdict, numbers, package},
};

/// A site of which something is thought, and those of its tasks that are listed.
pub(super) struct Judged<'a> {
    pub(super) site: &'a Site,
    pub(super) tasks: Vec<&'a Task>,
}

/// The sites that were judged, the worst first.
pub(super) fn judged<'a>(shown: &Shown<'a>) -> Vec<Judged<'a>> {
    let both = shown.sites.iter().zip(shown.members());
    let mut judged: Vec<Judged<'a>> = both
        .filter(|(site, _)| site.verdict != Verdict::Unjudged)
        .map(|(&site, tasks)| Judged { site, tasks })
        .collect();
    judged.sort_by_key(|judged| std::cmp::Reverse(judged.site.verdict));
    judged
}

impl Judged<'_> {
    /// Whether something is wrong with it, for all that is known.
    pub(super) fn is_found(&self) -> bool {
        self.site.verdict >= Verdict::Suspect
    }

    /// Whether it fails the check.
    pub(super) fn fails(&self, check: Option<&Check>) -> bool {
        self.is_found() && analysis::fails(self.site, fail_on(check))
    }

    /// `chan send in main.worker`.
    pub(super) fn place(&self, shown: &Shown<'_>) -> String {
        let end = self.tasks.first().map(|task| task.stack_end);
        format!("{} in {}", sites::wait_words(self.site), sites::place_of_site(shown, self.site, end))
    }

    /// `48 goroutines are likely leaked: chan send in main.worker`.
    pub(super) fn sentence(&self, shown: &Shown<'_>) -> String {
        let count = words::count(self.site.count, evidence::noun_of(self.site.task));
        let is = if self.site.count == 1 { "is" } else { "are" };
        let what = match self.site.verdict {
            Verdict::Proven => "can never wake".to_owned(),
            Verdict::Likely => format!("{is} likely leaked"),
            Verdict::Suspect => "may be leaked".to_owned(),
            Verdict::Idle | Verdict::Unjudged => format!("{is} idle"),
        };
        format!("{count} {what}: {}", self.place(shown))
    }

    /// The user's function that created them.
    pub(super) fn creator(&self, shown: &Shown<'_>) -> String {
        sites::creator(shown, self.site, self.tasks.first().copied())
    }

    /// The package or module of what created them.
    pub(super) fn package(&self, shown: &Shown<'_>) -> String {
        let creator = frames::innermost_users(shown, &self.site.creation);
        let frame = creator.or_else(|| frames::outermost_users(shown, &self.site.stack));
        let Some(frame) = frame.or_else(|| shown.frames(&self.site.stack).first().copied()) else {
            return "unknown".to_owned();
        };
        let name = match package(&frame.function) {
            name if name.is_empty() || name == frame.function => frame.module_name(),
            name => name,
        };
        let name = words::harmless(name);
        if name.is_empty() { "unknown".to_owned() } else { name }
    }

    /// The numbers after each round, from the baseline on; empty if there were no rounds.
    pub(super) fn counts(&self) -> String {
        counts(self.site)
    }

    /// Why it is thought so, one fact each, with what it looks like first.
    pub(super) fn facts(&self) -> Vec<String> {
        let looks = self.site.finding.iter().map(|finding| format!("looks like a {}", words::harmless(&finding.title)));
        looks.chain(self.site.evidence.iter().map(|fact| words::harmless(&fact.to_string()))).collect()
    }

    /// How to mend it; empty if that is not known.
    pub(super) fn advice(&self) -> String {
        self.site.finding.as_ref().map_or_else(String::new, |finding| words::harmless(&finding.advice))
    }

    /// Why it is accepted, if it is.
    pub(super) fn accepted(&self) -> Option<String> {
        self.site.accepted.as_deref().map(words::harmless)
    }

    /// Its stacks, each with its title and why it is not whole.
    pub(super) fn stacks(&self) -> [(&'static str, &[u32], String); 2] {
        let (kernel, _) = sites::in_kernel(&self.tasks);
        let parked = if kernel.is_empty() { "parked in" } else { "parked in (the kernel's functions are left out)" };
        let end = self.tasks.first().map_or("", |task| task.stack_end.explain());
        let why = self.tasks.first().and_then(|task| task.created_by.why_unknown.as_deref());
        let unknown = if self.site.creation.is_empty() { why.unwrap_or("its creation was not seen") } else { "" };
        [
            (parked, &self.site.stack, words::harmless(end)),
            ("created by", &self.site.creation, words::harmless(unknown)),
        ]
    }

    /// The frame of a person's own code on a stack of it that has a line, or else one that has.
    pub(super) fn source<'f>(shown: &Shown<'f>, stack: &[u32]) -> Option<&'f Frame> {
        let users = frames::innermost_users(shown, stack).filter(|frame| has_source(frame));
        users.or_else(|| shown.frames(stack).into_iter().find(|frame| has_source(frame) && frame.is_users()))
    }
}

fn has_source(frame: &Frame) -> bool {
    frame.file.as_deref().is_some_and(|file| !file.is_empty())
}

/// See [`Judged::counts`].
pub(super) fn counts(site: &Site) -> String {
    site.course.as_ref().map_or_else(String::new, |course| numbers(&course.counts))
}

/// The verdict from which on a site fails.
pub(super) fn fail_on(check: Option<&Check>) -> Verdict {
    check.map_or(Verdict::Likely, |check| check.fail_on.max(Verdict::Suspect))
}

/// `FAILED: 48 tasks at 1 site are likely leaked`; `PASSED: no growth in 3 rounds`; `PASSED, 1 suspect: …`. A check that passed claims
/// no more than that nothing grew, and says what stands beside that.
pub(super) fn outcome(recording: &Recording, check: &Check) -> String {
    let outcome = check.outcome.name().to_uppercase();
    if let Some(why) = because(check).next() {
        return format!("{outcome}: {why}");
    }
    let rounds = words::count(check.rounds.len().saturating_sub(1) as u64, "round");
    let accepted = recording.sites.iter().filter(|site| site.accepted.is_some()).count() as u64;
    let suspects = suspects(recording);
    let known =
        if accepted > 0 { format!(", {} accepted", words::count(accepted, "known leak")) } else { String::new() };
    let is_filled = |site: &Site| matches!(site.ground, Some(Ground::Stopped | Ground::InUse));
    let said = match (suspects, accepted) {
        (0, 0) if recording.sites.iter().any(is_filled) => {
            format!("{outcome}: what grew stopped growing, or is in use, in {rounds}")
        }
        (0, 0) => format!("{outcome}: no growth in {rounds}"),
        (0, _) => format!("{outcome}: no new growth in {rounds}{known}"),
        _ => format!("{outcome}, {}: no leak is certain after {rounds}{known}", words::count(suspects, "suspect")),
    };
    match unseen(check) {
        Some(unseen) => format!("{said}; {unseen}"),
        None => said,
    }
}

/// Sites and pending timers that may be leaked and are not accepted.
fn suspects(recording: &Recording) -> u64 {
    let sites = recording.sites.iter().filter(|site| site.verdict >= Verdict::Suspect && site.accepted.is_none());
    let timers = recording.timers.iter().filter(|timers| timers.verdict >= Verdict::Suspect);
    (sites.count() + timers.count()) as u64
}

/// The smallest leak that these rounds would have found.
fn power(check: &Check) -> Option<String> {
    let power = check.power?;
    let unit = if power.requests { "request" } else { "round" };
    let tasks = words::count(power.tasks, "task");
    Some(match power.per {
        1 => format!("these rounds would have found a leak of {tasks} a {unit}"),
        per => format!("these rounds would have found a leak of {tasks} in {}", words::count(per, unit)),
    })
}

/// `virtual threads and greenlets are not seen`; `None` if the target is not known to have such.
fn unseen(check: &Check) -> Option<String> {
    let names: Vec<String> = check.unseen.iter().map(|what| words::harmless(what)).collect();
    (!names.is_empty()).then(|| format!("{} are not seen", names.join(" and ")))
}

/// Why it did not pass.
pub(super) fn because(check: &Check) -> impl Iterator<Item = String> {
    check.reasons.iter().chain(&check.incomplete).map(|reason| words::harmless(reason))
}

/// The name of a round.
pub(super) fn round_name(number: usize) -> String {
    if number == 0 { "baseline".to_owned() } else { format!("round {number}") }
}

/// Of a round: its tasks, requests, how long the load took, and how long it took the numbers to become level.
pub(super) fn round(round: &Round) -> [String; 4] {
    let tasks = match round.goroutines {
        0 => words::count(round.threads, "thread"),
        goroutines => format!("{}, {}", words::count(goroutines, "goroutine"), words::count(round.threads, "thread")),
    };
    let settled = words::span(round.settle_ms);
    [
        tasks,
        round.requests.map_or_else(String::new, |requests| words::count(requests, "request")),
        round.load_ms.map_or_else(String::new, words::span),
        if round.settled { format!("level after {settled}") } else { format!("not level after {settled}") },
    ]
}

/// How long the rounds took, ms.
pub(super) fn took_ms(check: &Check) -> u64 {
    let rounds = check.rounds.iter();
    rounds.map(|round| round.load_ms.unwrap_or(0).saturating_add(round.settle_ms)).fold(0, u64::saturating_add)
}

/// How much of the program was seen, and how small a leak would have been found.
pub(super) fn coverage(check: &Check) -> String {
    let (at_most, but) = match unseen(check) {
        // How many there are is not known.
        Some(unseen) => ("at most ", format!(" ({unseen})")),
        None => ("", String::new()),
    };
    let seen = format!(
        "{at_most}{:.1} % of {} at the end could be judged{but}; at least {} % are asked for",
        check.coverage_percent,
        words::count(check.tasks, "task"),
        check.min_coverage_percent
    );
    power(check).map_or_else(|| seen.clone(), |power| format!("{seen}; {power}"))
}

/// What to do now, one step each.
pub(super) fn next(shown: &Shown<'_>, check: &Check) -> Vec<String> {
    let judged = judged(shown);
    let failing = judged.iter().find(|judged| judged.fails(Some(check)));
    let mut steps = Vec::new();
    if let Some(worst) = failing {
        let id = words::harmless(&worst.site.id);
        steps.push(format!(
            "how the verdict on a site came about: --explain {id}, here or with `leakprobe report` on the recording (.json)"
        ));
        steps.push(format!(
            "to accept one on purpose: a rule in leakprobe.toml ([[ignore]] with site = \"{id}\" and a reason)"
        ));
        steps.push(
            "to accept all that is there now and fail on what is new: --write-baseline FILE once, then --baseline FILE"
                .to_owned(),
        );
    }
    if check.max_tasks.is_some_and(|most| check.tasks > most) {
        steps.push("too many tasks: look at the sites with the most of them, or raise --max-tasks".to_owned());
    }
    if check.outcome == CheckOutcome::Incomplete {
        steps.push("nothing was found, but not enough was seen to say that nothing is there: remove the cause and run it again".to_owned());
    }
    let due = judged.iter().filter(|judged| judged.is_found()).filter_map(|judged| {
        judged
            .site
            .course
            .as_ref()
            .and_then(|course| course.due_ms)
            .filter(|_| judged.site.ground == Some(Ground::NotDue))
    });
    if let Some(due_ms) = due.max() {
        let seconds = due_ms.div_ceil(1_000) + 1;
        steps.push(format!(
            "what ends by its own timer, the last of it in {}, is not judged before that: --settle-max {seconds}s waits for it",
            words::span(due_ms)
        ));
    }
    let suspects = judged.iter().filter(|judged| judged.is_found() && judged.site.accepted.is_none()).count();
    if check.outcome == CheckOutcome::Passed && suspects > 0 {
        let (are, fail) = if suspects == 1 { ("is", "it fails") } else { ("are", "they fail") };
        steps.push(format!(
            "{} {are} suspect: more --rounds tell more; with --fail-on suspect {fail} the check",
            words::count(suspects as u64, "site")
        ));
    }
    steps
}

/// A place in a source file.
pub(super) struct Source {
    /// Its path: below the root of the sources if it is there, else as debug information has it.
    pub(super) path: String,
    /// Whether it is below that root.
    pub(super) is_in_root: bool,
    pub(super) line: Option<u32>,
}

impl Source {
    /// Where `frame` is; `None` if that is not known.
    pub(super) fn of(frame: &Frame, root: Option<&Path>) -> Option<Self> {
        let file = frame.file.as_deref().map(words::harmless).filter(|file| !file.is_empty())?;
        let line = frame.line.filter(|&line| line > 0);
        let plain = plain(Path::new(&file));
        let below = root.and_then(|root| plain.strip_prefix(root).ok()).filter(|path| !path.as_os_str().is_empty());
        Some(match below {
            Some(path) => Self { path: path.to_string_lossy().into_owned(), is_in_root: true, line },
            None => Self { path: plain.to_string_lossy().into_owned(), is_in_root: false, line },
        })
    }
}

/// An absolute path without `.` and `..`, as the text goes: the file need not be on this machine.
fn plain(path: &Path) -> PathBuf {
    if !path.is_absolute() {
        return path.to_owned();
    }
    path.components().fold(PathBuf::new(), |mut plain, component| {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            component => plain.push(component),
        }
        plain
    })
}

/// A stack in lines, innermost first: functions, and where each stands. At most `most` of them.
pub(super) fn stack_lines(shown: &Shown<'_>, stack: &[u32], root: Option<&Path>, most: usize) -> Vec<String> {
    let all = shown.frames(stack);
    let mut lines: Vec<String> = all.iter().take(most).map(|frame| line(frame, root)).collect();
    if let Some(more) = all.len().checked_sub(most).filter(|&more| more > 0) {
        lines.push(format!("… {}", words::count(more as u64, "more frame")));
    }
    lines
}

fn line(frame: &Frame, root: Option<&Path>) -> String {
    let place = match Source::of(frame, root) {
        Some(Source { path, line: Some(line), .. }) => format!("  {path}:{line}"),
        Some(Source { path, .. }) => format!("  {path}"),
        None if frame.function.is_empty() || frame.module.is_empty() => String::new(),
        None => format!("  {}", words::harmless(&format!("{}+{}", frame.module_name(), frame.address))),
    };
    let inlined = if frame.inlined { " (inlined)" } else { "" };
    format!("{}{place}{inlined}", frames::label(frame))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Options, fixture};

    #[test]
    fn sources_below_the_root_are_relative_to_it() {
        let source = |file: &str, root: &str| {
            let frame = Frame { file: Some(file.into()), line: Some(3), ..Frame::default() };
            Source::of(&frame, Some(Path::new(root))).map(|source| (source.path, source.is_in_root))
        };
        let of = |path: &str, is_in_root| Some((path.to_owned(), is_in_root));
        assert_eq!(source("/src/app/a.go", "/src/app"), of("a.go", true));
        assert_eq!(source("/src/app/x/../a.go", "/src/app"), of("a.go", true));
        assert_eq!(source("/src/app/../other/a.go", "/src/app"), of("/src/other/a.go", false));
        assert_eq!(source("/src/application/a.go", "/src/app"), of("/src/application/a.go", false));
        assert_eq!(source("src/a.cc", "/src"), of("src/a.cc", false));
        assert_eq!(source("/src/app", "/src/app"), of("/src/app", false));
        assert_eq!(source("\u{0}", "/"), of("\u{fffd}", false));
        assert_eq!(source("", "/"), None);
    }

    #[test]
    fn packages_are_those_of_the_creator() {
        let recording = fixture::check::failed();
        let shown = Shown::of(&recording, &Options::default());
        let packages: Vec<String> = judged(&shown).iter().map(|judged| judged.package(&shown)).collect();
        assert!(packages.contains(&"shop/orders".to_owned()), "{packages:?}");
    }
}
