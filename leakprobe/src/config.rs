//! `leakprobe.toml`: rules about sites. What is wrong in it is told with its line.

use std::{
    io::{self, Read},
    ops::Range,
    path::Path,
};

use jiff::civil::Date;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use toml::Spanned;

use crate::{
    model::{Rule, RuleKind, Text},
    report::files,
};

/// The largest file that is read, bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Most memory that a compiled pattern may take, bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// How large the patterns of a file may be together, bytes: each counts as the least of some limits that it keeps, of which this is
/// the smallest. With what is kept beside them to search by they take some ten times as much.
const MAX_PATTERNS_BYTES: usize = 16 << 20;
const LEAST_PATTERN_BYTES: usize = 16 << 10;
/// Most memory that searching by a pattern of a file may take, bytes: there may be many.
const MAX_SEARCH_BYTES: usize = 64 << 10;

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {path}: {error}; check --config")]
    Read {
        /// The file.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// It says something that cannot be.
    #[error("{path} line {line}: {what}")]
    Content {
        /// The file.
        path: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong, and what to do.
        what: String,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    ignore: Vec<Spanned<Given>>,
    #[serde(default)]
    expect: Vec<Spanned<Given>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    function: Option<Spanned<String>>,
    package: Option<Spanned<String>>,
    module: Option<Spanned<String>>,
    creator: Option<Spanned<String>>,
    wait: Option<Spanned<String>>,
    thread: Option<Spanned<String>>,
    site: Option<Spanned<String>>,
    at_most: Option<Spanned<u64>>,
    reason: Option<String>,
    expires: Option<Spanned<toml::Value>>,
}

/// The rules of a file, in its order: those to ignore before those to expect.
///
/// # Errors
/// If it cannot be read, or says something that cannot be.
pub fn read(path: &Path) -> Result<Vec<Rule>, ConfigError> {
    let name = path.display().to_string();
    let failed = |error| ConfigError::Read { path: name.clone(), error };
    let mut text = String::new();
    let input = files::open_input(path).map_err(failed)?;
    input.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(failed(io::Error::other("it is larger than 1 MiB")));
    }
    parse(&text).map_err(|(line, what)| ConfigError::Content { path: name, line, what })
}

/// The rules, or a line and what is wrong there.
#[cfg(any(test, feature = "fuzzing"))]
/// Reads a configuration.
pub(crate) fn fuzz(data: &[u8]) {
    let _ = parse(&String::from_utf8_lossy(data));
}

fn parse(text: &str) -> Result<Vec<Rule>, (usize, String)> {
    let lines = &Lines::of(text);
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| lines.at(&span));
        (line, error.message().lines().collect::<Vec<_>>().join(" "))
    })?;
    let given = file.ignore.iter().map(|given| (given, false)).chain(file.expect.iter().map(|given| (given, true)));
    let mut patterns = Patterns { left: MAX_PATTERNS_BYTES };
    given.map(|(given, is_expected)| rule(lines, &mut patterns, given, is_expected)).collect()
}

/// Where the lines of a text end.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(place, _)| place).collect())
    }

    /// The line in which this begins, counted from 1.
    fn at(&self, span: &Range<usize>) -> usize {
        self.0.partition_point(|&end| end < span.start) + 1
    }
}

/// Compiles the patterns of a file, of which each may be small and all together large.
struct Patterns {
    /// Bytes that further ones may have.
    left: usize,
}

impl Patterns {
    fn compile(&mut self, text: &str) -> Result<Regex, String> {
        // How large one is is not told, but whether it keeps a limit.
        let mut limit = LEAST_PATTERN_BYTES;
        loop {
            if limit > self.left {
                return Err(format!(
                    "the patterns together are too large (more than {} MiB)",
                    MAX_PATTERNS_BYTES >> 20
                ));
            }
            match RegexBuilder::new(text).size_limit(limit).dfa_size_limit(MAX_SEARCH_BYTES).build() {
                Err(regex::Error::CompiledTooBig(_)) if limit < MAX_PATTERN_BYTES => limit *= 4,
                built => {
                    self.left -= limit;
                    return built.map_err(|error| why_not(&error));
                }
            }
        }
    }
}

/// Compiles a pattern that a user wrote, or says why it cannot be used.
///
/// # Errors
///
/// A phrase: it is no regular expression, or needs too much memory.
pub fn pattern(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).build().map_err(|error| why_not(&error))
}

/// Why a pattern cannot be used.
fn why_not(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
        // The last line says what is wrong; those before it point at the place.
        error => error.to_string().lines().last().unwrap_or_default().replace("error: ", ""),
    }
}

fn rule(
    lines: &Lines,
    patterns: &mut Patterns,
    spanned: &Spanned<Given>,
    is_expected: bool,
) -> Result<Rule, (usize, String)> {
    let line = lines.at(&spanned.span());
    let given = spanned.get_ref();
    let mut wanted = |value: &Option<Spanned<String>>| -> Result<Option<Text>, (usize, String)> {
        let Some(value) = value else { return Ok(None) };
        let line = lines.at(&value.span());
        let word = value.get_ref();
        if word.is_empty() {
            return Err((line, "an empty text fits nothing; leave the key out".to_owned()));
        }
        let regex = word.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
        let Some(regex) = regex else {
            return Ok(Some(Text::Exact(word.clone())));
        };
        patterns
            .compile(regex)
            .map(|regex| Some(Text::Regex(regex)))
            .map_err(|why| (line, format!("cannot use {word}: {why}; give a regular expression between slashes")))
    };
    let kind = match (is_expected, &given.at_most) {
        (true, at_most) => RuleKind::Expect(at_most.as_ref().map(|number| *number.get_ref())),
        (false, None) => RuleKind::Ignore,
        (false, Some(number)) => {
            let what = "at_most belongs to [[expect]]; [[ignore]] has no limit";
            return Err((lines.at(&number.span()), what.to_owned()));
        }
    };
    let expires = given.expires.as_ref().map(|value| {
        let line = lines.at(&value.span());
        let written = match value.get_ref() {
            toml::Value::String(text) => text.clone(),
            toml::Value::Datetime(date) => date.to_string(),
            other => other.type_str().to_owned(),
        };
        written.parse::<Date>().map_err(|_| (line, format!("'{written}' is no date; write it as 2027-01-31")))
    });
    let rule = Rule {
        kind,
        line,
        function: wanted(&given.function)?,
        package: wanted(&given.package)?,
        module: wanted(&given.module)?,
        creator: wanted(&given.creator)?,
        wait: wanted(&given.wait)?,
        thread: wanted(&given.thread)?,
        site: wanted(&given.site)?,
        reason: given.reason.clone().unwrap_or_default(),
        expires: expires.transpose()?,
    };
    if rule.words().is_empty() {
        return Err((
            line,
            "the rule names nothing; give at least one of function, package, module, creator, wait, thread, site"
                .to_owned(),
        ));
    }
    if rule.reason.trim().is_empty() {
        return Err((line, "the rule has no reason; say in `reason` why these tasks may be there".to_owned()));
    }
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_with_their_lines() {
        let rules = parse(
            "# a comment\n[[ignore]]\nfunction = \"main.poll\"\nwait = \"/^sleep/\"\nreason = \"by design\"\nexpires = 2027-01-31\n\n\
             [[expect]]\nthread = \"worker\"\nat_most = 8\nreason = \"the pool\"\n",
        )
        .unwrap();
        assert_eq!(rules.len(), 2);
        assert_eq!((rules[0].kind, rules[0].line), (RuleKind::Ignore, 2));
        assert_eq!(rules[0].words(), "function main.poll, wait /^sleep/");
        assert_eq!(rules[0].expires, Some(jiff::civil::date(2027, 1, 31)));
        assert_eq!((rules[1].kind, rules[1].line), (RuleKind::Expect(Some(8)), 8));
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, what) in [
            ("[[ignore]]\nreason = \"x\"\nfuncton = \"a\"\n", 3, "unknown field `functon`"),
            ("\n[ignored]\n", 2, "unknown field `ignored`"),
            ("[[ignore]]\nfunction = \"/a(/\"\nreason = \"x\"\n", 2, "cannot use /a(/: unclosed group"),
            ("[[ignore]]\nfunction = \"\"\nreason = \"x\"\n", 2, "an empty text"),
            ("[[ignore]]\nfunction = \"a\"\n", 1, "no reason"),
            ("[[ignore]]\nreason = \"a\"\n", 1, "names nothing"),
            ("[[ignore]]\nfunction = \"a\"\nreason = \"x\"\nat_most = 3\n", 4, "at_most belongs to [[expect]]"),
            ("[[expect]]\nfunction = \"a\"\nreason = \"x\"\nexpires = \"soon\"\n", 4, "'soon' is no date"),
            ("[[expect]]\nfunction = \"a\"\nreason = \"x\"\nat_most = -3\n", 4, "invalid value"),
            ("x = [\n\n", 1, ""),
            ("[[ignore]]\nfunction = \"/(a{1000}){1000}/\"\nreason = \"x\"\n", 2, "cannot use"),
        ] {
            let (found, said) = parse(text).unwrap_err();
            assert!(said.contains(what), "{said:?} of {text:?}");
            assert!(found == line || what.is_empty(), "line {found} of {text:?}: {said}");
        }
    }

    #[test]
    fn patterns_are_bounded_together() {
        let rules = |count: usize, pattern: &str| {
            parse(&format!("[[ignore]]\nfunction = \"/{pattern}/\"\nreason = \"x\"\n").repeat(count))
        };
        let refused = |count, pattern| rules(count, pattern).map(|rules| rules.len()).unwrap_err();
        assert_eq!(rules(1_000, "^a.*b$").unwrap().len(), 1_000);
        let (line, why) = refused(1_100, "^a.*b$");
        assert_eq!(line, 3 * 1_024 + 2);
        assert!(why.contains("the patterns together are too large (more than 16 MiB)"), "{why}");
        assert_eq!(rules(16, "a{10000}").unwrap().len(), 16);
        assert_eq!(refused(17, "a{10000}").0, 3 * 16 + 2);
    }

    #[test]
    fn files_that_are_none_are_not_read() {
        let error = read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert_eq!(error, "cannot read /dev/zero: it is not a regular file; check --config");
        assert!(
            read(Path::new("/nowhere/leakprobe.toml")).unwrap_err().to_string().starts_with("cannot read /nowhere")
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\[\\[(ignore|expect)\\]\\]\n|[a-z_]{1,8} = |\"/?[a-z(*]{0,4}/?\"\n|[0-9]{1,4}|-|.|\n){0,30}") {
            let _ = parse(&text);
        }
    }
}
