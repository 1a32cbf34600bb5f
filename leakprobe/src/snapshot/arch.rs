//! What the unwinder needs to know of the processor. Another architecture is another module here, with the same names.

#[cfg(target_arch = "x86_64")]
mod imp {
    use framehop::x86_64::{CacheX86_64, Reg, UnwindRegsX86_64, UnwinderX86_64};
    use gimli::{Register, X86_64};
    use leakprobe_common::arch::{self, Regs};

    /// framehop's unwinder.
    pub(crate) type Unwinder<D> = UnwinderX86_64<D>;
    /// Its cache of unwind rules.
    pub(crate) type Cache = CacheX86_64;
    /// The registers that it carries from frame to frame.
    pub(crate) type UnwindRegs = UnwindRegsX86_64;

    /// The DWARF number of the return address's column.
    pub(crate) const RETURN_ADDRESS: Register = X86_64::RA;
    /// The DWARF number of the stack pointer.
    pub(crate) const STACK_POINTER: Register = X86_64::RSP;
    /// The DWARF number of the frame pointer.
    pub(crate) const FRAME_POINTER: Register = X86_64::RBP;

    /// The registers besides the frame pointer that a function must give back as it found them.
    pub(crate) const CALLEE_SAVED: [Register; 5] = [X86_64::RBX, X86_64::R12, X86_64::R13, X86_64::R14, X86_64::R15];

    /// The general registers, in the order of their DWARF numbers.
    const REGISTERS: [(Reg, usize); 16] = [
        (Reg::RAX, 10),
        (Reg::RDX, 12),
        (Reg::RCX, 11),
        (Reg::RBX, arch::RBX),
        (Reg::RSI, 13),
        (Reg::RDI, 14),
        (Reg::RBP, arch::FP),
        (Reg::RSP, arch::SP),
        (Reg::R8, 9),
        (Reg::R9, 8),
        (Reg::R10, 7),
        (Reg::R11, 6),
        (Reg::R12, arch::R12),
        (Reg::R13, arch::R13),
        (Reg::R14, arch::R14),
        (Reg::R15, arch::R15),
    ];

    /// The registers to begin with.
    pub(crate) fn unwind_regs(regs: &Regs) -> UnwindRegs {
        let mut unwind = UnwindRegs::new(regs[arch::IP], regs[arch::SP], regs[arch::FP]);
        for (reg, index) in REGISTERS {
            unwind.set(reg, regs[index]);
        }
        unwind
    }

    /// The register with a DWARF number.
    pub(crate) fn get(regs: &UnwindRegs, register: Register) -> Option<u64> {
        if register == RETURN_ADDRESS {
            return Some(regs.ip());
        }
        REGISTERS.get(usize::from(register.0)).map(|&(reg, _)| regs.get(reg))
    }

    /// Sets the register with a DWARF number.
    pub(crate) fn set(regs: &mut UnwindRegs, register: Register, value: u64) {
        if register == RETURN_ADDRESS {
            regs.set_ip(value);
        } else if let Some(&(reg, _)) = REGISTERS.get(usize::from(register.0)) {
            regs.set(reg, value);
        }
    }

    /// The register that instructions mean by a number.
    pub(crate) fn by_encoding(number: u8) -> Option<Register> {
        const FIRST: [Register; 8] =
            [X86_64::RAX, X86_64::RCX, X86_64::RDX, X86_64::RBX, X86_64::RSP, X86_64::RBP, X86_64::RSI, X86_64::RDI];
        FIRST.get(usize::from(number)).copied().or_else(|| (number < 16).then(|| Register(number.into())))
    }

    /// Every register that a frame may restore.
    pub(crate) fn restorable() -> impl Iterator<Item = Register> {
        (0..=16).map(Register)
    }

    /// Whether no frame can be told from the next without the register.
    pub(crate) fn is_needed(register: Register) -> bool {
        [RETURN_ADDRESS, STACK_POINTER, FRAME_POINTER].contains(&register)
    }

    /// Whether `value` can be a frame pointer: the processor pushes whole words.
    pub(crate) fn is_aligned(value: u64) -> bool {
        value.is_multiple_of(8)
    }

    /// Most bytes before a system call within which its number is loaded.
    pub(crate) const CALL_CODE: usize = 32;

    /// The numbers that the code which ends in a system call may give it, nearest first: `mov $n, %eax … syscall`.
    pub(crate) fn call_numbers(code: &[u8]) -> impl Iterator<Item = usize> {
        let before = code.strip_suffix(&[0x0f, 0x05]).unwrap_or_default();
        before.windows(5).rev().filter_map(|bytes| match *bytes {
            [0xb8, low, high, 0, 0] => Some(usize::from(u16::from_le_bytes([low, high]))),
            _ => None,
        })
    }

    /// The code segment of 64-bit code: `__USER_CS`.
    pub(crate) const NATIVE_CODE: u64 = 0x33;
    /// That of 32-bit code: `__USER32_CS`.
    const COMPAT_CODE: u64 = 0x23;

    /// Whether the registers are those of 64-bit code; all zero: a kernel worker that has none.
    pub(crate) fn is_native(regs: &Regs) -> bool {
        regs[arch::CS] == NATIVE_CODE
    }

    /// The registers of 64-bit code of which no others are known.
    pub(crate) fn native_regs(ip: u64, sp: u64, fp: u64) -> Regs {
        let mut regs = [0; arch::REG_WORDS];
        (regs[arch::IP], regs[arch::SP], regs[arch::FP], regs[arch::CS]) = (ip, sp, fp, NATIVE_CODE);
        regs
    }

    /// Whether they are those of 32-bit code.
    pub(crate) fn is_compat(regs: &Regs) -> bool {
        regs[arch::CS] == COMPAT_CODE
    }
}

pub(crate) use imp::*;
