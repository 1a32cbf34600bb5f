//! Goroutines that C has called: each stands for the thread of the C program that made the call, and for nothing else.
//!
//! The thread runs on its own stack up to `runtime.cgocallback`, and on the goroutine's from there on. `g0.sched.sp` of its `m` says
//! where it left its own. Until Go 1.20 such a goroutine ends with the call; since then it stays with the thread for the next one.
//!
//! Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/asm_amd64.s> (`cgocallback`), and `oneNewExtraM` in
//! <https://github.com/golang/go/blob/go1.27.0/src/runtime/proc.go>

use super::g::G;
use crate::{
    go::{Code, Layout, memory::Words},
    target::Memory,
};

/// The function that leads from C to Go.
const ENTERS: &str = "runtime.cgocallback";

/// A goroutine that C has called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callback {
    /// Its number.
    pub id: u64,
    /// The thread that has made the call: its id in the innermost pid namespace that the process is in.
    pub thread: u32,
    /// The call; `None` if there is none: the thread has returned to C, and is not in Go at all.
    pub call: Option<Call>,
    pub(super) slot: u32,
    pub(super) address: u64,
    pub(super) signature: u64,
}

/// A call from C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Where the stack of the C code goes on; `None` if that could not be found out.
    pub caller: Option<Caller>,
}

/// The C code that has made a call: registers as they are when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Where it returns to.
    pub ip: u64,
    /// The stack pointer there.
    pub sp: u64,
    /// The frame pointer there.
    pub bp: u64,
}

/// Whether a goroutine is one that C has called: no function of Go's was started with it.
pub(super) fn is_callback(g: &G) -> bool {
    g.startpc == 0
}

impl Call {
    /// What call a goroutine with this stack serves, on the thread that `m` is.
    pub(super) fn of(code: &Code, layout: &Layout, memory: &dyn Memory, m: u64, stack: &[u64]) -> Option<Self> {
        // The outermost frame is that of runtime.goexit, to which nothing returns.
        let [.., entered, _] = *stack else { return None };
        Some(Self { caller: caller(code, layout, memory, m, entered) })
    }
}

fn caller(code: &Code, layout: &Layout, memory: &dyn Memory, m: u64, entered: u64) -> Option<Caller> {
    let frame = |pc: u64, name: Option<&str>| {
        let function = code.find(pc)?.table.find(pc)?;
        let is_it = name.is_none_or(|name| function.is_named(name));
        function.frame_size_at(pc).filter(|_| is_it).map(u64::from)
    };
    let size = frame(entered.checked_sub(1)?, Some(ENTERS))?;
    let g0 = memory.word(m.checked_add(layout.m.g0.into())?)?;
    let sp = memory.word(g0.checked_add(layout.g.sched_sp.into())?)?;
    // Its frame begins with the frame pointer of the code that it was called from.
    let top = sp.checked_add(size)?;
    let [bp, ip] = memory.words(top.checked_sub(8)?)?;
    let mut caller = Caller { ip, sp: top.checked_add(8)?, bp };
    // That is `crosscall2`, an assembly function of Go's, which leaves the frame pointer as it was.
    if let Some(size) = frame(ip.checked_sub(1)?, None) {
        let top = caller.sp.checked_add(size)?;
        caller = Caller { ip: memory.word(top)?, sp: top.checked_add(8)?, bp };
    }
    Some(caller)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::{Version, memory::fake::Fake};

    #[test]
    fn a_goroutine_without_a_call_serves_none() {
        let layout = Layout::of(&Version::parse("go1.27.3").unwrap()).unwrap();
        let call = |stack: &[u64]| Call::of(&Code::default(), &layout, &Fake::default(), 0x1000, stack);
        assert_eq!((call(&[]), call(&[0x40_0000])), (None, None));
        // What is no Go code, or cannot be read, is a call whose caller is not known.
        assert_eq!(call(&[0x40_1000, 0x40_0000]), Some(Call { caller: None }));
        assert_eq!(call(&[0, u64::MAX]), Some(Call { caller: None }));
    }
}
