//! Stepping out of code that nothing is said about and whose end follows the call: trampolines, as CPython makes one for each Python
//! function with `-X perf` and other runtimes for callbacks, keep no frame pointer, but do nothing after their call than to give back
//! what they have taken and to return. What that code will do is what it says, so it is no guess.
//!
//! <https://github.com/python/cpython/blob/v3.12.0/Python/asm_trampoline.S>

use super::{
    arch::{self, UnwindRegs},
    known::Known,
};

/// Bytes of code that are looked at behind a call.
pub(super) const CODE: usize = 32;
/// Bytes of code before a return address that hold the call.
pub(super) const CALL: usize = 7;
/// Most instructions.
const MAX_INSTRUCTIONS: usize = 10;
/// The largest frame that is left so, bytes: those of trampolines are small.
const MAX_FRAME: u64 = 4096;

/// Leaves the frame as `code`, which begins at its return address, does; `None` if that code does anything else than to return, and then
/// the registers are as they were.
pub(super) fn leave(
    code: &[u8],
    regs: &mut UnwindRegs,
    known: &mut Known,
    mut read: impl FnMut(u64) -> Option<u64>,
) -> Option<u64> {
    if !cfg!(target_arch = "x86_64") {
        return None;
    }
    let (mut after, mut then_known) = (*regs, *known);
    let (begin, mut place) = (regs.sp(), regs.sp());
    let mut rest = code;
    for _ in 0..MAX_INSTRUCTIONS {
        let popped = match *rest {
            // add $n, %rsp
            [0x48, 0x83, 0xc4, n, ..] if n < 0x80 => {
                place = place.checked_add(n.into())?;
                rest = rest.get(4..)?;
                continue;
            }
            [0x48, 0x81, 0xc4, a, b, 0, 0, ..] => {
                place = place.checked_add(u16::from_le_bytes([a, b]).into())?;
                rest = rest.get(7..)?;
                continue;
            }
            // leave
            [0xc9, ..] if known.has(arch::FRAME_POINTER) => {
                place = after.bp();
                rest = rest.get(1..)?;
                5
            }
            // pop
            [code @ 0x58..=0x5f, ..] if code != 0x5c => {
                rest = rest.get(1..)?;
                code - 0x58
            }
            [0x41, code @ 0x58..=0x5f, ..] => {
                rest = rest.get(2..)?;
                code - 0x58 + 8
            }
            // ret
            [0xc3, ..] | [0xf3, 0xc3, ..] => {
                if place < begin || place - begin > MAX_FRAME {
                    return None;
                }
                let address = read(place)?;
                after.set_sp(place.checked_add(8)?);
                after.set_ip(address);
                (*regs, *known) = (after, then_known);
                return Some(address);
            }
            _ => return None,
        };
        if place < begin || place - begin > MAX_FRAME {
            return None;
        }
        let register = arch::by_encoding(popped)?;
        arch::set(&mut after, register, read(place)?);
        then_known.set(register, true);
        place = place.checked_add(8)?;
    }
    None
}

/// Whether `code`, which ends at a return address, ends in a call.
pub(super) fn is_call(code: &[u8]) -> bool {
    let ends_in = |length: usize| code.len().checked_sub(length).and_then(|at| code.get(at..));
    // call there
    if ends_in(5).is_some_and(|call| call.starts_with(&[0xe8])) {
        return true;
    }
    // call *…: how long that is, is told by the two bytes that follow.
    (2..=CALL).filter_map(|length| Some((length, ends_in(length)?))).any(|(length, call)| match *call {
        [0xff, mode, ref rest @ ..] if mode >> 3 & 7 == 2 => {
            let has_base = mode & 7 == 4 && mode >> 6 != 3;
            let is_far = mode & 0xc7 == 5 || mode & 0xc7 == 4 && rest.first().is_some_and(|base| base & 7 == 5);
            let distance = match mode >> 6 {
                0 if is_far => 4,
                1 => 1,
                2 => 4,
                _ => 0,
            };
            length == 2 + usize::from(has_base) + distance
        }
        _ => false,
    })
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STACK: u64 = 0x7000;

    /// The registers after the code, if it is such code; each word of the stack holds its own address plus one.
    fn left(code: &[u8]) -> Option<UnwindRegs> {
        let mut regs = UnwindRegs::new(0x1000, STACK, STACK + 0x20);
        let mut known = Known::ALL;
        let before = regs;
        let address = leave(code, &mut regs, &mut known, |address| Some(address + 1));
        match address {
            Some(address) => assert_eq!(address, regs.ip()),
            None => assert_eq!((regs.ip(), regs.sp(), regs.bp()), (before.ip(), before.sp(), before.bp())),
        }
        address.map(|_| regs)
    }

    #[test]
    fn trampolines_of_python() {
        // 3.12: add $8, %rsp; ret.
        let regs = left(&[0x48, 0x83, 0xc4, 8, 0xc3, 0]).unwrap();
        assert_eq!((regs.ip(), regs.sp(), regs.bp()), (STACK + 9, STACK + 16, STACK + 0x20));
        // 3.14: pop %rbp; ret.
        let regs = left(&[0x5d, 0xc3]).unwrap();
        assert_eq!((regs.ip(), regs.sp(), regs.bp()), (STACK + 9, STACK + 16, STACK + 1));
    }

    #[test]
    fn other_ways_to_return() {
        // add $0x100, %rsp; pop %rbx; pop %r12; ret.
        let regs = left(&[0x48, 0x81, 0xc4, 0, 1, 0, 0, 0x5b, 0x41, 0x5c, 0xf3, 0xc3]).unwrap();
        assert_eq!((regs.ip(), regs.sp()), (STACK + 0x111, STACK + 0x118));
        assert_eq!(arch::get(&regs, gimli::X86_64::RBX), Some(STACK + 0x101));
        assert_eq!(arch::get(&regs, gimli::X86_64::R12), Some(STACK + 0x109));
        // leave; ret.
        let regs = left(&[0xc9, 0xc3]).unwrap();
        assert_eq!((regs.ip(), regs.sp(), regs.bp()), (STACK + 0x29, STACK + 0x30, STACK + 0x21));
        assert_eq!(left(&[0xc3]).unwrap().ip(), STACK + 1);
    }

    #[test]
    fn code_that_does_anything_else_is_left_alone() {
        for code in [
            &[][..],
            &[0x48, 0x83, 0xc4, 8],
            &[0x48, 0x83, 0xc4, 0xf8, 0xc3], // a smaller stack
            &[0x5c, 0xc3],                   // pop %rsp
            &[0x48, 0x89, 0xc3, 0xc3],
            &[0x48, 0x81, 0xc4, 0, 0xff, 0, 0, 0xc3], // a large frame
            &[0x58; 32],
            &[0xe9, 0, 0, 0, 0],
        ] {
            assert!(left(code).is_none(), "{code:x?}");
        }
    }

    #[test]
    fn a_call_is_known_by_its_end() {
        for call in [
            &[0xe8, 1, 2, 3, 4][..],
            &[0xff, 0xd1],
            &[0x41, 0xff, 0xd4],
            &[0xff, 0x10],
            &[0xff, 0x50, 8],
            &[0xff, 0x90, 1, 2, 3, 4],
            &[0xff, 0x15, 1, 2, 3, 4],
            &[0xff, 0x14, 0xc0],
            &[0xff, 0x54, 0x24, 8],
            &[0xff, 0x94, 0x24, 1, 2, 3, 4],
            &[0xff, 0x14, 0x25, 1, 2, 3, 4],
        ] {
            assert!(is_call(&[&[0x90; 7][..], call].concat()), "{call:x?}");
        }
        for other in [&[][..], &[0xff], &[0x90; 7], &[0xff, 0xe1], &[0xff, 0x50, 8, 9], &[0xe8, 1, 2, 3]] {
            assert!(!is_call(other), "{other:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_code_and_any_stack(code in prop::collection::vec(any::<u8>(), 0..40), at in any::<u64>(), value in any::<Option<u64>>()) {
            let mut regs = UnwindRegs::new(at, at, value.unwrap_or(7));
            let before = regs.sp();
            if leave(&code, &mut regs, &mut Known::ALL.clone(), |_| value).is_some() {
                prop_assert!(regs.sp() > before && regs.sp() - before <= MAX_FRAME + 8);
            }
            is_call(&code);
        }
    }
}
