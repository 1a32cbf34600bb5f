//! Compressed sections, and texts of /proc.

use std::{io, ops::ControlFlow};

use object::elf::{ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD};

use super::{Stat, groups, inflate::Compressed, maps};

/// Inflates a stream; in front of it are its kind, and what it claims in KiB.
pub(crate) fn inflate(data: &[u8]) {
    let Some((&[kind, claimed], stream)) = data.split_first_chunk() else { return };
    let kind = if kind & 1 == 0 { ELFCOMPRESS_ZLIB } else { ELFCOMPRESS_ZSTD };
    let claimed = u64::from(claimed) << 10;
    let section = Compressed { kind, offset: 0, length: stream.len() as u64, claimed };
    let mut bytes = Vec::new();
    let is_whole = section.inflate(stream, &mut bytes).is_ok();
    assert!(bytes.len() as u64 <= claimed && (!is_whole || bytes.len() as u64 == claimed));
    let _ = section.inflate(stream, &mut io::sink());
}

/// Reads lists of mappings, states of threads, and control groups.
pub(crate) fn proc_texts(text: &[u8]) {
    let _ = maps::read(text, |_| ControlFlow::Continue(()));
    let _ = Stat::parse(text);
    let _ = groups::paths(&String::from_utf8_lossy(text));
}
