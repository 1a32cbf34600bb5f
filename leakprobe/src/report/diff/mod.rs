//! Two recordings side by side: what is parked in the second one and not in the first.

pub(super) mod folded;
mod json;

use std::{io, path::Path};

use super::{Error, Format, Options, evidence, files, html, shown::Shown, svg, txt, words};
use crate::{
    analysis::{Change, Diff, Outcome, Row, Side, diff},
    model::{Recording, Site},
};

pub use json::schema;

/// The formats in which a comparison can be written, in the order of help texts.
pub const FORMATS: &[Format] = &[Format::Svg, Format::Folded, Format::Json, Format::Txt, Format::Html];

/// Two recordings to compare.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The first one, and what it is called.
    pub before: (String, Recording),
    /// The second one.
    pub after: (String, Recording),
}

/// Two recordings, compared.
pub(super) struct Compared<'a> {
    pub(super) names: [String; 2],
    pub(super) before: &'a Shown<'a>,
    pub(super) after: &'a Shown<'a>,
    pub(super) diff: Diff<'a>,
}

impl Pair {
    /// What the comparison of what `options` show comes to.
    #[must_use]
    pub fn outcome(&self, options: &Options) -> Outcome {
        self.compared(options, |compared| compared.diff.outcome)
    }

    /// Writes the comparison in `format` to the file `path`, or to stdout if that is `-`.
    ///
    /// # Errors
    ///
    /// [`Error::Write`], as of any output; [`Error::NoDiff`] if `format` is none of [`FORMATS`].
    pub fn write_file(
        &self,
        format: Format,
        options: &Options,
        path: &Path,
        owner: Option<files::Owner>,
    ) -> Result<files::Written, Error> {
        check_format(format)?;
        let of = [&self.before.1, &self.after.1];
        super::write_within(format, &of, options, path, owner, |out| self.write(format, options, out))
    }

    /// Writes the comparison; nothing if there is no comparison in that format.
    pub(super) fn write(&self, format: Format, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
        self.compared(options, |compared| match format {
            Format::Svg => svg::write_diff(compared, options, out),
            Format::Folded => folded::write(compared, options, out),
            Format::Json => json::write(compared, out),
            Format::Txt => txt::write_diff(compared, options, out),
            Format::Html => html::write_diff(compared, options, out),
            _ => Ok(()),
        })
    }

    fn compared<T>(&self, options: &Options, use_it: impl FnOnce(&Compared<'_>) -> T) -> T {
        let (before, after) = (Shown::of(&self.before.1, options), Shown::of(&self.after.1, options));
        use_it(&Compared::of([&self.before.0, &self.after.0], &before, &after))
    }
}

/// Whether a comparison can be written in `format`.
///
/// # Errors
///
/// [`Error::NoDiff`] if not.
pub fn check_format(format: Format) -> Result<(), Error> {
    if FORMATS.contains(&format) { Ok(()) } else { Err(Error::NoDiff { format }) }
}

impl<'a> Compared<'a> {
    /// Compares what is shown of two recordings, which are called so.
    pub(super) fn of(names: [&str; 2], before: &'a Shown<'a>, after: &'a Shown<'a>) -> Self {
        let side = |shown: &'a Shown<'a>| Side { recording: shown.recording, sites: shown.sites.clone() };
        Self { names: names.map(words::harmless), before, after, diff: diff(&side(before), &side(after)) }
    }

    /// The site of a row as the second recording has it, or else the first, and what is shown of that recording.
    pub(super) fn place_of(&self, row: &Row<'a>) -> Option<(&'a Shown<'a>, &'a Site)> {
        let after = row.is.map(|site| (self.after, site));
        after.or_else(|| row.was.map(|site| (self.before, site)))
    }

    /// The one sentence that matters, without a full stop.
    pub(super) fn sentence(&self) -> String {
        let diff = &self.diff;
        let noun = evidence::noun(self.after);
        let at = |change: &[Change]| {
            let sites = change.iter().map(|&change| diff.sites(change) as u64).sum();
            words::count(sites, "site")
        };
        match diff.outcome {
            Outcome::More => {
                let more = words::count(diff.more(), &format!("more {noun}"));
                format!("{more} parked, at {}", at(&[Change::New, Change::Grown]))
            }
            Outcome::NoMore => format!("at no site are more {noun}s parked than before"),
            Outcome::Incomplete if diff.more() > 0 => {
                let more = words::count(diff.more(), &format!("more {noun}"));
                format!(
                    "{more} seen parked, at {}, but what was seen does not tell that there are more",
                    at(&[Change::New, Change::Grown])
                )
            }
            Outcome::Incomplete => format!("it cannot be told whether more {noun}s are parked"),
        }
    }

    /// What is fewer, in words; empty if nothing is.
    pub(super) fn fewer(&self) -> String {
        let sites = self.diff.sites(Change::Fewer) + self.diff.sites(Change::Gone);
        match self.diff.fewer() {
            0 => String::new(),
            fewer => format!("{} fewer, at {}", words::thousands(fewer), words::count(sites as u64, "site")),
        }
    }
}

#[cfg(test)]
mod tests;
