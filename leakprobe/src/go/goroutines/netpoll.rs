//! The descriptors that goroutines wait for in the runtime's poller.

use super::{
    batch::Batch,
    stack_words::{Stack, StackWords},
};
use crate::{
    go::{PollLayout, memory::word_at},
    model::Access,
    target::{Memory, Piece},
};

/// A descriptor larger than the kernel's own limit is none (`sysctl fs.nr_open` is at most that).
const MAX_FD: u64 = 1 << 30;

/// What a goroutine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Polled {
    pub(super) fd: i32,
    /// Whether to read or to write.
    pub(super) access: Access,
    /// When the wait ends with an error, `CLOCK_MONOTONIC`, ns.
    pub(super) deadline: Option<u64>,
}

/// Finds them.
#[derive(Debug, Default)]
pub(super) struct Netpoll {
    batch: Batch,
    words: StackWords,
}

impl Netpoll {
    /// What each goroutine waits for, if that is certain.
    pub(super) fn read(
        &mut self,
        layout: &PollLayout,
        memory: &dyn Memory,
        stacks: &[Stack<'_>],
    ) -> Vec<Option<Polled>> {
        let found = self.words.find(memory, stacks);
        // Each address that leads to the g is that of rg or of wg.
        let (rg, wg) = (u64::from(layout.rg), u64::from(layout.wg));
        let mut tried = Vec::new();
        for (n, places) in found.iter().enumerate() {
            for &place in places {
                for (offset, deadline, access) in [(rg, layout.rd, Access::Read), (wg, layout.wd, Access::Write)] {
                    tried.extend(place.checked_sub(offset).map(|address| (n, address, deadline, access)));
                }
            }
        }
        let size = usize::from(layout.size);
        let pieces: Vec<Piece> = tried.iter().map(|&(_, address, ..)| Piece { address, len: size }).collect();
        self.batch.read(memory, &pieces);
        let mut polled: Vec<Vec<Polled>> = vec![Vec::new(); stacks.len()];
        for (index, &(n, address, deadline, access)) in tried.iter().enumerate() {
            let at = |offset| self.batch.word(index, offset);
            // The waiting functions keep the address of the whole, too.
            let is_on_stack = stacks[n].bytes.chunks_exact(8).any(|bytes| word_at(bytes, 0_u16) == Some(address));
            let Some(fd) = at(layout.fd).filter(|&fd| fd < MAX_FD && is_on_stack) else { continue };
            let deadline = at(deadline).filter(|&deadline| deadline > 0 && deadline < i64::MAX as u64);
            polled[n].push(Polled { fd: fd as i32, access, deadline });
        }
        let one = |(n, polled): (usize, Vec<Polled>)| match polled[..] {
            [one] => Some(one),
            _ => {
                self.words.forget(&stacks[n]);
                None
            }
        };
        polled.into_iter().enumerate().map(one).collect()
    }
}
