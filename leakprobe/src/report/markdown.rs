//! A summary for pull requests and job summaries: what the check came to, what it found, and what to do about it. Details are folded.

use std::{fmt::Write as _, io};

use super::{
    Options, Report,
    checked::{self, Judged},
    evidence,
    shown::Shown,
    timers, words,
};
use crate::model::{Check, CheckOutcome, Recording};

/// Rows of tables.
const MAX_ROWS: usize = 50;

/// Sites that are told in full.
const MAX_SITES: usize = 10;

/// Frames of a stack, and characters of a name or place.
const MAX_FRAMES: usize = 20;
const MAX_NAME: usize = 160;

/// A comment on GitHub has room for 65,536 characters: what is beyond this is left out, bytes.
const MAX_BYTES: usize = 60_000;

/// The `.md` format.
pub(super) struct Markdown;

impl Report for Markdown {
    fn write(&self, recording: &Recording, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
        // Whatever is asked to be shown, as in `.junit.xml`.
        let shown = &Shown::of(recording, &Options { source_root: options.source_root.clone(), ..Options::default() });
        let judged = checked::judged(shown);
        let (accepted, found): (Vec<&Judged<'_>>, Vec<&Judged<'_>>) =
            judged.iter().filter(|judged| judged.is_found()).partition(|judged| judged.site.accepted.is_some());
        let check = recording.check.as_ref();
        let mut text = head(shown, check);
        text += &rounds(check);
        text += &table(shown, &found);
        text += &pending_timers(shown);
        let rest = foot(shown, check, &accepted, judged.len() - found.len() - accepted.len());
        let mut told = 0;
        for judged in found.iter().take(MAX_SITES) {
            let site = in_full(shown, judged, options);
            if text.len() + site.len() + rest.len() > MAX_BYTES {
                break;
            }
            text += &site;
            told += 1;
        }
        let left_out = found.len() - told;
        if left_out > 0 {
            let sites = words::count(left_out as u64, "more site");
            let _ = writeln!(text, "\n{sites} in full: in the other reports.");
        }
        text += &rest;
        out.write_all(text.as_bytes())
    }
}

fn head(shown: &Shown<'_>, check: Option<&Check>) -> String {
    let target = &shown.recording.target;
    let (sign, outcome) = match check {
        Some(check) => {
            let sign = match check.outcome {
                CheckOutcome::Passed => "✅",
                CheckOutcome::Failed => "❌",
                CheckOutcome::Incomplete => "⚠️",
            };
            (sign, checked::outcome(shown.recording, check))
        }
        None => ("ℹ️", "no check: only what can never wake is judged".to_owned()),
    };
    let mut text = format!("## {sign} leakprobe: {}\n\n", plain(&outcome));
    let runtime = if target.runtime == "native" { String::new() } else { format!(", {}", plain(&target.runtime)) };
    let _ = writeln!(
        text,
        "{} (pid {}{runtime}): {}, {}.",
        code(&target.comm, MAX_NAME),
        target.pid,
        evidence::alive(shown),
        evidence::parked(shown)
    );
    for why in check.into_iter().flat_map(checked::because).skip(1) {
        let _ = writeln!(text, "- {}", plain(&why));
    }
    text
}

fn rounds(check: Option<&Check>) -> String {
    let Some(check) = check.filter(|check| !check.rounds.is_empty()) else {
        return String::new();
    };
    let mut text = String::from("\n| | tasks | requests | load | numbers |\n|---|---|---|---|---|\n");
    // Of many the last ones.
    let skipped = check.rounds.len().saturating_sub(MAX_ROWS);
    for (number, round) in check.rounds.iter().enumerate().skip(skipped) {
        let [tasks, requests, load, level] = checked::round(round);
        let _ = writeln!(text, "| {} | {tasks} | {requests} | {load} | {level} |", checked::round_name(number));
    }
    text
}

fn table(shown: &Shown<'_>, found: &[&Judged<'_>]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\n### Found\n\n| verdict | now | after each round | waits in | created by | looks like | site |\n|---|--:|---|---|---|---|---|\n",
    );
    for judged in found.iter().take(MAX_ROWS) {
        let site = judged.site;
        let looks = site.finding.as_ref().map_or_else(String::new, |finding| plain(&finding.title));
        let _ = writeln!(
            text,
            "| **{}** | {} | {} | {} | {} | {looks} | {} |",
            site.verdict.name(),
            words::count(site.count, evidence::noun_of(site.task)),
            plain(&judged.counts()),
            cell(&judged.place(shown)),
            cell(&judged.creator(shown)),
            cell(&site.id),
        );
    }
    if found.len() > MAX_ROWS {
        let _ = writeln!(text, "\n{}", words::count((found.len() - MAX_ROWS) as u64, "more site"));
    }
    text
}

fn pending_timers(shown: &Shown<'_>) -> String {
    let rows = timers::rows(shown);
    if rows.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n<details><summary>Pending timers, for which no task waits: {}</summary>\n\n| {} |\n|--:|---|---|---|---|---|---|\n",
        words::thousands(rows.iter().fold(0, |sum, row| row.timers.count.saturating_add(sum))),
        timers::TITLES.join(" | ")
    );
    for row in rows.iter().take(MAX_ROWS) {
        let [count, verdict, course, fires, usage, calls, id] = row.cells();
        let verdict = if verdict.is_empty() { verdict } else { format!("**{verdict}**") };
        let [calls, id] = [calls, id].map(|text| if text.is_empty() { text } else { cell(&text) });
        let _ = writeln!(text, "| {count} | {verdict} | {} | {fires} | {usage} | {calls} | {id} |", plain(&course));
    }
    text.push('\n');
    for (called, facts) in rows.iter().take(MAX_ROWS).filter_map(timers::Row::judged) {
        for fact in facts.iter().take(MAX_FRAMES) {
            let _ = writeln!(text, "- {}: {}", code(&called, MAX_NAME), plain(&words::cut_end(fact, 4 * MAX_NAME)));
        }
    }
    if rows.len() > MAX_ROWS {
        let _ = writeln!(text, "\n{}", words::count((rows.len() - MAX_ROWS) as u64, "more row"));
    }
    text + "\n</details>\n"
}

fn in_full(shown: &Shown<'_>, judged: &Judged<'_>, options: &Options) -> String {
    let mut text = format!(
        "\n<details><summary><b>{}</b>: {} (site {})</summary>\n\n",
        judged.site.verdict.name(),
        html(&words::cut_middle(&judged.sentence(shown), 2 * MAX_NAME)),
        html(&words::cut_end(&judged.site.id, MAX_NAME))
    );
    for fact in judged.facts().iter().take(MAX_ROWS) {
        let _ = writeln!(text, "- {}", plain(&words::cut_end(fact, 4 * MAX_NAME)));
    }
    for (title, stack, cut) in judged.stacks() {
        let mut lines = checked::stack_lines(shown, stack, options.source_root.as_deref(), MAX_FRAMES);
        lines.extend(Some(format!("({cut})")).filter(|_| !cut.is_empty()));
        let lines: Vec<String> = lines.iter().map(|line| words::cut_middle(line, 2 * MAX_NAME)).collect();
        let fence = fence(&lines.concat(), 3);
        let _ = writeln!(text, "\n{}\n{fence}text\n{}\n{fence}", words::capitalized(title), lines.join("\n"));
    }
    let advice = judged.advice();
    if !advice.is_empty() {
        let _ = writeln!(text, "\n**Advice:** {}", plain(&words::cut_end(&advice, 20 * MAX_NAME)));
    }
    text + "\n</details>\n"
}

fn foot(shown: &Shown<'_>, check: Option<&Check>, accepted: &[&Judged<'_>], idle: usize) -> String {
    let mut text = String::new();
    if !accepted.is_empty() {
        text += "\n### Accepted\n\n";
        for judged in accepted.iter().take(MAX_ROWS) {
            let _ = writeln!(
                text,
                "- {}, {}: {}",
                judged.site.verdict.name(),
                code(&judged.place(shown), MAX_NAME),
                plain(&words::cut_end(&judged.accepted().unwrap_or_default(), 2 * MAX_NAME))
            );
        }
        if accepted.len() > MAX_ROWS {
            let _ = writeln!(text, "- {}", words::count((accepted.len() - MAX_ROWS) as u64, "more site"));
        }
    }
    let mut list = |title: &str, items: Vec<String>| {
        if !items.is_empty() {
            let _ = writeln!(text, "\n### {title}\n");
        }
        for item in items.iter().take(MAX_ROWS) {
            let _ = writeln!(text, "- {}", plain(&words::cut_end(item, 2 * MAX_NAME)));
        }
        if items.len() > MAX_ROWS {
            let _ = writeln!(text, "- {} more", items.len() - MAX_ROWS);
        }
    };
    if let Some(check) = check {
        list("Next", checked::next(shown, check));
        list("Notes", check.notes.iter().map(|note| words::harmless(note)).collect());
    }
    let mut coverage: Vec<String> = check.map(checked::coverage).into_iter().collect();
    if idle > 0 {
        coverage.push(format!("{} idle", words::count(idle as u64, "site")));
    }
    coverage.extend(evidence::unseen(shown).into_iter().map(|clause| format!("not seen: {clause}")));
    list("Coverage", coverage);
    text
}

/// As text that means nothing but itself: no markup, no mention of a user, no reference.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in words::harmless(text).chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '$' => plain.extend(['\\', c]),
            '<' => plain.push_str("&lt;"),
            '>' => plain.push_str("&gt;"),
            '&' => plain.push_str("&amp;"),
            // What is between breaks the mention, or the reference, and is not shown.
            '@' | '#' => plain.extend([c].into_iter().chain("<!-- -->".chars())),
            c => plain.push(c),
        }
    }
    // A link, as it is recognised without markup.
    plain.replace("://", ":<!-- -->//").replace("www.", "www<!-- -->.")
}

/// As code in running text.
fn code(text: &str, most: usize) -> String {
    let text = words::cut_middle(&words::harmless(text), most);
    let fence = fence(&text, 1);
    // The spaces keep a backtick at an end from the fence; they are not shown.
    let pad = if text.is_empty() || text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// As code in a cell of a table, which ends at a `|` even there.
fn cell(text: &str) -> String {
    code(text, MAX_NAME).replace('|', "\\|")
}

/// As text in HTML.
fn html(text: &str) -> String {
    let text = words::harmless(text);
    quick_xml::escape::escape(text.as_str())
        .replace('@', "@<!-- -->")
        .replace('#', "#<!-- -->")
        .replace("://", ":<!-- -->//")
}

/// More backticks than follow each other in `text`, at least so many.
fn fence(text: &str, least: usize) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat((longest + 1).max(least))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::{Format, fixture};

    fn written(recording: &Recording) -> String {
        let mut out = Vec::new();
        let options = Options { source_root: Some("/src".into()), ..Options::default() };
        Format::Markdown.report().write(recording, &options, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// What holds of every summary: it fits into a comment, what is folded ends, and it has no HTML but ours.
    pub(in crate::report) fn check(text: &str) {
        assert!(text.len() < 65_536, "{}", text.len());
        assert!(!text.chars().any(|c| c != '\n' && c.is_control()));
        let mut fence: Option<&str> = None;
        let mut folded = 0;
        for line in text.lines() {
            match fence {
                Some(end) => {
                    fence = (line != end).then_some(end);
                    continue;
                }
                // What has more backticks is code in running text.
                None if line.starts_with("```") && !line.trim_start_matches('`').contains('`') => {
                    fence = Some(line.trim_end_matches("text"));
                    continue;
                }
                None => {}
            }
            folded += line.matches("<details>").count();
            folded -= line.matches("</details>").count();
            // A line of HTML knows no code.
            let markup = if line.starts_with("<details>") { line.to_owned() } else { without_code(line) };
            assert!(!markup.contains("<script"), "{line}");
        }
        assert_eq!((fence, folded), (None, 0));
    }

    /// A line without what stands between backticks, as long as any.
    fn without_code(line: &str) -> String {
        let (mut kept, mut rest) = (String::new(), line);
        while let Some(start) = rest.find('`') {
            if rest[..start].ends_with('\\') {
                kept += &rest[..=start];
                rest = &rest[start + 1..];
                continue;
            }
            kept += &rest[..start];
            rest = &rest[start..];
            let ticks = rest.len() - rest.trim_start_matches('`').len();
            let inner = &rest[ticks..];
            let mut from = 0;
            let end = loop {
                let Some(at) = inner[from..].find('`') else { break None };
                let run = inner[from + at..].len() - inner[from + at..].trim_start_matches('`').len();
                if run == ticks {
                    break Some(from + at + run);
                }
                from += at + run;
            };
            rest = end.map_or("", |end| &inner[end..]);
            assert!(end.is_some(), "code that does not end: {line}");
        }
        kept + rest
    }

    #[test]
    fn checks_as_summaries() {
        for (name, recording) in [
            ("md", fixture::check::failed()),
            ("md_passed", fixture::check::passed()),
            ("md_incomplete", fixture::check::incomplete()),
            ("md_no_check", fixture::single_thread()),
        ] {
            let text = written(&recording);
            check(&text);
            insta::assert_snapshot!(name, text);
        }
    }

    #[test]
    fn names_are_no_markup() {
        assert_eq!(
            plain("a_b *c* <d> @e #1 https://f"),
            "a\\_b \\*c\\* &lt;d&gt; @<!-- -->e #<!-- -->1 https:<!-- -->//f"
        );
        assert_eq!(code("a``b", 9), "```a``b```");
        assert_eq!(code("`", 9), "`` ` ``");
        assert_eq!(cell("a|b"), "`a\\|b`");
        assert_eq!(html("<@x>"), "&lt;@<!-- -->x&gt;");
    }

    #[test]
    fn ten_thousand_sites_fit_into_a_comment() {
        let mut recording = fixture::check::failed();
        let site = recording.sites.iter().find(|site| site.verdict == crate::model::Verdict::Likely).unwrap().clone();
        for place in 0..10_000 {
            let accepted = (place % 2 == 0).then(|| "x".repeat(1_000));
            recording.sites.push(crate::model::Site { id: format!("{place:08x}"), accepted, ..site.clone() });
        }
        for frame in &mut recording.frames {
            frame.function = "f|`".repeat(1_000);
        }
        let text = written(&recording);
        check(&text);
        assert!(text.contains("more sites in full"), "{text}");
    }
}
