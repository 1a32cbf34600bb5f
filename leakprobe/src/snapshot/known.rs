//! Which registers are known. `/proc` tells the stack pointer and the instruction pointer of a thread that waits, and no
//! others; those come back one by one, as frames are left that had saved them. A frame that can only be left by a register that is
//! not known ends the stack: a guess could lead to a frame that was never called.

use gimli::Register;

use super::arch;

/// The set of registers whose values are the thread's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known(u64);

impl Known {
    /// Every register, as the kernel's programs read them.
    pub(crate) const ALL: Self = Self(u64::MAX);

    /// What `/proc` tells.
    pub(crate) fn from_proc() -> Self {
        let mut known = Self(0);
        known.set(arch::STACK_POINTER, true);
        known.set(arch::RETURN_ADDRESS, true);
        known
    }

    /// Whether the register is known.
    pub(crate) fn has(self, register: Register) -> bool {
        register.0 < 64 && self.0 >> register.0 & 1 == 1
    }

    /// Says whether it is from now on.
    pub(crate) fn set(&mut self, register: Register, known: bool) {
        if register.0 < 64 {
            self.0 = self.0 & !(1 << register.0) | u64::from(known) << register.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_become_known_one_by_one() {
        let mut known = Known::from_proc();
        assert!(known.has(arch::STACK_POINTER) && known.has(arch::RETURN_ADDRESS) && !known.has(arch::FRAME_POINTER));
        known.set(arch::FRAME_POINTER, true);
        assert!(known.has(arch::FRAME_POINTER));
        known.set(arch::FRAME_POINTER, false);
        assert!(!known.has(arch::FRAME_POINTER) && !known.has(Register(64)));
        assert!(arch::CALLEE_SAVED.into_iter().all(|register| Known::ALL.has(register)));
    }
}
