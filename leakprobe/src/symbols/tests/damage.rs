//! Damaged files: cut off, and with bytes changed.

use std::{fs, path::Path, sync::OnceLock};

use proptest::prelude::*;

use super::*;

/// Resolves addresses of a damaged file by one symbolizer; what matters is that it comes back.
fn survives(symbolizer: &mut Symbolizer, file: &Path, addresses: &[u64]) {
    let lookups: Vec<Lookup> = addresses.iter().copied().map(at).collect();
    let found = symbolizer.resolve(&module(file), &lookups);
    assert!(found.iter().all(|frames| !frames.is_empty()));
    for frame in found.iter().flatten() {
        assert!(frame.function.is_empty() == frame.unknown.is_some(), "{frame:?}");
    }
}

#[test]
fn a_file_cut_anywhere_does_no_harm() {
    let built = c(&["-nostdlib", "-Wl,-emain"]);
    let (start, last) = range(&built.program, "exported");
    let whole = fs::read(&built.program).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for cut in (0..whole.len()).step_by(64) {
        let file = directory.path().join(cut.to_string());
        fs::write(&file, &whole[..cut]).unwrap();
        survives(&mut Symbolizer::new(Options::default()), &file, &[0, start, last, u64::MAX]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: prop::test_runner::RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(8) })]

    /// Several hundred damaged files a case; damage among the headers and the debug information, which come last in the file.
    #[test]
    fn flipped_bytes_do_no_harm(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 200)) {
        static BUILT: OnceLock<Built> = OnceLock::new();
        let built = BUILT.get_or_init(|| c(&["-nostdlib", "-Wl,-emain"]));
        let (start, last) = range(&built.program, "exported");
        let whole = fs::read(&built.program).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut symbolizer = Symbolizer::new(Options { debug_info_timeout: Duration::from_secs(2), ..Options::default() });
        for (number, damage) in flips.chunks(4).enumerate() {
            let mut damaged = whole.clone();
            for (at, value) in damage {
                damaged[at.index(whole.len())] = *value;
            }
            let file = directory.path().join(number.to_string());
            fs::write(&file, &damaged).unwrap();
            survives(&mut symbolizer, &file, &[0, start, last, u64::MAX]);
        }
    }
}
