//! The runtime's words for why a goroutine waits.
//!
//! Their numbers change with almost every version, so they are read from the process: `runtime.waitReasonStrings`.
//! Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/runtime2.go>

use std::{
    ops::{ControlFlow, Range},
    sync::Arc,
};

use super::memory::{Scan, Words};

/// The word for number 1 since Go 1.5 or so; number 0 is empty.
const FIRST: &[u8] = b"GC assist marking";
/// Most words that are read. Go 1.27 has some 40.
const MAX_REASONS: u64 = 128;
/// Longest word, bytes.
const MAX_LEN: u64 = 64;

/// The words by number, from a runtime's initialised data; empty if they are not there.
pub(super) fn find(memory: &impl Words, data: &Range<u64>) -> Arc<[Arc<str>]> {
    let found = memory.scan(data, |address, &[_, none, text, len]| {
        let may_be = none == 0 && len == FIRST.len() as u64;
        match may_be && memory.bytes(text, FIRST.len()) == FIRST {
            true => ControlFlow::Break(address),
            false => ControlFlow::Continue(()),
        }
    });
    let Scan::Found(address) = found else {
        return Arc::new([]);
    };
    // Nothing says how many there are. What follows in memory may be words of something else: no number leads there.
    let words = (1..MAX_REASONS).map_while(|index| {
        let [text, len] = memory.words(address + 16 * index)?;
        let bytes = (1..=MAX_LEN).contains(&len).then(|| memory.bytes(text, len as usize))?;
        let is_text = bytes.len() as u64 == len && bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
        is_text.then(|| Arc::from(String::from_utf8_lossy(&bytes)))
    });
    [Arc::from("")].into_iter().chain(words).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::memory::fake::Fake, *};

    /// Words as they lie in memory at 0x1000, their texts at 0x9000, after something else that looks a bit like them.
    fn memory(words: &[&str]) -> Fake {
        let mut memory = Fake(vec![(0x1000, vec![0xee; 0x2000]), (0x9000, vec![0; 0x2000])]);
        memory.put(0x1000, &[0x9000, 0, 0x9000, 17]);
        memory.put_bytes(0x9000, b"no such assistant");
        let mut text = 0x9100;
        for (index, word) in words.iter().enumerate() {
            memory.put(0x1100 + 16 * index as u64, &[text, word.len() as u64]);
            memory.put_bytes(text, word.as_bytes());
            text += word.len() as u64;
        }
        memory
    }

    #[test]
    fn the_words_are_found_by_the_first_one() {
        let words = ["", "GC assist marking", "IO wait", "chan receive (nil chan)"];
        let found = find(&memory(&words), &(0x1000..0x3000));
        assert_eq!(found.iter().map(|word| &**word).collect::<Vec<_>>(), words);
    }

    #[test]
    fn the_words_of_every_version_fit() {
        const MEASURED: &str = include_str!("../../tests/fixtures/go/wait-reasons.json");
        let all: std::collections::BTreeMap<String, Vec<String>> = serde_json::from_str(MEASURED).unwrap();
        assert_eq!(all.len(), 8);
        for (minor, words) in all {
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let found = find(&memory(&words), &(0x1000..0x3000));
            assert!(found.iter().map(|word| &**word).eq(words), "1.{minor}: {found:?}");
        }
    }

    #[test]
    fn words_that_are_none_end_them() {
        let found = find(&memory(&["", "GC assist marking", "IO\x1b[31m", "select"]), &(0x1000..0x3000));
        assert_eq!(found.len(), 2);
        let many: Vec<_> = ["", "GC assist marking"].into_iter().chain(std::iter::repeat_n("x", 500)).collect();
        assert!(find(&memory(&many), &(0x1000..0x3000)).len() as u64 <= MAX_REASONS);
        assert!(find(&memory(&["", "something else"]), &(0x1000..0x3000)).is_empty());
    }
}
