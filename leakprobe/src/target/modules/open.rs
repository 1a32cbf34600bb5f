//! Opening the files that code is mapped from: the very ones, whatever lies at their paths by now.

use std::{
    fs::{File, Metadata},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use caps::Capability::{CAP_CHECKPOINT_RESTORE, CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE};

use super::{
    FileKey, MappedFile, MappedPlace, Mapping, Module, ModuleId, ModuleSource, Modules,
    copied::{self, NoCopy},
    place,
};
use crate::{
    privilege,
    target::ProcessMemory,
    target::{
        Served,
        budget::Scarce,
        descriptors,
        elf::Elf,
        file::TargetFile,
        root::{Root, is_in_our_mounts, open_regular},
    },
};

/// Pages by which code in memory is compared with a file's.
const COMPARED_PAGES: u64 = 64;
pub(super) const PAGE: u64 = 4096;
/// Most files that are listed as not answering.
const MOST_UNANSWERED: usize = 100;
/// Largest vdso image that is read; real ones have two pages or so.
const MAX_VDSO: u64 = 1 << 20;

impl Modules {
    /// Opens a mapped file without reading it; it is none of the modules by that.
    ///
    /// # Errors
    /// If it cannot be opened, is no regular file, or is mapped no more.
    pub fn open_mapped(&self, place: &MappedPlace<'_>) -> io::Result<MappedFile> {
        let mapping =
            self.mappings.iter().find(|mapping| (mapping.start, mapping.offset) == (place.start, place.offset));
        let mapping = mapping.ok_or_else(|| io::Error::other("it is mapped no more"))?;
        let file = mapping.file.as_deref().ok_or_else(|| io::Error::other("no file is mapped there"))?;
        if !descriptors::has_room() {
            return Err(io::Error::other("too many files are open"));
        }
        let ModuleSource::File { handle, .. } = self.open_file(file, mapping)? else {
            return Err(io::Error::other("no file is mapped there"));
        };
        let budget = self.budget.clone();
        Ok(MappedFile { path: file.path.to_string(), handle, start: place.start, offset: place.offset, budget })
    }

    /// The module of a file that was opened before; a file that is mapped at another place is not read again.
    pub(super) fn known(&mut self, file: &Arc<FileKey>, mapping: &Mapping) -> Option<ModuleId> {
        let ids = self.opened.get(file)?;
        let modules = ids.iter().filter_map(|&id| Some((id, self.modules.get(&id)?)));
        let mut elsewhere = None;
        // It may have been written while it was mapped no more.
        for (id, module) in modules.filter(|(_, module)| module.is_unwritten()) {
            let bias = place(&module.elf, mapping);
            if bias == module.bias {
                return Some(id);
            }
            if let (ModuleSource::File { handle, visible }, Ok(_)) = (&module.source, &module.elf) {
                elsewhere = Some((Arc::clone(handle), visible.clone(), module, bias));
            }
        }
        let (handle, visible, module, bias) = elsewhere.filter(|(handle, ..)| self.is_that(handle, file, mapping))?;
        let source = ModuleSource::File { handle, visible };
        let module = Module { path: file.path.to_string(), source, elf: module.elf.clone(), bias, stamp: module.stamp };
        Some(self.add(file, module))
    }

    /// Whether an open file is the one that is mapped there under the same numbers and path. Where mappings are listed with other numbers
    /// than the file itself has, several may be: subvolumes of btrfs use each inode number once more, and one may be mounted where
    /// another one was.
    fn is_that(&self, handle: &File, file: &FileKey, mapping: &Mapping) -> bool {
        let Ok(known) = handle.metadata() else { return false };
        if is_of_inode(&known, file) {
            return true;
        }
        let Ok(ModuleSource::File { handle: mapped, .. }) = self.open_file(file, mapping) else { return false };
        mapped.metadata().is_ok_and(|mapped| (mapped.dev(), mapped.ino()) == (known.dev(), known.ino()))
    }

    pub(super) fn open(&mut self, file: &Arc<FileKey>, mapping: &Mapping) -> ModuleId {
        let reader = self.find_reader();
        let mut source = self.source(file, mapping);
        // The thread that it is read through may have exited in between: then it says nothing of the file.
        if matches!(source, ModuleSource::Missing(_)) && self.find_reader() != reader {
            source = self.source(file, mapping);
        }
        let before = source.stamp();
        let elf = match &source {
            ModuleSource::File { handle, .. } => self.read_elf(handle, &file.path),
            ModuleSource::Image(image) => Elf::read_image(image).map_err(|error| error.to_string()),
            ModuleSource::Missing(why) => Err(why.clone()),
        };
        let elf = elf.map(Arc::new);
        let bias = place(&elf, mapping);
        // Code that is made at run time may be mapped from a file, too, which is written all the time.
        let stamp = before.filter(|_| elf.is_ok());
        self.add(file, Module { path: file.path.to_string(), source, elf, bias, stamp })
    }

    fn read_elf(&self, file: &File, name: &str) -> Result<Elf, String> {
        let file = TargetFile::new(file, name, &self.budget);
        // What is wrong with a file of which not all may be read is not known.
        Elf::read_file(&file).map_err(|error| match file.scarce() {
            Some(scarce) => self.budget.what(scarce) + " is used up",
            None => error.to_string(),
        })
    }

    fn add(&mut self, file: &Arc<FileKey>, module: Module) -> ModuleId {
        let id = ModuleId(self.next_id);
        self.next_id += 1;
        self.modules.insert(id, module);
        self.opened.entry(Arc::clone(file)).or_default().push(id);
        id
    }

    fn source(&mut self, file: &FileKey, mapping: &Mapping) -> ModuleSource {
        match &*file.path {
            "[vdso]" => self.vdso(mapping),
            path if path.starts_with('[') => ModuleSource::Missing("belongs to the kernel".to_owned()),
            path => match self.take_file(path) {
                Err(scarce) => ModuleSource::Missing(self.budget.what(scarce) + " is used up"),
                Ok(()) => match self.open_file(file, mapping) {
                    Ok(source) => self.counted(source),
                    Err(error) => ModuleSource::Missing(error.to_string()),
                },
            },
        }
    }

    /// Whether one more of its files may be open.
    fn take_file(&mut self, path: &str) -> Result<(), Scarce> {
        if self.files.len() >= self.most_files {
            self.files.retain(|file| file.strong_count() > 0);
        }
        if self.files.len() < self.most_files && descriptors::has_room() {
            return Ok(());
        }
        let scarce = Scarce::OpenFiles(self.most_files);
        self.budget.leave_out(path, scarce);
        Err(scarce)
    }

    fn counted(&mut self, source: ModuleSource) -> ModuleSource {
        if let ModuleSource::File { handle, .. } = &source {
            self.files.push(Arc::downgrade(handle));
        }
        source
    }

    fn vdso(&self, mapping: &Mapping) -> ModuleSource {
        let Some(memory) = self.memory() else {
            return ModuleSource::Missing("was not recorded".to_owned());
        };
        let len = (mapping.end - mapping.start).min(MAX_VDSO);
        let mut image = vec![0; usize::try_from(len).unwrap_or(0)];
        let read = memory.read(mapping.start, &mut image);
        image.truncate(read);
        ModuleSource::Image(image.into())
    }

    /// Opens the very file that is mapped, or a copy of it if it may never answer.
    fn open_file(&self, file: &FileKey, mapping: &Mapping) -> io::Result<ModuleSource> {
        let reader = self.reader().ok_or_else(|| io::Error::other("was not recorded"))?;
        let may_hang = self.filesystems.as_ref().is_some_and(|systems| systems.may_hang(file.dev));
        let handle = if may_hang {
            self.copy(reader, file, mapping)?
        } else {
            match opened(reader, file, mapping, &self.memory.through(reader), false) {
                // Its path leads past what may never answer.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.copy(reader, file, mapping)?,
                handle => handle?,
            }
        };
        // Not by its path: that may come to lead elsewhere.
        let visible = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
        Ok(ModuleSource::File { handle: Arc::new(handle), visible })
    }

    /// A copy of the file. Once one has not answered, the others of its file system are not asked.
    fn copy(&self, reader: u32, file: &FileKey, mapping: &Mapping) -> io::Result<File> {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(copy) = others.copies.get(file) {
            return copy.open();
        }
        let is_silent = others.silent.contains(&file.dev);
        match if is_silent { Err(NoCopy::Unanswered) } else { copied::copy(reader, file, mapping, &self.budget) } {
            Ok(copy) => {
                let opened = copy.open();
                others.copies.insert(file.clone(), copy);
                opened
            }
            Err(NoCopy::Failed(error)) => Err(error),
            Err(NoCopy::Unanswered) => {
                let system = match self.filesystems.as_ref().map(|systems| systems.served(file.dev)) {
                    Some(Served::Others(system)) => system,
                    _ => "its file system".to_owned(),
                };
                others.silent.insert(file.dev);
                if others.unanswered.len() < MOST_UNANSWERED {
                    others.unanswered.insert(file.path.to_string(), system.clone());
                }
                Err(io::Error::other(format!("its file does not answer ({system})")))
            }
        }
    }
}

/// Opens the very file that is mapped: by `map_files`, which leads to it even if it was deleted or replaced; else by its path as
/// the process sees it, if that still is the same file. `waits`: even if it takes somebody who may never answer.
pub(super) fn opened(
    reader: u32,
    file: &FileKey,
    mapping: &Mapping,
    memory: &ProcessMemory,
    waits: bool,
) -> io::Result<File> {
    let by_map = PathBuf::from(format!("/proc/{reader}/map_files/{:x}-{:x}", mapping.start, mapping.end));
    let refused = match open_regular(&by_map) {
        Ok(handle) => return Ok(handle),
        Err(error) => error,
    };
    let path = file.path.strip_suffix(" (deleted)").unwrap_or(&file.path);
    let opened = open_by_path(reader, Path::new(path), waits).and_then(|handle| {
        if !is_of_inode(&handle.metadata()?, file) && !is_same_code(&handle, mapping, memory) {
            return Err(io::Error::other("the file was replaced since it was mapped"));
        }
        Ok(handle)
    });
    opened.map_err(|error| match advice(&refused) {
        advice if advice.is_empty() => error,
        advice => io::Error::new(error.kind(), format!("{error}{advice}")),
    })
}

/// What to do where `map_files` is closed.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/fs/proc/base.c#L2247> (`proc_map_files_get_link`).
fn advice(refused: &io::Error) -> String {
    match refused.raw_os_error() {
        Some(libc::EPERM) => privilege::advice(&[CAP_CHECKPOINT_RESTORE]),
        Some(libc::EACCES) => privilege::advice(&[CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, CAP_CHECKPOINT_RESTORE]),
        _ => String::new(),
    }
}

/// Opens a mapped file by its path: within the root of the thread that has it mapped. The kernel tells the path as we would
/// see it, which is another one than that thread's if it has another root in the same mount namespace as we. Any file can lie there by
/// now, so it takes the caller's rights for files.
fn open_by_path(reader: u32, path: &Path, waits: bool) -> io::Result<File> {
    let careful = |root: Root| if waits { root.that_waits() } else { root };
    let root = careful(Root::of(reader)?);
    let _rights = privilege::for_names_of_targets();
    if root.is_ours() || !is_in_our_mounts(reader) {
        return root.open(path);
    }
    careful(Root::of(std::process::id())?).open_told(path)
}

fn is_of_inode(metadata: &Metadata, file: &FileKey) -> bool {
    let device = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
    (device, metadata.ino()) == (file.dev, file.inode)
}

/// Whether the code in memory is that of the file. Some file systems, such as overlayfs and btrfs, tell another device or
/// inode number for an open file than for a mapped one, so that different numbers do not mean different files.
pub(super) fn is_same_code(file: &File, mapping: &Mapping, memory: &ProcessMemory) -> bool {
    let pages = (mapping.end - mapping.start) / PAGE;
    let compared = pages.min(COMPARED_PAGES);
    let is_same_page = |index: u64| {
        let skip = pages * index / compared * PAGE;
        let (mut ours, mut theirs) = ([0; PAGE as usize], [0; PAGE as usize]);
        let Ok(length) = file.read_at(&mut ours, mapping.offset.saturating_add(skip)) else {
            return false;
        };
        // The last page of a file is mapped with zeros behind it.
        length > 0 && memory.read(mapping.start + skip, &mut theirs) == theirs.len() && ours == theirs
    };
    compared > 0 && (0..compared).all(is_same_page)
}
