//! One function: its record, and what the record leads to.
//!
//! A record has eleven 32-bit words, ten before Go 1.20, and then the offsets of its further tables:
//!
//! | word | Go 1.20+ | Go 1.18, 1.19 |
//! |---|---|---|
//! | 0 | entry, from the start of the text | same |
//! | 1 | name | same |
//! | 2, 3 | size of arguments; where deferred calls are run | same |
//! | 4, 5, 6 | tables of frame size, file and line | same |
//! | 7 | number of further tables | same |
//! | 8 | compilation unit | same |
//! | 9 | line that the function starts in | id, flags, pad, number of funcdata (one byte each) |
//! | 10 | id, flags, pad, number of funcdata | - |
//!
//! Source: `_func` in <https://github.com/golang/go/blob/go1.27.0/src/runtime/runtime2.go>.

use std::borrow::Cow;

use super::{
    Frames, Layout, Table,
    read::{string_at, text, u32_at},
    values::Spans,
};

/// A number that the runtime gives to functions that it treats specially; 0 for all others. Numbers differ between
/// versions of Go: [`Traceback`](super::Traceback) knows those that matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FuncId(pub u8);

impl FuncId {
    /// Not special.
    pub const NORMAL: Self = Self(0);
}

/// Marks of a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// It is the outermost frame of a stack: nothing called it.
    #[must_use]
    pub fn is_top_frame(self) -> bool {
        self.0 & 1 != 0
    }

    /// It sets the stack pointer to what its frame sizes do not tell, so that a stack walk cannot pass it.
    #[must_use]
    pub fn is_sp_write(self) -> bool {
        self.0 & 2 != 0
    }

    /// It is written in assembly.
    #[must_use]
    pub fn is_asm(self) -> bool {
        self.0 & 4 != 0
    }
}

/// A function in the text of a module. Calls that were inlined into others are not functions in this sense.
#[derive(Clone, Copy, Debug)]
pub struct Function<'t> {
    table: &'t Table,
    /// Begins with the record and goes on to the end of the table.
    record: &'t [u8],
    /// Offsets in the text.
    entry: u32,
    end: u32,
}

/// The table and the kinds of funcdata that are read here.
const PCDATA_INLINE: u32 = 2;
const FUNCDATA_INLINE: u32 = 3;
const FUNCDATA_OPEN_DEFERS: u32 = 4;
/// Most bytes of what is read of open-coded defers: two offsets, or ten before Go 1.22, of at most five bytes each.
const MAX_OPEN_DEFERS: usize = 64;
/// Spans that are read of a table at any time, some µs: few values lie behind so many.
const FEW_SPANS: usize = 1 << 9;

impl<'t> Function<'t> {
    /// `entry` and `end` as the function table has them.
    pub(super) fn new(table: &'t Table, record: &'t [u8], entry: u32, end: u32) -> Option<Self> {
        let function = Self { table, record, entry, end };
        let whole = record.len() >= function.size();
        (whole && u32_at(record, 0) == Some(entry) && entry <= end).then_some(function)
    }

    /// The name as it stands in the table, e.g. `main.(*T).run` or `main.f[go.shape.int]`;
    /// [`Traceback::printed`](super::Traceback::printed) makes of it what Go's tracebacks show. `?` where the table is
    /// damaged.
    ///
    /// The runtime itself takes offset 0 for "no name" and so prints an empty one for the first function of the names;
    /// here it has its name.
    #[must_use]
    pub fn name(&self) -> Cow<'t, str> {
        self.name_at(self.word(1))
    }

    /// Whether [`name`](Self::name) is `name`; without checking that the text is UTF-8.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        let rest = self.table.names.get(self.word(1) as usize..).and_then(|rest| rest.strip_prefix(name.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Address of its first instruction.
    #[must_use]
    pub fn entry(&self) -> u64 {
        self.table.text.wrapping_add(u64::from(self.entry))
    }

    /// Address where the next function begins; the padding between them counts as part of this one.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.table.text.wrapping_add(u64::from(self.end))
    }

    /// The line that it starts in; Go notes it since 1.20.
    #[must_use]
    pub fn start_line(&self) -> Option<u32> {
        (self.table.header.layout == Layout::Go120).then(|| self.word(9))
    }

    /// Size of arguments and results on the stack in bytes; `None` if it is not fixed.
    #[must_use]
    pub fn args_size(&self) -> Option<u32> {
        Some(self.word(2)).filter(|&size| size < 1 << 31)
    }

    /// Which special function it is.
    #[must_use]
    pub fn id(&self) -> FuncId {
        FuncId(self.tail()[0])
    }

    /// Its marks.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags(self.tail()[1])
    }

    /// Whether it has no frame sizes at all, as code that was not made by Go's tools: a stack walk ends here.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.word(4) == 0
    }

    /// Whether a stack walk cannot get past it, because it changes the stack pointer to what no table tells.
    /// `runtime.cgocallback` switches stacks, too, but both are fit to be unwound through it.
    #[must_use]
    pub fn switches_stacks(&self) -> bool {
        self.flags().is_sp_write() && !self.is_named("runtime.cgocallback")
    }

    /// Bytes that the stack has grown by since the function's entry when it is at `pc`. On amd64 the return address lies
    /// above them, on arm64 it is at their lower end once there are any. `None` if the table does not say, and in the few
    /// instructions of assembly where the stack is smaller than at the entry: the caller cannot be found from there.
    #[must_use]
    pub fn frame_size_at(&self, pc: u64) -> Option<u32> {
        u32::try_from(self.value(self.word(4), self.offset(pc)?)?).ok()
    }

    /// The address to look names and lines up at, given a return address or saved program counter `pc` in this function:
    /// that of the call, which is before it. Only a function that has not begun yet has none.
    #[must_use]
    pub fn call_pc(&self, pc: u64) -> u64 {
        if pc > self.entry() { pc - 1 } else { pc }
    }

    /// What the program is in at `pc`: the call inlined last, what that is inlined into, and so on; this function itself
    /// comes last. `pc` is looked up as it is: for return addresses give [`call_pc`](Self::call_pc).
    #[must_use]
    pub fn frames_at(&self, pc: u64) -> Frames<'t> {
        Frames::new(*self, self.offset(pc))
    }

    /// File and line of the instruction at `offset` from the entry.
    pub(super) fn line_at(&self, offset: u32) -> Option<(Cow<'t, str>, u32)> {
        let file = u32::try_from(self.value(self.word(5), offset)?).ok()?;
        let line = u32::try_from(self.value(self.word(6), offset)?).ok()?;
        let path = u32_at(&self.table.units, 4 * self.word(8).checked_add(file)? as usize)?;
        Some((text(Some(string_at(&self.table.paths, path as usize)?)), line))
    }

    /// Index of the innermost inlined call at `offset` in [`inline_tree`](Self::inline_tree).
    pub(super) fn inlined_at(&self, offset: u32) -> Option<u32> {
        let start = (PCDATA_INLINE < self.word(7)).then(|| self.word(self.words() + PCDATA_INLINE as usize))?;
        u32::try_from(self.value(start, offset)?).ok()
    }

    /// Offset of the tree of inlined calls in `go:func.*`, if the function has any.
    pub(super) fn inline_tree(&self) -> Option<u32> {
        self.funcdata(FUNCDATA_INLINE)
    }

    /// Where the function keeps its deferred calls, if it has open-coded ones: numbers of variable length, then whatever follows
    /// in the table. What they mean differs between versions of Go.
    ///
    /// Source: <https://github.com/golang/go/blob/go1.27.0/src/cmd/compile/internal/ssagen/ssa.go> (`emitOpenDeferInfo`).
    #[must_use]
    pub fn open_defers(&self) -> Option<&'t [u8]> {
        let info = self.table.gofunc.get(self.funcdata(FUNCDATA_OPEN_DEFERS)? as usize..)?;
        Some(info.get(..MAX_OPEN_DEFERS).unwrap_or(info))
    }

    /// Offset in `go:func.*` of what the function has of this kind.
    fn funcdata(&self, kind: u32) -> Option<u32> {
        let [.., count] = self.tail();
        let tables = self.words().checked_add(self.word(7) as usize)?;
        let at = tables.checked_add(kind as usize)?.checked_mul(4)?;
        let offset = (kind < u32::from(count)).then(|| u32_at(self.record, at))??;
        (offset != u32::MAX).then_some(offset)
    }

    pub(super) fn table(&self) -> &'t Table {
        self.table
    }

    pub(super) fn name_at(&self, offset: u32) -> Cow<'t, str> {
        text(string_at(&self.table.names, offset as usize))
    }

    fn offset(&self, pc: u64) -> Option<u32> {
        u32::try_from(pc.checked_sub(self.entry())?).ok()
    }

    /// The value at `offset` from the entry, of the table that begins at `start`; there is none at 0.
    fn value(&self, start: u32, offset: u32) -> Option<i32> {
        let table = (start != 0).then(|| self.table.values.get(start as usize..))??;
        let mut spans = Spans::new(table, self.table.header.quantum);
        let value = spans.value_at(offset, FEW_SPANS);
        if value.is_some() || spans.is_over() {
            return value;
        }
        self.table.at_length(|| spans.value_at(offset, usize::MAX))
    }

    /// Number of words of the fixed part of a record.
    fn words(&self) -> usize {
        match self.table.header.layout {
            Layout::Go118 => 10,
            Layout::Go120 => 11,
        }
    }

    fn size(&self) -> usize {
        4 * self.words()
    }

    /// Words of the fixed part are always there; 0 for one behind the end of the table, which is "none" for a table.
    fn word(&self, index: usize) -> u32 {
        u32_at(self.record, 4 * index).unwrap_or_default()
    }

    /// Id, flags, padding and number of funcdata.
    fn tail(&self) -> [u8; 4] {
        self.word(self.words() - 1).to_le_bytes()
    }
}
