//! The target's code: which file, or none, each executable address belongs to.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use procfs::process::{MMPermissions, MMapPath, Process};

use super::elf::Elf;

/// Most mappings that are kept.
const MAX_MAPPINGS: usize = 1 << 20;
/// Largest vdso image that is read; real ones have two pages or so.
const MAX_VDSO: u64 = 1 << 20;

/// A module in [`Modules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleId(u32);

/// Something that code was mapped from.
#[derive(Debug)]
pub struct Module {
    /// Its path as the process sees it, or a name in brackets.
    pub path: String,
    /// Where its content can be had.
    pub source: ModuleSource,
    /// What unwinding needs from it; the phrase says why it cannot be had.
    pub elf: Result<Arc<Elf>, String>,
    /// What has to be added to its own addresses to get those in memory.
    pub bias: u64,
}

/// Where a module's content can be had.
#[derive(Debug)]
pub enum ModuleSource {
    /// A file. `visible` is a path under which it can be opened again, as long as the handle is held.
    File {
        /// Keeps the file, even if it is deleted or the target exits.
        handle: File,
        /// A path that leads to it.
        visible: PathBuf,
    },
    /// An image that lies in the target's memory: the vdso.
    Image(Arc<[u8]>),
    /// Nowhere; the phrase says why.
    Missing(String),
}

/// What lies at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Code of a module.
    Module(ModuleId),
    /// Executable memory that belongs to no file: made at run time.
    Anonymous,
}

/// A code address, in a module's own terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Located {
    /// The module.
    pub module: ModuleId,
    /// The address in its own (ELF virtual) addresses.
    pub svma: u64,
}

/// An executable mapping.
#[derive(Clone, Debug)]
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    /// Device and inode, path: what tells files apart. `None`: anonymous.
    file: Option<Arc<FileKey>>,
    module: Option<ModuleId>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FileKey {
    dev: (i32, i32),
    inode: u64,
    path: String,
}

/// The executable mappings of a process, and their modules, which are opened when they are first needed.
#[derive(Debug)]
pub struct Modules {
    pid: u32,
    mappings: Vec<Mapping>,
    modules: Vec<Module>,
    /// Modules by file and by where they lie, since one file may be mapped twice.
    opened: HashMap<(Arc<FileKey>, u64), ModuleId>,
}

impl Modules {
    /// Reads the mappings of `pid`. Costs some µs a mapping; takes the target's mmap lock for reading meanwhile.
    ///
    /// # Errors
    /// If `/proc/PID/maps` cannot be read.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut modules = Self { pid, mappings: Vec::new(), modules: Vec::new(), opened: HashMap::new() };
        modules.refresh()?;
        Ok(modules)
    }

    /// Reads the mappings again; modules that are open stay so.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn refresh(&mut self) -> io::Result<()> {
        let pid = i32::try_from(self.pid).map_err(io::Error::other)?;
        let maps = Process::new(pid).and_then(|process| process.maps()).map_err(io::Error::other)?;
        self.mappings.clear();
        for map in maps.into_iter().take(MAX_MAPPINGS) {
            if !map.perms.contains(MMPermissions::EXECUTE) {
                continue;
            }
            let path = match map.pathname {
                MMapPath::Path(path) => Some(path.to_string_lossy().into_owned()),
                MMapPath::Vdso => Some("[vdso]".to_owned()),
                MMapPath::Vsyscall => Some("[vsyscall]".to_owned()),
                _ => None,
            };
            let file = path.map(|path| Arc::new(FileKey { dev: map.dev, inode: map.inode, path }));
            let (start, end) = map.address;
            self.mappings.push(Mapping { start, end, offset: map.offset, file, module: None });
        }
        Ok(())
    }

    /// What lies at `address`; `None` if it is not executable. Opens the module if it was not yet.
    pub fn find(&mut self, address: u64) -> Option<Code> {
        let index = self.mappings.partition_point(|mapping| mapping.end <= address);
        let mapping = self.mappings.get(index).filter(|mapping| mapping.start <= address)?;
        if let Some(module) = mapping.module {
            return Some(Code::Module(module));
        }
        let Some(file) = mapping.file.clone() else {
            return Some(Code::Anonymous);
        };
        let module = self.open(&file, &mapping.clone());
        self.claim(&file, module);
        self.mappings[index].module = Some(module);
        Some(Code::Module(module))
    }

    /// `address` in its module's own terms; `None` if it lies in none.
    pub fn locate(&mut self, address: u64) -> Option<Located> {
        let Code::Module(module) = self.find(address)? else {
            return None;
        };
        let svma = address.wrapping_sub(self.get(module)?.bias);
        Some(Located { module, svma })
    }

    /// The module with that id.
    #[must_use]
    pub fn get(&self, id: ModuleId) -> Option<&Module> {
        self.modules.get(id.0 as usize)
    }

    /// The range in memory over which a module's code is spread.
    #[must_use]
    pub fn code_range(&self, id: ModuleId) -> Option<std::ops::Range<u64>> {
        let own = || self.mappings.iter().filter(|mapping| mapping.module == Some(id));
        Some(own().map(|mapping| mapping.start).min()?..own().map(|mapping| mapping.end).max()?)
    }

    /// Gives all mappings of one and the same loaded file to its module.
    fn claim(&mut self, file: &Arc<FileKey>, id: ModuleId) {
        let Some(Module { elf: Ok(elf), bias, .. }) = self.modules.get(id.0 as usize) else {
            return;
        };
        for mapping in self.mappings.iter_mut().filter(|mapping| mapping.file.as_ref() == Some(file)) {
            if elf.bias(mapping.start, mapping.offset) == Some(*bias) {
                mapping.module = Some(id);
            }
        }
    }

    fn open(&mut self, file: &Arc<FileKey>, mapping: &Mapping) -> ModuleId {
        let source = self.source(file, mapping);
        let elf = match &source {
            ModuleSource::File { handle, .. } => Elf::read_file(handle).map_err(|error| error.to_string()),
            ModuleSource::Image(image) => Elf::read_image(image).map_err(|error| error.to_string()),
            ModuleSource::Missing(why) => Err(why.clone()),
        };
        let bias = elf.as_ref().ok().and_then(|elf| elf.bias(mapping.start, mapping.offset));
        // Without an ELF file its own addresses are file offsets.
        let bias = bias.unwrap_or(mapping.start.wrapping_sub(mapping.offset));
        *self.opened.entry((Arc::clone(file), bias)).or_insert_with(|| {
            let id = ModuleId(u32::try_from(self.modules.len()).unwrap_or(u32::MAX));
            self.modules.push(Module { path: file.path.clone(), source, elf: elf.map(Arc::new), bias });
            id
        })
    }

    fn source(&self, file: &FileKey, mapping: &Mapping) -> ModuleSource {
        match file.path.as_str() {
            "[vdso]" => self.vdso(mapping),
            path if path.starts_with('[') => ModuleSource::Missing("belongs to the kernel".to_owned()),
            _ => match self.open_file(file, mapping) {
                Ok(source) => source,
                Err(error) => ModuleSource::Missing(format!("module could not be read: {error}")),
            },
        }
    }

    fn vdso(&self, mapping: &Mapping) -> ModuleSource {
        let len = (mapping.end - mapping.start).min(MAX_VDSO);
        let mut image = vec![0; usize::try_from(len).unwrap_or(0)];
        let memory = crate::snapshot::ProcessMemory::new(self.pid);
        let read = memory.read(mapping.start, &mut image);
        image.truncate(read);
        ModuleSource::Image(image.into())
    }

    /// Opens the very file that is mapped: by `map_files`, which leads to it even if it was deleted or replaced; else by
    /// its path as the process sees it, if that still is the same file.
    fn open_file(&self, file: &FileKey, mapping: &Mapping) -> io::Result<ModuleSource> {
        let by_map = PathBuf::from(format!("/proc/{}/map_files/{:x}-{:x}", self.pid, mapping.start, mapping.end));
        let path = file.path.strip_suffix(" (deleted)").unwrap_or(&file.path);
        let handle = match open_regular(&by_map) {
            Ok(handle) => handle,
            Err(_) => {
                let by_root = PathBuf::from(format!("/proc/{}/root{path}", self.pid));
                let handle = open_regular(&by_root)?;
                if handle.metadata()?.ino() != file.inode {
                    return Err(io::Error::other("the file was replaced since it was mapped"));
                }
                handle
            }
        };
        let same = |candidate: &Path| {
            let (Ok(ours), Ok(theirs)) = (handle.metadata(), fs::metadata(candidate)) else {
                return false;
            };
            (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())
        };
        let visible = if same(Path::new(path)) {
            PathBuf::from(path)
        } else {
            PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()))
        };
        Ok(ModuleSource::File { handle, visible })
    }
}

/// Opens a file for reading if it is a regular one: opening a device or a FIFO could block, or do something.
fn open_regular(path: &Path) -> io::Result<File> {
    let place = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path)?;
    if !place.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    File::open(format!("/proc/self/fd/{}", place.as_raw_fd()))
}
