//! What reads bytes that others made, by name, for `cargo xtask fuzz`. Nothing here is part of a build that is given out.
//!
//! Each takes any bytes and must neither panic nor take long, nor more memory than a few times as much as they have.

use crate::{config, go, jvm, probes, report, snapshot, symbols, target};

/// A reader to fuzz.
pub type Reader = fn(&[u8]);

/// All of them, by name.
pub const READERS: [(&str, Reader); 13] = [
    ("recording", report::fuzz::recording),
    ("unwind", snapshot::fuzz::unwind),
    ("symbols", symbols::fuzz::symbols),
    ("inflate", target::fuzz::inflate),
    ("pclntab", go::fuzz::pclntab),
    ("moduledata", go::fuzz::moduledata),
    ("hotspot", jvm::fuzz::hotspot),
    ("btf", probes::fuzz::btf),
    ("records", probes::fuzz::records),
    ("perfmap", symbols::fuzz::perf_map),
    ("config", config::fuzz),
    ("proc", proc_texts),
    ("sock_diag", snapshot::fuzz::sock_diag),
];

/// Texts of /proc; the first byte chooses which.
fn proc_texts(data: &[u8]) {
    let Some((&which, text)) = data.split_first() else { return };
    match which % 3 {
        0 => target::fuzz::proc_texts(text),
        1 => snapshot::fuzz::proc_texts(text),
        _ => probes::fuzz::proc_texts(text),
    }
}

/// Memory from an address on.
pub(crate) struct Flat<'a> {
    pub(crate) start: u64,
    pub(crate) bytes: &'a [u8],
}

impl snapshot::Memory for Flat<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        let at = address.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        let there = at.and_then(|at| self.bytes.get(at..)).unwrap_or_default();
        let len = there.len().min(into.len());
        into[..len].copy_from_slice(&there[..len]);
        len
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        time::{Duration, Instant},
    };

    use super::*;

    /// Numbers that look random, the same ones each time.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self, below: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % below.max(1)
        }
    }

    /// What is made of each seed at least, and for how long more is made of a reader's seeds.
    const AT_LEAST: usize = 20;
    const LASTING: Duration = Duration::from_secs(1);

    #[test]
    fn the_corpus_and_what_is_close_to_it_do_no_harm() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (name, read) in READERS {
            let mut seeds: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().map(|seed| seed.unwrap().path()).collect();
            assert!(!seeds.is_empty(), "{name} has no corpus");
            seeds.sort();
            let seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| fs::read(seed).unwrap()).collect();
            seeds.iter().for_each(|seed| read(seed));
            let (mut numbers, began) = (Numbers(1), Instant::now());
            for round in 0.. {
                if round >= AT_LEAST && began.elapsed() > LASTING {
                    break;
                }
                // Shown if it fails; the numbers are the same each time.
                println!("{name}, round {round}");
                seeds.iter().for_each(|seed| read(&changed(seed, &mut numbers)));
            }
        }
    }

    fn changed(seed: &[u8], numbers: &mut Numbers) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=numbers.next(4) {
            let at = numbers.next(bytes.len());
            let value = [0, 1, 0x7f, 0x80, 0xff, numbers.next(256) as u8][numbers.next(6)];
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if numbers.next(4) == 0 {
            bytes.truncate(numbers.next(bytes.len()));
        }
        bytes
    }
}
