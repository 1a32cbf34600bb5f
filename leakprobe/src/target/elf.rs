//! What unwinding needs from an ELF file: where it was linked to lie, and its call frame information.
//!
//! Files are untrusted, and may be cut short while we look: they are read into memory piece by piece, never mapped (a mapped
//! file that shrinks kills the reader with SIGBUS), nothing larger than [`MAX_SECTION`] is read, no byte twice, and all of it on
//! the budget of the run.

use std::ops::Range;

use bytes::Bytes;
use object::{
    Endianness,
    elf::{FileHeader64, PF_X, PT_GNU_EH_FRAME, PT_LOAD},
    read::elf::{CompressionHeader, FileHeader, ProgramHeader, SectionHeader},
};

use super::{
    file::{Content, TargetFile, keep},
    inflate::Compressed,
};

/// Largest section that is read, bytes. The largest known .eh_frame (a browser's) has some 30 MB.
pub const MAX_SECTION: u64 = 256 << 20;
/// Largest section of these that is inflated, bytes: a compressed `.debug_frame` has some 10 MB at most.
const MAX_INFLATED: u64 = 64 << 20;
/// Most loadable segments that are looked at.
const MAX_SEGMENTS: usize = 1024;
/// More program headers, or sections, than any linker makes.
const MAX_HEADERS: usize = 1 << 16;

/// Why an ELF file is of no use.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ElfError {
    /// It is not a 64-bit ELF file, or is cut short.
    #[error("corrupt ELF: {0}")]
    Corrupt(String),
}

/// A section's content and where it was linked to lie.
#[derive(Clone, Debug)]
pub struct Section {
    /// Address range, in the file's own addresses.
    pub svma: Range<u64>,
    /// Its bytes, decompressed.
    pub data: Bytes,
}

/// A loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file.
    pub file_offset: u64,
    /// How long it is in the file.
    pub file_size: u64,
    /// Where it was linked to lie.
    pub svma: u64,
    /// Whether it holds code.
    pub executable: bool,
}

/// What unwinding needs from an ELF file.
#[derive(Clone, Debug, Default)]
pub struct Elf {
    /// Loadable segments.
    pub segments: Vec<Segment>,
    /// `.text`, its range only.
    pub text: Option<Range<u64>>,
    /// `.got`, its range only.
    pub got: Option<Range<u64>>,
    /// `.eh_frame`.
    pub eh_frame: Option<Section>,
    /// `.eh_frame_hdr`: a sorted index of the former.
    pub eh_frame_hdr: Option<Section>,
    /// `.debug_frame`: the same, for debuggers.
    pub debug_frame: Option<Section>,
}

impl Elf {
    /// Reads a file. Costs a read of its headers and its frame sections, some ms for a large library. What the budget does not
    /// allow is missing then, which the file knows.
    ///
    /// # Errors
    /// If it is no usable ELF file. Missing frame sections are no error.
    pub(super) fn read_file(file: &TargetFile<'_>) -> Result<Self, ElfError> {
        Self::read(file)
    }

    /// Reads an image of a file, such as the vdso's.
    ///
    /// # Errors
    /// If it is no usable ELF file. Missing frame sections are no error.
    pub fn read_image(image: &[u8]) -> Result<Self, ElfError> {
        Self::read(image)
    }

    fn read<'data>(data: impl Content<'data>) -> Result<Self, ElfError> {
        let corrupt = |error: object::Error| ElfError::Corrupt(error.to_string());
        let too_many = |what: &str| ElfError::Corrupt(format!("too many {what}"));
        // The headers alone: a parser of whole files reads symbol tables, too.
        let file = FileHeader64::<Endianness>::parse(data).map_err(corrupt)?;
        let endian = file.endian().map_err(corrupt)?;
        if file.phnum(endian, data).map_err(corrupt)? as usize > MAX_HEADERS {
            return Err(too_many("program headers"));
        }
        if file.shnum(endian, data).map_err(corrupt)? as usize > MAX_HEADERS {
            return Err(too_many("sections"));
        }
        let headers = file.program_headers(endian, data).map_err(corrupt)?;
        let sections = file.sections(endian, data).map_err(corrupt)?;
        let loads = headers.iter().filter(|header| header.p_type(endian) == PT_LOAD).take(MAX_SEGMENTS);
        let segments = loads.map(|header| Segment {
            file_offset: header.p_offset(endian),
            file_size: header.p_filesz(endian),
            svma: header.p_vaddr(endian),
            executable: header.p_flags(endian).0 & PF_X.0 != 0,
        });
        let named = |name: &str| Some(sections.section_by_name(endian, name.as_bytes())?.1);
        let range = |name: &str| {
            let section = named(name)?;
            let start = section.sh_addr(endian);
            Some(start..start.checked_add(section.sh_size(endian))?)
        };
        let mut reader = Reader { data, done: Vec::new() };
        let mut section = |name: &str| {
            let section = named(name)?;
            let data = match section.compression(endian, data).ok()? {
                // What is loaded is never compressed (gABI, SHF_COMPRESSED).
                Some(_) if name != ".debug_frame" => return None,
                Some((header, offset, length)) => {
                    let kind = header.ch_type(endian);
                    reader.inflate(Compressed { kind, offset, length, claimed: header.ch_size(endian) })?
                }
                None => {
                    let (offset, size) = section.file_range(endian)?;
                    reader.read(offset, size)?
                }
            };
            let start = section.sh_addr(endian);
            Some(Section { svma: start..start.saturating_add(data.len() as u64), data })
        };
        let mut elf = Self {
            segments: segments.collect(),
            text: range(".text"),
            got: range(".got"),
            eh_frame: section(".eh_frame"),
            eh_frame_hdr: section(".eh_frame_hdr"),
            debug_frame: section(".debug_frame"),
        };
        if elf.eh_frame.is_none()
            && let Some(header) = headers.iter().find(|header| header.p_type(endian) == PT_GNU_EH_FRAME)
        {
            let (offset, size) = (header.p_offset(endian), header.p_filesz(endian));
            elf.read_by_segment(&mut reader, offset, size, header.p_vaddr(endian));
        }
        Ok(elf)
    }

    /// A file without section headers still tells the loader where its .eh_frame_hdr is, and that tells where .eh_frame
    /// begins; its end is not said, so all up to the end of the segment is taken: frame data ends with a zero word.
    fn read_by_segment<'data>(&mut self, reader: &mut Reader<impl Content<'data>>, offset: u64, size: u64, svma: u64) {
        let Some(hdr) = reader.read(offset, size) else {
            return;
        };
        let Some(start) = eh_frame_start(&hdr, svma) else {
            return;
        };
        let Some(segment) =
            self.segments.iter().find(|segment| segment.svma <= start && start - segment.svma < segment.file_size)
        else {
            return;
        };
        let skip = start - segment.svma;
        let len = (segment.file_size - skip).min(MAX_SECTION);
        let Some(from) = segment.file_offset.checked_add(skip) else {
            return;
        };
        // Where .eh_frame_hdr comes after it, frame data ends there at the latest.
        let len = offset.checked_sub(from).filter(|&before| before > 0).map_or(len, |before| before.min(len));
        if let Some(data) = reader.read(from, len) {
            self.eh_frame = Some(Section { svma: start..start.saturating_add(len), data });
            self.eh_frame_hdr = Some(Section { svma: svma..svma.saturating_add(size), data: hdr });
        }
    }

    /// What has to be added to the file's own addresses to get those in memory, given an executable mapping of the file.
    ///
    /// Segments need not begin at a page: the first page of a mapping of code may be the last one of the segment before it
    /// in the file. So only segments that hold code are looked at.
    #[must_use]
    pub fn bias(&self, mapped_at: u64, file_offset: u64) -> Option<u64> {
        let page = 0xfff;
        let mut code = self.segments.iter().filter(|segment| segment.executable);
        let segment = code.find(|segment| {
            let first = segment.file_offset & !page;
            let end = segment.file_offset.saturating_add(segment.file_size);
            first <= file_offset && file_offset < end
        })?;
        let svma = segment.svma.wrapping_add(file_offset.wrapping_sub(segment.file_offset));
        Some(mapped_at.wrapping_sub(svma))
    }
}

/// Reads pieces of a file, none of its bytes twice: sections that lie over each other would make a small file a large one.
struct Reader<R> {
    data: R,
    done: Vec<Range<u64>>,
}

impl<'data, R: Content<'data>> Reader<R> {
    fn read(&mut self, offset: u64, size: u64) -> Option<Bytes> {
        self.begin(offset, size, size)?;
        keep(self.data, size, |bytes| self.data.copy_at(offset, bytes).is_ok())
    }

    fn inflate(&mut self, section: Compressed) -> Option<Bytes> {
        if section.claimed > MAX_INFLATED {
            return None;
        }
        self.begin(section.offset, section.length, section.claimed)?;
        keep(self.data, section.claimed, |mut bytes| section.inflate(self.data, &mut bytes).is_ok())
    }

    /// Takes the bytes of the file.
    fn begin(&mut self, offset: u64, size: u64, kept: u64) -> Option<()> {
        let range = offset..offset.checked_add(size)?;
        let is_there = range.end <= self.data.len().ok()? && !range.is_empty() && kept > 0;
        let is_read = self.done.iter().any(|done| done.start < range.end && range.start < done.end);
        if !is_there || is_read || kept > MAX_SECTION {
            return None;
        }
        self.done.push(range);
        Some(())
    }
}

/// Where `.eh_frame` begins, from the header's first field.
/// Format: <https://refspecs.linuxfoundation.org/LSB_5.0.0/LSB-Core-generic/LSB-Core-generic/ehframechpt.html>
pub(crate) fn eh_frame_start(hdr: &[u8], svma: u64) -> Option<u64> {
    /// `DW_EH_PE_pcrel | DW_EH_PE_sdata4`: what every linker writes.
    const PCREL_SDATA4: u8 = 0x1b;
    let (&[1, PCREL_SDATA4, _, _], rest) = hdr.split_first_chunk::<4>()? else {
        return None;
    };
    let relative = i32::from_le_bytes(*rest.first_chunk::<4>()?);
    svma.checked_add(4)?.checked_add_signed(i64::from(relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<u8> {
        // The C library is small, has everything that is looked for, and is on every machine that builds this.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc = maps.lines().find(|line| line.contains("libc.so")).unwrap();
        std::fs::read(libc.split_whitespace().last().unwrap()).unwrap()
    }

    #[test]
    fn frame_sections_are_found_without_section_headers() {
        let mut image = own();
        let whole = Elf::read_image(&image).unwrap();
        image[0x28..0x30].fill(0); // e_shoff
        image[0x3c..0x40].fill(0); // e_shnum, e_shstrndx
        let bare = Elf::read_image(&image).unwrap();
        let (whole, bare) = (whole.eh_frame.unwrap(), bare.eh_frame.unwrap());
        assert_eq!(whole.svma.start, bare.svma.start);
        assert!(bare.data.starts_with(&whole.data));
    }

    #[test]
    fn sections_over_the_same_bytes_are_read_once() {
        let image = own();
        let file = FileHeader64::<Endianness>::parse(&image[..]).unwrap();
        let endian = file.endian().unwrap();
        let sections = file.sections(endian, &image[..]).unwrap();
        let place = |name: &[u8]| {
            let index = sections.section_by_name(endian, name).unwrap().0.0;
            usize::try_from(file.e_shoff(endian)).unwrap() + index * 64
        };
        let (frames, hdr) = (place(b".eh_frame"), place(b".eh_frame_hdr"));
        let mut hostile = image.clone();
        hostile.copy_within(frames + 0x18..frames + 0x28, hdr + 0x18);
        let elf = Elf::read_image(&hostile).unwrap();
        assert!(elf.eh_frame.is_some() && elf.eh_frame_hdr.is_none());
    }

    #[test]
    fn a_cut_file_is_an_error_or_has_less() {
        let image = own();
        for len in (0..image.len()).step_by(997).chain(0..256) {
            let _ = Elf::read_image(&image[..len]);
        }
    }

    #[test]
    fn bias_comes_from_the_code_that_is_mapped() {
        // As lld lays files out: code begins in the page in which the read-only data before it ends.
        let segment = |file_offset, file_size, svma, executable| Segment { file_offset, file_size, svma, executable };
        let elf = Elf {
            segments: vec![segment(0, 0x1e10, 0, false), segment(0x1e10, 0x3000, 0x2e10, true)],
            ..Elf::default()
        };
        assert_eq!(elf.bias(0x5000_2000, 0x1000), Some(0x5000_0000));
        assert_eq!(elf.bias(0x5000_3000, 0x2000), Some(0x5000_0000), "a later page of the same segment");
        assert_eq!(elf.bias(0x5000_0000, 0x9000), None);
    }
}
