//! What of a stack tells sites apart: the functions that lead to where a task waits or was created, in such a way that neither
//! the next run, nor the next build, nor what happens at run time makes another path of the same place.
//!
//! - **Files.** The executable counts as itself, whatever its file is called; a library without folder, version and hash.
//! - **Recursion.** A path is what is left of a stack when its loops are taken out: where a function calls itself, directly or
//!   through others, only its outermost call counts. So neither the depth nor the order of calls within a recursion matters.
//!   Libraries and wrappers close loops only among themselves: that `call_once` stands twice on a stack does not mean that what is
//!   between has called itself.
//! - **Code that is made at run time.** The frames of interpreters, of compiled code without names, and of the stubs between these and their
//!   virtual machine are one and the same function, so that nothing changes when a method is compiled. With a name (by a perf map)
//!   a function is itself, in whichever tier it was compiled.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::model::{Frame, Recording};

/// The module of the program's own code.
const EXECUTABLE: &str = "[executable]";
/// The module of code that does not tell what runs.
const MADE: &str = "[made]";

/// How functions are named by which virtual machines run code that has no frames, or none with a name, of its own: the loops of
/// interpreters, and the ways from compiled code into the machine and back, which differ by interpreter and compiler.
const GLUE: [&str; 14] = [
    // <https://github.com/openjdk/jdk/tree/jdk-17%2B35/src/hotspot/share>: interpreter, c1, opto, jvmci and runtime.
    "InterpreterRuntime::",
    "Runtime1::",
    "OptoRuntime::",
    "JVMCIRuntime::",
    "SharedRuntime::",
    "JavaCalls::call_helper",
    // <https://github.com/nodejs/node/blob/v20.20.0/deps/v8/src/builtins/builtins-definitions.h>
    "Builtins_",
    // <https://github.com/python/cpython/blob/v3.12.0/Python/ceval.c#L632>
    "_PyEval_EvalFrame",
    "PyEval_EvalFrame",
    // <https://github.com/ruby/ruby/blob/v3_1_0/vm.c#L2156>
    "vm_exec",
    "rb_vm_exec",
    // <https://github.com/php/php-src/blob/php-8.2.0/Zend/zend_vm_execute.h>
    "execute_ex",
    "luaV_execute",
    "Perl_runops_",
];
/// What HotSpot's perf maps call pieces of code that are no methods.
const STUBS: [&str; 5] = ["StubRoutines", "RuntimeStub", "I2C/C2I adapters", "DeoptimizationBlob", "call_stub"];
/// Libraries of virtual machines that are known as such even where no function on the stack shows it.
const MACHINES: [&str; 2] = ["libjvm.so", "libjava.so"];
/// What V8 puts before the name of a function, and how it marks the tier.
const V8_TAGS: [&str; 6] = ["JS", "LazyCompile", "InterpretedFunction", "Function", "Script", "Eval"];
const V8_TIERS: [char; 5] = ['~', '^', '+', '*', '\''];

/// A function, as far as it is the same in the next run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Function<'a> {
    /// The module that the function is in: `[executable]`, or a library without its version and folder. Held once for all of its
    /// functions.
    pub(super) module: Arc<str>,
    /// Its name, or else its address in the module; empty in code that was made at run time.
    pub(super) name: &'a str,
}

/// Numbers of functions, the same for equal ones in whichever recording they are.
#[derive(Debug, Default)]
pub(super) struct Numbers<'a>(HashMap<Function<'a>, u32>);

impl<'a> Numbers<'a> {
    /// The number of each function of `paths`, by its place.
    pub(super) fn of(&mut self, paths: &CallPaths<'a>) -> HashMap<u32, u32> {
        let firsts = paths.steps.iter().zip(0..).filter(|(step, place)| step.function == *place);
        let functions = firsts.filter_map(|(_, place)| Some((place, paths.function(place)?)));
        functions
            .map(|(place, function)| {
                let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
                (place, *self.0.entry(function.clone()).or_insert(next))
            })
            .collect()
    }
}

/// A frame.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// The first frame of the same function.
    function: u32,
    /// The first frame of the same module.
    module: u32,
    is_glue: bool,
    is_users: bool,
}

/// The frames of a recording, by what tells them apart.
#[derive(Debug)]
pub(super) struct CallPaths<'a> {
    steps: Vec<Step>,
    functions: HashMap<u32, Function<'a>>,
}

impl<'a> CallPaths<'a> {
    /// Of all stacks that point into `frames`; `exe` is the path of the target's executable.
    pub(super) fn new(frames: &'a [Frame], exe: &'a str) -> Self {
        let exe = as_mapped(exe);
        let mut firsts: HashMap<Function<'a>, u32> = HashMap::new();
        // The first frame of each, and its name.
        let mut modules: HashMap<&'a str, (u32, Arc<str>)> = HashMap::new();
        let made: Arc<str> = MADE.into();
        let mut functions = HashMap::new();
        let mut steps = Vec::with_capacity(frames.len());
        for (frame, place) in frames.iter().zip(0..) {
            let (module, in_module) =
                modules.entry(&frame.module).or_insert_with(|| (place, module(&frame.module, exe).into()));
            let function = if tells_nothing(frame) {
                Function { module: Arc::clone(&made), name: "" }
            } else {
                Function { module: Arc::clone(in_module), name: name(frame) }
            };
            let is_glue = *function.module == *MADE || is_glue(&frame.function);
            let is_machines = MACHINES.contains(&frame.module_name());
            let first = *firsts.entry(function.clone()).or_insert(place);
            if first == place {
                functions.insert(place, function);
            }
            steps.push(Step {
                function: first,
                module: *module,
                is_glue,
                is_users: !is_glue && !is_machines && frame.is_users(),
            });
        }
        Self { steps, functions }
    }

    /// Of a recording's stacks.
    pub(super) fn of(recording: &'a Recording) -> Self {
        Self::new(&recording.frames, &recording.target.exe)
    }

    /// The part of a creation stack that tells who creates: up to the innermost functions of the program's own, the one that creates
    /// and the one that asked for it. Who asked that one, a request handler or another, is not told apart.
    pub(super) fn creator<'s>(&self, creation: &'s [u32]) -> &'s [u32] {
        const FUNCTIONS: usize = 2;
        let mut functions = Vec::new();
        let is_enough = |place: &u32| {
            let Some(step) = self.steps.get(*place as usize).filter(|step| step.is_users) else { return false };
            if !functions.contains(&step.function) {
                functions.push(step.function);
            }
            functions.len() == FUNCTIONS
        };
        let end = creation.iter().position(is_enough).map_or(creation.len(), |last| last + 1);
        &creation[..end]
    }

    /// The path of a stack, innermost function first. Each place is that of a frame that stands for its function: see
    /// [`Self::function`].
    pub(super) fn path(&self, stack: &[u32]) -> Vec<u32> {
        let unknown = |place| Step { function: place, module: place, is_glue: false, is_users: true };
        let steps =
            || stack.iter().rev().map(|&place| self.steps.get(place as usize).copied().unwrap_or(unknown(place)));
        // What runs a virtual machine is its own code, in whichever file that is.
        let machines: HashSet<u32> = steps().filter(|step| step.is_glue).map(|step| step.module).collect();
        // Outermost first, and whether each function is the user's.
        let mut path: Vec<(u32, bool)> = Vec::with_capacity(stack.len());
        let mut on_path: HashMap<u32, u32> = HashMap::new();
        for step in steps() {
            let is_users = step.is_users && !machines.contains(&step.module);
            let is_known = on_path.contains_key(&step.function);
            let is_loop = |&(function, theirs): &(u32, bool)| function == step.function || !is_users && theirs;
            let last = if is_known { path.iter().rposition(is_loop) } else { None };
            match last.filter(|&last| path[last].0 == step.function) {
                Some(last) => {
                    for (function, _) in path.drain(last + 1..) {
                        if let Some(count) = on_path.get_mut(&function) {
                            *count -= 1;
                            if *count == 0 {
                                on_path.remove(&function);
                            }
                        }
                    }
                }
                None => {
                    path.push((step.function, is_users));
                    *on_path.entry(step.function).or_default() += 1;
                }
            }
        }
        path.into_iter().rev().map(|(function, _)| function).collect()
    }

    /// The function of a place of a path.
    pub(super) fn function(&self, place: u32) -> Option<&Function<'a>> {
        self.functions.get(&place)
    }

    /// The functions of a stack's path, innermost first.
    pub(super) fn functions(&self, stack: &[u32]) -> impl Iterator<Item = &Function<'a>> {
        self.path(stack).into_iter().filter_map(|place| self.function(place))
    }

    /// Hashes a stack's path.
    pub(super) fn hash(&self, stack: &[u32], hasher: &mut impl Hasher) {
        for function in self.functions(stack) {
            function.hash(hasher);
        }
    }
}

/// The name of a frame's function, or its address in the module where it has none.
fn name(frame: &Frame) -> &str {
    match frame.function.as_str() {
        "" => &frame.address,
        name if frame.module == "[jit]" => without_tier(name),
        name => name,
    }
}

/// Whether it does not tell what runs, and its place in memory is another one in the next run.
fn tells_nothing(frame: &Frame) -> bool {
    if frame.function.is_empty() {
        // Also what .NET has compiled ahead, until it is compiled again.
        return matches!(frame.module.as_str(), "" | "[anon]" | "[jit]") || frame.module.ends_with(".dll");
    }
    let is_interpreter = frame.unknown.is_some();
    let is_stub = frame.module == "[jit]" && STUBS.iter().any(|stub| frame.function.starts_with(stub));
    is_interpreter || is_stub || is_glue(&frame.function)
}

fn is_glue(function: &str) -> bool {
    GLUE.iter().any(|begin| function.starts_with(begin))
}

/// A name that a perf map gives, without what tells how the function was compiled.
fn without_tier(name: &str) -> &str {
    if let Some((tag, function)) = name.split_once(':')
        && V8_TAGS.contains(&tag)
    {
        return function.trim_start_matches(V8_TIERS);
    }
    // .NET: `void [App] App.Program::Main()[OptimizedTier1]`.
    let (method, tier) = name.rsplit_once('[').unwrap_or((name, ""));
    if method.ends_with(')') && tier.ends_with(']') { method } else { name }
}

fn as_mapped(path: &str) -> &str {
    let path = path.strip_suffix(" (unloaded)").unwrap_or(path);
    path.strip_suffix(" (deleted)").unwrap_or(path)
}

/// The name of the module that has this path.
fn module<'a>(path: &'a str, exe: &str) -> Cow<'a, str> {
    let path = as_mapped(path);
    if path == exe && !exe.is_empty() {
        return EXECUTABLE.into();
    }
    if path.starts_with('[') {
        return path.into();
    }
    library(path.rsplit('/').next().unwrap_or(path))
}

/// A library's name without what its versions and copies differ in: `libc` of `libc-2.31.so` and `libc.so.6`,
/// `libgfortran` of `libgfortran-040039e1.so.5.0.0`, `libnetty-epoll` of `libnetty_epoll1234567890123.so`.
fn library(file: &str) -> Cow<'_, str> {
    let is_end = |at: &usize| matches!(file.as_bytes().get(at + 3), None | Some(b'.'));
    let stem = file.match_indices(".so").map(|(at, _)| at).find(is_end).and_then(|at| file.get(..at)).unwrap_or(file);
    let is_version = |part: &&str| {
        let is_hash = part.len() >= 4 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        part.bytes().all(|byte| byte.is_ascii_digit()) || is_hash && part.bytes().any(|byte| byte.is_ascii_digit())
    };
    let parts =
        stem.split(['-', '_', '.']).map(without_long_number).filter(|part| !part.is_empty() && !is_version(part));
    match parts.collect::<Vec<_>>().join("-") {
        name if name.is_empty() || name == stem => stem.into(),
        name => name.into(),
    }
}

/// Without the number at the end that a file in a temporary folder has.
fn without_long_number(part: &str) -> &str {
    let rest = part.trim_end_matches(|c: char| c.is_ascii_digit());
    if part.len() - rest.len() >= 8 { rest } else { part }
}

#[cfg(test)]
#[path = "call_path_tests.rs"]
mod tests;
