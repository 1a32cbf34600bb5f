//! Numbers, times and names as people read them.

use std::borrow::Cow;

use jiff::Timestamp;

use crate::model::QueuePlace;
pub(super) use crate::model::{span, thousands};

/// `1 thread`, `1,234 threads`: the noun's plural is regular.
pub(super) fn count(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(n), if n == 1 { "" } else { "s" })
}

/// A place in a queue: `2nd of 12 waiting`; `None` for one that waits alone.
pub(super) fn place(of: QueuePlace) -> Option<String> {
    let ending = match (of.place % 10, of.place % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    let [place, waiters] = [of.place, of.waiters].map(|n| thousands(n.into()));
    (of.waiters > 1).then(|| format!("{place}{ending} of {waiters} waiting"))
}

/// A percentage to two significant digits at least: `0.21 %`, `3.4 %`, `31 %`.
pub(super) fn percent(percent: f64) -> String {
    let decimals = match percent {
        ..1.0 => 2,
        ..10.0 => 1,
        _ => 0,
    };
    format!("{percent:.decimals$} %")
}

/// A time span without a fraction or lesser unit that is 0: `1 s`, `1.5 s`, `2m`. For what a user has chosen.
pub(super) fn short_span(ms: u64) -> String {
    let text = span(ms);
    match text.strip_suffix(".0 s") {
        Some(seconds) => format!("{seconds} s"),
        None => match text.split_once(' ') {
            Some((unit, "0s" | "0m" | "0h")) => unit.into(),
            _ => text,
        },
    }
}

/// An age, with `≥` before it if it is only a lower bound.
pub(super) fn age(ms: u64, exact: bool) -> String {
    format!("{}{}", if exact { "" } else { "≥ " }, span(ms))
}

/// How often something happens that happened `n` times within `ms`: `0.2`, `3.1`, `120`. Without `/s`.
pub(super) fn rate(n: u64, ms: u64) -> String {
    let rate = n as f64 * 1_000.0 / ms.max(1) as f64;
    if rate < 10.0 { format!("{rate:.1}") } else { thousands(rate.round() as u64) }
}

/// `numbers` as a line of at most `width` blocks, from the least to the greatest of them; the last of each group if there are
/// too many.
pub(super) fn spark(numbers: &[u64], width: usize) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (Some(&least), Some(&greatest)) = (numbers.iter().min(), numbers.iter().max()) else {
        return String::new();
    };
    let width = numbers.len().min(width);
    let height = |number: u64| {
        let part = (number - least) as f64 / ((greatest - least) as f64).max(1.0);
        BLOCKS[(part * (BLOCKS.len() - 1) as f64).round() as usize % BLOCKS.len()]
    };
    (1..=width).map(|place| height(numbers[numbers.len() * place / width - 1])).collect()
}

/// With a capital letter.
pub(super) fn capitalized(sentence: &str) -> String {
    let mut chars = sentence.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// An RFC 3339 moment as `2026-05-04 10:11:12 UTC`; what is not one is shown as it is.
pub(super) fn utc(moment: &str) -> String {
    match moment.parse::<Timestamp>() {
        Ok(moment) => moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => harmless(moment),
    }
}

/// An RFC 3339 moment as one in UTC, `2026-05-04T10:11:12Z`; `None` for what is not one.
pub(super) fn timestamp(moment: &str) -> Option<String> {
    let moment: Timestamp = moment.parse().ok()?;
    let text = moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    // Years of other lengths are none to others.
    (text.len() == "2026-05-04T10:11:12Z".len() && !text.starts_with('-')).then_some(text)
}

/// `text` on one line, without anything that moves a cursor, hides or turns text, or is forbidden in XML.
///
/// Names come from the target, which can call its functions and threads what it likes.
pub(super) fn harmless(text: &str) -> String {
    let text: String = text.chars().map(harmless_char).collect();
    text.trim().into()
}

/// Both ends of a text of more than 16 KiB, which are all that anybody reads of it; in time that does not depend on its length.
pub(super) fn both_ends(text: &str) -> Cow<'_, str> {
    const END: usize = 8 << 10;
    if text.len() <= 2 * END {
        return text.into();
    }
    let head = (0..=END).rev().find_map(|end| text.get(..end)).unwrap_or_default();
    let tail = (text.len() - END..=text.len()).find_map(|start| text.get(start..)).unwrap_or_default();
    format!("{head}…{tail}").into()
}

/// `text` without anything that moves a cursor, hides or turns text; its lines and their indentation stay. For messages that quote
/// what others wrote.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { c } else { harmless_char(c) }).collect()
}

fn harmless_char(c: char) -> char {
    match c {
        c if c.is_control() && c.is_whitespace() => ' ',
        c if c.is_control() || is_invisible(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// Characters that take no room, turn the direction of writing or end a line, and the two that XML does not know.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

/// A function's name in at most `width` characters. What tells least goes first: parameters, generic arguments, the brackets
/// of parameters, outer namespaces; then the middle. A label before the name (`entry: `) stays. Takes time in proportion to the
/// length of the name, whatever stands in it.
pub(super) fn shorten(name: &str, width: usize) -> String {
    if fits(name, width) {
        return name.into();
    }
    if let Some((label, name)) = name.split_once(": ")
        && label.chars().all(char::is_alphabetic)
    {
        let label = format!("{label}: ");
        let free = width.saturating_sub(label.chars().count());
        return cut_middle(&format!("{label}{}", shorten_unlabelled(name, free)), width);
    }
    shorten_unlabelled(name, width)
}

/// A function's name in at most `width` characters, as [`shorten`] cuts it; a label before it counts as a part of the name.
fn shorten_unlabelled(name: &str, width: usize) -> String {
    if fits(name, width) {
        return name.into();
    }
    if name.starts_with("fd ") {
        return cut_end(name, width);
    }
    if is_go(name) {
        return cut_middle(&shorten_go(name, width), width);
    }
    let mut name = without(name, '(', ')');
    if !fits(&name, width) {
        name = without(&name, '<', '>');
    }
    if !fits(&name, width) {
        name = name.replace(" (…)", "").replace("(…)", "").trim_end().into();
    }
    // A name that begins with a bracket has no namespace before it.
    if !fits(&name, width)
        && !name.starts_with('<')
        && let Some(room) = width.checked_sub("…::".chars().count())
    {
        // Where the last characters begin that there is room for.
        let last = room.checked_sub(1).and_then(|room| name.char_indices().nth_back(room));
        let last = last.map_or(name.len(), |(at, _)| at);
        if let Some((at, _)) = name.match_indices("::").find(|(at, colons)| at + colons.len() >= last) {
            return format!("…{}", &name[at..]);
        }
    }
    cut_middle(&name, width)
}

/// Whether `text` has at most `width` characters; of a longer one the rest is not looked at.
fn fits(text: &str, width: usize) -> bool {
    text.chars().nth(width).is_none()
}

/// Whether a name is Go's: it has a path or a receiver, and no namespace.
fn is_go(name: &str) -> bool {
    !name.contains("::") && (name.contains(".(*") || name.contains('/')) && !name.contains(' ')
}

/// `shop/orders.(*Queue[go.shape.int]).put` without type arguments; and if that does not fit, without the path before its last
/// part, as Go programs themselves call what they import.
fn shorten_go(name: &str, width: usize) -> String {
    let mut name = without(name, '[', ']');
    if !fits(&name, width) {
        name = name.replace("[…]", "");
    }
    match name.rsplit_once('/') {
        Some((_, last)) if !fits(&name, width) && !last.is_empty() => last.to_owned(),
        _ => name,
    }
}

/// Keeps both ends of `text`, and more of its end, which tells more: it is where a path or a qualified name gets specific.
pub(super) fn cut_middle(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.into();
    }
    let kept = width.saturating_sub(1);
    let head = kept * 2 / 5;
    let tail = kept - head;
    let head: String = text.chars().take(head).collect();
    let tail: String = text.chars().skip(length - tail).collect();
    format!("{head}…{tail}")
}

/// Keeps the beginning of `text`.
pub(super) fn cut_end(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.into();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end_matches([' ', ',']))
}

/// `name` with what stands between outermost brackets replaced by `…`, except at its beginning, where Rust names a type and
/// C++ an anonymous namespace. A name whose brackets do not pair, such as `operator<`, stays as it is.
fn without(name: &str, open: char, close: char) -> String {
    let mut kept = String::with_capacity(name.len());
    let mut depth = 0_usize;
    let mut at_start = false;
    let mut previous = ' ';
    for c in name.chars() {
        // The `>` of `->` closes nothing.
        if c == close && !(close == '>' && previous == '-') {
            let Some(outer) = depth.checked_sub(1) else {
                return name.into();
            };
            depth = outer;
            if depth == 0 && !at_start && previous != open {
                kept.push('…');
            }
        }
        if depth == 0 || at_start {
            kept.push(c);
        }
        if c == open {
            if depth == 0 {
                at_start = kept.chars().nth(1).is_none();
            }
            depth += 1;
        }
        previous = c;
    }
    if depth == 0 { kept } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(count(0, "thread"), "0 threads");
        assert_eq!(count(1, "thread"), "1 thread");
        assert_eq!(count(1_234_567, "thread"), "1,234,567 threads");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn places_are_ordinals() {
        for (n, word) in
            [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (112, "112th"), (1_021, "1,021st")]
        {
            let words = place(QueuePlace { place: n, waiters: 2_000 });
            assert_eq!(words, Some(format!("{word} of 2,000 waiting")));
        }
        assert_eq!(place(QueuePlace { place: 1, waiters: 1 }), None);
    }

    #[test]
    fn spans() {
        for (ms, long, short) in [
            (0, "0 ms", "0 ms"),
            (999, "999 ms", "999 ms"),
            (1_000, "1.0 s", "1 s"),
            (1_500, "1.5 s", "1.5 s"),
            (42_199, "42.1 s", "42.1 s"),
            (59_999, "59.9 s", "59.9 s"),
            (120_000, "2m 0s", "2m"),
            (192_000, "3m 12s", "3m 12s"),
            (11_520_000, "3h 12m", "3h 12m"),
            (442_800_000, "5d 3h", "5d 3h"),
        ] {
            assert_eq!(span(ms), long);
            assert_eq!(short_span(ms), short);
        }
        assert_eq!(age(42_100, false), "≥ 42.1 s");
        assert_eq!(span(u64::MAX), "213,503,982,334d 14h");
    }

    #[test]
    fn rates() {
        for (n, ms, rate) in [(0, 0, "0.0"), (3, 30_000, "0.1"), (31, 10_000, "3.1"), (1_234_567, 1_000, "1,234,567")] {
            assert_eq!(super::rate(n, ms), rate);
        }
    }

    #[test]
    fn sparks_go_from_the_least_to_the_greatest() {
        assert_eq!(spark(&[], 24), "");
        assert_eq!(spark(&[5, 5], 24), "▁▁");
        assert_eq!(spark(&[10, 17, 12], 24), "▁█▃");
        let long: Vec<u64> = (0..1_000).collect();
        let long = spark(&long, 24);
        assert_eq!(long.chars().count(), 24);
        assert!(long.starts_with('▁') && long.ends_with('█'));
        assert_eq!(spark(&[0, u64::MAX], 24), "▁█");
    }

    #[test]
    fn moments() {
        assert_eq!(utc("2026-05-04T10:11:12.345Z"), "2026-05-04 10:11:12 UTC");
        assert_eq!(utc("2026-05-04T12:11:12+02:00"), "2026-05-04 10:11:12 UTC");
        assert_eq!(utc("yester\nday"), "yester day");
        assert_eq!(timestamp("2026-05-04T12:11:12.9+02:00").as_deref(), Some("2026-05-04T10:11:12Z"));
        assert_eq!(timestamp("-000009-05-04T12:11:12Z"), None);
        assert_eq!(timestamp("yesterday"), None);
    }

    #[test]
    fn names_cannot_write_on_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb"), "a\u{fffd}[2Jb");
        assert_eq!(harmless(" a\r\nb\t"), "a  b");
        assert_eq!(harmless("a\u{202e}b\u{ffff}"), "a\u{fffd}b\u{fffd}");
        assert_eq!(harmless("größe 界"), "größe 界");
        assert_eq!(printable(" a\x1b]0;b\u{7}\r\n  ^ \u{9b}2J"), " a\u{fffd}]0;b\u{fffd} \n  ^ \u{fffd}2J");
    }

    #[test]
    fn of_very_long_texts_both_ends_are_looked_at() {
        assert_eq!(both_ends("größe"), "größe");
        for shift in 0..3 {
            let text = "a".repeat(shift) + &"界".repeat(200_000) + "b";
            let ends = both_ends(&text);
            assert!(ends.len() <= (16 << 10) + "…".len(), "{}", ends.len());
            assert!(ends.starts_with(&text[..shift + 3]) && ends.contains("界…界") && ends.ends_with("界b"));
        }
    }

    #[test]
    fn long_names_lose_what_tells_least() {
        let name = "store::Queue<std::map<int, long>>::pop(std::unique_lock<std::mutex>&, int)";
        assert_eq!(shorten(name, 80), name);
        assert_eq!(shorten(name, 50), "store::Queue<std::map<int, long>>::pop(…)");
        assert_eq!(shorten(name, 30), "store::Queue<…>::pop(…)");
        assert_eq!(shorten(name, 20), "store::Queue<…>::pop");
        assert_eq!(shorten(name, 19), "…::Queue<…>::pop");
        assert_eq!(shorten(name, 12), "…::pop");
        assert_eq!(shorten(name, 3), "…op");
        assert_eq!(shorten(name, 1), "…");
        assert_eq!(shorten("entry: a::b::c::d(int)", 13), "entry: …::d");
        assert_eq!(shorten("read (event), timeout 1 s", 20), "read, timeout 1 s");
        assert_eq!(shorten("<A as B>::c::d", 9), "<A …:c::d");
        let name = "shop/orders.(*Queue[go.shape.int]).put";
        assert_eq!(shorten(name, 30), "shop/orders.(*Queue[…]).put");
        assert_eq!(shorten(name, 25), "shop/orders.(*Queue).put");
        assert_eq!(shorten(name, 22), "orders.(*Queue).put");
        assert_eq!(shorten("leakprobe.test/programs/kinds.receive", 20), "kinds.receive");
        assert_eq!(shorten(name, 12), "orde…ue).put");
        assert_eq!(shorten("a/name/of/nothing/", 10), "a/n…thing/");
    }

    #[test]
    fn long_names_of_many_parts_take_no_more_than_their_length() {
        let labels = |n| "label: ".repeat(n) + "f";
        assert_eq!(shorten(&labels(3), 15), "label: la…el: f");
        // Called by itself for each part, this would end the stack; looked through for each part, the test would not end.
        for (part, end) in
            [("label: ", "f"), ("a::", "f"), ("()", "f"), ("f<a>::", "f"), ("(a) ", "f"), ("fd ", "f"), ("/a", ".f")]
        {
            let name = part.repeat(30_000) + end;
            for width in [0, 3, 40, 10_000] {
                assert!(shorten(&name, width).chars().count() <= width.max(1), "{part} {width}");
            }
        }
    }

    #[test]
    fn brackets_that_mean_something_else_stay() {
        assert_eq!(without("a::operator<(int)", '<', '>'), "a::operator<(int)");
        assert_eq!(without("a::operator->(int)", '<', '>'), "a::operator->(int)");
        assert_eq!(without("<A as B>::c<D>", '<', '>'), "<A as B>::c<…>");
        assert_eq!(without("<A<B> as C>::d", '<', '>'), "<A<B> as C>::d");
        assert_eq!(without("f()", '(', ')'), "f()");
        assert_eq!(without("(anonymous namespace)::f(int)", '(', ')'), "(anonymous namespace)::f(…)");
    }
}
