//! From registers and stack memory to code addresses: framehop over .eh_frame or .debug_frame, frame pointers where
//! there is neither.

use std::{collections::HashMap, sync::Arc};

use framehop::{Error, FrameAddress, Unwinder as _};
use leakprobe_common::arch::{Regs, SP};

use super::{
    ProcessMemory,
    arch::{self, Cache},
    cfi::{Cfi, Plan},
};
use crate::{
    model::{Stack, StackEnd},
    target::{Code, ModuleId, Modules},
};

/// Most frames that are followed.
const MAX_FRAMES: usize = 1024;
/// Most bytes of one stack that are read.
const MAX_STACK: u64 = 1 << 20;
/// Bytes that are read at once when the first piece was not enough; doubled each time.
const FIRST_EXTENSION: usize = 8 << 10;

/// A thread's stack, from its stack pointer upwards.
pub struct StackMemory<'a> {
    base: u64,
    bytes: Vec<u8>,
    /// Where more can be read; `None` if this is all there is.
    more: Option<&'a ProcessMemory>,
    /// Set when the unwinder asked for memory beyond what there is.
    ran_out: bool,
}

impl<'a> StackMemory<'a> {
    /// A stack that is still there: `bytes` from `base` on were read, more can be.
    #[must_use]
    pub fn live(base: u64, bytes: &[u8], memory: &'a ProcessMemory) -> Self {
        Self { base, bytes: bytes.to_vec(), more: Some(memory), ran_out: false }
    }

    /// A stack that was captured: `bytes` from `base` on, and no more.
    #[must_use]
    pub fn captured(base: u64, bytes: &[u8]) -> Self {
        Self { base, bytes: bytes.to_vec(), more: None, ran_out: false }
    }

    fn word(&mut self, address: u64) -> Result<u64, ()> {
        let offset = address.checked_sub(self.base).ok_or(())?;
        if offset >= MAX_STACK {
            self.ran_out = true;
            return Err(());
        }
        let offset = usize::try_from(offset).map_err(|_| ())?;
        loop {
            if let Some(word) = self.bytes.get(offset..).and_then(|rest| rest.first_chunk::<8>()) {
                return Ok(u64::from_le_bytes(*word));
            }
            if !self.extend() {
                self.ran_out = true;
                return Err(());
            }
        }
    }

    /// Reads on; false if there is no more.
    fn extend(&mut self) -> bool {
        let Some(memory) = self.more else {
            return false;
        };
        let have = self.bytes.len();
        self.bytes.resize(have + have.max(FIRST_EXTENSION), 0);
        let read = memory.read(self.base + have as u64, &mut self.bytes[have..]);
        self.bytes.truncate(have + read);
        read > 0
    }
}

/// Unwinds the threads of one process. Keeps what it learned of modules and code addresses.
#[derive(Default)]
pub struct Unwinder {
    inner: arch::Unwinder<Arc<[u8]>>,
    cache: Cache,
    modules: HashMap<ModuleId, Option<Cfi>>,
    plans: HashMap<u64, Plan>,
}

/// Most code addresses whose plans are kept; then they are forgotten.
const MAX_PLANS: usize = 1 << 16;

impl Unwinder {
    /// Unwinds from `regs`. The second value says whether an address was met that lies in no known mapping, so that it may
    /// be worth to read the mappings again.
    pub fn unwind(&mut self, modules: &mut Modules, regs: &Regs, memory: &mut StackMemory<'_>) -> (Stack, bool) {
        let mut addresses = Vec::with_capacity(16);
        if !arch::is_native(regs) {
            return (Stack { addresses, end: StackEnd::None }, false);
        }
        let mut regs = arch::unwind_regs(regs);
        let mut frame = FrameAddress::from_instruction_pointer(regs.ip());
        let mut unknown_code = false;
        let end = loop {
            let code = modules.find(frame.address_for_lookup());
            if code.is_none() {
                unknown_code = true;
                if frame.is_return_address() {
                    // Not the address of code: the frame before was not what it seemed.
                    break StackEnd::NoUnwindInfo;
                }
            }
            addresses.push(frame.address());
            if addresses.len() >= MAX_FRAMES {
                break StackEnd::TooDeep;
            }
            frame = match self.step(modules, code, frame, &mut regs, memory) {
                Ok(Some(next)) => next,
                Ok(None) | Err(Error::ReturnAddressIsNull) => break StackEnd::Complete,
                Err(_) if memory.ran_out => break StackEnd::TooDeep,
                Err(_) => break StackEnd::NoUnwindInfo,
            };
        };
        (Stack { addresses, end }, unknown_code)
    }

    fn step(
        &mut self,
        modules: &mut Modules,
        code: Option<Code>,
        frame: FrameAddress,
        regs: &mut arch::UnwindRegs,
        memory: &mut StackMemory<'_>,
    ) -> Result<Option<FrameAddress>, Error> {
        let mut read = |address| memory.word(address);
        let lookup = frame.address_for_lookup();
        if let Some(Code::Module(id)) = code {
            self.ensure(modules, id);
            let cfi = self.modules.get(&id).and_then(Option::as_ref);
            if let (Some(cfi), Some(module)) = (cfi, modules.get(id)) {
                let svma = lookup.wrapping_sub(module.bias);
                let plan = match self.plans.get(&lookup) {
                    Some(plan) => *plan,
                    None => {
                        if self.plans.len() >= MAX_PLANS {
                            self.plans.clear();
                        }
                        *self.plans.entry(lookup).or_insert_with(|| cfi.plan(svma))
                    }
                };
                if plan == Plan::Expression {
                    let is_signal = cfi.step(svma, regs, &mut read).map_err(|_| Error::DidNotAdvance)?;
                    let next = if is_signal {
                        Some(FrameAddress::from_instruction_pointer(regs.ip()))
                    } else {
                        FrameAddress::from_return_address(regs.ip())
                    };
                    return next.map(Some).ok_or(Error::ReturnAddressIsNull);
                }
            }
        }
        match self.inner.unwind_frame(frame, regs, &mut self.cache, &mut read)? {
            Some(address) => FrameAddress::from_return_address(address).map(Some).ok_or(Error::ReturnAddressIsNull),
            None => Ok(None),
        }
    }

    /// Makes the module's call frame information known, if it is not yet.
    fn ensure(&mut self, modules: &Modules, id: ModuleId) {
        if self.modules.contains_key(&id) {
            return;
        }
        let Some(module) = modules.get(id) else {
            return;
        };
        let elf = module.elf.as_ref().ok();
        let cfi = elf.and_then(|elf| Cfi::of(elf));
        if let (Some(elf), Some(range)) = (elf.filter(|_| cfi.is_some()), modules.code_range(id)) {
            self.inner.add_module(Cfi::module(&module.path, elf, range, module.bias));
        }
        self.modules.insert(id, cfi);
    }
}

/// The stack pointer that `regs` hold.
#[must_use]
pub fn stack_pointer(regs: &Regs) -> u64 {
    regs[SP]
}
