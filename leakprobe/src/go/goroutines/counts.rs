//! How many goroutines there ever were, by the runtime's own numbers.
//!
//! A processor takes the numbers of goroutines from the scheduler, sixteen at a time, and gives each to a new one: so as many were
//! given out as were taken, less what the processors still have, those that a lower `GOMAXPROCS` has put aside included.
//! Threads that call Go from C have goroutines with numbers of their own, which are not begun by anybody.
//!
//! Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/proc.go> (`newproc1`, `oneNewExtraM`)

use crate::{
    go::{
        Runtime,
        memory::{Words, word_at},
        scheduler::processors,
    },
    target::{Memory, Piece},
};

/// So often it is read until twice the same comes out.
const TRIES: u32 = 5;

/// How many numbers were given out; `None` if that cannot be read.
pub(super) fn given_out(runtime: &Runtime, memory: &dyn Memory) -> Option<u64> {
    let scheduler = runtime.scheduler?;
    let sched = scheduler.sched?;
    let at = u64::from(runtime.layout.p.goidcache);
    let pieces: Vec<Piece> = processors(memory, scheduler.allp, true)
        .into_iter()
        .filter_map(|p| Some(Piece { address: p.checked_add(at)?, len: 16 }))
        .collect();
    let read = || {
        let taken = memory.word(sched)?;
        let mut bytes = vec![0; 16 * pieces.len()];
        let lengths = memory.read_all(&pieces, &mut bytes);
        let left = bytes.chunks_exact(16).zip(lengths).map(|(bytes, len)| {
            let (next, end) = (word_at(bytes, 0_u16)?, word_at(bytes, 8_u16)?);
            (len == 16).then_some(())?;
            end.checked_sub(next)
        });
        Some((taken, left.collect::<Option<Vec<u64>>>()?))
    };
    let mut last = read()?;
    for _ in 0..TRIES {
        let again = read()?;
        if again == last {
            break;
        }
        last = again;
    }
    let (taken, left) = last;
    taken.checked_sub(left.into_iter().fold(0, u64::saturating_add))
}

#[cfg(test)]
mod tests {
    use super::{
        super::heaps::tests::{SCHED, p, runtime},
        *,
    };

    #[test]
    fn what_processors_still_have_was_not_given_out() {
        for version in ["go1.19.8", "go1.22.10", "go1.23.9", "go1.25.5", "go1.27.3"] {
            let (runtime, mut memory) = runtime(version);
            memory.put(SCHED, &[48]);
            // The third one is put aside.
            for (id, next, end) in [(0, 17, 17), (1, 30, 33), (2, 40, 49)] {
                memory.put(p(id) + u64::from(runtime.layout.p.goidcache), &[next, end]);
            }
            assert_eq!(given_out(&runtime, &memory), Some(48 - 3 - 9), "{version}");
            memory.put(p(2) + u64::from(runtime.layout.p.goidcache), &[50, 49]);
            assert_eq!(given_out(&runtime, &memory), None, "{version}: damaged");
            assert_eq!(given_out(&Runtime { scheduler: None, ..runtime }, &memory), None);
        }
    }
}
