//! Which function a call goes to: told by the instruction before the address that the call returns to.
//!
//! An exported function may go on in one that no symbol table names, by a jump that leaves no frame: glibc's `sem_wait` in
//! `__new_sem_wait_slow64`, `pthread_once` in `__pthread_once_slow`. Then the caller still holds the call, and the slot that the
//! dynamic linker has filled in still holds where it went.

/// The address of the function that was called by the instruction before `return_address`; `None` if that does not tell, e.g. since
/// it calls through a register. `read` fills the buffer from an address in the target, or returns false.
pub(super) fn callee(return_address: u64, read: impl Fn(u64, &mut [u8]) -> bool) -> Option<u64> {
    if !cfg!(target_arch = "x86_64") {
        return None;
    }
    let slot = |address: u64| {
        let mut word = [0; 8];
        read(address, &mut word).then(|| u64::from_le_bytes(word))
    };
    let mut call = [0; 6];
    if !read(return_address.checked_sub(6)?, &mut call) {
        return None;
    }
    match call {
        // call [rip + there]
        [0xff, 0x15, there @ ..] => slot(beside(return_address, there)),
        // call there
        [_, 0xe8, there @ ..] => {
            let function = beside(return_address, there);
            Some(stub(function, &read).and_then(slot).unwrap_or(function))
        }
        _ => None,
    }
}

/// Where a stub of the procedure linkage table has its address from: `endbr64`, `bnd`, `jmp [rip + there]`, of which the first two
/// may be missing. Source: <https://gitlab.com/x86-psABIs/x86-64-ABI> (chapter 13).
fn stub(address: u64, read: impl Fn(u64, &mut [u8]) -> bool) -> Option<u64> {
    let mut code = [0; 11];
    if !read(address, &mut code) {
        return None;
    }
    let begin = code.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(&code);
    let begin = begin.strip_prefix(&[0xf2]).unwrap_or(begin);
    let there = *begin.strip_prefix(&[0xff, 0x25])?.first_chunk::<4>()?;
    let length = (code.len() - begin.len() + 6) as u64;
    Some(beside(address.wrapping_add(length), there))
}

fn beside(address: u64, distance: [u8; 4]) -> u64 {
    address.wrapping_add_signed(i32::from_le_bytes(distance).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads from pieces of memory.
    fn memory<'a>(pieces: &'a [(u64, &'a [u8])]) -> impl Fn(u64, &mut [u8]) -> bool + 'a {
        |address, buffer| {
            let piece = pieces.iter().find_map(|(base, bytes)| {
                let from = usize::try_from(address.checked_sub(*base)?).ok()?;
                bytes.get(from..from.checked_add(buffer.len())?)
            });
            piece.is_some_and(|piece| {
                buffer.copy_from_slice(piece);
                true
            })
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn calls_are_followed_to_the_function() {
        let slot = 0x7000_1234_u64.to_le_bytes();
        let padded = |code: &[u8]| [code, &[0x90; 11]].concat();
        // From 0x1000 + 6 on to 0x2000, and from there to the slot at 0x3000.
        let direct = [0x90, 0xe8, 0xfa, 0x0f, 0, 0];
        let plain = padded(&[0xff, 0x25, 0xfa, 0x0f, 0, 0]);
        let guarded = padded(&[0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, 0xf5, 0x0f, 0, 0]);
        let function = padded(&[0x55, 0x48, 0x89, 0xe5]);
        for (stub, expected) in [(&plain, 0x7000_1234), (&guarded, 0x7000_1234), (&function, 0x2000)] {
            let pieces = [(0x1000, &direct[..]), (0x2000, &stub[..]), (0x3000, &slot[..])];
            assert_eq!(callee(0x1006, memory(&pieces)), Some(expected));
        }
        let through_slot = [0xff, 0x15, 0xfa, 0x1f, 0, 0];
        assert_eq!(callee(0x1006, memory(&[(0x1000, &through_slot), (0x3000, &slot)])), Some(0x7000_1234));
        // call rax; nothing there; the slot cannot be read.
        assert_eq!(callee(0x1006, memory(&[(0x1000, &[0x90, 0x90, 0x90, 0x90, 0xff, 0xd0])])), None);
        assert_eq!(callee(0x1006, memory(&[])), None);
        assert_eq!(callee(3, memory(&[])), None);
        assert_eq!(callee(0x1006, memory(&[(0x1000, &through_slot)])), None);
    }

    proptest! {
        #[test]
        fn whatever_is_there_does_no_harm(code in any::<[u8; 64]>(), at: u64, return_address: u64) {
            callee(return_address, memory(&[(at, &code)]));
            callee(at.wrapping_add(6), memory(&[(at, &code)]));
        }
    }
}
