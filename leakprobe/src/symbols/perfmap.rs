//! Perf maps: text files in which JIT compilers say where they have put which function.
//!
//! A line is `START SIZE name`, numbers in hex. The file grows as code is made, and lines are never taken back: where code was
//! dropped and its place used again, a later line covers the same addresses. So the last one that covers an address names
//! it, unless a later one still covers a part of that function, which then is no more.
//! Format: <https://github.com/torvalds/linux/blob/v6.12/tools/perf/Documentation/jit-interface.txt>
//!
//! The lines are not kept: one pass over the file answers all addresses, and what was added since is read for those that are known.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    sync::Arc,
};

use crate::pool::{Pool, Share};

/// Longest line that is read; of a longer one the name is cut off.
const LONGEST_LINE: u64 = 4 << 10;
/// Most of a file that is read: its end. A large Java server's has some 10 MiB.
pub(super) const LARGEST: u64 = 256 << 20;
/// Most addresses that are known; then all are forgotten.
const MOST_ADDRESSES: usize = 1 << 16;
/// What the names of functions may take however little memory is left for them, bytes.
const FLOOR: u64 = 64 << 10;
/// What a function takes besides its name, bytes.
const BESIDES: usize = 128;
/// Bytes before the place that was read up to by which the file is known again.
const MARK: usize = 256;

/// The names of some addresses, as far as a file has been read.
pub(super) struct PerfMap {
    /// The addresses that names were asked for, sorted; each with the name of its function.
    known: BTreeMap<u64, Option<Arc<str>>>,
    /// The functions that hold such addresses, by where they begin. None overlaps another.
    functions: BTreeMap<u64, (u64, Arc<str>)>,
    /// Up to where the file was read: after the end of a line.
    read: u64,
    /// What lies before that place.
    mark: Vec<u8>,
    /// Whether the first part of the file was left out.
    pub(super) is_cut: bool,
    /// What `functions` take, bytes.
    size: Share,
    /// Whether names were left out because there was no memory for them.
    pub(super) is_full: bool,
}

impl PerfMap {
    /// Nothing is known yet; names take a share of this memory.
    pub(super) fn within(kept: &Pool) -> Self {
        Self {
            known: BTreeMap::new(),
            functions: BTreeMap::new(),
            read: 0,
            mark: Vec::new(),
            is_cut: false,
            size: kept.share(FLOOR),
            is_full: false,
        }
    }

    /// The names of `addresses` in the file as it is now, and whether that of any known address is another one than before.
    pub(super) fn look_up(
        &mut self,
        mut file: impl Read + Seek,
        addresses: &[u64],
    ) -> io::Result<(HashMap<u64, Arc<str>>, bool)> {
        if self.known.len().saturating_add(addresses.len()) > MOST_ADDRESSES {
            self.known.clear();
            self.read = 0;
            self.mark.clear();
        }
        let length = file.seek(SeekFrom::End(0))?;
        let new: Vec<u64> = addresses.iter().copied().filter(|address| !self.known.contains_key(address)).collect();
        if !new.is_empty() || !self.is_continued(&mut file, length)? {
            self.known.extend(new.into_iter().map(|address| (address, None)));
            self.functions.clear();
            self.size.set_up_to(0);
            self.is_full = false;
            self.read = length.saturating_sub(LARGEST);
            self.is_cut = self.read > 0;
            if self.is_cut {
                // To the next beginning of a line.
                self.read = file.seek(SeekFrom::Start(self.read))?;
                self.read += read_line(&mut BufReader::new(&mut file), &mut Vec::new())?.0;
            }
        }
        file.seek(SeekFrom::Start(self.read))?;
        self.read_lines(BufReader::with_capacity(128 << 10, (&mut file).take(length - self.read.min(length))))?;
        self.remember_place(&mut file)?;
        let is_renamed = self.name_addresses();
        let named = |address: &u64| Some((*address, self.known.get(address)?.clone()?));
        Ok((addresses.iter().filter_map(named).collect(), is_renamed))
    }

    /// Whether the file is what it was, or that and more.
    fn is_continued(&self, file: &mut (impl Read + Seek), length: u64) -> io::Result<bool> {
        if self.read > length {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(self.read - self.mark.len() as u64))?;
        let mut there = vec![0; self.mark.len()];
        file.read_exact(&mut there)?;
        Ok(there == self.mark)
    }

    fn remember_place(&mut self, file: &mut (impl Read + Seek)) -> io::Result<()> {
        let from = self.read.saturating_sub(MARK as u64);
        file.seek(SeekFrom::Start(from))?;
        self.mark.clear();
        file.take(self.read - from).read_to_end(&mut self.mark)?;
        Ok(())
    }

    fn read_lines(&mut self, mut lines: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let (length, is_whole) = read_line(&mut lines, &mut line)?;
            if !is_whole {
                // The last line is still being written; it is read when it ends.
                return Ok(());
            }
            self.read += length;
            if let Some((start, end, name)) = parse(&line) {
                self.add(start, end, name);
            }
        }
    }

    fn add(&mut self, start: u64, end: u64, name: &[u8]) {
        // What this one covers is gone: from the function that may reach into it on.
        let reaches_in = self.functions.range(..start).next_back().filter(|(_, (its_end, _))| *its_end > start);
        let first = reaches_in.map_or(start, |(its_start, _)| *its_start);
        while let Some((&gone, _)) = self.functions.range(first..end).next() {
            let name = self.functions.remove(&gone).map(|(_, name)| name);
            self.size.shrink(name.map_or(0, |name| bytes_of(&name)));
        }
        if self.known.range(start..end).next().is_none() {
            return;
        }
        let name: Arc<str> = String::from_utf8_lossy(name).into();
        if self.size.grow(bytes_of(&name)).is_ok() {
            self.functions.insert(start, (end, name));
        } else {
            self.is_full = true;
        }
    }

    /// Gives the addresses their names; returns whether any had another one.
    fn name_addresses(&mut self) -> bool {
        let mut is_renamed = false;
        for (address, held) in &mut self.known {
            let function = self.functions.range(..=address).next_back().filter(|(_, (end, _))| address < end);
            let name = function.map(|(_, (_, name))| name);
            if held.as_ref() != name {
                is_renamed |= held.is_some();
                *held = name.cloned();
            }
        }
        is_renamed
    }
}

fn bytes_of(name: &str) -> u64 {
    (name.len() + BESIDES) as u64
}

/// Reads a line, or as much of it as is wanted; how long it is, and whether it has an end.
fn read_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<(u64, bool)> {
    let mut length = lines.by_ref().take(LONGEST_LINE).read_until(b'\n', line)? as u64;
    let mut is_whole = line.last() == Some(&b'\n');
    while !is_whole {
        let piece = lines.fill_buf()?;
        if piece.is_empty() {
            break;
        }
        let end = piece.iter().position(|&byte| byte == b'\n');
        let used = end.map_or(piece.len(), |at| at + 1);
        is_whole = end.is_some();
        length += used as u64;
        lines.consume(used);
    }
    Ok((length, is_whole))
}

/// Begin, end and name.
fn parse(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let line = line.trim_ascii();
    let mut words = line.splitn(3, |&byte| byte == b' ');
    let (start, size) = (hex(words.next()?)?, hex(words.next()?)?);
    let name = words.next()?.trim_ascii();
    let end = start.checked_add(size)?;
    (size > 0 && !name.is_empty()).then_some((start, end, name))
}

fn hex(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    // from_str_radix takes a sign.
    digits.starts_with(|first: char| first.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    impl Default for PerfMap {
        fn default() -> Self {
            Self::within(&Pool::new(1 << 30))
        }
    }

    fn names(map: &mut PerfMap, text: &str, addresses: &[u64]) -> (Vec<Option<String>>, bool) {
        let (named, renamed) = map.look_up(Cursor::new(text), addresses).unwrap();
        (addresses.iter().map(|address| named.get(address).map(ToString::to_string)).collect(), renamed)
    }

    fn some(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    #[test]
    fn what_node_and_java_write_is_read() {
        let map = "3ef414c0 398 Function:~foo bar.js:1:2\n0x00007f86c4b1e480 0x0000fc Interpreter\n";
        let (found, _) =
            names(&mut PerfMap::default(), map, &[0x3ef4_14c0, 0x3ef4_1857, 0x3ef4_1858, 0x7f86_c4b1_e4ff]);
        assert_eq!(
            found,
            [some("Function:~foo bar.js:1:2"), some("Function:~foo bar.js:1:2"), None, some("Interpreter")]
        );
    }

    #[test]
    fn the_last_line_wins_and_what_it_overlaps_is_gone() {
        let map = "100 100 old\n100 80 new\n300 10 a\n2f0 11 b\n";
        assert_eq!(names(&mut PerfMap::default(), map, &[0x110, 0x190, 0x305]).0, [some("new"), None, None]);
        assert_eq!(names(&mut PerfMap::default(), map, &[0x300]).0, [some("b")]);
    }

    #[test]
    fn what_is_added_is_read_and_a_line_without_end_is_waited_for() {
        let mut map = PerfMap::default();
        let whole = "100 10 first\n200 10 second\n100 10 third\n";
        let asked = [0x101, 0x201];
        assert_eq!(names(&mut map, &whole[..9], &asked), (vec![None, None], false));
        assert_eq!(names(&mut map, &whole[..20], &asked), (vec![some("first"), None], false));
        assert_eq!(names(&mut map, &whole[..28], &asked), (vec![some("first"), some("second")], false));
        assert_eq!(names(&mut map, whole, &asked), (vec![some("third"), some("second")], true));
        assert_eq!(names(&mut map, whole, &[0x100]), (vec![some("third")], false), "a new address, the same file");
    }

    #[test]
    fn a_file_that_was_begun_anew_is_read_anew() {
        let mut map = PerfMap::default();
        assert_eq!(names(&mut map, "100 10 first\n", &[0x101]).0, [some("first")]);
        assert_eq!(names(&mut map, "500 10 other\n100 10 again\n", &[0x101]), (vec![some("again")], true));
        assert_eq!(names(&mut map, "", &[0x101]), (vec![None], true));
    }

    #[test]
    fn of_a_huge_file_the_end_is_read_and_that_is_said() {
        let line = "9000 10 filler that makes the file long enough for the test\n";
        let many = usize::try_from(LARGEST).unwrap() / line.len() + 2;
        let text = format!("100 10 early\n{}200 10 late\n", line.repeat(many));
        let mut map = PerfMap::default();
        assert_eq!(names(&mut map, &text, &[0x101, 0x201]).0, [None, some("late")]);
        assert!(map.is_cut);
    }

    #[test]
    fn names_take_no_more_memory_than_there_is() {
        let line = |n: u64| format!("{:x} 10 {}{n}\n", n * 16, "x".repeat(2000));
        let text: String = (1..100).map(line).collect();
        let addresses: Vec<u64> = (1..100).map(|n| n * 16).collect();
        let mut map = PerfMap::within(&Pool::new(0));
        let named = names(&mut map, &text, &addresses).0.into_iter().flatten().count();
        assert!((20..40).contains(&named) && map.is_full && map.size.amount() <= FLOOR, "{named}");
        assert_eq!(names(&mut map, &line(1), &[16]).0.into_iter().flatten().count(), 1);
        assert!(!map.is_full, "what is gone makes room");
    }

    #[test]
    fn damage_and_cuts_do_no_harm() {
        let map = "100 100 old\n0x180 0x100 new function;with marks\n\n zz\n10 ffffffffffffffff x\n+1 +2 y\n1 0 z\n";
        for cut in 0..=map.len() {
            names(&mut PerfMap::default(), &map[..cut], &[0x100, 0x180, u64::MAX]);
        }
        for at in 0..map.len() {
            for value in [0, b'\n', b' ', b'f', 0xff] {
                let mut damaged = map.as_bytes().to_vec();
                damaged[at] = value;
                PerfMap::default().look_up(Cursor::new(damaged), &[0, 0x100, 0x180, u64::MAX]).unwrap();
            }
        }
        let long = format!("100 10 {}\n200 10 b\n", "a".repeat(100_000));
        let (found, _) = names(&mut PerfMap::default(), &long, &[0x100, 0x200]);
        assert_eq!(found[1], some("b"));
        assert!(found[0].as_ref().is_some_and(|name| name.len() < 20_000));
    }
}
