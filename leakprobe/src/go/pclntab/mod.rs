//! A reader of Go's pclntab: from an address to function, frame size, inlined calls, file and line, as the Go runtime
//! itself does it. Every Go program carries the table, because its own stack walks need it; stripping does not remove it.
//!
//! # The format
//!
//! One run of bytes, with these parts one after the other ([`Header`] says where each begins):
//!
//! | part | what is in it |
//! |---|---|
//! | names | names of functions, each ended by a zero |
//! | units | for each compilation unit its files: offsets into paths |
//! | paths | paths of files, each ended by a zero |
//! | values | tables of values by program counter: see `values.rs` |
//! | function table | sorted pairs: where a function begins, where its record is; then where the last one ends |
//! | records | one for each function: see [`Function`] |
//! | go:func.* | what records refer to as *funcdata*, among it the trees of inlined calls: see [`Frames`] |
//!
//! The last part lies here from Go 1.26 on. Before, it is in the read-only data of the program. In all versions
//! `moduledata.gofunc` is its address.
//!
//! Addresses are counted from `moduledata.text`. On 64-bit Linux the text of a module is one piece; only on machines that
//! leakprobe does not run on does the linker split it
//! ([`splitTextSections`](https://github.com/golang/go/blob/go1.27.0/src/cmd/link/internal/ld/data.go)).
//!
//! Sources:
//! [`runtime/symtab.go`](https://github.com/golang/go/blob/go1.27.0/src/runtime/symtab.go),
//! [`runtime/symtabinl.go`](https://github.com/golang/go/blob/go1.27.0/src/runtime/symtabinl.go),
//! [`internal/abi/symtab.go`](https://github.com/golang/go/blob/go1.27.0/src/internal/abi/symtab.go), and
//! [`runtime/symtab.go` of Go 1.19](https://github.com/golang/go/blob/go1.19.8/src/runtime/symtab.go) for the layout
//! before.
//!
//! # What it costs, and what it trusts
//!
//! Nothing. The bytes may come from a hostile process. Every offset is checked, and each question has a bound: finding a
//! function is one binary search; a value by program counter is one walk of bounded length; inlined calls are followed to
//! a bounded depth; a name is looked for in a bounded number of bytes. No index is built and nothing is cached, so that a
//! table of 50 MB costs its bytes and no more. Names and paths are borrowed from the table.

mod frames;
mod function;
mod header;
mod read;
mod traceback;
mod values;

#[cfg(test)]
mod tests;

pub use self::{
    frames::{Frame, Frames},
    function::{Flags, FuncId, Function},
    header::{Header, HeaderError, Layout},
    traceback::Traceback,
};

use std::sync::Arc;

use bytes::Bytes;

use self::read::u32_at;
use crate::target::Budget;

/// The pclntab of one module. A clone shares the bytes.
#[derive(Clone, Debug)]
pub struct Table {
    header: Header,
    /// `moduledata.text`.
    text: u64,
    names: Bytes,
    units: Bytes,
    paths: Bytes,
    values: Bytes,
    /// The function table and the records.
    table: Bytes,
    /// What lies at `moduledata.gofunc`.
    gofunc: Bytes,
    limit: Option<Limit>,
}

/// What long walks through a table draw on, and the file that they are counted for.
#[derive(Clone, Debug)]
struct Limit {
    budget: Budget,
    file: Arc<str>,
}

impl Table {
    /// Opens a table.
    ///
    /// `bytes` begin with the header and go on to the end of the pclntab; more does no harm. `text` is the address
    /// `moduledata.text` in the process. `gofunc` are the bytes that begin at `moduledata.gofunc`, as many as are mapped
    /// there, up to the end of the segment if nothing better is known; from Go 1.26 on that is a slice of `bytes`.
    /// Without them, functions that have calls inlined have no file and line at these places.
    ///
    /// # Errors
    /// If the header does not make sense or the function table does not fit into `bytes`.
    pub fn new(bytes: &Bytes, text: u64, gofunc: Bytes) -> Result<Self, HeaderError> {
        let header = Header::parse(bytes)?;
        let (needed, len) = (header.min_len(), bytes.len() as u64);
        if needed > len {
            return Err(HeaderError::Cut { needed, len });
        }
        // All lie below `needed`, in this order.
        let part = |start: u64, end: u64| bytes.slice(start as usize..end as usize);
        Ok(Self {
            text,
            names: part(header.names, header.units),
            units: part(header.units, header.paths),
            paths: part(header.paths, header.values),
            values: part(header.values, header.table),
            table: part(header.table, len),
            gofunc,
            limit: None,
            header,
        })
    }

    /// The same, whose long walks draw on this budget: where it is used up, what lies far inside a function has no value, and `file` is
    /// named for it.
    #[must_use]
    pub fn within(self, budget: Budget, file: Arc<str>) -> Self {
        Self { limit: Some(Limit { budget, file }), ..self }
    }

    /// Does a walk that may be long.
    fn at_length<T>(&self, walk: impl FnOnce() -> Option<T>) -> Option<T> {
        match &self.limit {
            Some(Limit { budget, file }) => budget.timed_of(file, walk).flatten(),
            None => walk(),
        }
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The function that the address `pc` lies in. `None` for an address of another module, and where the record is
    /// damaged.
    ///
    /// A return address may lie behind its function's last instruction, so it is the address before it that is looked up,
    /// except right at a function's entry: see [`Function::call_pc`].
    #[must_use]
    pub fn find(&self, pc: u64) -> Option<Function<'_>> {
        let offset = self.offset(pc)?;
        self.function(self.partition_point(|entry| entry <= offset).checked_sub(1)?)
    }

    /// Whether `pc` is the entry of a function. One binary search, no record is read.
    #[must_use]
    pub fn is_entry(&self, pc: u64) -> bool {
        self.offset(pc).is_some_and(|offset| self.entry(self.partition_point(|entry| entry < offset)) == Some(offset))
    }

    /// All functions, by address. Records that are damaged are left out.
    pub fn functions(&self) -> impl Iterator<Item = Function<'_>> {
        (0..self.header.functions).filter_map(|index| self.function(index))
    }

    /// The first function of this name, as it stands in the table. All names are compared: some 5 ns a function.
    #[must_use]
    pub fn function_named(&self, name: &str) -> Option<Function<'_>> {
        self.functions().find(|function| function.is_named(name))
    }

    /// Offset of an address within the text, if it is within.
    fn offset(&self, pc: u64) -> Option<u32> {
        let offset = u32::try_from(pc.checked_sub(self.text)?).ok()?;
        (offset < self.entry(self.header.functions)?).then_some(offset)
    }

    /// Where the function of this index begins; where the last one ends, for the index after it.
    fn entry(&self, index: u32) -> Option<u32> {
        u32_at(&self.table, 8 * index as usize)
    }

    fn function(&self, index: u32) -> Option<Function<'_>> {
        let record = u32_at(&self.table, 8 * index as usize + 4)? as usize;
        Function::new(self, self.table.get(record..)?, self.entry(index)?, self.entry(index + 1)?)
    }

    /// The first index whose entry does not satisfy `before`, by binary search.
    fn partition_point(&self, before: impl Fn(u32) -> bool) -> u32 {
        let (mut low, mut high) = (0, self.header.functions);
        while low < high {
            let middle = low.midpoint(high);
            if self.entry(middle).is_some_and(&before) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}
