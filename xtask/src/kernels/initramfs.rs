//! Packs files into an initramfs: a cpio archive in "newc" format
//! (<https://docs.kernel.org/driver-api/early-userspace/buffer-format.html>). It is not compressed, since unpacking
//! would be slow in an emulated guest.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run;

enum Content {
    Folder,
    Text(String),
    /// A file of this machine.
    Copy(PathBuf),
}

/// The files of a guest, by their path in it.
#[derive(Default)]
pub(crate) struct Initramfs {
    entries: BTreeMap<PathBuf, Content>,
}

impl Initramfs {
    /// An empty folder.
    pub(crate) fn folder(&mut self, path: impl AsRef<Path>) {
        for folder in path.as_ref().ancestors().filter(|folder| folder.file_name().is_some()) {
            self.entries.entry(folder.to_path_buf()).or_insert(Content::Folder);
        }
    }

    /// An executable text file.
    pub(crate) fn text(&mut self, path: impl AsRef<Path>, text: String) {
        self.insert(path.as_ref(), Content::Text(text));
    }

    /// An executable of this machine, with the shared libraries that it needs at the paths where it looks for them.
    pub(crate) fn program(&mut self, path: impl AsRef<Path>, from: &Path) -> Result<()> {
        self.copy(path.as_ref(), from)?;
        // Fails for a static executable, which needs none.
        let libraries = run::ask(Command::new("ldd").arg(from)).unwrap_or_default();
        for library in libraries.lines().filter_map(library) {
            self.copy(library, library)?;
        }
        Ok(())
    }

    fn copy(&mut self, path: &Path, from: &Path) -> Result<()> {
        let from = from.canonicalize().with_context(|| format!("cannot find {}", from.display()))?;
        self.insert(path, Content::Copy(from));
        Ok(())
    }

    fn insert(&mut self, path: &Path, content: Content) {
        if let Some(parent) = path.parent() {
            self.folder(parent);
        }
        self.entries.insert(path.to_path_buf(), content);
    }

    /// Writes the archive of these files and `more`, and returns its size in bytes.
    pub(crate) fn write_with(&self, more: &Self, file: &Path) -> Result<u64> {
        let failed = || format!("cannot write {}", file.display());
        let mut out = BufWriter::new(fs::File::create(file).with_context(failed)?);
        let mut size = 0;
        // A BTreeMap gives each folder before what is in it, as the kernel wants it.
        let entries: BTreeMap<_, _> = self.entries.iter().chain(&more.entries).collect();
        for (number, (path, content)) in (1..).zip(entries) {
            let path = path.strip_prefix("/").unwrap_or(path).to_str().context("a guest path is no UTF-8")?;
            let entry = match content {
                Content::Folder => entry(number, 0o040_755, path, &[])?,
                Content::Text(text) => entry(number, 0o100_755, path, text.as_bytes())?,
                Content::Copy(from) => {
                    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
                    entry(number, 0o100_755, path, &bytes)?
                }
            };
            out.write_all(&entry).with_context(failed)?;
            size += entry.len() as u64;
        }
        out.write_all(&entry(0, 0, "TRAILER!!!", &[])?).with_context(failed)?;
        out.flush().with_context(failed)?;
        Ok(size)
    }
}

/// The library in a line of ldd: `libc.so.6 => /lib/…/libc.so.6 (0x…)` or `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn library(line: &str) -> Option<&Path> {
    let path = line.split_once("=> ").map_or(line, |(_, path)| path);
    path.split_whitespace().next().filter(|path| path.starts_with('/')).map(Path::new)
}

fn entry(number: u32, mode: u32, path: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let Ok(size) = u32::try_from(bytes.len()) else { bail!("{path} is too large for an initramfs") };
    let mut entry = b"070701".to_vec();
    // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    for field in [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, path.len() as u32 + 1, 0] {
        entry.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    entry.extend_from_slice(path.as_bytes());
    entry.push(0);
    pad(&mut entry);
    entry.extend_from_slice(bytes);
    pad(&mut entry);
    Ok(entry)
}

/// Each header and each file begins at a multiple of four.
fn pad(entry: &mut Vec<u8>) {
    entry.resize(entry.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lines_of_ldd() {
        let path = |line| library(line).and_then(Path::to_str);
        assert_eq!(path("\tlibc.so.6 => /lib/x/libc.so.6 (0x7f)"), Some("/lib/x/libc.so.6"));
        assert_eq!(path("\t/lib64/ld-linux-x86-64.so.2 (0x7f)"), Some("/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(path("\tlinux-vdso.so.1 (0x7f)"), None);
    }

    #[test]
    fn entries_are_padded() -> Result<()> {
        let entry = entry(1, 0o100_644, "init", b"abcde")?;
        assert_eq!(entry.len(), (110_usize + 5).next_multiple_of(4) + 8);
        assert!(entry.starts_with(b"07070100000001000081a4"));
        Ok(())
    }
}
