//! Folded stacks: `main;handle_request;pthread_cond_wait;[futex] 12`, one line a stack, as flame graph tools read them.

use std::io;

use super::{Options, Report, shown::Shown, stacks::Stacks};
use crate::model::Recording;

/// The `.folded` format.
pub(super) struct Folded;

impl Report for Folded {
    fn write(&self, recording: &Recording, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
        let stacks = Stacks::of(&Shown::of(recording, options), options);
        for stack in stacks.iter() {
            // Not as one text: it may be a large one.
            for (place, text) in stacks.texts(stack).enumerate() {
                write!(out, "{}{text}", if place > 0 { ";" } else { "" })?;
            }
            writeln!(out, " {}", stack.weight)?;
        }
        Ok(())
    }
}
