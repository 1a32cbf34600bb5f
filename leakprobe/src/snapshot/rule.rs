//! Stepping out of a frame that framehop has no simple rule for.
//!
//! framehop does not dereference memory in DWARF expressions, so it cannot get through signal handlers or functions that
//! realign their stack, and it keeps no registers but the stack and frame pointers, from which others may be computed.
//!
//! A step is bounded: at most [`MAX_OPERATIONS`] operations for the CFA and for each of the registers.

use gimli::{
    CfaRule, Evaluation, EvaluationResult, Location, Register, RegisterRule, UnwindExpression, UnwindSection,
    UnwindTableRow, Value,
};

use super::{
    arch::{self, UnwindRegs},
    cfi::{Kind, Slice},
    known::Known,
};

/// Most operations that one DWARF expression may take. Real ones take a handful.
const MAX_OPERATIONS: u32 = 256;

/// A step could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// The rule makes no sense, or leads nowhere.
    Malformed,
    /// It needs a register that is not known.
    UnknownRegister,
}

/// A step was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stepped {
    /// It led out of a signal frame: the caller's address is exact and not that behind a call, and its stack may be another.
    pub(crate) is_signal: bool,
}

/// What stepping needs of a frame description besides its row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) encoding: gimli::Encoding,
    pub(super) is_signal: bool,
}

/// A row of call frame information, as far as it concerns registers that are followed.
#[derive(Debug)]
pub(crate) struct Rule {
    cfa: CfaRule<usize>,
    registers: Box<[(Register, RegisterRule<usize>)]>,
    frame: Frame,
}

impl Rule {
    pub(super) fn of(row: &UnwindTableRow<usize>, frame: Frame) -> Self {
        let rules = arch::restorable().filter_map(|register| Some((register, row.register(register)?)));
        Self { cfa: row.cfa().clone(), registers: rules.collect(), frame }
    }

    /// The section that the row is from.
    pub(super) fn kind(&self) -> Kind {
        self.frame.kind
    }

    /// Makes the step. `section` is the one that the row is from.
    pub(super) fn step<'data>(
        &self,
        section: &impl UnwindSection<Slice<'data>>,
        regs: &mut UnwindRegs,
        known: &mut Known,
        read: &mut impl FnMut(u64) -> Result<u64, ()>,
    ) -> Result<Stepped, Stuck> {
        let old = Registers { values: *regs, known: *known };
        let evaluate = |expression: &UnwindExpression<usize>, cfa: Option<u64>, read: &mut _| {
            let expression = expression.get(section).map_err(|_| Stuck::Malformed)?;
            evaluate(expression, self.frame.encoding, &old, cfa, read)
        };
        let cfa = match &self.cfa {
            CfaRule::RegisterAndOffset { register, offset } => old.get(*register)?.wrapping_add_signed(*offset),
            CfaRule::Expression(expression) => evaluate(expression, None, read)?,
        };
        arch::set(regs, arch::STACK_POINTER, cfa);
        known.set(arch::STACK_POINTER, true);
        for (register, rule) in &self.registers {
            let value = match rule {
                RegisterRule::Undefined | RegisterRule::SameValue => continue,
                RegisterRule::Offset(offset) => read(cfa.wrapping_add_signed(*offset)).map_err(|()| Stuck::Malformed),
                RegisterRule::ValOffset(offset) => Ok(cfa.wrapping_add_signed(*offset)),
                RegisterRule::Register(other) => old.get(*other),
                RegisterRule::Expression(expression) => evaluate(expression, Some(cfa), read)
                    .and_then(|saved_at| read(saved_at).map_err(|()| Stuck::Malformed)),
                RegisterRule::ValExpression(expression) => evaluate(expression, Some(cfa), read),
                _ => Err(Stuck::Malformed),
            };
            let (value, is_known) = match value {
                Ok(value) => (value, true),
                Err(Stuck::UnknownRegister) if *register == arch::FRAME_POINTER => (0, false),
                Err(stuck) if arch::is_needed(*register) => return Err(stuck),
                // Most callers do without it. Those that do not find nothing at address 0.
                Err(stuck) => (0, *known == Known::ALL && stuck == Stuck::Malformed),
            };
            arch::set(regs, *register, value);
            known.set(*register, is_known);
        }
        let same = |register| arch::get(regs, register) == arch::get(&old.values, register);
        let backwards = arch::get(regs, arch::STACK_POINTER) < arch::get(&old.values, arch::STACK_POINTER);
        if same(arch::RETURN_ADDRESS) && same(arch::STACK_POINTER) || backwards && !self.frame.is_signal {
            return Err(Stuck::Malformed);
        }
        Ok(Stepped { is_signal: self.frame.is_signal })
    }
}

/// The registers of the frame that is left.
#[derive(Clone, Copy)]
struct Registers {
    values: UnwindRegs,
    known: Known,
}

impl Registers {
    fn get(&self, register: Register) -> Result<u64, Stuck> {
        let value = arch::get(&self.values, register).ok_or(Stuck::Malformed)?;
        if self.known.has(register) { Ok(value) } else { Err(Stuck::UnknownRegister) }
    }
}

fn evaluate(
    expression: gimli::Expression<Slice<'_>>,
    encoding: gimli::Encoding,
    regs: &Registers,
    cfa: Option<u64>,
    read: &mut impl FnMut(u64) -> Result<u64, ()>,
) -> Result<u64, Stuck> {
    let mut evaluation = Evaluation::new(expression.0, encoding);
    evaluation.set_max_iterations(MAX_OPERATIONS);
    if let Some(cfa) = cfa {
        evaluation.set_initial_value(cfa);
    }
    let mut result = evaluation.evaluate();
    for _ in 0..MAX_OPERATIONS {
        result = match result.map_err(|_| Stuck::Malformed)? {
            EvaluationResult::Complete => {
                return match evaluation.as_result().last().map(|piece| &piece.location) {
                    Some(Location::Address { address }) => Ok(*address),
                    _ => Err(Stuck::Malformed),
                };
            }
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = regs.get(register)?;
                evaluation.resume_with_register(Value::Generic(value))
            }
            EvaluationResult::RequiresMemory { address, size: 8, space: None, .. } => {
                let value = read(address).map_err(|()| Stuck::Malformed)?;
                evaluation.resume_with_memory(Value::Generic(value))
            }
            _ => return Err(Stuck::Malformed),
        };
    }
    Err(Stuck::Malformed)
}
