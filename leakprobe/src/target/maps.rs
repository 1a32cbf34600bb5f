//! `/proc/PID/maps`, line by line: a process may have hundreds of thousands of mappings.
//!
//! Format: <https://man7.org/linux/man-pages/man5/proc_pid_maps.5.html>

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    ops::{ControlFlow, Range},
};

/// Longest line that is taken for one; a path has 4 KB at most.
const LONGEST_LINE: u64 = 64 << 10;

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
    pub(super) name: String,
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

    fn line(&self) -> Option<Line> {
        Some(Line {
            start: self.start,
            end: self.end,
            offset: hex(self.offset)?,
            device: self.device()?,
            inode: self.inode()?,
            name: String::from_utf8_lossy(self.name).into_owned(),
        })
    }
}

/// The executable mappings that a thread sees, `most` at most; `visit` sees all, the others, too.
pub(super) fn executable(thread: u32, most: usize, mut visit: impl FnMut(&Mapping<'_>)) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    each(thread, |mapping| {
        visit(&mapping);
        executable_line(&mapping, most, &mut lines)
    })?;
    Ok(lines)
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

fn executable_line(mapping: &Mapping<'_>, most: usize, lines: &mut Vec<Line>) -> ControlFlow<()> {
    if mapping.is_executable() {
        lines.extend(mapping.line());
    }
    if lines.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
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

    fn lines(maps: impl BufRead, most: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        read(maps, |mapping| executable_line(&mapping, most, &mut lines)).unwrap();
        lines
    }

    #[test]
    fn executable_lines_are_kept() {
        let kept = lines(MAPS.as_bytes(), usize::MAX);
        let names: Vec<&str> = kept.iter().map(|line| line.name.as_str()).collect();
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
