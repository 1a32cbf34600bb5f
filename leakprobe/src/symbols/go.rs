//! Go code to frames, as Go itself tells of it: by the table that every Go program carries, and by the rules of Go's own
//! tracebacks.

use std::{collections::HashMap, sync::Arc};

use super::name::{bounded, without_controls};
use crate::{
    go::{
        Code, Runtime,
        pclntab::{FuncId, Function, Traceback},
    },
    model::{Frame, GoFrame, Stack, StackKind},
    pool::{Pool, Share},
};

/// Most addresses whose frames are remembered; then they are forgotten.
const MOST_ADDRESSES: usize = 1 << 16;
/// Most that the frames which are remembered take, bytes; and what they may take however little memory is left for it.
const MOST: u64 = 48 << 20;
const FLOOR: u64 = 128 << 10;
/// What is remembered of an address takes so much besides its text, bytes.
const BESIDES: usize = 64;

/// What a frame is and whether tracebacks show it.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// The frame, without what concerns its module.
    pub(super) frame: Frame,
    /// The name in the table.
    name: String,
    id: FuncId,
}

/// Where Go's functions were called from, for one address of a stack.
pub(super) type Lines = Arc<[Line]>;

/// The code of one runtime.
#[derive(Debug)]
pub(super) struct GoCode {
    code: Arc<Code>,
    rules: Traceback,
    /// Functions that look as if they were called from where a signal has struck.
    injected: Vec<FuncId>,
    known: HashMap<(u64, Meaning), Lines>,
    /// What `known` takes, bytes.
    size: Share,
}

/// What an address means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Meaning {
    /// What is being executed.
    Exact,
    /// What a call returns to.
    Return,
    /// The same of one of the functions that were inlined there, the innermost one.
    Caller,
    /// What the call of a `go` statement returns to.
    GoStatement,
    /// The entry of a function.
    Entry,
}

impl GoCode {
    /// The code of `runtime`; `None` if it has none. Looks through all of its functions: some ms. What is remembered takes a share of
    /// `kept`.
    #[must_use]
    pub(super) fn new(runtime: &Runtime, kept: &Pool) -> Option<Self> {
        let modules = runtime.code.modules();
        let main = modules.iter().find(|module| module.table.function_named("runtime.goexit").is_some());
        let main = &main.or(modules.first())?.table;
        let ids = ["runtime.sigpanic", "runtime.asyncPreempt", "runtime.debugCallV2"];
        let id = |name| main.function_named(name).map(|function| function.id());
        let injected = ids.into_iter().filter_map(id).filter(|&id| id != FuncId::NORMAL).collect();
        let rules = Traceback::new(main, u32::from(runtime.version.minor));
        Some(Self { code: Arc::clone(&runtime.code), rules, injected, known: HashMap::new(), size: kept.share(FLOOR) })
    }

    /// Whether `address` lies in this code.
    pub(super) fn has(&self, address: u64) -> bool {
        self.code.find(address).is_some()
    }

    /// The frames of each address of a stack, innermost first; `None` for what is no Go code.
    pub(super) fn resolve(&mut self, stack: &Stack) -> Vec<Option<Lines>> {
        let mut injected = false;
        let mut resolve = |(depth, &address): (usize, &u64)| {
            let meaning = match stack.kind {
                StackKind::GoStatement => Meaning::GoStatement,
                StackKind::Callers => Meaning::Caller,
                StackKind::Function => Meaning::Entry,
                _ if injected || !stack.is_return(depth) => Meaning::Exact,
                StackKind::Thread | StackKind::Goroutine | StackKind::Kernel => Meaning::Return,
            };
            let lines = self.at(address, meaning);
            let callee = lines.as_ref().and_then(|lines| lines.last()).map(|line| line.id);
            injected = callee.is_some_and(|id| self.injected.contains(&id));
            lines
        };
        let mut lines: Vec<Option<Lines>> = stack.addresses.iter().enumerate().map(&mut resolve).collect();
        if stack.kind != StackKind::Function {
            self.hide(stack.kind, &mut lines);
        }
        lines
    }

    /// Marks what tracebacks leave out.
    fn hide(&self, kind: StackKind, lines: &mut [Option<Lines>]) {
        let mut callee = FuncId::NORMAL;
        // Where a goroutine was created is told after its frames.
        let mut first = kind != StackKind::GoStatement;
        let mut shown = Vec::new();
        for lines in lines.iter_mut() {
            for line in lines.iter().flat_map(|lines| lines.iter()) {
                let shows = self.rules.shows(&line.name, line.id, first, callee);
                first &= !shows;
                // The frames of an ancestor, and a creation, are judged each by itself.
                callee = if kind == StackKind::Thread || kind == StackKind::Goroutine { line.id } else { callee };
                shown.push(shows);
            }
        }
        if kind != StackKind::GoStatement && !shown.contains(&true) {
            return;
        }
        let mut shown = shown.into_iter();
        for lines in lines.iter_mut().flatten() {
            let hidden: Vec<bool> = shown.by_ref().take(lines.len()).map(|shown| !shown).collect();
            if hidden.contains(&true) {
                let marked = lines.iter().zip(hidden).map(|(line, hidden)| {
                    let go = line.frame.go.map(|go| GoFrame { hidden, ..go });
                    Line { frame: Frame { go, ..line.frame.clone() }, ..line.clone() }
                });
                *lines = marked.collect();
            }
        }
    }

    fn at(&mut self, address: u64, meaning: Meaning) -> Option<Lines> {
        if let Some(known) = self.known.get(&(address, meaning)) {
            return Some(Arc::clone(known));
        }
        let function = self.code.find(address)?.table.find(address)?;
        let lines: Lines = self.lines(&function, address, meaning).into();
        let of_line = |line: &Line| size_of::<Line>() + line.frame.text_len() + line.name.len();
        let bytes = (BESIDES + lines.iter().map(of_line).sum::<usize>()) as u64;
        if self.known.len() >= MOST_ADDRESSES || self.size.amount() > MOST || self.size.left() < bytes {
            self.known.clear();
            self.size.set_up_to(0);
        }
        if self.size.grow(bytes).is_ok() {
            self.known.insert((address, meaning), Arc::clone(&lines));
        }
        Some(lines)
    }

    fn lines(&self, function: &Function<'_>, address: u64, meaning: Meaning) -> Vec<Line> {
        let place = if meaning == Meaning::Exact { address } else { function.call_pc(address) };
        let offset = address.checked_sub(function.entry()).filter(|&offset| offset > 0);
        let frames = function.frames_at(place).map(|found| Line {
            frame: Frame {
                function: bounded(&self.rules.printed(&found.name)),
                file: (found.file != "?").then(|| without_controls(found.file.into_owned())),
                line: (found.line != 0).then_some(found.line),
                inlined: found.inlined,
                go: Some(GoFrame { offset: offset.filter(|_| !found.inlined), hidden: false }),
                ..Frame::default()
            },
            name: found.name.into_owned(),
            id: found.id,
        });
        match meaning {
            Meaning::Exact | Meaning::Return => frames.collect(),
            Meaning::Caller => frames.take(1).collect(),
            Meaning::Entry => frames.last().into_iter().collect(),
            // Go names the function that is there in the machine code, but the line of what was inlined into it.
            Meaning::GoStatement => {
                let mut frames: Vec<Line> = frames.collect();
                let inner = frames.first().map(|line| (line.frame.file.clone(), line.frame.line));
                let mut outer: Vec<Line> = frames.pop().into_iter().collect();
                for (line, (file, number)) in outer.iter_mut().zip(inner) {
                    (line.frame.file, line.frame.line) = (file, number);
                }
                outer
            }
        }
    }
}
