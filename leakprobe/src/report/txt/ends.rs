//! Who could end the waits of a site from the other end of what is waited on.

use std::io;

use super::Page;
use crate::{model::Task, report::ends};

/// Different answers that are told.
const MAX_TOLD: usize = 3;

impl Page<'_> {
    /// The other ends of what the tasks of a site wait on, those of most tasks first.
    pub(super) fn other_ends(&mut self, tasks: &[&Task]) -> io::Result<()> {
        for ends::Ends { label, mut named } in ends::other_ends(tasks) {
            let more = named.len().saturating_sub(MAX_TOLD);
            named.truncate(MAX_TOLD);
            self.list(label, named, more)?;
        }
        Ok(())
    }
}
