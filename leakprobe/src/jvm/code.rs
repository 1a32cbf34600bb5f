//! HotSpot's code cache: which piece of code an address lies in, and how large its frames are.
//!
//! The cache is some heaps. Each is cut into segments, with a byte for each that says how many segments before it the block begins
//! that it belongs to, or as far as a byte reaches. A block is a header and then a piece of code, with a head of its own.
//! Source: <https://github.com/openjdk/jdk/blob/jdk-17%2B35/src/hotspot/share/memory/heap.cpp#L291>

use std::ops::Range;

use super::structs::{Structs, word, word_of};
use crate::{
    snapshot::{FrameSize, FrameSizes},
    target::{MappedFile, Memory, ProcessMemory},
};

/// Most heaps: methods that are compiled in one way or another, and what is no method.
const MOST_HEAPS: u64 = 16;
/// The largest code cache that a JVM has, twice: 2 GiB.
const LARGEST_HEAP: u64 = 4 << 30;
/// The byte of a segment that belongs to no block.
const FREE: u8 = 0xff;
/// Most bytes of segments that are looked at: 64 MiB of code with the smallest segments.
const MOST_SEGMENTS: u64 = 1 << 20;
/// Words of the largest frame that is believed.
const LARGEST_FRAME: u32 = 1 << 17;
const INTERPRETER: &[u8] = b"Interpreter\0";

const FIELDS: [(&str, &str); 16] = [
    ("CodeCache", "_heaps"),
    LENGTH,
    OLD_LENGTH,
    ("GrowableArray<int>", "_data"),
    ("CodeHeap", "_memory"),
    ("CodeHeap", "_segmap"),
    ("CodeHeap", "_log2_segment_size"),
    ("VirtualSpace", "_low_boundary"),
    ("VirtualSpace", "_high_boundary"),
    ("VirtualSpace", "_low"),
    ("CodeBlob", "_name"),
    ("CodeBlob", "_frame_size"),
    ("CodeBlob", "_code_begin"),
    ("CodeBlob", "_code_end"),
    ("CodeBlob", "_code_offset"),
    ("CodeBlob", "_data_offset"),
];
const LENGTH: (&str, &str) = ("GrowableArrayBase", "_len");
/// Before Java 17.
const OLD_LENGTH: (&str, &str) = ("GenericGrowableArray", "_len");

/// The code cache of a JVM.
pub(super) struct CodeCache {
    memory: ProcessMemory,
    heaps: Vec<Heap>,
    head: Head,
}

/// A heap, which stays where it is.
struct Heap {
    code: Range<u64>,
    /// The bytes that say where blocks begin.
    segments: u64,
    /// A segment has two to the power of this bytes.
    log2_segment: u32,
}

/// Where a block's code begins, and the fields of its head.
#[derive(Clone, Copy)]
struct Head {
    block_header: u64,
    size: usize,
    name: usize,
    frame_size: usize,
    extent: Extent,
}

/// Where a block's head says where its code begins and ends.
#[derive(Clone, Copy)]
enum Extent {
    /// By addresses.
    Addresses { begin: usize, end: usize },
    /// By distances from the head, from Java 24 on.
    /// Source: <https://github.com/openjdk/jdk/blob/jdk-25%2B36/src/hotspot/share/code/codeBlob.hpp#L129>
    Distances { begin: usize, end: usize },
}

impl Extent {
    /// Of a block whose head lies at `blob`.
    fn of(self, blob: u64, head: &[u8]) -> Range<u64> {
        match self {
            Self::Addresses { begin, end } => word_of(head, begin)..word_of(head, end),
            Self::Distances { begin, end } => {
                let there = |at| blob.saturating_add(word_of(head, at) & 0xffff_ffff);
                there(begin)..there(end)
            }
        }
    }
}

impl CodeCache {
    /// That of the JVM whose library is `file`.
    pub(super) fn of(file: &MappedFile, memory: ProcessMemory) -> Result<Self, String> {
        let structs = Structs::read(file, &memory, &FIELDS, &["HeapBlock", "CodeBlob"])?;
        let at = |of, field| structs.offset(of, field);
        let place = |of, field| at(of, field).and_then(|offset| usize::try_from(offset).map_err(|_| String::new()));
        let addresses = || Ok((place("CodeBlob", "_code_begin")?, place("CodeBlob", "_code_end")?));
        let extent = match addresses() {
            Ok((begin, end)) => Extent::Addresses { begin, end },
            Err::<_, String>(_) => {
                let (begin, end) = (place("CodeBlob", "_code_offset")?, place("CodeBlob", "_data_offset")?);
                Extent::Distances { begin, end }
            }
        };
        let head = Head {
            block_header: structs.size("HeapBlock")?,
            size: usize::try_from(structs.size("CodeBlob")?).map_err(|_| String::new())?,
            name: place("CodeBlob", "_name")?,
            frame_size: place("CodeBlob", "_frame_size")?,
            extent,
        };
        let read = |address: u64| word(&memory, address).ok_or_else(|| "its memory cannot be read".to_owned());
        let list = read(structs.address("CodeCache", "_heaps")?)?;
        if list == 0 {
            return Err("it is still starting".to_owned());
        }
        let length = at(LENGTH.0, LENGTH.1).or_else(|_| at(OLD_LENGTH.0, OLD_LENGTH.1))?;
        let count = read(list.wrapping_add(length))? & 0xffff_ffff;
        let data = read(list.wrapping_add(at("GrowableArray<int>", "_data")?))?;
        let (of_code, of_segments) = (at("CodeHeap", "_memory")?, at("CodeHeap", "_segmap")?);
        let log2 = at("CodeHeap", "_log2_segment_size")?;
        let (begin, end) = (at("VirtualSpace", "_low_boundary")?, at("VirtualSpace", "_high_boundary")?);
        let low = at("VirtualSpace", "_low")?;
        let heap = |index: u64| -> Result<Heap, String> {
            let heap = read(data.wrapping_add(8 * index))?;
            let code = heap.wrapping_add(of_code);
            let code = read(code.wrapping_add(begin))?..read(code.wrapping_add(end))?;
            let segments = read(heap.wrapping_add(of_segments).wrapping_add(low))?;
            let log2_segment = u32::try_from(read(heap.wrapping_add(log2))? & 0xffff_ffff).unwrap_or(u32::MAX);
            let is_likely = code.end.checked_sub(code.start).is_some_and(|size| size <= LARGEST_HEAP);
            if !is_likely || !(3..=20).contains(&log2_segment) {
                return Err("its code cache is not what was expected".to_owned());
            }
            Ok(Heap { code, segments, log2_segment })
        };
        let heaps: Vec<Heap> = (0..count.min(MOST_HEAPS)).map(heap).collect::<Result<_, _>>()?;
        if heaps.is_empty() {
            return Err("it is still starting".to_owned());
        }
        Ok(Self { memory, heaps, head })
    }

    /// The head of the piece of code that lies at `address`.
    fn head_of(&self, address: u64) -> Option<Vec<u8>> {
        let heap = self.heaps.iter().find(|heap| heap.code.contains(&address))?;
        let block = heap.block(address, &self.memory)?;
        let mut head = vec![0; self.head.size];
        let blob = block.checked_add(self.head.block_header)?;
        let read = self.memory.read(blob, &mut head);
        (read == head.len() && self.head.extent.of(blob, &head).contains(&address)).then_some(head)
    }
}

impl Heap {
    /// Where the block begins that an address lies in.
    fn block(&self, address: u64, memory: &impl Memory) -> Option<u64> {
        let first = (address - self.code.start) >> self.log2_segment;
        let mut segment = first;
        // The bytes up to the one that is looked at, and which is the first of them.
        let (mut bytes, mut base) = ([0; 256], u64::MAX);
        while first - segment < MOST_SEGMENTS {
            if !(base..base.saturating_add(bytes.len() as u64)).contains(&segment) {
                base = segment.saturating_sub(bytes.len() as u64 - 1);
                let wanted = usize::try_from(segment - base + 1).ok()?;
                let into = bytes.get_mut(..wanted)?;
                if memory.read(self.segments.checked_add(base)?, into) != wanted {
                    return None;
                }
            }
            match *bytes.get(usize::try_from(segment - base).ok()?)? {
                FREE => return None,
                0 => return self.code.start.checked_add(segment << self.log2_segment),
                back => segment = segment.checked_sub(back.into())?,
            }
        }
        None
    }
}

impl FrameSizes for CodeCache {
    /// What HotSpot itself does to get on from such a frame.
    /// Source: <https://github.com/openjdk/jdk/blob/jdk-17%2B35/src/hotspot/cpu/x86/frame_x86.inline.hpp#L138>
    fn frame_size(&self, address: u64) -> Option<FrameSize> {
        let head = self.head_of(address)?;
        let size = u32::try_from(word_of(&head, self.head.frame_size) & 0xffff_ffff).unwrap_or(0);
        if (1..=LARGEST_FRAME).contains(&size) {
            // In words, with the return address.
            return Some(FrameSize::Bytes(8 * (size - 1)));
        }
        let mut name = [0; INTERPRETER.len()];
        let read = self.memory.read(word_of(&head, self.head.name), &mut name);
        (size == 0 && read == name.len() && name == INTERPRETER).then_some(FrameSize::Interpreted)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Memory that holds these bytes at 0x5000 and nothing else.
    struct Bytes(Vec<u8>);

    impl Memory for Bytes {
        fn read(&self, address: u64, into: &mut [u8]) -> usize {
            let from = address.checked_sub(0x5000).and_then(|from| usize::try_from(from).ok()).unwrap_or(usize::MAX);
            let there = self.0.get(from..).unwrap_or_default();
            let read = there.len().min(into.len());
            into[..read].copy_from_slice(&there[..read]);
            read
        }
    }

    fn heap(segments: u64) -> Heap {
        Heap { code: 0x10_0000..0x10_0000 + segments * 128, segments: 0x5000, log2_segment: 7 }
    }

    #[test]
    fn blocks_begin_where_the_segments_lead_to() {
        let mut bytes = vec![0, 1, 2, FREE, 0, 1];
        // A block of a thousand segments; a byte reaches over 254.
        bytes.extend((0..1000u64).map(|n| if n == 0 { 0 } else { u8::try_from((n - 1) % 254 + 1).unwrap() }));
        let heap = heap(bytes.len() as u64);
        let memory = Bytes(bytes);
        let block = |segment: u64| heap.block(0x10_0000 + segment * 128 + 5, &memory);
        assert_eq!([0, 1, 2].map(block), [Some(0x10_0000); 3]);
        assert_eq!(block(3), None);
        assert_eq!(block(5), Some(0x10_0000 + 4 * 128));
        assert_eq!([6, 7, 259, 260, 261, 1005].map(block), [Some(0x10_0000 + 6 * 128); 6]);
    }

    proptest! {
        #[test]
        fn whatever_the_segments_say_it_ends(bytes in proptest::collection::vec(any::<u8>(), 0..600), segment in 0u64..700) {
            heap(700).block(0x10_0000 + segment * 128, &Bytes(bytes));
        }
    }
}
