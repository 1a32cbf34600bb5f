//! The process that is watched: its identity, its mappings, its modules.

pub mod containers;
pub mod elf;
pub mod exec;
mod family;
mod find;
mod groups;
mod identity;
mod maps;
mod modules;
mod namespace;
mod root;
mod stat;

pub use family::{children, descendants, processes};
pub use find::Pattern;
pub use groups::{containers_that_run, group_path};
pub use identity::{Target, TargetError};
pub use modules::{
    Code, Located, MappedFile, MappedPlace, Module, ModuleId, ModuleSource, Modules, Placed, has_memory,
};
pub use namespace::{Namespace, own_thread_ids};
pub use root::{Root, open_regular};
pub use stat::Stat;
