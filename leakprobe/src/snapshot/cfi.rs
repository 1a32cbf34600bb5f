//! Call frame information: what it says about a code address, looked up and checked once for each distinct one.
//!
//! Files are untrusted, and framehop and gimli trust them: they evaluate DWARF expressions without a limit, take a row
//! that lies beyond its function, subtract addresses unchecked (which panics in debug builds), and parse an entry's head
//! again for each function that refers to it, however long it is. So nothing reaches framehop that was not looked at here,
//! and what is looked at is bounded:
//!
//! * an entry longer than [`MAX_ENTRY`] is not parsed, so the rows of one address cost at most so many instructions;
//! * an index that no linker would write is not used; one made here has at most [`MAX_INDEX`] entries;
//! * framehop gets the rows that it turns into one of its simple rules, in which nothing can overflow. All others are
//!   [`Rule`]s, which are followed here, with a limit.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use framehop::{ExplicitModuleSectionInfo, Module as FramehopModule};
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, DebugFrame, EhFrame, EhFrameHdr, EndianSlice, LittleEndian, Pointer,
    RegisterRule, UnwindContext, UnwindOffset, UnwindSection, UnwindTableRow,
};

use super::{
    arch::{self, UnwindRegs},
    known::Known,
    rule::{Frame, Rule, Stepped, Stuck},
};
use crate::{
    pool::Held,
    target::{
        Budget,
        budget::Scarce,
        elf::{Elf, Section, eh_frame_start},
    },
};

/// Longest entry that is parsed, bytes. The longest of a large C++ program have some thousands.
const MAX_ENTRY: usize = 64 << 10;
/// Longest entry that is left to framehop, with its head, bytes: it may parse it anew at each step, where a rule of ours is kept.
const MAX_PLAIN: usize = 2 << 10;
/// Most frame descriptions that are indexed where a file brings no index.
const MAX_INDEX: usize = 1 << 20;
/// For so many of them memory is taken at first.
const LEAST_INDEX: usize = 64;
/// Bytes of heads (CIEs) that may be parsed for one index. A section has a handful of heads, of some 24 bytes each, and
/// they are parsed once if the functions that refer to one stand together.
const MAX_HEADS: usize = 64 << 20;

pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// How to step out of a frame.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    /// framehop can.
    Plain(Simple),
    /// By this rule.
    Rule(Arc<Rule>),
    /// Not at all: this is said to be the outermost frame.
    Outermost,
    /// Nothing usable is said about the address.
    Uncovered,
}

/// What framehop's simple rule for a frame does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Simple {
    /// The registers that it leaves out.
    pub(crate) saved: Saved,
    /// It finds the caller by the frame pointer.
    pub(crate) by_frame_pointer: bool,
    /// It reads the caller's frame pointer from the stack.
    pub(crate) restores_frame_pointer: bool,
}

/// Where a frame keeps its caller's registers that framehop does not restore: distance from the CFA in words, 0 if it does
/// not keep them.
pub(crate) type Saved = [i16; arch::CALLEE_SAVED.len()];

/// The call frame information of one module.
pub(crate) struct Cfi {
    eh_frame: Option<Table>,
    /// Of code that was built without unwind tables, but with debug information; beside it, the start-up code mostly has an
    /// .eh_frame.
    debug_frame: Option<Table>,
}

/// One section of call frame information.
struct Table {
    frames: Section,
    kind: Kind,
    hdr: Option<Section>,
    bases: BaseAddresses,
    /// Where the file brings no index.
    index: Index,
}

/// Address range and offset of each frame description, and their share of the budget.
#[derive(Default)]
struct Index {
    entries: Vec<(u64, u64, usize)>,
    held: Option<Held>,
}

impl Index {
    /// Adds one, if there is the memory for it.
    fn push(&mut self, entry: (u64, u64, usize), budget: &Budget) -> Result<(), Scarce> {
        if self.entries.len() == self.entries.capacity() {
            let more = self.entries.capacity().max(LEAST_INDEX);
            // What is there is copied to a new place: for a moment it takes twice as much.
            let moved = budget.hold(bytes_of(self.entries.len()))?;
            match &mut self.held {
                Some(held) => held.grow(bytes_of(more))?,
                None => self.held = Some(budget.hold(bytes_of(more))?),
            }
            self.entries.reserve_exact(more);
            drop(moved);
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Sorts it, and gives back what it does not need.
    fn finish(mut self) -> Self {
        self.entries.sort_unstable();
        self.entries.shrink_to_fit();
        if let Some(held) = &mut self.held {
            // To give back always succeeds.
            let _ = held.set(bytes_of(self.entries.len()));
        }
        self
    }
}

fn bytes_of(entries: usize) -> u64 {
    (entries * size_of::<(u64, u64, usize)>()) as u64
}

/// The two sections' formats differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    EhFrame,
    DebugFrame,
}

impl Cfi {
    /// The call frame information of `elf`; `None` if it has none. Where the budget does not allow an index of it, the file is left out
    /// under `name`.
    pub(crate) fn of(elf: &Elf, name: &str, budget: &Budget) -> Option<Self> {
        let table = |frames: &Option<Section>, kind| {
            let table = Table::of(elf, frames.as_ref()?, kind, budget);
            table.map_err(|scarce| budget.leave_out(name, scarce)).ok()
        };
        let eh_frame = table(&elf.eh_frame, Kind::EhFrame);
        let debug_frame = table(&elf.debug_frame, Kind::DebugFrame);
        (eh_frame.is_some() || debug_frame.is_some()).then_some(Self { eh_frame, debug_frame })
    }

    /// The same for framehop, for one mapping of the file; `None` if framehop would have to make an index, which it does
    /// without a limit.
    pub(crate) fn module(
        &self,
        elf: &Elf,
        name: &str,
        mapping: Range<u64>,
        bias: u64,
    ) -> Option<FramehopModule<Bytes>> {
        let table = self.eh_frame.as_ref()?;
        let hdr = table.hdr.as_ref()?;
        let info = ExplicitModuleSectionInfo {
            base_svma: 0,
            text_svma: elf.text.clone(),
            got_svma: elf.got.clone(),
            eh_frame_svma: Some(table.frames.svma.clone()),
            eh_frame: Some(table.frames.data.clone()),
            eh_frame_hdr_svma: Some(hdr.svma.clone()),
            eh_frame_hdr: Some(hdr.data.clone()),
            ..ExplicitModuleSectionInfo::default()
        };
        Some(FramehopModule::new(name.to_owned(), mapping, bias, info))
    }

    /// How to step out of the frame whose code address is `svma`, in a module that was moved by `bias`.
    pub(crate) fn plan(&self, svma: u64, bias: u64) -> Plan {
        let tables = [&self.eh_frame, &self.debug_frame].into_iter().flatten();
        tables.flat_map(|table| table.plan(svma, bias)).next().unwrap_or(Plan::Uncovered)
    }

    /// Steps by a rule of this module.
    pub(crate) fn step(
        &self,
        rule: &Rule,
        regs: &mut UnwindRegs,
        known: &mut Known,
        read: &mut impl FnMut(u64) -> Result<u64, ()>,
    ) -> Result<Stepped, Stuck> {
        match (rule.kind(), &self.eh_frame, &self.debug_frame) {
            (Kind::EhFrame, Some(table), _) => rule.step(&table.eh_frame(), regs, known, read),
            (Kind::DebugFrame, _, Some(table)) => rule.step(&table.debug_frame(), regs, known, read),
            _ => Err(Stuck::Malformed),
        }
    }
}

impl Table {
    fn of(elf: &Elf, frames: &Section, kind: Kind, budget: &Budget) -> Result<Self, Scarce> {
        let mut bases = BaseAddresses::default().set_eh_frame(frames.svma.start);
        if let Some(text) = &elf.text {
            bases = bases.set_text(text.start);
        }
        if let Some(got) = &elf.got {
            bases = bases.set_got(got.start);
        }
        let hdr = elf.eh_frame_hdr.clone().filter(|hdr| kind == Kind::EhFrame && is_usable(hdr, frames));
        if let Some(hdr) = &hdr {
            bases = bases.set_eh_frame_hdr(hdr.svma.start);
        }
        let mut table = Self { frames: frames.clone(), kind, hdr, bases, index: Index::default() };
        if table.hdr.is_none() {
            table.index = match kind {
                Kind::EhFrame => entries(&table.eh_frame(), &table.bases, budget)?,
                Kind::DebugFrame => entries(&table.debug_frame(), &table.bases, budget)?,
            };
        }
        Ok(table)
    }

    fn plan(&self, svma: u64, bias: u64) -> Option<Plan> {
        // framehop counts addresses in 32 bits from the module's beginning.
        let in_reach = self.hdr.is_some() && u32::try_from(svma).is_ok() && bias.checked_add(svma).is_some();
        let offset = self.description_of(svma)?;
        match self.kind {
            Kind::EhFrame => plan_in(&self.eh_frame(), &self.bases, offset, svma, self.kind, in_reach),
            Kind::DebugFrame => plan_in(&self.debug_frame(), &self.bases, offset, svma, self.kind, in_reach),
        }
    }

    fn eh_frame(&self) -> EhFrame<Slice<'_>> {
        let mut section = EhFrame::new(&self.frames.data, LittleEndian);
        section.set_address_size(8);
        section
    }

    fn debug_frame(&self) -> DebugFrame<Slice<'_>> {
        let mut section = DebugFrame::new(&self.frames.data, LittleEndian);
        section.set_address_size(8);
        section
    }

    /// The offset of the frame description that covers `svma`, or could.
    fn description_of(&self, svma: u64) -> Option<usize> {
        let Some(hdr) = &self.hdr else {
            let index = &self.index.entries;
            let after = index.partition_point(|&(start, _, _)| start <= svma);
            let &(_, end, offset) = index.get(after.checked_sub(1)?)?;
            return (svma < end).then_some(offset);
        };
        // Exactly framehop's way, so that it finds the same one.
        let hdr = EhFrameHdr::new(&hdr.data, LittleEndian).parse(&self.bases, 8).ok()?;
        let Ok(Pointer::Direct(at)) = hdr.table()?.lookup(svma, &self.bases) else {
            return None;
        };
        usize::try_from(at.checked_sub(self.frames.svma.start)?).ok()
    }
}

/// Whether an index is of the kind that linkers write, and complete: pairs of 32-bit addresses relative to it, for
/// this .eh_frame. What it says of functions is checked when it is used.
fn is_usable(hdr: &Section, frames: &Section) -> bool {
    /// `DW_EH_PE_udata4`, for the number of functions.
    const UDATA4: u8 = 0x03;
    /// `DW_EH_PE_datarel | DW_EH_PE_sdata4`, for the table.
    const DATAREL_SDATA4: u8 = 0x3b;
    let (Some(&[_, _, UDATA4, DATAREL_SDATA4]), Some(count)) =
        (hdr.data.first_chunk::<4>(), hdr.data.get(8..12).and_then(|count| count.first_chunk::<4>()))
    else {
        return false;
    };
    let functions = u32::from_le_bytes(*count) as usize;
    let complete = functions > 0 && (hdr.data.len() - 12) / 8 >= functions;
    complete && eh_frame_start(&hdr.data, hdr.svma.start) == Some(frames.svma.start)
}

/// The address range and offset of each frame description of a section.
fn entries<'data, S>(section: &S, bases: &BaseAddresses, budget: &Budget) -> Result<Index, Scarce>
where
    S: UnwindSection<Slice<'data>>,
{
    let mut index = Index::default();
    let mut entries = section.entries(bases);
    let mut head = None;
    let mut heads = 0;
    let mut stopwatch = budget.stopwatch();
    // Each entry takes at least four bytes of the section; an error ends it, and what was found until then counts.
    while let Ok(Some(entry)) = entries.next() {
        stopwatch.step()?;
        let CieOrFde::Fde(partial) = entry else {
            continue;
        };
        let at = UnwindOffset::into(partial.cie_offset());
        if head.as_ref().is_none_or(|&(known, _)| known != at) {
            let Some(len) = entry_len(section.section().slice(), at).filter(|&len| len <= MAX_ENTRY) else {
                continue;
            };
            heads += len;
            if heads > MAX_HEADS {
                break;
            }
            head = Some((at, section.cie_from_offset(bases, at.into())));
        }
        let Ok(fde) = partial.parse(|_, _, _| match &head {
            Some((_, known)) => known.clone(),
            None => Err(gimli::Error::NotCieId(at as u64)),
        }) else {
            continue;
        };
        let start = fde.initial_address();
        index.push((start, start.saturating_add(fde.len()), fde.offset()), budget)?;
        if index.entries.len() >= MAX_INDEX {
            break;
        }
    }
    Ok(index.finish())
}

/// The length that the entry at `offset` says it has.
fn entry_len(section: &[u8], offset: usize) -> Option<usize> {
    let rest = section.get(offset..)?;
    match u32::from_le_bytes(*rest.first_chunk::<4>()?) {
        // The 64-bit format.
        u32::MAX => usize::try_from(u64::from_le_bytes(*rest.get(4..)?.first_chunk::<8>()?)).ok(),
        len => usize::try_from(len).ok(),
    }
}

/// What the frame description at `offset` says about `svma`; `None` if nothing that can be used.
fn plan_in<'data, S>(
    section: &S,
    bases: &BaseAddresses,
    offset: usize,
    svma: u64,
    kind: Kind,
    in_reach: bool,
) -> Option<Plan>
where
    S: UnwindSection<Slice<'data>>,
{
    let partial = section.partial_fde_from_offset(bases, offset.into()).ok()?;
    let head_len = entry_len(section.section().slice(), UnwindOffset::into(partial.cie_offset()))?;
    if partial.entry_len() > MAX_ENTRY || head_len > MAX_ENTRY {
        return None;
    }
    let length = partial.entry_len() + head_len;
    let fde = partial.parse(S::cie_from_offset).ok()?;
    // A row may reach beyond its function, so that the row containing the address would not be enough.
    if !fde.contains(svma) || fde.cie().return_address_register() != arch::RETURN_ADDRESS {
        return None;
    }
    let mut context = UnwindContext::new();
    let row = fde.unwind_info_for_address(section, bases, &mut context, svma).ok()?;
    let is_signal = fde.is_signal_trampoline();
    match row.register(arch::RETURN_ADDRESS) {
        Some(RegisterRule::Undefined) => return Some(Plan::Outermost),
        // Nothing says where the caller is: not even that there is none.
        None | Some(RegisterRule::SameValue) => return None,
        Some(_) => {}
    }
    if in_reach
        && !is_signal
        && length <= MAX_PLAIN
        && let Some(simple) = plain(row)
    {
        return Some(Plan::Plain(simple));
    }
    let frame = Frame { kind, encoding: fde.cie().encoding(), is_signal };
    Some(Plan::Rule(Arc::new(Rule::of(row, frame))))
}

/// Whether framehop makes one of its simple rules of `row`, and then what that does.
///
/// Source: <https://github.com/mstange/framehop/blob/v0.16.0/src/x86_64/dwarf.rs#L99> (`translate_into_unwind_rule`).
fn plain(row: &UnwindTableRow<usize>) -> Option<Simple> {
    let words = |bytes: i64| (bytes % 8 == 0).then(|| i16::try_from(bytes / 8).ok()).flatten();
    let offset = |register| match row.register(register) {
        None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => Some(None),
        Some(RegisterRule::Offset(offset)) => Some(Some(offset)),
        Some(_) => None,
    };
    let frame_pointer = offset(arch::FRAME_POINTER)?;
    if offset(arch::RETURN_ADDRESS)? != Some(-8) {
        return None;
    }
    let (by_frame_pointer, restores_frame_pointer) = match row.cfa() {
        // The return address is below the CFA, so the CFA is above the stack pointer: each step leads upwards.
        CfaRule::RegisterAndOffset { register: arch::STACK_POINTER, offset } => {
            words(*offset).filter(|&words| words >= 1)?;
            let from_stack_pointer = frame_pointer.map_or(Some(0), |saved| offset.checked_add(saved))?;
            words(from_stack_pointer)?;
            // Below the stack pointer: popped already.
            (false, frame_pointer.is_some() && from_stack_pointer >= 0)
        }
        CfaRule::RegisterAndOffset { register: arch::FRAME_POINTER, offset: 16 } if frame_pointer == Some(-16) => {
            (true, true)
        }
        _ => return None,
    };
    let mut saved = Saved::default();
    for &(register, ref rule) in row.registers() {
        if register == arch::FRAME_POINTER || register == arch::RETURN_ADDRESS {
            continue;
        }
        match rule {
            RegisterRule::Undefined | RegisterRule::SameValue => {}
            RegisterRule::Offset(offset) => {
                let place = arch::CALLEE_SAVED.iter().position(|&saved| saved == register)?;
                saved[place] = words(*offset).filter(|&words| words != 0)?;
            }
            _ => return None,
        }
    }
    Some(Simple { saved, by_frame_pointer, restores_frame_pointer })
}
