//! From a goroutine's stack memory to return addresses, as the runtime itself does it: by the frame sizes of pclntab.
//!
//! Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/traceback.go> (`unwinder`). On amd64 alone: there the
//! return address lies on top of each frame.

use std::sync::Arc;

use super::costs::Costs;
use crate::{
    go::{Code, memory::word_at},
    model::StackEnd,
};

/// Most frames that are followed: Go's own dumps show the outermost ones of a stack however deep it is.
const MAX_FRAMES: usize = 1 << 14;
/// Most bytes of one stack that are read: so many frames of 256 bytes, which few functions have.
const MAX_STACK: usize = 4 << 20;
/// Most frames that are followed once a snapshot has followed all of [`Costs::deep_frames`], as in threads' stacks.
const FEWER_FRAMES: usize = 1024;
/// Most frames that are followed once it has followed all of [`Costs::frames`].
const FEWEST_FRAMES: usize = 64;
/// Code addresses whose frame sizes are kept. A power of two.
const PLACES: usize = 1 << 12;

/// What is known of a code address.
#[derive(Clone, Copy, Debug)]
struct Place {
    pc: u64,
    /// Bytes from the stack pointer to the return address.
    size: u32,
    step: Step,
}

/// How to get on from a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// To what the return address says.
    Return,
    /// The outermost frame.
    Top,
    /// The function changes the stack pointer to what no table tells, except if it has called the kernel and says where.
    StackSwitch,
    /// Nothing is known.
    Unknown,
    /// Not the address of Go code.
    NoCode,
}

/// How far an unwind came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// To its end.
    End(StackEnd),
    /// It needs more bytes than it was given: at least so many.
    More(usize),
}

/// A goroutine's stack from its stack pointer on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory<'a> {
    /// Program counter.
    pub(super) pc: u64,
    /// Stack pointer.
    pub(super) sp: u64,
    /// Whether both are those at which it entered a system call or C code.
    pub(super) is_syscall: bool,
    /// End of the stack.
    pub(super) hi: u64,
    /// What was read, from `sp` on.
    pub(super) bytes: &'a [u8],
}

/// Unwinds the goroutines of one runtime.
#[derive(Debug)]
pub(super) struct Unwinder {
    code: Arc<Code>,
    /// By the address, one a place: a stack that is met again costs no search.
    places: Vec<Place>,
    costs: Arc<Costs>,
}

impl Unwinder {
    pub(super) fn new(code: Arc<Code>, costs: Arc<Costs>) -> Self {
        let places = vec![Place { pc: 0, size: 0, step: Step::NoCode }; PLACES];
        Self { code, places, costs }
    }

    /// Unwinds one stack; its return addresses are added to `addresses`, and how far from `sp` the frame of each ends to
    /// `ends`.
    pub(super) fn unwind(&mut self, stack: Memory<'_>, addresses: &mut Vec<u64>, ends: &mut Vec<u32>) -> Outcome {
        let begin = addresses.len();
        let most = match self.costs.frames.left() {
            0 => FEWEST_FRAMES,
            _ => {
                let deep = usize::try_from(self.costs.deep_frames.left()).unwrap_or(MAX_FRAMES);
                MAX_FRAMES.min(FEWER_FRAMES.saturating_add(deep))
            }
        };
        let outcome = self.follow(stack, most, addresses, ends);
        let followed = addresses.len() - begin;
        self.costs.deep_frames.take_up_to(followed.saturating_sub(FEWER_FRAMES) as u64);
        self.costs.frames.take_up_to(followed as u64);
        outcome
    }

    fn follow(&mut self, stack: Memory<'_>, most: usize, addresses: &mut Vec<u64>, ends: &mut Vec<u32>) -> Outcome {
        let begin = addresses.len();
        let (mut pc, mut at, size) = (stack.pc, 0usize, stack.hi.wrapping_sub(stack.sp));
        if stack.sp == 0 || stack.hi <= stack.sp || !stack.sp.is_multiple_of(8) {
            return Outcome::End(StackEnd::Unreadable);
        }
        // How far the word that is needed lies from `sp`, to its end.
        let reach = |end: usize| {
            if end as u64 > size {
                Outcome::End(StackEnd::NoUnwindInfo)
            } else if end > MAX_STACK {
                Outcome::End(StackEnd::TooDeep)
            } else {
                Outcome::More(end)
            }
        };
        if pc == 0 {
            // A call of a nil function: it begins in the caller.
            let Some(caller) = word_at(stack.bytes, 0_u16) else { return reach(8) };
            (pc, at) = (caller, 8);
        }
        loop {
            let place = self.place(pc);
            let is_innermost_call = addresses.len() == begin && stack.is_syscall;
            match place.step {
                Step::NoCode => return Outcome::End(StackEnd::NoUnwindInfo),
                Step::Top => {
                    addresses.push(pc);
                    ends.push(end_of(at, place.size));
                    return Outcome::End(StackEnd::Complete);
                }
                Step::StackSwitch if is_innermost_call => {}
                Step::StackSwitch | Step::Unknown => {
                    addresses.push(pc);
                    ends.push(end_of(at, 0));
                    return Outcome::End(StackEnd::NoUnwindInfo);
                }
                Step::Return => {}
            }
            addresses.push(pc);
            ends.push(end_of(at, place.size));
            if addresses.len() - begin >= most {
                return Outcome::End(StackEnd::TooDeep);
            }
            at = at.saturating_add(place.size as usize);
            let Some(caller) = word_at(stack.bytes, at) else { return reach(at.saturating_add(8)) };
            at += 8;
            if caller == 0 {
                return Outcome::End(StackEnd::Complete);
            }
            pc = caller;
        }
    }

    fn place(&mut self, pc: u64) -> Place {
        let slot = (pc ^ pc >> 12) as usize % PLACES;
        match self.places.get_mut(slot) {
            Some(place) if place.pc == pc => *place,
            Some(place) => {
                *place = look_up(&self.code, pc);
                *place
            }
            None => look_up(&self.code, pc),
        }
    }
}

fn end_of(at: usize, size: u32) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX).saturating_add(size)
}

fn look_up(code: &Code, pc: u64) -> Place {
    let place = |size, step| Place { pc, size, step };
    let Some(function) = code.find(pc).and_then(|module| module.table.find(pc)) else {
        return place(0, Step::NoCode);
    };
    if function.is_foreign() {
        return place(0, Step::Unknown);
    }
    let Some(size) = function.frame_size_at(pc) else {
        return place(0, Step::Unknown);
    };
    let step = if function.flags().is_top_frame() {
        Step::Top
    } else if function.switches_stacks() {
        Step::StackSwitch
    } else {
        Step::Return
    };
    place(size, step)
}

#[cfg(test)]
impl Unwinder {
    /// A function that has frames of so many bytes.
    pub(super) fn know(&mut self, pc: u64, size: u32) {
        self.places[(pc ^ pc >> 12) as usize % PLACES] = Place { pc, size, step: Step::Return };
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::costs::{DEEP_FRAMES, FRAMES},
        *,
    };

    const GROW: u64 = 0x40_1000;
    const GOEXIT: u64 = 0x40_2000;
    const SWITCH: u64 = 0x40_3000;

    /// Knows a function with a frame of 24 bytes, the outermost one, and one that switches stacks.
    fn unwinder() -> Unwinder {
        let mut unwinder = Unwinder::new(Arc::new(Code::new(Vec::new())), Arc::default());
        for (pc, size, step) in [(GROW, 24, Step::Return), (GOEXIT, 0, Step::Top), (SWITCH, 8, Step::StackSwitch)] {
            let slot = (pc ^ pc >> 12) as usize % PLACES;
            unwinder.places[slot] = Place { pc, size, step };
        }
        unwinder
    }

    fn unwind(pc: u64, is_syscall: bool, words: &[u64], more: u64) -> (Vec<u64>, Vec<u32>, Outcome) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let stack = Memory { pc, sp: 0x1000, is_syscall, hi: 0x1000 + bytes.len() as u64 + more, bytes: &bytes };
        let (mut addresses, mut ends) = (Vec::new(), Vec::new());
        let outcome = unwinder().unwind(stack, &mut addresses, &mut ends);
        (addresses, ends, outcome)
    }

    #[test]
    fn frames_are_followed_by_their_sizes_to_the_outermost_one() {
        let (addresses, ends, outcome) = unwind(GROW, false, &[9, 9, 9, GROW, 9, 9, 9, GOEXIT], 0);
        assert_eq!((addresses, ends), (vec![GROW, GROW, GOEXIT], vec![24, 56, 64]));
        assert_eq!(outcome, Outcome::End(StackEnd::Complete));
    }

    #[test]
    fn a_call_of_a_nil_function_begins_in_its_caller() {
        assert_eq!(unwind(0, false, &[GOEXIT], 0).0, [GOEXIT]);
    }

    #[test]
    fn a_stack_switch_is_passed_only_where_a_system_call_was_entered() {
        assert_eq!(unwind(SWITCH, true, &[9, GOEXIT], 0).2, Outcome::End(StackEnd::Complete));
        assert_eq!(unwind(SWITCH, false, &[9, GOEXIT], 0).2, Outcome::End(StackEnd::NoUnwindInfo));
        let (addresses, _, outcome) = unwind(GROW, true, &[9, 9, 9, SWITCH, 9, GOEXIT], 0);
        assert_eq!((addresses.len(), outcome), (2, Outcome::End(StackEnd::NoUnwindInfo)));
    }

    #[test]
    fn what_is_missing_is_asked_for_within_the_stack_alone() {
        assert_eq!(unwind(GROW, false, &[9, 9], 64).2, Outcome::More(32));
        assert_eq!(unwind(GROW, false, &[9, 9], 8).2, Outcome::End(StackEnd::NoUnwindInfo));
        assert_eq!(unwind(GROW, false, &[9, 9, 9, 0x50], 0).2, Outcome::End(StackEnd::NoUnwindInfo));
    }

    #[test]
    fn endless_stacks_are_cut() {
        let words = vec![GROW; 4 * MAX_FRAMES + 4];
        let (addresses, _, outcome) = unwind(GROW, false, &words, 0);
        assert_eq!((addresses.len(), outcome), (MAX_FRAMES, Outcome::End(StackEnd::TooDeep)));
    }

    #[test]
    fn a_crowd_of_endless_stacks_is_cut_early() {
        let bytes: Vec<u8> = vec![GROW; 4 * MAX_FRAMES + 4].iter().flat_map(|word| word.to_le_bytes()).collect();
        let stack = Memory { pc: GROW, sp: 0x1000, is_syscall: false, hi: 0x1000 + bytes.len() as u64, bytes: &bytes };
        let mut unwinder = unwinder();
        let mut depth = || {
            let mut addresses = Vec::new();
            unwinder.unwind(stack, &mut addresses, &mut Vec::new());
            addresses.len()
        };
        let depths: Vec<usize> = (0..1000).map(|_| depth()).collect();
        assert_eq!((depths[0], depths[999]), (MAX_FRAMES, FEWER_FRAMES));
        assert_eq!(depths.iter().sum::<usize>(), 1000 * FEWER_FRAMES + DEEP_FRAMES as usize);
        assert_eq!(unwinder.costs.deep_frames.left(), 0);
        unwinder.costs.begin_snapshot();
        assert_eq!((unwinder.costs.deep_frames.left(), unwinder.costs.frames.left()), (DEEP_FRAMES, FRAMES));
    }

    #[test]
    fn a_larger_crowd_is_cut_earlier() {
        let bytes: Vec<u8> = vec![GROW; 4 * MAX_FRAMES].iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut unwinder = unwinder();
        unwinder.costs.frames.take(FRAMES - 2 * FEWER_FRAMES as u64);
        let mut depth = |frames: usize| {
            let bytes = &[&bytes[..32 * frames - 8], &GOEXIT.to_le_bytes()].concat();
            let stack = Memory { pc: GROW, sp: 0x1000, is_syscall: false, hi: 0x1000 + bytes.len() as u64, bytes };
            let mut addresses = Vec::new();
            let outcome = unwinder.unwind(stack, &mut addresses, &mut Vec::new());
            (addresses.len(), outcome)
        };
        assert_eq!(depth(2 * FEWER_FRAMES), (2 * FEWER_FRAMES + 1, Outcome::End(StackEnd::Complete)));
        assert_eq!(depth(FEWEST_FRAMES), (FEWEST_FRAMES, Outcome::End(StackEnd::TooDeep)));
        assert_eq!(depth(20), (21, Outcome::End(StackEnd::Complete)), "as programs have them");
    }
}
