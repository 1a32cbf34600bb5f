//! `/proc/PID/mountinfo`, line by line.
//!
//! Format: <https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html>

use std::{
    io::{BufRead as _, BufReader, Read},
    ops::ControlFlow,
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
};

/// A line of the list.
#[derive(Debug)]
pub(super) struct Mount {
    pub(super) device: (u32, u32),
    /// Where it is mounted.
    pub(super) at: PathBuf,
    pub(super) kind: String,
    /// Those of the file system.
    pub(super) options: String,
}

/// The mounts of a list, of which so many bytes are read at most; the flag says whether that was all.
pub(super) fn mounts(list: impl Read, most: u64, mut each: impl FnMut(Mount) -> ControlFlow<()>) -> bool {
    let mut list = BufReader::new(list.take(most));
    let mut line = Vec::new();
    loop {
        line.clear();
        match list.read_until(b'\n', &mut line) {
            Ok(0) => return list.get_ref().limit() > 0,
            Ok(_) => {}
            Err(_) => return false,
        }
        let is_cut = !line.ends_with(b"\n") && list.get_ref().limit() == 0;
        let whole = Some(line.strip_suffix(b"\n").unwrap_or(&line)).filter(|_| !is_cut);
        if let Some(mount) = whole.and_then(parse)
            && each(mount).is_break()
        {
            return false;
        }
    }
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
pub(super) fn layers(mount: &Mount) -> Option<Vec<PathBuf>> {
    let options = mount.options.split(',').filter_map(|option| option.split_once('='));
    let of_layers =
        options.filter(|(name, _)| name.starts_with("lowerdir") || matches!(*name, "upperdir" | "datadir+"));
    let paths = of_layers.flat_map(|(_, paths)| paths.split(':')).filter(|path| !path.is_empty());
    let layers: Vec<PathBuf> = paths.map(PathBuf::from).collect();
    let is_plain = |path: &PathBuf| path.is_absolute() && !path.iter().any(|part| part == "..");
    (!layers.is_empty() && layers.iter().all(is_plain)).then_some(layers)
}
