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

impl target::Memory for Flat<'_> {
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
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn the_corpus_does_no_harm() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (name, read) in READERS {
            let seeds: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().map(|seed| seed.unwrap().path()).collect();
            assert!(!seeds.is_empty(), "{name} has no corpus");
            for seed in seeds {
                // Shown if it fails.
                println!("{}", seed.display());
                read(&fs::read(seed).unwrap());
            }
        }
    }
}
