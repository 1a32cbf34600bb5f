//! The process that is watched: its identity, its memory, its mappings, its modules.

mod answers;
pub mod budget;
mod careful;
mod clock;
pub mod containers;
pub(crate) mod descriptors;
pub mod elf;
pub mod exec;
mod family;
pub(crate) mod file;
mod filesystems;
mod find;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod groups;
mod identity;
pub(crate) mod inflate;
mod lock_owners;
mod mappers;
mod maps;
mod memory;
mod modules;
mod namespace;
mod own;
mod root;
mod silent;
mod stat;
mod status;

pub use budget::Budget;
pub(crate) use clock::clock_ns;
pub use family::{children, descendants, processes};
pub(crate) use filesystems::{Filesystems, Served};
pub use find::Pattern;
pub use groups::{containers_that_run, group_path};
pub(crate) use identity::pidfd_open;
pub use identity::{Target, TargetError};
pub use lock_owners::LockOwners;
pub(crate) use maps::kinds_at;
pub use memory::{Memory, Piece, ProcessMemory};
pub(crate) use modules::can_copy_mapped;
pub use modules::{
    COPY_MAPPED, Code, Located, MappedFile, MappedPlace, Module, ModuleId, ModuleSource, Modules, Placed, copy_mapped,
    has_memory,
};
pub use namespace::{Namespace, own_thread_ids};
pub use own::OwnMemory;
pub use root::{Root, RootId, open_regular};
pub use silent::silent_processes;
pub(crate) use silent::{answers, is_silent, keeps_waiting};
pub use stat::Stat;
pub use status::Status;

/// A small file of `/proc`, whose length others decide: a thread may be in any number of groups.
fn proc_file(path: impl AsRef<std::path::Path>) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Most bytes that are read of such a file.
const MOST_BYTES: u64 = 1 << 20;
