//! A version of Go, as a program says it of itself.

use std::{fmt, sync::Arc};

/// Longest text of a version that is kept, characters.
const MAX_TEXT: usize = 64;

/// A version of Go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// `1`, so far.
    pub major: u16,
    /// `27` of `go1.27.3`.
    pub minor: u16,
    /// `3` of `go1.27.3`; 0 if it does not say, as for `go1.20` and development versions.
    pub patch: u16,
    /// In its own words, cut short, with nothing in it but printable ASCII.
    pub text: Arc<str>,
}

impl Version {
    /// Reads what `runtime.Version()` returns: `go1.26.6`, `go1.27rc1`, `go1.26.6 X:nodwarf5`, `devel go1.28-1a2b3c4 Thu Nov ...`,
    /// or with a distributor's suffix: `go1.25.5-fips`. `None` if there is no version number in it.
    /// Source: <https://github.com/golang/go/blob/go1.27.0/src/cmd/dist/build.go> (`findgoversion`)
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let number = words.find_map(|word| word.strip_prefix("go").filter(|rest| rest.starts_with(digit)))?;
        let (major, rest) = leading_number(number)?;
        let (minor, rest) = leading_number(rest.strip_prefix('.')?)?;
        let patch = rest.strip_prefix('.').and_then(leading_number).map_or(0, |(patch, _)| patch);
        let is_plain = |letter: &char| letter.is_ascii_graphic() || *letter == ' ';
        let text: String = text.trim().chars().filter(is_plain).take(MAX_TEXT).collect();
        Some(Self { major, minor, patch, text: text.into() })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

fn digit(letter: char) -> bool {
    letter.is_ascii_digit()
}

/// The number that a text begins with, and what follows it.
fn leading_number(text: &str) -> Option<(u16, &str)> {
    let end = text.find(|letter| !digit(letter)).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_every_form_are_understood() {
        for (text, expected) in [
            ("go1.27.3", (1, 27, 3)),
            ("go1.20", (1, 20, 0)),
            ("go1.27rc1", (1, 27, 0)),
            ("go1.26.6 X:nodwarf5,greenteagc", (1, 26, 6)),
            ("devel go1.28-1a2b3c4d5e Thu Nov 19 12:00:00 2026 +0000", (1, 28, 0)),
            ("go1.25.5-fips", (1, 25, 5)),
            ("go1.24.11+auto", (1, 24, 11)),
            ("go2.0", (2, 0, 0)),
        ] {
            let version = Version::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((version.major, version.minor, version.patch), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in ["", "unknown", "go", "go1", "go.1.2", "devel +abcdef", "go99999999.1", "1.27"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_text_is_safe_to_print_and_short() {
        let version = Version::parse(&format!("go1.27.3 \x1b[31m{}", "x".repeat(1000))).unwrap();
        assert!(version.text.len() <= MAX_TEXT && !version.text.contains('\x1b'));
    }
}
