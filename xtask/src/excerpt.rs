//! The part of an output that tells why something failed, short enough for a CI log.

/// Most lines of what libtest says of failed tests.
const TEST_LINES: usize = 200;
/// Most lines of anything else.
const OTHER_LINES: usize = 60;
/// Most characters of a line: a failed assertion may print a whole recording.
const LINE_CHARS: usize = 2000;

/// From `lines`, the output of something that failed: what libtest says from its `failures:` on, or else the end.
pub(crate) fn excerpt(lines: &[&str]) -> Vec<String> {
    match lines.iter().position(|line| *line == "failures:") {
        Some(from) => end(&lines[from..], TEST_LINES),
        None => end(lines, OTHER_LINES),
    }
}

/// The last `most` lines that are not empty, and how many there were before.
fn end(lines: &[&str], most: usize) -> Vec<String> {
    let lines: Vec<&str> = lines.iter().copied().filter(|line| !line.trim().is_empty()).collect();
    let left_out = lines.len().saturating_sub(most);
    let note = (left_out > 0).then(|| format!("… {left_out} lines before"));
    note.into_iter().chain(lines[left_out..].iter().map(|line| shortened(line))).collect()
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(LINE_CHARS) {
        Some((at, _)) => format!("{} … {} bytes more", &line[..at], line.len() - at),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_test_is_told_from_its_panic_on() {
        let lines =
            ["running 2 tests", "test a ... ok", "", "failures:", "", "---- b stdout ----", "panicked", "    b"];
        assert_eq!(excerpt(&lines), ["failures:", "---- b stdout ----", "panicked", "    b"]);
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let many: Vec<String> = (0..300).map(|n| format!("line {n}")).collect();
        let lines: Vec<&str> = many.iter().map(String::as_str).collect();
        let shown = excerpt(&lines);
        assert_eq!((shown.len(), shown[0].as_str(), shown[1].as_str()), (61, "… 240 lines before", "line 240"));
        let of_tests = [&["failures:"], &lines[..]].concat();
        assert_eq!(excerpt(&of_tests)[..2], ["… 101 lines before", "line 100"]);
        let long = "ä".repeat(LINE_CHARS + 3);
        assert_eq!(excerpt(&[&long]), [format!("{} … 6 bytes more", "ä".repeat(LINE_CHARS))]);
    }
}
