//! The function table and `moduledata` of Go programs.

use bytes::Bytes;

use super::{
    buildinfo,
    layout::Known,
    moduledata::Moduledata,
    pclntab::{FuncId, Header, Table, Traceback},
};
use crate::fuzzing::Flat;

/// Reads a function table; in front of it are where data of functions begins, and the minor version of Go.
pub(crate) fn pclntab(data: &[u8]) {
    let Some((&[low, high, minor], rest)) = data.split_first_chunk() else { return };
    let bytes = Bytes::copy_from_slice(rest);
    let functions = bytes.slice(usize::from(u16::from_le_bytes([low, high])).min(rest.len())..);
    let _ = Header::candidates(rest).take(4).count();
    let Ok(table) = Table::new(&bytes, 0x40_1000, functions) else { return };
    let rules = Traceback::new(&table, u32::from(minor % 30));
    for function in table.functions().take(64) {
        let (entry, end) = (function.entry(), function.end());
        for pc in [entry, entry.wrapping_add(9), end.wrapping_sub(1)] {
            let _ = (table.find(pc), table.is_entry(pc), function.frame_size_at(pc), function.call_pc(pc));
            for frame in function.frames_at(pc) {
                let _ = rules.shows(&rules.printed(&frame.name), frame.id, false, FuncId::NORMAL);
            }
        }
        let _ = (function.start_line(), function.args_size(), function.is_foreign(), function.flags());
    }
    let _ = table.function_named("x");
}

/// Reads `moduledata`, and the list that it belongs to, and build information, of memory that holds the bytes.
pub(crate) fn moduledata(data: &[u8]) {
    const START: u64 = 0x40_0000;
    let memory = Flat { start: START, bytes: data };
    let known = Known::newest();
    for address in [START, START + 0x400] {
        if let Some(module) = Moduledata::at(&memory, address, &known) {
            let _ = module.chain(&memory, &known);
        }
    }
    let _ = buildinfo::at(&memory, START);
    let _ = buildinfo::find(&memory, &(START..START + data.len() as u64));
}
