//! leakprobe with file capabilities, called by a user.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use caps::Capability;
use leakprobe::model::Recording;
use tempfile::TempDir;

use super::{Ended, Running, in_guest, leakprobe_binary, open_copy};

/// Who calls leakprobe: neither root nor nobody.
pub const CALLER: u32 = 65_533;

/// The bits of these capabilities, as in `/proc/PID/status`.
pub fn mask(capabilities: &[Capability]) -> u64 {
    capabilities.iter().map(Capability::bitmask).sum()
}

/// The capabilities of the command that README gives to grant them.
pub fn of_readme() -> Vec<Capability> {
    let line = include_str!("../../../README.md").lines().find_map(|line| line.strip_prefix("sudo setcap "));
    let names = line.unwrap().strip_suffix("+ep ./leakprobe").unwrap();
    names.split(',').map(|name| name.to_uppercase().parse().unwrap()).collect()
}

/// A copy of leakprobe whose file has these capabilities: permitted and effective. `None` if the file system has no place for that.
pub fn granted(capabilities: &[Capability], folder: &TempDir) -> Option<PathBuf> {
    let ours = open_copy(&leakprobe_binary(), folder);
    let set = mask(capabilities);
    // `struct vfs_cap_data`, revision 2, with the effective bit; permitted and inheritable, twice 32 bits.
    // Source: <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/capability.h#L71>
    let words = [0x0200_0001, set as u32, 0, (set >> 32) as u32, 0];
    let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    match rustix::fs::setxattr(&ours, "security.capability", &bytes, rustix::fs::XattrFlags::empty()) {
        Err(rustix::io::Errno::OPNOTSUPP) if in_guest() => None,
        set => Some(set.map(|()| ours).unwrap()),
    }
}

/// A run of `ours` by [`CALLER`], to its end.
pub fn by_caller(ours: &Path, args: &[&str]) -> Ended {
    Running::of(Command::new(ours).args(args).uid(CALLER).gid(CALLER)).end()
}

/// The recording that it wrote to stdout.
pub fn recorded(ended: &Ended) -> Recording {
    serde_json::from_str(&ended.succeeded().stdout).unwrap()
}
