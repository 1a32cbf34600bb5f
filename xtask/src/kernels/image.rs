//! Finds and unpacks Debian's kernels. The cloud flavour is used: its serial console and initramfs support are built in,
//! so that a guest needs no module.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::apt::{Apt, Mirror};
use crate::run;

const FLAVOUR: &str = "cloud-amd64";

/// A kernel that can be booted.
pub(crate) struct Kernel {
    /// As `uname -r` says it.
    pub(crate) version: String,
    pub(crate) image: PathBuf,
}

/// The newest kernel of `spec`, a suite with an optional version prefix: `sid` or `trixie-backports:6.18`.
pub(crate) fn find(work: &Path, mirror: &Mirror, spec: &str) -> Result<Kernel> {
    let (suite, prefix) = spec.split_once(':').map_or((spec, None), |(suite, prefix)| (suite, Some(prefix)));
    let apt = Apt::of_suite(work, mirror, suite)?;
    let versions = versions(&apt, prefix)?;
    let mut last = None;
    for version in &versions {
        match unpack(work, &apt, version) {
            Ok(image) => return Ok(Kernel { version: version.clone(), image }),
            // A mirror's lists may name a file that it lost already.
            Err(error) => run::complain(&format!("warning: {version}: {error:#}; trying the next")),
        }
        last = Some(version);
    }
    match last {
        Some(_) => bail!("no kernel of {spec} could be downloaded"),
        None => bail!("{suite} has no kernel {}", prefix.unwrap_or("of the cloud flavour")),
    }
}

/// Versions to try, newest first.
fn versions(apt: &Apt, prefix: Option<&str>) -> Result<Vec<String>> {
    let package = |version: &str| format!("linux-image-{version}");
    let listed = |prefix: &str| {
        let names = apt.names(&package(prefix)).into_iter();
        let versions = names.filter_map(|name| Some(name.strip_prefix("linux-image-")?.to_owned()));
        // "6.1" is not the beginning of "6.12".
        let exact = |version: &String| version[prefix.len()..].chars().next().is_none_or(|c| !c.is_ascii_digit());
        let mut versions: Vec<_> = versions.filter(|v| v.ends_with(&format!("-{FLAVOUR}")) && exact(v)).collect();
        versions.sort_by_key(|version| std::cmp::Reverse(natural(version)));
        versions
    };
    if let Some(prefix) = prefix {
        return Ok(listed(prefix));
    }
    // The package without a version depends on the newest.
    let newest = apt.show(&package(FLAVOUR)).context("no kernel package in the lists")?;
    let words = newest.split(|c: char| c.is_whitespace() || c == ',');
    let mut images = words.filter_map(|word| word.strip_prefix("linux-image-"));
    let newest = images.find(|v| v.starts_with(|c: char| c.is_ascii_digit()) && v.ends_with(FLAVOUR));
    let newest = newest.context("the kernel package names no version")?.to_owned();
    let series = newest.split(['-', '+']).next().unwrap_or_default();
    let series = series.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    let mut versions = listed(&series);
    versions.retain(|version| *version != newest);
    versions.insert(0, newest);
    Ok(versions)
}

/// The numbers of a version, which sort `6.9` before `6.18`.
fn natural(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

fn unpack(work: &Path, apt: &Apt, version: &str) -> Result<PathBuf> {
    let image = format!("linux-image-{version}");
    // Newer kernels are split: the image lies in linux-binary-VERSION.
    let split = apt.show(&image).is_some_and(|text| text.contains("linux-binary-"));
    let package = if split { format!("linux-binary-{version}") } else { image };
    let deb = apt.download(&package)?;
    let folder = work.join("image").join(deb.file_stem().unwrap_or_default());
    let found = || {
        [format!("boot/vmlinuz-{version}"), format!("usr/lib/modules/{version}/vmlinuz")].map(|path| folder.join(path))
    };
    if let Some(image) = found().into_iter().find(|path| path.exists()) {
        return Ok(image);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // Without the modules.
    let mut tar = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(&deb).stdout(Stdio::piped()).spawn()?;
    let stream = tar.stdout.take().context("dpkg-deb has no output")?;
    run::query(Command::new("tar").arg("-xC").arg(&folder).args(["--wildcards", "*vmlinuz*"]).stdin(stream))?;
    tar.wait()?;
    found().into_iter().find(|path| path.exists()).with_context(|| format!("{package} holds no vmlinuz"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_by_their_numbers() {
        let mut versions = ["6.18.5+deb13-cloud-amd64", "6.9.1+deb13-cloud-amd64", "6.18.12+deb13-cloud-amd64"];
        versions.sort_by_key(|version| natural(version));
        assert_eq!(versions[0], "6.9.1+deb13-cloud-amd64");
        assert_eq!(versions[2], "6.18.12+deb13-cloud-amd64");
    }
}
