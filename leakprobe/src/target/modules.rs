//! The target's code: which file, or none, each executable address belongs to.

mod copied;
mod open;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use copied::Copied;
pub(crate) use copied::can_copy_mapped;
pub use copied::{COPY_MAPPED, copy_mapped};
use nix::time::{ClockId, clock_gettime};

use super::{
    budget::{Budget, Scarce},
    descriptors,
    elf::Elf,
    exec,
    filesystems::Filesystems,
    maps,
};
use crate::{aside::Aside, pool::Share, target::ProcessMemory};

/// Most executable mappings that are kept.
const MAX_MAPPINGS: usize = 1 << 20;
/// Most mappings that are remembered when they are gone.
const MAX_GONE: usize = 1 << 10;
/// How long the list of the mappings is waited for, unless it is being made.
const LONGEST_LOCKED: Duration = Duration::from_secs(2);
/// One part in so many of a CPU may be spent on reading mappings in vain.
const VAIN_SHARE: u32 = 50;
/// Mappings that are older are read again before stacks are unwound, however long that takes: code may have been replaced
/// by other code at the same address, of which no address tells.
const MAX_AGE: Duration = Duration::from_secs(10);

/// A module in [`Modules`]. No other one ever has the same, even once this one is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleId(u64);

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
    /// Of its file, when it was read.
    stamp: Option<Stamp>,
}

impl Module {
    /// Whether its file is as it was when it was read.
    fn is_unwritten(&self) -> bool {
        self.stamp.is_none() || self.source.stamp() == self.stamp
    }
}

/// Where a module's content can be had.
#[derive(Debug)]
pub enum ModuleSource {
    /// A file. `visible` is a path under which it can be opened again, as long as the handle is held.
    File {
        /// Keeps the file, even if it is deleted or the target exits.
        handle: Arc<File>,
        /// A path that leads to it.
        visible: PathBuf,
    },
    /// An image that lies in the target's memory: the vdso.
    Image(Arc<[u8]>),
    /// Nowhere; the phrase says why.
    Missing(String),
}

impl ModuleSource {
    fn stamp(&self) -> Option<Stamp> {
        let Self::File { handle, .. } = self else {
            return None;
        };
        let metadata = handle.metadata().ok()?;
        Some((metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
    }
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

/// A module that is known without a process: from a recording, a core file, or made up for a test.
#[derive(Clone, Debug)]
pub struct Placed {
    /// As [`Module::path`].
    pub path: String,
    /// What unwinding needs from it.
    pub elf: Elf,
    /// As [`Module::bias`].
    pub bias: u64,
    /// Where its code lies in memory.
    pub mappings: Vec<Range<u64>>,
}

/// Where a file's code lies, by its first mapping there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedPlace<'modules> {
    /// The file's path as the process sees it.
    pub path: &'modules str,
    /// Its inode number.
    pub inode: u64,
    /// Where the mapping begins in memory.
    pub start: u64,
    /// Where it begins in the file.
    pub offset: u64,
}

/// A file whose code is mapped.
#[derive(Clone, Debug)]
pub struct MappedFile {
    /// As [`MappedPlace::path`].
    pub path: String,
    /// The file, open for reading.
    pub handle: Arc<File>,
    /// As [`MappedPlace::start`].
    pub start: u64,
    /// As [`MappedPlace::offset`].
    pub offset: u64,
    /// On which it is to be read.
    pub budget: Budget,
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

impl Mapping {
    /// Whether it is the same code, whatever is known of it.
    fn is_same(&self, other: &Self) -> bool {
        (self.start, self.end, self.offset, &self.file) == (other.start, other.end, other.offset, &other.file)
    }
}

/// A mapping that is no more.
#[derive(Clone, Debug)]
struct Gone {
    mapping: Mapping,
    /// Whether other code has been mapped there since.
    is_reused: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FileKey {
    dev: (u32, u32),
    inode: u64,
    path: Arc<str>,
}

/// Changes when a file is written. Its inode number cannot come to name another file while we hold it open.
type Stamp = (u64, i64, i64);

/// What is known of mapped files that others serve.
#[derive(Debug, Default)]
struct Others {
    copies: HashMap<FileKey, Copied>,
    /// Devices whose files do not answer.
    silent: HashSet<(u32, u32)>,
    /// Such files, each with its file system.
    unanswered: BTreeMap<String, String>,
}

/// The executable mappings of a process, and their modules, which are opened when they are first needed.
#[derive(Debug)]
pub struct Modules {
    /// `None`: what is known is all there will ever be.
    pid: Option<u32>,
    /// The thread through which everything is read, once the process's first has exited.
    other: Option<u32>,
    mappings: Vec<Mapping>,
    /// What `mappings` take, bytes.
    size: Option<Share>,
    /// Mappings of modules that were seen in use and are no more: stacks that were taken before still name them.
    gone: Vec<Gone>,
    /// Those of `mappings` and `gone`.
    modules: HashMap<ModuleId, Module>,
    next_id: u64,
    memory: ProcessMemory,
    /// Does what may not come back.
    aside: Aside,
    /// Which mapped files may never answer. `None`: not looked yet.
    filesystems: Option<Filesystems>,
    /// Files that others serve.
    others: Mutex<Others>,
    /// Modules by file; several, since one file may be mapped at several places.
    opened: HashMap<Arc<FileKey>, Vec<ModuleId>>,
    /// The modules' files; some may be closed by now.
    files: Vec<Weak<File>>,
    most_files: usize,
    /// On which files are read.
    budget: Budget,
    generation: u64,
    /// Whether an address of code that was in use has come to be that of other code, since that was asked last.
    is_reused: bool,
    refreshed: Instant,
    /// Whether they were to be read again since, but were too young.
    is_due: bool,
    /// What reading the mappings took the last time, of our CPU time: on a machine that is busy it takes longer, and costs no more.
    took: Duration,
    /// The same, if it brought nothing new.
    in_vain: Option<Duration>,
}

impl Modules {
    /// Reads the mappings of `pid`, once a call of [`exec`] that is at work is done. Costs some µs a mapping; takes the target's mmap
    /// lock for reading meanwhile.
    ///
    /// # Errors
    /// If `/proc/PID/maps` cannot be read.
    pub fn of(pid: u32) -> io::Result<Self> {
        let budget = Budget::of_run().for_target();
        let mut modules = Self { pid: Some(pid), budget, ..Self::from_parts(Vec::new(), &[]) };
        if modules.refresh().is_err() {
            exec::settled_program(pid);
            modules.refresh()?;
        }
        Ok(modules)
    }

    /// Without a process: modules whose content and places are known, and code of no module.
    #[must_use]
    pub fn from_parts(placed: Vec<Placed>, anonymous: &[Range<u64>]) -> Self {
        let mapping =
            |range: &Range<u64>, module| Mapping { start: range.start, end: range.end, offset: 0, file: None, module };
        let mut mappings: Vec<Mapping> = anonymous.iter().map(|range| mapping(range, None)).collect();
        let mut modules = HashMap::new();
        let mut next_id = 0;
        for Placed { path, elf, bias, mappings: ranges } in placed {
            let id = ModuleId(next_id);
            next_id += 1;
            mappings.extend(ranges.iter().map(|range| mapping(range, Some(id))));
            let source = ModuleSource::Missing("only what unwinding needs was recorded".to_owned());
            modules.insert(id, Module { path, source, elf: Ok(Arc::new(elf)), bias, stamp: None });
        }
        Self {
            pid: None,
            other: None,
            mappings: in_order(mappings),
            size: None,
            gone: Vec::new(),
            modules,
            next_id,
            memory: ProcessMemory::new(0),
            aside: Aside::default(),
            filesystems: None,
            others: Mutex::default(),
            opened: HashMap::new(),
            files: Vec::new(),
            most_files: descriptors::most_of_target(),
            budget: Budget::default(),
            generation: 1,
            is_reused: false,
            refreshed: Instant::now(),
            is_due: false,
            took: Duration::ZERO,
            in_vain: None,
        }
    }

    /// From now on files are read on this budget, and not on one of their own.
    pub fn set_budget(&mut self, budget: Budget) {
        self.budget = budget;
    }

    /// On which files are read.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The thread through which everything is read: the process's first, or another one if that has exited, since through an
    /// exited one nothing is to be had. `None` without a process.
    pub fn find_reader(&mut self) -> Option<u32> {
        let pid = self.pid?;
        if !has_memory(self.other.unwrap_or(pid)) {
            self.other = threads_of(pid).into_iter().find(|thread| has_memory(*thread)).or(self.other);
        }
        self.reader()
    }

    /// As [`Self::find_reader`] said last.
    #[must_use]
    pub fn reader(&self) -> Option<u32> {
        self.other.or(self.pid)
    }

    /// The process's memory, through [`Self::reader`]. `None` without a process.
    #[must_use]
    pub fn memory(&self) -> Option<ProcessMemory> {
        self.reader().map(|reader| self.memory.through(reader))
    }

    /// Reads the mappings again; modules that are open stay so.
    ///
    /// # Errors
    /// As [`Self::of`]; also if there are none, as when the process has ended. What was known stays then.
    pub fn refresh(&mut self) -> io::Result<()> {
        let Some(pid) = self.pid else {
            return Ok(());
        };
        let (began, before) = (own_cpu_time(), self.generation);
        // What is mapped after this moment may be missed.
        self.refreshed = Instant::now();
        self.is_due = false;
        let result = self.read(pid);
        self.took = own_cpu_time().saturating_sub(began) + result.as_ref().map_or(Duration::ZERO, |aside| *aside);
        self.in_vain = (self.generation == before).then_some(self.took);
        result.map(drop)
    }

    /// Reads the mappings again if they are old: so old that it takes one part in `VAIN_SHARE` of a CPU at most, or `MAX_AGE`.
    ///
    /// # Errors
    /// As [`Self::refresh`].
    pub fn refresh_if_old(&mut self) -> io::Result<()> {
        if self.age() < MAX_AGE.min(self.took * VAIN_SHARE) {
            self.is_due = true;
            return Ok(());
        }
        self.refresh()
    }

    /// Whether [`Self::refresh_if_old`] has found the mappings too young since they were read.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.is_due
    }

    /// Makes up for a time when [`Self::refresh_if_old`] found the mappings too young, if they are old by now.
    pub fn refresh_if_due(&mut self) {
        // If it cannot be read, the process has ended, and what is known of it is all there will be.
        if self.is_due && self.refresh_if_old().is_err() {
            self.is_due = false;
        }
    }

    /// Whether an address of code that was in use has come to be that of other code, since the last call: a library was
    /// unloaded and another one loaded in its place.
    pub fn take_reuse(&mut self) -> bool {
        std::mem::take(&mut self.is_reused)
    }

    /// Reads the mappings again because an address lies in none. It may be no address of code at all, over and over: so not
    /// at once if the last time was in vain, but so seldom that it takes one part in `VAIN_SHARE` of a CPU at most. Returns whether
    /// there is anything new.
    pub fn refresh_for_unknown(&mut self) -> bool {
        let before = self.generation;
        if self.in_vain.is_none_or(|took| self.age() >= took * VAIN_SHARE) {
            // If it cannot be read, the process has ended, and what is known of it is all there will be.
            let _ = self.refresh();
        }
        self.generation != before
    }

    /// Returns the CPU time that was used aside.
    fn read(&mut self, pid: u32) -> io::Result<Duration> {
        // It would not answer now either.
        if self.aside.left() > 0 {
            return Err(unanswered());
        }
        let reader = self.find_reader().unwrap_or(pid);
        let mut filesystems = self.filesystems.take().unwrap_or_else(|| Filesystems::of(reader));
        // The list takes a lock that is held for as long as a page does not come.
        let kept = self.budget.kept().clone();
        let read = self.aside.within(LONGEST_LOCKED, move || {
            let began = own_cpu_time();
            let (mut of_others, mut is_fresh) = (Vec::new(), false);
            let code = maps::executable(reader, MAX_MAPPINGS, &kept, |mapping| {
                let Some(device) = mapping.file_device() else { return };
                if filesystems.is_unknown(device) && !std::mem::replace(&mut is_fresh, true) {
                    filesystems = Filesystems::of(reader);
                }
                if filesystems.may_hang(device) && of_others.len() < MAX_MAPPINGS {
                    of_others.push(mapping.start..mapping.end);
                }
            });
            code.map(|code| (code, of_others, filesystems, own_cpu_time().saturating_sub(began)))
        });
        let (code, of_others, filesystems, took) = read.unwrap_or_else(|| Err(unanswered()))?;
        self.filesystems = Some(filesystems);
        self.memory.set_served_by_others(of_others);
        if code.is_cut {
            self.budget.leave_out("code of further mappings", Scarce::Kept);
        }
        let mappings = code.lines.into_iter().map(|line| {
            let maps::Line { start, end, offset, device, inode, name } = line;
            let is_file = name.starts_with('/') || matches!(&*name, "[vdso]" | "[vsyscall]");
            let file = is_file.then(|| Arc::new(FileKey { dev: device, inode, path: name }));
            let mapping = Mapping { start, end, offset, file, module: None };
            self.named_as_before(mapping)
        });
        let mappings = mappings.collect();
        self.replace(in_order(mappings))?;
        self.size = Some(code.size);
        Ok(took)
    }

    /// A mapping with the name that its file had before, if that was renamed or deleted meanwhile: it is the same code. The file is
    /// open, so that its inode number cannot have come to name another one.
    fn named_as_before(&self, mapping: Mapping) -> Mapping {
        let at = self.mappings.partition_point(|old| old.end <= mapping.start);
        let place = |mapping: &Mapping| (mapping.start, mapping.end, mapping.offset);
        let inode = |mapping: &Mapping| mapping.file.as_ref().map(|file| (file.dev, file.inode));
        let is_open = |old: &Mapping| {
            let module = old.module.and_then(|id| self.get(id));
            module.is_some_and(|module| matches!(module.source, ModuleSource::File { .. }))
        };
        let is_same = |old: &&Mapping| place(old) == place(&mapping) && inode(old) == inode(&mapping) && is_open(old);
        match self.mappings.get(at).filter(is_same) {
            Some(old) => Mapping { file: old.file.clone(), ..mapping },
            None => mapping,
        }
    }

    /// Takes in the mappings as they are now.
    fn replace(&mut self, mut mappings: Vec<Mapping>) -> io::Result<()> {
        if mappings.is_empty() {
            return Err(io::Error::other("the process has no code: it has ended"));
        }
        let mapped: HashSet<ModuleId> = self.mappings.iter().filter_map(|mapping| mapping.module).collect();
        let unwritten = |id: &ModuleId| self.get(*id).is_some_and(Module::is_unwritten);
        let written: HashSet<ModuleId> = mapped.into_iter().filter(|id| !unwritten(id)).collect();
        let is_written = !written.is_empty();
        let is_same = mappings.len() == self.mappings.len()
            && mappings.iter().zip(&self.mappings).all(|(new, old)| new.is_same(old));
        if is_same && !is_written {
            return Ok(());
        }
        self.generation += 1;
        self.is_reused |= is_written;
        for mapping in &mut mappings {
            let module = self.same_as(mapping).and_then(|old| old.module);
            mapping.module = module.filter(|id| !written.contains(id));
        }
        let gone = std::mem::replace(&mut self.mappings, mappings);
        let gone = gone.into_iter().filter(|old| old.module.is_some() && !self.has(old));
        let gone: Vec<_> = gone.map(|mapping| Gone { mapping, is_reused: false }).collect();
        self.gone.splice(..0, gone);
        // What is mapped has half of the files at least.
        self.gone.truncate(MAX_GONE.min(self.most_files / 2));
        for gone in self.gone.iter_mut().filter(|gone| !gone.is_reused) {
            let (start, end) = (gone.mapping.start, gone.mapping.end);
            let next = self.mappings.partition_point(|mapping| mapping.end <= start);
            // What was loaded again as it was is the same code.
            let is_other = |mapping: &&Mapping| mapping.start < end && !mapping.is_same(&gone.mapping);
            gone.is_reused = self.mappings.get(next).is_some_and(|mapping| is_other(&mapping));
            self.is_reused |= gone.is_reused;
        }
        self.forget_unused();
        Ok(())
    }

    /// Drops the modules that no mapping is of, neither now nor among those that are remembered, and closes their files.
    fn forget_unused(&mut self) {
        let mappings = self.mappings.iter().chain(self.gone.iter().map(|gone| &gone.mapping));
        let used: HashSet<ModuleId> = mappings.filter_map(|mapping| mapping.module).collect();
        self.modules.retain(|id, _| used.contains(id));
        self.opened.retain(|_, ids| {
            ids.retain(|id| used.contains(id));
            !ids.is_empty()
        });
        let others = self.others.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !others.copies.is_empty() {
            let mapped: HashSet<&FileKey> =
                self.mappings.iter().filter_map(|mapping| mapping.file.as_deref()).collect();
            others.copies.retain(|file, _| mapped.contains(file) || self.opened.contains_key(file));
        }
    }

    /// The mapping that is the same code as this one.
    fn same_as(&self, other: &Mapping) -> Option<&Mapping> {
        let at = self.mappings.partition_point(|mapping| mapping.end <= other.start);
        self.mappings.get(at).filter(|mapping| mapping.is_same(other))
    }

    /// Whether there is a mapping like this one now.
    fn has(&self, old: &Mapping) -> bool {
        self.same_as(old).is_some()
    }

    /// How long ago the mappings were read.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.refreshed.elapsed()
    }

    /// The mapped files that do not answer, each with its file system.
    #[must_use]
    pub fn unanswered(&self) -> BTreeMap<String, String> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner).unanswered.clone()
    }

    /// A number that changes whenever an address may have come to mean other code.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
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
        let mapping = mapping.clone();
        let module = self.known(&file, &mapping).unwrap_or_else(|| self.open(&file, &mapping));
        self.claim(&file, module);
        self.mappings[index].module = Some(module);
        Some(Code::Module(module))
    }

    /// What lay at `address` before it was unloaded, if nothing does now. For stacks that were taken before, and for threads
    /// that are still to return there.
    pub fn recall(&mut self, address: u64) -> Option<ModuleId> {
        if self.find(address).is_some() {
            return None;
        }
        let mappings = self.gone.iter().map(|gone| &gone.mapping);
        mappings.filter(|gone| (gone.start..gone.end).contains(&address)).find_map(|gone| gone.module)
    }

    /// What lies at `address`, or lay there last.
    pub fn find_or_recall(&mut self, address: u64) -> Option<Code> {
        self.find(address).or_else(|| self.recall(address).map(Code::Module))
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
        self.modules.get(&id)
    }

    /// Where a module's code lies in memory.
    pub fn mappings_of(&self, id: ModuleId) -> impl Iterator<Item = Range<u64>> {
        self.mappings.iter().filter(move |mapping| mapping.module == Some(id)).map(|mapping| mapping.start..mapping.end)
    }

    /// The same, or where it lay before it was unloaded, if nothing else has been mapped there.
    pub fn last_mappings_of(&self, id: ModuleId) -> impl Iterator<Item = Range<u64>> {
        let mut gone: Vec<Range<u64>> = Vec::new();
        for old in self.gone.iter().filter(|old| !old.is_reused && old.mapping.module == Some(id)) {
            let range = old.mapping.start..old.mapping.end;
            let overlaps = gone.iter().any(|other| other.start < range.end && range.start < other.end);
            if !overlaps && !self.has(&old.mapping) {
                gone.push(range);
            }
        }
        self.mappings_of(id).chain(gone)
    }

    /// The files that code is mapped from. A file comes again for each other place, or other part of it, that is mapped.
    pub fn mapped_files(&self) -> impl Iterator<Item = MappedPlace<'_>> {
        let mut last: Option<&FileKey> = None;
        self.mappings.iter().filter_map(move |mapping| {
            let file = mapping.file.as_deref();
            let is_next = file.is_some() && file == last;
            last = file;
            let file = file.filter(|file| !is_next && !file.path.starts_with('['))?;
            Some(MappedPlace { path: &file.path, inode: file.inode, start: mapping.start, offset: mapping.offset })
        })
    }

    /// Gives all mappings of one and the same loaded file to its module.
    fn claim(&mut self, file: &Arc<FileKey>, id: ModuleId) {
        let Some(Module { elf: Ok(elf), bias, .. }) = self.modules.get(&id) else {
            return;
        };
        for mapping in self.mappings.iter_mut().filter(|mapping| mapping.file.as_ref() == Some(file)) {
            if elf.bias(mapping.start, mapping.offset) == Some(*bias) {
                mapping.module = Some(id);
            }
        }
    }
}

/// What has to be added to the addresses of a file to get those of its mapping.
fn place(elf: &Result<Arc<Elf>, String>, mapping: &Mapping) -> u64 {
    let bias = elf.as_ref().ok().and_then(|elf| elf.bias(mapping.start, mapping.offset));
    // Without an ELF file its own addresses are file offsets.
    bias.unwrap_or(mapping.start.wrapping_sub(mapping.offset))
}

/// The list of mappings takes a lock that somebody holds who waits for what does not come.
fn unanswered() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the list of its mappings does not answer")
}

/// CPU time of this thread so far.
pub(super) fn own_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Sorted, and without overlaps: the kernel makes the list piece by piece, and mappings may change in between.
fn in_order(mut mappings: Vec<Mapping>) -> Vec<Mapping> {
    mappings.sort_by_key(|mapping| mapping.start);
    let mut end = 0;
    mappings.retain(|mapping| {
        let fits = mapping.start >= end && mapping.end > mapping.start;
        end = if fits { mapping.end } else { end };
        fits
    });
    mappings
}

/// Whether a thread has not begun to exit: it can be read through. It loses its memory long before its state says so.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/kernel/fork.c#L1375> (`get_task_exe_file`)
#[must_use]
pub fn has_memory(thread: u32) -> bool {
    fs::read_link(format!("/proc/{thread}/exe")).is_ok()
}

/// The threads of a process; none if it is gone.
fn threads_of(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
