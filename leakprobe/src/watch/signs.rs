//! Signs of tasks that are not read, looked for while the target runs: what was there once is reported at the end.

use std::time::{Duration, Instant};

use crate::{
    analysis::Signs,
    jvm,
    snapshot::{Engine, wakes_itself},
};

/// Of the time between two looks, the part that looking may take: 1 in so many.
const SHARE: u32 = 500;
/// The least time between two looks.
const LEAST: Duration = Duration::from_secs(1);

/// What a session knows of such signs.
#[derive(Default)]
pub(super) struct Look {
    known: Signs,
    /// Not before this moment again, unless somebody wants to know.
    next: Option<Instant>,
}

impl Look {
    /// Looks, unless it is too early.
    pub(super) fn now_and_then(&mut self, engine: &mut Engine, jvm: &mut jvm::Finder) {
        if self.next.is_none_or(|next| Instant::now() >= next) {
            self.now(engine, jvm);
        }
    }

    /// Looks, and returns all that was found since the target began its program.
    pub(super) fn now(&mut self, engine: &mut Engine, jvm: &mut jvm::Finder) -> Signs {
        let began = Instant::now();
        let modules = engine.modules();
        self.known.files = modules.mapped_files().map(|file| file.path.to_owned()).collect();
        if !self.known.java_virtual_threads {
            self.known.java_virtual_threads = jvm.has_virtual_threads(modules);
        }
        if !self.known.python_event_loop && self.known.files.iter().any(|path| is_python(path)) {
            self.known.python_event_loop = modules.find_reader().is_some_and(wakes_itself);
        }
        let took = began.elapsed();
        self.next = Instant::now().checked_add(took.saturating_mul(SHARE).max(LEAST));
        self.known.clone()
    }
}

/// Whether a file is CPython: `python3.11`, `libpython3.11.so.1.0`.
fn is_python(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let name = name.strip_prefix("lib").unwrap_or(name);
    name.strip_prefix("python").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) || rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_is_known_by_its_files() {
        for path in ["/usr/bin/python3.11", "/usr/lib/libpython3.11.so.1.0", "/opt/bin/python"] {
            assert!(is_python(path), "{path}");
        }
        for path in ["/usr/bin/python-helper", "/usr/lib/python3/x.so", "/usr/bin/perl", ""] {
            assert!(!is_python(path), "{path}");
        }
    }
}
