//! Sentences and lists in lines of a width.

/// The pieces of a list, each with the comma that follows it: lines break only between them.
pub(in crate::report) fn list(items: &[String]) -> Vec<String> {
    let last = items.len().saturating_sub(1);
    items.iter().enumerate().map(|(place, item)| format!("{item}{}", if place < last { "," } else { "" })).collect()
}

/// The words of a sentence.
pub(in crate::report) fn sentence(text: &str) -> Vec<String> {
    text.split_whitespace().map(Into::into).collect()
}

/// `pieces` with a space between them, in lines of at most `width` characters. A piece that is longer has a line of its own.
pub(in crate::report) fn lines(pieces: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut used = 0;
    for piece in pieces {
        let length = piece.chars().count();
        match lines.last_mut() {
            Some(line) if used + 1 + length <= width => {
                line.push(' ');
                line.push_str(piece);
                used += 1 + length;
            }
            _ => {
                lines.push(piece.clone());
                used = length;
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_pieces() {
        assert_eq!(lines(&sentence("one two three four"), 9), ["one two", "three", "four"]);
        assert_eq!(lines(&sentence("one unbreakable two"), 5), ["one", "unbreakable", "two"]);
        let items = ["a (1)", "b (2)", "c (3)"].map(String::from);
        assert_eq!(lines(&list(&items), 13), ["a (1), b (2),", "c (3)"]);
        assert!(lines(&[], 10).is_empty());
    }
}
