//! The table in which HotSpot says where the fields of its structures lie.
//!
//! It is there for the serviceability agent, in every build, and as old as that.
//! Source: <https://github.com/openjdk/jdk/blob/jdk-17%2B35/src/hotspot/share/runtime/vmStructs.hpp#L57>

use std::collections::HashMap;

use object::{Object, ObjectSegment, ObjectSymbol, read::elf::ElfFile64};

use crate::{
    target::{
        MappedFile,
        elf::{Elf, Segment},
        file::TargetFile,
    },
    target::{Memory, Piece},
};

/// An entry: type's name, field's name, field's type, whether static (and padding), offset, address.
const FIELD: usize = 48;
/// An entry of the table of types: name, superclass, three flags (and padding), size.
const TYPE: usize = 40;
/// Most entries; there are some 2,500.
const MOST: usize = 1 << 14;
/// Longest name that is compared, its end included.
const NAME: usize = 48;
/// Most segments and exported symbols that are looked at.
const MOST_SEGMENTS: usize = 64;
const MOST_SYMBOLS: usize = 1 << 16;

/// What is in the table, as far as it was wanted.
pub(super) struct Structs {
    /// By type and field: its offset, and its address if it is static.
    fields: HashMap<(&'static str, &'static str), (u64, u64)>,
    sizes: HashMap<&'static str, u64>,
}

impl Structs {
    /// Reads the fields and the sizes of types that are wanted; what is not there is left out.
    pub(super) fn read(
        file: &MappedFile,
        memory: &impl Memory,
        fields: &[(&'static str, &'static str)],
        types: &[&'static str],
    ) -> Result<Self, String> {
        let names = [
            "gHotSpotVMStructs",
            "gHotSpotVMTypes",
            "gHotSpotVMStructEntryArrayStride",
            "gHotSpotVMTypeEntryArrayStride",
        ];
        let exported = exported(file, names).map_err(|error| format!("{}: {error}", file.path))?;
        let [structs, table_of_types, stride, type_stride] =
            exported.map(|address| address.and_then(|address| word(memory, address)));
        if (stride, type_stride) != (Some(FIELD as u64), Some(TYPE as u64)) {
            return Err(format!("{} does not describe its structures as HotSpot does", file.path));
        }
        let mut read = Self { fields: HashMap::new(), sizes: HashMap::new() };
        let entries = entries(memory, structs, FIELD);
        let of = strings(memory, entries.iter().map(|entry| word_of(entry, 0)));
        let named = strings(memory, entries.iter().map(|entry| word_of(entry, 8)));
        for ((entry, of), named) in entries.iter().zip(of).zip(named) {
            if let Some(key) = fields.iter().find(|(kind, field)| is(&of, kind) && is(&named, field)) {
                read.fields.insert(*key, (word_of(entry, 32), word_of(entry, 40)));
            }
        }
        let entries = self::entries(memory, table_of_types, TYPE);
        let named = strings(memory, entries.iter().map(|entry| word_of(entry, 0)));
        for (entry, named) in entries.iter().zip(named) {
            if let Some(key) = types.iter().find(|kind| is(&named, kind)) {
                read.sizes.insert(key, word_of(entry, 32));
            }
        }
        Ok(read)
    }

    /// Where a field lies in its structure.
    pub(super) fn offset(&self, of: &'static str, field: &'static str) -> Result<u64, String> {
        // No structure of a JVM is larger.
        let known = self.fields.get(&(of, field)).filter(|(offset, _)| *offset < 1 << 16);
        known.map(|(offset, _)| *offset).ok_or_else(|| format!("no {of}::{field}"))
    }

    /// Where a static field lies in memory.
    pub(super) fn address(&self, of: &'static str, field: &'static str) -> Result<u64, String> {
        self.fields.get(&(of, field)).map(|(_, address)| *address).ok_or_else(|| format!("no {of}::{field}"))
    }

    /// How large a type is.
    pub(super) fn size(&self, of: &'static str) -> Result<u64, String> {
        self.sizes.get(of).copied().filter(|size| *size < 1 << 16).ok_or_else(|| format!("no {of}"))
    }
}

/// Where exported variables lie in memory.
fn exported<const N: usize>(file: &MappedFile, names: [&str; N]) -> object::read::Result<[Option<u64>; N]> {
    let content = TargetFile::new(&file.handle, &file.path, &file.budget);
    let elf: ElfFile64<'_, object::Endianness, _> = ElfFile64::parse(&content)?;
    let segments = elf.segments().take(MOST_SEGMENTS).map(|segment| {
        let (file_offset, file_size) = segment.file_range();
        Segment { file_offset, file_size, svma: segment.address(), executable: true }
    });
    let bias = Elf { segments: segments.collect(), ..Elf::default() }.bias(file.start, file.offset);
    let mut found = [None; N];
    for symbol in elf.dynamic_symbols().take(MOST_SYMBOLS) {
        if let (Ok(name), Some(bias)) = (symbol.name(), bias)
            && let Some(place) = names.iter().position(|wanted| *wanted == name)
        {
            found[place] = Some(symbol.address().wrapping_add(bias));
        }
    }
    Ok(found)
}

/// The entries of a table that ends with one whose first word is null.
fn entries(memory: &impl Memory, table: Option<u64>, size: usize) -> Vec<Vec<u8>> {
    let mut bytes = vec![0; size * MOST];
    let read = table.map_or(0, |table| memory.read(table, &mut bytes));
    let whole = bytes.get(..read).unwrap_or_default().chunks_exact(size);
    whole.take_while(|entry| word_of(entry, 0) != 0).map(<[u8]>::to_vec).collect()
}

fn strings(memory: &impl Memory, addresses: impl Iterator<Item = u64>) -> Vec<Vec<u8>> {
    let pieces: Vec<Piece> = addresses.map(|address| Piece { address, len: NAME }).collect();
    let mut bytes = vec![0; NAME * pieces.len()];
    let lengths = memory.read_all(&pieces, &mut bytes);
    bytes.chunks(NAME).zip(lengths).map(|(piece, read)| piece.get(..read).unwrap_or_default().to_vec()).collect()
}

/// Whether memory holds this name and its end.
fn is(memory: &[u8], name: &str) -> bool {
    memory.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
}

/// A word in memory.
pub(super) fn word(memory: &impl Memory, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    (memory.read(address, &mut bytes) == bytes.len()).then(|| u64::from_le_bytes(bytes))
}

/// A word in what was read; 0 if it is not there.
pub(super) fn word_of(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word))
}
