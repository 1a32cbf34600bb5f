//! What is known of files with code, for all targets of a run: most processes run the same libraries, and many the same program.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    os::unix::fs::MetadataExt,
    sync::{
        Arc, Mutex, MutexGuard, TryLockError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    Lookup,
    dwarf::{Helpers, Origin, Shared},
};
use crate::{
    model::Frame,
    pool::Held,
    shared::lock,
    target::{RootId, descriptors},
};

/// How many modules, and addresses of one module, are remembered. Targets that run into one of these make code as they go; then all
/// is forgotten and begun anew, which is simpler than to know what will be needed again, and rare.
const MOST_MODULES: usize = 1024;
const MOST_ADDRESSES: usize = 1 << 16;
/// From one look at whether a module is free to the next, at first and in the end.
const AWAKE: Duration = Duration::from_millis(1);
const MOST_AWAKE: Duration = Duration::from_millis(32);
/// Most memory for frames that are remembered, bytes.
const MOST_BYTES: usize = 64 << 20;
/// About what an address takes that is remembered, besides its frames, bytes.
const OF_ADDRESS: usize = 96;

/// Files with code, what was found in them, and the helpers that read their debug information. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Cache(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    modules: Mutex<HashMap<Key, Arc<Mutex<Known>>>>,
    /// Bytes that the frames of `modules` take.
    bytes: AtomicUsize,
    /// Files with what several debug files share, by device and inode, which no other file gets as long as they are open.
    shared: Mutex<HashMap<(u64, u64), Arc<Origin>>>,
    helpers: Helpers,
}

/// What makes two modules the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// As frames show it.
    pub(super) path: String,
    pub(super) identity: Identity,
    /// The root in which its debug information is looked for first: another one may have none, or forged one.
    pub(super) root: Option<RootId>,
}

/// What makes two sources the same, whichever name they are opened by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    File { device: u64, inode: u64, size: u64, modified: (i64, i64) },
    Image(Arc<[u8]>),
}

impl From<&Metadata> for Identity {
    fn from(file: &Metadata) -> Self {
        let modified = (file.mtime(), file.mtime_nsec());
        Self::File { device: file.dev(), inode: file.ino(), size: file.size(), modified }
    }
}

/// What is known about a module.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) frames: HashMap<Lookup, Vec<Frame>>,
    pub(super) debug: Debug,
    /// What is wrong with its file, or with what is compressed in there: names are missing.
    pub(super) corrupt: Option<String>,
    /// The debug file of the module; its symbols are of use even where its DWARF is not.
    pub(super) split: Option<File>,
    /// The symbol table that was left in the stripped module, decompressed.
    pub(super) debug_data: Option<(Vec<u8>, Option<Held>)>,
}

/// Where a module's debug information is.
#[derive(Debug, Default)]
pub(super) enum Debug {
    #[default]
    NotLooked,
    None,
    In(Arc<Origin>),
    Unusable(String),
}

impl Known {
    /// Forgets its frames if they are too many.
    pub(super) fn make_room(&mut self) {
        if self.frames.len() >= MOST_ADDRESSES {
            self.frames.clear();
        }
    }

    /// Those of `lookups` that are not known yet, once each, by the address to probe.
    pub(super) fn missing(&self, lookups: &[Lookup]) -> Vec<Lookup> {
        let mut missing: Vec<Lookup> =
            lookups.iter().filter(|lookup| !self.frames.contains_key(lookup)).copied().collect();
        missing.sort_unstable_by_key(|lookup| (lookup.probe(), lookup.is_return));
        missing.dedup();
        missing
    }

    /// Forgets what was found of these, and that there is no debug information.
    pub(super) fn forget(&mut self, lookups: &[Lookup]) {
        lookups.iter().for_each(|lookup| {
            self.frames.remove(lookup);
        });
        if matches!(self.debug, Debug::Unusable(_) | Debug::None) {
            self.debug = Debug::NotLooked;
        }
    }
}

impl Cache {
    /// What is known of a module, which one at a time may look at and add to.
    pub(super) fn module(&self, key: &Key) -> Arc<Mutex<Known>> {
        // Each may hold three files open: its own, a debug file twice.
        let most = MOST_MODULES.min(descriptors::most_of_target() / 4).max(1);
        let mut modules = lock(&self.0.modules);
        let is_full = modules.len() >= most && !modules.contains_key(key);
        if is_full || self.0.bytes.load(Ordering::Relaxed) > MOST_BYTES {
            self.0.bytes.store(0, Ordering::Relaxed);
            modules.clear();
            lock(&self.0.shared).clear();
            self.0.helpers.forget();
        }
        Arc::clone(modules.entry(key.clone()).or_default())
    }

    /// Remembers the frames of an address of this module.
    pub(super) fn add(&self, known: &mut Known, lookup: Lookup, frames: Vec<Frame>) {
        let bytes: usize = frames.iter().map(|frame| size_of::<Frame>() + frame.text_len()).sum();
        self.0.bytes.fetch_add(bytes + OF_ADDRESS, Ordering::Relaxed);
        known.frames.insert(lookup, frames);
    }

    /// A file with debug information.
    pub(super) fn origin(module: &str, file: File, is_to_copy: bool, shared: Option<Shared>) -> Origin {
        /// By which they are numbered; helpers know them by that, whichever cache they are in.
        static FILES: AtomicU64 = AtomicU64::new(0);
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        Origin { number, file, module: module.to_owned(), is_to_copy, shared }
    }

    /// The same file with what several debug files share, whoever found it first.
    pub(super) fn shared(&self, module: &str, file: File) -> Option<Arc<Origin>> {
        let metadata = file.metadata().ok()?;
        let mut shared = lock(&self.0.shared);
        let origin = shared.entry((metadata.dev(), metadata.ino()));
        Some(Arc::clone(origin.or_insert_with(|| Arc::new(Self::origin(module, file, true, None)))))
    }

    /// How many addresses are known.
    #[cfg(test)]
    pub(super) fn frames(&self) -> usize {
        lock(&self.0.modules).values().map(|known| lock(known).frames.len()).sum()
    }

    /// Those that read debug information.
    pub(super) fn helpers(&self) -> &Helpers {
        &self.0.helpers
    }
}

/// Locks what another thread may hold for many seconds: this one is seen to be at work meanwhile, by the CPU time that it uses. `None` if it
/// `is_over` before.
pub(super) fn lock_awake<T>(of: &Mutex<T>, is_over: impl Fn() -> bool) -> Option<MutexGuard<'_, T>> {
    let mut pause = AWAKE;
    loop {
        match of.try_lock() {
            Ok(held) => return Some(held),
            Err(TryLockError::Poisoned(held)) => return Some(held.into_inner()),
            Err(TryLockError::WouldBlock) if is_over() => return None,
            Err(TryLockError::WouldBlock) => thread::sleep(pause),
        }
        // With many who wait, looking would take a CPU's time.
        pause = (2 * pause).min(MOST_AWAKE);
    }
}
