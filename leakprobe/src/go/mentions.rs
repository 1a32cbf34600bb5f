//! Which variables a function works on, by its code: this tells a variable from others that hold the same for a while.

use std::{collections::HashSet, ops::Range};

use super::{code::Code, memory::Words, pclntab::Function};

/// Most code of a function that is looked at, bytes: those of interest have less than one thousand.
const MAX_CODE: u64 = 64 << 10;

/// Addresses that a function's code mentions.
#[derive(Debug, Default)]
pub(super) struct Mentions(HashSet<u64>);

impl Mentions {
    /// The addresses within `data` that the function `name` mentions; none if there is no such function, as in programs whose
    /// names were made unreadable. Looks through all names: some ms.
    pub(super) fn of(memory: &(impl Words + ?Sized), code: &Code, name: &str, data: &Range<u64>) -> Self {
        let function = code.modules().iter().find_map(|module| module.table.function_named(name));
        function
            .map_or_else(Self::default, |function| Self::in_code(&code_of(memory, &function), function.entry(), data))
    }

    /// The addresses within `data` that code mentions which begins at `start`.
    pub(super) fn in_code(code: &[u8], start: u64, data: &Range<u64>) -> Self {
        Self(targets(code, start).filter(|target| data.contains(target)).collect())
    }

    /// Whether the variable at `address` is one of them.
    pub(super) fn has(&self, address: u64) -> bool {
        self.0.contains(&address)
    }
}

/// A function's code, or the beginning of it.
pub(super) fn code_of(memory: &(impl Words + ?Sized), function: &Function<'_>) -> Vec<u8> {
    let len = function.end().saturating_sub(function.entry()).min(MAX_CODE);
    memory.bytes(function.entry(), len as usize)
}

/// What code that begins at `start` may address. On amd64 variables are addressed by their distance from the next instruction, in
/// 32 bits. Instructions are not told apart: every four bytes are taken for a distance that ends an instruction.
pub(super) fn targets(code: &[u8], start: u64) -> impl Iterator<Item = u64> {
    let ends = (4..).map(move |len| start.wrapping_add(len));
    let distances = code.array_windows().map(|bytes| i32::from_le_bytes(*bytes));
    ends.zip(distances).map(|(end, distance)| end.wrapping_add_signed(distance.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_told_by_their_distance() {
        // movq 0x2f51ad(%rip), %rax; movq %rbx, -0x100(%rip); ret
        let code = [0x48, 0x8b, 0x05, 0xad, 0x51, 0x2f, 0, 0x48, 0x89, 0x1d, 0, 0xff, 0xff, 0xff, 0xc3];
        let mentions = Mentions::in_code(&code, 0x45_07cc, &(0x45_0000..0x80_0000));
        let (read, written) = (0x45_07cc + 7 + 0x2f_51ad, 0x45_07cc + 14 - 0x100);
        assert!(mentions.has(read) && mentions.has(written) && !mentions.has(read + 8));
        assert!(!Mentions::in_code(&code, 0x45_07cc, &(0..written)).has(written), "not of this data");
    }

    #[test]
    fn any_bytes_are_code() {
        for len in 0..64 {
            for byte in [0, 0x7f, 0x80, 0xff] {
                Mentions::in_code(&vec![byte; len], u64::MAX - 8, &(0..u64::MAX));
            }
        }
    }
}
