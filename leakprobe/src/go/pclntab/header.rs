//! The first 72 bytes of a pclntab: how wide things are, and where its parts begin.
//!
//! Source: `pcHeader` in <https://github.com/golang/go/blob/go1.27.0/src/runtime/symtab.go>.

use super::read::{u32_at, u64_at};

/// Which of the two layouts that are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Go 1.18 and 1.19.
    Go118,
    /// Go 1.20 and later: functions know the line that they start in.
    Go120,
}

/// Why some bytes are no pclntab that leakprobe can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer bytes than a header has.
    #[error("{0} bytes are too few for a pclntab header, which has 72")]
    Short(usize),
    /// The first word is none of Go's.
    #[error("{0:#010x} is no magic number of a pclntab")]
    Magic(u32),
    /// Made by a Go that leakprobe does not support.
    #[error("the pclntab is that of Go {0}; leakprobe reads those of Go 1.18 and later")]
    Old(&'static str),
    /// Instruction size or pointer size of no machine that leakprobe knows.
    #[error(
        "padding {pad:#06x}, instruction size {quantum} and pointer size {pointer} are not those of a 64-bit pclntab"
    )]
    Machine {
        /// Must be zero.
        pad: u16,
        /// 1 on amd64, 4 on arm64.
        quantum: u8,
        /// 8 on both.
        pointer: u8,
    },
    /// No functions, or more than offsets of 32 bits can tell apart.
    #[error("a pclntab of {0} functions cannot be")]
    Functions(u64),
    /// The parts do not follow one another as the linker lays them out.
    #[error("the parts of the pclntab are out of order")]
    Order,
    /// The function table does not fit into the bytes that there are.
    #[error("the pclntab needs at least {needed} bytes, but has {len}")]
    Cut {
        /// Bytes up to the end of the function table.
        needed: u64,
        /// Bytes at hand.
        len: u64,
    },
}

/// A header whose fields make sense together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which layout records have.
    pub layout: Layout,
    /// Size of the smallest instruction in bytes: program counters are counted in it.
    pub quantum: u8,
    /// Number of functions.
    pub functions: u32,
    /// Number of files.
    pub files: u64,
    /// Where the text begins, as the header says: 0 from Go 1.26 on, and not relocated in the file of a PIE.
    /// `moduledata.text` is always right.
    pub text_start: u64,
    /// Names of functions: offset from the header, as all that follow.
    pub names: u64,
    /// For each compilation unit its files, as offsets into [`paths`](Self::paths).
    pub units: u64,
    /// Paths of files.
    pub paths: u64,
    /// Tables of values by program counter.
    pub values: u64,
    /// The function table, and the records of functions behind it.
    pub table: u64,
}

impl Header {
    /// Size in bytes.
    pub const SIZE: usize = 72;

    /// Reads the header that `bytes` begin with. More than [`Header::SIZE`] bytes are not looked at.
    ///
    /// # Errors
    /// If it is no header of a pclntab that leakprobe can read.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let header = bytes.get(..Self::SIZE).ok_or(HeaderError::Short(bytes.len()))?;
        let word = |index: usize| u64_at(header, 8 * index).unwrap_or_default();
        let magic = u32_at(header, 0).unwrap_or_default();
        let layout = match magic {
            0xffff_fff0 => Layout::Go118,
            0xffff_fff1 => Layout::Go120,
            0xffff_fffa => return Err(HeaderError::Old("1.16 or 1.17")),
            0xffff_fffb => return Err(HeaderError::Old("1.2 to 1.15")),
            _ => return Err(HeaderError::Magic(magic)),
        };
        let [.., low, high, quantum, pointer] = word(0).to_le_bytes();
        let pad = u16::from_le_bytes([low, high]);
        if pad != 0 || !matches!(quantum, 1 | 4) || pointer != 8 {
            return Err(HeaderError::Machine { pad, quantum, pointer });
        }
        // The end of the function table, 8 bytes a function, is still counted in 32 bits.
        let functions = u32::try_from(word(1)).ok().filter(|&count| count > 0 && count < u32::MAX / 8);
        let functions = functions.ok_or(HeaderError::Functions(word(1)))?;
        let header = Self {
            layout,
            quantum,
            functions,
            files: word(2),
            text_start: word(3),
            names: word(4),
            units: word(5),
            paths: word(6),
            values: word(7),
            table: word(8),
        };
        let starts = [Self::SIZE as u64, header.names, header.units, header.paths, header.values, header.table];
        if !starts.is_sorted() || header.table > isize::MAX as u64 {
            return Err(HeaderError::Order);
        }
        Ok(header)
    }

    /// Finds headers in `bytes`, whose start is 8-aligned in the target. What is found is a header that makes sense and
    /// whose function table fits, with its offset: still only a candidate, because anybody can write such bytes.
    pub fn candidates(bytes: &[u8]) -> impl Iterator<Item = (usize, Self)> {
        bytes.chunks_exact(8).enumerate().filter_map(move |(index, word)| {
            let &[0xf0 | 0xf1, 0xff, 0xff, 0xff, 0, 0, _, 8] = word else { return None };
            let rest = bytes.get(8 * index..)?;
            let header = Self::parse(rest).ok()?;
            (header.min_len() <= rest.len() as u64).then_some((8 * index, header))
        })
    }

    /// Bytes from the header to the end of the function table. The whole pclntab is longer: records follow, up to
    /// `moduledata.epclntab`.
    #[must_use]
    pub fn min_len(&self) -> u64 {
        self.table + 8 * u64::from(self.functions) + 4
    }
}
