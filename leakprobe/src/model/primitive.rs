//! What a futex is a part of: a mutex, a condition variable, a join, …

/// A synchronisation primitive, as far as it matters to who waits on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Primitive {
    /// What reports call it; empty if it is not known.
    pub name: &'static str,
    /// Where in memory it says who holds it.
    pub holder: Holder,
}

/// Where a primitive says who holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// It is nothing that is held, or it is not known what it is.
    Nobody,
    /// It is held, but does not say by whom.
    NotRecorded,
    /// As glibc's `pthread_mutex_t`, whose first word is the futex.
    GlibcMutex,
    /// As glibc's `pthread_rwlock_t`, of which several words are futexes.
    GlibcRwlock,
    /// The futex is the id of the thread that is joined.
    GlibcJoin,
    /// As musl's `pthread_mutex_t`, whose second word is the futex.
    MuslMutex,
    /// As musl's `pthread_rwlock_t`, whose first word is the futex.
    MuslRwlock,
    /// The futex is the state of the thread that is joined, in musl's descriptor of it.
    MuslJoin,
    /// The futex is the kernel's own kind of lock, with the holder's id in it.
    Kernel,
}

impl Primitive {
    /// Nobody knows what it is.
    pub const UNKNOWN: Self = Self { name: "", holder: Holder::Nobody };
}
