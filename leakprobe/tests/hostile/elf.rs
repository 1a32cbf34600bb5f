//! Small ELF files that claim much.

use std::{fs::File, io::Write, os::unix::fs::FileExt, path::Path};

use flate2::{Compression, write::ZlibEncoder};

const HEADER: u64 = 64;
/// Where names, code and sections' content lie in the file.
const NAMES: u64 = 0x800;
const CODE: u64 = 0x1000;
const CONTENT: u64 = 0x2000;
/// `SHF_COMPRESSED`.
pub(crate) const COMPRESSED: u64 = 0x800;

/// A section of a file that is made up.
#[derive(Clone, Copy)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    pub(crate) address: u64,
    /// Where its content begins, from that of all on, and how long it is.
    pub(crate) place: (u64, u64),
    pub(crate) entry: u64,
}

impl Section {
    /// One that is neither loaded nor a table.
    pub(crate) fn plain(name: &'static str, place: (u64, u64)) -> Self {
        Self { name, kind: 1, flags: 0, address: 0, place, entry: 0 }
    }
}

/// Writes a file whose code calls `pause`, with these bytes as the content of its sections, and zeroes up to `length` after them.
pub(crate) fn write(path: &Path, sections: &[Section], content: &[u8], length: u64) {
    let mut names = b"\0.text\0.shstrtab\0".to_vec();
    let mut headers = vec![0; HEADER as usize];
    headers.extend(header(1, 1, 6, CODE, (CODE, 0x1000), 0));
    headers.extend(header(7, 3, 0, 0, (NAMES, 0x400), 0));
    let mut last = ("", 0);
    for section in sections {
        if section.name != last.0 {
            last = (section.name, names.len() as u32);
            names.extend(section.name.bytes().chain([0]));
        }
        let place = (CONTENT + section.place.0, section.place.1);
        headers.extend(header(last.1, section.kind, section.flags, section.address, place, section.entry));
    }
    let headers_at = (CONTENT + length.max(content.len() as u64)).next_multiple_of(8);
    let count = headers.len() as u64 / HEADER;
    if count >= 0xff00 {
        // The first one has the number.
        headers[0x20..0x28].copy_from_slice(&count.to_le_bytes());
    }
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(16, 0);
    head.extend([3_u16, 62].map(u16::to_le_bytes).concat());
    head.extend(1_u32.to_le_bytes());
    head.extend([CODE, HEADER, headers_at].map(u64::to_le_bytes).concat());
    head.extend(0_u32.to_le_bytes());
    let number = if count >= 0xff00 { 0 } else { count as u16 };
    head.extend([64, 56, 1, 64, number, 2].map(u16::to_le_bytes).concat());
    head.extend([1_u32, 5].map(u32::to_le_bytes).concat());
    head.extend([CODE, CODE, CODE, 0x1000, 0x1000, 0x1000].map(u64::to_le_bytes).concat());
    let file = File::create(path).unwrap();
    // pause, for ever
    let code = [0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];
    for (at, bytes) in [(0, &head[..]), (NAMES, &names), (CODE, &code), (CONTENT, content), (headers_at, &headers)] {
        file.write_all_at(bytes, at).unwrap();
    }
}

fn header(name: u32, kind: u32, flags: u64, address: u64, (offset, size): (u64, u64), entry: u64) -> Vec<u8> {
    let head = [name, kind].map(u32::to_le_bytes).concat();
    let rest = [flags, address, offset, size].map(u64::to_le_bytes).concat();
    // A table of symbols is linked with the names of sections, which end each name just as well.
    let link = [2_u32, 0].map(u32::to_le_bytes).concat();
    [head, rest, link, [8, entry].map(u64::to_le_bytes).concat()].concat()
}

/// Zeroes, compressed with zlib as a section, with the size that they claim.
pub(crate) fn zeroes(mebibytes: usize, claimed: u64) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    let piece = vec![0; 1 << 20];
    (0..mebibytes).for_each(|_| encoder.write_all(&piece).unwrap());
    let stream = encoder.finish().unwrap();
    let head = [1_u32, 0].map(u32::to_le_bytes).concat();
    [head, [claimed, 8].map(u64::to_le_bytes).concat(), stream].concat()
}
