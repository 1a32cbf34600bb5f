//! What parses bytes that others wrote takes any bytes.

use leakprobe::{
    probes::{btf::Btf, event},
    target::elf::Elf,
};
use leakprobe_common::{
    arch::REG_WORDS,
    event::{Created, WaitEnded},
};
use proptest::prelude::*;

/// A file of one loadable segment, one index and no sections.
fn small_elf() -> Vec<u8> {
    let mut image = vec![0; 0x200];
    image[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &[3, 0, 62, 0, 1]);
    put(32, &64u64.to_le_bytes());
    put(52, &[64, 0, 56, 0, 2]);
    for (at, kind, offset, len) in [(64, 1u32, 0u64, 0x200u64), (120, 0x6474_e550, 0x100, 0x20)] {
        put(at, &kind.to_le_bytes());
        put(at + 4, &5u32.to_le_bytes());
        for (field, value) in [(8, offset), (16, offset), (32, len), (40, len)] {
            put(at + field, &value.to_le_bytes());
        }
    }
    put(0x100, &[1, 0x1b, 3, 0x3b, 0x3c, 0, 0, 0]);
    image
}

#[test]
fn the_small_file_is_one() {
    let elf = Elf::read_image(&small_elf()).unwrap();
    assert_eq!(elf.eh_frame.map(|section| section.svma), Some(0x140..0x200));
}

proptest! {
    #[test]
    fn any_bytes_are_an_event_or_malformed(kind in 0u32..8, bytes in prop::collection::vec(any::<u8>(), 0..1024)) {
        let mut record = kind.to_le_bytes().to_vec();
        record.extend(bytes);
        let mut regs = [0; REG_WORDS];
        let _ = event::parse(&record, &mut regs);
        for head in [size_of::<Created>(), size_of::<WaitEnded>()] {
            // Whatever length the record claims, the stack lies within it.
            if let Ok(parsed) = event::parse(&record, &mut [0; REG_WORDS])
                && let event::What::Created { captured: event::Captured::Stack(_, stack), .. }
                    | event::What::WaitEnded { captured: event::Captured::Stack(_, stack), .. } = parsed.what
            {
                prop_assert!(stack.len() + head.min(size_of::<Created>()) <= record.len());
            }
        }
    }

    #[test]
    fn any_bytes_are_an_elf_file_or_not(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = Elf::read_image(&bytes);
    }

    #[test]
    fn a_broken_elf_file_does_no_harm(changes in prop::collection::vec((0usize..0x180, any::<u8>()), 1..12), len in 0usize..0x200) {
        let mut image = small_elf();
        for (at, byte) in changes {
            image[at] = byte;
        }
        if let Ok(elf) = Elf::read_image(&image) {
            let _ = elf.bias(0x1000, 0);
        }
        let _ = Elf::read_image(&image[..len]);
    }

    #[test]
    fn any_bytes_are_btf_or_not(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = Btf::parse(&bytes);
    }

    #[test]
    fn types_of_any_bytes_do_no_harm(types in prop::collection::vec(any::<u8>(), 0..256), strings in prop::collection::vec(any::<u8>(), 0..64)) {
        // A proper header, so that what follows is looked at.
        let mut data = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types.len(), types.len(), strings.len()] {
            data.extend((word as u32).to_le_bytes());
        }
        data.extend(types);
        data.extend(strings);
        if let Ok(btf) = Btf::parse(&data) {
            let _ = btf.kernel_offsets();
        }
    }
}
