//! From registers and stack memory to code addresses: framehop over .eh_frame, our own rules where framehop's do not
//! suffice or .debug_frame is all there is, frame pointers where there is neither.
//!
//! An unwind is bounded whatever the target holds: [`MAX_FRAMES`] frames, so much of each stack (see [`super::stack_memory`]), and for each
//! frame one plan (see [`super::cfi`]) and one step (see [`super::rule`]).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use framehop::{Error, FrameAddress, Unwinder as _};
use leakprobe_common::arch::{Regs, SP};

use super::{
    arch::{self, Cache},
    cfi::{Cfi, Plan, Saved},
    code_pages::CodePages,
    epilogue,
    known::Known,
    rule::Stuck,
    stack_memory::{Missed, StackMemory},
};
use crate::{
    model::{Stack, StackEnd},
    target::{Code, ModuleId, Modules},
};

/// Most frames that are followed.
const MAX_FRAMES: usize = 1024;
/// How far a frame pointer may lead, bytes: if it is farther, it most likely is none.
const MAX_GUESS: u64 = 1 << 20;
/// Most code addresses whose plans are kept; then they are forgotten.
const MAX_PLANS: usize = 1 << 14;

/// How to get on from a frame of code that tells the sizes of its frames itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameSize {
    /// So many bytes lie between the stack pointer and the return address.
    Bytes(u32),
    /// This is where its stack begins.
    Outermost,
    /// As Java's interpreter has it: the frame pointer leads to the caller's, with the return address above it, and below it lies
    /// the caller's stack pointer, which is not right above the frame where arguments were moved.
    Interpreted,
}

/// Code that tells the sizes of its frames in a way of its own, and perhaps in no other.
pub trait FrameSizes: Send + Sync {
    /// What is known of the frame of the code at `address`; `None` if it is other code, or the size is not known.
    fn frame_size(&self, address: u64) -> Option<FrameSize>;
}

/// Unwinds the threads of one process. Keeps what it learned of modules and code addresses.
#[derive(Default)]
pub struct Unwinder {
    /// Knows the modules of the mappings that were met.
    inner: arch::Unwinder<Bytes>,
    /// Knows none, and so follows frame pointers.
    by_frame_pointer: arch::Unwinder<Bytes>,
    cache: Cache,
    modules: HashMap<ModuleId, Option<Cfi>>,
    /// Modules that `inner` knows.
    added: HashSet<ModuleId>,
    plans: HashMap<u64, Plan>,
    code: CodePages,
    /// The mappings that the two above, `inner` and its cache are about.
    generation: u64,
    own: Vec<Arc<dyn FrameSizes>>,
    made: Option<Arc<dyn FrameSizes>>,
    /// Of the registers to begin with only the stack and instruction pointers are the thread's own.
    from_proc: bool,
}

/// Where a step led.
enum Caller {
    /// To this frame.
    At(FrameAddress),
    /// Nowhere: the frame is said to be the outermost one.
    Outermost,
    /// To address 0, or to no frame.
    Null,
}

impl Caller {
    fn of_return(address: Option<u64>) -> Self {
        address.and_then(FrameAddress::from_return_address).map_or(Self::Null, Self::At)
    }
}

/// What a step was made by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// Call frame information, or the code itself.
    Information,
    /// Frame pointers, or a glance at the stack, for want of anything better.
    Guess,
}

/// Whether the innermost frame may be one that has not touched the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Glance {
    Yes,
    No,
}

impl Unwinder {
    /// An unwinder of threads of which only the stack pointer and the instruction pointer are known, as `/proc` tells them. Where
    /// another register is needed the stack ends, with [`StackEnd::RegisterUnknown`].
    #[must_use]
    pub fn from_proc() -> Self {
        Self { from_proc: true, ..Self::default() }
    }

    /// From now on these are asked first.
    pub fn set_frame_sizes(&mut self, own: Vec<Arc<dyn FrameSizes>>) {
        self.own = own;
    }

    /// From now on this is asked of code that belongs to no file.
    pub fn set_made_frame_sizes(&mut self, made: Option<Arc<dyn FrameSizes>>) {
        self.made = made;
    }

    /// Unwinds from `regs`. The second value says whether an address was met that lies in no known mapping, so that it may
    /// be worth to read the mappings again.
    pub fn unwind(&mut self, modules: &mut Modules, regs: &Regs, memory: &mut StackMemory<'_>) -> (Stack, bool) {
        let mut addresses = Vec::with_capacity(16);
        if !arch::is_native(regs) {
            let end = if arch::is_compat(regs) { StackEnd::ThirtyTwoBit } else { StackEnd::None };
            return (Stack::of_thread(addresses, end), false);
        }
        self.follow(modules);
        self.code.forget();
        let mut regs = arch::unwind_regs(regs);
        let mut frame = FrameAddress::from_instruction_pointer(regs.ip());
        let mut unknown_code = false;
        let mut guessed = false;
        let mut known = if self.from_proc { Known::from_proc() } else { Known::ALL };
        let end = loop {
            let mut code = modules.find(frame.address_for_lookup());
            if code.is_none() {
                unknown_code = true;
                // A thread may wait for its return to code that was unloaded meanwhile.
                code = modules.recall(frame.address_for_lookup()).map(Code::Module);
                if code.is_none() && frame.is_return_address() {
                    if !guessed {
                        // It surely returns there, whatever was there.
                        addresses.push(frame.address());
                    }
                    // Else not the address of code: a frame before was not what it seemed.
                    break StackEnd::NoUnwindInfo;
                }
            }
            addresses.push(frame.address());
            if addresses.len() >= MAX_FRAMES {
                break StackEnd::TooDeep;
            }
            memory.missed = Missed::Nothing;
            let (by, caller) = self.step(modules, code, frame, (&mut regs, &mut known), memory);
            guessed |= by == By::Guess;
            frame = match caller {
                Ok(Caller::At(next)) => next,
                Ok(Caller::Outermost) => break StackEnd::Complete,
                // By convention the chain of frame pointers ends in a null one, and so do return addresses. But a
                // function without a frame pointer may hold 0 in that register just so.
                Ok(Caller::Null) if guessed => break StackEnd::NoUnwindInfo,
                Ok(Caller::Null) => break StackEnd::Complete,
                Err(_) if memory.missed == Missed::Register => break StackEnd::RegisterUnknown,
                Err(_) if memory.missed == Missed::Uncaptured => break StackEnd::TooDeep,
                Err(_) if memory.missed == Missed::TooFar && by == By::Information => break StackEnd::TooDeep,
                Err(_) => break StackEnd::NoUnwindInfo,
            };
        };
        (Stack::of_thread(addresses, end), unknown_code)
    }

    /// Forgets what is about mappings that are no more.
    fn follow(&mut self, modules: &Modules) {
        if self.generation != modules.generation() {
            self.generation = modules.generation();
            self.inner = arch::Unwinder::default();
            self.cache = Cache::default();
            self.added.clear();
            self.plans.clear();
            self.modules.retain(|&id, _| modules.get(id).is_some());
        }
    }

    fn step(
        &mut self,
        modules: &mut Modules,
        code: Option<Code>,
        frame: FrameAddress,
        (regs, known): (&mut arch::UnwindRegs, &mut Known),
        memory: &mut StackMemory<'_>,
    ) -> (By, Result<Caller, Error>) {
        if let Some(size) = self.own.iter().find_map(|own| own.frame_size(frame.address_for_lookup())) {
            return (By::Information, step_by_size(size, (regs, known), memory));
        }
        let id = match code {
            Some(Code::Module(id)) => id,
            Some(Code::Anonymous) => {
                // At a call alone: elsewhere the frame may be half made.
                let made = self.made.as_ref().filter(|_| frame.is_return_address());
                return match made.and_then(|made| made.frame_size(frame.address_for_lookup())) {
                    Some(size) => (By::Information, step_by_size(size, (regs, known), memory)),
                    None => self.step_uninformed(modules, Glance::No, frame, (regs, known), memory),
                };
            }
            None => return self.step_uninformed(modules, Glance::Yes, frame, (regs, known), memory),
        };
        let Some(module) = modules.get(id) else {
            return self.step_uninformed(modules, Glance::No, frame, (regs, known), memory);
        };
        let entry = self.modules.entry(id);
        let new = || Cfi::of(module.elf.as_ref().ok()?, &module.path, modules.budget());
        let Some(cfi) = entry.or_insert_with(new) else {
            return (By::Guess, self.step_by_frame_pointer(frame, (regs, known), memory));
        };
        let lookup = frame.address_for_lookup();
        let plan = match self.plans.get(&lookup) {
            Some(plan) => plan.clone(),
            None => {
                let plan = || cfi.plan(lookup.wrapping_sub(module.bias), module.bias);
                let Some(plan) = modules.budget().timed_of(&module.path, plan) else {
                    return (By::Guess, self.step_by_frame_pointer(frame, (regs, known), memory));
                };
                if self.plans.len() >= MAX_PLANS {
                    self.plans.clear();
                }
                self.plans.insert(lookup, plan.clone());
                plan
            }
        };
        let mut read = |address| memory.word(address);
        let caller = match plan {
            Plan::Outermost => Ok(Caller::Outermost),
            Plan::Uncovered => return self.step_uninformed(modules, Glance::Yes, frame, (regs, known), memory),
            Plan::Plain(simple) if simple.by_frame_pointer && !known.has(arch::FRAME_POINTER) => {
                memory.missed = Missed::Register;
                Err(Error::DidNotAdvance)
            }
            Plan::Plain(simple) => {
                if self.added.insert(id)
                    && let Ok(elf) = &module.elf
                {
                    // Each mapping by itself: between those of one file may lie those of another.
                    for mapping in modules.last_mappings_of(id) {
                        if let Some(module) = cfi.module(elf, &module.path, mapping, module.bias) {
                            self.inner.add_module(module);
                        }
                    }
                }
                let below = regs.sp();
                let caller = self.inner.unwind_frame(frame, regs, &mut self.cache, &mut read);
                if let Ok(Some(_)) = caller {
                    if simple.restores_frame_pointer {
                        known.set(arch::FRAME_POINTER, true);
                    }
                    restore(simple.saved, below, (regs, known), &mut read);
                }
                caller.map(Caller::of_return)
            }
            Plan::Rule(rule) => match cfi.step(&rule, regs, known, &mut read) {
                Ok(stepped) if stepped.is_signal => {
                    memory.switch_to(regs.sp());
                    Ok(Caller::At(FrameAddress::from_instruction_pointer(regs.ip())))
                }
                Ok(_) => Ok(Caller::of_return(Some(regs.ip()))),
                Err(stuck) => {
                    if stuck == Stuck::UnknownRegister {
                        memory.missed = Missed::Register;
                    }
                    Err(Error::DidNotAdvance)
                }
            },
        };
        (By::Information, caller)
    }

    /// Out of code that nothing is said about.
    fn step_uninformed(
        &mut self,
        modules: &mut Modules,
        glance: Glance,
        frame: FrameAddress,
        (regs, known): (&mut arch::UnwindRegs, &mut Known),
        memory: &mut StackMemory<'_>,
    ) -> (By, Result<Caller, Error>) {
        if frame.is_return_address()
            && let Some(caller) = step_by_epilogue((modules, &mut self.code), frame, (regs, known), memory)
        {
            return (By::Information, Ok(caller));
        }
        let caller = match glance {
            Glance::Yes => self.step_by_guess(modules, frame, (regs, known), memory),
            Glance::No => self.step_by_frame_pointer(frame, (regs, known), memory),
        };
        (By::Guess, caller)
    }

    /// By a glance at the stack, or by frame pointers. The innermost such function is most often a short one in assembler that has
    /// not touched the stack: all of clone3 behind its system call, the stubs of the dynamic linker, a jump to nowhere.
    fn step_by_guess(
        &mut self,
        modules: &mut Modules,
        frame: FrameAddress,
        (regs, known): (&mut arch::UnwindRegs, &mut Known),
        memory: &mut StackMemory<'_>,
    ) -> Result<Caller, Error> {
        // Where registers are missing, the next frame could not be told to be wrong.
        if !self.from_proc
            && !frame.is_return_address()
            && let Some(after) = regs.sp().checked_add(8)
            && let Ok(address) = memory.word(regs.sp())
            && let Some(caller) = FrameAddress::from_return_address(address)
            && modules.find(caller.address_for_lookup()).is_some()
        {
            regs.set_sp(after);
            regs.set_ip(address);
            return Ok(Caller::At(caller));
        }
        self.step_by_frame_pointer(frame, (regs, known), memory)
    }

    fn step_by_frame_pointer(
        &mut self,
        frame: FrameAddress,
        (regs, known): (&mut arch::UnwindRegs, &mut Known),
        memory: &mut StackMemory<'_>,
    ) -> Result<Caller, Error> {
        if !known.has(arch::FRAME_POINTER) {
            memory.missed = Missed::Register;
            return Err(Error::DidNotAdvance);
        }
        if !arch::is_aligned(regs.bp()) || regs.bp().wrapping_sub(regs.sp()) >= MAX_GUESS {
            return Err(Error::DidNotAdvance);
        }
        let mut read = |address| memory.word(address);
        self.by_frame_pointer.unwind_frame(frame, regs, &mut self.cache, &mut read).map(Caller::of_return)
    }
}

/// See [`epilogue`]. That the caller is code behind a call shows that the code was read as it is run.
fn step_by_epilogue(
    (modules, code_pages): (&mut Modules, &mut CodePages),
    frame: FrameAddress,
    (regs, known): (&mut arch::UnwindRegs, &mut Known),
    memory: &mut StackMemory<'_>,
) -> Option<Caller> {
    let code_memory = modules.memory()?;
    let mut code = [0; epilogue::CODE];
    let length = code_pages.read(&code_memory, frame.address(), &mut code);
    let (mut left, mut then_known) = (*regs, *known);
    let missed = memory.missed;
    let address = epilogue::leave(code.get(..length)?, &mut left, &mut then_known, |address| memory.word(address).ok());
    memory.missed = missed;
    let caller = FrameAddress::from_return_address(address?)?;
    modules.find(caller.address_for_lookup())?;
    let mut call = [0; epilogue::CALL];
    let length = code_pages.read(&code_memory, caller.address().checked_sub(epilogue::CALL as u64)?, &mut call);
    if length < call.len() || !epilogue::is_call(&call) {
        return None;
    }
    (*regs, *known) = (left, then_known);
    Some(Caller::At(caller))
}

fn step_by_size(
    size: FrameSize,
    (regs, known): (&mut arch::UnwindRegs, &mut Known),
    memory: &mut StackMemory<'_>,
) -> Result<Caller, Error> {
    let size = match size {
        FrameSize::Bytes(size) => size,
        FrameSize::Interpreted => return step_by_link((regs, known), memory),
        FrameSize::Outermost => return Ok(Caller::Outermost),
    };
    let place = regs.sp().wrapping_add(u64::from(size));
    let mut read = |address| memory.word(address).map_err(|()| Error::CouldNotReadStack(address));
    let address = read(place)?;
    if size >= 8 {
        // A frame begins with its caller's frame pointer.
        regs.set_bp(read(place.wrapping_sub(8))?);
        known.set(arch::FRAME_POINTER, true);
    }
    regs.set_sp(place.wrapping_add(8));
    regs.set_ip(address);
    Ok(Caller::of_return(Some(address)))
}

/// See [`FrameSize::Interpreted`].
fn step_by_link(
    (regs, known): (&mut arch::UnwindRegs, &mut Known),
    memory: &mut StackMemory<'_>,
) -> Result<Caller, Error> {
    if !known.has(arch::FRAME_POINTER) {
        memory.missed = Missed::Register;
        return Err(Error::DidNotAdvance);
    }
    let place = regs.bp();
    let mut read = |address| memory.word(address).map_err(|()| Error::CouldNotReadStack(address));
    let stack_pointer = read(place.wrapping_sub(8))?;
    let (frame_pointer, address) = (read(place)?, read(place.wrapping_add(8))?);
    // The caller's frame lies above this one.
    if place < regs.sp() || stack_pointer <= place {
        return Err(Error::DidNotAdvance);
    }
    regs.set_bp(frame_pointer);
    regs.set_sp(stack_pointer);
    regs.set_ip(address);
    Ok(Caller::of_return(Some(address)))
}

/// Restores the registers that framehop leaves out, after a step that led from a frame at `below`.
fn restore(
    saved: Saved,
    below: u64,
    (regs, known): (&mut arch::UnwindRegs, &mut Known),
    read: &mut impl FnMut(u64) -> Result<u64, ()>,
) {
    for (register, words) in arch::CALLEE_SAVED.into_iter().zip(saved).filter(|&(_, words)| words != 0) {
        let address = regs.sp().wrapping_add_signed(i64::from(words) * 8);
        // Below the stack pointer: popped already, though the information, to save space, does not say so.
        if address >= below {
            let value = read(address);
            known.set(register, value.is_ok() || *known == Known::ALL);
            arch::set(regs, register, value.unwrap_or(0));
        }
    }
}

/// The stack pointer that `regs` hold.
#[must_use]
pub fn stack_pointer(regs: &Regs) -> u64 {
    regs[SP]
}
