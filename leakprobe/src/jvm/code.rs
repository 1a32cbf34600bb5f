//! HotSpot's code cache: which piece of code an address lies in, and how large its frames are.
//!
//! The cache is some heaps of blocks (`blocks.rs`). A block is a header and then a piece of code, with a head of its own.
//! Source: <https://github.com/openjdk/jdk/blob/jdk-17%2B35/src/hotspot/share/memory/heap.cpp#L291>

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

use super::{
    blocks::{Blocks, Segments},
    structs::{Structs, word, word_of},
};
use crate::{
    snapshot::{FrameSize, FrameSizes},
    target::{Budget, MappedFile, ProcessMemory},
};

/// Most heaps: methods that are compiled in one way or another, and what is no method.
const MOST_HEAPS: u64 = 16;
/// The largest code cache that a JVM has, twice: 2 GiB.
const LARGEST_HEAP: u64 = 4 << 30;
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
    /// Heaps stay where they are.
    heaps: Vec<Segments>,
    head: Head,
    /// Where the blocks begin that addresses lie in.
    blocks: Mutex<Blocks>,
    /// What looking for them may cost, and the library that led to them.
    budget: Budget,
    library: String,
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
        let heap = |index: u64| -> Result<Segments, String> {
            let heap = read(data.wrapping_add(8 * index))?;
            let code = heap.wrapping_add(of_code);
            let code = read(code.wrapping_add(begin))?..read(code.wrapping_add(end))?;
            let segments = read(heap.wrapping_add(of_segments).wrapping_add(low))?;
            let log2_segment = u32::try_from(read(heap.wrapping_add(log2))? & 0xffff_ffff).unwrap_or(u32::MAX);
            let is_likely = code.end.checked_sub(code.start).is_some_and(|size| size <= LARGEST_HEAP);
            if !is_likely || !(3..=20).contains(&log2_segment) {
                return Err("its code cache is not what was expected".to_owned());
            }
            Ok(Segments { code, bytes: segments, log2_size: log2_segment })
        };
        let heaps: Vec<Segments> = (0..count.min(MOST_HEAPS)).map(heap).collect::<Result<_, _>>()?;
        if heaps.is_empty() {
            return Err("it is still starting".to_owned());
        }
        let (blocks, budget, library) = (Mutex::default(), file.budget.clone(), file.path.clone());
        Ok(Self { memory, heaps, head, blocks, budget, library })
    }

    /// To be called now and then: where there was no code, there may be some by now.
    pub(super) fn forget_misses(&self) {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).forget_misses();
    }

    /// The head of the piece of code that lies at `address`.
    fn head_of(&self, address: u64) -> Option<Vec<u8>> {
        let heap = self.heaps.iter().find(|heap| heap.code.contains(&address))?;
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = blocks.get(address) {
            // Another piece of code may be there by now, whose block begins elsewhere.
            if let Some(head) = self.head_at(known?, address) {
                return Some(head);
            }
        }
        let block = self.budget.timed_of(&self.library, || heap.block(address, &self.memory)).flatten();
        let head = block.and_then(|block| self.head_at(block, address));
        blocks.insert(address, block.filter(|_| head.is_some()));
        head
    }

    /// The head of the block at `block` if the address lies in its code.
    fn head_at(&self, block: u64, address: u64) -> Option<Vec<u8>> {
        let mut head = vec![0; self.head.size];
        let blob = block.checked_add(self.head.block_header)?;
        let read = self.memory.read(blob, &mut head);
        (read == head.len() && self.head.extent.of(blob, &head).contains(&address)).then_some(head)
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
