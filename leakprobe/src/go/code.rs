//! The code of a Go runtime: which of its modules an address belongs to, and their function tables.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use super::{
    image::Image,
    memory::Words,
    moduledata::Moduledata,
    pclntab::{Header, Table},
};
use crate::snapshot::{FrameSize, FrameSizes};

/// Most bytes after `gofunc` that are read: the trees of inlined calls of one module and more.
const MAX_GOFUNC: u64 = 128 << 20;

/// A piece of Go code: the main program, a plugin, or a shared library.
#[derive(Debug)]
pub struct GoModule {
    /// Its file's path as the process sees it.
    pub path: Arc<str>,
    /// Where its code lies.
    pub text: Range<u64>,
    /// Its functions.
    pub table: Table,
}

impl GoModule {
    /// Reads a module's function table, from its file if that holds the same as the process. Costs a copy of it.
    pub(super) fn read(memory: &impl Words, image: &Image, module: &Moduledata) -> Result<Self, String> {
        let pclntab = read(memory, image, &module.pclntab)?;
        let gofunc = match &module.gofunc {
            None => Bytes::new(),
            Some(gofunc) => {
                let segment = image.load_of(gofunc.start).map_or(gofunc.start, |load| load.memory.end);
                let end = gofunc.end.min(segment).min(gofunc.start.saturating_add(MAX_GOFUNC));
                read(memory, image, &(gofunc.start..end)).unwrap_or_default()
            }
        };
        let table = Table::new(&pclntab, module.text.start, gofunc)
            .map_err(|error| format!("the function table of {} is of no use: {error}", image.path))?;
        let table = table.within(image.budget().clone(), Arc::clone(&image.path));
        Ok(Self { path: Arc::clone(&image.path), text: module.text.clone(), table })
    }
}

/// The bytes of a range that nobody writes to.
fn read(memory: &impl Words, image: &Image, range: &Range<u64>) -> Result<Bytes, String> {
    let from_file = image.read_constant(range).filter(|bytes| {
        // The header of a file of old may lack where the text starts, which is filled in when it is loaded: not looked at.
        let here = memory.bytes(range.start, Header::SIZE.min(bytes.len()));
        let is_same = |range: Range<usize>| bytes.get(range.clone()) == here.get(range);
        is_same(0..TEXT_START) && is_same(TEXT_START + 8..here.len())
    });
    let from_memory = || {
        let len = range.end.saturating_sub(range.start);
        image.kept(len, |bytes| memory.read(range.start, bytes) == bytes.len())
    };
    from_file.or_else(from_memory).ok_or_else(|| format!("the function table of {} cannot be read", image.path))
}

/// Offset of `pcHeader.textStart`.
const TEXT_START: usize = 24;

/// The code of one Go runtime, sorted by address.
#[derive(Debug, Default)]
pub struct Code {
    modules: Vec<GoModule>,
}

impl Code {
    /// Of these modules.
    #[must_use]
    pub fn new(mut modules: Vec<GoModule>) -> Self {
        modules.sort_by_key(|module| module.text.start);
        Self { modules }
    }

    /// The module whose code lies at `pc`.
    #[must_use]
    pub fn find(&self, pc: u64) -> Option<&GoModule> {
        let index = self.modules.partition_point(|module| module.text.end <= pc);
        self.modules.get(index).filter(|module| module.text.start <= pc)
    }

    /// Whether `pc` is the entry of a function.
    #[must_use]
    pub fn is_entry(&self, pc: u64) -> bool {
        self.find(pc).is_some_and(|module| module.table.is_entry(pc))
    }

    /// All of them, by address.
    #[must_use]
    pub fn modules(&self) -> &[GoModule] {
        &self.modules
    }
}

/// For threads, whose stacks may be Go's at one end and the system's at the other.
impl FrameSizes for Code {
    fn frame_size(&self, address: u64) -> Option<FrameSize> {
        let function = self.find(address)?.table.find(address)?;
        // A function that writes the stack pointer has come from another stack: where the scheduler's or the system's begins.
        let begins = function.flags().is_top_frame() || function.switches_stacks();
        if begins && !function.is_foreign() {
            return Some(FrameSize::Outermost);
        }
        function.frame_size_at(address).filter(|_| !function.is_foreign()).map(FrameSize::Bytes)
    }
}
