//! Debug information for a library that must not read the file that it lies in.
//!
//! blazesym inflates compressed sections however much comes out of them, and opens the files that links in a file name, whatever
//! lies there. So of a file with either, the helper gets a copy that we have made: in memory, with the debug sections inflated as far as
//! they claim and no further, and with no link but to another such copy.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    os::unix::fs::FileExt,
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use object::{
    Endianness, FileKind, elf,
    read::elf::{CompressionHeader, FileHeader, SectionHeader},
};

use crate::{
    pool::Held,
    target::{
        Budget,
        file::{Content, TargetFile},
        inflate::Compressed,
    },
};

/// Most sections that are copied; an honest file has some 15.
const MOST_SECTIONS: usize = 64;
/// Bytes that are copied at a time.
const PIECE: usize = 64 << 10;
/// The section that names another file, by the path of its descriptor.
pub(super) const ALT_LINK: &str = ".gnu_debugaltlink";
/// Symbols, by which blazesym names code that DWARF has lines but no function for.
const SYMBOLS: [&str; 2] = [".symtab", ".strtab"];
/// What tells nothing of functions and lines: values of variables, macros, and indexes for debuggers.
const UNUSED: [&str; 9] = [
    ".debug_sup",
    ".debug_loc",
    ".debug_loclists",
    ".debug_macro",
    ".debug_macinfo",
    ".debug_pubnames",
    ".debug_pubtypes",
    ".debug_gnu_pubnames",
    ".debug_gnu_pubtypes",
];
/// By which blazesym knows again what a link leads to.
const BUILD_ID: &str = ".note.gnu.build-id";

/// A copy of a file's debug information.
pub(in super::super) struct DwarfCopy {
    pub(super) file: File,
    /// The memory that it takes.
    pub(super) held: Option<Held>,
}

/// What a copy refers to in another one.
#[derive(Clone, Copy)]
pub(in super::super) struct Link<'a> {
    /// The other one's descriptor, where the copy is read.
    pub(super) to: i32,
    pub(super) build_id: &'a [u8],
}

impl DwarfCopy {
    /// Copies the debug sections of a file, which is reported by this name.
    pub(super) fn of(file: &File, name: &str, budget: &Budget, link: Option<Link<'_>>) -> Result<Self, String> {
        let content = TargetFile::new(file, name, budget);
        let result = Self::read(&content, link);
        result.map_err(|why| match content.scarce() {
            Some(scarce) => format!("{} is used up", budget.what(scarce)),
            None => why,
        })
    }

    pub(in super::super) fn read<'data>(data: impl Content<'data>, link: Option<Link<'_>>) -> Result<Self, String> {
        let sections = match FileKind::parse(data) {
            Ok(FileKind::Elf64) => sections::<elf::FileHeader64<Endianness>>(data),
            Ok(FileKind::Elf32) => sections::<elf::FileHeader32<Endianness>>(data),
            _ => return Err("it is not an ELF file".to_owned()),
        }
        .map_err(|error| error.to_string())?;
        let size = sections.iter().fold(0u64, |sum, section| sum.saturating_add(section.size()));
        let held = data.hold(size).map_err(|()| "there is not enough memory for it".to_owned())?;
        let failed = |error: io::Error| error.to_string();
        let file = memfd_create("debug information", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from).map_err(failed)?;
        let file = File::from(file);
        let mut writer = Writer::new(&file).map_err(failed)?;
        for section in &sections {
            writer.section(&section.name, section.kind, section.entry_size, |into| section.copy(data, into))?;
        }
        if let Some(Link { to, build_id }) = link {
            let link = [format!("/proc/self/fd/{to}\0").as_bytes(), build_id].concat();
            let write = |into: &mut Counted<'_, _>| into.write_all(&link).map_err(|error| error.to_string());
            writer.section(ALT_LINK, elf::SHT_PROGBITS, 0, write)?;
        }
        writer.finish()?;
        Ok(Self { file, held })
    }
}

/// A section to copy.
struct Section {
    name: String,
    kind: elf::SectionType,
    entry_size: u64,
    offset: u64,
    length: u64,
    compressed: Option<Compressed>,
}

impl Section {
    fn size(&self) -> u64 {
        self.compressed.map_or(self.length, |compressed| compressed.claimed)
    }

    fn copy<'data>(&self, data: impl Content<'data>, into: &mut impl Write) -> Result<(), String> {
        let failed = |why: String| format!("its {}: {why}", self.name);
        if let Some(compressed) = self.compressed {
            return compressed.inflate(data, into).map_err(failed);
        }
        let mut piece = vec![0; PIECE];
        let (mut at, mut left) = (self.offset, self.length);
        while left > 0 {
            let len = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            let piece = piece.get_mut(..len).unwrap_or_default();
            data.copy_at(at, piece).map_err(|()| failed("it is cut off".to_owned()))?;
            into.write_all(piece).map_err(|error| failed(error.to_string()))?;
            (at, left) = (at + len as u64, left - len as u64);
        }
        Ok(())
    }
}

/// The sections of a file that are to be copied; none that is there twice.
fn sections<'data, E>(data: impl Content<'data>) -> object::read::Result<Vec<Section>>
where
    E: FileHeader<Endian = Endianness>,
{
    let header = E::parse(data)?;
    let endian = header.endian()?;
    let table = header.sections(endian, data)?;
    let mut found: Vec<Section> = Vec::new();
    for section in table.iter() {
        let kind = section.sh_type(endian);
        let Ok(name) = str::from_utf8(table.section_name(endian, section).unwrap_or_default()) else { continue };
        // Symbols of 32-bit files have another form than those of the copy.
        let is_symbols = SYMBOLS.contains(&name) && header.is_type_64();
        let is_debug = name.starts_with(".debug_") && !UNUSED.contains(&name) || name == BUILD_ID;
        let is_known = found.iter().any(|known| known.name == name);
        if !(is_debug || is_symbols) || kind == elf::SHT_NOBITS || is_known || found.len() >= MOST_SECTIONS {
            continue;
        }
        let compressed = section.compression(endian, data)?.map(|(header, offset, length)| Compressed {
            kind: header.ch_type(endian),
            offset,
            length,
            claimed: header.ch_size(endian).into(),
        });
        found.push(Section {
            name: name.to_owned(),
            kind,
            entry_size: section.sh_entsize(endian).into(),
            offset: section.sh_offset(endian).into(),
            length: section.sh_size(endian).into(),
            compressed,
        });
    }
    Ok(found)
}

/// Bytes of the header of a file, and of that of a section, of 64-bit ELF.
const HEADER: usize = 64;

/// Writes an ELF file of sections alone. Format: <https://gabi.xinuos.com/elf/02-eheader.html>
struct Writer<'file> {
    file: &'file File,
    out: BufWriter<&'file File>,
    /// Bytes written so far.
    at: u64,
    headers: Vec<[u8; HEADER]>,
    names: Vec<u8>,
}

impl<'file> Writer<'file> {
    fn new(file: &'file File) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(PIECE, file);
        // The header of the file comes when it is known what follows.
        out.write_all(&[0; HEADER])?;
        Ok(Self { file, out, at: HEADER as u64, headers: vec![[0; HEADER]], names: vec![0] })
    }

    /// Adds a section whose content `write` writes.
    fn section(
        &mut self,
        name: &str,
        kind: elf::SectionType,
        entry_size: u64,
        write: impl FnOnce(&mut Counted<'_, BufWriter<&'file File>>) -> Result<(), String>,
    ) -> Result<(), String> {
        self.align().map_err(|error| error.to_string())?;
        let mut counted = Counted { out: &mut self.out, count: 0 };
        write(&mut counted)?;
        let size = counted.count;
        let words = [0, 0, self.at, size, 0, 8, entry_size].map(u64::to_le_bytes);
        let mut header = [0; HEADER];
        let name_at = u32::try_from(self.names.len()).map_err(|error| error.to_string())?;
        let parts = name_at.to_le_bytes().into_iter().chain(kind.0.to_le_bytes()).chain(words.into_iter().flatten());
        header.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
        self.headers.push(header);
        self.names.extend_from_slice(name.as_bytes());
        self.names.push(0);
        self.at += size;
        Ok(())
    }

    /// Adds the names and the headers.
    fn finish(mut self) -> Result<(), String> {
        let mut names = self.names.clone();
        names.extend_from_slice(b".shstrtab\0");
        self.section(".shstrtab", elf::SHT_STRTAB, 0, |into| {
            into.write_all(&names).map_err(|error| error.to_string())
        })?;
        self.write_headers().map_err(|error| error.to_string())
    }

    fn write_headers(&mut self) -> io::Result<()> {
        self.align()?;
        self.out.write_all(self.headers.as_flattened())?;
        self.out.flush()?;
        let count = u16::try_from(self.headers.len()).map_err(io::Error::other)?;
        let half = |place: usize, value: u16| (place, value.to_le_bytes());
        let mut header = [0; HEADER];
        // Magic number, 64-bit, little-endian, version 1; as on every machine that leakprobe runs on.
        if let Some(ident) = header.first_chunk_mut() {
            *ident = *b"\x7fELF\x02\x01\x01";
        }
        let halves =
            [half(16, elf::ET_EXEC.0), half(20, 1), half(52, 64), half(58, 64), half(60, count), half(62, count - 1)];
        for (place, bytes) in halves {
            header[place..place + 2].copy_from_slice(&bytes);
        }
        header[40..48].copy_from_slice(&self.at.to_le_bytes());
        self.file.write_all_at(&header, 0)
    }

    fn align(&mut self) -> io::Result<()> {
        let gap = self.at.next_multiple_of(8) - self.at;
        self.at += gap;
        io::copy(&mut io::repeat(0).take(gap), &mut self.out).map(drop)
    }
}

/// Counts what is written.
struct Counted<'a, W> {
    out: &'a mut W,
    count: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
