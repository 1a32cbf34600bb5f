//! Finds QEMU 8 or newer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::apt::{Apt, Mirror};
use crate::{debian, run};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";

/// An emulator: the machine's own, or one unpacked in a folder.
pub(crate) enum Qemu {
    Installed,
    Unpacked(PathBuf),
}

/// The machine's QEMU if it is new enough, else Debian's, unpacked below `work`.
pub(crate) fn find(work: &Path, mirror: &Mirror) -> Result<Qemu> {
    // With QEMU 7.2 guests with kernel 6.12 oops under TCG where the kernel patches its own text.
    if version(&mut Command::new(PROGRAM)).is_some_and(|version| version >= 8) {
        return Ok(Qemu::Installed);
    }
    let codename = debian::os_release("VERSION_CODENAME").unwrap_or_default();
    if codename != "bookworm" {
        bail!("{PROGRAM} 8 or newer is missing: install {PACKAGE}");
    }
    let folder = work.join("qemu");
    let qemu = Qemu::Unpacked(folder.clone());
    if version(&mut qemu.command()).is_some() {
        return Ok(qemu);
    }
    unpack(work, mirror, &folder)?;
    if version(&mut qemu.command()).is_none_or(|version| version < 8) {
        bail!("the QEMU unpacked in {} does not run", folder.display());
    }
    Ok(qemu)
}

fn unpack(work: &Path, mirror: &Mirror, folder: &Path) -> Result<()> {
    let backports = "bookworm-backports";
    let installed = Path::new("/var/lib/dpkg/status");
    let apt = Apt::open(work, mirror, "qemu", &["bookworm", backports], Some(installed))?;
    // Downloaded with the libraries that this machine lacks, not installed: next to newer QEMU packages of the machine,
    // apt would remove those.
    let mut download = apt.command("apt-get");
    download.args(["-qq", "-y", "--download-only", "--no-install-recommends", "-t", backports, "install", PACKAGE]);
    run::say(&format!("downloading {PACKAGE} and its libraries from {backports} into {}", work.display()));
    if run::query(&mut download).is_err() {
        bail!("apt cannot download {PACKAGE}");
    }
    let archives = work.join("apt/qemu/cache/archives");
    for entry in fs::read_dir(&archives).with_context(|| format!("cannot read {}", archives.display()))? {
        let file = entry.context("cannot list downloaded packages")?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            run::query(Command::new("dpkg").arg("-x").args([&file, folder]))?;
        }
    }
    Ok(())
}

impl Qemu {
    /// The emulator, ready for its arguments.
    pub(crate) fn command(&self) -> Command {
        let Self::Unpacked(folder) = self else { return Command::new(PROGRAM) };
        let usr = folder.join("usr");
        let libraries = usr.join("lib/x86_64-linux-gnu");
        let mut command = Command::new(usr.join("bin").join(PROGRAM));
        let search = [libraries.clone(), folder.join("lib/x86_64-linux-gnu")];
        command.env("LD_LIBRARY_PATH", std::env::join_paths(search).unwrap_or_default());
        command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
        for firmware in ["share/qemu", "share/seabios"] {
            command.arg("-L").arg(usr.join(firmware));
        }
        command
    }
}

/// The major version.
fn version(qemu: &mut Command) -> Option<u32> {
    run::ask(qemu.arg("--version"))?.split("version ").nth(1)?.split('.').next()?.parse().ok()
}
