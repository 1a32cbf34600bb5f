//! Counts tests over several test programs and kernels.

use std::fmt;

/// The name of a test of which `line` says that it failed.
pub(crate) fn failed_test(line: &str) -> Option<&str> {
    line.trim().strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

/// How many tests passed and failed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    /// Counts one thing.
    pub(crate) fn count(&mut self, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Adds what `other` counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// What libtest's closing line of one test program says, `None` for every other line.
    pub(crate) fn of_line(line: &str) -> Option<Self> {
        let counts = line.trim().strip_prefix("test result: ")?.split_once(". ")?.1;
        let number = |what| {
            let field = counts.split(';').find_map(|field| field.trim().strip_suffix(what))?;
            field.trim().parse().ok()
        };
        Some(Self { passed: number(" passed")?, failed: number(" failed")? })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_closing_line_of_libtest() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s\r";
        assert_eq!(Tally::of_line(line), Some(Tally { passed: 12, failed: 3 }));
        assert_eq!(Tally::of_line("test tests::a ... ok"), None);
    }

    #[test]
    fn knows_the_names_of_failed_tests() {
        assert_eq!(failed_test("test tests::a ... FAILED\r"), Some("tests::a"));
        assert_eq!(failed_test("test tests::a ... ok"), None);
        assert_eq!(failed_test("test result: FAILED. 5 passed; 2 failed"), None);
    }
}
