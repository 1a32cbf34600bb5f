//! The saved user registers of a thread, as the kernel lays them out.
//!
//! Another architecture is another module here, with the same constants.

/// x86-64: `struct pt_regs`.
///
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/arch/x86/include/asm/ptrace.h#L103>
#[cfg(any(target_arch = "x86_64", bpf_target_arch = "x86_64"))]
mod imp {
    /// Words in `struct pt_regs`.
    pub const REG_WORDS: usize = 21;
    /// Index of r15.
    pub const R15: usize = 0;
    /// Index of r14.
    pub const R14: usize = 1;
    /// Index of r13.
    pub const R13: usize = 2;
    /// Index of r12.
    pub const R12: usize = 3;
    /// Index of rbp.
    pub const FP: usize = 4;
    /// Index of rbx.
    pub const RBX: usize = 5;
    /// Index of the instruction pointer.
    pub const IP: usize = 16;
    /// Index of the code segment, which tells 64-bit from 32-bit code.
    pub const CS: usize = 17;
    /// Index of the stack pointer.
    pub const SP: usize = 19;
    /// Index of the system call's number (`orig_ax`; -1 when the thread is not in a system call).
    pub const SYSCALL: usize = 15;
    /// Indices of the six system call arguments: rdi, rsi, rdx, r10, r8, r9.
    pub const ARGS: [usize; 6] = [14, 13, 12, 7, 9, 8];
    /// Number of the system call `futex`.
    pub const SYS_FUTEX: u64 = 202;
}

pub use imp::*;

/// The saved user registers, indexed by the constants of this module.
pub type Regs = [u64; REG_WORDS];
