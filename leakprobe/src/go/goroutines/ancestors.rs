//! Who created a goroutine's creator, and so on: kept by the runtime if `GODEBUG=tracebackancestors=N` is set.

use std::sync::Arc;

use super::{
    costs::{Allowance, Costs},
    shared::{LeftOut, Shared},
};
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
/// The runtime keeps so many addresses of each ancestor's stack (`tracebackInnerFrames`; [`MOST_KEPT`] until Go 1.20).
const KEPT: usize = 50;
const MOST_KEPT: usize = 100;

/// Reads ancestors. Goroutines that were begun by the same one have the same.
#[derive(Debug)]
pub(super) struct Ancestors {
    lists: Shared<[AncestorSample]>,
    /// Ancestors that may be read in this snapshot.
    left: Allowance,
}

impl Ancestors {
    pub(super) fn new(costs: &Costs) -> Self {
        let lists = Shared::new(costs.ancestor_bytes.clone(), size_of_val);
        Self { lists, left: costs.ancestors_read.clone() }
    }

    /// To be called when a snapshot begins.
    pub(super) fn begin_snapshot(&mut self) {
        self.lists.drop_unused();
    }

    /// The ancestors that `g.ancestors` leads to, if there are any.
    pub(super) fn at(
        &mut self,
        layout: &AncestorLayout,
        memory: &dyn Memory,
        address: u64,
        stacks: &mut StackTable,
    ) -> Result<Option<Arc<[AncestorSample]>>, LeftOut> {
        if address == 0 {
            return Ok(None);
        }
        if self.left.left() == 0 {
            return Err(LeftOut);
        }
        let ancestors = read(layout, memory, address, stacks);
        self.left.take_up_to(ancestors.as_ref().map_or(1, |ancestors| ancestors.len() as u64));
        ancestors.map(|ancestors| self.lists.share(ancestors)).transpose()
    }
}

/// Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/proc.go> (`saveAncestors`).
fn read(
    layout: &AncestorLayout,
    memory: &dyn Memory,
    address: u64,
    stacks: &mut StackTable,
) -> Option<Arc<[AncestorSample]>> {
    let [start, len] = memory.words(address)?;
    let size = usize::from(layout.size);
    let mut infos = vec![0; size * usize::try_from(len).unwrap_or(usize::MAX).min(MAX_ANCESTORS)];
    let read = memory.read(start, &mut infos);
    let ancestors = infos.get(..read)?.chunks_exact(size).filter_map(|info| {
        let gopc = word_at(info, layout.gopc)?;
        let count = usize::try_from(word_at(info, layout.pcs + 8)?).unwrap_or(usize::MAX).min(MOST_KEPT);
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
