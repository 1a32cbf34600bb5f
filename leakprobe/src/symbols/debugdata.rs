//! `.gnu_debugdata`: a symbol table that was left in a stripped file, compressed with xz. Fedora and its kin have it in every program.
//!
//! Format: <https://sourceware.org/gdb/current/onlinedocs/gdb.html/MiniDebugInfo.html>

use std::io::Read as _;

use crate::{pool::Held, target::file::Content};

/// Most bytes of it in the file. Firefox's, one of the largest, has some 7 MiB.
const LARGEST: u64 = 64 << 20;
/// Most bytes of it after decompression.
const LARGEST_INFLATED: u64 = 256 << 20;
/// Most memory that decompression takes besides, KiB: xz -9 takes 65 MiB.
const MEMORY_KIB: u32 = 128 << 10;

/// Bytes that are decompressed at a time.
const PIECE: u64 = 1 << 20;

/// What was decompressed, and what it takes of the budget.
type Inflated = (Vec<u8>, Option<Held>);

/// Decompresses what lies at `offset`.
pub(super) fn inflate<'data>(data: impl Content<'data>, place: (u64, u64)) -> Result<Inflated, String> {
    inflate_to(data, place, LARGEST_INFLATED)
}

/// The same, up to `largest` bytes.
pub(crate) fn inflate_to<'data>(
    data: impl Content<'data>,
    (offset, length): (u64, u64),
    largest: u64,
) -> Result<Inflated, String> {
    if length > LARGEST {
        return Err(format!("it has {} MiB", length >> 20));
    }
    let scarce = |()| "there is not enough memory for it".to_owned();
    let _working = data.hold(u64::from(MEMORY_KIB) << 10).map_err(scarce)?;
    let mut held: Option<Held> = None;
    let compressed = data.read_bytes_at(offset, length).map_err(|()| "it is cut off".to_owned())?;
    let mut reader = lzma_rust2::XzReader::new_mem_limit(compressed, false, MEMORY_KIB);
    let mut bytes = Vec::new();
    // How large it is shows when it ends.
    loop {
        let piece = data.hold(PIECE).map_err(scarce)?;
        let read = reader.by_ref().take(PIECE).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        match (&mut held, piece) {
            (Some(held), Some(piece)) => held.add(piece),
            (held, piece) => *held = piece,
        }
        if bytes.len() as u64 > largest {
            return Err(format!("it has more than {} MiB when decompressed", largest >> 20));
        }
        if read == 0 {
            break;
        }
    }
    bytes.shrink_to_fit();
    Ok((bytes, held))
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    fn xz(bytes: &[u8], flags: &[&str]) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        fs::write(&path, bytes).unwrap();
        let status = Command::new("xz").args(flags).arg(&path).status().expect("these tests need xz");
        assert!(status.success());
        fs::read(path.with_extension("xz")).unwrap()
    }

    fn inflated(data: &[u8], largest: u64) -> Result<Vec<u8>, String> {
        inflate_to(data, (0, data.len() as u64), largest).map(|(bytes, _)| bytes)
    }

    #[test]
    fn what_xz_makes_is_read_up_to_the_limit() {
        let bytes = vec![7; 3 << 20];
        for flags in [&["-0"][..], &["-9e"], &["--check=sha256"], &["--check=none"]] {
            let data = xz(&bytes, flags);
            assert!(data.len() < 4096);
            assert_eq!(inflated(&data, 4 << 20).as_ref(), Ok(&bytes), "{flags:?}");
            assert_eq!(inflated(&data, 2 << 20).unwrap_err(), "it has more than 2 MiB when decompressed");
        }
        // A dictionary of 1.5 GiB, of which the data need no more than a byte.
        assert!(inflated(&xz(b"x", &["--lzma2=dict=1536MiB"]), 100).unwrap_err().contains("mem"));
    }

    #[test]
    fn cut_and_damaged_data_is_an_error_or_bounded() {
        let data = xz(b"some names and some more names of functions", &[]);
        for cut in 0..data.len() {
            assert!(inflated(&data[..cut], 1 << 20).is_err(), "{cut}");
        }
        for at in 0..data.len() {
            for flip in [1, 0x80, 0xff] {
                let mut damaged = data.clone();
                damaged[at] ^= flip;
                assert!(inflated(&damaged, 1 << 20).map_or(0, |bytes| bytes.len()) <= 1 << 20);
            }
        }
        assert!(inflate(&data[..], (u64::MAX, 10)).is_err());
        assert!(inflate(&data[..], (0, 1 << 40)).is_err());
    }
}
