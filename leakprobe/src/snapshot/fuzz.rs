//! Unwinding, texts of /proc, answers of sock_diag.

use leakprobe_common::{
    arch::{REG_WORDS, Regs},
    event::STACK_MAX,
};

use super::{StackMemory, Unwinder, cfi::Cfi, descriptors, file_locks::Lock, sockets, unwind::stack_pointer};
use crate::target::{Budget, Modules, Placed, elf::Elf};

/// Unwinds by an ELF file: in front of it are eight words for registers, the length of the stack, and the stack.
pub(crate) fn unwind(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<66>() else { return };
    let [words @ .., low, high] = head;
    let length = usize::from(u16::from_le_bytes([*low, *high])) % STACK_MAX;
    let Some((stack, image)) = rest.split_at_checked(length.min(rest.len())) else { return };
    let Ok(elf) = Elf::read_image(image) else { return };
    let words: Vec<u64> = words.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    if let Some(cfi) = Cfi::of(&elf, "/x", &Budget::default()) {
        let near = elf.segments.iter().take(4).flat_map(|segment| (0..40).map(|n| segment.svma.wrapping_add(n * 61)));
        for address in near.chain(words.iter().copied()) {
            let _ = (cfi.plan(address, 0), cfi.plan(address, u64::MAX - 5));
        }
    }
    const BIAS: u64 = 0x5000_0000;
    for segment in elf.segments.iter().filter(|segment| segment.executable).take(2) {
        let start = BIAS.wrapping_add(segment.svma);
        let end = start.saturating_add(segment.file_size.max(4096));
        for place in 0..=REG_WORDS {
            let mut regs: Regs = [0; REG_WORDS];
            regs.iter_mut().zip(words.iter().cycle()).for_each(|(register, word)| *register = *word);
            // An address of code where the instruction pointer may be.
            if let Some(register) = regs.get_mut(place) {
                *register = start.wrapping_add(words.first().copied().unwrap_or_default() % 4096);
            }
            let placed = Placed {
                path: "/x".into(),
                elf: elf.clone(),
                bias: BIAS,
                mappings: std::iter::once(start..end).collect(),
            };
            let mut modules = Modules::from_parts(vec![placed], &[]);
            let mut memory = StackMemory::captured(stack_pointer(&regs), stack);
            let _ = Unwinder::default().unwind(&mut modules, &regs, &mut memory);
        }
    }
}

/// Reads what /proc says of descriptors, locks and sockets.
pub(crate) fn proc_texts(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    descriptors::fuzz(&text);
    for line in text.lines() {
        let _ = Lock::parse(line);
        sockets::fuzz_line(line);
    }
}

/// Takes in an answer of sock_diag.
pub(crate) fn sock_diag(data: &[u8]) {
    sockets::fuzz_answer(data);
}
