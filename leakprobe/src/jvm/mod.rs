//! Java's virtual machine, HotSpot: how large the frames of the code are that it makes.
//!
//! Compiled methods keep no frame pointers unless the JVM is told to, and no call frame information tells of them. But every such
//! piece of code lies in the code cache with a head that says how large its frames are, and the JVM exports where the fields of
//! its structures lie, for its own debugger. Read from memory, nothing is asked of the JVM.

mod blocks;
mod classes;
mod code;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod structs;

use std::sync::Arc;

use crate::{
    model::Gap,
    snapshot::FrameSizes,
    target::{MappedFile, Modules, ProcessMemory},
};
use classes::Classes;
use code::CodeCache;

/// Looks for a JVM in a process.
#[derive(Default)]
pub struct Finder {
    /// The mappings that were looked at last.
    generation: Option<u64>,
    found: Option<Result<Arc<CodeCache>, String>>,
    classes: Option<Classes>,
}

impl Finder {
    /// Looks, if there are other mappings than the last time; returns whether anything has been found since. To be called before
    /// each snapshot. Costs some ms if there is a JVM, once.
    pub fn find(&mut self, modules: &Modules) -> bool {
        if let Some(Ok(known)) = &self.found {
            known.forget_misses();
            return false;
        }
        if self.generation.replace(modules.generation()) == Some(modules.generation()) {
            return false;
        }
        let Some((file, memory)) = library(modules) else { return false };
        let read = |file: MappedFile| modules.budget().timed_of(&file.path, || CodeCache::of(&file, memory));
        let Some(found) = file.map(read).transpose() else { return false };
        self.found = Some(found.and_then(|found| found).map(Arc::new));
        matches!(self.found, Some(Ok(_)))
    }

    /// Whether the program has ever used a virtual thread: the class is initialized when the first one is made. `false` as well if
    /// there is no JVM, or if it does not say. Costs some ms.
    pub fn has_virtual_threads(&mut self, modules: &Modules) -> bool {
        let Some((file, memory)) = library(modules) else { return false };
        let Ok(file) = file else { return false };
        let look = || {
            if self.classes.is_none() {
                self.classes = Classes::of(&file, &memory).ok();
            }
            self.classes.is_some_and(|classes| classes.is_initialized("java/lang/VirtualThread", &memory))
        };
        modules.budget().timed_of(&file.path, look).unwrap_or(false)
    }

    /// What the JVM says of the frames of its code.
    #[must_use]
    pub fn frame_sizes(&self) -> Option<Arc<dyn FrameSizes>> {
        let found = self.found.as_ref()?.as_ref().ok()?;
        Some(Arc::clone(found) as _)
    }

    /// What is not seen of a JVM that is there.
    #[must_use]
    pub fn gap(&self) -> Option<Gap> {
        let why = self.found.as_ref()?.as_ref().err()?;
        Some(Gap::JvmCode { why: why.to_string() })
    }
}

/// The JVM's library, if there is one, and the memory that it is in.
fn library(modules: &Modules) -> Option<(Result<MappedFile, String>, ProcessMemory)> {
    let place = modules.mapped_files().find(|file| file.path.rsplit('/').next() == Some("libjvm.so"))?;
    Some((modules.open_mapped(&place).map_err(|error| error.to_string()), modules.memory()?))
}
