//! Call frame information made to do harm, and threads whose stacks lead in circles. What must not happen is a panic, a
//! stack that is called complete and is not, or a test that does not end.

use std::time::Duration;

use leakprobe::{
    model::{Stack, StackEnd},
    target::{Budget, Modules, Placed, budget::Limits, elf::Elf},
};

use crate::section::{BIAS, CODE, CODE_LEN, Frames, STACK, Thread, process};

/// `DW_OP_skip` to itself.
const FOR_EVER: [u8; 3] = [0x2f, 0xfd, 0xff];
/// `DW_CFA_undefined` of the return address.
const OUTERMOST: [u8; 2] = [0x07, 16];

/// A function that calls another: the caller at 0x2000 is the outermost.
fn called(instructions: &[u8]) -> Frames {
    let mut frames = Frames::default();
    let head = frames.plain_head();
    frames.function(head, CODE, 0x100, instructions);
    frames.function(head, 0x2000, 0x100, &OUTERMOST);
    frames
}

fn inner() -> Thread {
    Thread::at(CODE + 8, &[BIAS + 0x2010, 0, 0, 0])
}

fn is_stuck(stack: &Stack) {
    assert_eq!((stack.addresses.len(), stack.end), (1, StackEnd::NoUnwindInfo), "{stack:x?}");
}

fn with(opcode: &[u8], expression: &[u8]) -> Vec<u8> {
    [opcode, &[expression.len() as u8], expression].concat()
}

#[test]
fn the_harmless_case_works() {
    for indexed in [true, false] {
        let stack = inner().unwind(called(&[]).elf(indexed));
        assert_eq!(stack.addresses, [BIAS + CODE + 8, BIAS + 0x2010]);
        assert_eq!(stack.end, StackEnd::Complete);
    }
}

#[test]
fn endless_expressions_end() {
    for indexed in [true, false] {
        is_stuck(&inner().unwind(called(&with(&[0x0f], &FOR_EVER)).elf(indexed)));
        for opcode in [0x10, 0x16] {
            for register in [6, 7, 16] {
                is_stuck(&inner().unwind(called(&with(&[opcode, register], &FOR_EVER)).elf(indexed)));
            }
            // A register that the next frame does without.
            let stack = inner().unwind(called(&with(&[opcode, 3], &FOR_EVER)).elf(indexed));
            assert_eq!((stack.addresses.len(), stack.end), (2, StackEnd::Complete), "{stack:x?}");
        }
    }
}

#[test]
fn what_descriptions_say_is_worked_out_within_the_budget() {
    for indexed in [true, false] {
        let mut modules = process(called(&[]).elf(indexed), BIAS);
        modules.set_budget(Budget::new(Limits {
            cpu: Duration::ZERO,
            cpu_share: u32::MAX,
            ..Limits::of_memory(1 << 30)
        }));
        is_stuck(&inner().unwind_in(&mut modules));
        assert_eq!(modules.budget().count_left_out(), 1);
    }
}

#[test]
fn a_row_that_reaches_beyond_its_function_is_not_followed() {
    // The last function's only row reaches far behind it: a search by beginning alone finds it for any address there.
    let mut frames = Frames::default();
    let head = frames.plain_head();
    let far = [&with(&[0x0f], &FOR_EVER)[..], &[0x04, 0, 0, 0x0f, 0]].concat();
    frames.function(head, CODE, 0x10, &far);
    for indexed in [true, false] {
        let stack = Thread::at(CODE + 0x800, &[8, 8, 8]).unwind(frames.elf(indexed));
        is_stuck(&stack);
    }
}

#[test]
fn long_programs_are_not_run() {
    let nops = vec![0; 1 << 20];
    is_stuck(&inner().unwind_by_frame_pointer(&called(&nops)));
    let mut frames = Frames::default();
    let head = frames.head(b"zR", &nops);
    frames.function(head, CODE, 0x100, &[]);
    is_stuck(&inner().unwind_by_frame_pointer(&frames));
    // Many rows, of which the last is wanted.
    let rows = vec![0x41; 60 << 10];
    let mut frames = Frames::default();
    let head = frames.plain_head();
    frames.function(head, CODE, rows.len() as u64 + 1, &rows);
    frames.function(head, 0x20_000, 0x100, &OUTERMOST);
    let stack = Thread::at(CODE + rows.len() as u64, &[BIAS + 0x20_010]).unwind(frames.elf(true));
    assert_eq!((stack.addresses.len(), stack.end), (2, StackEnd::Complete));
}

#[test]
fn states_without_end_are_refused() {
    is_stuck(&inner().unwind_by_frame_pointer(&called(&vec![0x0a; 60 << 10])));
    is_stuck(&inner().unwind_by_frame_pointer(&called(&[0x0b])));
}

#[test]
fn many_functions_with_long_heads_are_indexed_in_bounded_time() {
    // Two heads in turns, each with as many letters as an entry may have, so that none is remembered.
    let mut frames = Frames::default();
    let letters = [&b"zR"[..], &vec![b'S'; 60_000]].concat();
    let heads = [frames.head(&letters, &[]), frames.head(&letters, &[])];
    for index in 0..20_000 {
        frames.function(heads[index % 2], CODE + index as u64, 1, &[]);
    }
    let _ = inner().unwind(frames.elf(false));
}

#[test]
fn lengths_beyond_the_section_end_it() {
    for (at, bytes) in [
        (0, &[0xef, 0xff, 0xff, 0xff][..]),
        (0, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (0, &[0xff, 0xff, 0xff, 0xff, 8, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        for entry in 0..2 {
            for indexed in [true, false] {
                let mut frames = called(&[]);
                // The first entry is the head; the second, the function.
                let at = at + entry * (4 + u32::from_le_bytes(*frames.bytes.first_chunk().unwrap()) as usize);
                frames.bytes[at..at + bytes.len()].copy_from_slice(bytes);
                let stack = inner().unwind(frames.elf(indexed));
                assert!(stack.addresses.len() <= 2);
            }
        }
    }
}

#[test]
fn functions_that_overlap_or_wrap_are_no_harm() {
    let ranges = [(CODE, u64::MAX), (CODE, 0), (CODE + 4, 0x100), (CODE - 4, 0x100), (u64::MAX, 2), (0, u64::MAX)];
    for &(first, first_len) in &ranges {
        for &(second, second_len) in &ranges {
            let mut frames = Frames::default();
            let head = frames.plain_head();
            frames.function(head, first, first_len, &with(&[0x0f], &FOR_EVER));
            frames.function(head, second, second_len, &[]);
            for indexed in [true, false] {
                assert!(inner().unwind(frames.elf(indexed)).addresses.len() <= 2);
            }
        }
    }
}

#[test]
fn an_index_that_no_linker_writes_is_not_used() {
    type Damage = fn(&mut Vec<u8>);
    let broken: [Damage; 6] = [
        // More functions than there are; none.
        |index| index[8..12].fill(0xff),
        |index| index[8..12].fill(0),
        // 64-bit pairs; a count of 64 bits.
        |index| index[3] = 0x3c,
        |index| index[2] = 0x04,
        // Another section than the one that was found.
        |index| index[4] ^= 0x10,
        |index| index.truncate(10),
    ];
    for (case, damage) in broken.into_iter().enumerate() {
        let frames = called(&[]);
        let mut elf = frames.elf(true);
        let mut index = frames.index();
        damage(&mut index);
        if let Some(hdr) = &mut elf.eh_frame_hdr {
            hdr.data = index.into();
        }
        let stack = inner().unwind(elf);
        assert_eq!((stack.addresses.len(), stack.end), (2, StackEnd::Complete), "case {case}: one is made");
    }
    // A function that is said to begin before the section.
    let frames = called(&[]);
    let mut elf = frames.elf(true);
    let mut index = frames.index();
    index[16..20].copy_from_slice(&(-0x100_0000i32).to_le_bytes());
    if let Some(hdr) = &mut elf.eh_frame_hdr {
        hdr.data = index.into();
    }
    assert!(inner().unwind(elf).addresses.len() <= 2);
}

#[test]
fn offsets_and_registers_at_the_ends_of_numbers_do_not_overflow() {
    let leb = |mut value: u64| {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let offsets = [0, 1, 8, 16, 1 << 19, 1 << 20, 1 << 31, i64::MAX as u64, 1 << 63, u64::MAX - 7, u64::MAX];
    let places = [0, 1, 7, 8, 15, STACK, u64::MAX, u64::MAX - 7, u64::MAX - 15, i64::MAX as u64, 1 << 63];
    for cfa in offsets {
        for register in [6, 7, 3, 200] {
            for saved in offsets {
                let mut instructions = [&[0x0c, register][..], &leb(cfa), &[0x86], &leb(saved)].concat();
                instructions.extend([&[0x83][..], &leb(saved)].concat());
                let elf = called(&instructions).elf(true);
                let mut modules = process(elf, BIAS);
                for place in places {
                    let thread = Thread { sp: place, fp: place, ..inner() };
                    assert!(thread.unwind_in(&mut modules).addresses.len() <= 2);
                }
            }
        }
    }
}

#[test]
fn stacks_that_lead_in_circles_end() {
    // A function that returns to itself for as long as the stack goes.
    let frames = called(&[]);
    let words = vec![BIAS + CODE + 8; 5000];
    let stack = Thread::at(CODE + 8, &words).unwind(frames.elf(true));
    assert_eq!((stack.addresses.len(), stack.end), (1024, StackEnd::TooDeep));
    // A CFA that is the stack pointer itself, and a return address that is the address itself.
    let in_place = [0x0e, 0, 0x09, 16, 16];
    is_stuck(&inner().unwind(called(&in_place).elf(true)));
    // A frame pointer that points to itself.
    let circle = Thread { fp: STACK + 16, ..Thread::at(0x9000, &[8, 8, STACK + 16, BIAS + 0x9000]) };
    let stack = circle.unwind(frames.elf(true));
    assert_eq!((stack.addresses.len(), stack.end), (2, StackEnd::NoUnwindInfo), "{stack:x?}");
}

#[test]
fn a_signal_frame_that_leads_back_and_forth_ends() {
    // CFA: rsp; the stack pointer stays, and the return address is the word there, then the one behind it.
    let mut frames = Frames::default();
    let head = frames.head(b"zRS", &[]);
    let step = [&[0x0e, 0][..], &with(&[0x10, 16], &[0x77, 0])].concat();
    frames.function(head, CODE, 0x10, &step);
    let other = [&[0x0e, 0][..], &with(&[0x10, 16], &[0x77, 8])].concat();
    frames.function(head, 0x2000, 0x100, &other);
    let thread = Thread::at(CODE + 8, &[BIAS + 0x2010, BIAS + CODE + 8]);
    let stack = thread.unwind(frames.elf(true));
    assert_eq!((stack.addresses.len(), stack.end), (1024, StackEnd::TooDeep));
}

#[test]
fn a_null_frame_pointer_in_uncovered_code_is_no_end() {
    let frames = called(&[]);
    let stack = Thread::at(0x9000, &[8, 8, 8]).unwind(frames.elf(true));
    is_stuck(&stack);
    // Below a covered function, too: the frame pointer may be null for any reason.
    let stack = Thread::at(CODE + 8, &[BIAS + 0x9000, 8]).unwind(frames.elf(true));
    assert_eq!((stack.addresses.len(), stack.end), (2, StackEnd::NoUnwindInfo));
    // In a module without any information the chain is followed; whether it is whole, nothing says.
    let chain = Thread { fp: STACK, ..Thread::at(0x9000, &[STACK + 16, BIAS + 0x9100, 0, BIAS + 0x9200]) };
    let stack = chain.unwind(Elf::default());
    assert_eq!((stack.addresses.len(), stack.end), (3, StackEnd::NoUnwindInfo), "{stack:x?}");
}

#[test]
fn no_return_address_is_not_the_end() {
    // DW_CFA_same_value for it: a caller is there, but not where.
    let mut frames = called(&[]);
    frames.function(0, 0x3000, 0x100, &[0x08, 16]);
    let stack = Thread::at(CODE + 8, &[BIAS + 0x3010, BIAS + 0x2010]).unwind(frames.elf(true));
    assert_eq!((stack.addresses.len(), stack.end), (2, StackEnd::NoUnwindInfo));
}

#[test]
fn registers_that_framehop_leaves_out_are_followed() {
    // The inner function keeps rbx on the stack; its caller's CFA is found from rbx.
    let mut frames = Frames::default();
    let head = frames.plain_head();
    frames.function(head, CODE, 0x100, &[0x0e, 16, 0x83, 2]);
    frames.function(head, 0x2000, 0x100, &[0x0c, 3, 16]);
    frames.function(head, 0x3000, 0x100, &OUTERMOST);
    let words = [STACK + 24, BIAS + 0x2010, 0, 0, BIAS + 0x3010];
    let stack = Thread::at(CODE + 8, &words).unwind(frames.elf(true));
    assert_eq!(stack.addresses, [BIAS + CODE + 8, BIAS + 0x2010, BIAS + 0x3010]);
    assert_eq!(stack.end, StackEnd::Complete);
}

#[test]
fn modules_that_framehop_cannot_address_are_unwound() {
    // Linked to lie above where it lies: what is added to its addresses is negative.
    let bias = 0x800u64.wrapping_neg();
    let thread = Thread { ip: CODE + 8 - 0x800, words: vec![0x2010 - 0x800], ..inner() };
    let stack = thread.unwind_in(&mut process(called(&[]).elf(true), bias));
    assert_eq!((stack.addresses.len(), stack.end), (2, StackEnd::Complete));
}

#[test]
fn modules_between_the_mappings_of_another_are_told_apart() {
    // The other module says that its function at the same place keeps 8 bytes more.
    let mut other = Frames::default();
    let head = other.plain_head();
    other.function(head, CODE, 0x1000, &[0x0e, 16]);
    let placed = |name: &str, frames: &Frames, bias: u64, starts: &[u64]| Placed {
        path: name.to_owned(),
        elf: frames.elf(true),
        bias,
        mappings: starts.iter().map(|&start| start..start + 0x1000).collect(),
    };
    let outer = called(&[]);
    let between = BIAS + 0x800;
    let modules = vec![
        placed("outer", &outer, BIAS, &[BIAS + CODE - 0x1000, BIAS + 0x2000]),
        placed("between", &other, between, &[between + CODE]),
    ];
    let mut modules = Modules::from_parts(modules, &[]);
    let thread = Thread { ip: between + CODE + 8, words: vec![8, BIAS + 0x2010], ..inner() };
    // The mapping of the one begins in the other's: it is left out, and the address with it.
    let _ = thread.unwind_in(&mut modules);
    let modules = vec![
        placed("outer", &outer, BIAS, &[BIAS + CODE, BIAS + 0x2000, BIAS + 0x4000]),
        placed("between", &other, BIAS + 0x2000, &[BIAS + 0x3000]),
    ];
    let mut modules = Modules::from_parts(modules, &[]);
    let words = vec![8, BIAS + CODE + 0x10, BIAS + 0x2010];
    let thread = Thread { ip: BIAS + 0x3008, words, ..inner() };
    let stack = thread.unwind_in(&mut modules);
    assert_eq!(stack.addresses, [BIAS + 0x3008, BIAS + CODE + 0x10, BIAS + 0x2010], "{stack:x?}");
    assert_eq!(stack.end, StackEnd::Complete);
}

impl Thread {
    /// Where nothing can be said about the code; the word at the stack pointer is no return address either.
    fn unwind_by_frame_pointer(&self, frames: &Frames) -> Stack {
        let thread = Self { words: vec![8; 4], ..self.clone() };
        assert!(thread.ip < BIAS + CODE + CODE_LEN);
        thread.unwind(frames.elf(true))
    }
}
