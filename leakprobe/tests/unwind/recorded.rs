//! Recorded threads give the frames that they had, and of a stack that is cut, the inner ones.

use leakprobe::{model::StackEnd, snapshot::Unwinder};

use crate::{fixture::named, fixtures};

#[test]
fn every_thread_gives_its_frames() {
    for (name, fixture) in fixtures() {
        let mut modules = fixture.modules();
        let mut unwinder = Unwinder::default();
        // Twice: the second time from what was remembered.
        for _ in 0..2 {
            let stack = fixture.unwind(&mut unwinder, &mut modules, fixture.stack.0.len());
            assert_eq!(named(&stack, &mut modules), fixture.frames, "{name}");
            assert_eq!(stack.end, fixture.end, "{name}");
        }
    }
}

#[test]
fn a_stack_cut_anywhere_gives_inner_frames_and_says_so() {
    for (name, fixture) in fixtures() {
        let mut modules = fixture.modules();
        let mut unwinder = Unwinder::default();
        for len in (0..fixture.stack.0.len()).rev() {
            let stack = fixture.unwind(&mut unwinder, &mut modules, len);
            let frames = named(&stack, &mut modules);
            assert!(fixture.frames.starts_with(&frames), "{name}, {len} bytes: {frames:#?}");
            assert_eq!(stack.end, StackEnd::TooDeep, "{name}, {len} bytes");
        }
    }
}

#[test]
fn without_an_index_the_frames_are_the_same() {
    for (name, mut fixture) in fixtures() {
        // Of large modules only some descriptions were recorded, among zeros, which end a section that is read in order.
        let whole =
            |extract: &crate::fixture::Extract| extract.eh_frame.as_ref().is_none_or(|frames| frames.pieces.len() == 1);
        for extract in fixture.modules.iter_mut().filter(|extract| whole(extract)) {
            extract.eh_frame_hdr = None;
        }
        let mut modules = fixture.modules();
        let stack = fixture.unwind(&mut Unwinder::default(), &mut modules, fixture.stack.0.len());
        assert_eq!(named(&stack, &mut modules), fixture.frames, "{name}");
    }
}

#[test]
fn a_module_without_information_ends_the_stack_and_not_in_complete() {
    for (name, mut fixture) in fixtures() {
        for extract in &mut fixture.modules {
            (extract.eh_frame, extract.eh_frame_hdr, extract.debug_frame) = (None, None, None);
        }
        let mut modules = fixture.modules();
        let stack = fixture.unwind(&mut Unwinder::default(), &mut modules, fixture.stack.0.len());
        assert_ne!(stack.end, StackEnd::Complete, "{name}: {:#?}", named(&stack, &mut modules));
    }
}
