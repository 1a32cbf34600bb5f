//! Whole stacks to frames, each distinct frame held once.

use std::collections::{HashMap, HashSet};

use super::{GoCode, Lookup, Module, Options, Source, Symbolizer, go::Lines, unmapped};
use crate::{
    analysis::Frames,
    model::{Frame, Stack, StackId, StackTable},
    target::{self, Code, ModuleId, ModuleSource, Modules},
};

/// The places of each address's frames, innermost inlined function first.
type Resolved = HashMap<u64, Vec<u32>>;

/// Symbolises stacks as they come, and keeps their frames.
pub struct Stacks {
    symbolizer: Symbolizer,
    go: Vec<GoCode>,
    frames: Vec<Frame>,
    places: HashMap<Frame, u32>,
    /// The frames of each stack, in the order of the table; those beyond the end are not resolved yet.
    stacks: Vec<Vec<u32>>,
}

impl Stacks {
    /// Nothing yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            symbolizer: Symbolizer::new(options),
            go: Vec::new(),
            frames: Vec::new(),
            places: HashMap::new(),
            stacks: Vec::new(),
        }
    }

    /// From now on, addresses in this code are told as Go tells of them. Replaces what was given before.
    pub fn set_go(&mut self, code: Vec<GoCode>) {
        self.go = code;
    }

    /// Resolves all stacks that came since the last time. To be called while `modules` are those that the stacks were taken in.
    pub fn resolve_new(&mut self, table: &StackTable, modules: &mut Modules) {
        let new: Vec<&Stack> = table.iter().skip(self.stacks.len()).map(|(_, stack)| stack).collect();
        // One batch a module: its symbols are read once for all of its addresses.
        let mut wanted: HashMap<Option<ModuleId>, Vec<(Lookup, u64)>> = HashMap::new();
        let mut seen = HashSet::new();
        for stack in &new {
            for (depth, &address) in stack.addresses.iter().enumerate() {
                let is_return = stack.is_return(depth);
                if self.go.iter().any(|go| go.has(address)) || !seen.insert((address, is_return)) {
                    continue;
                }
                let module = match modules.find_or_recall(address.saturating_sub(u64::from(is_return))) {
                    Some(Code::Module(id)) => Some(id),
                    Some(Code::Anonymous) => None,
                    None => continue, // said to be unmapped below
                };
                let bias = module.and_then(|id| modules.get(id)).map_or(0, |module| module.bias);
                wanted
                    .entry(module)
                    .or_default()
                    .push((Lookup { svma: address.wrapping_sub(bias), is_return }, address));
            }
        }
        let mut resolved: [Resolved; 2] = [HashMap::new(), HashMap::new()];
        let mut wanted: Vec<_> = wanted.into_iter().collect();
        wanted.sort_by_key(|(module, _)| *module);
        for (module, lookups) in wanted {
            let source = module.and_then(|id| modules.get(id)).map_or_else(anonymous, as_source);
            let plain: Vec<Lookup> = lookups.iter().map(|(lookup, _)| *lookup).collect();
            let frames = self.symbolizer.resolve(&source, &plain);
            for ((lookup, address), frames) in lookups.into_iter().zip(frames) {
                let places = frames.into_iter().map(|frame| self.place(frame)).collect();
                resolved[usize::from(lookup.is_return)].insert(address, places);
            }
        }
        for stack in new {
            let mut places = Vec::with_capacity(stack.addresses.len());
            let go = self.go_lines(stack);
            for (depth, address) in stack.addresses.iter().enumerate() {
                if let Some(Some(lines)) = go.get(depth) {
                    places.extend(self.place_go(lines, *address, modules));
                    continue;
                }
                match resolved[usize::from(stack.is_return(depth))].get(address) {
                    Some(known) => places.extend(known),
                    None => places.push(self.place(unmapped(*address))),
                }
            }
            self.stacks.push(places);
        }
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

    fn place(&mut self, frame: Frame) -> u32 {
        if let Some(&place) = self.places.get(&frame) {
            return place;
        }
        let place = u32::try_from(self.frames.len()).unwrap_or(u32::MAX);
        self.frames.push(frame.clone());
        self.places.insert(frame, place);
        place
    }

    /// All frames so far.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
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

fn anonymous() -> Module {
    Module { path: String::new(), source: Source::Anonymous }
}

fn as_source(module: &target::Module) -> Module {
    let source = match &module.source {
        ModuleSource::File { visible, .. } => Source::File(visible.clone()),
        ModuleSource::Image(image) => Source::Image(image.clone()),
        ModuleSource::Missing(why) => Source::Missing(why.clone()),
    };
    Module { path: module.path.clone(), source }
}
