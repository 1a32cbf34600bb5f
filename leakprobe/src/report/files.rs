//! Puts an output where the user wants it: a whole file or none, and theirs.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::{FileTypeExt, PermissionsExt, fchown},
    path::Path,
};

use super::Error;

/// Who is to own output files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id, as in `SUDO_UID`.
    pub uid: u32,
    /// Group id, as in `SUDO_GID`.
    pub gid: u32,
}

/// How far an output got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// All of it.
    Whole,
    /// The reader of stdout or of a pipe closed it: it has seen what it wanted to see, which is no error.
    UntilReaderLeft,
}

/// Writes what `render` writes to the file `path`, or to stdout if that is `-`.
///
/// The file appears only when it is complete: it is written under a temporary name in the same directory, which needs write
/// permission there, and then renamed over what was at `path`. Its mode is that of any new file under the present umask. If we
/// are root it is given to `owner`. Devices, pipes and what lies in `/dev` or `/proc` are written in place.
///
/// # Errors
///
/// [`Error::Write`]; then `path` is as it was, and nothing else was left behind.
pub fn write(
    path: &Path,
    owner: Option<Owner>,
    render: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Written, Error> {
    let result = if path == Path::new("-") {
        stream(&mut io::stdout().lock(), render)
    } else if is_written_in_place(path) {
        OpenOptions::new().append(true).open(path).and_then(|mut file| stream(&mut file, render))
    } else {
        replace(path, owner, render).map(|()| Written::Whole)
    };
    result.map_err(|source| Error::Write { path: path.into(), source })
}

/// Writes to something that has a reader, who may leave.
fn stream(out: &mut dyn Write, render: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<Written> {
    let mut out = BufWriter::new(out);
    let result = render(&mut out).and_then(|()| out.flush());
    // What is still buffered has failed once; dropping the writer would try again.
    drop(out.into_parts());
    match result {
        Ok(()) => Ok(Written::Whole),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Written::UntilReaderLeft),
        Err(error) => Err(error),
    }
}

/// Whether renaming a file over `path` would destroy more than a file: as root it would even replace `/dev/null`.
fn is_written_in_place(path: &Path) -> bool {
    let Ok(target) = fs::metadata(path) else {
        return false;
    };
    let kind = target.file_type();
    if kind.is_char_device() || kind.is_block_device() || kind.is_fifo() || kind.is_socket() {
        return true;
    }
    // `/dev/stdout` and `/proc/self/fd/1` are links to wherever stdout goes, which may be a plain file.
    let is_link = path.is_symlink();
    let directory = directory_of(path).canonicalize();
    is_link && directory.is_ok_and(|dir| dir.starts_with("/dev") || dir.starts_with("/proc"))
}

/// Writes a new file and puts it in the place of `path`. A link at `path` is replaced, not followed: in a directory that
/// others can write to, it could lead root anywhere.
fn replace(path: &Path, owner: Option<Owner>, render: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    // Renaming would say so too, but only after all the work.
    if path.is_dir() || path.file_name().is_none() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let file = tempfile::Builder::new()
        .prefix(".leakprobe-")
        .suffix(".tmp")
        // The umask is taken off this, as for any new file.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory_of(path))?;
    let mut out = BufWriter::new(file);
    render(&mut out)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    if let Some(owner) = owner.filter(|_| nix::unistd::geteuid().is_root()) {
        fchown(file.as_file(), Some(owner.uid), Some(owner.gid))?;
    }
    // File systems that allocate late tell only now that they are full.
    file.as_file().sync_data()?;
    file.persist(path)?;
    Ok(())
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn names_in(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn hello(out: &mut dyn Write) -> io::Result<()> {
        out.write_all(b"hello")
    }

    #[test]
    fn a_file_is_replaced_and_has_the_mode_of_a_plain_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.svg");
        fs::write(&path, "old and longer").unwrap();
        assert_eq!(write(&path, None, hello).unwrap(), Written::Whole);
        assert_eq!(fs::read_to_string(&path).unwrap(), "hello");

        let plain = dir.path().join("plain");
        fs::write(&plain, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode();
        assert_eq!(mode(&path), mode(&plain));
        assert_eq!(names_in(dir.path()), ["plain", "x.svg"]);
    }

    #[test]
    fn a_failure_leaves_everything_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.svg");
        fs::write(&path, "old").unwrap();
        let error = write(&path, None, |out| {
            out.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        let error = error.unwrap_err().to_string();
        let sentence = "no space is left in";
        assert!(error.contains(sentence), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names_in(dir.path()), ["x.svg"]);
    }

    #[test]
    fn places_that_cannot_be_written_are_told_in_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let mut errors = String::new();
        for path in ["missing/x.svg", "file/x.svg", "", "file/.."] {
            let error = write(&dir.path().join(path), None, hello).unwrap_err();
            let place = dir.path().display().to_string();
            errors += &format!("{error}\n").replace(&place, "DIR");
        }
        insta::assert_snapshot!(errors);
        assert_eq!(names_in(dir.path()), ["file"]);
    }

    #[test]
    fn root_gives_the_file_away() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        let owner = Owner { uid: 1234, gid: 56 };
        assert_eq!(write(&path, Some(owner), hello).unwrap(), Written::Whole);
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid()), (1234, 56));
    }

    #[test]
    fn devices_and_links_to_descriptors_are_not_replaced() {
        assert!(is_written_in_place(Path::new("/dev/null")));
        assert_eq!(write(Path::new("/dev/null"), None, hello).unwrap(), Written::Whole);
        let full = write(Path::new("/dev/full"), None, hello).unwrap_err();
        assert!(full.to_string().contains("no space is left"), "{full}");
        assert!(fs::metadata("/dev/full").unwrap().file_type().is_char_device());

        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        let link = dir.path().join("link");
        fs::write(&target, "old").unwrap();
        symlink(&target, &link).unwrap();
        assert!(!is_written_in_place(&link));
        assert_eq!(write(&link, None, hello).unwrap(), Written::Whole);
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        assert!(!link.is_symlink());

        let file = fs::File::open(&target).unwrap();
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
        let link = format!("/proc/self/fd/{descriptor}");
        assert!(is_written_in_place(Path::new(&link)));
    }

    #[test]
    fn a_reader_who_leaves_is_no_error() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert_eq!(stream(&mut Closed, hello).unwrap(), Written::UntilReaderLeft);
    }
}
