//! Addresses to frames.
//!
//! Names come from two places. ELF symbol tables are read by us (`symtab`), for files and for images of memory alike;
//! inlined functions and lines come from DWARF by blazesym (`dwarf`). blazesym could do both, but its symbol lookup fails
//! for a whole file that has Fedora's compressed `.gnu_debugdata`, stretches symbols without size to any address above, and
//! takes any of several names for a function. What DWARF cannot tell, for whichever reason, keeps its name from ELF.

mod cache;
mod called;
mod debugdata;
mod debugfile;
mod dwarf;
mod elf;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod go;
mod interpreted;
mod jit;
mod kernel;
mod name;
mod perfmap;
mod stacks;
mod symtab;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use self::{
    cache::{Debug, Identity, Key, Known, lock_awake},
    debugfile::{Candidate, Proof},
    dwarf::{Scope, Shared},
    elf::{AltLink, Dwarf},
    name::Readable,
    symtab::Search,
    symtab::Symbol,
};
use crate::{
    model::Frame,
    privilege,
    target::{
        Budget, Root, RootId,
        budget::Scarce,
        descriptors,
        file::{Content, TargetFile},
        open_regular,
    },
};

pub use cache::Cache;
pub use dwarf::{helper_cost, is_helper};
use go::GoCode;
pub use stacks::Stacks;

/// Most modules whose debug information is said to be unusable, or whose files to be corrupt.
const MOST_LOSSES: usize = 1024;
/// Once a run is to end, names are looked up for so long at most.
const AFTER_THE_END: Duration = Duration::from_secs(1);
/// Why a frame has no name that there was no time or memory for.
const NOT_LOOKED_UP: &str = "was not looked up";

/// A file or a piece of memory that code comes from.
#[derive(Clone, Debug)]
pub struct Module {
    /// Shown in frames, as in /proc/PID/maps: `/usr/lib/libc.so.6`, `[vdso]`.
    pub path: String,
    /// Where its symbols come from.
    pub source: Source,
}

/// Where a module's symbols come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file to open: /proc/PID/map_files/…, which is the mapped file even if another took its name, or
    /// /proc/PID/root/…, or the path itself.
    File(PathBuf),
    /// An ELF image read from the target's memory, such as the vDSO.
    Image(Arc<[u8]>),
    /// It cannot be read; says why, in one phrase.
    Missing(String),
    /// Memory that belongs to no file.
    Anonymous,
}

/// An address to look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lookup {
    /// The address as the module itself counts (ELF virtual address), not where it lies in the target.
    pub svma: u64,
    /// Whether it is a return address. The call before it is looked up then: a call that never returns may be the last
    /// instruction of its function, and what follows belongs to another.
    pub is_return: bool,
}

impl Lookup {
    fn probe(self) -> u64 {
        self.svma.saturating_sub(u64::from(self.is_return))
    }
}

/// What a [`Symbolizer`] may use.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether to read debug information: inlined functions and lines. Without it: function names alone, quickly.
    pub debug_info: bool,
    /// The most bytes of debug information to accept of one file, decompressed. What is needed of it is read where it lies.
    pub largest_debug_info: u64,
    /// The most bytes of it that may be compressed in the file, decompressed: that has to be held in memory.
    pub largest_inflated: u64,
    /// How long to wait for the debug information of one file.
    pub debug_info_timeout: Duration,
    /// Where debug information split from its program is installed.
    pub debug_directories: Vec<PathBuf>,
    /// On which files are read.
    pub budget: Budget,
    /// Where what is found is remembered, for all who share it.
    pub cache: Cache,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            debug_info: true,
            largest_debug_info: 4 << 30,
            largest_inflated: 512 << 20,
            debug_info_timeout: Duration::from_secs(20),
            debug_directories: vec!["/usr/lib/debug".into(), "/lib/debug".into()],
            budget: Budget::default(),
            cache: Cache::default(),
        }
    }
}

/// Turns addresses into frames, and remembers what it found.
///
/// Costs what it takes to read a module's symbol table for each batch of addresses not seen before; nothing for those seen.
/// Needs no privileges but to open the files.
pub struct Symbolizer {
    options: Options,
    /// The target's, in which debug information is looked for first.
    root: Option<Root>,
    root_id: Option<RootId>,
    dwarf: dwarf::Reader,
    /// What is found is remembered here once a limit of this target's was met: others must not go without because of that.
    own: Option<Cache>,
    /// Why debug information could not be used, by module.
    losses: BTreeMap<String, String>,
    /// What is wrong with files that are corrupt, by module.
    corrupt: BTreeMap<String, String>,
}

impl Symbolizer {
    /// A symbolizer that knows what is in the cache of `options`.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let dwarf = dwarf::Reader::new(options.debug_info_timeout, options.budget.clone());
        Self { dwarf, options, root: None, root_id: None, own: None, losses: BTreeMap::new(), corrupt: BTreeMap::new() }
    }

    /// From now on debug information is looked for in this root first, which is that of the target, and then in our own.
    pub fn set_root(&mut self, root: Option<Root>) {
        self.root_id = root.as_ref().map(Root::id);
        self.root = root;
    }

    fn cache(&self) -> &Cache {
        self.own.as_ref().unwrap_or(&self.options.cache)
    }

    fn largest(&self) -> elf::Largest {
        elf::Largest { total: self.options.largest_debug_info, inflated: self.options.largest_inflated }
    }

    /// The functions at each address, innermost inlined one first. Never empty: a frame without a name says why.
    pub fn resolve(&mut self, module: &Module, lookups: &[Lookup]) -> Vec<Vec<Frame>> {
        if self.options.budget.is_over(AFTER_THE_END) {
            return self.not_looked_up(module, lookups);
        }
        match &module.source {
            Source::File(path) => match elf::open(path) {
                Ok((file, metadata)) => {
                    self.remembered(module, Identity::from(&metadata), lookups, |this, known, wanted| {
                        let budget = this.options.budget.clone();
                        if budget.time_left().is_zero() {
                            budget.leave_out(&module.path, Scarce::Time);
                            return;
                        }
                        let data = TargetFile::new(&file, &module.path, &budget);
                        budget.timed(|| this.look_up(&data, Some(&file), &module.path, known, wanted));
                    })
                }
                Err(error) => all_unknown(module, lookups, &format!("module could not be read: {error}")),
            },
            Source::Image(bytes) => {
                let identity = Identity::Image(Arc::clone(bytes));
                self.remembered(module, identity, lookups, |this, known, wanted| {
                    this.look_up(&bytes[..], None, &module.path, known, wanted);
                })
            }
            Source::Missing(why) => all_unknown(module, lookups, &format!("module could not be read: {why}")),
            Source::Anonymous => all_unknown(module, lookups, "anonymous memory"),
        }
    }

    /// There is no time left for these.
    fn not_looked_up(&self, module: &Module, lookups: &[Lookup]) -> Vec<Vec<Frame>> {
        self.options.budget.leave_out(&module.path, Scarce::Time);
        all_unknown(module, lookups, NOT_LOOKED_UP)
    }

    /// Modules whose debug information is there but could not be used, and why: their frames lack inlined functions and lines.
    pub fn losses(&self) -> impl Iterator<Item = (&str, &str)> {
        self.losses.iter().map(|(path, why)| (path.as_str(), why.as_str()))
    }

    /// Notes that a module's file is corrupt, as others have found.
    pub(crate) fn note_corrupt(&mut self, module: &str, why: &str) {
        note(&mut self.corrupt, module, why);
    }

    /// Modules whose files are corrupt, and what is wrong with them: functions have no names, or stacks are cut.
    pub fn corrupt(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.corrupt.iter().map(|(path, why)| (path.as_str(), why.as_str()))
    }

    /// Answers from memory, after `look_up` has added what is not yet there.
    fn remembered(
        &mut self,
        module: &Module,
        identity: Identity,
        lookups: &[Lookup],
        look_up: impl FnOnce(&mut Self, &mut Known, &[Lookup]),
    ) -> Vec<Vec<Frame>> {
        let key = Key { path: module.path.clone(), identity, root: self.root_id.clone() };
        let is_shared = self.own.is_none();
        let module_of_all = self.cache().module(&key);
        let budget = self.options.budget.clone();
        let Some(mut known) = lock_awake(&module_of_all, || budget.is_over(AFTER_THE_END)) else {
            return self.not_looked_up(module, lookups);
        };
        let known = &mut *known;
        known.make_room();
        let wanted = known.missing(lookups);
        let cut = self.options.budget.times_left_out();
        if !wanted.is_empty() {
            look_up(self, known, &wanted);
        }
        let is_scarce = self.options.budget.times_left_out() != cut;
        let is_cut_short = self.dwarf.is_given_up() || is_scarce;
        if let Debug::Unusable(why) = &known.debug {
            note(&mut self.losses, &module.path, why);
        }
        // What is wrong with a file of which not all may be read is not known.
        if is_scarce {
            known.corrupt = None;
        } else if let Some(why) = &known.corrupt {
            note(&mut self.corrupt, &module.path, why);
        }
        let frames = lookups.iter().map(|lookup| match known.frames.get(lookup) {
            Some(frames) => frames.clone(),
            None => vec![unknown(&module.path, lookup.svma, NOT_LOOKED_UP)],
        });
        let frames = frames.collect();
        if is_shared && is_cut_short {
            // What this target's own limits kept from it is not so for others.
            self.own = Some(Cache::default());
            known.forget(&wanted);
        } else if !is_shared {
            // Many targets may have a cache of their own: it keeps what debug information there is, but no frames.
            known.frames.clear();
        }
        frames
    }

    /// Looks up what was not seen before. `wanted` is sorted by the address to probe.
    fn look_up<'data>(
        &mut self,
        data: impl Content<'data>,
        file: Option<&File>,
        path: &str,
        known: &mut Known,
        wanted: &[Lookup],
    ) {
        let mut probes: Vec<u64> = wanted.iter().map(|lookup| lookup.probe()).collect();
        probes.dedup();
        let mut search = Search::new(&probes);
        let is_new = matches!(known.debug, Debug::NotLooked);
        let facts = match elf::read(data, is_new.then(|| self.largest()), &mut search) {
            Ok(facts) => facts,
            Err(why) => {
                let reason = format!("corrupt ELF: {why}");
                known.corrupt = Some(why);
                for lookup in wanted {
                    self.cache().add(known, *lookup, vec![unknown(path, lookup.svma, &reason)]);
                }
                return;
            }
        };
        if is_new {
            let debug_data = facts.debug_data;
            match file {
                Some(file) => self.find_debug(facts, file, path, known),
                None => known.debug = Debug::None,
            }
            // The debug file has all that is in here.
            if let (None, Some(place)) = (&known.split, debug_data) {
                match debugdata::inflate(data, place) {
                    Ok(inflated) => known.debug_data = Some(inflated),
                    Err(why) => search.corrupt = Some(format!(".gnu_debugdata: {why}")),
                }
            }
        }
        // A debug file has the local symbols that were stripped from the module, at the same addresses. It was read
        // before without error; should it have changed meanwhile, its symbols are missed and nothing else.
        if let Some(file) = &known.split {
            let _ = elf::read(&TargetFile::new(file, path, &self.options.budget), None, &mut search);
        }
        if let Some((bytes, _)) = &known.debug_data
            && let Err(why) = elf::read(&bytes[..], None, &mut search)
        {
            search.corrupt = Some(format!(".gnu_debugdata: {why}"));
        }
        let scopes = match &known.debug {
            Debug::In(origin) => self.dwarf.resolve(self.options.cache.helpers(), origin, &probes),
            _ => Ok(Vec::new()),
        };
        let mut scopes = scopes.unwrap_or_else(|why| {
            known.debug = Debug::Unusable(why);
            Vec::new()
        });
        scopes.resize(probes.len(), Vec::new());
        if search.corrupt.is_some() {
            known.corrupt.clone_from(&search.corrupt);
        }
        let symbols = search.finish();
        let budget = self.options.budget.clone();
        let mut names = Readable::within(&budget);
        for lookup in wanted {
            let Ok(index) = probes.binary_search(&lookup.probe()) else {
                continue;
            };
            let frames = frames(path, lookup.svma, &symbols[index], &scopes[index], &mut names);
            self.cache().add(known, *lookup, frames);
        }
    }

    /// Finds out where a module's debug information is: in itself, else in a file of its own.
    fn find_debug(&self, facts: elf::Facts, file: &File, module: &str, known: &mut Known) {
        let link = facts.debug_link.clone();
        let proof = Proof::of(facts.build_id.as_deref(), link.as_ref());
        let (mut found, mut corrupt) = (None, None);
        if let (Dwarf::Absent, Some(proof)) = (&facts.dwarf, proof) {
            let path = Path::new(module.strip_suffix(" (deleted)").unwrap_or(module));
            let candidates = debugfile::candidates(proof, link.as_ref(), path, &self.options.debug_directories);
            let mut files = candidates.iter().flat_map(|candidate| self.files_at(candidate));
            found = files.find_map(|file| {
                let proven = self.proven(module, file, proof);
                proven.map_err(|why| corrupt = Some(format!("its debug file is corrupt: {why}"))).ok().flatten()
            });
        }
        let (file, facts) = match found {
            Some((split, facts)) => {
                known.split = descriptors::has_room().then(|| split.try_clone().ok()).flatten();
                (Ok(split), facts)
            }
            // Whoever opened it first may close it.
            None => (file.try_clone(), facts),
        };
        let is_to_copy = match facts.dwarf {
            _ if !self.options.debug_info => return known.debug = Debug::None,
            Dwarf::Absent => return known.debug = corrupt.map_or(Debug::None, Debug::Unusable),
            Dwarf::Refused(why) => return known.debug = Debug::Unusable(why),
            Dwarf::Present => false,
            Dwarf::ToCopy => true,
        };
        known.debug = match file {
            Ok(_) if !descriptors::has_room() => {
                Debug::Unusable("its file cannot be kept open: too many others are".to_owned())
            }
            Ok(file) => {
                let shared = facts.alt_link.as_ref().and_then(|link| self.shared(module, &file, link));
                Debug::In(Arc::new(Cache::origin(module, file, is_to_copy, shared)))
            }
            Err(error) => Debug::Unusable(format!("its file cannot be kept open: {error}")),
        };
    }

    /// The file that holds what the debug information in `file` shares with others, and its build id.
    fn shared(&self, module: &str, file: &File, link: &AltLink) -> Option<Shared> {
        let proof = Proof::of(Some(&link.build_id), None)?;
        let beside = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        let candidates = debugfile::shared(link, &beside, &self.options.debug_directories);
        let mut files = candidates.iter().flat_map(|candidate| self.files_at(candidate));
        let (found, _) = files.find_map(|file| self.proven(module, file, proof).ok().flatten())?;
        drop(files);
        let origin = self.cache().shared(module, found)?;
        Some(Shared { origin, build_id: link.build_id.clone() })
    }

    /// The files that a candidate may stand for: in the target's root, and in ours if that is another one.
    fn files_at(&self, candidate: &Candidate) -> impl Iterator<Item = File> {
        let _rights = privilege::for_names_of_targets();
        let theirs = self.root.as_ref().and_then(|root| root.open(&candidate.path).ok());
        let is_other = self.root.as_ref().is_none_or(|root| !root.is_ours());
        // What lies beside the program lies there in the target's root alone.
        let is_here = is_other && (candidate.is_installed || self.root.is_none());
        let ours = is_here.then(|| open_regular(&candidate.path).ok()).flatten();
        theirs.into_iter().chain(ours)
    }

    /// The file, and what it says, if it belongs to the program.
    ///
    /// # Errors
    /// If it is corrupt: what is wrong with it.
    fn proven(&self, module: &str, file: File, proof: Proof<'_>) -> Result<Option<(File, elf::Facts)>, String> {
        let budget = &self.options.budget;
        let content = TargetFile::new(&file, module, budget);
        let facts = elf::read(&content, Some(self.largest()), &mut Search::new(&[]))?;
        drop(content);
        let is_proven = match proof {
            Proof::BuildId(id) => facts.build_id.as_deref() == Some(id),
            Proof::Checksum(crc) => {
                let largest = self.options.largest_debug_info;
                budget.timed(|| debugfile::checksum(&file, largest, budget)).ok().flatten() == Some(crc)
            }
        };
        Ok(is_proven.then_some((file, facts)))
    }
}

/// Notes what is wrong with a module, unless that is noted of too many others.
fn note(of: &mut BTreeMap<String, String>, module: &str, why: &str) {
    if of.len() < MOST_LOSSES || of.contains_key(module) {
        of.insert(module.to_owned(), name::without_controls(why.to_owned()));
    }
}

/// The frame of an address that lies in no module.
#[must_use]
pub fn unmapped(address: u64) -> Frame {
    unknown("", address, "address lies in no mapping: its code was unloaded, or is none")
}

fn unknown(module: &str, address: u64, reason: &str) -> Frame {
    Frame {
        module: module.to_owned(),
        address: format!("{address:#x}"),
        unknown: Some(name::without_controls(reason.to_owned())),
        ..Frame::default()
    }
}

fn all_unknown(module: &Module, lookups: &[Lookup], reason: &str) -> Vec<Vec<Frame>> {
    lookups.iter().map(|lookup| vec![unknown(&module.path, lookup.svma, reason)]).collect()
}

/// Puts together what ELF and DWARF say about an address.
fn frames(
    module: &str,
    address: u64,
    symbol: &Result<Symbol, String>,
    scopes: &[Scope],
    names: &mut Readable<'_>,
) -> Vec<Frame> {
    let nowhere = [Scope::default()];
    let scopes = if scopes.is_empty() { &nowhere } else { scopes };
    let outermost = scopes.len() - 1;
    scopes
        .iter()
        .enumerate()
        .map(|(index, scope)| {
            let inlined = index < outermost;
            let name = if inlined { Some(scope.name.as_bytes()) } else { outer_name(symbol, scope) };
            let function = name.map(|name| names.name(name)).unwrap_or_default();
            let reason = match symbol {
                _ if !function.is_empty() => None,
                _ if inlined => Some("the debug information does not name this inlined function".to_owned()),
                Ok(_) => Some("the symbol has no name".to_owned()),
                Err(why) => Some(why.clone()),
            };
            Frame {
                function,
                file: scope.file.clone().map(name::without_controls),
                line: scope.line,
                module: module.to_owned(),
                address: format!("{address:#x}"),
                inlined,
                unknown: reason,
                called_as: None,
                go: None,
            }
        })
        .collect()
}

/// The name of a function that is there in the machine code.
///
/// DWARF names the function as its source does, without `.cold` or `.constprop.0`. But libraries define functions under
/// internal names and export them under others (`pthread_cond_wait` is `___pthread_cond_wait` in glibc's source): the
/// exported one is what callers know, and what is shown where no debug information is installed.
fn outer_name<'a>(symbol: &'a Result<Symbol, String>, scope: &'a Scope) -> Option<&'a [u8]> {
    let from_dwarf = Some(scope.name.as_bytes()).filter(|name| !name.is_empty());
    match symbol {
        Ok(symbol) if from_dwarf.is_none() || symbol.global && symbol.start == scope.start => Some(&symbol.name),
        _ => from_dwarf,
    }
}
