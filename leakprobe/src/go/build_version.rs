//! Which Go a runtime was built with, by its own variable: for programs without the blob that says so (see `buildinfo.rs`), as when
//! its section was removed or its first bytes were overwritten.
//!
//! `runtime.buildVersion` is a string, and `runtime.schedinit` looks at its length in every version, so that the linker keeps it.
//! Other strings of the program may look the same, but that function refers to no other.
//!
//! Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/proc.go> (`schedinit`)

use std::{collections::HashSet, ops::Range};

use super::{
    Version,
    memory::{Words, word_at},
    mentions,
    moduledata::Moduledata,
    pclntab::Table,
};

/// The function that refers to the variable.
const REFERS: &str = "runtime.schedinit";
/// Longest text of a version that is read, bytes.
const MAX_TEXT: u64 = 256;
/// Most variables of the function that are looked at: it has some hundred.
const MAX_VARIABLES: usize = 1 << 14;

/// What a runtime says of its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BuildVersion {
    /// It is this one.
    Version(Version),
    /// There is a runtime, but the variable holds no version, or was not found.
    Unknown,
    /// There is no runtime in this module, as in a plugin; or its names were made unreadable.
    NoRuntime,
}

/// What the runtime of a module says, whose functions are in `table`.
pub(super) fn read(memory: &impl Words, table: &Table, module: &Moduledata) -> BuildVersion {
    let Some(function) = table.function_named(REFERS) else { return BuildVersion::NoRuntime };
    find(memory, &mentions::code_of(memory, &function), function.entry(), &module.data)
}

/// The version among the variables in `data` that code refers to which begins at `start`.
fn find(memory: &impl Words, code: &[u8], start: u64, data: &[Range<u64>]) -> BuildVersion {
    let mut found: Vec<Version> = Vec::new();
    for address in variables(code, start, data) {
        let text = text_at(memory, address).filter(|text| text.starts_with("go1.") || text.starts_with("devel "));
        let Some(version) = text.and_then(|text| Version::parse(&text)) else { continue };
        if !found.contains(&version) {
            found.push(version);
        }
    }
    match found.pop() {
        Some(version) if found.is_empty() => BuildVersion::Version(version),
        _ => BuildVersion::Unknown,
    }
}

/// The strings that code may refer to: by their length, which lies 8 bytes behind their beginning, or by their beginning.
fn variables(code: &[u8], start: u64, data: &[Range<u64>]) -> HashSet<u64> {
    // A distance may be followed by the value that the variable is compared with, or that is put there: of one byte or four.
    let targets = mentions::targets(code, start).flat_map(|target| [0, 1, 4].map(|len| target.wrapping_add(len)));
    let strings = targets.flat_map(|target| [target, target.wrapping_sub(8)]);
    let is_variable = |at: &u64| at.is_multiple_of(8) && data.iter().any(|data| data.contains(at));
    strings.filter(is_variable).take(MAX_VARIABLES).collect()
}

/// The text of a string variable, if it can be that of a version.
fn text_at(memory: &impl Words, address: u64) -> Option<String> {
    let header = memory.bytes(address, 16);
    let (text, len) = (word_at(&header, 0_u16)?, word_at(&header, 8_u16)?);
    if !(1..=MAX_TEXT).contains(&len) {
        return None;
    }
    let bytes = memory.bytes(text, usize::try_from(len).ok()?);
    (bytes.len() as u64 == len).then(|| String::from_utf8(bytes).ok())?
}

#[cfg(test)]
mod tests {
    use super::{super::memory::fake::Fake, *};

    const CODE: u64 = 0x40_0000;
    const DATA: Range<u64> = 0x50_0000..0x50_1000;

    /// `cmpq $0, variable+8(%rip)`, as all versions begin to look at it, among other code.
    fn code(variable: u64) -> Vec<u8> {
        let mut code = vec![0x90; 21];
        let end = CODE + code.len() as u64 + 8;
        code.extend([0x48, 0x83, 0x3d]);
        code.extend((variable as i64 + 8 - end as i64).to_le_bytes().first_chunk::<4>().unwrap());
        code.extend([0, 0xc3]);
        code
    }

    fn memory(variable: u64, text: &str) -> Fake {
        let mut memory = Fake(vec![(DATA.start, vec![0; 0x1000])]);
        memory.put(variable, &[0x60_0000, text.len() as u64]);
        memory.put_bytes(0x60_0000, text.as_bytes());
        memory
    }

    fn version(memory: &Fake, code: &[u8]) -> BuildVersion {
        find(memory, code, CODE, &[0..0, DATA])
    }

    #[test]
    fn the_variable_is_told_from_others_by_who_refers_to_it() {
        let mut memory = memory(0x50_0100, "go1.26.6");
        memory.put(0x50_0200, &[0x61_0000, 8]);
        memory.put_bytes(0x61_0000, b"go1.18.1");
        let of = |minor, patch| move |found| matches!(found, BuildVersion::Version(v) if (v.minor, v.patch) == (minor, patch));
        assert!(of(26, 6)(version(&memory, &code(0x50_0100))));
        assert!(of(18, 1)(version(&memory, &code(0x50_0200))));
        let both = [code(0x50_0100), code(0x50_0200 - 30)].concat();
        assert_eq!(version(&memory, &both), BuildVersion::Unknown, "two are one too many");
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in ["", "unknown", "go1.", "1.27.3", "\u{fffd}go1.27", &"go1.27.3".repeat(100)] {
            assert_eq!(version(&memory(0x50_0100, text), &code(0x50_0100)), BuildVersion::Unknown, "{text}");
        }
        let devel = version(&memory(0x50_0100, "devel go1.28-1a2b3c4d Thu Nov 19"), &code(0x50_0100));
        assert!(matches!(devel, BuildVersion::Version(version) if version.minor == 28));
    }

    #[test]
    fn code_and_memory_that_are_cut_or_damaged_bring_nothing_else() {
        let (whole, code) = (memory(0x50_0100, "go1.27.3"), code(0x50_0100));
        for len in 0..code.len() {
            let _ = version(&whole, &code[..len]);
        }
        for (block, _) in whole.0.iter().enumerate().skip(1) {
            for len in 0..whole.0[block].1.len() {
                let mut memory = whole.clone();
                memory.0[block].1.truncate(len);
                assert_eq!(version(&memory, &code), BuildVersion::Unknown, "{len} bytes");
            }
        }
        for offset in (0x100..0x110).step_by(8) {
            for value in [0, 1, u64::MAX, 1 << 63] {
                let mut memory = whole.clone();
                memory.put(DATA.start + offset, &[value]);
                assert_ne!(version(&memory, &code), BuildVersion::NoRuntime);
            }
        }
    }
}
