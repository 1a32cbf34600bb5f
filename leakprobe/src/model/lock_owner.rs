//! What `/proc` says of the owner that a lock names. What follows from it is for `analysis` to say.

/// What a lock names as its owner: an id in the owner's own pid namespace, and where the lock's futex word lies in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerClaim {
    /// The futex word's address.
    pub word: u64,
    /// The owner's thread id.
    pub id: u32,
}

/// A file or other object that processes map, as `/proc/PID/maps` names it. Anonymous shared memory is one, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectId {
    /// Major and minor number.
    pub device: (u32, u32),
    /// The inode.
    pub inode: u64,
}

/// Whose memory a lock lies in. It decides who can release it, whatever the lock's kind says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockMemory {
    /// The process's own: nothing but its threads can reach it.
    Own,
    /// That of an object, which other processes may map.
    Shared(ObjectId),
}

/// A thread of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerThread {
    /// Its id.
    pub tid: u32,
    /// Its process's id.
    pub process: u32,
    /// Its name.
    pub name: String,
}

/// The living thread that has the named id in the target's pid namespace, and knows itself by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ById {
    /// There is none.
    None,
    /// It could not be looked up.
    #[default]
    Unknown,
    /// A thread of the target.
    OfTarget,
    /// A thread of another process.
    OfOther {
        /// The thread.
        thread: OwnerThread,
        /// Whether it can reach the lock: its process maps the object, or has the very address space. `None` if that could not be
        /// found out.
        reaches: Option<bool>,
    },
}

/// The processes other than the target that map the object in which a lock lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherMappers {
    /// How many.
    pub count: u64,
    /// Those of their threads that know themselves by the named id.
    pub named: Vec<OwnerThread>,
    /// Whether every process was looked at.
    pub complete: bool,
}

/// All that was found of one [`OwnerClaim`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerFacts {
    /// Whose memory the lock lies in; `None` if it was not found.
    pub memory: Option<LockMemory>,
    /// Whoever has the id.
    pub by_id: ById,
    /// Who else maps the object; `None` if nobody was looked for.
    pub others: Option<OtherMappers>,
    /// Whether the target was forked and has begun no program since: what its parent held at that moment its first thread may
    /// release.
    pub is_forked: bool,
}
