//! The executable mappings of `/proc/PID/maps`, line by line: a process may have hundreds of thousands of others.
//!
//! Format: <https://man7.org/linux/man-pages/man5/proc_pid_maps.5.html>

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
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

/// The executable mappings that a thread sees, `most` at most.
pub(super) fn executable(thread: u32, most: usize) -> io::Result<Vec<Line>> {
    read(BufReader::with_capacity(128 << 10, File::open(format!("/proc/{thread}/maps"))?), most)
}

fn read(mut maps: impl BufRead, most: usize) -> io::Result<Vec<Line>> {
    let (mut lines, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if maps.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 || lines.len() >= most {
            return Ok(lines);
        }
        // What the kernel writes can be read; a line that cannot is not one of its own.
        lines.extend(parse(&line));
    }
}

/// The mapping that a line tells of, if it is executable.
fn parse(line: &[u8]) -> Option<Line> {
    let mut rest = line;
    let range = word(&mut rest)?;
    let permissions = word(&mut rest)?;
    if permissions.get(2) != Some(&b'x') {
        return None;
    }
    let offset = hex(word(&mut rest)?)?;
    let device = word(&mut rest)?;
    let inode = std::str::from_utf8(word(&mut rest)?).ok()?.parse().ok()?;
    let (start, end) = split(range, b'-')?;
    let (major, minor) = split(device, b':')?;
    let name = String::from_utf8_lossy(rest.trim_ascii()).into_owned();
    let device = (u32::try_from(major).ok()?, u32::try_from(minor).ok()?);
    Some(Line { start, end, offset, device, inode, name })
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

    #[test]
    fn executable_lines_are_kept() {
        let lines = read(MAPS.as_bytes(), usize::MAX).unwrap();
        let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["/usr/bin/dbus-daemon", "", "[vdso]", "/a b/c (deleted)"]);
        assert_eq!((lines[0].start, lines[0].end, lines[0].offset), (0x40_0000, 0x45_2000, 0x1000));
        assert_eq!((lines[3].device, lines[3].inode), ((0xfd, 0x10), 9));
        assert_eq!(read(MAPS.as_bytes(), 2).unwrap().len(), 2);
    }

    #[test]
    fn a_cut_or_damaged_list_does_no_harm() {
        for cut in 0..MAPS.len() {
            assert!(read(&MAPS.as_bytes()[..cut], usize::MAX).unwrap().len() <= 4);
            let mut damaged = MAPS.as_bytes().to_vec();
            damaged[cut] ^= 0x15;
            assert!(read(&damaged[..], usize::MAX).unwrap().len() <= 5);
        }
        let endless = io::repeat(b'x').take(1 << 20);
        assert_eq!(read(BufReader::new(endless), usize::MAX).unwrap(), []);
    }
}
