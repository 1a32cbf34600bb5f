//! The format of recorded threads: JSON, numbers and bytes in hexadecimal, so that a change can be read.
//!
//! Of large modules only the frame descriptions that the stack needs are kept, at their places, with an index of just those.

use std::{fmt::Write as _, ops::Range};

use leakprobe::{
    model::{Stack, StackEnd},
    snapshot::{StackMemory, Unwinder},
    target::{
        Modules, Placed,
        elf::{Elf, Section},
    },
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A thread, with all that it takes to unwind it, and what comes out.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Fixture {
    /// What the thread was doing, and what is special about it.
    pub(crate) what: String,
    pub(crate) regs: Vec<Hex>,
    pub(crate) base: Hex,
    pub(crate) stack: Bytes,
    pub(crate) anonymous: Vec<(Hex, Hex)>,
    pub(crate) modules: Vec<Extract>,
    /// Innermost first: the module's file name and the address in it, or the bare address.
    pub(crate) frames: Vec<String>,
    pub(crate) end: StackEnd,
}

/// What unwinding needs of a module.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Extract {
    pub(crate) name: String,
    pub(crate) bias: Hex,
    pub(crate) mappings: Vec<(Hex, Hex)>,
    pub(crate) text: Option<(Hex, Hex)>,
    pub(crate) got: Option<(Hex, Hex)>,
    pub(crate) eh_frame: Option<Sparse>,
    pub(crate) eh_frame_hdr: Option<Sparse>,
    pub(crate) debug_frame: Option<Sparse>,
}

/// A section, zero but for some pieces.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Sparse {
    pub(crate) svma: Hex,
    pub(crate) size: usize,
    pub(crate) pieces: Vec<(usize, Bytes)>,
}

/// A number.
#[derive(Clone, Copy)]
pub(crate) struct Hex(pub(crate) u64);

/// Some bytes.
#[derive(Clone)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Fixture {
    pub(crate) fn modules(&self) -> Modules {
        let anonymous: Vec<_> = self.anonymous.iter().map(range).collect();
        Modules::from_parts(self.modules.iter().map(Extract::placed).collect(), &anonymous)
    }

    /// Unwinds from the first `len` bytes of the stack.
    pub(crate) fn unwind(&self, unwinder: &mut Unwinder, modules: &mut Modules, len: usize) -> Stack {
        let regs = std::array::from_fn(|index| self.regs.get(index).map_or(0, |word| word.0));
        let mut memory = StackMemory::captured(self.base.0, &self.stack.0[..len]);
        unwinder.unwind(modules, &regs, &mut memory).0
    }
}

/// The frames of a stack, as a fixture names them.
pub(crate) fn named(stack: &Stack, modules: &mut Modules) -> Vec<String> {
    let name = |(depth, &address): (usize, &u64)| {
        let lookup = address - u64::from(depth > 0);
        let located = modules.locate(lookup);
        match located.and_then(|located| Some((modules.get(located.module)?, located.svma + address - lookup))) {
            Some((module, svma)) => {
                let name = module.path.rsplit('/').next().unwrap_or_default();
                format!("{name}+{svma:#x}")
            }
            None => format!("{address:#x}"),
        }
    };
    stack.addresses.iter().enumerate().map(name).collect()
}

impl Extract {
    fn placed(&self) -> Placed {
        let section = |sparse: &Option<Sparse>| sparse.as_ref().map(Sparse::section);
        let elf = Elf {
            segments: Vec::new(),
            text: self.text.as_ref().map(range),
            got: self.got.as_ref().map(range),
            eh_frame: section(&self.eh_frame),
            eh_frame_hdr: section(&self.eh_frame_hdr),
            debug_frame: section(&self.debug_frame),
        };
        Placed { path: self.name.clone(), elf, bias: self.bias.0, mappings: self.mappings.iter().map(range).collect() }
    }
}

impl Sparse {
    fn section(&self) -> Section {
        let mut data = vec![0; self.size];
        for (at, Bytes(bytes)) in &self.pieces {
            data[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        Section { svma: self.svma.0..self.svma.0 + self.size as u64, data: data.into() }
    }
}

fn range(&(Hex(start), Hex(end)): &(Hex, Hex)) -> Range<u64> {
    start..end
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(text.trim_start_matches("0x"), 16).map(Hex).map_err(D::Error::custom)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(2 * self.0.len());
        for byte in &self.0 {
            let _ = write!(text, "{byte:02x}");
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or_default());
        pairs.map(|pair| u8::from_str_radix(pair, 16)).collect::<Result<_, _>>().map(Bytes).map_err(D::Error::custom)
    }
}
