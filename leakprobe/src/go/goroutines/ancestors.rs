//! Who created a goroutine's creator, and so on: kept by the runtime if `GODEBUG=tracebackancestors=N` is set.

use std::sync::Arc;

use super::unwind::FEWER_FRAMES;
use crate::{
    go::{
        AncestorLayout,
        memory::{Words, word_at},
    },
    model::{AncestorSample, Stack, StackEnd, StackTable},
    target::Memory,
};

/// Most ancestors that are read.
const MAX_ANCESTORS: usize = 32;
/// The runtime keeps so many addresses of each ancestor's stack (`tracebackInnerFrames`; 100 until Go 1.20).
const KEPT: usize = 50;

/// The ancestors that `g.ancestors` leads to.
///
/// Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/proc.go> (`saveAncestors`).
pub(super) fn read(
    layout: &AncestorLayout,
    memory: &dyn Memory,
    address: u64,
    stacks: &mut StackTable,
) -> Option<Arc<[AncestorSample]>> {
    if address == 0 {
        return None;
    }
    let [start, len] = memory.words(address)?;
    let size = usize::from(layout.size);
    let mut infos = vec![0; size * usize::try_from(len).unwrap_or(usize::MAX).min(MAX_ANCESTORS)];
    let read = memory.read(start, &mut infos);
    let ancestors = infos.get(..read)?.chunks_exact(size).filter_map(|info| {
        let gopc = word_at(info, layout.gopc)?;
        let count = usize::try_from(word_at(info, layout.pcs + 8)?).unwrap_or(usize::MAX).min(FEWER_FRAMES);
        let mut pcs = vec![0; 8 * count];
        let read = memory.read(word_at(info, layout.pcs)?, &mut pcs);
        let addresses: Vec<u64> = pcs.get(..read)?.chunks_exact(8).filter_map(|bytes| word_at(bytes, 0_u16)).collect();
        let end = if read < pcs.len() {
            StackEnd::Unreadable
        } else if addresses.len() >= KEPT {
            StackEnd::TooDeep
        } else {
            StackEnd::Complete
        };
        Some(AncestorSample {
            id: word_at(info, layout.goid)?,
            stack: stacks.intern(Stack::of_callers(addresses, end)),
            creation: (gopc != 0).then(|| stacks.intern(Stack::of_go_statement(gopc))),
        })
    });
    let ancestors: Arc<[_]> = ancestors.collect();
    (!ancestors.is_empty()).then_some(ancestors)
}
