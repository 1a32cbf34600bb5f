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
};

/// Most operations that one DWARF expression may take. Real ones take a handful.
const MAX_OPERATIONS: u32 = 256;

/// A step could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stuck;

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
        read: &mut impl FnMut(u64) -> Result<u64, ()>,
    ) -> Result<Stepped, Stuck> {
        let old = *regs;
        let evaluate = |expression: &UnwindExpression<usize>, cfa: Option<u64>, read: &mut _| {
            let expression = expression.get(section).map_err(|_| Stuck)?;
            evaluate(expression, self.frame.encoding, &old, cfa, read)
        };
        let cfa = match &self.cfa {
            CfaRule::RegisterAndOffset { register, offset } => {
                arch::get(&old, *register).ok_or(Stuck)?.wrapping_add_signed(*offset)
            }
            CfaRule::Expression(expression) => evaluate(expression, None, read)?,
        };
        arch::set(regs, arch::STACK_POINTER, cfa);
        for (register, rule) in &self.registers {
            let value = match rule {
                RegisterRule::Undefined | RegisterRule::SameValue => continue,
                RegisterRule::Offset(offset) => read(cfa.wrapping_add_signed(*offset)).map_err(|()| Stuck),
                RegisterRule::ValOffset(offset) => Ok(cfa.wrapping_add_signed(*offset)),
                RegisterRule::Register(other) => arch::get(&old, *other).ok_or(Stuck),
                RegisterRule::Expression(expression) => {
                    evaluate(expression, Some(cfa), read).and_then(|saved_at| read(saved_at).map_err(|()| Stuck))
                }
                RegisterRule::ValExpression(expression) => evaluate(expression, Some(cfa), read),
                _ => Err(Stuck),
            };
            let value = match value {
                Ok(value) => value,
                Err(Stuck) if arch::is_needed(*register) => return Err(Stuck),
                // Most callers do without it. Those that do not find nothing at address 0.
                Err(Stuck) => 0,
            };
            arch::set(regs, *register, value);
        }
        let same = |register| arch::get(regs, register) == arch::get(&old, register);
        let backwards = arch::get(regs, arch::STACK_POINTER) < arch::get(&old, arch::STACK_POINTER);
        if same(arch::RETURN_ADDRESS) && same(arch::STACK_POINTER) || backwards && !self.frame.is_signal {
            return Err(Stuck);
        }
        Ok(Stepped { is_signal: self.frame.is_signal })
    }
}

fn evaluate(
    expression: gimli::Expression<Slice<'_>>,
    encoding: gimli::Encoding,
    regs: &UnwindRegs,
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
