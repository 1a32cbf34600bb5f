//! After each snapshot: what the futex waits are, who holds what is waited for, and a second look where the first is not enough.

use std::collections::HashMap;

use crate::{
    analysis::Live,
    model::{LockMemory, OwnerFacts},
    probes::Source,
    snapshot::Engine,
    symbols,
    target::LockOwners,
};

/// Names the waits, and confirms what only a second look can: circles of waits, and holders of other processes or that have exited.
pub(super) fn look(
    live: &mut Live,
    engine: &mut Engine,
    owners: &mut LockOwners,
    probes: &Source,
    symbols: &symbols::Stacks,
) {
    live.name_futexes(symbols, symbols.frames());
    let doubts = live.doubts();
    if doubts.waiters.is_empty() {
        return;
    }
    let reader = engine.modules().find_reader().unwrap_or(engine.pid());
    let mut found = HashMap::new();
    let twice = match engine.read_twice(probes, &doubts.waiters, || found = owners.find(reader, &doubts.owners)) {
        Ok(twice) => twice.into_iter().map(|(tid, first, second)| (tid, [first, second])).collect(),
        Err(error) => {
            tracing::debug!("second look at locks: {error}");
            HashMap::new()
        }
    };
    // What other processes do to a lock is seen even if nothing of the target has run.
    let is_shared = |facts: &OwnerFacts| matches!(facts.memory, Some(LockMemory::Shared(_)));
    if found.values().any(is_shared) {
        engine.expect_news();
    }
    live.confirm(&twice, found);
}
