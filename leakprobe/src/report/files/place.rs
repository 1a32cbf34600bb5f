//! Where an output goes. We may be root, and the directory may be one that others write to: what is found there is decided upon
//! by a handle on the thing itself, and a link that another user could have put there is never followed.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, PROC_SUPER_MAGIC, Stat, Uid, accessat, chownat, fstat, fstatfs,
    mkdirat, openat, readlinkat, stat,
};

use super::Owner;

/// A handle on a thing, which is not opened by that.
const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = HANDLE.union(OFlags::DIRECTORY);
/// Most links that are followed on the way, as the kernel does.
const MOST_LINKS: u32 = 40;

/// Why a place is not written to, though it could be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("{} is a link of user {uid} in a directory that others write to, and is not followed", link.display())]
    ForeignLink { link: PathBuf, uid: u32 },
    #[error("it is a link in /dev; name what it leads to")]
    LinkInDev,
    #[error("it is a link")]
    Link,
    #[error("it has more than one name")]
    ManyNames,
    #[error("it is a block device")]
    BlockDevice,
    #[error("it is a socket")]
    Socket,
    #[error("it is a FIFO that has no reader")]
    NoReader,
    #[error("it is not a regular file")]
    NotRegular,
    #[error("leakprobe was started without a descriptor {0} that can be written to")]
    NoDescriptor(RawFd),
    #[error("user {0} may not write in the current directory; name another place with -o")]
    NotForCaller(u32),
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        Self::other(refused)
    }
}

/// Whose links are followed: those of root, of ourselves, and of the user who called sudo.
#[derive(Clone, Debug)]
pub(super) struct Trust(Vec<u32>);

impl Trust {
    pub(super) fn of(owner: Option<Owner>) -> Self {
        let own = nix::unistd::geteuid();
        let caller = owner.filter(|_| own.is_root()).map(|owner| owner.uid);
        Self([0, own.as_raw()].into_iter().chain(caller).collect())
    }

    /// Whether a link may be followed: its owner is trusted, or only trusted users could have put it into its directory. The
    /// kernel's own rule holds in sticky directories only, and may be off.
    /// Source: <https://docs.kernel.org/admin-guide/sysctl/fs.html#protected-symlinks>.
    fn follows(&self, directory: &Stat, link: &Stat) -> bool {
        let others = Mode::WGRP.union(Mode::WOTH);
        let is_closed = !Mode::from_raw_mode(directory.st_mode).intersects(others);
        self.0.contains(&link.st_uid) || (is_closed && self.0.contains(&directory.st_uid))
    }
}

/// What is to become of directories that are not there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Missing {
    Error,
    /// They are created; if we are root they are given to the owner.
    Create(Option<Owner>),
}

/// What is at the place of an output.
#[derive(Debug)]
pub(super) enum Place {
    /// One of the descriptors that we were started with.
    Descriptor(OwnedFd),
    /// A character device or FIFO, which is written in place, by a handle on it.
    Special(OwnedFd, FileType),
    /// A name in a directory: of a regular file, of a link, or of nothing yet.
    Name { directory: OwnedFd, name: OsString, what: Option<(OwnedFd, FileType)> },
}

impl Place {
    /// Finds out what is at `path`. Nothing is opened and nothing changed.
    pub(super) fn find(path: &Path, trust: &Trust) -> io::Result<Self> {
        if let Some(number) = own_descriptor(path) {
            return Ok(Self::Descriptor(duplicate(number)?));
        }
        let (Some(name), false) = (path.file_name(), path.as_os_str().as_bytes().ends_with(b"/")) else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        let directory = directory(directory_of(path), trust, Missing::Error)?;
        let name = name.to_owned();
        let found = match openat(&directory, &name, HANDLE, Mode::empty()) {
            Ok(found) => found,
            Err(rustix::io::Errno::NOENT) => return Ok(Self::Name { directory, name, what: None }),
            Err(error) => return Err(error.into()),
        };
        match FileType::from_raw_mode(fstat(&found)?.st_mode) {
            FileType::Directory => Err(io::ErrorKind::IsADirectory.into()),
            FileType::BlockDevice => Err(Refused::BlockDevice.into()),
            FileType::Socket => Err(Refused::Socket.into()),
            kind @ (FileType::CharacterDevice | FileType::Fifo) => Ok(Self::Special(found, kind)),
            // Others rely on these.
            FileType::Symlink if is_dev(&directory)? => Err(Refused::LinkInDev.into()),
            kind => Ok(Self::Name { directory, name, what: Some((found, kind)) }),
        }
    }

    /// Whether it could be written now with the rights that we have.
    pub(super) fn may_be_written(&self) -> io::Result<()> {
        match self {
            Self::Descriptor(_) => Ok(()),
            Self::Special(handle, _) => allowed(handle, Access::WRITE_OK),
            Self::Name { directory, .. } => may_create_here(directory),
        }
    }
}

/// Whether we may create files in a directory.
pub(super) fn may_create_here(directory: &OwnedFd) -> io::Result<()> {
    allowed(directory, Access::WRITE_OK.union(Access::EXEC_OK))
}

/// Whether our rights, and those of the file system, allow that. What the kernel cannot tell (before 5.8), or a sandbox hides, shows
/// when it is done.
fn allowed(handle: &OwnedFd, what: Access) -> io::Result<()> {
    match accessat(CWD, format!("/proc/self/fd/{}", handle.as_raw_fd()), what, AtFlags::EACCESS) {
        Err(refused @ (rustix::io::Errno::ACCESS | rustix::io::Errno::ROFS)) => Err(refused.into()),
        _ => Ok(()),
    }
}

pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A handle on a directory, which is reached component by component. Where we are is taken as it is.
pub(super) fn directory(path: &Path, trust: &Trust, missing: Missing) -> io::Result<OwnedFd> {
    let mut at = openat(CWD, ".", DIRECTORY, Mode::empty())?;
    let mut walked = PathBuf::new();
    let mut ahead = parts(path);
    let mut links = 0;
    while let Some(part) = ahead.pop() {
        walked.push(&part);
        let next = match openat(&at, &part, DIRECTORY, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => match missing {
                Missing::Create(owner) => create_directory(&at, &part, owner)?,
                Missing::Error => return Err(io::ErrorKind::NotFound.into()),
            },
            // That is what the kernel says of a link, too.
            Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
                let link = openat(&at, &part, HANDLE, Mode::empty())?;
                let about = fstat(&link)?;
                if FileType::from_raw_mode(about.st_mode) != FileType::Symlink {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
                if !trust.follows(&fstat(&at)?, &about) {
                    return Err(Refused::ForeignLink { link: walked, uid: about.st_uid }.into());
                }
                links += 1;
                if links > MOST_LINKS {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                if fstatfs(&at)?.f_type != PROC_SUPER_MAGIC {
                    let target = readlinkat(&link, "", Vec::new())?;
                    ahead.extend(parts(Path::new(OsStr::from_bytes(target.as_bytes()))));
                    walked.pop();
                    continue;
                }
                // Links in /proc lead to places and not along paths.
                openat(&at, &part, DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty())?
            }
            next => next?,
        };
        at = next;
    }
    Ok(at)
}

/// The components of a path, the first one last.
fn parts(path: &Path) -> Vec<OsString> {
    path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
}

fn create_directory(at: &OwnedFd, name: &OsStr, owner: Option<Owner>) -> io::Result<OwnedFd> {
    mkdirat(at, name, Mode::RWXU.union(Mode::RWXG).union(Mode::RWXO))?;
    let created = openat(at, name, DIRECTORY, Mode::empty())?;
    // Should another have put a directory of theirs in its place meanwhile, it stays theirs.
    let own = nix::unistd::geteuid();
    if let Some(owner) = owner.filter(|_| own.is_root()).filter(|_| fstat(&created).is_ok_and(|it| it.st_uid == 0)) {
        chownat(&created, "", Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)), AtFlags::EMPTY_PATH)?;
    }
    Ok(created)
}

fn is_dev(directory: &OwnedFd) -> io::Result<bool> {
    let place = |it: Stat| (it.st_dev, it.st_ino);
    let here = place(fstat(directory)?);
    Ok(stat("/dev").is_ok_and(|dev| place(dev) == here))
}

/// The number of the descriptor that a path stands for: it is ours already, whatever its path leads to.
pub(super) fn own_descriptor(path: &Path) -> Option<RawFd> {
    match path.as_os_str().as_bytes() {
        b"-" | b"/dev/stdout" => Some(libc::STDOUT_FILENO),
        b"/dev/stdin" => Some(libc::STDIN_FILENO),
        b"/dev/stderr" => Some(libc::STDERR_FILENO),
        path => {
            let numbers = [&b"/dev/fd/"[..], b"/proc/self/fd/", b"/proc/thread-self/fd/"];
            let number = numbers.into_iter().find_map(|start| path.strip_prefix(start))?;
            std::str::from_utf8(number).ok()?.parse().ok().filter(|number| *number >= 0)
        }
    }
}

/// Another descriptor for the same. What we have opened ourselves is none that we were started with: that is closed on exec.
pub(super) fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    let none = || io::Error::from(Refused::NoDescriptor(number));
    // SAFETY: it takes an integer, of which it says if it is no descriptor.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 || flags & libc::FD_CLOEXEC != 0 {
        return Err(none());
    }
    // SAFETY: as above.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just made, and belongs to nothing else.
    let copy = unsafe { OwnedFd::from_raw_fd(copy) };
    Ok(copy)
}

/// Whether a user may create files in a directory, by its owner, group and mode.
pub(super) fn may_create(directory: impl AsFd, who: Owner) -> io::Result<bool> {
    let it = fstat(directory)?;
    let allowed = |shift: u32| (it.st_mode >> shift) & 0o3 == 0o3;
    Ok(match () {
        () if who.uid == 0 => true,
        () if who.uid == it.st_uid => allowed(6),
        () if groups(who).contains(&it.st_gid) => allowed(3),
        () => allowed(0),
    })
}

/// The groups of a user.
fn groups(who: Owner) -> Vec<u32> {
    let user = nix::unistd::User::from_uid(who.uid.into()).ok().flatten();
    let name = user.and_then(|user| std::ffi::CString::new(user.name).ok());
    let groups = name.and_then(|name| nix::unistd::getgrouplist(&name, who.gid.into()).ok());
    groups.unwrap_or_default().into_iter().map(nix::unistd::Gid::as_raw).chain([who.gid]).collect()
}
