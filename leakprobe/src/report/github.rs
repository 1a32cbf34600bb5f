//! What a check found as annotations of GitHub Actions: commands on stdout that put a message beside a line of the source.

use super::{
    Options,
    checked::{self, Judged, Source},
    shown::Shown,
    words,
};
use crate::model::{CheckOutcome, Recording};

/// GitHub shows no more of each kind.
const MAX_ANNOTATIONS: usize = 10;

/// The annotations of a check, a line each, the worst first.
#[must_use]
pub fn annotations(recording: &Recording, options: &Options) -> String {
    let shown = &Shown::of(recording, &Options { source_root: options.source_root.clone(), ..Options::default() });
    let Some(check) = &recording.check else {
        return String::new();
    };
    let mut lines = Vec::new();
    if check.outcome == CheckOutcome::Incomplete || check.max_tasks.is_some_and(|most| check.tasks > most) {
        let why: Vec<String> = checked::because(check).collect();
        lines.push(command("error", None, &format!("leakprobe: {}", check.outcome.name()), &why.join("; ")));
    }
    let judged = checked::judged(shown);
    let open = judged.iter().filter(|judged| judged.is_found() && judged.site.accepted.is_none());
    for judged in open.take(MAX_ANNOTATIONS - lines.len()) {
        let level = if judged.fails(Some(check)) { "error" } else { "warning" };
        let source = Judged::source(shown, &judged.site.stack);
        let source = source.and_then(|frame| Source::of(frame, options.source_root.as_deref()));
        let title = format!("leakprobe: {} ({})", judged.site.verdict.name(), words::harmless(&judged.site.id));
        let mut text = vec![format!("{}, created by {}", judged.sentence(shown), judged.creator(shown))];
        text.extend(judged.facts());
        text.extend(Some(judged.advice()).filter(|advice| !advice.is_empty()));
        lines.push(command(level, source.as_ref(), &title, &text.join("\n")));
    }
    lines.concat()
}

fn command(level: &str, source: Option<&Source>, title: &str, text: &str) -> String {
    let mut properties = Vec::new();
    if let Some(Source { path, line, .. }) = source {
        properties.push(format!("file={}", property(path)));
        properties.extend(line.map(|line| format!("line={line}")));
    }
    properties.push(format!("title={}", property(title)));
    format!("::{level} {}::{}\n", properties.join(","), data(text))
}

/// As the runner's own toolkit escapes what stands after the second `::`.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// And what stands before it.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::fixture;

    /// What holds of all annotations: each is one line, and nothing but ours is a command.
    pub(in crate::report) fn check(text: &str) {
        assert!(text.lines().count() <= MAX_ANNOTATIONS);
        for line in text.lines() {
            let (properties, _) = line.strip_prefix("::").and_then(|rest| rest.split_once("::")).unwrap();
            let (level, properties) = properties.split_once(' ').unwrap();
            assert!(level == "error" || level == "warning");
            let keys: Vec<&str> = properties.split(',').map(|it| it.split_once('=').unwrap().0).collect();
            assert!(matches!(keys[..], ["title"] | ["file", "title"] | ["file", "line", "title"]), "{keys:?}");
        }
        assert!(!text.chars().any(|c| c != '\n' && c.is_control()));
    }

    #[test]
    fn what_was_found_stands_beside_its_line() {
        let options = Options { source_root: Some("/src".into()), ..Options::default() };
        let text = annotations(&fixture::check::failed(), &options);
        check(&text);
        insta::assert_snapshot!("annotations", text);
        assert_eq!(annotations(&fixture::check::passed(), &options), "");
        assert_eq!(annotations(&fixture::checkout(), &options), "");
        let text = annotations(&fixture::check::incomplete(), &options);
        assert!(text.starts_with("::error title=leakprobe%3A incomplete::the load of round 1 failed"), "{text}");
    }

    #[test]
    fn what_means_something_to_the_runner_is_escaped() {
        assert_eq!(data("100 %\na::b,c"), "100 %25%0Aa::b,c");
        assert_eq!(property("a:b,c%"), "a%3Ab%2Cc%25");
    }
}
