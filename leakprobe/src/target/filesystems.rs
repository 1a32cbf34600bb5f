//! Which mapped files may never answer: those of file systems that are served by a program or another machine, which may be gone.
//!
//! That is known from `/proc/PID/mountinfo`, which is text that the kernel has: to ask the file system itself may already hang.
//! Format: <https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html>

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    os::{linux::fs::MetadataExt as _, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use nix::sys::memfd::{MFdFlags, memfd_create};

/// On disks. A disk may fail, too, but then the machine does.
const DISK: [&str; 24] = [
    "bcachefs", "btrfs", "cramfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfs", "hfsplus", "iso9660",
    "jfs", "minix", "msdos", "nilfs2", "ntfs3", "reiserfs", "romfs", "squashfs", "udf", "vfat", "xfs", "zfs",
];
/// Of the kernel's own memory.
const MEMORY: [&str; 8] = ["cgroup", "cgroup2", "devtmpfs", "hugetlbfs", "proc", "ramfs", "sysfs", "tmpfs"];
/// Made of directories of others.
const OVERLAY: &str = "overlay";
/// Most bytes of one list that are read. There are 100,000 mounts in a namespace at most; what is not read counts as not known.
const MOST_BYTES: u64 = 16 << 20;

/// What serves a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// A disk of this machine.
    Disk,
    /// The kernel's memory.
    Memory,
    /// Something that may be gone: a program, another machine, or what is not known. The name of its file system.
    Others(String),
}

/// The file systems that a process sees, by device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filesystems {
    served: HashMap<(u32, u32), Served>,
    /// Those that the process itself sees.
    theirs: Vec<((u32, u32), PathBuf)>,
}

/// A line of the list.
struct Mount {
    device: (u32, u32),
    /// Where it is mounted.
    at: PathBuf,
    kind: String,
    options: String,
}

impl Filesystems {
    /// Those of a process or thread, and ours.
    pub(crate) fn of(task: u32) -> Self {
        let list = |of: &str| {
            let mut bytes = Vec::new();
            let read = File::open(format!("/proc/{of}/mountinfo"))
                .and_then(|list| list.take(MOST_BYTES).read_to_end(&mut bytes));
            read.map_or_else(|_| Vec::new(), |_| bytes)
        };
        let (ours, theirs) = (list("self"), list(&task.to_string()));
        let own = Self::parse(&ours, &theirs);
        // Memory that belongs to no mount: memfd, System V, shared anonymous memory.
        let unmounted = memfd_create("leakprobe", MFdFlags::MFD_CLOEXEC).ok().and_then(|fd| device_of(&fd.into()));
        // We run from our own root: if that does not answer, we do not either.
        let root = File::open("/").ok().and_then(|root| device_of(&root));
        own.with(unmounted, Served::Memory).with(root, Served::Disk)
    }

    fn with(mut self, device: Option<(u32, u32)>, served: Served) -> Self {
        self.served.extend(device.map(|device| (device, served)));
        self
    }

    fn parse(ours: &[u8], theirs: &[u8]) -> Self {
        let (ours, theirs) = (mounts(ours), mounts(theirs));
        let by_kind = |mount: &Mount| match mount.kind.as_str() {
            kind if DISK.contains(&kind) => Served::Disk,
            kind if MEMORY.contains(&kind) => Served::Memory,
            kind => Served::Others(kind.to_owned()),
        };
        let mut served: HashMap<_, _> = theirs.iter().map(|mount| (mount.device, by_kind(mount))).collect();
        for mount in &ours {
            // What an overlay's directories are is only known of one that was mounted where we are.
            let layers = Some(mount).filter(|mount| mount.kind == OVERLAY).and_then(layers);
            let is_of_disks = layers.is_some_and(|layers| layers.iter().all(|layer| is_local(layer, &ours)));
            served.insert(mount.device, if is_of_disks { Served::Disk } else { by_kind(mount) });
        }
        Self { served, theirs: theirs.into_iter().map(|mount| (mount.device, mount.at)).collect() }
    }

    /// What serves the files of a device.
    pub(crate) fn served(&self, device: (u32, u32)) -> Served {
        self.served.get(&device).cloned().unwrap_or_else(|| Served::Others("an unknown file system".to_owned()))
    }

    /// Whether a file of that device may never answer.
    pub(crate) fn may_hang(&self, device: (u32, u32)) -> bool {
        self.served.get(&device).is_none_or(|served| matches!(served, Served::Others(_)))
    }

    /// Whether the device is not among those that were mounted when they were read.
    pub(crate) fn is_unknown(&self, device: (u32, u32)) -> bool {
        !self.served.contains_key(&device)
    }

    /// Whether any mount that the process sees may never answer, so that even to look up a path may hang.
    pub(crate) fn have_others(&self) -> bool {
        self.theirs.iter().any(|&(device, _)| self.may_hang(device))
    }

    /// Whether what may never answer is mounted above a path, as the process sees it, in which there are no links.
    pub(crate) fn may_hang_at(&self, path: &Path) -> bool {
        self.theirs.iter().any(|(device, at)| path.starts_with(at) && self.may_hang(*device))
    }
}

fn device_of(file: &File) -> Option<(u32, u32)> {
    let device = file.metadata().ok()?.st_dev();
    Some((libc::major(device), libc::minor(device)))
}

fn mounts(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n').filter_map(parse).collect()
}

fn parse(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let device = std::str::from_utf8(words.nth(2)?).ok()?.split_once(':')?;
    let at = unescaped(words.nth(1)?);
    words.find(|&word| word == b"-")?;
    let kind = String::from_utf8_lossy(words.next()?).into_owned();
    // The source may be missing.
    let options = String::from_utf8_lossy(words.next_back().unwrap_or_default()).into_owned();
    let device = (device.0.parse().ok()?, device.1.parse().ok()?);
    Some(Mount { device, at: PathBuf::from(std::ffi::OsStr::from_bytes(&at)), kind, options })
}

/// Spaces, tabs, line ends and backslashes are written as octal numbers.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, after @ ..] = rest {
        let octal = after.first_chunk::<3>().filter(|_| *first == b'\\');
        let code = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    bytes
}

/// The directories that an overlay is made of; `None` if they cannot be told.
fn layers(mount: &Mount) -> Option<Vec<PathBuf>> {
    let options = mount.options.split(',').filter_map(|option| option.split_once('='));
    let of_layers =
        options.filter(|(name, _)| name.starts_with("lowerdir") || matches!(*name, "upperdir" | "datadir+"));
    let paths = of_layers.flat_map(|(_, paths)| paths.split(':')).filter(|path| !path.is_empty());
    let layers: Vec<PathBuf> = paths.map(PathBuf::from).collect();
    let is_plain = |path: &PathBuf| path.is_absolute() && !path.iter().any(|part| part == "..");
    (!layers.is_empty() && layers.iter().all(is_plain)).then_some(layers)
}

/// Whether a directory lies on a disk of this machine, by the mounts that lead there.
fn is_local(path: &Path, mounts: &[Mount]) -> bool {
    // Of several at the same place the last one counts.
    let mount =
        mounts.iter().filter(|mount| path.starts_with(&mount.at)).max_by_key(|mount| mount.at.as_os_str().len());
    mount.is_some_and(|mount| DISK.contains(&mount.kind.as_str()) || MEMORY.contains(&mount.kind.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
23 22 0:21 / /proc rw - proc proc rw\n\
24 22 0:40 / /mnt/with\\040space rw - fuse.sshfs host:/ rw,user_id=0\n\
25 22 0:41 / /nfs rw - nfs4 host:/ rw,vers=4.2\n\
26 22 0:50 / /var/lib/docker/overlay2/a/merged rw - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/B:/var/lib/docker/overlay2/l/C,upperdir=/var/lib/docker/overlay2/a/diff,workdir=/x\n\
27 22 0:51 / /over rw - overlay overlay rw,lowerdir=/mnt/with space/x:/usr\n\
28 22 0:52 / /relative rw - overlay overlay rw,lowerdir=l/A\n\
29 22 0:53 / /up rw - overlay overlay rw,lowerdir=/usr/../nfs\n";
    const THEIRS: &str = "\
40 1 0:50 / / rw - overlay overlay rw,lowerdir=/nfs/that/is/theirs\n\
41 40 0:60 / /data rw - overlay overlay rw,lowerdir=/usr\n\
42 40 0:61 / /tmp rw - tmpfs tmpfs rw\n";

    fn others(name: &str) -> Served {
        Served::Others(name.to_owned())
    }

    #[test]
    fn files_of_disks_and_of_memory_are_told_from_those_that_others_serve() {
        let known = Filesystems::parse(OURS.as_bytes(), THEIRS.as_bytes());
        let served = |minor| known.served((0, minor));
        assert_eq!(known.served((254, 0)), Served::Disk);
        assert_eq!([served(21), served(61)], [Served::Memory, Served::Memory]);
        assert_eq!([served(40), served(41)], [others("fuse.sshfs"), others("nfs4")]);
        assert_eq!(served(50), Served::Disk, "a container's, by what we see of it");
        assert_eq!([served(51), served(52), served(53)], [others(OVERLAY), others(OVERLAY), others(OVERLAY)]);
        assert!(known.may_hang((0, 60)), "what is only theirs may be made of anything");
        assert!(known.have_others());
        let plain = THEIRS.lines().last().unwrap();
        let known = Filesystems::parse(OURS.as_bytes(), plain.as_bytes());
        assert!(!known.have_others(), "only those that the process sees");
        let known = Filesystems::parse(OURS.as_bytes(), OURS.as_bytes());
        assert!(
            known.have_others() && known.may_hang_at(Path::new("/nfs/a")) && !known.may_hang_at(Path::new("/nfsa"))
        );
        assert!(known.may_hang((7, 7)) && known.is_unknown((7, 7)));
    }

    #[test]
    fn our_own_files_and_memory_answer() {
        let known = Filesystems::of(std::process::id());
        let own = |file: &File| known.served(device_of(file).unwrap());
        assert_ne!(own(&File::open("/").unwrap()), others(OVERLAY));
        let memfd = memfd_create("x", MFdFlags::empty()).unwrap().into();
        assert_eq!(own(&memfd), Served::Memory);
    }

    #[test]
    fn a_cut_or_damaged_list_does_no_harm() {
        for cut in 0..OURS.len() {
            assert!(mounts(&OURS.as_bytes()[..cut]).len() <= 8);
            let mut damaged = OURS.as_bytes().to_vec();
            damaged[cut] ^= 0x15;
            let _ = Filesystems::parse(&damaged, &damaged);
        }
    }
}
