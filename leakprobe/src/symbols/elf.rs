//! What symbolisation needs to know of an ELF file, read from the file or from memory.
//!
//! Files are read, not mapped: a mapped file that its owner truncates would kill us with SIGBUS.

use std::{
    ffi::OsStr,
    fs::{File, Metadata},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use object::{
    Endianness, FileKind, ReadRef, elf,
    read::elf::{CompressionHeader, FileHeader, SectionHeader},
};

use super::symtab::Search;
use crate::target::open_regular;

/// More sections than any linker makes; each costs a read for its name.
const MOST_SECTIONS: u32 = 1 << 16;

/// The largest symbol table that is read into memory; Chromium's with all local symbols has some 50 MiB.
const LARGEST_TABLE: u64 = 512 << 20;

/// Opens a regular file, and nothing else: the path may come from the target, which could have put a FIFO there to stop us.
pub(super) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = open_regular(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// What a file says about debug information.
#[derive(Default)]
pub(super) struct Facts {
    /// Identifies the build: the same in a file and in the debug information split from it.
    pub(super) build_id: Option<Vec<u8>>,
    /// The file that holds the split debug information.
    pub(super) debug_link: Option<DebugLink>,
    /// Where `.gnu_debugdata` lies in the file, and how long it is: a compressed ELF file that holds a symbol table.
    pub(super) debug_data: Option<(u64, u64)>,
    /// The file that holds what several debug files share.
    pub(super) alt_link: Option<AltLink>,
    /// DWARF in this file.
    pub(super) dwarf: Dwarf,
}

/// `.gnu_debugaltlink`, made by dwz.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AltLink {
    /// Where it is: absolute, or beside this file.
    pub(super) path: PathBuf,
    /// Its build id.
    pub(super) build_id: Vec<u8>,
}

/// `.gnu_debuglink`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DebugLink {
    /// Its name, without a directory.
    pub(super) name: Vec<u8>,
    /// The CRC-32 of its content; `None` if the section ends before it.
    pub(super) crc: Option<u32>,
}

/// How much debug information of one file is accepted, bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Largest {
    /// In all, after decompression.
    pub(super) total: u64,
    /// What is compressed, after decompression: that is held in memory, the rest is read where it lies.
    pub(super) inflated: u64,
}

/// Whether a file has DWARF that can be used.
#[derive(Default)]
pub(super) enum Dwarf {
    #[default]
    Absent,
    /// It can be read as it lies in the file.
    Present,
    /// It can be read from a copy: of compressed sections, or without links to other files.
    ToCopy,
    /// Present, but for this reason not to be read.
    Refused(String),
}

/// Reads a file's facts, and looks addresses up in its symbol tables on the way. Without limits nothing is found out about DWARF.
pub(super) fn read<'data, R: ReadRef<'data>>(
    data: R,
    largest: Option<Largest>,
    search: &mut Search<'_>,
) -> Result<Facts, String> {
    match FileKind::parse(data) {
        Ok(FileKind::Elf64) => read_class::<elf::FileHeader64<Endianness>, R>(data, largest, search),
        Ok(FileKind::Elf32) => read_class::<elf::FileHeader32<Endianness>, R>(data, largest, search),
        Ok(_) | Err(_) => return Err("not an ELF file".to_owned()),
    }
    .map_err(|error| error.to_string())
}

fn read_class<'data, E, R>(data: R, largest: Option<Largest>, search: &mut Search<'_>) -> object::read::Result<Facts>
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
    let (mut has_symtab, mut has_dynsym) = (false, false);
    for (index, section) in sections.enumerate() {
        let kind = section.sh_type(endian);
        if kind == elf::SHT_SYMTAB || kind == elf::SHT_DYNSYM {
            // There is one of each (elf(5)); more of them would make a small file a large one.
            let seen = if kind == elf::SHT_SYMTAB { &mut has_symtab } else { &mut has_dynsym };
            if std::mem::replace(seen, true) {
                search.corrupt = Some("more than one symbol table".to_owned());
                continue;
            }
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
                b".gnu_debuglink" => {
                    dwarf.to_copy = true;
                    facts.debug_link = debug_link(endian, data, section);
                }
                b".gnu_debugaltlink" => {
                    dwarf.to_copy = true;
                    facts.alt_link = alt_link(endian, data, section);
                }
                b".debug_sup" => dwarf.to_copy = true,
                b".gnu_debugdata" => {
                    facts.debug_data = Some((section.sh_offset(endian).into(), section.sh_size(endian).into()));
                }
                name if largest.is_some() && name.starts_with(b".debug_") => {
                    dwarf.add(endian, data, section, name);
                }
                _ => {}
            }
        }
    }
    facts.dwarf = largest.map(|largest| dwarf.verdict(largest)).unwrap_or_default();
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

fn debug_link<'data, S, R>(endian: Endianness, data: R, section: &S) -> Option<DebugLink>
where
    S: SectionHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    if section.sh_size(endian).into() > 4096 {
        return None;
    }
    // A name, ended by zero; zeros up to the next word; the checksum.
    // https://sourceware.org/gdb/current/onlinedocs/gdb.html/Separate-Debug-Files.html
    let data = section.data(endian, data).ok()?;
    let name = data.split(|&byte| byte == 0).next()?.to_vec();
    let crc = data.get((name.len() + 1).next_multiple_of(4)..).and_then(|rest| rest.first_chunk::<4>());
    let crc = crc.map(|bytes| match endian {
        Endianness::Little => u32::from_le_bytes(*bytes),
        Endianness::Big => u32::from_be_bytes(*bytes),
    });
    Some(DebugLink { name, crc })
}

fn alt_link<'data, S, R>(endian: Endianness, data: R, section: &S) -> Option<AltLink>
where
    S: SectionHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    if section.sh_size(endian).into() > 8192 {
        return None;
    }
    // A path, ended by zero; the build id of what lies there.
    let data = section.data(endian, data).ok()?;
    let end = data.iter().position(|&byte| byte == 0)?;
    let (path, build_id) = (data.get(..end)?, data.get(end + 1..)?);
    Some(AltLink { path: OsStr::from_bytes(path).into(), build_id: build_id.to_vec() })
}

/// Adds up how much memory the debug information of a file takes. What compressed sections claim is checked when they are
/// inflated.
#[derive(Default)]
struct DwarfSize {
    total: u64,
    inflated: u64,
    info: bool,
    to_copy: bool,
    corrupt: Option<String>,
}

impl DwarfSize {
    fn add<'data, S, R>(&mut self, endian: Endianness, data: R, section: &S, name: &[u8])
    where
        S: SectionHeader<Endian = Endianness>,
        R: ReadRef<'data>,
    {
        let stored: u64 = section.sh_size(endian).into();
        self.info |= name == b".debug_info" && stored > 0;
        let size = match section.compression(endian, data) {
            Ok(None) => stored,
            Ok(Some((header, ..))) => {
                let claimed: u64 = header.ch_size(endian).into();
                self.inflated = self.inflated.saturating_add(claimed);
                self.to_copy = true;
                claimed
            }
            Err(error) => {
                self.corrupt = Some(error.to_string());
                stored
            }
        };
        self.total = self.total.saturating_add(size);
    }

    fn verdict(self, largest: Largest) -> Dwarf {
        let too_large = |what: &str, size: u64, limit: u64| {
            Dwarf::Refused(format!("{what} of {} MiB is larger than the limit of {} MiB", size >> 20, limit >> 20))
        };
        match self.corrupt {
            _ if !self.info => Dwarf::Absent,
            Some(why) => Dwarf::Refused(format!("debug information is corrupt: {why}")),
            None if self.total > largest.total => too_large("debug information", self.total, largest.total),
            None if self.inflated > largest.inflated => {
                too_large("compressed debug information", self.inflated, largest.inflated)
            }
            None if self.to_copy => Dwarf::ToCopy,
            None => Dwarf::Present,
        }
    }
}
