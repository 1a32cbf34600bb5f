//! `runtime.moduledata`: what the runtime knows of each piece of Go code, linked into a list.
//!
//! Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/symtab.go>

use std::ops::{ControlFlow, Range};

use super::{
    image::Image,
    layout::{Known, Offset},
    memory::{Scan, Words, word_at},
    pclntab::Header,
};

/// Bytes of it that are read.
const SIZE: usize = 640;
/// Most plugins that are followed.
const MAX_MODULES: usize = 1024;
/// Largest pclntab, bytes. That of one of the largest known programs has 50 MB.
const MAX_PCLNTAB: u64 = 512 << 20;

/// Offsets that are the same in all versions: `pcHeader`, `pclntable`, `ftab`, `text`, and so on.
const PCLNTABLE: Offset = 104;
const FTAB: Offset = 128;
const TEXT: Offset = 176;
const NOPTRDATA: Offset = 192;
const DATA: Offset = 208;
const BSS: Offset = 224;

/// One module's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moduledata {
    /// Where it lies itself.
    pub(super) address: u64,
    /// Its code.
    pub(super) text: Range<u64>,
    /// Its function table, from the header to the end.
    pub(super) pclntab: Range<u64>,
    /// The header of that.
    pub(super) header: Header,
    /// Its initialised data, without and with pointers.
    pub(super) data: [Range<u64>; 2],
    /// Its other data that may hold pointers.
    pub(super) bss: Range<u64>,
    /// Base of the offsets of funcdata, and the end of what can belong to it. `None` if it is not where it should be.
    pub(super) gofunc: Option<Range<u64>>,
    /// The next module's; 0 for the last one.
    pub(super) next: u64,
}

impl Moduledata {
    /// Reads and checks what lies at `address`; `None` if it is none.
    pub(super) fn at(memory: &impl Words, address: u64, known: &Known) -> Option<Self> {
        let bytes = memory.bytes(address, SIZE);
        let word = |offset| word_at(&bytes, offset);
        let range = |offset: Offset| Some(word(offset)?..word(offset + 8)?).filter(|range| range.start <= range.end);
        let start = word(0)?;
        let header = Header::parse(&memory.bytes(start, Header::SIZE)).ok()?;
        let (table, len) = (word(PCLNTABLE)?, word(PCLNTABLE + 8)?);
        let pclntab = start..table.checked_add(len)?;
        let is_at = |offset, part: u64| word(offset) == start.checked_add(part);
        let fits = is_at(8, header.names)
            && is_at(PCLNTABLE, header.table)
            && is_at(FTAB, header.table)
            && pclntab.start < pclntab.end
            && (header.min_len()..=MAX_PCLNTAB).contains(&(pclntab.end - pclntab.start));
        if !fits {
            return None;
        }
        let text = range(TEXT).filter(|text| !text.is_empty())?;
        let mut read = Self {
            address,
            text,
            pclntab,
            header,
            data: [range(NOPTRDATA)?, range(DATA)?],
            bss: range(BSS)?,
            gofunc: None,
            next: word(known.next).unwrap_or_default(),
        };
        let gofunc = word(known.gofunc).filter(|&gofunc| read.is_gofunc(gofunc, known.exact));
        // Nothing says how long it is: it ends at the latest where something else begins that is pointed to from here.
        read.gofunc = gofunc.map(|gofunc| {
            let words = (0..SIZE as Offset).step_by(8).filter_map(word);
            let end = words.filter(|&word| word > gofunc).min();
            gofunc..end.unwrap_or(gofunc)
        });
        Some(read)
    }

    /// Whether that can be `gofunc`. From Go 1.26 on it lies right behind the records of pclntab, which tells it apart from all
    /// else here; before, it is where the table of versions says.
    fn is_gofunc(&self, gofunc: u64, is_known: bool) -> bool {
        is_known || (gofunc > self.pclntab.start + self.header.table && gofunc <= self.pclntab.end)
    }

    /// Looks for the one of a file, in what it can write to.
    pub(super) fn find(memory: &impl Words, image: &Image, known: &Known) -> Scan<Self> {
        let data = image.loads.iter().filter(|load| load.writable).map(|load| load.file_backed());
        let mut result = Scan::Unreadable;
        for range in image.hints.iter().cloned().chain(data) {
            let found = memory.scan(&range, |address, &[first, second]| {
                // Its first words point to the header of pclntab and to the names right behind that.
                let header_len = second.wrapping_sub(first);
                let may_be = first.is_multiple_of(8) && (Header::SIZE as u64..1024).contains(&header_len);
                let is_here = may_be && image.load_of(first).is_some();
                match is_here.then(|| Self::at(memory, address, known)).flatten() {
                    Some(module) => ControlFlow::Break(module),
                    None => ControlFlow::Continue(()),
                }
            });
            match found {
                Scan::Found(module) => return Scan::Found(module),
                Scan::Nothing => result = Scan::Nothing,
                Scan::Unreadable => {}
            }
        }
        result
    }

    /// All modules from this one on, and whether the list could be followed to its end.
    pub(super) fn chain(self, memory: &impl Words, known: &Known) -> (Vec<Self>, bool) {
        let mut next = self.next;
        let mut chain = vec![self];
        while next != 0 {
            let is_new = chain.len() < MAX_MODULES && chain.iter().all(|module| module.address != next);
            let Some(module) = is_new.then(|| Self::at(memory, next, known)).flatten() else {
                return (chain, false);
            };
            next = module.next;
            chain.push(module);
        }
        (chain, true)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Version, memory::fake::Fake},
        *,
    };

    const PLACE: u64 = 0x5000;

    fn known(version: &str) -> Known {
        Known::of(&Version::parse(version).unwrap()).unwrap()
    }

    /// A module's data with a pclntab of ten functions at 0x10000.
    fn module(memory: &mut Fake, place: u64, known: &Known, next: u64) {
        let mut words = [0; SIZE / 8];
        let mut put = |offset: Offset, value: u64| words[usize::from(offset) / 8] = value;
        put(0, 0x1_0000);
        put(8, 0x1_0060);
        put(PCLNTABLE, 0x1_0200);
        put(PCLNTABLE + 8, 0x800);
        put(FTAB, 0x1_0200);
        put(TEXT, 0x40_1000);
        put(TEXT + 8, 0x40_9000);
        put(known.gofunc, 0x1_0a00);
        put(known.next, next);
        memory.put(place, &words);
        memory.put(0x1_0000, &[0x0801_0000_ffff_fff1, 10, 3, 0, 0x60, 0x80, 0xa0, 0x100, 0x200]);
    }

    #[test]
    fn it_is_read_in_every_version() {
        for version in ["go1.21.1", "go1.25.1", "go1.27.1", "go1.99"] {
            let known = known(version);
            let mut memory = Fake::default();
            module(&mut memory, PLACE, &known, 0);
            let read = Moduledata::at(&memory, PLACE, &known).unwrap();
            assert_eq!((read.text, read.pclntab), (0x40_1000..0x40_9000, 0x1_0000..0x1_0a00), "{version}");
            assert_eq!(read.gofunc, Some(0x1_0a00..0x40_1000), "{version}");
        }
    }

    #[test]
    fn plugins_are_followed_but_not_in_circles() {
        let known = known("go1.27.1");
        let mut memory = Fake::default();
        module(&mut memory, PLACE, &known, 0x6000);
        module(&mut memory, 0x6000, &known, 0x7000);
        module(&mut memory, 0x7000, &known, 0);
        let own = Moduledata::at(&memory, PLACE, &known).unwrap();
        let (chain, is_complete) = own.clone().chain(&memory, &known);
        assert_eq!((chain.len(), is_complete), (3, true));
        module(&mut memory, 0x7000, &known, PLACE);
        let (chain, is_complete) = own.chain(&memory, &known);
        assert_eq!((chain.len(), is_complete), (3, false), "round and round");
    }

    #[test]
    fn a_damaged_one_is_none_or_bounded() {
        let known = known("go1.27.1");
        let mut whole = Fake::default();
        module(&mut whole, PLACE, &known, 0);
        for offset in (0..SIZE as u64).step_by(8) {
            for value in [0, 1, u64::MAX, 1 << 63, 0x1_0000] {
                let mut memory = whole.clone();
                memory.put(PLACE + offset, &[value]);
                if let Some(read) = Moduledata::at(&memory, PLACE, &known) {
                    assert!(read.pclntab.end - read.pclntab.start <= MAX_PCLNTAB);
                    assert!(!read.text.is_empty());
                }
            }
        }
        for len in (0..SIZE).step_by(8) {
            let mut memory = whole.clone();
            memory.0.retain(|(start, _)| *start != PLACE);
            memory.put_bytes(PLACE, &vec![0; len]);
            let _ = Moduledata::at(&memory, PLACE, &known);
        }
    }
}
