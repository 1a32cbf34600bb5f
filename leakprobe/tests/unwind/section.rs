//! Makes sections of call frame information, well-formed or not, and a process of one module to unwind in.

use leakprobe::{
    model::Stack,
    snapshot::{StackMemory, Unwinder},
    target::{
        Modules, Placed,
        elf::{Elf, Section},
    },
};
use leakprobe_common::arch::{CS, FP, IP, REG_WORDS, Regs, SP};

/// Where the module's code lies, in its own addresses.
pub(crate) const CODE: u64 = 0x1000;
/// How long it is.
pub(crate) const CODE_LEN: u64 = 0x10_0000;
/// Where it lies in memory.
pub(crate) const BIAS: u64 = 0x5555_0000_0000;
/// Where the stack lies.
pub(crate) const STACK: u64 = 0x7ffd_0000_0000;
/// Where the sections lie, in the module's own addresses.
const EH_FRAME: u64 = 0x20_0000;
const EH_FRAME_HDR: u64 = 0x1f_0000;

/// A frame section in the making.
#[derive(Clone, Default)]
pub(crate) struct Frames {
    pub(crate) bytes: Vec<u8>,
    /// Beginning and offset of each function.
    functions: Vec<(u64, usize)>,
}

impl Frames {
    /// Adds a head: the CFA is rsp + 8, the return address below it; then `more`. Returns its offset.
    pub(crate) fn head(&mut self, augmentation: &[u8], more: &[u8]) -> usize {
        // Version, augmentation, alignment of code 1 and of data -8, return address in 16; DW_EH_PE_udata8.
        let mut body = vec![0, 0, 0, 0, 1];
        body.extend(augmentation);
        body.extend([0, 1, 0x78, 16]);
        if augmentation.contains(&b'z') {
            body.extend([1, 0x04]);
        }
        body.extend([0x0c, 7, 8, 0x90, 1]);
        body.extend(more);
        self.entry(&body)
    }

    /// A head as compilers write it.
    pub(crate) fn plain_head(&mut self) -> usize {
        self.head(b"zR", &[])
    }

    /// Adds a function.
    pub(crate) fn function(&mut self, head: usize, start: u64, len: u64, instructions: &[u8]) -> usize {
        let back = (self.bytes.len() + 4 - head) as u32;
        let mut body = back.to_le_bytes().to_vec();
        body.extend(start.to_le_bytes());
        body.extend(len.to_le_bytes());
        body.push(0);
        body.extend(instructions);
        let at = self.entry(&body);
        self.functions.push((start, at));
        at
    }

    fn entry(&mut self, body: &[u8]) -> usize {
        let at = self.bytes.len();
        self.bytes.extend((body.len() as u32).to_le_bytes());
        self.bytes.extend(body);
        at
    }

    /// The module's sections; with an index, or without.
    pub(crate) fn elf(&self, indexed: bool) -> Elf {
        let section =
            |svma: u64, bytes: &[u8]| Section { svma: svma..svma + bytes.len() as u64, data: bytes.to_vec().into() };
        Elf {
            eh_frame: Some(section(EH_FRAME, &self.bytes)),
            eh_frame_hdr: indexed.then(|| section(EH_FRAME_HDR, &self.index())),
            ..Elf::default()
        }
    }

    /// The index as a linker writes it.
    pub(crate) fn index(&self) -> Vec<u8> {
        let mut functions = self.functions.clone();
        functions.sort_unstable();
        let mut index = vec![1, 0x1b, 0x03, 0x3b];
        index.extend((EH_FRAME.wrapping_sub(EH_FRAME_HDR + 4) as u32).to_le_bytes());
        index.extend((functions.len() as u32).to_le_bytes());
        for (start, at) in functions {
            index.extend((start.wrapping_sub(EH_FRAME_HDR) as u32).to_le_bytes());
            index.extend(((EH_FRAME + at as u64).wrapping_sub(EH_FRAME_HDR) as u32).to_le_bytes());
        }
        index
    }
}

/// A thread in that module.
#[derive(Clone)]
pub(crate) struct Thread {
    pub(crate) ip: u64,
    pub(crate) sp: u64,
    pub(crate) fp: u64,
    pub(crate) words: Vec<u64>,
}

impl Thread {
    /// At `ip`, in the module's own addresses, with a stack of these words.
    pub(crate) fn at(ip: u64, words: &[u64]) -> Self {
        Self { ip: BIAS + ip, sp: STACK, fp: 0, words: words.to_vec() }
    }

    pub(crate) fn regs(&self) -> Regs {
        let mut regs = [0; REG_WORDS];
        (regs[IP], regs[SP], regs[FP], regs[CS]) = (self.ip, self.sp, self.fp, 0x33);
        regs
    }

    pub(crate) fn unwind(&self, elf: Elf) -> Stack {
        self.unwind_in(&mut process(elf, BIAS))
    }

    pub(crate) fn unwind_in(&self, modules: &mut Modules) -> Stack {
        let bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Unwinder::default().unwind(modules, &self.regs(), &mut StackMemory::captured(STACK, &bytes)).0
    }
}

/// A process of one module, moved by `bias`.
pub(crate) fn process(elf: Elf, bias: u64) -> Modules {
    let start = bias.wrapping_add(CODE);
    let mapping = start..start + CODE_LEN;
    let module = Placed { path: "module".to_owned(), elf, bias, mappings: Vec::from([mapping]) };
    Modules::from_parts(vec![module], &[])
}
