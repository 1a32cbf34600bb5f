//! What unwinding needs from an ELF file: where it was linked to lie, and its call frame information.
//!
//! Files are untrusted, and may be cut short while we look: they are read into memory piece by piece, never mapped (a mapped
//! file that shrinks kills the reader with SIGBUS), and nothing larger than [`MAX_SECTION`] is read.

use std::{fs::File, ops::Range, sync::Arc};

use object::{
    Object, ObjectSection, ObjectSegment, ReadCache, ReadRef, SegmentFlags,
    elf::{FileHeader64, PF_X, PT_GNU_EH_FRAME},
    read::elf::{ElfFile64, ProgramHeader},
};

/// Largest section that is read, bytes. The largest known .eh_frame (a browser's) has some 30 MB.
pub const MAX_SECTION: u64 = 256 << 20;
/// Most loadable segments that are looked at.
const MAX_SEGMENTS: usize = 1024;

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
    pub data: Arc<[u8]>,
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
    /// Reads a file. Costs a read of its headers and its frame sections, some ms for a large library.
    ///
    /// # Errors
    /// If it is no usable ELF file. Missing frame sections are no error.
    pub fn read_file(file: &File) -> Result<Self, ElfError> {
        let cache = ReadCache::new(file);
        Self::read(&cache)
    }

    /// Reads an image of a file, such as the vdso's.
    ///
    /// # Errors
    /// As [`Self::read_file`].
    pub fn read_image(image: &[u8]) -> Result<Self, ElfError> {
        Self::read(image)
    }

    fn read<'data, R: ReadRef<'data>>(data: R) -> Result<Self, ElfError> {
        let corrupt = |error: object::Error| ElfError::Corrupt(error.to_string());
        let file: ElfFile64<'data, object::Endianness, R> = ElfFile64::parse(data).map_err(corrupt)?;
        let segments = file
            .segments()
            .take(MAX_SEGMENTS)
            .map(|segment| {
                let (file_offset, file_size) = segment.file_range();
                let executable =
                    matches!(segment.flags(), SegmentFlags::Elf { p_flags, .. } if p_flags.0 & PF_X.0 != 0);
                Segment { file_offset, file_size, svma: segment.address(), executable }
            })
            .collect();
        let range = |name: &str| {
            let section = file.section_by_name(name)?;
            Some(section.address()..section.address().checked_add(section.size())?)
        };
        let section = |name: &str| {
            let section = file.section_by_name(name)?;
            let compressed = section.compressed_data().ok()?;
            if compressed.uncompressed_size > MAX_SECTION {
                return None;
            }
            let data = compressed.decompress().ok()?;
            (!data.is_empty()).then(|| Section {
                svma: section.address()..section.address().saturating_add(data.len() as u64),
                data: Arc::from(data.as_ref()),
            })
        };
        let mut elf = Self {
            segments,
            text: range(".text"),
            got: range(".got"),
            eh_frame: section(".eh_frame"),
            eh_frame_hdr: section(".eh_frame_hdr"),
            debug_frame: section(".debug_frame"),
        };
        if elf.eh_frame.is_none() {
            elf.read_by_segment(&file, data);
        }
        Ok(elf)
    }

    /// A file without section headers still tells the loader where its .eh_frame_hdr is, and that tells where .eh_frame
    /// begins; its end is not said, so all up to the end of the segment is taken: frame data ends with a zero word.
    fn read_by_segment<'data, R: ReadRef<'data>>(&mut self, file: &ElfFile64<'data, object::Endianness, R>, data: R) {
        let endian = file.endian();
        let headers: &[<FileHeader64<object::Endianness> as object::read::elf::FileHeader>::ProgramHeader] =
            file.elf_program_headers();
        let Some(header) = headers.iter().find(|header| header.p_type(endian) == PT_GNU_EH_FRAME) else {
            return;
        };
        let (offset, size, svma) = (header.p_offset(endian), header.p_filesz(endian), header.p_vaddr(endian));
        if size > MAX_SECTION {
            return;
        }
        let Ok(hdr) = data.read_bytes_at(offset, size) else {
            return;
        };
        let Some(start) = eh_frame_start(hdr, svma) else {
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
        if let Ok(bytes) = data.read_bytes_at(from, len) {
            self.eh_frame = Some(Section { svma: start..start.saturating_add(len), data: Arc::from(bytes) });
            self.eh_frame_hdr = Some(Section { svma: svma..svma.saturating_add(size), data: Arc::from(hdr) });
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
