//! HotSpot's table of structures.

use std::{fs::File, io::Write, sync::Arc};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::classes::Classes;
use crate::{
    fuzzing::Flat,
    target::{Budget, MappedFile, budget::Limits},
};

/// Reads the table of a JVM whose library has these bytes, in the file as in memory.
pub(crate) fn hotspot(data: &[u8]) {
    let Ok(file) = memfd_create("library", MFdFlags::MFD_CLOEXEC).map(File::from) else { return };
    if (&file).write_all(data).is_err() {
        return;
    }
    let (handle, budget) = (Arc::new(file), Budget::new(Limits::of_memory(1 << 30)));
    let file = MappedFile { path: "/libjvm.so".to_owned(), handle, start: 0, offset: 0, budget };
    let memory = Flat { start: 0, bytes: data };
    if let Ok(classes) = Classes::of(&file, &memory) {
        let _ = classes.is_initialized("java/lang/VirtualThread", &memory);
    }
}
