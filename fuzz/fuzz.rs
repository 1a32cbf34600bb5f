//! Runs the reader that `LEAKPROBE_FUZZ` names on what libFuzzer makes up.
#![no_main]

use std::sync::LazyLock;

use leakprobe::fuzzing::{READERS, Reader};

static READER: LazyLock<Reader> = LazyLock::new(|| {
    let wanted = std::env::var("LEAKPROBE_FUZZ").unwrap_or_default();
    let found = READERS.iter().find(|(name, _)| *name == wanted);
    found.map_or_else(|| panic!("LEAKPROBE_FUZZ must name a reader, not {wanted:?}"), |(_, reader)| *reader)
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| READER(data));
