//! Who holds a lock that names no thread of the target: another process's thread, one that has exited, or one that is not known.
//!
//! "Has exited" becomes a proof that the wait never ends. So each doubt decides against it: what could not be read, an id that a
//! thread has of which it is not known that it cannot reach the lock, and whoever else could release it.

use super::locks::Release;
use crate::model::{ById, LockMemory, OwnerFacts, OwnerThread};

/// What is known of the owner of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known<'a> {
    /// It is this thread of another process.
    Is(&'a OwnerThread),
    /// It is this one of another pid namespace: the only one that knows itself by the id and maps the lock.
    IsLikely(&'a OwnerThread),
    /// It has exited, and nothing else can release the lock.
    Exited,
    /// No thread was found that could be it.
    NotFound,
    /// Nothing is known.
    Nothing,
}

/// Who the owner is, by what was found. `has_seen_exit`: a thread of the target had that id, and its exit was seen.
pub(super) fn known(facts: &OwnerFacts, release: Release, has_seen_exit: bool) -> Known<'_> {
    let is_exited = || can_be_released_by_nothing(facts, release, has_seen_exit);
    match (&facts.memory, &facts.by_id) {
        (None, _) | (_, ById::OfTarget) => Known::Nothing,
        (Some(LockMemory::Own), ById::None | ById::OfOther { reaches: Some(false), .. }) => {
            if is_exited() {
                Known::Exited
            } else {
                Known::NotFound
            }
        }
        (Some(LockMemory::Own), _) => Known::Nothing,
        (Some(LockMemory::Shared(_)), ById::OfOther { thread, reaches: Some(true) }) => Known::Is(thread),
        (Some(LockMemory::Shared(_)), by_id) => match facts.others.as_ref().map(|others| &others.named[..]) {
            Some([thread]) => Known::IsLikely(thread),
            Some([]) if *by_id == ById::None && is_exited() => Known::Exited,
            Some([]) if !matches!(by_id, ById::Unknown | ById::OfOther { reaches: None, .. }) => Known::NotFound,
            _ => Known::Nothing,
        },
    }
}

/// Whether a lock whose owner was not found stays as it is.
fn can_be_released_by_nothing(facts: &OwnerFacts, release: Release, has_seen_exit: bool) -> bool {
    let others = match facts.memory {
        None => return false,
        Some(LockMemory::Own) => 0,
        Some(LockMemory::Shared(_)) => match &facts.others {
            Some(others) if others.complete => others.count,
            _ => return false,
        },
    };
    match release {
        // The owner may be the parent's thread that forked, and what it held its copy here may release.
        Release::Anyone => others == 0 && (!facts.is_forked || has_seen_exit),
        Release::Owner => true,
        // The kernel would have released it. Who waits for a PI lock has a living owner.
        Release::Kernel => false,
    }
}

/// Whether an id in a lock's word stands for the target's own thread of that id: in memory that others map, it may be one of
/// another pid namespace.
pub(super) fn is_of_target(facts: &OwnerFacts) -> bool {
    match facts.memory {
        None => false,
        Some(LockMemory::Own) => true,
        Some(LockMemory::Shared(_)) => {
            facts.others.as_ref().is_some_and(|others| others.complete && others.named.is_empty())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ObjectId, OtherMappers};

    const OBJECT: LockMemory = LockMemory::Shared(ObjectId { device: (0, 1), inode: 7 });
    const KINDS: [Release; 3] = [Release::Anyone, Release::Owner, Release::Kernel];

    fn thread(tid: u32) -> OwnerThread {
        OwnerThread { tid, process: 20, name: "holder".to_owned() }
    }

    fn other(reaches: Option<bool>) -> ById {
        ById::OfOther { thread: thread(20), reaches }
    }

    fn facts(memory: LockMemory, by_id: ById, others: Option<(u64, &[u32], bool)>) -> OwnerFacts {
        let others = others.map(|(count, named, complete)| OtherMappers {
            count,
            named: named.iter().map(|tid| thread(*tid)).collect(),
            complete,
        });
        OwnerFacts { memory: Some(memory), by_id, others, is_forked: false }
    }

    #[test]
    fn a_thread_that_maps_the_object_holds_the_lock() {
        for release in KINDS {
            let found = facts(OBJECT, other(Some(true)), None);
            assert_eq!(known(&found, release, false), Known::Is(&thread(20)));
            // The one of its namespace that knows itself by the id; not if there are two.
            for by_id in [ById::None, other(Some(false)), other(None), ById::Unknown] {
                let found = |named| facts(OBJECT, by_id.clone(), Some((2, named, true)));
                assert_eq!(known(&found(&[77]), release, false), Known::IsLikely(&thread(77)));
                assert_eq!(known(&found(&[77, 78]), release, false), Known::Nothing);
            }
            assert_eq!(known(&facts(OBJECT, other(None), Some((1, &[], true))), release, false), Known::Nothing);
        }
    }

    #[test]
    fn an_owner_has_exited_only_if_nothing_speaks_against_it() {
        let alone = Some((0, &[][..], true));
        let exited = |found: &OwnerFacts| KINDS.map(|release| known(found, release, false) == Known::Exited);
        // Whom the kernel serves is never waited for in vain.
        assert_eq!(exited(&facts(OBJECT, ById::None, alone)), [true, true, false]);
        assert_eq!(exited(&facts(LockMemory::Own, ById::None, None)), [true, true, false]);
        assert_eq!(exited(&facts(LockMemory::Own, other(Some(false)), None)), [true, true, false]);
        // Who maps it may release a lock that does not ask who releases it.
        assert_eq!(exited(&facts(OBJECT, ById::None, Some((1, &[], true)))), [false, true, false]);
        for doubt in [
            facts(OBJECT, ById::None, None),
            facts(OBJECT, ById::None, Some((0, &[], false))),
            facts(OBJECT, ById::Unknown, alone),
            // It may map the object again.
            facts(OBJECT, other(Some(false)), alone),
            facts(OBJECT, other(None), alone),
            facts(OBJECT, ById::OfTarget, alone),
            facts(LockMemory::Own, other(Some(true)), None),
            facts(LockMemory::Own, other(None), None),
            facts(LockMemory::Own, ById::Unknown, None),
            facts(LockMemory::Own, ById::OfTarget, None),
            OwnerFacts { memory: None, ..facts(OBJECT, ById::None, alone) },
        ] {
            assert_eq!(exited(&doubt), [false; 3], "{doubt:?}");
        }
    }

    #[test]
    fn what_a_parent_held_its_child_may_release() {
        for memory in [LockMemory::Own, OBJECT] {
            let forked = OwnerFacts { is_forked: true, ..facts(memory, ById::None, Some((0, &[], true))) };
            assert_eq!(known(&forked, Release::Anyone, false), Known::NotFound);
            assert_eq!(known(&forked, Release::Anyone, true), Known::Exited);
            assert_eq!(known(&forked, Release::Owner, false), Known::Exited);
        }
    }

    #[test]
    fn an_id_in_shared_memory_may_be_one_of_another_namespace() {
        assert!(is_of_target(&facts(LockMemory::Own, ById::OfTarget, None)));
        assert!(is_of_target(&facts(OBJECT, ById::OfTarget, Some((3, &[], true)))));
        for doubt in [None, Some((3, &[][..], false)), Some((3, &[77][..], true))] {
            assert!(!is_of_target(&facts(OBJECT, ById::OfTarget, doubt)), "{doubt:?}");
        }
    }
}
