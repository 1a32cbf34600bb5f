//! `/proc/PID/maps`, line by line: a process may have hundreds of thousands of mappings.
//!
//! Format: <https://man7.org/linux/man-pages/man5/proc_pid_maps.5.html>

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    ops::{ControlFlow, Range},
    sync::Arc,
};

use crate::pool::{Pool, Share};

/// Longest line that is taken for one; a path has 4 KB at most.
const LONGEST_LINE: u64 = 64 << 10;
/// What the list of executable mappings may take however little memory is left for it, bytes: a common program has a hundred.
const FLOOR: u64 = 256 << 10;
/// What such a mapping takes without its name, and a name besides its bytes, with what the list is made into.
const OF_MAPPING: usize = 256;
const BESIDES: usize = 64;

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) offset: u64,
    /// Major and minor number.
    pub(super) device: (u32, u32),
    pub(super) inode: u64,
    /// A path, a name in brackets, or nothing.
    pub(super) name: Arc<str>,
}

/// The executable mappings of a thread.
#[derive(Debug)]
pub(super) struct Executables {
    pub(super) lines: Vec<Line>,
    /// Whether there were too many.
    pub(super) is_cut: bool,
    /// What they take, bytes.
    pub(super) size: Share,
    /// Each name is held once: a file may be mapped 60,000 times, and its path have 4 KB.
    names: HashSet<Arc<str>>,
}

/// One mapping, as much of it as every reader needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapping<'line> {
    pub(super) start: u64,
    pub(super) end: u64,
    permissions: &'line [u8],
    offset: &'line [u8],
    device: &'line [u8],
    inode: &'line [u8],
    name: &'line [u8],
}

impl Mapping<'_> {
    fn is_executable(&self) -> bool {
        self.permissions.get(2) == Some(&b'x')
    }

    /// Whether what is written there is seen by everybody who maps the same object.
    pub(super) fn is_shared(&self) -> bool {
        self.permissions.get(3) == Some(&b's')
    }

    /// Major and minor number.
    pub(super) fn device(&self) -> Option<(u32, u32)> {
        let (major, minor) = split(self.device, b':')?;
        Some((u32::try_from(major).ok()?, u32::try_from(minor).ok()?))
    }

    /// Major and minor number of the device that holds the mapped file; `None` for memory without a file, as most mappings are.
    pub(super) fn file_device(&self) -> Option<(u32, u32)> {
        if self.device == b"00:00" { None } else { self.device() }
    }

    pub(super) fn inode(&self) -> Option<u64> {
        std::str::from_utf8(self.inode).ok()?.parse().ok()
    }

    /// A path, a name in brackets, or nothing.
    pub(super) fn name(&self) -> &[u8] {
        self.name
    }

    fn line(&self, name: impl FnOnce(&str) -> Option<Arc<str>>) -> Option<Line> {
        Some(Line {
            start: self.start,
            end: self.end,
            offset: hex(self.offset)?,
            device: self.device()?,
            inode: self.inode()?,
            name: name(&String::from_utf8_lossy(self.name))?,
        })
    }
}

/// The executable mappings that a thread sees, `most` at most, and as many as there is memory for; `visit` sees all up to then, the
/// others, too.
pub(super) fn executable(
    thread: u32,
    most: usize,
    kept: &Pool,
    mut visit: impl FnMut(&Mapping<'_>),
) -> io::Result<Executables> {
    let mut found = Executables::within(kept);
    each(thread, |mapping| {
        visit(&mapping);
        found.add(&mapping, most)
    })?;
    Ok(found)
}

impl Executables {
    fn within(kept: &Pool) -> Self {
        Self { lines: Vec::new(), is_cut: false, size: kept.share(FLOOR), names: HashSet::new() }
    }

    fn add(&mut self, mapping: &Mapping<'_>, most: usize) -> ControlFlow<()> {
        if !mapping.is_executable() {
            return ControlFlow::Continue(());
        }
        if self.lines.len() >= most || self.size.grow(OF_MAPPING as u64).is_err() {
            self.is_cut = true;
            return ControlFlow::Break(());
        }
        let Self { lines, names, size, is_cut } = self;
        let line = mapping.line(|name| {
            if let Some(known) = names.get(name) {
                return Some(Arc::clone(known));
            }
            *is_cut = size.grow((BESIDES + name.len()) as u64).is_err();
            let new: Arc<str> = (!*is_cut).then(|| name.into())?;
            names.insert(Arc::clone(&new));
            Some(new)
        });
        lines.extend(line);
        if *is_cut { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Where memory lies, and of what kind it is.
pub(crate) struct Kind {
    pub(crate) range: Range<u64>,
    /// That of its file; `None` for memory without one.
    pub(crate) device: Option<(u32, u32)>,
}

/// The mappings that a thread sees which hold any of these addresses, which ascend.
pub(crate) fn kinds_at(thread: u32, addresses: &[u64]) -> io::Result<Vec<Kind>> {
    let mut found = Vec::new();
    each(thread, |mapping| {
        let range = mapping.start..mapping.end;
        let next = addresses.partition_point(|&address| address < range.start);
        if addresses.get(next).is_some_and(|address| range.contains(address)) {
            found.push(Kind { range, device: mapping.file_device() });
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Visits every mapping that a thread sees, by ascending address, until `visit` breaks off.
pub(super) fn each(thread: u32, visit: impl FnMut(Mapping<'_>) -> ControlFlow<()>) -> io::Result<()> {
    read(BufReader::with_capacity(128 << 10, File::open(format!("/proc/{thread}/maps"))?), visit)
}

pub(super) fn read(mut maps: impl BufRead, mut visit: impl FnMut(Mapping<'_>) -> ControlFlow<()>) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if maps.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        // What the kernel writes can be read; a line that cannot is not one of its own.
        if parse(&line).is_some_and(|mapping| visit(mapping).is_break()) {
            return Ok(());
        }
    }
}

fn parse(line: &[u8]) -> Option<Mapping<'_>> {
    let mut rest = line;
    let (start, end) = split(word(&mut rest)?, b'-')?;
    let permissions = word(&mut rest)?;
    let offset = word(&mut rest)?;
    let device = word(&mut rest)?;
    let inode = word(&mut rest)?;
    Some(Mapping { start, end, permissions, offset, device, inode, name: rest.trim_ascii() })
}

fn word<'line>(rest: &mut &'line [u8]) -> Option<&'line [u8]> {
    let line = rest.trim_ascii_start();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (word, after) = line.split_at(end);
    *rest = after;
    (!word.is_empty()).then_some(word)
}

fn split(text: &[u8], mark: u8) -> Option<(u64, u64)> {
    let at = text.iter().position(|&byte| byte == mark)?;
    Some((hex(&text[..at])?, hex(&text[at + 1..])?))
}

fn hex(text: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
00400000-00452000 r-xp 00001000 08:02 173521      /usr/bin/dbus-daemon\n\
00651000-00652000 r--p 00051000 08:02 173521      /usr/bin/dbus-daemon\n\
7f00000000-7f00001000 rwxp 00000000 00:00 0 \n\
7ffe01000-7ffe02000 r-xp 00000000 00:00 0         [vdso]\n\
35b1a000-35b1c000 --xs 0001a000 fd:10 9           /a b/c (deleted)\n";

    fn found(maps: impl BufRead, most: usize) -> Executables {
        let mut found = Executables::within(&Pool::new(0));
        read(maps, |mapping| found.add(&mapping, most)).unwrap();
        found
    }

    fn lines(maps: impl BufRead, most: usize) -> Vec<Line> {
        found(maps, most).lines
    }

    #[test]
    fn what_mappings_take_is_bounded_and_each_name_is_held_once() {
        let line = |n: u64, name: &str| format!("{n:x}000-{n:x}800 r-xp 0 08:02 9 /{name}\n");
        let long = "x".repeat(4000);
        let same: String = (1..200).map(|n| line(n, &long)).collect();
        let maps = found(same.as_bytes(), usize::MAX);
        assert_eq!((maps.lines.len(), maps.names.len(), maps.is_cut), (199, 1, false));
        let other: String = (1..200).map(|n| line(n, &format!("{n}{long}"))).collect();
        let maps = found(other.as_bytes(), usize::MAX);
        assert!(maps.is_cut && (50..70).contains(&maps.lines.len()) && maps.size.amount() <= FLOOR);
        assert!(found(same.as_bytes(), 198).is_cut && !found(same.as_bytes(), 199).is_cut);
    }

    #[test]
    fn executable_lines_are_kept() {
        let kept = lines(MAPS.as_bytes(), usize::MAX);
        let names: Vec<&str> = kept.iter().map(|line| &*line.name).collect();
        assert_eq!(names, ["/usr/bin/dbus-daemon", "", "[vdso]", "/a b/c (deleted)"]);
        assert_eq!((kept[0].start, kept[0].end, kept[0].offset), (0x40_0000, 0x45_2000, 0x1000));
        assert_eq!((kept[3].device, kept[3].inode), ((0xfd, 0x10), 9));
        assert_eq!(lines(MAPS.as_bytes(), 2).len(), 2);
    }

    #[test]
    fn shared_mappings_are_told_from_private_ones() {
        let mut shared = Vec::new();
        read(MAPS.as_bytes(), |mapping| {
            shared.push((mapping.is_shared(), mapping.device(), mapping.inode()));
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(shared.len(), 5);
        assert_eq!(shared.iter().filter(|(is_shared, ..)| *is_shared).count(), 1);
        assert_eq!(shared[4], (true, Some((0xfd, 0x10)), Some(9)));
    }

    #[test]
    fn a_cut_or_damaged_list_does_no_harm() {
        for cut in 0..MAPS.len() {
            assert!(lines(&MAPS.as_bytes()[..cut], usize::MAX).len() <= 4);
            let mut damaged = MAPS.as_bytes().to_vec();
            damaged[cut] ^= 0x15;
            assert!(lines(&damaged[..], usize::MAX).len() <= 5);
        }
        let endless = io::repeat(b'x').take(1 << 20);
        assert_eq!(lines(BufReader::new(endless), usize::MAX), []);
    }
}
