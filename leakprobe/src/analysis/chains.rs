//! Who waits for whom, as a graph in which each task waits for at most one other: chains and cycles.

use std::collections::{BTreeMap, HashMap, HashSet};

/// Most links of a chain that are told.
pub(super) const MOST_LINKS: usize = 16;

/// Each task that waits for another, and for which one.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    next: BTreeMap<u32, u32>,
}

impl Graph {
    /// `waiter` waits for `holder`, and for nobody else.
    pub(super) fn insert(&mut self, waiter: u32, holder: u32) {
        self.next.insert(waiter, holder);
    }

    /// Whom a task waits for.
    pub(super) fn next(&self, task: u32) -> Option<u32> {
        self.next.get(&task).copied()
    }

    /// Whom a task waits for, whom that one waits for, and so on: at most [`MOST_LINKS`], and nobody twice.
    pub(super) fn chain(&self, task: u32) -> Vec<u32> {
        let mut seen = HashSet::from([task]);
        let mut chain = Vec::new();
        let mut at = task;
        while let Some(&next) = self.next.get(&at)
            && chain.len() < MOST_LINKS
        {
            if !seen.insert(next) {
                break;
            }
            chain.push(next);
            at = next;
        }
        chain
    }

    /// Tasks that wait for each other in a circle, each circle once: from its smallest id on, each followed by the one that it
    /// waits for.
    pub(super) fn cycles(&self) -> Vec<Vec<u32>> {
        let mut cycles = Vec::new();
        // By which walk a task was reached.
        let mut walks: HashMap<u32, u32> = HashMap::with_capacity(self.next.len());
        for &first in self.next.keys() {
            let mut at = first;
            while let Some(&next) = self.next.get(&at) {
                if walks.contains_key(&at) {
                    break;
                }
                walks.insert(at, first);
                at = next;
            }
            // The walk ended at itself, and not at an earlier one or at a task that does not wait.
            if walks.get(&at) == Some(&first) && self.is_on_cycle(at, &walks, first) {
                cycles.push(self.cycle_of(at));
            }
        }
        cycles.sort_unstable();
        cycles.dedup();
        cycles
    }

    /// Whether the walk from `first`, which came to `at` last, came to it a second time: only then something follows on it.
    fn is_on_cycle(&self, at: u32, walks: &HashMap<u32, u32>, first: u32) -> bool {
        self.next.get(&at).is_some_and(|next| walks.get(next) == Some(&first))
    }

    /// The circle that `task` is on.
    fn cycle_of(&self, task: u32) -> Vec<u32> {
        let mut cycle = vec![task];
        let mut at = task;
        while let Some(&next) = self.next.get(&at)
            && next != task
            && cycle.len() <= self.next.len()
        {
            cycle.push(next);
            at = next;
        }
        let smallest = cycle.iter().enumerate().min_by_key(|(_, task)| **task).map_or(0, |(place, _)| place);
        cycle.rotate_left(smallest);
        cycle
    }

    /// The tasks that are not on `cycles` and wait for one that is, or for one that does; and the place of that cycle.
    pub(super) fn leading_to(&self, cycles: &[Vec<u32>]) -> BTreeMap<u32, usize> {
        let mut leads_to: HashMap<u32, Option<usize>> = HashMap::with_capacity(self.next.len());
        for (place, cycle) in cycles.iter().enumerate() {
            leads_to.extend(cycle.iter().map(|task| (*task, Some(place))));
        }
        let mut found = BTreeMap::new();
        for &first in self.next.keys() {
            let mut path = Vec::new();
            let mut at = first;
            let mut seen = HashSet::new();
            let end = loop {
                if let Some(known) = leads_to.get(&at) {
                    break *known;
                }
                if !seen.insert(at) {
                    break None; // a circle that is not among them
                }
                path.push(at);
                match self.next.get(&at) {
                    Some(&next) => at = next,
                    None => break None,
                }
            };
            if let Some(place) = end {
                found.extend(path.iter().map(|task| (*task, place)));
            }
            leads_to.extend(path.into_iter().map(|task| (task, end)));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn graph(edges: &[(u32, u32)]) -> Graph {
        let mut graph = Graph::default();
        edges.iter().for_each(|&(waiter, holder)| graph.insert(waiter, holder));
        graph
    }

    #[test]
    fn circles_and_those_behind_them() {
        // 1 and 2 wait for each other, 5 for itself, 3 for 1, 4 for 3; 7, 8, 9 in a circle; 10 for 11, which does not wait.
        let graph = graph(&[(1, 2), (2, 1), (3, 1), (4, 3), (5, 5), (9, 7), (7, 8), (8, 9), (10, 11)]);
        let cycles = graph.cycles();
        assert_eq!(cycles, [vec![1, 2], vec![5], vec![7, 8, 9]]);
        assert!(graph.leading_to(&cycles[1..]).is_empty());
        assert_eq!(graph.leading_to(&cycles).into_iter().collect::<Vec<_>>(), [(3, 0), (4, 0)]);
        assert_eq!(graph.chain(4), [3, 1, 2]);
        assert_eq!(graph.chain(5), [0; 0]);
        assert_eq!(graph.chain(10), [11]);
    }

    #[test]
    fn a_long_chain_is_cut() {
        let edges: Vec<(u32, u32)> = (0..100_000).map(|n| (n, n + 1)).collect();
        let graph = graph(&edges);
        assert_eq!(graph.chain(0).len(), MOST_LINKS);
        assert_eq!(graph.cycles(), [[0u32; 0]; 0]);
        let closed = {
            let mut closed = graph;
            closed.insert(100_000, 0);
            closed
        };
        assert_eq!(closed.cycles()[0].len(), 100_001);
    }

    proptest! {
        #[test]
        fn every_circle_is_found_once_and_nothing_else(edges in proptest::collection::btree_map(0u32..40, 0u32..40, 0..40)) {
            let graph = Graph { next: edges.clone() };
            let cycles = graph.cycles();
            // By definition: a task from which as many steps as its circle is long lead back to it.
            let returns = |task: u32| {
                let mut at = task;
                (0..=edges.len()).any(|_| match edges.get(&at) {
                    Some(&next) => { at = next; at == task }
                    None => false,
                })
            };
            let mut on: Vec<u32> = (0..40).filter(|task| returns(*task)).collect();
            let mut told: Vec<u32> = cycles.iter().flatten().copied().collect();
            told.sort_unstable();
            on.sort_unstable();
            prop_assert_eq!(told, on);
            for cycle in &cycles {
                prop_assert_eq!(cycle.iter().min(), cycle.first());
                for (place, task) in cycle.iter().enumerate() {
                    prop_assert_eq!(edges.get(task), cycle.get((place + 1) % cycle.len()));
                }
            }
            let behind = graph.leading_to(&cycles).len();
            let leads = |task: u32| {
                let mut at = task;
                (0..=edges.len()).any(|_| { match edges.get(&at) { Some(&next) => { at = next; returns(at) } None => false } })
            };
            let expected = edges.keys().filter(|task| !returns(**task) && leads(**task)).count();
            prop_assert_eq!(behind, expected);
            for &task in edges.keys() {
                let chain = graph.chain(task);
                let distinct: HashSet<&u32> = chain.iter().collect();
                prop_assert!(chain.len() <= MOST_LINKS && distinct.len() == chain.len() && !chain.contains(&task));
            }
        }
    }
}
