//! Which mapped files may never answer: those of file systems that are served by a program or another machine, which may be gone.
//!
//! That is known from `/proc/PID/mountinfo`, which is text that the kernel has: to ask the file system itself may already hang. A
//! namespace can have 100,000 mounts, and many processes: they share what is kept of the list.

mod mountinfo;

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, Read},
    mem::size_of,
    ops::ControlFlow,
    os::linux::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use self::mountinfo::{Mount, layers, mounts};
use super::budget::Budget;
use crate::{aside::Aside, pool::Held, shared::Shared};

/// On disks. A disk may fail, too, but then the machine does.
const DISK: [&str; 24] = [
    "bcachefs", "btrfs", "cramfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfs", "hfsplus", "iso9660",
    "jfs", "minix", "msdos", "nilfs2", "ntfs3", "reiserfs", "romfs", "squashfs", "udf", "vfat", "xfs", "zfs",
];
/// Of the kernel's own memory.
const MEMORY: [&str; 8] = ["cgroup", "cgroup2", "devtmpfs", "hugetlbfs", "proc", "ramfs", "sysfs", "tmpfs"];
/// Made of directories of others.
const OVERLAY: &str = "overlay";
/// Most bytes of one list that are read. There are 100,000 mounts in a namespace at most; what is not read counts as not known, and
/// what is not known as what may never answer.
const MOST_BYTES: u64 = 16 << 20;
/// For so long a list serves all who see the same mounts. It may become old anyhow while a target is watched.
const MOST_AGE: Duration = Duration::from_secs(1);
/// How long is waited for what a process's root is.
const PATIENCE: Duration = Duration::from_secs(1);
/// `STATX_MNT_ID` (kernel 5.8): <https://man7.org/linux/man-pages/man2/statx.2.html>.
const MOUNT_ID: StatxFlags = StatxFlags::from_bits_retain(0x1000);

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

/// The file systems that a process sees, by device. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Filesystems(Arc<Kept>);

/// What is kept of a list.
#[derive(Debug)]
struct Kept {
    served: HashMap<Device, Served>,
    /// Where what may never answer is mounted, as the process sees it.
    hanging: HashSet<PathBuf>,
    /// Whether that is all.
    is_whole: bool,
    /// Of the run's budget.
    held: Held,
}

type Device = (u32, u32);

/// The lists that are in use.
type Lists = HashMap<View, Arc<Shared<Kept>>>;

/// What decides which mounts a process sees, and by which paths: its mount namespace, as its link in `/proc` names it, and its root:
/// device, inode, mount.
type View = (PathBuf, (u32, u32, u64, u64));

impl Filesystems {
    /// Those of a process or thread, and ours.
    pub(crate) fn of(task: u32) -> Self {
        static LISTS: LazyLock<Mutex<Lists>> = LazyLock::new(Mutex::default);
        // Its root may lie where nobody answers.
        let view = Aside::default().within(PATIENCE, move || view(task)).flatten();
        let Some(view) = view else { return Self(Arc::new(Kept::read(task))) };
        let list = {
            let mut lists = LISTS.lock().unwrap_or_else(PoisonError::into_inner);
            lists.retain(|_, list| list.is_used());
            Arc::clone(lists.entry(view).or_default())
        };
        let now = Instant::now();
        Self(list.get(now.checked_sub(MOST_AGE).unwrap_or(now), |before| {
            let read = Kept::read(task);
            // Whoever has the one from before has it still.
            before.filter(|before| before.is_same(&read)).unwrap_or_else(|| Arc::new(read))
        }))
    }

    /// What serves the files of a device.
    pub(crate) fn served(&self, device: Device) -> Served {
        self.0.served.get(&device).cloned().unwrap_or_else(|| Served::Others("an unknown file system".to_owned()))
    }

    /// Whether a file of that device may never answer.
    pub(crate) fn may_hang(&self, device: Device) -> bool {
        self.0.served.get(&device).is_none_or(Served::may_hang)
    }

    /// Whether the device is not among those that were mounted when they were read, so that it is worth reading them again.
    pub(crate) fn is_unknown(&self, device: Device) -> bool {
        self.0.is_whole && !self.0.served.contains_key(&device)
    }

    /// Whether any mount that the process sees may never answer, so that even to look up a path may hang.
    pub(crate) fn have_others(&self) -> bool {
        !self.0.is_whole || !self.0.hanging.is_empty()
    }

    /// Whether what may never answer is mounted above a path, as the process sees it, in which there are no links.
    pub(crate) fn may_hang_at(&self, path: &Path) -> bool {
        !self.0.is_whole || path.ancestors().any(|above| self.0.hanging.contains(above))
    }
}

impl Served {
    fn may_hang(&self) -> bool {
        matches!(self, Self::Others(_))
    }

    fn of_kind(kind: &str) -> Self {
        match kind {
            kind if DISK.contains(&kind) => Self::Disk,
            kind if MEMORY.contains(&kind) => Self::Memory,
            kind => Self::Others(kind.to_owned()),
        }
    }
}

impl Kept {
    fn read(task: u32) -> Self {
        // Memory that belongs to no mount: memfd, System V, shared anonymous memory.
        let unmounted = memfd_create("leakprobe", MFdFlags::MFD_CLOEXEC).ok().and_then(|fd| device_of(&fd.into()));
        // We run from our own root: if that does not answer, we do not either.
        let root = File::open("/").ok().and_then(|root| device_of(&root));
        let known = [(unmounted, Served::Memory), (root, Served::Disk)];
        let known = known.into_iter().filter_map(|(device, served)| Some((device?, served)));
        let list = |of: &str| -> Box<dyn Read> {
            File::open(format!("/proc/{of}/mountinfo"))
                .map_or_else(|_| Box::new(io::empty()) as _, |list| Box::new(list) as _)
        };
        Self::parse(list("self"), list(&task.to_string()), known, Budget::of_run())
    }

    /// From our list and theirs, and devices that are known otherwise.
    fn parse(
        ours: impl Read,
        theirs: impl Read,
        known: impl Iterator<Item = (Device, Served)>,
        budget: &Budget,
    ) -> Self {
        let mut list = Vec::new();
        let mut is_whole = mounts(ours, MOST_BYTES, |mount| {
            list.push(mount);
            ControlFlow::Continue(())
        });
        let (served, hanging) = (HashMap::new(), HashSet::new());
        let mut kept = Self { served, hanging, is_whole: true, held: budget.nothing() };
        for mount in &list {
            // What an overlay's directories are is only known of one that was mounted where we are.
            let layers = Some(mount).filter(|mount| mount.kind == OVERLAY).and_then(layers);
            let is_of_disks = layers.is_some_and(|layers| layers.iter().all(|layer| is_local(layer, &list)));
            is_whole &= kept.serve(mount.device, if is_of_disks { Served::Disk } else { Served::of_kind(&mount.kind) });
        }
        kept.served.extend(known);
        is_whole &= mounts(theirs, MOST_BYTES, |mount| kept.add(mount));
        Self { is_whole, ..kept }
    }

    /// One that the process sees.
    fn add(&mut self, mount: Mount) -> ControlFlow<()> {
        let Mount { device, at, kind, .. } = mount;
        if !self.served.contains_key(&device) && !self.serve(device, Served::of_kind(&kind)) {
            return ControlFlow::Break(());
        }
        if self.served.get(&device).is_none_or(Served::may_hang) {
            // A table of hashes that grows takes as much again.
            let bytes = at.as_os_str().len() + 2 * size_of::<PathBuf>();
            if self.held.grow(bytes as u64).is_err() {
                return ControlFlow::Break(());
            }
            self.hanging.insert(at);
        }
        ControlFlow::Continue(())
    }

    /// Whether there was memory for it.
    fn serve(&mut self, device: Device, served: Served) -> bool {
        let name = if let Served::Others(kind) = &served { kind.len() } else { 0 };
        let has_room = self.held.grow((2 * size_of::<(Device, Served)>() + name) as u64).is_ok();
        if has_room {
            self.served.insert(device, served);
        }
        has_room
    }

    fn is_same(&self, other: &Self) -> bool {
        self.is_whole == other.is_whole && self.served == other.served && self.hanging == other.hanging
    }
}

/// `None` if the kernel does not tell.
fn view(task: u32) -> Option<View> {
    let namespace = fs::read_link(format!("/proc/{task}/ns/mnt")).ok()?;
    let root = statx(CWD, format!("/proc/{task}/root"), AtFlags::STATX_DONT_SYNC, StatxFlags::INO | MOUNT_ID).ok()?;
    Some((namespace, (root.stx_dev_major, root.stx_dev_minor, root.stx_ino, root.stx_mnt_id)))
}

fn device_of(file: &File) -> Option<Device> {
    let device = file.metadata().ok()?.st_dev();
    Some((libc::major(device), libc::minor(device)))
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
    use crate::target::budget::Limits;

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

    /// What is kept with that much memory.
    fn kept(ours: &[u8], theirs: &[u8], memory: u64) -> Filesystems {
        let budget = Budget::new(Limits { held: memory, ..Limits::of_memory(0) });
        Filesystems(Arc::new(Kept::parse(ours, theirs, std::iter::empty(), &budget)))
    }

    fn parse(ours: &[u8], theirs: &[u8]) -> Filesystems {
        kept(ours, theirs, 1 << 20)
    }

    fn others(name: &str) -> Served {
        Served::Others(name.to_owned())
    }

    #[test]
    fn files_of_disks_and_of_memory_are_told_from_those_that_others_serve() {
        let known = parse(OURS.as_bytes(), THEIRS.as_bytes());
        let served = |minor| known.served((0, minor));
        assert_eq!(known.served((254, 0)), Served::Disk);
        assert_eq!([served(21), served(61)], [Served::Memory, Served::Memory]);
        assert_eq!([served(40), served(41)], [others("fuse.sshfs"), others("nfs4")]);
        assert_eq!(served(50), Served::Disk, "a container's, by what we see of it");
        assert_eq!([served(51), served(52), served(53)], [others(OVERLAY), others(OVERLAY), others(OVERLAY)]);
        assert!(known.may_hang((0, 60)), "what is only theirs may be made of anything");
        assert!(known.have_others());
        let plain = THEIRS.lines().last().unwrap();
        let known = parse(OURS.as_bytes(), plain.as_bytes());
        assert!(!known.have_others(), "only those that the process sees");
        let known = parse(OURS.as_bytes(), OURS.as_bytes());
        assert!(
            known.have_others() && known.may_hang_at(Path::new("/nfs/a")) && !known.may_hang_at(Path::new("/nfsa"))
        );
        assert!(known.may_hang((7, 7)) && known.is_unknown((7, 7)));
    }

    #[test]
    fn what_there_is_no_memory_for_may_never_answer() {
        let known = kept(OURS.as_bytes(), THEIRS.as_bytes(), 700);
        assert!(known.have_others() && known.may_hang_at(Path::new("/")) && known.may_hang((0, 61)));
        assert!(!known.is_unknown((0, 61)), "to read it again is of no use");
    }

    #[test]
    fn all_who_see_the_same_mounts_share_what_is_kept_of_them() {
        let [one, other] = [(); 2].map(|()| Filesystems::of(std::process::id()));
        assert!(Arc::ptr_eq(&one.0, &other.0));
        let again = Kept::read(std::process::id());
        assert!(one.0.is_same(&again), "also when it is read again");
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
            let mut count = 0;
            let is_whole = mounts(OURS.as_bytes(), cut as u64, |_| {
                count += 1;
                ControlFlow::Continue(())
            });
            assert_eq!(
                (count, is_whole),
                (OURS.as_bytes()[..cut].iter().filter(|&&byte| byte == b'\n').count(), false)
            );
            let mut damaged = OURS.as_bytes().to_vec();
            damaged[cut] ^= 0x15;
            let _ = parse(&damaged, &damaged);
        }
    }
}
