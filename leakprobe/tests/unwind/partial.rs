//! Threads of which only the stack pointer and the instruction pointer are known: fewer frames, never wrong ones.

use leakprobe::{
    model::StackEnd,
    snapshot::{StackMemory, Unwinder},
};
use leakprobe_common::arch::{CS, IP, SP};

use crate::{
    fixture::{Hex, named},
    fixtures,
    section::{BIAS, CODE, Frames, STACK, Thread, process},
};

/// `DW_CFA_undefined` of the return address.
const OUTERMOST: [u8; 2] = [0x07, 16];
/// The CFA is rbp + 16, the frame pointer 16 below it: a function with a frame pointer.
const BY_FRAME_POINTER: [u8; 5] = [0x0c, 6, 16, 0x86, 2];
/// The CFA is rsp + 16, the frame pointer 16 below it: a function that has pushed the frame pointer.
const PUSHED: [u8; 5] = [0x0c, 7, 16, 0x86, 2];

#[test]
fn recorded_threads_give_inner_frames_and_no_others() {
    let mut shorter = 0;
    for (name, mut fixture) in fixtures() {
        let real = fixture.regs.iter().enumerate().map(|(index, word)| (index, word.0)).collect::<Vec<_>>();
        for poison in [0, 0xdead_beef_dead_beef, fixture.base.0, fixture.base.0 + 64] {
            let kept = |&(index, word): &(usize, u64)| Hex(if [IP, SP, CS].contains(&index) { word } else { poison });
            fixture.regs = real.iter().map(kept).collect();
            let mut modules = fixture.modules();
            let stack = fixture.unwind(&mut Unwinder::from_proc(), &mut modules, fixture.stack.0.len());
            let frames = named(&stack, &mut modules);
            assert!(!frames.is_empty() && fixture.frames.starts_with(&frames), "{name}: {frames:#?}");
            if frames.len() < fixture.frames.len() {
                shorter += 1;
                assert!(
                    matches!(stack.end, StackEnd::RegisterUnknown | StackEnd::NoUnwindInfo),
                    "{name}: {:?}",
                    stack.end
                );
            }
        }
    }
    assert!(shorter > 0, "no recorded thread needs a register, so that this shows nothing");
}

fn unwind(frames: &Frames, thread: &Thread) -> leakprobe::model::Stack {
    let bytes: Vec<u8> = thread.words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut memory = StackMemory::captured(STACK, &bytes);
    Unwinder::from_proc().unwind(&mut process(frames.elf(true), BIAS), &thread.regs(), &mut memory).0
}

#[test]
fn a_frame_that_is_left_by_the_frame_pointer_needs_one_that_is_known() {
    let mut frames = Frames::default();
    let head = frames.plain_head();
    frames.function(head, CODE, 0x100, &BY_FRAME_POINTER);
    frames.function(head, 0x2000, 0x100, &OUTERMOST);
    // A frame pointer that would lead to the caller, if only it were known.
    let thread = Thread { fp: STACK, ..Thread::at(CODE + 8, &[0, BIAS + 0x2010]) };
    assert_eq!(thread.unwind(frames.elf(true)).addresses.len(), 2);
    let stack = unwind(&frames, &thread);
    assert_eq!((stack.addresses.len(), stack.end), (1, StackEnd::RegisterUnknown));
}

#[test]
fn a_frame_pointer_that_was_saved_further_in_is_known() {
    let mut frames = Frames::default();
    let head = frames.plain_head();
    frames.function(head, CODE, 0x100, &PUSHED);
    frames.function(head, 0x2000, 0x100, &BY_FRAME_POINTER);
    frames.function(head, 0x3000, 0x100, &OUTERMOST);
    let words = [STACK + 24, BIAS + 0x2010, 0, 0, BIAS + 0x3010];
    let stack = unwind(&frames, &Thread::at(CODE + 8, &words));
    assert_eq!((stack.addresses.len(), stack.end), (3, StackEnd::Complete), "{stack:x?}");
}

#[test]
fn an_expression_needs_registers_that_are_known() {
    // DW_CFA_def_cfa_expression: DW_OP_breg3 (rbx) 16.
    let by_rbx = [0x0f, 2, 0x73, 16];
    let mut frames = Frames::default();
    let head = frames.plain_head();
    frames.function(head, CODE, 0x100, &by_rbx);
    frames.function(head, 0x2000, 0x100, &OUTERMOST);
    let stack = unwind(&frames, &Thread::at(CODE + 8, &[0, BIAS + 0x2010]));
    assert_eq!((stack.addresses.len(), stack.end), (1, StackEnd::RegisterUnknown), "{stack:x?}");
}

#[test]
fn code_without_information_is_not_guessed_through() {
    let mut frames = Frames::default();
    let head = frames.plain_head();
    frames.function(head, 0x2000, 0x100, &OUTERMOST);
    let thread = Thread::at(CODE + 8, &[BIAS + 0x2010, 0]);
    assert_eq!(thread.unwind(frames.elf(true)).addresses.len(), 2);
    let stack = unwind(&frames, &thread);
    assert_eq!((stack.addresses.len(), stack.end), (1, StackEnd::RegisterUnknown));
}
