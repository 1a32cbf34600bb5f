//! The files of a process that may be Go: where their segments lie in its memory.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use object::{
    Endianness, ReadRef,
    elf::{FileHeader64, PF_W, PF_X, PT_LOAD},
    read::elf::{FileHeader, ProgramHeader, SectionHeader},
};

use super::{
    buildinfo::{self, BuildInfo},
    layout::Known,
    memory::{Scan, Words},
    moduledata::Moduledata,
};
use crate::target::{
    Budget, MappedFile,
    elf::{Elf, Segment},
    file::{Content, TargetFile, keep},
};

/// Most loadable segments that are looked at.
const MAX_LOADS: usize = 64;
/// Where `moduledata` lies, if the file has section headers: from Go 1.26 on, and before.
const MODULEDATA_SECTIONS: [&str; 2] = [".go.module", ".noptrdata"];

/// Sections that nothing but Go's linker makes, any of which may have been removed.
/// Source: <https://github.com/golang/go/blob/go1.27.0/src/cmd/link/internal/ld/elf.go> (`doelf`)
const GO_SECTIONS: [&[u8]; 8] = [
    b".go.buildinfo",
    b".note.go.buildid",
    b".gopclntab",
    b".data.rel.ro.gopclntab",
    b".go.module",
    b".noptrdata",
    b".noptrbss",
    b".typelink",
];
/// The name of Go's note, its build id.
const GO_NOTE: &[u8] = b"Go";
/// Largest segment of notes that is looked at, bytes.
const MAX_NOTES: u64 = 16 << 10;

/// A Go program or library that is mapped.
#[derive(Debug)]
pub(super) struct Image {
    /// Its path as the process sees it.
    pub(super) path: Arc<str>,
    /// What it says of its Go.
    pub(super) build: BuildInfo,
    /// Its loadable segments.
    pub(super) loads: Vec<Load>,
    /// Where `moduledata` probably lies.
    pub(super) hints: Vec<Range<u64>>,
    file: MappedFile,
}

/// A loadable segment, in memory.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// Where all of it lies.
    pub(super) memory: Range<u64>,
    /// How much of it comes from the file.
    pub(super) file_len: u64,
    /// Where in the file.
    pub(super) file_offset: u64,
    /// Whether it can be written to, at least until it has been relocated.
    pub(super) writable: bool,
}

impl Image {
    /// What reading its file draws on.
    pub(super) fn budget(&self) -> &Budget {
        &self.file.budget
    }

    /// Looks at a mapped file; `None` if it is not Go. Reads its headers only, some 10 µs, unless it has no section headers: then
    /// its notes, and its data for what only Go has there.
    pub(super) fn open(file: &MappedFile, memory: &impl Words) -> Option<Self> {
        Self::read(&TargetFile::new(&file.handle, &file.path, &file.budget), file, memory)
    }

    fn read<'data>(data: impl ReadRef<'data>, file: &MappedFile, memory: &impl Words) -> Option<Self> {
        // The headers alone: whatever reads more of a large file takes longer than all else here.
        let elf = FileHeader64::<Endianness>::parse(data).ok()?;
        let endian = elf.endian().ok()?;
        let all_headers = elf.program_headers(endian, data).ok()?;
        let sections = elf.sections(endian, data).unwrap_or_default();
        let headers = all_headers.iter().filter(|header| header.p_type(endian) == PT_LOAD).take(MAX_LOADS);
        let headers: Vec<_> = headers.collect();
        let segments = headers.iter().map(|header| Segment {
            file_offset: header.p_offset(endian),
            file_size: header.p_filesz(endian),
            svma: header.p_vaddr(endian),
            executable: header.p_flags(endian).0 & PF_X.0 != 0,
        });
        let bias = Elf { segments: segments.collect(), ..Elf::default() }.bias(file.start, file.offset)?;
        let loads = headers.iter().map(|header| {
            let start = header.p_vaddr(endian).wrapping_add(bias);
            Load {
                memory: start..start.saturating_add(header.p_memsz(endian)),
                file_len: header.p_filesz(endian).min(header.p_memsz(endian)),
                file_offset: header.p_offset(endian),
                writable: header.p_flags(endian).0 & PF_W.0 != 0,
            }
        });
        let loads: Vec<_> = loads.collect();
        let section = |name: &str| {
            let (_, section) = sections.section_by_name(endian, name.as_bytes())?;
            let start = section.sh_addr(endian).wrapping_add(bias);
            Some(start..start.saturating_add(section.sh_size(endian)))
        };
        let is_go = sections.iter().any(|section| {
            let name = sections.section_name(endian, section);
            name.is_ok_and(|name| GO_SECTIONS.contains(&name))
        });
        if !is_go && !sections.is_empty() {
            return None;
        }
        let build = match section(".go.buildinfo") {
            Some(blob) => buildinfo::at(memory, blob.start),
            // Whatever removes section headers leaves the blob where it is.
            None if sections.is_empty() => {
                let data = loads.iter().filter(|load| load.writable).map(Load::file_backed);
                data.into_iter().find_map(|range| buildinfo::find(memory, &range))
            }
            None => None,
        };
        let is_told = build.is_some();
        let build = build.unwrap_or(BuildInfo::Nothing);
        let hints = MODULEDATA_SECTIONS.iter().filter_map(|name| section(name)).collect();
        let image = Self { path: file.path.as_str().into(), build, loads, hints, file: file.clone() };
        let has_note = || {
            let small = all_headers.iter().filter(|header| header.p_filesz(endian) <= MAX_NOTES);
            let notes = small.filter_map(|header| header.notes(endian, data).ok()?);
            notes
                .take(MAX_LOADS)
                .any(|mut notes| std::iter::from_fn(move || notes.next().ok()?).any(|note| note.name() == GO_NOTE))
        };
        let has_modules = || matches!(Moduledata::find(memory, &image, &Known::newest()), Scan::Found(_));
        (is_go || is_told || has_note() || has_modules()).then_some(image)
    }

    /// Reads what the file holds for a range of memory that is never written to. The file is read and not the process, so that
    /// no page of it becomes resident by our doing.
    pub(super) fn read_constant(&self, range: &Range<u64>) -> Option<Bytes> {
        let load = self.load_of(range.start)?;
        let skip = range.start - load.memory.start;
        let end = range.end.min(load.file_backed().end);
        let MappedFile { handle, path, budget, .. } = &self.file;
        let file = TargetFile::new(handle, path, budget);
        let offset = load.file_offset.checked_add(skip)?;
        let len = end.checked_sub(range.start)?;
        // Nothing is allocated for what is not there.
        (&file).len().ok().filter(|&there| offset.checked_add(len).is_some_and(|end| end <= there))?;
        self.kept(len, |bytes| (&file).copy_at(offset, bytes).is_ok())
    }

    /// Bytes of the program, see [`keep`].
    pub(super) fn kept(&self, len: u64, fill: impl FnOnce(&mut [u8]) -> bool) -> Option<Bytes> {
        let MappedFile { handle, path, budget, .. } = &self.file;
        keep(&TargetFile::new(handle, path, budget), len, fill)
    }

    /// The segment that an address lies in.
    pub(super) fn load_of(&self, address: u64) -> Option<&Load> {
        self.loads.iter().find(|load| load.memory.contains(&address))
    }
}

impl Load {
    /// Where that part lies that comes from the file.
    pub(super) fn file_backed(&self) -> Range<u64> {
        self.memory.start..self.memory.start.saturating_add(self.file_len).min(self.memory.end)
    }
}
