//! What a blocked thread waits for: its system call and arguments, as they stand in its saved registers.

use leakprobe_common::{
    arch::{ARGS, IP, Regs, SYSCALL},
    futex,
};
use nix::time::ClockId;
use syscalls::Sysno;

use super::{arch, stack_pointer};
use crate::{
    model::{FutexWait, Subject, WaitKind},
    target::{ProcessMemory, clock_ns},
};

pub(crate) mod arguments;
mod calls;
mod place;

const NS_PER_MS: u64 = 1_000_000;
/// `FUTEX_CLOCK_REALTIME`.
const CLOCK_REALTIME_FLAG: u32 = 256;
/// See [`is_near`].
const OWN_FRAMES: u64 = 1024;
/// Thread states of `task_struct.__state`: stopped by a signal, stopped by a debugger, frozen.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/include/linux/sched.h#L97>
const STOPPED: u32 = 4;
const TRACED: u32 = 8;
const FROZEN: u32 = 0x8000;

/// What is waited for, and for how long at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) kind: WaitKind,
    pub(crate) reason: String,
    pub(crate) object: String,
    pub(crate) timeout_ms: Option<u64>,
    /// What `object` is to be told of in full.
    pub(crate) subject: Subject,
    /// The futex that is waited on.
    pub(crate) futex: Option<Box<FutexWait>>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            kind: WaitKind::Other,
            reason: String::new(),
            object: String::new(),
            timeout_ms: None,
            subject: Subject::None,
            futex: None,
        }
    }
}

/// Two clocks at one moment, ns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) monotonic: u64,
    pub(crate) realtime: u64,
}

impl Now {
    /// This moment.
    pub(crate) fn read() -> Self {
        Self { monotonic: clock_ns(ClockId::CLOCK_MONOTONIC), realtime: clock_ns(ClockId::CLOCK_REALTIME) }
    }
}

/// Where the arguments of system calls are looked up.
pub(crate) struct Context<'a> {
    /// A thread that has the process's descriptors.
    pub(crate) task: u32,
    pub(crate) memory: &'a ProcessMemory,
    pub(crate) now: Now,
}

/// The futex word that a thread waits on, if it is in `futex`.
pub(crate) fn futex_word(regs: &Regs) -> Option<u64> {
    let is_futex = regs[SYSCALL] == leakprobe_common::arch::SYS_FUTEX && !arch::is_compat(regs);
    is_futex.then_some(regs[ARGS[0]])
}

impl Context<'_> {
    /// What a thread with these registers waits for, which it has done since `since` (`CLOCK_MONOTONIC`, ns).
    pub(crate) fn classify(&self, tid: u32, state: u32, regs: &Regs, since: u64) -> Waiting {
        let stopped = |reason: &str, subject| Waiting {
            kind: WaitKind::Stopped,
            reason: reason.to_owned(),
            subject,
            ..Waiting::default()
        };
        if state & STOPPED != 0 {
            return stopped("stopped by a signal", Subject::None);
        }
        if state & TRACED != 0 {
            return stopped("stopped by a debugger", Subject::Tracer);
        }
        if state & FROZEN != 0 {
            return stopped("frozen", Subject::None);
        }
        if arch::is_compat(regs) {
            // How locks lie in memory is known of 64-bit libraries alone.
            return Waiting { futex: None, ..self.classify_compat(tid, state, regs, since) };
        }
        let number = usize::try_from(regs[SYSCALL]).ok();
        let Some(call) = number.and_then(Sysno::new) else {
            // A thread that is blocked outside of a system call: a page fault.
            let (kind, reason) = if regs[SYSCALL] == u64::MAX {
                (WaitKind::PageFault, "page fault".to_owned())
            } else {
                (WaitKind::Other, format!("system call {}", regs[SYSCALL]))
            };
            let mut waiting = Waiting { kind, reason, ..Waiting::default() };
            self.look_into_kernel(tid, state, &mut waiting);
            return waiting;
        };
        let call = if call == Sysno::restart_syscall { self.restarted(regs).unwrap_or(call) } else { call };
        let args = ARGS.map(|place| regs[place]);
        let arg = |n: usize| args[n];
        let mut waiting = Waiting { reason: call.name().to_owned(), ..Waiting::default() };
        match call {
            Sysno::futex => {
                let op = arg(1) as u32;
                waiting.kind = WaitKind::Futex;
                waiting.reason = futex_reason(op);
                waiting.object = format!("{:#x}", arg(0));
                waiting.timeout_ms = self.futex_timeout(op, arg(3), since);
                waiting.futex = futex_wait(arg(0), Some(futex::command(op)), arg(2)).map(|wait| {
                    let on_own_stack = is_near(arg(0), stack_pointer(regs));
                    Box::new(FutexWait { timed: arg(3) != 0, on_own_stack, ..*wait })
                });
            }
            Sysno::futex_waitv => {
                waiting.kind = WaitKind::Futex;
                let first = self.memory.word(arg(0).wrapping_add(8));
                waiting.futex = first
                    .and_then(|word| futex_wait(word, None, 0))
                    .map(|wait| Box::new(FutexWait { timed: arg(3) != 0, ..*wait }));
                waiting.object = match first {
                    Some(word) => format!("{word:#x} and {} more", (arg(1) as u32).saturating_sub(1)),
                    None => String::new(),
                };
                waiting.timeout_ms = self.deadline(arg(3), arg(4) == libc::CLOCK_REALTIME as u64, since);
            }
            _ => self.not_a_futex(call, &args, since, &mut waiting),
        }
        self.look_into_kernel(tid, state, &mut waiting);
        waiting
    }

    /// The call that goes on after it was interrupted, e.g. when the process was stopped or a debugger looked at it. Its
    /// arguments are still in the registers, its number is not: but most often it stands in the code.
    /// These are the calls that can go on: <https://elixir.bootlin.com/linux/v6.12/A/ident/set_restart_fn>
    fn restarted(&self, regs: &Regs) -> Option<Sysno> {
        let mut code = [0; arch::CALL_CODE];
        let read = self.memory.read(regs[IP].checked_sub(code.len() as u64)?, &mut code);
        let numbers = arch::call_numbers(code.get(..read).filter(|code| code.len() == arch::CALL_CODE)?);
        numbers
            .filter_map(Sysno::new)
            .find(|call| matches!(call, Sysno::futex | Sysno::nanosleep | Sysno::clock_nanosleep | Sysno::poll))
    }

    /// `FUTEX_WAIT` takes a span, the others a moment.
    /// Source: <https://man7.org/linux/man-pages/man2/futex.2.html>
    fn futex_timeout(&self, op: u32, timeout: u64, since: u64) -> Option<u64> {
        match futex::command(op) {
            0 => self.timespec_ms(timeout),
            6 => self.deadline(timeout, true, since),
            _ => self.deadline(timeout, op & CLOCK_REALTIME_FLAG != 0, since),
        }
    }

    /// How long after `since` the moment lies that the timespec at `address` names.
    fn deadline(&self, address: u64, realtime: bool, since: u64) -> Option<u64> {
        Some(self.until(self.timespec_ns(address)?, realtime, since))
    }

    /// How long after `since` a moment lies, ms.
    pub(super) fn until(&self, deadline: u64, realtime: bool, since: u64) -> u64 {
        let began =
            if realtime { self.now.realtime.saturating_sub(self.now.monotonic.saturating_sub(since)) } else { since };
        // Rounded: the wait began some µs after the program computed its deadline.
        deadline.saturating_sub(began).saturating_add(NS_PER_MS / 2) / NS_PER_MS
    }

    fn timespec_ms(&self, address: u64) -> Option<u64> {
        Some(self.timespec_ns(address)? / NS_PER_MS)
    }

    fn timespec_ns(&self, address: u64) -> Option<u64> {
        let (seconds, rest) = self.two_words(address)?;
        Some(seconds.saturating_mul(1_000_000_000).saturating_add(rest))
    }

    fn timeval_ms(&self, address: u64) -> Option<u64> {
        let (seconds, rest) = self.two_words(address)?;
        Some(seconds.saturating_mul(1000).saturating_add(rest / 1000))
    }

    /// The two words of a timespec; `None` for a null pointer: no timeout.
    fn two_words(&self, address: u64) -> Option<(u64, u64)> {
        if address == 0 {
            return None;
        }
        Some((self.memory.word(address)?, self.memory.word(address.checked_add(8)?)?))
    }
}

/// A futex wait that nobody has looked at yet.
fn futex_wait(word: u64, command: Option<u32>, value: u64) -> Option<Box<FutexWait>> {
    Some(Box::new(FutexWait::new(word, command, value as u32)))
}

/// Whether a word lies in the frames that a waiting C library has on its stack: a few hundred bytes from the stack pointer on.
fn is_near(word: u64, stack_pointer: u64) -> bool {
    word.checked_sub(stack_pointer).is_some_and(|distance| distance < OWN_FRAMES)
}

/// A timeout in ms as poll takes it: negative means none.
fn milliseconds(value: u64) -> Option<u64> {
    u64::try_from(value as i32).ok()
}

/// A futex operation in words. `op` may be one of the stand-ins of [`futex`].
pub(crate) fn futex_reason(op: u32) -> String {
    match op {
        futex::OP_WAITV => return "futex_waitv".to_owned(),
        futex::OP_WAIT2 => return "futex_wait".to_owned(),
        _ => {}
    }
    let command = match futex::command(op) {
        0 | 9 => "wait",
        6 | 13 => "lock_pi",
        11 => "wait_requeue_pi",
        other => return format!("futex operation {other}"),
    };
    format!("futex {command}")
}

#[cfg(test)]
mod tests {
    use leakprobe_common::arch::REG_WORDS;

    use super::*;

    fn classify(call: Sysno, args: &[u64], since: u64) -> Waiting {
        let memory = ProcessMemory::new(std::process::id());
        let now = Now { monotonic: 5_000_000_000, realtime: 105_000_000_000 };
        let mut regs = [0; REG_WORDS];
        regs[SYSCALL] = call.id() as u64;
        for (n, arg) in args.iter().enumerate() {
            regs[ARGS[n]] = *arg;
        }
        Context { task: std::process::id(), memory: &memory, now }.classify(std::process::id(), 1, &regs, since)
    }

    #[test]
    fn futex_timeouts_are_spans_or_moments() {
        let time = [7u64, 500_000_000];
        let at = time.as_ptr() as u64;
        let wait = classify(Sysno::futex, &[0x1000, 128, 0, at], 4_000_000_000);
        assert_eq!((wait.kind, wait.timeout_ms), (WaitKind::Futex, Some(7500)));
        assert_eq!((wait.reason.as_str(), wait.object.as_str()), ("futex wait", "0x1000"));
        // WAIT_BITSET: a moment of CLOCK_MONOTONIC, 3.5 s after the beginning.
        assert_eq!(classify(Sysno::futex, &[0x1000, 9 | 128, 0, at], 4_000_000_000).timeout_ms, Some(3500));
        // The same of CLOCK_REALTIME, which was 104 s at the beginning: long past.
        assert_eq!(classify(Sysno::futex, &[0x1000, 9 | 256, 0, at], 4_000_000_000).timeout_ms, Some(0));
        assert_eq!(classify(Sysno::futex, &[0x1000, 9, 0, 0], 0).timeout_ms, None);
    }

    #[test]
    fn a_call_that_goes_on_after_an_interruption_is_known_by_its_code() {
        let kind = |code: &[u8], args: &[u64]| {
            let mut memory = [0x90u8; arch::CALL_CODE + 8];
            memory[arch::CALL_CODE - code.len()..arch::CALL_CODE].copy_from_slice(code);
            let mut regs = [0; REG_WORDS];
            (regs[SYSCALL], regs[IP]) =
                (Sysno::restart_syscall.id() as u64, memory.as_ptr() as u64 + arch::CALL_CODE as u64);
            args.iter().zip(ARGS).for_each(|(arg, place)| regs[place] = *arg);
            let own = ProcessMemory::new(std::process::id());
            let now = Now { monotonic: 5_000_000_000, realtime: 105_000_000_000 };
            let id = std::process::id();
            let waiting = Context { task: id, memory: &own, now }.classify(id, 1, &regs, 0);
            (waiting.kind, waiting.reason, waiting.timeout_ms)
        };
        // mov $7, %eax; syscall
        assert_eq!(kind(&[0xb8, 7, 0, 0, 0, 0x0f, 5], &[0, 1, 250]), (WaitKind::Poll, "poll".to_owned(), Some(250)));
        // mov $0xca, %eax; mov %r8, %r10; syscall
        let futex = [0xb8, 0xca, 0, 0, 0, 0x4d, 0x89, 0xc2, 0x0f, 5];
        assert_eq!(kind(&futex, &[0x1000, 128]), (WaitKind::Futex, "futex wait".to_owned(), None));
        // A call that does not go on by itself, no number at all, and no call.
        for code in [&[0xb8, 0, 0, 0, 0, 0x0f, 5][..], &[0x48, 0x89, 0xf8, 0x0f, 5], &[0xb8, 7, 0, 0, 0]] {
            assert_eq!(kind(code, &[]), (WaitKind::Other, "restart_syscall".to_owned(), None));
        }
    }

    #[test]
    fn a_read_is_named_after_what_is_read() {
        let (read, _write) = nix::unistd::pipe().unwrap();
        use std::os::fd::AsRawFd;
        let fd = read.as_raw_fd();
        let wait = classify(Sysno::read, &[fd as u64], 0);
        assert_eq!(wait.kind, WaitKind::Pipe);
        assert!(wait.object.starts_with(&format!("fd {fd} (pipe:[")), "{}", wait.object);
    }

    #[test]
    fn poll_without_timeout_has_none() {
        let wait = classify(Sysno::poll, &[0, 1, u64::from(u32::MAX)], 0);
        assert_eq!((wait.kind, wait.timeout_ms, wait.object.as_str()), (WaitKind::Poll, None, "1 descriptor"));
        assert_eq!(classify(Sysno::epoll_wait, &[0, 0, 0, 250], 0).timeout_ms, Some(250));
    }

    #[test]
    fn an_unknown_call_is_other_by_name() {
        let wait = classify(Sysno::getrandom, &[], 0);
        assert_eq!((wait.kind, wait.reason.as_str()), (WaitKind::Other, "getrandom"));
    }
}
