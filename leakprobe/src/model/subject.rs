//! What a system call is about, as far as its arguments tell: what to ask the kernel for to say what is waited on.

/// What a blocked system call was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Nothing that the kernel knows more of.
    #[default]
    None,
    /// A descriptor.
    Fd {
        /// Its number.
        fd: i32,
        /// What is wanted of it.
        access: Access,
    },
    /// Two descriptors, from one to the other.
    Copy {
        /// Where from.
        from: i32,
        /// Where to.
        to: i32,
    },
    /// Any of several descriptors.
    Poll {
        /// The first of them.
        fds: Vec<i32>,
        /// How many there are.
        total: u64,
    },
    /// A lock on the file of a descriptor.
    Lock {
        /// Its number.
        fd: i32,
    },
    /// The end of a child process.
    Child(Children),
    /// That a child, which runs in the caller's memory, ends or begins another program (vfork).
    Vfork,
    /// That a tracer lets it go on.
    Tracer,
}

/// What is wanted of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// To take something out of it: what was sent to it, a connection.
    Read,
    /// To put something in, or to be connected for that.
    Write,
    /// Something else, or any of both.
    Other,
}

/// Which children are waited for; ids are those of the caller's own pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Children {
    /// Any.
    Any,
    /// The one with this process id.
    One(i32),
    /// Any of this process group; 0 is the caller's own.
    Group(i32),
    /// That of this pidfd.
    Pidfd(i32),
}
