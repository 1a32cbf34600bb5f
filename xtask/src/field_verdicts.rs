//! The part of docs/verdicts.md on the programs of the field: those that leakprobe was not written to.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// One check of one program, as the tests write it.
struct Checked<'a> {
    group: &'a str,
    language: &'a str,
    name: &'a str,
    is: &'a str,
    verdict: &'a str,
    pattern: &'a str,
    is_right: bool,
}

/// What the groups are called.
const GROUPS: [(&str, &str); 2] = [("case", "Small programs after public reports"), ("library", "Real libraries")];

/// From lines of group, language, name, what it is, verdict, pattern, and whether all that was said is right.
pub(crate) fn table(text: &str, runs: u32) -> Result<String> {
    let mut checks = Vec::new();
    for line in text.lines() {
        let [group, language, name, is, verdict, pattern, right] = line.split('\t').collect::<Vec<_>>()[..] else {
            bail!("'{line}' is no line of verdicts");
        };
        checks.push(Checked { group, language, name, is, verdict, pattern, is_right: right == "right" });
    }
    let mut out = format!(
        "## On programs of the field\n\nWhat `leakprobe ci` says of the programs of `leakprobe/tests/field`, in {runs} runs. A leak is found \
         if it is likely or proven at its place, or by its creator; a healthy program is accused if anything of it is. A check is right if \
         nothing at all is wrong about it: the exit code, the pattern, and what else is accused.\n"
    );
    for (group, title) in GROUPS {
        let of: Vec<&Checked<'_>> = checks.iter().filter(|check| check.group == group).collect();
        if !of.is_empty() {
            out += &format!("\n### {title}\n\n{}\n{}", counts(&of), rows(&of, runs));
        }
    }
    Ok(out)
}

fn counts(checks: &[&Checked<'_>]) -> String {
    let of = |is: &str, what: &dyn Fn(&Checked<'_>) -> bool| {
        let all: Vec<_> = checks.iter().filter(|check| check.is == is).collect();
        (all.iter().filter(|check| what(check)).count(), all.len())
    };
    let is_accused = |check: &Checked<'_>| matches!(check.verdict, "likely" | "proven");
    let is_right = |check: &Checked<'_>| check.is_right;
    let (found, leaking) = of("leak", &is_accused);
    let (accused, healthy) = of("healthy", &is_accused);
    let (reported, undecided) = of("undecided", &is_right);
    let right = checks.iter().filter(|check| check.is_right).count();
    let mut out = format!("Leaks found: {found} of {leaking}. Healthy programs accused: {accused} of {healthy}. ");
    if undecided > 0 {
        out += &format!("Programs that rounds cannot decide, reported as such: {reported} of {undecided}. ");
    }
    out + &format!("Checks that are right: {right} of {}.\n", checks.len())
}

fn rows(checks: &[&Checked<'_>], runs: u32) -> String {
    let mut programs: BTreeMap<(&str, &str, &str), Vec<&Checked<'_>>> = BTreeMap::new();
    for check in checks {
        programs.entry((check.language, check.name, check.is)).or_default().push(check);
    }
    let mut out =
        "| language | program | is | verdict | it looks like | right |\n|---|---|---|---|---|---|\n".to_owned();
    for ((language, name, is), checks) in programs {
        let verdicts = tally(checks.iter().map(|check| check.verdict), runs);
        let patterns = tally(checks.iter().map(|check| check.pattern), runs);
        let right = checks.iter().filter(|check| check.is_right).count();
        out += &format!("| {language} | {name} | {is} | {verdicts} | {patterns} | {right} of {} |\n", checks.len());
    }
    out
}

/// What was said, with the number of runs in parentheses where they differ.
fn tally<'a>(said: impl Iterator<Item = &'a str>, runs: u32) -> String {
    let mut times: BTreeMap<&str, u32> = BTreeMap::new();
    for words in said.filter(|words| !words.is_empty()) {
        *times.entry(words).or_default() += 1;
    }
    let words = times.iter().map(|(words, &n)| if n == runs { (*words).to_owned() } else { format!("{words} ({n})") });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn leaks_found_and_programs_accused_are_counted_by_group() {
        let text = "case\tgo\ta\tleak\tlikely\tp\tright\ncase\tgo\ta\tleak\tsuspect\t\tWRONG\n\
                    case\tgo\tb\thealthy\tidle\t\tright\ncase\tgo\tb\thealthy\tlikely\t\tWRONG\n\
                    library\tjava\tc\tundecided\t\t\tright\nlibrary\tjava\tc\tundecided\t\t\tFAILED\n";
        let table = super::table(text, 2).unwrap();
        assert!(
            table.contains("Leaks found: 1 of 2. Healthy programs accused: 1 of 2. Checks that are right: 2 of 4."),
            "{table}"
        );
        assert!(table.contains("| go | a | leak | likely (1), suspect (1) | p (1) | 1 of 2 |"), "{table}");
        assert!(table.contains("reported as such: 1 of 2. Checks"), "{table}");
        assert!(super::table("x", 1).is_err());
    }
}
