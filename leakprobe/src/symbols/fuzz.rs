//! Symbol tables and debug information of ELF files, names, perf maps.

use std::io::Cursor;

use super::{debugdata, dwarf::copy::DwarfCopy, elf, name, perfmap::PerfMap, symtab::Search};
use crate::{pool::Pool, target};

/// Reads an ELF file as for symbols.
pub(crate) fn symbols(data: &[u8]) {
    let segments = target::elf::Elf::read_image(data).map(|elf| elf.segments).unwrap_or_default();
    let mut addresses: Vec<u64> =
        segments.iter().take(16).flat_map(|segment| [segment.svma, segment.svma.wrapping_add(0x1008)]).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let mut search = Search::new(&addresses);
    let facts = elf::read(data, Some(elf::Largest { total: 64 << 20, inflated: 16 << 20 }), &mut search);
    for symbol in search.finish().into_iter().flatten() {
        let _ = name::readable(&symbol.name);
    }
    let Ok(facts) = facts else { return };
    if let Some(place) = facts.debug_data {
        let _ = debugdata::inflate_to(data, place, 16 << 20);
    }
    if matches!(facts.dwarf, elf::Dwarf::ToCopy) {
        let _ = DwarfCopy::read(data, None);
    }
}

/// Reads a perf map, twice.
pub(crate) fn perf_map(data: &[u8]) {
    let mut map = PerfMap::within(&Pool::new(1 << 20));
    let _ = map.look_up(Cursor::new(data), &[0, 0x1000, 0x7f00_0000_1000, u64::MAX]);
    let _ = map.look_up(Cursor::new(data), &[5, 0x1000]);
    let _ = name::readable(data);
}
