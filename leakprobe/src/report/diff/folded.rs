//! Folded stacks with two numbers, before and after: `main;f;[futex] 3 12`, as `difffolded.pl` and inferno's `diff-folded` write
//! them.

use std::{collections::BTreeMap, io};

use super::Compared;
use crate::report::{Options, shown::Shown, stacks::Stacks};

/// The stacks of both, with their weights before and after; sorted.
pub(in crate::report) fn stacks(compared: &Compared<'_>, options: &Options) -> BTreeMap<String, [u64; 2]> {
    let mut both: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    let mut add = |shown: &Shown<'_>, which: usize| {
        let stacks = Stacks::of(shown, options);
        for stack in stacks.iter() {
            let texts: Vec<&str> = stacks.texts(stack).collect();
            if let Some(weight) = both.entry(texts.join(";")).or_default().get_mut(which) {
                *weight = weight.saturating_add(stack.weight);
            }
        }
    };
    add(compared.before, 0);
    add(compared.after, 1);
    both
}

pub(super) fn write(compared: &Compared<'_>, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
    for (stack, [before, after]) in stacks(compared, options) {
        writeln!(out, "{stack} {before} {after}")?;
    }
    Ok(())
}
