//! What symbolisation needs to know of an ELF file, read from the file or from memory.
//!
//! Files are read, not mapped: a mapped file that its owner truncates would kill us with SIGBUS.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use object::{
    CompressedData, CompressionFormat, Endianness, FileKind, ReadRef, elf,
    read::elf::{CompressionHeader, FileHeader, SectionHeader},
};

use super::symtab::Search;

/// More sections than any linker makes; each costs a read for its name.
const MOST_SECTIONS: u32 = 1 << 16;

/// The largest symbol table that is read into memory; Chromium's with all local symbols has some 50 MiB.
const LARGEST_TABLE: u64 = 512 << 20;

/// DEFLATE cannot make more than this of one byte (<https://zlib.net/zlib_tech.html>, "Maximum Compression Factor").
const MOST_INFLATION: u64 = 1032;

/// Opens a regular file. The path may come from the target, which could have put a FIFO there to stop us.
pub(super) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(io::Error::other("not a regular file")) }
}

/// What a file says about debug information.
#[derive(Default)]
pub(super) struct Facts {
    /// Identifies the build: the same in a file and in the debug information split from it.
    pub(super) build_id: Option<Vec<u8>>,
    /// Name of the file that holds the split debug information.
    pub(super) debug_link: Option<Vec<u8>>,
    /// DWARF in this file.
    pub(super) dwarf: Dwarf,
}

/// Whether a file has DWARF that can be used.
#[derive(Default)]
pub(super) enum Dwarf {
    #[default]
    Absent,
    Present,
    /// Present, but for this reason not to be read.
    Refused(String),
}

/// Reads a file's facts, and looks addresses up in its symbol tables on the way.
///
/// `largest_dwarf` is the most bytes of debug information that are accepted, after decompression.
pub(super) fn read<'data, R: ReadRef<'data>>(
    data: R,
    largest_dwarf: u64,
    search: &mut Search<'_>,
) -> Result<Facts, String> {
    match FileKind::parse(data) {
        Ok(FileKind::Elf64) => read_class::<elf::FileHeader64<Endianness>, R>(data, largest_dwarf, search),
        Ok(FileKind::Elf32) => read_class::<elf::FileHeader32<Endianness>, R>(data, largest_dwarf, search),
        Ok(_) | Err(_) => return Err("not an ELF file".to_owned()),
    }
    .map_err(|error| error.to_string())
}

fn read_class<'data, E, R>(data: R, largest_dwarf: u64, search: &mut Search<'_>) -> object::read::Result<Facts>
where
    E: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = E::parse(data)?;
    let endian = header.endian()?;
    if header.shnum(endian, data)? > MOST_SECTIONS {
        search.corrupt = Some("too many sections".to_owned());
        return Ok(Facts::default());
    }
    let sections = header.sections(endian, data)?;
    let mut facts = Facts::default();
    let mut dwarf = DwarfSize::default();
    for (index, section) in sections.enumerate() {
        let kind = section.sh_type(endian);
        if kind == elf::SHT_SYMTAB || kind == elf::SHT_DYNSYM {
            if section.sh_size(endian).into() > LARGEST_TABLE {
                search.corrupt = Some("symbol table is too large".to_owned());
                continue;
            }
            match sections.symbol_table_by_index(endian, data, index) {
                Ok(table) => search.scan(endian, &sections, &table, kind == elf::SHT_DYNSYM),
                Err(error) => search.corrupt = Some(error.to_string()),
            }
        } else if kind == elf::SHT_NOTE {
            facts.build_id = facts.build_id.or_else(|| build_id(endian, data, section));
        } else if kind != elf::SHT_NOBITS {
            match sections.section_name(endian, section).unwrap_or_default() {
                b".gnu_debuglink" => facts.debug_link = debug_link(endian, data, section),
                name if name.starts_with(b".debug_") => {
                    dwarf.add(endian, data, section, name, largest_dwarf);
                }
                _ => {}
            }
        }
    }
    facts.dwarf = dwarf.verdict(largest_dwarf);
    Ok(facts)
}

fn build_id<'data, S, R>(endian: Endianness, data: R, section: &S) -> Option<Vec<u8>>
where
    S: SectionHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    // A note section of an honest file has some hundred bytes.
    if section.sh_size(endian).into() > 1 << 20 {
        return None;
    }
    let mut notes = section.notes(endian, data).ok()??;
    while let Some(note) = notes.next().ok()? {
        if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
            return Some(note.desc().to_vec());
        }
    }
    None
}

fn debug_link<'data, S, R>(endian: Endianness, data: R, section: &S) -> Option<Vec<u8>>
where
    S: SectionHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    if section.sh_size(endian).into() > 4096 {
        return None;
    }
    let data = section.data(endian, data).ok()?;
    // A name, ended by zero; then padding and a checksum, for which the build id stands in.
    data.split(|&byte| byte == 0).next().map(<[u8]>::to_vec)
}

/// Adds up how much memory the debug information of a file takes.
#[derive(Default)]
struct DwarfSize {
    total: u64,
    info: bool,
    refused: Option<String>,
}

impl DwarfSize {
    fn add<'data, S, R>(&mut self, endian: Endianness, data: R, section: &S, name: &[u8], largest: u64)
    where
        S: SectionHeader<Endian = Endianness>,
        R: ReadRef<'data>,
    {
        let stored: u64 = section.sh_size(endian).into();
        self.info |= name == b".debug_info" && stored > 0;
        let size = match section.compression(endian, data) {
            Ok(None) => stored,
            Ok(Some((header, offset, length))) => {
                let declared: u64 = header.ch_size(endian).into();
                // The declared size is only a claim, and blazesym inflates without limit. What cannot exceed the limit
                // whatever it claims needs no check; the rest is inflated once, up to the claim, to see.
                // https://github.com/libbpf/blazesym/blob/v0.2.7/src/elf/parser.rs#L281
                if header.ch_type(endian) == elf::ELFCOMPRESS_ZLIB
                    && declared <= largest
                    && length.saturating_mul(MOST_INFLATION) > largest
                    && let Err(why) = inflate(data, offset, length, declared)
                {
                    self.refused = Some(why);
                }
                declared
            }
            Err(error) => {
                self.refused = Some(error.to_string());
                stored
            }
        };
        self.total = self.total.saturating_add(size);
    }

    fn verdict(self, largest: u64) -> Dwarf {
        match self.refused {
            _ if !self.info => Dwarf::Absent,
            Some(why) => Dwarf::Refused(format!("debug information is corrupt: {why}")),
            None if self.total > largest => Dwarf::Refused(format!(
                "debug information of {} MiB is larger than the limit of {} MiB",
                self.total >> 20,
                largest >> 20
            )),
            None => Dwarf::Present,
        }
    }
}

fn inflate<'data, R: ReadRef<'data>>(data: R, offset: u64, length: u64, declared: u64) -> Result<(), String> {
    let data = data.read_bytes_at(offset, length).map_err(|()| "section is cut off".to_owned())?;
    let compressed = CompressedData { format: CompressionFormat::Zlib, data, uncompressed_size: declared };
    compressed.decompress().map(|_| ()).map_err(|error| error.to_string())
}
