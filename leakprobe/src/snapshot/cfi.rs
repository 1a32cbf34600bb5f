//! Call frame information that framehop leaves out or must not be given.
//!
//! framehop handles what nearly every frame needs, fast: a CFA relative to the stack or frame pointer. It does not dereference
//! memory in DWARF expressions, so it cannot get through signal handlers or functions that realign their stack; and it
//! evaluates expressions without a limit, so that a hostile file could make it loop for ever. So each distinct code address
//! is looked at once, here, before framehop sees it: frames with expressions are stepped here, with a limit.

use std::sync::Arc;

use framehop::{ExplicitModuleSectionInfo, Module as FramehopModule};
use gimli::{
    BaseAddresses, CfaRule, DebugFrame, EhFrame, EhFrameHdr, EndianSlice, Evaluation, EvaluationResult,
    FrameDescriptionEntry, LittleEndian, Location, Reader, Register, RegisterRule, UnwindContext, UnwindExpression,
    UnwindSection, UnwindTableRow, Value,
};

use super::arch::{self, UnwindRegs};
use crate::target::elf::{Elf, Section};

/// Most operations that one DWARF expression may take. Real ones take a handful.
const MAX_OPERATIONS: u32 = 256;
/// Most frame descriptions that are indexed where a file brings no index.
const MAX_INDEX: usize = 4 << 20;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// How to step out of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// framehop can.
    Plain,
    /// It takes [`Cfi::step`].
    Expression,
    /// No frame description covers the address; framehop follows frame pointers.
    Uncovered,
}

/// A step could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stuck;

/// The call frame information of one module.
pub(crate) struct Cfi {
    frames: Section,
    is_debug_frame: bool,
    hdr: Option<Section>,
    bases: BaseAddresses,
    /// Address range and offset of each frame description, where the file brings no index.
    index: Vec<(u64, u64, usize)>,
}

impl Cfi {
    /// The call frame information of `elf`; `None` if it has none.
    pub(crate) fn of(elf: &Elf) -> Option<Self> {
        let (frames, is_debug_frame) = match (&elf.eh_frame, &elf.debug_frame) {
            (Some(frames), _) => (frames.clone(), false),
            (None, Some(frames)) => (frames.clone(), true),
            (None, None) => return None,
        };
        let mut bases = BaseAddresses::default().set_eh_frame(frames.svma.start);
        if let Some(text) = &elf.text {
            bases = bases.set_text(text.start);
        }
        if let Some(got) = &elf.got {
            bases = bases.set_got(got.start);
        }
        let hdr = elf.eh_frame_hdr.clone().filter(|_| !is_debug_frame);
        if let Some(hdr) = &hdr {
            bases = bases.set_eh_frame_hdr(hdr.svma.start);
        }
        let mut cfi = Self { frames, is_debug_frame, hdr, bases, index: Vec::new() };
        if cfi.hdr.is_none() {
            cfi.index = cfi.build_index();
        }
        Some(cfi)
    }

    /// The same for framehop.
    pub(crate) fn module(name: &str, elf: &Elf, memory: std::ops::Range<u64>, bias: u64) -> FramehopModule<Arc<[u8]>> {
        let parts = |section: &Option<Section>| {
            let section = section.as_ref();
            (section.map(|s| s.svma.clone()), section.map(|s| Arc::clone(&s.data)))
        };
        let (eh_frame_svma, eh_frame) = parts(&elf.eh_frame);
        let (eh_frame_hdr_svma, eh_frame_hdr) = parts(&elf.eh_frame_hdr);
        let info = ExplicitModuleSectionInfo {
            base_svma: 0,
            text_svma: elf.text.clone(),
            got_svma: elf.got.clone(),
            eh_frame_svma,
            eh_frame,
            eh_frame_hdr_svma,
            eh_frame_hdr,
            debug_frame: elf.debug_frame.as_ref().map(|s| Arc::clone(&s.data)),
            ..ExplicitModuleSectionInfo::default()
        };
        FramehopModule::new(name.to_owned(), memory, bias, info)
    }

    /// How to step out of the frame whose code address is `svma`.
    pub(crate) fn plan(&self, svma: u64) -> Plan {
        self.with_row(svma, |_, row, _| if is_plain(row) { Plan::Plain } else { Plan::Expression })
            .unwrap_or(Plan::Uncovered)
    }

    /// Steps out of the frame at `svma`. Returns whether it was a signal frame, whose caller's address is exact and not that
    /// behind a call.
    pub(crate) fn step(
        &self,
        svma: u64,
        regs: &mut UnwindRegs,
        read: &mut impl FnMut(u64) -> Result<u64, ()>,
    ) -> Result<bool, Stuck> {
        let stepped = self.with_row(svma, |section, row, frame| step(section, row, frame, regs, read));
        stepped.unwrap_or(Err(Stuck))
    }

    fn build_index(&self) -> Vec<(u64, u64, usize)> {
        let mut index = if self.is_debug_frame {
            entries(&self.debug_frame(), &self.bases)
        } else {
            entries(&self.eh_frame(), &self.bases)
        };
        index.sort_unstable();
        index
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

    /// Calls `then` with the row that covers `svma`.
    fn with_row<'a, T>(
        &'a self,
        svma: u64,
        then: impl FnOnce(&dyn Frames<'a>, &UnwindTableRow<usize>, Frame) -> T,
    ) -> Option<T> {
        if self.is_debug_frame {
            let section = self.debug_frame();
            let fde =
                section.fde_from_offset(&self.bases, self.indexed(svma)?.into(), DebugFrame::cie_from_offset).ok()?;
            in_row(&section, &self.bases, &fde, svma, then)
        } else {
            let section = self.eh_frame();
            let fde = match &self.hdr {
                Some(hdr) => {
                    let hdr = EhFrameHdr::new(&hdr.data, LittleEndian).parse(&self.bases, 8).ok()?;
                    let table = hdr.table()?;
                    table.fde_for_address(&section, &self.bases, svma, EhFrame::cie_from_offset).ok()?
                }
                None => {
                    section.fde_from_offset(&self.bases, self.indexed(svma)?.into(), EhFrame::cie_from_offset).ok()?
                }
            };
            in_row(&section, &self.bases, &fde, svma, then)
        }
    }

    fn indexed(&self, svma: u64) -> Option<usize> {
        let after = self.index.partition_point(|&(start, _, _)| start <= svma);
        let &(_, end, offset) = self.index.get(after.checked_sub(1)?)?;
        (svma < end).then_some(offset)
    }
}

/// What stepping needs of a frame description besides its row.
#[derive(Clone, Copy)]
struct Frame {
    encoding: gimli::Encoding,
    is_signal: bool,
}

/// Reads the bytes of an expression; hides which of the two sections it is in.
trait Frames<'data> {
    fn expression(&self, expression: &UnwindExpression<usize>) -> Option<gimli::Expression<Slice<'data>>>;
}

impl<'data, S: UnwindSection<Slice<'data>>> Frames<'data> for S {
    fn expression(&self, expression: &UnwindExpression<usize>) -> Option<gimli::Expression<Slice<'data>>> {
        expression.get(self).ok()
    }
}

fn in_row<'data, S, T>(
    section: &S,
    bases: &BaseAddresses,
    fde: &FrameDescriptionEntry<Slice<'data>>,
    svma: u64,
    then: impl FnOnce(&dyn Frames<'data>, &UnwindTableRow<usize>, Frame) -> T,
) -> Option<T>
where
    S: UnwindSection<Slice<'data>>,
{
    let mut context = UnwindContext::new();
    let row = fde.unwind_info_for_address(section, bases, &mut context, svma).ok()?;
    let frame = Frame { encoding: fde.cie().encoding(), is_signal: fde.is_signal_trampoline() };
    Some(then(section, row, frame))
}

fn entries<'data, S>(section: &S, bases: &BaseAddresses) -> Vec<(u64, u64, usize)>
where
    S: UnwindSection<Slice<'data>>,
{
    let mut index = Vec::new();
    let mut entries = section.entries(bases);
    while let Ok(Some(entry)) = entries.next() {
        let gimli::CieOrFde::Fde(partial) = entry else {
            continue;
        };
        let Ok(fde) = partial.parse(S::cie_from_offset) else {
            continue;
        };
        let start = fde.initial_address();
        index.push((start, start.saturating_add(fde.len()), fde.offset()));
        if index.len() >= MAX_INDEX {
            break;
        }
    }
    index
}

fn is_plain(row: &UnwindTableRow<usize>) -> bool {
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, .. } => {
            *register == arch::STACK_POINTER || *register == arch::FRAME_POINTER
        }
        CfaRule::Expression(_) => false,
    };
    let offset_or_none = |register: Register| {
        matches!(
            row.register(register),
            None | Some(RegisterRule::Undefined | RegisterRule::SameValue | RegisterRule::Offset(_))
        )
    };
    cfa && offset_or_none(arch::FRAME_POINTER) && offset_or_none(arch::RETURN_ADDRESS)
}

fn step(
    section: &dyn Frames<'_>,
    row: &UnwindTableRow<usize>,
    frame: Frame,
    regs: &mut UnwindRegs,
    read: &mut impl FnMut(u64) -> Result<u64, ()>,
) -> Result<bool, Stuck> {
    let old = *regs;
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            arch::get(&old, *register).ok_or(Stuck)?.wrapping_add_signed(*offset)
        }
        CfaRule::Expression(expression) => {
            let expression = section.expression(expression).ok_or(Stuck)?;
            evaluate(expression, frame, &old, None, read)?
        }
    };
    arch::set(regs, arch::STACK_POINTER, cfa);
    for register in arch::restorable() {
        let value = match row.register(register) {
            None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => continue,
            Some(RegisterRule::Offset(offset)) => read(cfa.wrapping_add_signed(offset)).map_err(|()| Stuck)?,
            Some(RegisterRule::ValOffset(offset)) => cfa.wrapping_add_signed(offset),
            Some(RegisterRule::Register(other)) => arch::get(&old, other).ok_or(Stuck)?,
            Some(RegisterRule::Expression(expression)) => {
                let expression = section.expression(&expression).ok_or(Stuck)?;
                let saved_at = evaluate(expression, frame, &old, Some(cfa), read)?;
                read(saved_at).map_err(|()| Stuck)?
            }
            Some(RegisterRule::ValExpression(expression)) => {
                let expression = section.expression(&expression).ok_or(Stuck)?;
                evaluate(expression, frame, &old, Some(cfa), read)?
            }
            Some(_) => return Err(Stuck),
        };
        arch::set(regs, register, value);
    }
    let stuck = arch::get(regs, arch::RETURN_ADDRESS) == arch::get(&old, arch::RETURN_ADDRESS)
        && arch::get(&old, arch::STACK_POINTER) == Some(cfa);
    if stuck { Err(Stuck) } else { Ok(frame.is_signal) }
}

fn evaluate<R: Reader>(
    expression: gimli::Expression<R>,
    frame: Frame,
    regs: &UnwindRegs,
    cfa: Option<u64>,
    read: &mut impl FnMut(u64) -> Result<u64, ()>,
) -> Result<u64, Stuck> {
    let mut evaluation = Evaluation::new(expression.0, frame.encoding);
    evaluation.set_max_iterations(MAX_OPERATIONS);
    if let Some(cfa) = cfa {
        evaluation.set_initial_value(cfa);
    }
    let mut result = evaluation.evaluate();
    for _ in 0..MAX_OPERATIONS {
        result = match result.map_err(|_| Stuck)? {
            EvaluationResult::Complete => {
                return match evaluation.as_result().last().map(|piece| &piece.location) {
                    Some(Location::Address { address }) => Ok(*address),
                    _ => Err(Stuck),
                };
            }
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = arch::get(regs, register).ok_or(Stuck)?;
                evaluation.resume_with_register(Value::Generic(value))
            }
            EvaluationResult::RequiresMemory { address, size: 8, space: None, .. } => {
                let value = read(address).map_err(|()| Stuck)?;
                evaluation.resume_with_memory(Value::Generic(value))
            }
            _ => return Err(Stuck),
        };
    }
    Err(Stuck)
}
