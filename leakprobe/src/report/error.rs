//! What can go wrong when a report is written or a recording read: one sentence each.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{Format, diff, json};
use crate::model::SCHEMA;

/// Why a report was not written, or a recording not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The output's name does not tell its format.
    #[error("cannot tell the output format of {}: end its name with one of {}, or give --format", path.display(), extensions())]
    UnknownExtension {
        /// The output.
        path: PathBuf,
    },
    /// There is no such format.
    #[error("`{name}` is no output format: use one of {}", names())]
    UnknownFormat {
        /// What was given.
        name: String,
    },
    /// A comparison cannot be written in that format.
    #[error("a comparison cannot be written as {format}: use one of {}", diff_names())]
    NoDiff {
        /// The format.
        format: Format,
    },
    /// An output could not be written; nothing of it was left behind.
    #[error("cannot write {}: {}", shown(path), write_reason(path, source))]
    Write {
        /// The output.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Writing it would take too much memory; nothing was written.
    #[error(
        "cannot write {}: as {format} it would take more than {most_mib} MiB of memory; choose another format, or cut stacks by --max-depth",
        shown(path)
    )]
    TooMuchToRender {
        /// The output.
        path: PathBuf,
        /// Its format.
        format: Format,
        /// Most memory, MiB.
        most_mib: u64,
    },
    /// It would be too large a file; nothing was left behind.
    #[error(
        "cannot write {}: as {format} it would be larger than {most_mib} MiB; choose another format, or cut stacks by --max-depth",
        shown(path)
    )]
    OutputTooLarge {
        /// The output.
        path: PathBuf,
        /// Its format.
        format: Format,
        /// Largest size, MiB.
        most_mib: u64,
    },
    /// A site that is to be explained cannot be told.
    #[error("cannot explain the site `{id}`: {what}; give an id from the report, or its first digits")]
    NoSite {
        /// What was given.
        id: String,
        /// Why not.
        what: String,
    },
    /// A recording could not be read.
    #[error("cannot read the recording {}: {}", path.display(), read_reason(source))]
    Read {
        /// The recording.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A file is too large to be a recording.
    #[error("cannot read the recording {}: it is larger than {} MiB; record fewer threads, or check that it is the right file", path.display(), json::MAX_BYTES >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Many small things in a file, as no run records them, would fill memory.
    #[error("cannot read the recording {}: it takes more than 3 bytes of memory for each byte of the file, as no recording of leakprobe does; check that it is the right file", path.display())]
    TooMuchMemory {
        /// The file.
        path: PathBuf,
    },
    /// A file is not JSON, or ends in the middle.
    #[error("cannot read the recording {}: it is not valid JSON ({source}); give a file that leakprobe wrote with the extension .json", path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// Where it stops being JSON.
        source: serde_json::Error,
    },
    /// A file is JSON, but not a recording.
    #[error("cannot read the recording {}: it is JSON without `schema`, so not a recording; give a file that leakprobe wrote with the extension .json", path.display())]
    NotARecording {
        /// The file.
        path: PathBuf,
    },
    /// A recording of another version.
    #[error("cannot read the recording {}: its schema is `{found}`, and this version reads `{SCHEMA}`; use the leakprobe that made it", path.display())]
    OtherSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: String,
    },
    /// A recording that contradicts itself or lacks something.
    #[error("cannot read the recording {}: it is damaged ({what}); record it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl Error {
    /// Whether an output was refused for the memory or the size that it would take, and nothing else.
    #[must_use]
    pub const fn is_too_much(&self) -> bool {
        matches!(self, Self::TooMuchToRender { .. } | Self::OutputTooLarge { .. })
    }

    /// Whether something else has the name of an output that replaces nothing.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Write { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    }
}

fn names() -> String {
    let names: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
    names.join(", ")
}

fn diff_names() -> String {
    let names: Vec<&str> = diff::FORMATS.iter().map(|format| format.name()).collect();
    names.join(", ")
}

fn extensions() -> String {
    let extensions: Vec<String> = Format::ALL.iter().map(|format| format!(".{}", format.extension())).collect();
    extensions.join(", ")
}

/// How an output is called: `-` is how it is given, not what it is.
fn shown(path: &Path) -> std::borrow::Cow<'_, str> {
    if path == Path::new("-") { "to standard output".into() } else { path.to_string_lossy() }
}

/// Why `path` could not be written, and what to do about it.
fn write_reason(path: &Path, error: &io::Error) -> String {
    if path == Path::new("-") {
        return match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "no space is left where it leads; free some or give it another place".into()
            }
            _ => format!("{error}; give it another place"),
        };
    }
    let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new(".")).display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("the directory {directory} does not exist; create it or choose another")
        }
        io::ErrorKind::NotADirectory => {
            format!("{directory} is not a directory; choose another")
        }
        io::ErrorKind::IsADirectory => "it is a directory; give a file name".into(),
        io::ErrorKind::PermissionDenied => {
            format!("not permitted to write in {directory}; choose another directory")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("no space is left in {directory}; free some or choose another directory")
        }
        io::ErrorKind::FileTooLarge => {
            "it would be larger than files may be (RLIMIT_FSIZE); raise that limit, or choose a smaller format".into()
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("{directory} is on a read-only file system; choose another directory")
        }
        _ => format!("{error}; choose another place"),
    }
}

fn read_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file; check its name".into(),
        io::ErrorKind::IsADirectory => "it is a directory; give a file".into(),
        io::ErrorKind::PermissionDenied => "not permitted; run as the user that owns it, or with sudo".into(),
        _ => format!("{error}; check the file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_output_is_called_by_its_name() {
        let error = Error::Write { path: "-".into(), source: io::ErrorKind::StorageFull.into() };
        let expected =
            "cannot write to standard output: no space is left where it leads; free some or give it another place";
        assert_eq!(error.to_string(), expected);
    }
}
