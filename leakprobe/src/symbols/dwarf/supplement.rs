//! Names that debug information has in another file, where dwz has put what several files would repeat. blazesym reads strings that lie
//! there, but follows no reference to a function (`DW_FORM_GNU_ref_alt`, `DW_FORM_ref_sup4`), so that inlined functions lack their names:
//! <https://github.com/libbpf/blazesym/blob/v0.2.7/src/dwarf/function.rs#L106>. addr2line follows them.

use std::{
    collections::HashMap,
    ffi::CStr,
    fs::File,
    io,
    os::{
        fd::{OwnedFd, RawFd},
        unix::fs::FileExt,
    },
    path::Path,
    rc::Rc,
};

use addr2line::{
    Context,
    gimli::{Dwarf, EndianReader, RunTimeEndian, SectionId},
};
use object::{Object, ObjectSection, ReadCache};

use super::{Scope, copy::ALT_LINK, server};

type Bytes = EndianReader<RunTimeEndian, Rc<[u8]>>;

/// The files whose debug information refers to another one, by descriptor.
#[derive(Default)]
pub(super) struct Supplements {
    /// `None` for a file that refers to no other one.
    known: HashMap<RawFd, Option<Context<Bytes>>>,
}

impl Supplements {
    /// Gives `scopes` of an address, innermost first, the names that they lack and that lie in another file than `file`.
    pub(super) fn fill(&mut self, file: RawFd, files: &HashMap<RawFd, OwnedFd>, address: u64, scopes: &mut [Scope]) {
        if scopes.iter().all(|scope| !scope.name.is_empty()) {
            return;
        }
        let known = self.known.entry(file).or_insert_with(|| context(file, files));
        let Some(names) = known.as_ref().map(|context| names(context, address)) else { return };
        // Of the same functions, or else nothing is known of which is which.
        if names.len() != scopes.len() {
            return;
        }
        for (scope, name) in scopes.iter_mut().zip(names) {
            if scope.name.is_empty() {
                scope.name = name.unwrap_or_default();
            }
        }
    }
}

/// The raw names of the functions at an address, innermost first.
fn names(context: &Context<Bytes>, address: u64) -> Vec<Option<String>> {
    let mut names = Vec::new();
    // Of debug information in further files nothing is loaded.
    let Ok(mut frames) = context.find_frames(address).skip_all_loads() else { return names };
    while let Ok(Some(frame)) = frames.next() {
        names.push(frame.function.and_then(|function| Some(function.raw_name().ok()?.into_owned())));
    }
    names
}

/// The debug information of a file together with that which it refers to; `None` if that is not one of `files`.
fn context(file: RawFd, files: &HashMap<RawFd, OwnedFd>) -> Option<Context<Bytes>> {
    let file = File::open(server::path(files.get(&file)?)).ok()?;
    let cache = ReadCache::new(&file);
    let object = object::File::parse(&cache).ok()?;
    let link = object.section_by_name(ALT_LINK)?.data().ok()?;
    // The link of a copy leads to another copy, which is named so.
    let path = CStr::from_bytes_until_nul(link).ok()?.to_str().ok()?;
    let other = files.values().map(server::path).find(|other| other == Path::new(path))?;
    let mut dwarf = Dwarf::load(|section| load(&object, &file, section)).ok()?;
    let file = File::open(other).ok()?;
    let cache = ReadCache::new(&file);
    let object = object::File::parse(&cache).ok()?;
    dwarf.load_sup(|section| load(&object, &file, section)).ok()?;
    Context::from_dwarf(dwarf).ok()
}

/// A section of a copy, in which nothing is compressed; an empty one if names and places in the code do without.
fn load<'data>(
    object: &object::File<'data, &'data ReadCache<&File>>,
    file: &File,
    section: SectionId,
) -> io::Result<Bytes> {
    let endian = if object.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let is_left_out = matches!(
        section,
        SectionId::DebugLoc | SectionId::DebugLocLists | SectionId::DebugMacinfo | SectionId::DebugMacro
    );
    let found = object.section_by_name(section.name()).filter(|_| !is_left_out);
    let (offset, size) = found.and_then(|section| section.file_range()).unwrap_or_default();
    // It is in memory already; what claims more than that is cut off.
    let length = file.metadata()?.len();
    if offset.checked_add(size).is_none_or(|end| end > length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut data = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut data, offset)?;
    Ok(EndianReader::new(Rc::from(data), endian))
}
