//! Compressed sections, inflated as far as they claim and no further.
//!
//! The size that a compressed section declares is only a claim: a stream of a megabyte can stand for a gigabyte. So no library
//! is given such a stream. It is inflated here, piece by piece, and must end exactly where it claims to.
//! Format: <https://gabi.xinuos.com/elf/03-sheader.html#compression-header>

use std::io::{self, BufReader, Read, Write};

use flate2::bufread::ZlibDecoder;
use object::elf::{CompressionType, ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::file::Content;

/// Bytes that are read and inflated at a time.
const PIECE: usize = 64 << 10;
/// The largest window that a Zstandard frame may ask for, bytes: that of its highest level, without `--ultra`, has 8 MiB.
const LARGEST_WINDOW: u64 = 32 << 20;

/// A compressed section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compressed {
    /// How it is compressed.
    pub(crate) kind: CompressionType,
    /// Where the stream begins in the file, after the header.
    pub(crate) offset: u64,
    /// How many bytes it has there.
    pub(crate) length: u64,
    /// How many bytes it claims to stand for.
    pub(crate) claimed: u64,
}

impl Compressed {
    /// Writes what it stands for, exactly as many bytes as it claims; an error if it is any other number, once that is known.
    pub(crate) fn inflate<'data>(self, data: impl Content<'data>, into: &mut impl Write) -> Result<(), String> {
        let stream = Stream { data, at: self.offset, left: self.length };
        let stream = BufReader::with_capacity(PIECE, stream);
        let result = match self.kind {
            ELFCOMPRESS_ZLIB => copy(&mut ZlibDecoder::new(stream), into, self.claimed),
            ELFCOMPRESS_ZSTD => frames(stream, into, self.claimed),
            kind => Err(io::Error::other(format!("its compression {} is not known", kind.0))),
        };
        let written = result.map_err(|error| error.to_string())?;
        let claimed = self.claimed;
        match written {
            Some(written) if written == claimed => Ok(()),
            Some(written) => Err(format!("it has {written} bytes and claims {claimed}")),
            None => Err(format!("it has more bytes than the {claimed} that it claims")),
        }
    }
}

/// All frames of a Zstandard stream.
fn frames(mut stream: impl io::BufRead, into: &mut impl Write, claimed: u64) -> io::Result<Option<u64>> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(LARGEST_WINDOW);
    let mut written = 0;
    while !stream.fill_buf()?.is_empty() {
        let mut frame = StreamingDecoder::new_with_decoder(&mut stream, &mut decoder).map_err(io::Error::other)?;
        match copy(&mut frame, into, claimed - written)? {
            Some(more) => written += more,
            None => return Ok(None),
        }
    }
    Ok(Some(written))
}

/// Copies at most `most` bytes; how many there are, or `None` if there are more.
fn copy(from: &mut impl Read, into: &mut impl Write, most: u64) -> io::Result<Option<u64>> {
    let mut piece = vec![0; PIECE];
    let mut written = 0u64;
    loop {
        let read = match from.read(&mut piece)? {
            0 => return Ok(Some(written)),
            read => read,
        };
        written = written.saturating_add(read as u64);
        if written > most {
            return Ok(None);
        }
        into.write_all(piece.get(..read).unwrap_or_default())?;
    }
}

/// Bytes of a file, in order.
struct Stream<R> {
    data: R,
    at: u64,
    left: u64,
}

impl<'data, R: Content<'data>> Read for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let buffer = buffer.get_mut(..len).unwrap_or_default();
        self.data.copy_at(self.at, buffer).map_err(|()| io::Error::other("it is cut off, or may not be read"))?;
        self.at += len as u64;
        self.left -= len as u64;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::ZlibEncoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn inflated(kind: CompressionType, stream: &[u8], claimed: usize) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let compressed = Compressed { kind, offset: 0, length: stream.len() as u64, claimed: claimed as u64 };
        let result = compressed.inflate(stream, &mut bytes);
        assert!(bytes.len() <= claimed, "{} bytes written of {claimed} claimed", bytes.len());
        result.map(|()| bytes)
    }

    #[test]
    fn a_stream_must_be_exactly_as_long_as_it_claims() {
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n / 1000) as u8).collect();
        for (kind, stream) in [(ELFCOMPRESS_ZLIB, zlib(&bytes)), (ELFCOMPRESS_ZSTD, zstd(&bytes))] {
            assert_eq!(inflated(kind, &stream, bytes.len()).as_ref(), Ok(&bytes));
            let found = inflated(kind, &stream, bytes.len() + 1).unwrap_err();
            assert_eq!(found, "it has 300000 bytes and claims 300001");
            for claimed in [0, 1, 4096, bytes.len() - 1] {
                let found = inflated(kind, &stream, claimed).unwrap_err();
                assert_eq!(found, format!("it has more bytes than the {claimed} that it claims"));
            }
        }
    }

    #[test]
    fn a_gigabyte_that_claims_a_page_costs_a_page() {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        let zeroes = vec![0; 1 << 20];
        (0..64).for_each(|_| encoder.write_all(&zeroes).unwrap());
        assert!(inflated(ELFCOMPRESS_ZLIB, &encoder.finish().unwrap(), 4096).is_err());
    }

    #[test]
    fn several_frames_are_one_stream() {
        let stream = [zstd(b"one "), zstd(b"two "), zstd(b"three")].concat();
        assert_eq!(inflated(ELFCOMPRESS_ZSTD, &stream, 13).unwrap(), b"one two three");
        assert!(inflated(ELFCOMPRESS_ZSTD, &stream, 8).is_err());
    }

    #[test]
    fn cut_and_damaged_streams_are_errors() {
        let bytes: Vec<u8> = (0..2000u32).map(|n| (n * n / 7) as u8).collect();
        for (kind, stream) in [(ELFCOMPRESS_ZLIB, zlib(&bytes)), (ELFCOMPRESS_ZSTD, zstd(&bytes))] {
            for cut in 0..stream.len() {
                assert!(inflated(kind, &stream[..cut], bytes.len()).is_err(), "{kind:?} {cut}");
            }
            for at in 0..stream.len() {
                let mut damaged = stream.clone();
                damaged[at] ^= 0x55;
                let _ = inflated(kind, &damaged, bytes.len());
            }
        }
        assert!(inflated(CompressionType(77), b"", 0).unwrap_err().contains("77"));
    }
}
