//! Damage, the same in each run: whatever is broken, an unwind ends, and in a stack.

use leakprobe::{model::Stack, snapshot::Unwinder};

use crate::{
    fixture::{Fixture, Sparse},
    fixtures,
};

/// The sections of larger modules would take the time of many cases.
const LARGEST: usize = 200 << 10;
/// The unwinder's own limit.
const MAX_FRAMES: usize = 1024;

/// Numbers without order (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

fn small() -> Vec<(String, Fixture)> {
    let size = |fixture: &Fixture| {
        fixture.modules.iter().filter_map(|module| Some(module.eh_frame.as_ref()?.size)).sum::<usize>()
    };
    fixtures().into_iter().filter(|(_, fixture)| size(fixture) <= LARGEST).collect()
}

fn sections(fixture: &mut Fixture) -> Vec<&mut Sparse> {
    let mut sections = Vec::new();
    for module in &mut fixture.modules {
        sections.extend([&mut module.eh_frame, &mut module.eh_frame_hdr, &mut module.debug_frame]);
    }
    sections.into_iter().flatten().collect()
}

fn flip(numbers: &mut Numbers, bytes: &mut [u8]) {
    if !bytes.is_empty() {
        let at = numbers.below(bytes.len());
        bytes[at] ^= numbers.below(255) as u8 + 1;
    }
}

fn unwind(fixture: &Fixture) -> Stack {
    let stack = fixture.unwind(&mut Unwinder::default(), &mut fixture.modules(), fixture.stack.0.len());
    assert!(stack.addresses.len() <= MAX_FRAMES);
    stack
}

#[test]
fn flipped_bytes_of_frame_sections_do_no_harm() {
    let mut numbers = Numbers(0x1eaf);
    for (_, fixture) in small() {
        for _ in 0..400 {
            let mut broken = fixture.clone();
            for _ in 0..=numbers.below(6) {
                let mut sections = sections(&mut broken);
                let which = numbers.below(sections.len());
                let pieces = &mut sections[which].pieces;
                let piece = numbers.below(pieces.len());
                if let Some((_, bytes)) = pieces.get_mut(piece) {
                    flip(&mut numbers, &mut bytes.0);
                }
            }
            unwind(&broken);
        }
    }
}

#[test]
fn flipped_bytes_of_stacks_and_registers_do_no_harm() {
    let mut numbers = Numbers(0x57ac);
    for (_, fixture) in fixtures() {
        let mut modules = fixture.modules();
        let mut unwinder = Unwinder::default();
        for _ in 0..400 {
            let mut broken = fixture.clone();
            for _ in 0..=numbers.below(6) {
                flip(&mut numbers, &mut broken.stack.0);
            }
            if numbers.below(2) == 0 {
                let register = numbers.below(17);
                let value = [0, 1, 7, 8, u64::MAX, u64::MAX - 7, i64::MAX as u64, 1 << 63];
                broken.regs[register].0 = value[numbers.below(value.len())];
            }
            let stack = broken.unwind(&mut unwinder, &mut modules, broken.stack.0.len());
            assert!(stack.addresses.len() <= MAX_FRAMES);
        }
    }
}

#[test]
fn sections_cut_anywhere_do_no_harm() {
    for (_, fixture) in small() {
        let count = sections(&mut fixture.clone()).len();
        for which in 0..count {
            let mut whole = fixture.clone();
            let section = sections(&mut whole).swap_remove(which).clone();
            let inside = section.pieces.iter().flat_map(|(at, bytes)| (*at..at + bytes.0.len()).step_by(3));
            for len in inside {
                let mut broken = fixture.clone();
                let cut = &mut *sections(&mut broken).swap_remove(which);
                cut.size = len;
                cut.pieces.retain_mut(|(at, bytes)| {
                    bytes.0.truncate(len.saturating_sub(*at));
                    !bytes.0.is_empty()
                });
                unwind(&broken);
            }
        }
    }
}
