//! The reader on pieces of real tables, on damaged ones and on random bytes.
//!
//! A fixture `fixtures/*.bin` is some 40 functions of a program that was built by that version of Go, copied with all that
//! is read of them; only offsets were adapted. `*.txt` has the truth, which other tools told about the whole program: for
//! each address the frame size as binutils' readelf computes it from the DWARF call frame information, and the frames. For
//! Go 1.23 and later these are what `runtime.CallersFrames` returned in the program itself. For earlier ones, which
//! cannot be asked for inlined calls in this way, they are from binutils' addr2line; `-` is a name that it does not know.

use std::{fmt::Write, time::Duration};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{FuncId, Function, Header, HeaderError, Layout, Table, Traceback, read::MAX_STRING};
use crate::target::{Budget, budget::Limits};

pub(super) struct Fixture {
    bytes: &'static [u8],
    truth: &'static str,
    text: u64,
    /// Offset of `go:func.*` in `bytes`.
    gofunc: usize,
    pub(super) minor: u32,
}

macro_rules! fixture {
    ($name:literal) => {
        Fixture::new(
            include_bytes!(concat!("fixtures/", $name, ".bin")),
            include_str!(concat!("fixtures/", $name, ".txt")),
        )
    };
}

pub(super) fn fixtures() -> [Fixture; 4] {
    [fixture!("go1.19-amd64"), fixture!("go1.21-arm64"), fixture!("go1.23-amd64"), fixture!("go1.27-amd64")]
}

fn newest() -> Fixture {
    fixture!("go1.27-amd64")
}

impl Fixture {
    fn new(bytes: &'static [u8], file: &'static str) -> Self {
        let (head, truth) = file.split_once('\n').unwrap();
        let ["text", text, "gofunc", gofunc, "minor", minor] = head.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{head}")
        };
        let (text, gofunc) = (hex(text), hex(gofunc) as usize);
        Self { bytes, truth, text, gofunc, minor: minor.parse().unwrap() }
    }

    /// The table that these bytes would be, were they those of the fixture.
    fn open(&self, bytes: &[u8]) -> Result<Table, HeaderError> {
        let bytes = Bytes::copy_from_slice(bytes);
        Table::new(&bytes, self.text, bytes.slice(self.gofunc.min(bytes.len())..))
    }

    pub(super) fn table(&self) -> Table {
        self.open(self.bytes).unwrap()
    }

    /// Address, frame size, frames as text.
    fn truth(&self) -> impl Iterator<Item = (u64, i64, &'static str)> {
        self.truth.lines().map(|line| {
            let (at, frames) = line.split_once('|').unwrap();
            let (pc, size) = at.split_once(' ').unwrap();
            (hex(pc), size.parse().unwrap(), frames)
        })
    }

    /// An address with inlined calls, and its function.
    fn inlined<'t>(&self, table: &'t Table) -> (u64, Function<'t>) {
        let (pc, ..) = self.truth().find(|(.., frames)| frames.matches('|').count() > 1).unwrap();
        (pc, table.find(pc).unwrap())
    }
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap()
}

/// Frames as the truth has them: `runtime.CallersFrames` leaves wrappers out, DWARF does not.
fn frames(fixture: &Fixture, rules: &Traceback, function: &Function<'_>, pc: u64) -> String {
    let (mut out, mut callee) = (String::new(), None);
    for frame in function.frames_at(pc) {
        if !callee.replace(frame.id).is_some_and(|callee| fixture.minor >= 23 && rules.elides(frame.id, callee)) {
            let name = if frame.name == "runtime.gopanic" {
                frame.name
            } else {
                rules.printed(&frame.name).into_owned().into()
            };
            let separator = if out.is_empty() { "" } else { "|" };
            write!(out, "{separator}{name} {} {}", frame.file, frame.line).unwrap();
        }
    }
    out
}

#[test]
fn sizes_and_frames_are_those_that_go_and_dwarf_tell() {
    for fixture in fixtures() {
        let table = fixture.table();
        let rules = Traceback::new(&table, fixture.minor);
        let (mut compared, mut inlined) = (0, 0);
        for (pc, size, expected) in fixture.truth() {
            let function = table.find(pc).unwrap();
            assert_eq!(function.frame_size_at(pc), u32::try_from(size).ok(), "1.{} {pc:#x}", fixture.minor);
            let found = frames(&fixture, &rules, &function, pc);
            let found =
                if expected.starts_with("- ") { format!("-{}", &found[found.find(' ').unwrap()..]) } else { found };
            assert_eq!(found, expected, "1.{} {pc:#x}", fixture.minor);
            compared += 1;
            inlined += usize::from(expected.contains('|'));
        }
        assert!(compared > 400 && inlined > 50, "1.{}: {compared}, {inlined}", fixture.minor);
    }
}

#[test]
fn functions_say_what_they_are() {
    for fixture in fixtures() {
        let table = fixture.table();
        let go120 = table.header().layout == Layout::Go120;
        let goexit = table.function_named("runtime.goexit").unwrap();
        assert!(goexit.flags().is_top_frame() && goexit.flags().is_asm() && !goexit.flags().is_sp_write());
        assert!(table.function_named("runtime.mcall").unwrap().flags().is_sp_write());
        let allgadd = table.function_named("runtime.allgadd").unwrap();
        assert_eq!((allgadd.id(), allgadd.args_size(), allgadd.is_foreign()), (FuncId::NORMAL, Some(8), false));
        assert_eq!(allgadd.start_line().is_some(), go120);
        assert!(table.function_named("runtime.allgad").is_none() && table.function_named("untime.allgadd").is_none());
    }
    let go127 = newest().table();
    assert_eq!(go127.function_named("runtime.allgadd").unwrap().start_line(), Some(700));
}

#[test]
fn inlined_calls_are_of_ordinary_functions_and_wrappers() {
    for fixture in fixtures() {
        let table = fixture.table();
        let highest = table.functions().map(|function| function.id()).max().unwrap();
        let frames = fixture.truth().flat_map(|(pc, ..)| table.find(pc).unwrap().frames_at(pc));
        let inlined: Vec<_> = frames.filter(|frame| frame.inlined).collect();
        assert!(inlined.iter().all(|frame| [FuncId::NORMAL, highest].contains(&frame.id)));
        let told = inlined.iter().filter(|frame| frame.start_line.is_some()).count();
        assert_eq!(told, if table.header().layout == Layout::Go120 { inlined.len() } else { 0 });
        assert!(inlined.iter().all(|frame| frame.start_line.is_none_or(|start| start <= frame.line)));
    }
}

#[test]
fn addresses_lead_to_the_function_that_covers_them() {
    for fixture in fixtures() {
        let table = fixture.table();
        let functions: Vec<_> = table.functions().collect();
        assert_eq!(functions.len(), table.header().functions as usize);
        for function in &functions {
            let (entry, end) = (function.entry(), function.end());
            assert!(table.is_entry(entry) && !table.is_entry(entry + 1) && entry < end);
            for pc in [entry, entry + 1, end - 1] {
                assert_eq!(table.find(pc).unwrap().entry(), entry);
            }
            assert_eq!((function.call_pc(entry), function.call_pc(entry + 5)), (entry, entry + 4));
        }
        let (first, last) = (functions[0].entry(), functions.last().unwrap().end());
        for pc in [0, first - 1, last, last + 1, table.text + (1 << 32), u64::MAX] {
            assert!(table.find(pc).is_none() && !table.is_entry(pc), "{pc:#x}");
        }
    }
}

#[test]
fn a_header_is_found_where_it_is_and_a_bad_one_says_why() {
    let fixture = newest();
    let mut image = vec![0x90; 64];
    image.extend(fixture.bytes);
    let found: Vec<_> = Header::candidates(&image).collect();
    assert_eq!(found, [(64, Header::parse(fixture.bytes).unwrap())]);
    assert_eq!(Header::candidates(&image[4..]).count(), 0, "headers are 8-aligned");
    assert_eq!(Header::candidates(&image[..200]).count(), 0, "the function table is cut off");

    let with = |at: usize, value: u8| {
        let mut bytes = fixture.bytes.to_vec();
        bytes[at] = value;
        fixture.open(&bytes).unwrap_err()
    };
    assert_eq!(with(0, 0xfa), HeaderError::Old("1.16 or 1.17"));
    assert_eq!(with(0, 0xfb), HeaderError::Old("1.2 to 1.15"));
    assert_eq!(with(0, 0xf2), HeaderError::Magic(0xffff_fff2));
    assert_eq!(with(4, 1), HeaderError::Machine { pad: 1, quantum: 1, pointer: 8 });
    assert_eq!(with(6, 2), HeaderError::Machine { pad: 0, quantum: 2, pointer: 8 });
    assert_eq!(with(7, 4), HeaderError::Machine { pad: 0, quantum: 1, pointer: 4 });
    assert_eq!(with(8, 0), HeaderError::Functions(0));
    assert!(matches!(with(15, 1), HeaderError::Functions(_)));
    assert!(matches!(with(10, 1), HeaderError::Cut { .. }));
    assert_eq!(with(39, 0x80), HeaderError::Order);
    assert_eq!(Header::parse(&fixture.bytes[..71]), Err(HeaderError::Short(71)));
}

#[test]
fn without_the_trees_an_inlined_place_is_unknown_and_not_wrong() {
    let fixture = newest();
    let table = Table::new(&Bytes::from_static(fixture.bytes), fixture.text, Bytes::new()).unwrap();
    let (pc, function) = fixture.inlined(&table);
    let frames: Vec<_> = function.frames_at(pc).collect();
    assert_eq!(frames.len(), 1);
    assert_eq!((&frames[0].name, &*frames[0].file, frames[0].line), (&function.name(), "?", 0));
}

#[test]
fn inlined_calls_that_go_round_end() {
    let fixture = newest();
    let (pc, entry) = {
        let table = fixture.table();
        let (pc, function) = fixture.inlined(&table);
        (pc, function.entry())
    };
    let mut bytes = fixture.bytes.to_vec();
    for call in bytes[fixture.gofunc..].chunks_exact_mut(16) {
        call[8..12].copy_from_slice(&u32::try_from(pc - entry).unwrap().to_le_bytes());
    }
    let table = fixture.open(&bytes).unwrap();
    let frames: Vec<_> = table.find(pc).unwrap().frames_at(pc).collect();
    assert_eq!(frames.len(), 257);
    assert!(frames[..256].iter().all(|frame| frame.inlined) && !frames[256].inlined);
    assert_eq!((&*frames[256].file, frames[256].line), ("?", 0));
}

#[test]
fn a_long_walk_draws_on_the_budget() {
    let fixture = newest();
    let mut table = fixture.table();
    let function = table.functions().find(|function| !function.is_foreign()).unwrap();
    let entry = function.entry();
    // One more after each two bytes.
    table.values = vec![2; 1 << 20].into();
    let sizes = |table: &Table| {
        let function = table.find(entry).unwrap();
        [100, 100_000].map(|offset| function.frame_size_at(entry + offset))
    };
    assert_eq!(sizes(&table), [Some(50), Some(50_000)]);
    let budget = |cpu| Budget::new(Limits { cpu, cpu_share: u32::MAX, ..Limits::of_memory(1 << 30) });
    let (enough, none) = (budget(Duration::from_secs(3_600)), budget(Duration::ZERO));
    let within = |budget: &Budget| table.clone().within(budget.clone(), "/p".into());
    assert_eq!((sizes(&within(&enough)), enough.count_left_out()), ([Some(50), Some(50_000)], 0));
    assert_eq!((sizes(&within(&none)), none.count_left_out()), ([Some(50), None], 1));
}

/// Asks everything of a table that may be damaged.
fn ask_everything(table: &Table) {
    let rules = Traceback::new(table, 27);
    for function in table.functions() {
        let (entry, end) = (function.entry(), function.end());
        for pc in [entry, entry.wrapping_add(9), end.wrapping_sub(1)] {
            let _ = (table.find(pc), table.is_entry(pc), function.frame_size_at(pc), function.call_pc(pc));
            let mut depth = 0;
            for frame in function.frames_at(pc) {
                depth += 1;
                let _ = rules.shows(&rules.printed(&frame.name), frame.id, false, FuncId::NORMAL);
                assert!(frame.name.len() <= 3 * MAX_STRING && frame.file.len() <= 3 * MAX_STRING);
            }
            assert!((1..=257).contains(&depth));
        }
        let _ = (function.start_line(), function.args_size(), function.is_foreign(), function.flags());
    }
    assert!(table.function_named("no such function").is_none());
}

#[test]
fn damage_of_any_byte_does_no_harm() {
    for fixture in fixtures() {
        let table = Header::parse(fixture.bytes).unwrap().table as usize;
        let mut bytes = fixture.bytes.to_vec();
        // Header, the beginning of the function table, and a sample of the rest.
        for at in (0..Header::SIZE).chain(table..table + 64).chain((0..fixture.bytes.len()).step_by(61)) {
            for value in [0, 0x7f, 0x80, 0xff] {
                bytes[at] = value;
                if let Ok(table) = fixture.open(&bytes) {
                    ask_everything(&table);
                }
            }
            bytes[at] = fixture.bytes[at];
        }
    }
}

#[test]
fn damage_of_any_byte_of_one_function_does_no_harm() {
    for fixture in fixtures() {
        let whole = fixture.table();
        let (pc, _) = fixture.inlined(&whole);
        let record = {
            let index = whole.partition_point(|entry| fixture.text + u64::from(entry) <= pc) as usize - 1;
            let at = whole.header.table as usize + 8 * index + 4;
            whole.header.table as usize + u32::from_le_bytes(fixture.bytes[at..at + 4].try_into().unwrap()) as usize
        };
        let mut bytes = fixture.bytes.to_vec();
        for at in (record..record + 100).chain(fixture.gofunc..fixture.gofunc + 200) {
            for value in (0..=255).step_by(17) {
                bytes[at] = value;
                let table = fixture.open(&bytes).unwrap();
                if let Some(function) = table.find(pc) {
                    assert!(function.frames_at(pc).count() <= 257);
                    let _ = (function.frame_size_at(pc), function.name(), function.id());
                }
            }
            bytes[at] = fixture.bytes[at];
        }
    }
}

#[test]
fn a_table_cut_short_anywhere_does_no_harm() {
    let fixture = newest();
    let needed = usize::try_from(Header::parse(fixture.bytes).unwrap().min_len()).unwrap();
    for len in (0..needed).step_by(7).chain(needed - 20..needed) {
        assert!(fixture.open(&fixture.bytes[..len]).is_err());
    }
    for len in (needed..fixture.bytes.len()).step_by(31).chain(needed..needed + 200) {
        ask_everything(&fixture.open(&fixture.bytes[..len]).unwrap());
    }
}

proptest! {
    #[test]
    fn random_bytes_behind_a_header_do_no_harm(
        random in prop::collection::vec(any::<u8>(), 400..2000),
        mut cuts in prop::array::uniform4(0u64..200),
        functions in 1u64..20,
        old in any::<bool>(),
    ) {
        cuts.sort_unstable();
        let mut bytes = BytesMut::new();
        bytes.extend([if old { 0xf0 } else { 0xf1 }, 0xff, 0xff, 0xff, 0, 0, 1, 8]);
        for word in [functions, 0, 0, 72].into_iter().chain(cuts.map(|cut| 72 + cut)) {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(&random);
        let bytes = bytes.freeze();
        let table = Table::new(&bytes, 0x40_0000, bytes.clone()).unwrap();
        ask_everything(&table);
        for &byte in &random[..40] {
            let _ = table.find(0x40_0000 + (u64::from(byte) << 24)).map(|function| function.frames_at(function.entry()).count());
        }
    }

    #[test]
    fn random_bytes_are_hardly_a_table(random in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Header::parse(&random).is_err());
        prop_assert_eq!(Header::candidates(&random).count(), 0);
    }
}
