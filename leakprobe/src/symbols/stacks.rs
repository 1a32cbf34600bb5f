//! Whole stacks to frames, each distinct frame held once.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
};

use super::{
    AFTER_THE_END, GoCode, Lookup, Module, Options, Source, Symbolizer, called, go::Lines, interpreted, jit::Jit,
    kernel::Kernel, unmapped,
};
use crate::{
    aside,
    go::Runtime,
    model::{Frame, Frames, Gap, Stack, StackId, StackKind, StackTable},
    pool::Share,
    target::{self, Budget, Code, ModuleId, ModuleSource, Modules, Root, budget::Scarce},
};

/// Files that code which is made at run time is mapped from; they hold no ELF file.
const MADE: [&str; 4] = ["/memfd:", "/dev/zero", "/anon_hugepage", "/SYSV"];
/// What the frames of a target may take however little is left for it, bytes: some 400 of them.
const FLOOR: u64 = 256 << 10;
/// What they may take however much is left: some 160,000.
const MOST: u64 = 128 << 20;
/// Once a frame was left out, nothing is looked up where less is left, bytes.
const LEAST: u64 = 1 << 20;
/// About what the place and the allocations of a frame take besides itself and its text, bytes.
const BESIDES: usize = 64;
/// Most addresses of stacks that are looked up at once: what they are is held twice meanwhile, by each of many targets.
const BATCH_OF_STACKS: usize = 1 << 13;
/// Most addresses of a module that are looked up at once, each time its symbol table is read; and about the most memory for their frames,
/// which are held twice meanwhile, bytes.
const BATCH: usize = 1 << 12;
const BATCH_BYTES: usize = 1 << 20;
/// Most frames without a name whose names may still come.
const MOST_PENDING: usize = 1 << 16;

/// The places of each address's frames, innermost inlined function first.
type Resolved = HashMap<u64, Vec<u32>>;

/// Symbolises stacks as they come, and keeps their frames.
pub struct Stacks {
    symbolizer: Symbolizer,
    budget: Budget,
    go: Vec<GoCode>,
    kernel: Kernel,
    /// Knows the code that the process makes as it runs.
    jit: Option<Jit>,
    /// Frames of such code that have no name yet.
    pending: Vec<Pending>,
    frames: Vec<Frame>,
    /// The places of frames in there, by their hashes.
    places: HashMap<u64, Vec<u32>>,
    hasher: RandomState,
    /// What `frames` take, bytes.
    size: Share,
    /// Whether one was left out.
    is_cut: bool,
    /// The frames of each stack, in the order of the table; those beyond the end are not resolved yet.
    stacks: Vec<Vec<u32>>,
}

/// A frame of code that was made at run time.
#[derive(Clone, Copy)]
struct Pending {
    /// The place of its stack, and its place in there.
    stack: usize,
    at: usize,
    address: u64,
    /// The address that names are asked for.
    probe: u64,
}

/// What the addresses of a batch of stacks lie in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Place {
    module: ModuleId,
    /// Whether it is there no more.
    is_unloaded: bool,
}

/// Addresses to look up in files, one batch a file: its symbols are read once for all of them.
type InModules = HashMap<Place, Vec<(Lookup, u64)>>;

/// Addresses of a batch of stacks whose frames are not known yet.
#[derive(Default)]
struct Unresolved {
    /// How many stacks they are of.
    stacks: usize,
    in_modules: InModules,
    /// Those in code that was made at run time, as names are asked for.
    made: HashSet<u64>,
}

impl Unresolved {
    fn add(&mut self, address: u64, is_return: bool, modules: &mut Modules) {
        let probe = address.saturating_sub(u64::from(is_return));
        let place = match modules.find(probe) {
            Some(Code::Module(module)) => Place { module, is_unloaded: false },
            Some(Code::Anonymous) => {
                self.made.insert(probe);
                return;
            }
            None => match modules.recall(probe) {
                Some(module) => Place { module, is_unloaded: true },
                None => return, // nothing is mapped there: said by the frame itself
            },
        };
        let Some(module) = modules.get(place.module) else {
            return;
        };
        if module.elf.is_err() && MADE.iter().any(|made| module.path.starts_with(made)) {
            self.made.insert(probe);
            return;
        }
        let lookup = Lookup { svma: address.wrapping_sub(module.bias), is_return };
        self.in_modules.entry(place).or_default().push((lookup, address));
    }
}

impl Stacks {
    /// Nothing yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            size: options.budget.kept().share(FLOOR),
            is_cut: false,
            budget: options.budget.clone(),
            symbolizer: Symbolizer::new(options),
            go: Vec::new(),
            kernel: Kernel::default(),
            jit: None,
            pending: Vec::new(),
            frames: Vec::new(),
            places: HashMap::new(),
            hasher: RandomState::new(),
            stacks: Vec::new(),
        }
    }

    /// From now on, files of the process `pid` are looked for where it would find them: debug information, and what names the
    /// code that it makes as it runs.
    pub fn set_process(&mut self, pid: u32) {
        self.symbolizer.set_root(Root::of(pid).ok());
        self.jit = Some(Jit::of(pid, Root::of(pid).ok(), self.budget.clone()));
        self.pending.clear();
    }

    /// From now on, addresses in the code of these runtimes are told as Go tells of them. Replaces what was given before.
    pub fn set_go<'a>(&mut self, runtimes: impl Iterator<Item = &'a Runtime>) {
        self.go = runtimes.filter_map(|runtime| GoCode::new(runtime, self.budget.kept())).collect();
    }

    /// Resolves all stacks that came since the last time. To be called while `modules` are those that the stacks were taken in.
    pub fn resolve_new(&mut self, table: &StackTable, modules: &mut Modules) {
        let new: Vec<&Stack> = table.iter().skip(self.stacks.len()).map(|(_, stack)| stack).collect();
        let mut rest = new.as_slice();
        while !rest.is_empty() {
            if self.is_full() {
                // Looking up names that are not kept would take time without limit.
                self.budget.leave_out("symbols of further stacks", Scarce::Kept);
                return self.leave_out(rest.len());
            }
            if self.budget.is_over(AFTER_THE_END) {
                self.budget.leave_out("symbols of further stacks", Scarce::Time);
                return self.leave_out(rest.len());
            }
            let unresolved = self.unresolved(rest, modules);
            let (batch, later) = rest.split_at(unresolved.stacks);
            self.resolve_batch(batch, unresolved, modules);
            rest = later;
        }
    }

    /// The frames of so many further stacks are not looked up.
    fn leave_out(&mut self, stacks: usize) {
        let left_out = self.left_out();
        self.stacks.extend((0..stacks).map(|_| vec![left_out]));
    }

    /// What is to be looked up for the first of `new`: for as many as have [`BATCH_OF_STACKS`] addresses, and for one at least.
    fn unresolved(&self, new: &[&Stack], modules: &mut Modules) -> Unresolved {
        let mut unresolved = Unresolved::default();
        let mut seen = HashSet::new();
        for stack in new {
            if seen.len() >= BATCH_OF_STACKS {
                break;
            }
            unresolved.stacks += 1;
            if stack.kind == StackKind::Kernel {
                continue;
            }
            for (depth, &address) in stack.addresses.iter().enumerate() {
                let is_return = stack.is_return(depth);
                if !self.go.iter().any(|go| go.has(address)) && seen.insert((address, is_return)) {
                    unresolved.add(address, is_return, modules);
                }
            }
        }
        unresolved
    }

    fn resolve_batch(&mut self, batch: &[&Stack], unresolved: Unresolved, modules: &mut Modules) {
        let Unresolved { in_modules, made, .. } = unresolved;
        let resolved = self.resolve_in_modules(in_modules, modules);
        let made_addresses: Vec<u64> = made.iter().copied().collect();
        let jit = self.jit.as_mut().filter(|_| !made.is_empty());
        let names = jit.map(|jit| jit.names(&made_addresses, modules, false)).unwrap_or_default();
        let in_kernel = batch.iter().filter(|stack| stack.kind == StackKind::Kernel);
        let in_kernel: Vec<u64> = in_kernel.flat_map(|stack| stack.addresses.iter().copied()).collect();
        let kernel = self.kernel.frames(&in_kernel);
        let mut callees = HashMap::new();
        for stack in batch {
            if stack.kind == StackKind::Kernel {
                let frame = |address: &u64| kernel.get(address).cloned().unwrap_or_else(|| unmapped(*address));
                let places = stack.addresses.iter().map(|address| self.place(frame(address))).collect();
                self.stacks.push(places);
                continue;
            }
            let mut places = Vec::with_capacity(stack.addresses.len());
            let go = self.go_lines(stack);
            for (depth, &address) in stack.addresses.iter().enumerate() {
                if let Some(Some(lines)) = go.get(depth) {
                    places.extend(self.place_go(lines, address, modules));
                    continue;
                }
                let is_return = stack.is_return(depth);
                let probe = address.saturating_sub(u64::from(is_return));
                match resolved[usize::from(is_return)].get(&address) {
                    Some(known) => match self.called_as(known, stack, depth, modules, &mut callees) {
                        Some(place) => places.push(place),
                        None => places.extend(known),
                    },
                    None if made.contains(&probe) => {
                        if !names.has(probe) && self.pending.len() < MOST_PENDING {
                            let (stack, at) = (self.stacks.len(), places.len());
                            self.pending.push(Pending { stack, at, address, probe });
                        }
                        places.push(self.place(names.frame(probe, address)));
                    }
                    None => places.push(self.place(unmapped(address))),
                }
            }
            self.stacks.push(places);
        }
    }

    /// The places of the frames of addresses that lie in files, by whether they are return addresses.
    fn resolve_in_modules(&mut self, unresolved: InModules, modules: &mut Modules) -> [Resolved; 2] {
        let mut resolved: [Resolved; 2] = [HashMap::new(), HashMap::new()];
        let mut unresolved: Vec<_> = unresolved.into_iter().collect();
        unresolved.sort_by_key(|(place, _)| *place);
        for (place, lookups) in unresolved {
            let Some(module) = modules.get(place.module) else {
                continue;
            };
            if let (ModuleSource::File { .. }, Err(why)) = (&module.source, &module.elf)
                && !self.budget.has_left_out(&module.path)
            {
                self.symbolizer.note_corrupt(&module.path, why);
            }
            let source = as_source(module);
            // Each frame has the module's path.
            let fit = BATCH_BYTES / (size_of::<Frame>() + module.path.len());
            for lookups in lookups.chunks(fit.clamp(1, BATCH)) {
                let plain: Vec<Lookup> = lookups.iter().map(|(lookup, _)| *lookup).collect();
                let frames = self.symbolizer.resolve(&source, &plain);
                aside::beat();
                for (&(lookup, address), mut frames) in lookups.iter().zip(frames) {
                    if place.is_unloaded {
                        frames.iter_mut().for_each(|frame| frame.module.push_str(" (unloaded)"));
                    }
                    let places = frames.into_iter().map(|frame| self.place(frame)).collect();
                    resolved[usize::from(lookup.is_return)].insert(address, places);
                }
            }
        }
        resolved
    }

    /// The frame at `depth`, which is `known` by its address alone, with what its caller has called: if it has no name and that has.
    fn called_as(
        &mut self,
        known: &[u32],
        stack: &Stack,
        depth: usize,
        modules: &mut Modules,
        callees: &mut HashMap<u64, Option<u64>>,
    ) -> Option<u32> {
        let [place] = known else { return None };
        let frame = self.frames.get(*place as usize).filter(|frame| frame.function.is_empty())?.clone();
        let memory = modules.memory()?;
        let caller = *stack.addresses.get(depth + 1).filter(|_| stack.is_return(depth + 1))?;
        let read = |address: u64, buffer: &mut [u8]| memory.read(address, buffer) == buffer.len();
        let callee = (*callees.entry(caller).or_insert_with(|| called::callee(caller, read)))?;
        // It went on within its own library.
        let probe = stack.addresses.get(depth)?.saturating_sub(u64::from(stack.is_return(depth)));
        let Some(Code::Module(module)) = modules.find(callee) else { return None };
        if !matches!(modules.find(probe), Some(Code::Module(its)) if its == module) {
            return None;
        }
        let module = modules.get(module)?;
        let lookup = Lookup { svma: callee.wrapping_sub(module.bias), is_return: false };
        let called = self.symbolizer.resolve(&as_source(module), &[lookup]).pop()?.pop()?;
        let called_as = Some(called.function).filter(|name| !name.is_empty())?;
        Some(self.place(Frame { called_as: Some(called_as), ..frame }))
    }

    /// Looks whether code that the process makes has names now that it had not before. Returns whether any had another name
    /// before: then its addresses have come to mean other code. To be called before stacks are taken; `at_last`: after them.
    pub fn follow_made(&mut self, modules: &Modules, at_last: bool) -> bool {
        if !self.jit.as_ref().is_some_and(Jit::is_used) || !at_last && !self.jit.as_ref().is_some_and(Jit::is_news) {
            return false;
        }
        let pending = std::mem::take(&mut self.pending);
        let addresses: Vec<u64> = pending.iter().map(|frame| frame.probe).collect();
        let names = self.jit.as_mut().map(|jit| jit.names(&addresses, modules, at_last)).unwrap_or_default();
        for frame in pending {
            let place = self.place(names.frame(frame.probe, frame.address));
            if let Some(slot) = self.stacks.get_mut(frame.stack).and_then(|stack| stack.get_mut(frame.at)) {
                *slot = place;
            }
            if !names.has(frame.probe) {
                self.pending.push(frame);
            }
        }
        names.is_renamed
    }

    /// What Go says of each address of the stack; nothing at all if none is Go's.
    fn go_lines(&mut self, stack: &Stack) -> Vec<Option<Lines>> {
        let go = self.go.iter_mut().find(|go| stack.addresses.iter().any(|&address| go.has(address)));
        go.map_or_else(Vec::new, |go| go.resolve(stack))
    }

    fn place_go(&mut self, lines: &Lines, address: u64, modules: &mut Modules) -> Vec<u32> {
        let (path, bias) = match modules.find_or_recall(address) {
            Some(Code::Module(id)) => modules.get(id).map_or(("", 0), |module| (&module.path, module.bias)),
            _ => ("", 0),
        };
        let (module, address) = (path.to_owned(), format!("{:#x}", address.wrapping_sub(bias)));
        let frame = |frame: &Frame| Frame { module: module.clone(), address: address.clone(), ..frame.clone() };
        lines.iter().map(|line| self.place(frame(&line.frame))).collect()
    }

    fn place(&mut self, mut frame: Frame) -> u32 {
        interpreted::explain(&mut frame);
        if let Some(place) = self.known(&frame) {
            return place;
        }
        match self.insert_in_budget(frame) {
            Some(place) => place,
            None => self.left_out(),
        }
    }

    /// Whether hardly any frame could be added.
    fn is_full(&self) -> bool {
        self.is_cut && self.size.left().min(MOST.saturating_sub(self.size.amount())) < LEAST
    }

    /// The one frame that stands for all that are too many.
    fn left_out(&mut self) -> u32 {
        let without_name = Frame {
            address: "left out".to_owned(),
            unknown: Some("the frames of one run may take no more memory".to_owned()),
            ..Frame::default()
        };
        self.known(&without_name).unwrap_or_else(|| self.insert(without_name))
    }

    /// The place of a frame that is there.
    fn known(&self, frame: &Frame) -> Option<u32> {
        let places = self.places.get(&self.hasher.hash_one(frame))?;
        places.iter().copied().find(|&place| self.frames.get(place as usize) == Some(frame))
    }

    fn insert_in_budget(&mut self, frame: Frame) -> Option<u32> {
        // The recording has them once more.
        let more = 2 * (size_of::<Frame>() + BESIDES + frame.text_len()) as u64;
        if self.size.amount() + more > MOST || self.size.grow(more).is_err() {
            self.is_cut = true;
            self.budget.leave_out(&frame.module, Scarce::Kept);
            return None;
        }
        Some(self.insert(frame))
    }

    fn insert(&mut self, frame: Frame) -> u32 {
        let place = u32::try_from(self.frames.len()).unwrap_or(u32::MAX);
        self.places.entry(self.hasher.hash_one(&frame)).or_default().push(place);
        self.frames.push(frame);
        place
    }

    /// All frames so far.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Why the names of kernel functions cannot be had, if they cannot.
    pub fn hidden_kernel_names(&self) -> Option<&str> {
        self.kernel.hidden()
    }

    /// Why the names of code that the process makes are not used though they are there.
    pub fn ignored_names(&self) -> Option<&str> {
        self.jit.as_ref().and_then(Jit::ignored)
    }

    /// What may be missing from stacks through code that the process makes.
    pub fn made_gap(&self) -> Option<Gap> {
        self.jit.as_ref().and_then(Jit::gap)
    }

    /// Modules whose files are corrupt, and what is wrong with them.
    pub fn corrupt(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.symbolizer.corrupt()
    }

    /// Modules whose debug information could not be used, and why.
    pub fn losses(&self) -> impl Iterator<Item = (&str, &str)> {
        self.symbolizer.losses()
    }
}

impl Frames for Stacks {
    fn of(&self, stack: StackId) -> &[u32] {
        self.stacks.get(stack.index()).map_or(&[], Vec::as_slice)
    }
}

fn as_source(module: &target::Module) -> Module {
    let source = match &module.source {
        ModuleSource::File { visible, .. } => Source::File(visible.clone()),
        ModuleSource::Image(image) => Source::Image(image.clone()),
        ModuleSource::Missing(why) => Source::Missing(why.clone()),
    };
    Module { path: module.path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::StackEnd, target::budget::Limits};

    #[test]
    fn frames_are_held_once_and_within_a_limit() {
        let limits = Limits { kept: 54 << 20, ..Limits::of_memory(0) };
        let mut stacks = Stacks::new(Options { budget: Budget::new(limits), ..Options::default() });
        let frame = |n: usize| Frame { function: format!("{n}").repeat(100_000), ..Frame::default() };
        let first = stacks.place(frame(1));
        assert_eq!(stacks.place(frame(1)), first);
        let places: Vec<u32> = (10..200).map(|n| stacks.place(frame(n))).collect();
        assert!(
            stacks.size.amount() <= FLOOR + (36 << 20) && (90..100).contains(&stacks.frames.len()),
            "{}",
            stacks.frames.len()
        );
        let last = *places.last().unwrap();
        assert_eq!(stacks.frames()[last as usize].label(), "[unknown left out]");
        assert_eq!(stacks.place(frame(199)), last);
        assert_eq!(stacks.place(frame(1)), first, "what is known stays so");
        assert_eq!(stacks.budget.count_left_out(), 1);
    }

    #[test]
    fn nothing_is_looked_up_any_more_where_frames_are_full() {
        let limits = Limits { kept: 0, ..Limits::of_memory(0) };
        let mut stacks = Stacks::new(Options { budget: Budget::new(limits), ..Options::default() });
        let (mut table, mut modules) = (StackTable::default(), Modules::from_parts(Vec::new(), &[]));
        let first = table.intern(Stack::of_thread(vec![1, 2], StackEnd::Complete));
        stacks.resolve_new(&table, &mut modules);
        let long = Frame { function: "f".repeat(FLOOR as usize), ..Frame::default() };
        stacks.place(long);
        let second = table.intern(Stack::of_thread(vec![3, 4], StackEnd::Complete));
        stacks.resolve_new(&table, &mut modules);
        assert_eq!(stacks.of(first).len(), 2);
        assert!(
            matches!(stacks.of(second), [place] if stacks.frames()[*place as usize].label() == "[unknown left out]")
        );
        assert_eq!(stacks.budget.count_left_out(), 2, "that frame, and what was not looked up");
    }
}
