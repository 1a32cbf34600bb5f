//! Who holds a lock: read from the memory around its futex word, and believed only if all of it fits together.

use crate::model::{FutexMemory, FutexWait, Holder, Primitive};

/// The largest thread id that Linux gives. Source: <https://elixir.bootlin.com/linux/v6.12/source/include/linux/threads.h#L34>
const MAX_TID: u32 = 1 << 22;
/// What the kernel keeps in the words of PI and robust locks.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/futex.h#L168>
const TID_MASK: u32 = 0x3fff_ffff;
const OWNER_DIED: u32 = 0x4000_0000;

/// Offsets within glibc's `pthread_mutex_t`, whose first word is the futex.
/// Source: <https://sourceware.org/git/?p=glibc.git;a=blob;f=sysdeps/nptl/bits/struct_mutex.h;hb=glibc-2.36#l26>
const GLIBC_MUTEX_OWNER: i64 = 8;
const GLIBC_MUTEX_KIND: i64 = 16;
/// The bits that its kind can have, and those that matter here.
/// Source: <https://sourceware.org/git/?p=glibc.git;a=blob;f=nptl/pthreadP.h;hb=glibc-2.36#l46>
const GLIBC_KINDS: u32 = 0x3f3;
const GLIBC_TYPE: u32 = 3;
const GLIBC_ROBUST: u32 = 16;
const GLIBC_PI: u32 = 32;
const GLIBC_PROTECT: u32 = 64;
const GLIBC_SHARED: u32 = 128;

/// Offsets within glibc's `pthread_rwlock_t`, and how its first word is made up.
/// Source: <https://sourceware.org/git/?p=glibc.git;a=blob;f=sysdeps/x86/nptl/bits/struct_rwlock.h;hb=glibc-2.36#l25>
/// Source: <https://sourceware.org/git/?p=glibc.git;a=blob;f=nptl/pthread_rwlock_common.c;hb=glibc-2.36#l193>
const RWLOCK_WRPHASE_FUTEX: i64 = 8;
const RWLOCK_WRITERS_FUTEX: i64 = 12;
const RWLOCK_WRITER: i64 = 24;
const RWLOCK_KIND: i64 = 48;
const RWLOCK_WRITE_PHASE: u32 = 1;
const RWLOCK_WRITE_LOCKED: u32 = 2;
const RWLOCK_READERS_WAIT: u32 = 4;
const RWLOCK_READER: u32 = 3;

/// Offsets from the futex word in musl's locks and thread descriptors.
/// Source: <https://git.musl-libc.org/cgit/musl/tree/src/internal/pthread_impl.h?h=v1.2.3>
const MUSL_MUTEX_TYPE: i64 = -4;
const MUSL_TID: i64 = -8;
/// Kind, robust, PI, process-private. Source: <https://git.musl-libc.org/cgit/musl/tree/src/thread/pthread_mutex_lock.c?h=v1.2.3>
const MUSL_KINDS: u32 = 3 | 4 | 8 | 128;
const MUSL_WRITER: u32 = 0x7fff_ffff;
const MUSL_JOINABLE: u32 = 2;

/// Who can release a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// Any thread: the lock does not compare the caller with its owner. POSIX forbids it, but programs do it, and a child process
    /// releases what its parent held when it forked.
    Anyone,
    /// Its owner alone, by its thread id.
    Owner,
    /// Its owner, and the kernel when the owner exits: PI and robust locks.
    Kernel,
}

/// What a lock says of who holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// This thread, by its id in its own pid namespace. `shared`: it may be another process's.
    By {
        /// Its id.
        tid: u32,
        /// Whether the lock's kind says that it is shared by processes.
        shared: bool,
        /// Who can release it.
        release: Release,
    },
    /// Nobody, for good: the C library parks the thread on a word that only this thread knows, since the lock that it asked for can
    /// never be had.
    NoOne,
    /// This thread is waited for until it exits.
    Join(u32),
    /// So many readers; which ones is not recorded.
    Readers(u32),
    /// A thread that died without releasing it.
    OwnerDied,
    /// Such locks do not say.
    NotRecorded,
    /// Nobody, at that moment, or it cannot be told: nothing that is read there can be relied on.
    Unknown,
}

/// Who holds what `wait` waits for, by the memory that was read last.
#[must_use]
pub(super) fn held(wait: &FutexWait) -> Held {
    wait.memory.as_deref().map_or(Held::Unknown, |memory| held_in(wait, memory))
}

/// The same by this memory.
#[must_use]
pub(super) fn held_in(wait: &FutexWait, memory: &FutexMemory) -> Held {
    if is_parked_for_good(wait, memory) {
        return Held::NoOne;
    }
    let held = match wait.primitive.map_or(Holder::Nobody, |primitive| primitive.holder) {
        Holder::Nobody => Some(Held::Unknown),
        Holder::NotRecorded => Some(Held::NotRecorded),
        Holder::GlibcMutex => glibc_mutex(memory),
        Holder::GlibcRwlock => glibc_rwlock(wait, memory),
        Holder::GlibcJoin => memory.u32_at(0).filter(|tid| *tid == wait.value && is_tid(*tid)).map(Held::Join),
        Holder::MuslMutex => musl_mutex(memory),
        Holder::MuslRwlock => musl_rwlock(memory),
        Holder::MuslJoin => musl_join(memory),
        Holder::Kernel => memory.u32_at(0).and_then(|word| kernel(word, false)),
    };
    match held.unwrap_or(Held::Unknown) {
        // Whatever memory says of its kind: the kernel has taken this lock for a PI lock.
        Held::By { tid, shared, .. } if wait.is_lock_pi() => Held::By { tid, shared, release: Release::Kernel },
        held => held,
    }
}

/// Where `FUTEX_LOCK_PI` fails with `ESRCH`, since the owner of a PI mutex has exited, or with `EDEADLK`, since the thread would
/// wait for itself, and the mutex's type does not let the caller know, the libraries wait without time-out for a zero on their own
/// stack to change. No lock is waited for with the value 0, which stands for a free one.
/// Source: <https://sourceware.org/git/?p=glibc.git;a=blob;f=nptl/pthread_mutex_lock.c;hb=glibc-2.36#l424>
/// Source: <https://git.musl-libc.org/cgit/musl/tree/src/thread/pthread_mutex_timedlock.c?h=v1.2.3>
fn is_parked_for_good(wait: &FutexWait, memory: &FutexMemory) -> bool {
    let holder = wait.primitive.map_or(Holder::Nobody, |primitive| primitive.holder);
    matches!(holder, Holder::GlibcMutex | Holder::MuslMutex)
        && matches!(wait.command, Some(0 | 9))
        && wait.on_own_stack
        && !wait.timed
        && wait.value == 0
        && memory.u32_at(0) == Some(0)
}

/// What kind of mutex it is, in words; empty if it is a plain one, or no mutex.
#[must_use]
pub(super) fn mutex_kind(primitive: Primitive, memory: &FutexMemory) -> &'static str {
    match primitive.holder {
        Holder::GlibcMutex | Holder::Kernel => {
            let Some(kind) = memory.u32_at(GLIBC_MUTEX_KIND).filter(|kind| kind & !GLIBC_KINDS == 0) else {
                return "";
            };
            match kind {
                _ if primitive.name != "mutex" => "",
                _ if kind & GLIBC_ROBUST != 0 => "robust",
                _ if kind & GLIBC_PI != 0 => "priority inheritance",
                _ if kind & GLIBC_PROTECT != 0 => "priority ceiling",
                _ if kind & GLIBC_TYPE == 1 => "recursive",
                _ if kind & GLIBC_TYPE == 2 => "error-checking",
                _ => "",
            }
        }
        Holder::MuslMutex => match memory.u32_at(MUSL_MUTEX_TYPE) {
            Some(kind) if kind & !MUSL_KINDS != 0 => "",
            Some(kind) if kind & 4 != 0 => "robust",
            Some(kind) if kind & 8 != 0 => "priority inheritance",
            Some(kind) if kind & 3 == 1 => "recursive",
            Some(kind) if kind & 3 == 2 => "error-checking",
            _ => "",
        },
        _ => "",
    }
}

fn is_tid(tid: u32) -> bool {
    (1..=MAX_TID).contains(&tid)
}

fn by(tid: u32, shared: bool, release: Release) -> Option<Held> {
    is_tid(tid).then_some(Held::By { tid, shared, release })
}

/// A word in the kernel's own format.
fn kernel(word: u32, shared: bool) -> Option<Held> {
    if word & OWNER_DIED != 0 && word & TID_MASK == 0 {
        return Some(Held::OwnerDied);
    }
    by(word & TID_MASK, shared, Release::Kernel)
}

fn glibc_mutex(memory: &FutexMemory) -> Option<Held> {
    let kind = memory.u32_at(GLIBC_MUTEX_KIND).filter(|kind| kind & !GLIBC_KINDS == 0)?;
    let (word, owner) = (memory.u32_at(0)?, memory.u32_at(GLIBC_MUTEX_OWNER)?);
    let shared = kind & GLIBC_SHARED != 0;
    if kind & (GLIBC_ROBUST | GLIBC_PI) != 0 {
        return kernel(word, shared);
    }
    // 1: locked, 2: locked and waited for. The upper bits are the ceiling of a priority-protected one.
    // Source: <https://sourceware.org/git/?p=glibc.git;a=blob;f=sysdeps/nptl/lowlevellock.h;hb=glibc-2.36#l28>
    let state = if kind & GLIBC_PROTECT != 0 { word & 3 } else { word };
    // The holder writes its id after it has got the lock and clears it before it releases it.
    let release = if matches!(kind & GLIBC_TYPE, 1 | 2) { Release::Owner } else { Release::Anyone };
    if matches!(state, 1 | 2) { by(owner, shared, release) } else { None }
}

fn glibc_rwlock(wait: &FutexWait, memory: &FutexMemory) -> Option<Held> {
    // Which of its words is waited on is told by where it lies and by the value that is waited with.
    let begin = match wait.word % 8 {
        4 => -RWLOCK_WRITERS_FUTEX,
        0 if wait.value < RWLOCK_READERS_WAIT => -RWLOCK_WRPHASE_FUTEX,
        0 if wait.value & RWLOCK_READERS_WAIT != 0 => 0,
        _ => return None,
    };
    let readers = memory.u32_at(begin)?;
    memory.u32_at(begin + RWLOCK_KIND).filter(|kind| *kind <= 2)?;
    let locked_for_write = RWLOCK_WRITE_PHASE | RWLOCK_WRITE_LOCKED;
    if readers & locked_for_write == locked_for_write {
        // Its id is written after it has got the lock and cleared before it releases it.
        let shared = memory.u32_at(begin + RWLOCK_WRITER + 4)? != 0;
        return by(memory.u32_at(begin + RWLOCK_WRITER)?, shared, Release::Owner);
    }
    let count = readers >> RWLOCK_READER;
    (readers & RWLOCK_WRITE_PHASE == 0 && (1..=MAX_TID).contains(&count)).then_some(Held::Readers(count))
}

fn musl_mutex(memory: &FutexMemory) -> Option<Held> {
    let kind = memory.u32_at(MUSL_MUTEX_TYPE).filter(|kind| kind & !MUSL_KINDS == 0)?;
    // A normal one keeps `EBUSY` instead of an id.
    if kind & 15 == 0 {
        return Some(Held::NotRecorded);
    }
    let held = kernel(memory.u32_at(0)?, kind & 128 == 0)?;
    match held {
        // It keeps the owner as the kernel does, but only robust and PI ones are known to it.
        Held::By { tid, shared, .. } if kind & 12 == 0 => by(tid, shared, Release::Owner),
        held => Some(held),
    }
}

fn musl_rwlock(memory: &FutexMemory) -> Option<Held> {
    match memory.u32_at(0)? & MUSL_WRITER {
        0 => None,
        MUSL_WRITER => Some(Held::NotRecorded),
        readers => (readers <= MAX_TID).then_some(Held::Readers(readers)),
    }
}

fn musl_join(memory: &FutexMemory) -> Option<Held> {
    memory.u32_at(0).filter(|state| *state == MUSL_JOINABLE)?;
    memory.u32_at(MUSL_TID).filter(|tid| is_tid(*tid)).map(Held::Join)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn wait(holder: Holder, word: u64, value: u32, before: &[u32], from: &[u32]) -> FutexWait {
        let bytes = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let memory = FutexMemory { before: bytes(before), from: bytes(from), is_thread_id: false };
        let primitive = Some(Primitive { name: "mutex", holder });
        FutexWait { memory: Some(Arc::new(memory)), primitive, ..FutexWait::new(word, Some(0), value) }
    }

    fn mutex(word: u32, owner: u32, kind: u32) -> Held {
        held(&wait(Holder::GlibcMutex, 0x1000, 2, &[], &[word, 1, owner, 1, kind]))
    }

    #[test]
    fn glibc_mutexes() {
        let by = |release| Held::By { tid: 77, shared: false, release };
        assert_eq!(mutex(2, 77, 0), by(Release::Anyone));
        assert_eq!(mutex(2, 77, 3), by(Release::Anyone), "adaptive");
        assert_eq!(mutex(2, 77, 1), by(Release::Owner), "recursive");
        assert_eq!(mutex(2, 77, 2), by(Release::Owner), "error-checking");
        assert_eq!(mutex(2, 77, 0x100), by(Release::Anyone));
        assert_eq!(mutex(2, 77, 128), Held::By { tid: 77, shared: true, release: Release::Anyone });
        assert_eq!(mutex(0x8000_004d, 77, 16), by(Release::Kernel), "robust");
        assert_eq!(mutex(0x8000_004d, 77, 33), by(Release::Kernel), "recursive PI");
        assert_eq!(mutex(0xc000_0000, 0, 16), Held::OwnerDied);
        assert_eq!(mutex((5 << 19) | 2, 77, 64), by(Release::Anyone), "priority ceiling");
        // Being released or taken, free, and what is no mutex at all.
        for (word, owner, kind) in [(2, 0, 0), (0, 77, 0), (3, 77, 0), (2, 77, 4), (2, 77, 0x400), (2, MAX_TID + 1, 0)]
        {
            assert_eq!(mutex(word, owner, kind), Held::Unknown, "{word} {owner} {kind}");
        }
        assert_eq!(held(&wait(Holder::GlibcMutex, 0x1000, 2, &[], &[2, 1, 77, 1])), Held::Unknown, "cut short");
    }

    #[test]
    fn glibc_rwlocks_from_each_of_their_words() {
        // Readers word, writers, the two futexes, two of padding, the writer, shared, elision …, kind.
        let lock = |readers: u32, writer: u32| [readers, 1, 3, 3, 0, 0, writer, 0, 0, 0, 0, 0, 0, 0];
        let at = |begin: usize, value: u32, words: &[u32]| {
            let (before, from) = words.split_at(begin);
            held(&wait(Holder::GlibcRwlock, 0x1000 + 4 * begin as u64, value, before, from))
        };
        let by = Held::By { tid: 77, shared: false, release: Release::Owner };
        for (begin, value) in [(2, 3), (3, 3), (0, 7)] {
            assert_eq!(at(begin, value, &lock(3, 77)), by, "from word {begin}");
            assert_eq!(at(begin, value, &lock(2 | 3 << 3, 0)), Held::Readers(3), "from word {begin}");
            assert_eq!(at(begin, value, &lock(3, 0)), Held::Unknown, "being taken");
            let mut other = lock(3, 77);
            other[12] = 9;
            assert_eq!(at(begin, value, &other), Held::Unknown, "no rwlock");
        }
    }

    #[test]
    fn musl_locks() {
        let mutex = |kind, word| held(&wait(Holder::MuslMutex, 0x1004, 0, &[kind], &[word]));
        assert_eq!(mutex(128, 0x8000_0010), Held::NotRecorded);
        let by = |release| Held::By { tid: 77, shared: false, release };
        assert_eq!(mutex(129, 0x8000_004d), by(Release::Owner));
        assert_eq!((mutex(132, 0x8000_004d), mutex(136, 77)), (by(Release::Kernel), by(Release::Kernel)));
        assert_eq!(mutex(0x40, 77), Held::Unknown);
        let rwlock = |word| held(&wait(Holder::MuslRwlock, 0x1000, 0, &[], &[word]));
        assert_eq!(
            (rwlock(0xffff_ffff), rwlock(0x8000_0002), rwlock(0)),
            (Held::NotRecorded, Held::Readers(2), Held::Unknown)
        );
        assert_eq!(held(&wait(Holder::MuslJoin, 0x1008, 2, &[77, 0], &[2])), Held::Join(77));
        assert_eq!(held(&wait(Holder::MuslJoin, 0x1008, 2, &[77, 0], &[0])), Held::Unknown);
    }

    #[test]
    fn joins_and_the_kernels_locks() {
        assert_eq!(held(&wait(Holder::GlibcJoin, 0x12d0, 77, &[], &[77])), Held::Join(77));
        assert_eq!(held(&wait(Holder::GlibcJoin, 0x12d0, 77, &[], &[0])), Held::Unknown, "it has just exited");
        let by = Held::By { tid: 77, shared: false, release: Release::Kernel };
        assert_eq!(held(&wait(Holder::Kernel, 0x1000, 0, &[], &[0x8000_004d])), by);
        assert_eq!(held(&wait(Holder::NotRecorded, 0x1000, 0, &[], &[2])), Held::NotRecorded);
    }

    #[test]
    fn a_lock_that_the_kernel_waits_for_is_released_by_the_kernel() {
        let mut wait = wait(Holder::GlibcMutex, 0x1000, 0, &[], &[2, 1, 77, 1, 0]);
        wait.command = Some(6);
        assert_eq!(held(&wait), Held::By { tid: 77, shared: false, release: Release::Kernel });
    }

    #[test]
    fn a_thread_that_waits_on_its_own_stack_is_parked_for_good() {
        let parked = |holder| FutexWait { on_own_stack: true, ..wait(holder, 0x7f00_0000, 0, &[], &[0]) };
        for holder in [Holder::GlibcMutex, Holder::MuslMutex] {
            assert_eq!(held(&parked(holder)), Held::NoOne);
            for other in [
                FutexWait { timed: true, ..parked(holder) },
                FutexWait { on_own_stack: false, ..parked(holder) },
                FutexWait { value: 2, ..parked(holder) },
                FutexWait { command: Some(6), ..parked(holder) },
                FutexWait { on_own_stack: true, ..wait(holder, 0x7f00_0000, 0, &[], &[1]) },
            ] {
                assert_ne!(held(&other), Held::NoOne, "{other:?}");
            }
        }
        assert_eq!(held(&parked(Holder::Nobody)), Held::Unknown, "a condition variable");
    }

    proptest! {
        #[test]
        fn whatever_memory_holds_is_no_id_beyond_the_largest(
            words in proptest::collection::vec(any::<u32>(), 0..32), begin in 0usize..32, value in any::<u32>(), at in any::<u64>(),
        ) {
            let (before, from) = words.split_at(begin.min(words.len()));
            for holder in [
                Holder::Nobody, Holder::NotRecorded, Holder::GlibcMutex, Holder::GlibcRwlock, Holder::GlibcJoin,
                Holder::MuslMutex, Holder::MuslRwlock, Holder::MuslJoin, Holder::Kernel,
            ] {
                match held(&wait(holder, at, value, before, from)) {
                    Held::By { tid, .. } | Held::Join(tid) => prop_assert!((1..=MAX_TID).contains(&tid)),
                    Held::Readers(count) => prop_assert!((1..=MAX_TID).contains(&count)),
                    Held::OwnerDied | Held::NotRecorded | Held::NoOne | Held::Unknown => {}
                }
            }
        }
    }
}
