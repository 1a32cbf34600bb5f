//! Symbol names as people read them.
//!
//! Names come from the target's files, so nothing about them is trusted: not their length, not their encoding, not how
//! large their demangled form becomes.

use std::{cmp::Reverse, collections::HashMap, fmt};

use crate::target::Budget;

/// A mangled name of a hundred bytes can stand for gigabytes of text: back references in the Itanium ABI double the text
/// each time (<https://itanium-cxx-abi.github.io/cxx-abi/abi.html#mangling-compression>). Longer results are shown mangled.
const LONGEST: usize = 4096;

/// Makes a raw symbol name readable: without symbol version, demangled, without control characters.
pub(super) fn readable(raw: &[u8]) -> String {
    let raw = String::from_utf8_lossy(without_version(raw));
    let name = rust(&raw).or_else(|| cpp(&raw)).unwrap_or_else(|| raw.chars().take(LONGEST).collect());
    without_controls(name)
}

/// Makes raw names readable, each of them once, as long as there is time for it. Then mangled ones are shown as they are.
pub(super) struct Readable<'a> {
    budget: &'a Budget,
    known: HashMap<Vec<u8>, String>,
}

impl<'a> Readable<'a> {
    pub(super) fn within(budget: &'a Budget) -> Self {
        Self { budget, known: HashMap::new() }
    }

    pub(super) fn name(&mut self, raw: &[u8]) -> String {
        if let Some(known) = self.known.get(raw) {
            return known.clone();
        }
        let name = if self.budget.time_left().is_zero() {
            bounded(&String::from_utf8_lossy(without_version(raw)))
        } else {
            self.budget.timed(|| readable(raw))
        };
        self.known.insert(raw.to_vec(), name.clone());
        name
    }
}

/// A name that was not mangled, at most [`LONGEST`] of it, without control characters.
pub(super) fn bounded(raw: &str) -> String {
    without_controls(raw.chars().take(LONGEST).collect())
}

/// Replaces control characters, because a terminal would act on them.
pub(super) fn without_controls(text: String) -> String {
    if text.contains(char::is_control) { text.replace(char::is_control, "\u{fffd}") } else { text }
}

/// How good a name is among several for the same function; the greatest is shown.
///
/// libc names many functions twice or more (`read` and `__read`, `clone` and `__clone`). The plain one is what people know,
/// so fewer leading underscores win over binding. What follows only makes the choice the same in each run.
pub(super) fn preference(raw: &[u8], global: bool) -> impl Ord + use<'_> {
    let name = without_version(raw);
    let underscores = name.iter().take_while(|&&byte| byte == b'_').count();
    // `_Z…` and `_R…` are mangled names of C++ and Rust: that underscore says nothing.
    let underscores = if name.starts_with(b"_Z") || name.starts_with(b"_R") { 0 } else { underscores };
    (Reverse(underscores), global, Reverse(name.len()), Reverse(name))
}

/// `pthread_create@@GLIBC_2.34` is how linkers write symbol versions into `.symtab`.
fn without_version(raw: &[u8]) -> &[u8] {
    match raw.iter().position(|&byte| byte == b'@') {
        Some(at) if at > 0 => &raw[..at],
        _ => raw,
    }
}

fn rust(raw: &str) -> Option<String> {
    let name = rustc_demangle::try_demangle(raw).ok()?;
    let mut out = Capped::default();
    // `#` leaves out the hash that ends each name.
    fmt::write(&mut out, format_args!("{name:#}")).ok()?;
    Some(out.text)
}

fn cpp(raw: &str) -> Option<String> {
    if !raw.starts_with("_Z") {
        return None;
    }
    let name = cpp_demangle::BorrowedSymbol::new(raw.as_bytes()).ok()?;
    let mut out = Capped::default();
    name.structured_demangle(&mut out, &cpp_demangle::DemangleOptions::new()).ok()?;
    Some(out.text)
}

/// A string that refuses to grow beyond [`LONGEST`].
#[derive(Default)]
struct Capped {
    text: String,
}

impl fmt::Write for Capped {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.text.len() + part.len() > LONGEST {
            return Err(fmt::Error);
        }
        self.text.push_str(part);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_readable() {
        for (raw, expected) in [
            ("main", "main"),
            ("pthread_create@@GLIBC_2.34", "pthread_create"),
            ("memcpy@GLIBC_2.2.5", "memcpy"),
            ("_ZN3std6thread5sleep17h0123456789abcdefE", "std::thread::sleep"),
            ("_RNvC6_123foo3bar", "123foo::bar"),
            ("_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int> >::push_back(int const&)"),
            ("_Znot_mangled", "_Znot_mangled"),
            ("\u{1b}[31mred", "\u{fffd}[31mred"),
        ] {
            assert_eq!(readable(raw.as_bytes()), expected);
        }
    }

    #[test]
    fn a_small_name_cannot_become_a_huge_one() {
        // Each parameter is a pair of the one before: `f(pair<int, int>, pair<pair<int, int>, pair<int, int>>, …)`.
        let bomb = |depth: usize| {
            let digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ".chars();
            let pairs = digits.take(depth).map(|n| format!("S_IS{n}_S{n}_E"));
            format!("_Z1fSt4pairIiiE{}", pairs.collect::<String>())
        };
        assert_eq!(
            readable(bomb(1).as_bytes()),
            "f(std::pair<int, int>, std::pair<std::pair<int, int>, std::pair<int, int> >)"
        );
        assert_eq!(readable(bomb(36).as_bytes()), bomb(36));
        assert!(readable(&vec![b'a'; 1 << 20]).len() <= LONGEST);
    }

    #[test]
    fn without_time_mangled_names_are_shown() {
        let mut limits = crate::target::budget::Limits::of_memory(1 << 30);
        let raw = b"_ZN3std6thread5sleep17h0123456789abcdefE";
        assert_eq!(Readable::within(&Budget::new(limits)).name(raw), "std::thread::sleep");
        (limits.cpu, limits.cpu_share) = (std::time::Duration::ZERO, u32::MAX);
        assert_eq!(Readable::within(&Budget::new(limits)).name(raw).as_bytes(), raw);
    }

    #[test]
    fn the_plain_alias_is_preferred() {
        let best = |names: &[(&'static str, bool)]| {
            names.iter().max_by_key(|(name, global)| preference(name.as_bytes(), *global)).map(|(name, _)| *name)
        };
        assert_eq!(best(&[("__read", true), ("read", false)]), Some("read"));
        assert_eq!(best(&[("aaa", true), ("bbb", true)]), Some("aaa"));
        assert_eq!(best(&[("bbb", true), ("aaa", false)]), Some("bbb"));
    }
}
