//! All internet sockets of one protocol in a network namespace, at one moment.
//!
//! There may be a million of them, and who is watched may have made them: so their memory is that of the run's budget.

use std::{mem::size_of, net::SocketAddr, sync::OnceLock};

use super::Inet;
use crate::{
    pool::Held,
    target::{Budget, budget::Scarce},
};

/// Most sockets of a protocol that are taken in.
const MOST_SOCKETS: usize = 1 << 20;
/// So many are paid for at a time.
const STEP: usize = 1 << 10;
/// A list that grows takes as much again.
const BYTES: usize = 2 * size_of::<(u64, Inet)>() + size_of::<u32>();

/// By inode, and by address.
#[derive(Debug)]
pub(crate) struct List {
    /// In the order of their inodes, once it is complete.
    sockets: Vec<(u64, Inet)>,
    /// Their places in the order of their ends, if that was asked for.
    by_ends: OnceLock<Vec<u32>>,
    held: Held,
    /// What there was not enough of for all of them.
    cut: Option<Scarce>,
}

impl List {
    /// None yet.
    pub(super) fn new(budget: &Budget) -> Self {
        Self { sockets: Vec::new(), by_ends: OnceLock::new(), held: budget.nothing(), cut: None }
    }

    /// Takes in one more, if there is memory for it.
    pub(super) fn push(&mut self, inode: u64, socket: Inet) {
        if self.cut.is_some() || self.sockets.len() >= MOST_SOCKETS {
            return;
        }
        if self.sockets.len().is_multiple_of(STEP)
            && let Err(full) = self.held.grow((STEP * BYTES) as u64)
        {
            self.cut = Some(full.into());
            return;
        }
        self.sockets.push((inode, socket));
    }

    /// There are no more.
    pub(super) fn complete(mut self) -> Self {
        self.sockets.sort_unstable_by_key(|(inode, _)| *inode);
        self
    }

    /// What there was not enough of for all of them.
    pub(super) fn cut(&self) -> Option<Scarce> {
        self.cut
    }

    pub(super) fn get(&self, inode: u64) -> Option<&Inet> {
        let place = self.sockets.binary_search_by_key(&inode, |(inode, _)| *inode).ok()?;
        self.sockets.get(place).map(|(_, socket)| socket)
    }

    /// The inode of the connected socket with these ends.
    pub(super) fn connected(&self, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
        let by_ends = self.by_ends.get_or_init(|| {
            let connected = (0_u32..).zip(&self.sockets).filter(|(_, (_, socket))| socket.remote.port() != 0);
            let mut places: Vec<u32> = connected.map(|(place, _)| place).collect();
            places.sort_unstable_by_key(|&place| self.ends(place));
            places
        });
        let place = by_ends.binary_search_by_key(&Some((local, remote)), |&place| self.ends(place)).ok()?;
        self.sockets.get(*by_ends.get(place)? as usize).map(|(inode, _)| *inode)
    }

    fn ends(&self, place: u32) -> Option<(SocketAddr, SocketAddr)> {
        self.sockets.get(place as usize).map(|(_, socket)| (socket.local, socket.remote))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::target::budget::Limits;

    fn socket(local: u16, remote: u16) -> Inet {
        let [local, remote] = [local, remote].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        Inet { local, remote, state: 1, receive_queue: 0, send_queue: 0, id: None }
    }

    #[test]
    fn sockets_are_found_by_inode_and_by_their_ends() {
        let mut list = List::new(&Budget::default());
        for (inode, local, remote) in [(9, 80, 4000), (7, 4000, 80), (8, 80, 0)] {
            list.push(inode, socket(local, remote));
        }
        let list = list.complete();
        assert_eq!(list.get(8), Some(&socket(80, 0)));
        assert_eq!((list.get(6), list.cut()), (None, None));
        let of = |local, remote| {
            let ends = socket(local, remote);
            list.connected(ends.local, ends.remote)
        };
        assert_eq!([of(4000, 80), of(80, 4000), of(80, 0)], [Some(7), Some(9), None]);
    }

    #[test]
    fn what_there_is_no_memory_for_is_left_out_and_that_is_known() {
        let limits = Limits { held: 3 * (STEP * BYTES) as u64, ..Limits::of_memory(0) };
        let budget = Budget::new(Limits { cpu: Duration::ZERO, ..limits });
        let mut list = List::new(&budget);
        (0..10_000).for_each(|inode| list.push(inode, socket(1, 0)));
        let list = list.complete();
        assert_eq!((list.sockets.len(), list.cut()), (3 * STEP, Some(Scarce::Memory)));
        assert_eq!(budget.memory_left(), 0);
        drop(list);
        assert_eq!(budget.memory_left(), limits.held);
    }
}
