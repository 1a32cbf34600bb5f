//! Files as the target sees them, opened so that nothing it has prepared can do harm.
//!
//! A container decides what its files are: a link out of its root, a device, a FIFO. So a path of the target's is looked up by
//! the kernel within the target's root alone, and nothing is opened before it is known to be a regular file: to open
//! a device may set it off, and to open a FIFO may wait for ever, or wake who waits at its other end.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use rustix::fs::{AtFlags, Statx, StatxFlags, statx};

use super::filesystems::{Filesystems, Served};

/// `RESOLVE_CACHED`, kernel 5.12: <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/openat2.h#L40>
const CACHED: ResolveFlag = ResolveFlag::from_bits_retain(0x20);

/// `STATX_MNT_ID_UNIQUE` (kernel 6.8): <https://man7.org/linux/man-pages/man2/statx.2.html>.
const MOUNT: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// The root directory of a process, which may be another one than ours. Held, so that it outlives the process.
#[derive(Debug)]
pub struct Root {
    directory: File,
    is_ours: bool,
    /// Set if any file system that is seen from there may never answer.
    careful: Option<Filesystems>,
}

/// Tells roots apart: what is found in one is found in every other one with the same id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RootId(Place);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    Ours,
    /// By the mount, whose number is never used again, and the directory in it: its device, too, since subvolumes of btrfs lie in one
    /// mount, and the root of each has the same inode number (256).
    Mount(u64, Known),
    /// Known to be the same as no other.
    Alone(u64),
}

impl Root {
    /// The root of a process or thread. Needs what reading its memory needs (`CAP_SYS_PTRACE`).
    ///
    /// # Errors
    /// If the process is gone or not ours to read.
    pub fn of(task: u32) -> io::Result<Self> {
        let directory = open_place(Path::new(&format!("/proc/{task}/root")), libc::O_DIRECTORY)?;
        let mut root = Self::held(directory)?;
        root.is_ours &= is_in_our_mounts(task);
        root.careful = Some(Filesystems::of(task)).filter(Filesystems::have_others);
        Ok(root)
    }

    /// The same root for whoever may wait: files are opened, and paths looked up, even if whoever serves them may never answer.
    #[must_use]
    pub fn that_waits(self) -> Self {
        Self { careful: None, ..self }
    }

    /// A directory that is taken for the root.
    ///
    /// # Errors
    /// If it is none, or cannot be reached.
    pub fn at(directory: &Path) -> io::Result<Self> {
        Self::held(open_place(directory, libc::O_DIRECTORY)?)
    }

    fn held(directory: File) -> io::Result<Self> {
        let ours = open_place(Path::new("/"), libc::O_DIRECTORY)?;
        let is_ours = Known::of(&directory)? == Known::of(&ours)?;
        Ok(Self { directory, is_ours, careful: None })
    }

    /// Whether it is our own root, as far as that can be told.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// What tells it from other roots. Where the kernel does not number mounts (before 6.8), each one that is not ours stands alone.
    #[must_use]
    pub fn id(&self) -> RootId {
        static ALONE: AtomicU64 = AtomicU64::new(0);
        if self.is_ours {
            return RootId(Place::Ours);
        }
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let told = statx(&self.directory, "", flags, StatxFlags::INO | MOUNT).ok();
        RootId(match told.filter(|told| told.stx_mask & MOUNT.bits() != 0) {
            Some(told) => Place::Mount(told.stx_mnt_id, Known::told(&told)),
            None => Place::Alone(ALONE.fetch_add(1, Ordering::Relaxed)),
        })
    }

    /// Opens a regular file for reading. Links are followed, but never out of this root, nor through /proc to what others have open.
    ///
    /// Kernel 5.6 (`openat2`), <https://man7.org/linux/man-pages/man2/openat2.2.html>.
    ///
    /// # Errors
    /// If it is not there, leads out, or is no regular file, which is then not opened.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        self.open_again(&self.look_up(path, OFlag::empty(), ResolveFlag::empty())?)
    }

    /// The same for a path in which there are no links, such as the kernel tells: should there be one now, it is not followed.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_told(&self, path: &Path) -> io::Result<File> {
        self.open_again(&self.look_up(path, OFlag::empty(), ResolveFlag::RESOLVE_NO_SYMLINKS)?)
    }

    /// The same, but what `path` names must be the file itself and no link to it. Returns what was known of it before it was opened.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_no_link(&self, path: &Path) -> io::Result<(File, Metadata)> {
        let place = self.look_up(path, OFlag::O_NOFOLLOW, ResolveFlag::empty())?;
        self.check(&place)?;
        let metadata = place.metadata()?;
        if metadata.is_symlink() {
            return Err(io::Error::other("it is a symbolic link"));
        }
        Ok((open_again(&place)?, metadata))
    }

    /// As [`open_again`], if what serves the file is sure to answer.
    fn open_again(&self, place: &File) -> io::Result<File> {
        self.check(place)?;
        open_again(place)
    }

    fn check(&self, place: &File) -> io::Result<()> {
        match self
            .careful
            .as_ref()
            .map(|systems| Ok::<_, io::Error>(systems.served(Known::of(place)?.device)))
            .transpose()?
        {
            Some(Served::Others(system)) => Err(unasked(&format!("it lies on {system}, which may never answer"))),
            _ => Ok(()),
        }
    }

    fn look_up(&self, path: &Path, flags: OFlag, resolve: ResolveFlag) -> io::Result<File> {
        let Some(systems) = &self.careful else { return self.ask(path, flags, resolve) };
        let in_vain = |error: &io::Error, errno| error.raw_os_error() == Some(errno);
        // What the kernel knows already it says without asking anybody (5.12).
        match self.ask_once(path, flags, resolve | CACHED) {
            Err(error) if in_vain(&error, libc::EAGAIN) || in_vain(&error, libc::EINVAL) => {}
            known => return known,
        }
        if !systems.may_hang_at(path) {
            // A link might lead anywhere.
            match self.ask(path, flags, resolve | ResolveFlag::RESOLVE_NO_SYMLINKS) {
                Err(error) if in_vain(&error, libc::ELOOP) => {}
                found => return found,
            }
        }
        Err(unasked("its path may lead past a file system that never answers"))
    }

    fn ask(&self, path: &Path, flags: OFlag, resolve: ResolveFlag) -> io::Result<File> {
        // A rename within the root, while `..` is resolved, makes the kernel ask to try again.
        for _ in 0..16 {
            match self.ask_once(path, flags, resolve) {
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
                found => return found,
            }
        }
        Err(io::Error::other("its directories are being moved about"))
    }

    fn ask_once(&self, path: &Path, flags: OFlag, resolve: ResolveFlag) -> io::Result<File> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | flags)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | resolve);
        Ok(openat2(&self.directory, path, how)?.into())
    }
}

/// What the kernel knows of a file without asking whoever serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Known {
    device: (u32, u32),
    inode: u64,
}

impl Known {
    fn of(place: &File) -> io::Result<Self> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        Ok(Self::told(&statx(place, "", flags, StatxFlags::INO)?))
    }

    fn told(found: &Statx) -> Self {
        Self { device: (found.stx_dev_major, found.stx_dev_minor), inode: found.stx_ino }
    }
}

fn unasked(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, why)
}

/// Whether a process or thread sees the same mounts as we do, if perhaps from another root.
pub(super) fn is_in_our_mounts(task: u32) -> bool {
    let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/mnt")).ok();
    namespace("self").is_some_and(|ours| namespace(&task.to_string()) == Some(ours))
}

/// Opens a file for reading if it is a regular one. `path` must be one that the target cannot lead astray: below /proc, or the host's.
///
/// # Errors
/// If it cannot be reached, or is no regular file, which is then not opened.
pub fn open_regular(path: &Path) -> io::Result<File> {
    open_again(&open_place(path, 0)?)
}

/// A handle on what is at `path`, without opening it.
fn open_place(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC | flags).open(path)
}

/// Opens what a handle stands for: whatever its name has come to mean since, it is that very file.
fn open_again(place: &File) -> io::Result<File> {
    if !place.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    File::open(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{Read as _, Write as _},
        os::unix::fs::symlink,
    };

    use super::*;

    fn text(file: io::Result<File>) -> String {
        let mut text = String::new();
        file.unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn links_lead_within_the_root_and_never_out_of_it() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let inside = outside.path().join("root");
        fs::create_dir_all(inside.join("usr/lib")).unwrap();
        fs::write(inside.join("usr/lib/a"), "a").unwrap();
        symlink("/usr/lib", inside.join("lib")).unwrap();
        symlink("../../../../../secret", inside.join("up")).unwrap();
        symlink(outside.path().join("secret"), inside.join("away")).unwrap();
        symlink("/proc/self/root/etc/passwd", inside.join("magic")).unwrap();
        symlink("loop", inside.join("loop")).unwrap();
        let root = Root::at(&inside).unwrap();
        assert!(!root.is_ours());
        assert_eq!(text(root.open(Path::new("/lib/a"))), "a", "an absolute link begins at the root");
        assert_eq!(text(root.open(Path::new("/../../usr/lib/a"))), "a", "above the root is the root");
        for path in ["/up", "/away", "/magic", "/loop", "/../secret", "/usr/lib", "/none"] {
            assert!(root.open(Path::new(path)).is_err(), "{path}");
        }
        assert!(root.open_told(Path::new("/usr/lib/a")).is_ok());
        assert!(root.open_told(Path::new("/lib/a")).is_err());
        assert!(root.open_no_link(Path::new("/usr/lib/a")).is_ok());
        assert!(root.open_no_link(Path::new("/lib/a")).is_ok(), "only the last part must be no link");
        symlink("usr/lib/a", inside.join("b")).unwrap();
        assert_eq!(root.open_no_link(Path::new("/b")).unwrap_err().to_string(), "it is a symbolic link");
    }

    #[test]
    fn subvolumes_in_one_mount_are_told_apart() {
        // As btrfs numbers two snapshots of a subvolume.
        let root = |minor| RootId(Place::Mount(7, Known { device: (0, minor), inode: 256 }));
        assert_ne!(root(0x2c), root(0x2d));
        assert_eq!(root(0x2c), root(0x2c));
    }

    #[test]
    fn our_own_proc_is_no_way_out() {
        let root = Root::of(std::process::id()).unwrap();
        assert!(root.is_ours());
        assert!(root.open(Path::new("/proc/self/root/etc/passwd")).is_err());
        assert!(root.open(Path::new("/etc/passwd")).is_ok());
    }

    #[test]
    fn a_fifo_and_a_device_are_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let root = Root::at(directory.path()).unwrap();
        for found in [root.open(Path::new("/fifo")), open_regular(&fifo), open_regular(Path::new("/dev/zero"))] {
            assert_eq!(found.unwrap_err().to_string(), "it is not a regular file");
        }
        // Had somebody opened it for reading, this would succeed.
        let mut options = OpenOptions::new();
        let writer = options.write(true).custom_flags(libc::O_NONBLOCK).open(&fifo);
        assert_eq!(writer.map(|mut file| file.write(b"x").is_ok()).unwrap_err().raw_os_error(), Some(libc::ENXIO));
    }
}
