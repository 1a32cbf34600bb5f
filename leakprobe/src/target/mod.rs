//! The process that is watched: its identity, its mappings, its modules.

pub mod elf;
mod find;
mod identity;
mod maps;
mod modules;
mod root;

pub use find::Pattern;
pub use identity::{Target, TargetError};
pub use modules::{
    Code, Located, MappedFile, MappedPlace, Module, ModuleId, ModuleSource, Modules, Placed, has_memory,
};
pub use root::{Root, open_regular};
