//! Finds the Go runtimes of a process, and finds them again when its modules have changed.

use std::{collections::HashMap, sync::Arc};

use super::{
    Problem, Runtime, Version,
    build_version::{self, BuildVersion},
    buildinfo::BuildInfo,
    code::GoModule,
    image::Image,
    layout::Known,
    memory::Scan,
    moduledata::Moduledata,
    runtime::{self, Threads},
};
use crate::{
    model::Gap,
    privilege,
    target::{MappedFile, Modules, ProcessMemory, own_thread_ids},
};

/// Most files that are looked at.
const MAX_FILES: usize = 4096;
/// So often it is tried to make out what was there but could not be made out.
const MAX_TRIES: u32 = 3;
/// Most threads whose ids are read.
const MAX_THREADS: usize = 256;

/// Finds the Go runtimes of a process. Remembers what it has found, so that asking again is cheap.
#[derive(Debug, Default)]
pub struct Finder {
    /// [`Modules::generation`] when it was last looked.
    generation: Option<u64>,
    /// What the files are.
    images: HashMap<MappedPlace, Option<Arc<Image>>>,
    /// What the last look at all of them brought.
    found: Vec<Result<Runtime, Problem>>,
    tries: u32,
}

/// What tells a mapped file from others.
type MappedPlace = (Arc<str>, u64, u64);

impl Finder {
    /// The Go runtimes of the process, or why one that is there cannot be read; empty if it has nothing to do with Go.
    ///
    /// Costs a few 10 µs for each mapped file, some ms for each that is Go, and a copy of its function table; next to nothing if
    /// the mappings are still the same. To be asked again as long as there is a [`Problem::NotYet`], and whenever
    /// [`Modules::generation`] has changed.
    pub fn find(&mut self, modules: &Modules, memory: &ProcessMemory) -> Vec<Result<Runtime, Problem>> {
        let is_same_code = self.generation == Some(modules.generation());
        let is_open = self.found.iter().any(|found| match found {
            Err(Problem::NotYet(_)) => true,
            Err(Problem::Unreadable(_)) => self.tries < MAX_TRIES,
            Ok(_) | Err(Problem::Unsupported(_)) => false,
        });
        if is_same_code && !is_open {
            return self.found.clone();
        }
        let changed = !is_same_code && self.look_at_files(modules, memory);
        self.generation = Some(modules.generation());
        if changed || is_open {
            self.tries = if changed { 1 } else { self.tries + 1 };
            let images: Vec<_> = self.images.values().flatten().map(Arc::clone).collect();
            self.found = find_all(&images, memory, &threads(modules.reader()));
        }
        self.found.clone()
    }

    /// What was found last turns out to be wrong: the next call of [`Self::find`] looks again.
    pub fn doubt(&mut self) {
        self.generation = None;
        self.images.clear();
    }

    /// Opens the files that are new and forgets those that are gone. Returns whether that made a difference to Go.
    fn look_at_files(&mut self, modules: &Modules, memory: &ProcessMemory) -> bool {
        let mut changed = false;
        let mut images = HashMap::new();
        for place in modules.mapped_files().take(MAX_FILES) {
            let key: MappedPlace = (place.path.into(), place.inode, place.start);
            let image = self.images.remove(&key).unwrap_or_else(|| {
                let image = modules.open_mapped(&place).ok().and_then(|file: MappedFile| Image::open(&file, memory));
                changed |= image.is_some();
                image.map(Arc::new)
            });
            images.insert(key, image);
        }
        changed |= self.images.values().any(Option::is_some);
        self.images = images;
        changed
    }
}

/// The ids of a process's threads.
fn threads(pid: Option<u32>) -> Threads {
    let ids = pid.map(|pid| own_thread_ids(pid, MAX_THREADS)).unwrap_or_default();
    Threads { ids: ids.into_iter().map(u64::from).collect() }
}

/// All runtimes of some Go files.
fn find_all(images: &[Arc<Image>], memory: &ProcessMemory, threads: &Threads) -> Vec<Result<Runtime, Problem>> {
    let (mut found, mut roots, mut silent) = (Vec::new(), Vec::new(), Vec::new());
    for image in images {
        match find_one(image, memory) {
            Ok(Some(root)) => roots.push(root),
            Ok(None) => silent.push(image),
            Err(problem) => found.push(Err(problem)),
        }
    }
    // A plugin belongs to the runtime of the program, to whose list of modules it was added.
    let linked: Vec<u64> =
        roots.iter().flat_map(|root| root.modules.iter().skip(1)).map(|module| module.address).collect();
    roots.retain(|root| root.modules.first().is_some_and(|own| !linked.contains(&own.address)));
    for image in silent {
        let mut modules = roots.iter().flat_map(|root| &root.modules);
        if modules.any(|module| image.load_of(module.text.start).is_some()) {
            continue;
        }
        found.push(Err(if roots.is_empty() {
            no_version(&image.path, "nothing")
        } else {
            Problem::NotYet(image.path.to_string())
        }));
    }
    found.extend(roots.into_iter().map(|root| root.make_out(images, memory, threads)));
    found
}

/// A file that has a list of modules.
struct Root {
    version: Version,
    known: Known,
    /// Its own, then those of plugins.
    modules: Vec<Moduledata>,
    /// Whether the list could be followed to its end.
    is_complete: bool,
}

impl Root {
    fn make_out(self, images: &[Arc<Image>], memory: &ProcessMemory, threads: &Threads) -> Result<Runtime, Problem> {
        let count = self.modules.len();
        let image_of = |module: &Moduledata| images.iter().find(|image| image.load_of(module.text.start).is_some());
        let modules: Vec<_> =
            self.modules.into_iter().filter_map(|module| Some((image_of(&module)?, module))).collect();
        let mut runtime = runtime::make_out(memory, &self.version, &self.known, &modules, threads)?;
        if !self.is_complete || modules.len() < count {
            runtime.gaps.push(Gap::GoPlugins);
        }
        Ok(runtime)
    }
}

/// The modules of a file that has a runtime; `None` if it has none, as a plugin.
fn find_one(image: &Image, memory: &ProcessMemory) -> Result<Option<Root>, Problem> {
    let path = &image.path;
    let version = match &image.build {
        BuildInfo::Version(version) => version.clone(),
        BuildInfo::Other(text) => match ask_runtime(image, memory)? {
            BuildVersion::Version(version) => version,
            BuildVersion::Unknown | BuildVersion::NoRuntime => return Err(no_version(path, text)),
        },
        BuildInfo::Nothing => match ask_runtime(image, memory)? {
            BuildVersion::Version(version) => version,
            BuildVersion::Unknown => return Err(no_version(path, "nothing")),
            BuildVersion::NoRuntime => return Ok(None),
        },
    };
    let known = runtime::known(&version, path)?;
    let own = moduledata(image, memory, &known, &version.text)?;
    let (modules, is_complete) = own.chain(memory, &known);
    Ok(Some(Root { version, known, modules, is_complete }))
}

/// The version of a file's runtime by its own variable. Costs a copy of the function table.
fn ask_runtime(image: &Image, memory: &ProcessMemory) -> Result<BuildVersion, Problem> {
    // What is needed of it lies at the same place in every version.
    let own = moduledata(image, memory, &Known::newest(), "its version is not known")?;
    let module = GoModule::read(memory, image, &own).map_err(Problem::Unreadable)?;
    Ok(build_version::read(memory, &module.table, &own))
}

fn moduledata(image: &Image, memory: &ProcessMemory, known: &Known, version: &str) -> Result<Moduledata, Problem> {
    let path = &image.path;
    match Moduledata::find(memory, image, known) {
        Scan::Found(own) => Ok(own),
        Scan::Nothing => Err(Problem::Unreadable(format!(
            "the function table of {path} ({version}) was not found: only its threads are shown"
        ))),
        Scan::Unreadable => Err(Problem::Unreadable(format!(
            "the memory of {path} cannot be read{}",
            privilege::advice_to_read_others()
        ))),
    }
}

fn no_version(path: &str, says: &str) -> Problem {
    Problem::Unsupported(format!(
        "{path} is made with Go, but does not say with which version (it says {says}): only its threads are shown"
    ))
}
