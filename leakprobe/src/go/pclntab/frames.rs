//! Calls that were inlined: from one address to the chain of functions that it stands for.
//!
//! A function's table number 2 gives for each instruction the index of the innermost call that it was inlined with. That
//! is an entry of the function's tree, 16 bytes, 20 before Go 1.20: id and name of the function called, and an instruction
//! ("parent pc") of the same function whose file, line and index are those of the place of the call.
//!
//! Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/symtabinl.go>, and `inlinedCall` in
//! <https://github.com/golang/go/blob/go1.19.8/src/runtime/symtab.go>.

use std::{borrow::Cow, iter::FusedIterator};

use super::{FuncId, Function, Layout, read::u32_at};

/// Most inlined calls that are followed at one address; a damaged chain may go round. The deepest in the Go compiler and
/// the `go` command is 6.
const MAX_DEPTH: u32 = 256;

/// One frame as Go's tracebacks show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'t> {
    /// As it stands in the table: see [`Function::name`].
    pub name: Cow<'t, str>,
    /// Path of the source file; `?` if not known, as in the runtime.
    pub file: Cow<'t, str>,
    /// Line of the call or instruction; 0 if not known.
    pub line: u32,
    /// The line that the function starts in; Go notes it since 1.20.
    pub start_line: Option<u32>,
    /// Which special function it is.
    pub id: FuncId,
    /// It was inlined into the next frame.
    pub inlined: bool,
}

/// Frames at one address, innermost first: see [`Function::frames_at`].
#[derive(Clone, Debug)]
pub struct Frames<'t> {
    function: Function<'t>,
    /// Offset of the tree in `go:func.*`.
    tree: Option<u32>,
    state: State,
    left: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// At this offset from the function's entry.
    At(u32),
    /// In a chain that cannot be followed: the function is certain, the place in it is not.
    Lost,
    Done,
}

/// One entry of a tree.
struct Call {
    id: FuncId,
    name: u32,
    parent: u32,
    start_line: Option<u32>,
}

impl<'t> Frames<'t> {
    pub(super) fn new(function: Function<'t>, offset: Option<u32>) -> Self {
        let state = offset.map_or(State::Lost, State::At);
        Self { function, tree: function.inline_tree(), state, left: MAX_DEPTH }
    }

    /// The call inlined at `offset`, if there is one; an error if it cannot be followed.
    fn call(&mut self, offset: u32) -> Result<Option<Call>, ()> {
        let Some((tree, index)) = self.tree.zip(self.function.inlined_at(offset)) else { return Ok(None) };
        self.left = self.left.checked_sub(1).ok_or(())?;
        self.entry(tree, index).map(Some).ok_or(())
    }

    fn entry(&self, tree: u32, index: u32) -> Option<Call> {
        let table = self.function.table();
        let (size, name, parent) = match table.header.layout {
            Layout::Go118 => (20, 12, 16),
            Layout::Go120 => (16, 4, 8),
        };
        let start = (index as usize).checked_mul(size)?.checked_add(tree as usize)?;
        let entry = table.gofunc.get(start..)?.get(..size)?;
        let (id, start_line) = match table.header.layout {
            Layout::Go118 => (entry.get(2)?, None),
            Layout::Go120 => (entry.first()?, u32_at(entry, 12)),
        };
        Some(Call { id: FuncId(*id), name: u32_at(entry, name)?, parent: u32_at(entry, parent)?, start_line })
    }
}

impl<'t> Iterator for Frames<'t> {
    type Item = Frame<'t>;

    fn next(&mut self) -> Option<Frame<'t>> {
        let function = self.function;
        let (offset, call) = match self.state {
            State::At(offset) => match self.call(offset) {
                Ok(call) => (Some(offset), call),
                Err(()) => (None, None),
            },
            State::Lost => (None, None),
            State::Done => return None,
        };
        self.state = match &call {
            // A place before the entry is none.
            Some(call) if call.parent < 1 << 31 => State::At(call.parent),
            Some(_) => State::Lost,
            None => State::Done,
        };
        let (file, line) = offset.and_then(|offset| function.line_at(offset)).unwrap_or((Cow::Borrowed("?"), 0));
        Some(match call {
            Some(Call { id, name, start_line, .. }) => {
                Frame { name: function.name_at(name), file, line, start_line, id, inlined: true }
            }
            None => {
                let (name, start_line, id) = (function.name(), function.start_line(), function.id());
                Frame { name, file, line, start_line, id, inlined: false }
            }
        })
    }
}

impl FusedIterator for Frames<'_> {}
