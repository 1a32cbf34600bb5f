//! Puts an output where the user wants it: a whole file or none, and theirs. All outputs go through here, and all inputs that the
//! user names: with the rights of the caller, and none that leakprobe has for looking at processes.

mod pending;
mod place;

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, BufWriter, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::fchown,
    },
    path::Path,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, linkat, open, openat},
    io::Errno,
};

use super::Error;
use crate::privilege;
use pending::Pending;
pub use pending::remove as remove_temporary;
use place::{Missing, Place, Refused, Trust};

/// Who is to own output files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id, as in `SUDO_UID`.
    pub uid: u32,
    /// Group id, as in `SUDO_GID`.
    pub gid: u32,
}

/// Whose an output is, and for whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The user who called us by sudo; they get the file if we are root.
    pub owner: Option<Owner>,
    /// Whether only its owner may read the file: mode 0600. If not, the mode is that of any new file under the present umask.
    pub private: bool,
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
/// The file appears only when it is complete: it is written without a name, or under a temporary one in the same directory, which
/// needs write permission there, and then renamed over what was at `path`. If that was a link, the link is replaced. Character
/// devices and FIFOs with a reader are written in place, and so are descriptors that we were started with, as `/dev/fd/3`; block
/// devices never are. A link on the way that another user may have put there is not followed.
///
/// # Errors
///
/// [`Error::Write`]; then `path` is as it was, and nothing else was left behind.
pub fn write(
    path: &Path,
    access: Access,
    render: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Written, Error> {
    let _rights = privilege::for_files();
    let result = Place::find(path, &Trust::of(access.owner)).and_then(|place| match place {
        Place::Descriptor(descriptor) => {
            io::stdout().flush()?;
            stream(&mut Patient(File::from(descriptor)), render)
        }
        Place::Special(handle, kind) => stream(&mut Patient(open_in_place(&handle, kind)?), render),
        Place::Name { directory, name, .. } => {
            put(&directory, &name, access, Put { replaces: true, unnamed: true }, render).map(|()| Written::Whole)
        }
    });
    result.map_err(|source| Error::Write { path: path.into(), source })
}

/// As [`write()`], but only where nothing is yet: what somebody has under that name is neither replaced nor written to.
///
/// # Errors
///
/// [`Error::Write`]; its source is [`io::ErrorKind::AlreadyExists`] if there is something, of whatever kind.
pub fn create(path: &Path, access: Access, render: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let _rights = privilege::for_files();
    let created = Place::find(path, &Trust::of(access.owner)).and_then(|place| match place {
        Place::Name { directory, name, what: None } => {
            put(&directory, &name, access, Put { replaces: false, unnamed: true }, render)
        }
        _ => Err(io::ErrorKind::AlreadyExists.into()),
    });
    created.map_err(|source| Error::Write { path: path.into(), source })
}

/// Whether a file under that name is one of a directory: no device, no FIFO, and no descriptor that we were started with.
#[must_use]
pub fn is_in_directory(path: &Path, owner: Option<Owner>) -> bool {
    let _rights = privilege::for_files();
    matches!(Place::find(path, &Trust::of(owner)), Ok(Place::Name { .. }))
}

/// Finds out before any work whether there is a place `path` that could be written to. Nothing is opened or created.
///
/// # Errors
///
/// [`Error::Write`].
pub fn check(path: &Path, owner: Option<Owner>) -> Result<(), Error> {
    let _rights = privilege::for_files();
    let found = Place::find(path, &Trust::of(owner)).and_then(|place| place.may_be_written());
    found.map_err(|source| Error::Write { path: path.into(), source })
}

/// The same for a name that was not given by the user: it must be that of a file, or of a link, which is replaced, and the user who
/// called sudo must be allowed to create it by themselves.
///
/// # Errors
///
/// [`Error::Write`].
pub fn check_default(path: &Path, owner: Option<Owner>) -> Result<(), Error> {
    let _rights = privilege::for_files();
    let find = || match Place::find(path, &Trust::of(owner))? {
        Place::Name { directory, .. } => match owner.filter(|_| nix::unistd::geteuid().is_root()) {
            Some(owner) if !place::may_create(&directory, owner)? => Err(Refused::NotForCaller(owner.uid).into()),
            _ => Ok(()),
        },
        _ => Err(Refused::NotRegular.into()),
    };
    find().map_err(|source| Error::Write { path: path.into(), source })
}

/// Adds to the end of a file, which is created if there is none. It must be a regular file with one name, and no link.
///
/// # Errors
///
/// [`Error::Write`].
pub fn append(path: &Path, access: Access, bytes: &[u8]) -> Result<(), Error> {
    let _rights = privilege::for_files();
    let add = || {
        let (directory, name, what) = match Place::find(path, &Trust::of(access.owner))? {
            Place::Name { directory, name, what } => (directory, name, what),
            Place::Descriptor(descriptor) => return Patient(File::from(descriptor)).write_all(bytes),
            Place::Special(handle, kind) => return Patient(open_in_place(&handle, kind)?).write_all(bytes),
        };
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
        let mut file = match what {
            None => {
                let file = openat(&directory, &name, flags | OFlags::CREATE | OFlags::EXCL, mode(access))?;
                give_away(File::from(file), access.owner)?
            }
            Some((_, FileType::Symlink)) => return Err(Refused::Link.into()),
            // A hard link is a file of another directory, which may be another's.
            Some((handle, _)) if fstat(&handle)?.st_nlink != 1 => return Err(Refused::ManyNames.into()),
            Some((handle, _)) => reopen(&handle, flags)?,
        };
        file.write_all(bytes)
    };
    add().map_err(|source| Error::Write { path: path.into(), source })
}

/// Creates a directory and those above it, as far as they are not there, for files that are to be written there. They are given to the
/// owner if we are root.
///
/// # Errors
///
/// [`Error::Write`].
pub fn create_directory(path: &Path, owner: Option<Owner>) -> Result<(), Error> {
    let _rights = privilege::for_files();
    let created = place::directory(path, &Trust::of(owner), Missing::Create(owner));
    let created = created.and_then(|directory| place::may_create_here(&directory));
    created.map_err(|source| Error::Write { path: path.into(), source })
}

/// Opens a file that is to be read. It must be a regular one, so that nothing is waited for that may never come, or a descriptor that
/// we were started with: `-` is stdin.
///
/// # Errors
///
/// What the system answers; a FIFO, socket or device is not opened.
pub fn open_input(path: &Path) -> io::Result<Box<dyn Read>> {
    let _rights = privilege::for_files();
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    if let Some(number) = place::own_descriptor(path) {
        return Ok(Box::new(File::from(place::duplicate(number)?)));
    }
    let handle = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&handle)?.st_mode) {
        FileType::RegularFile => Ok(Box::new(reopen(&handle, OFlags::RDONLY | OFlags::CLOEXEC)?)),
        FileType::Directory => Err(io::ErrorKind::IsADirectory.into()),
        _ => Err(Refused::NotRegular.into()),
    }
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

/// Opens what a handle stands for, whatever its name has come to mean since.
fn reopen(handle: &OwnedFd, flags: OFlags) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    Ok(open(path, flags, Mode::empty()).map(File::from)?)
}

/// Opens a character device or FIFO without waiting for whoever is at its other end.
fn open_in_place(handle: &OwnedFd, kind: FileType) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    reopen(handle, flags).map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) if kind == FileType::Fifo => Refused::NoReader.into(),
        _ => error,
    })
}

/// Waits where the other end is slow. Signals end us meanwhile as ever.
struct Patient(File);

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            match poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn mode(access: Access) -> Mode {
    // The umask is taken off this, as for any new file.
    Mode::from_raw_mode(if access.private { 0o600 } else { 0o666 })
}

fn give_away(file: File, owner: Option<Owner>) -> io::Result<File> {
    if let Some(owner) = owner.filter(|_| nix::unistd::geteuid().is_root()) {
        fchown(&file, Some(owner.uid), Some(owner.gid))?;
    }
    Ok(file)
}

/// How a new file gets its name.
#[derive(Clone, Copy)]
struct Put {
    /// Whether in the place of what has the name.
    replaces: bool,
    /// Whether it may be without a name until it is complete, where the file system can do that.
    unnamed: bool,
}

/// Writes a new file and gives it its `name`. A link is replaced, not followed: it could lead root anywhere.
fn put(
    directory: &OwnedFd,
    name: &OsStr,
    access: Access,
    how: Put,
    render: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let without_name = || match openat(directory, ".", flags | OFlags::TMPFILE, mode(access)) {
        Ok(file) => Ok(Some(file)),
        // What file systems and kernels answer that cannot.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL | Errno::NOSYS) => Ok(None),
        Err(error) => Err(error),
    };
    let (file, pending) = match how.unnamed.then(without_name).transpose()?.flatten() {
        Some(file) => (file, None),
        None => {
            let pending = Pending::new(directory)?;
            let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            (openat(directory, pending.name(), flags, mode(access))?, Some(pending))
        }
    };
    let mut out = BufWriter::new(File::from(file));
    let result = render(&mut out).and_then(|()| out.flush());
    // What is still buffered has failed once; dropping the writer would try again.
    let (file, _) = out.into_parts();
    result?;
    let file = give_away(file, access.owner)?;
    // File systems that allocate late tell only now that they are full.
    file.sync_data()?;
    let pending = match pending {
        Some(pending) => pending,
        None => {
            let pending = Pending::new(directory)?;
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            linkat(CWD, path, pending.directory(), pending.name(), AtFlags::SYMLINK_FOLLOW)?;
            pending
        }
    };
    pending.rename(name, how.replaces)
}

#[cfg(test)]
mod tests;
