//! Time spans and numbers as people read them.

/// A time span to two significant units: `999 ms`, `42.1 s`, `3m 12s`, `3h 12m`, `5d 3h`. Rounded down, since an age that is
/// shown must have been reached.
pub(crate) fn span(ms: u64) -> String {
    const SECOND: u64 = 1_000;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let two = |unit: u64, name: &str, lesser: u64, lesser_name: &str| {
        format!("{}{name} {}{lesser_name}", thousands(ms / unit), ms % unit / lesser)
    };
    match ms {
        0..SECOND => format!("{ms} ms"),
        SECOND..MINUTE => format!("{}.{} s", ms / SECOND, ms % SECOND / 100),
        MINUTE..HOUR => two(MINUTE, "m", SECOND, "s"),
        HOUR..DAY => two(HOUR, "h", MINUTE, "m"),
        DAY.. => two(DAY, "d", HOUR, "h"),
    }
}

/// `1,234,567`.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Numbers one after the other; of many the first and the last ones.
pub(crate) fn numbers(numbers: &[u64]) -> String {
    let text = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    match numbers.len() {
        0..=12 => text(numbers),
        many => format!("{}, …, {}", text(&numbers[..4]), text(&numbers[many - 6..])),
    }
}
