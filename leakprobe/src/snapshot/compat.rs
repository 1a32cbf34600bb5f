//! 32-bit code on a 64-bit kernel: its system calls have other numbers, and their arguments stand in other registers.
//!
//! Numbers: <https://elixir.bootlin.com/linux/v6.12/source/arch/x86/entry/syscalls/syscall_32.tbl>

use leakprobe_common::arch::{ARGS, CS, FP, RBX, REG_WORDS, Regs, SYSCALL};
use syscalls::Sysno;

use super::waits::{Context, Waiting};

/// The calls that threads wait in, by their number on i386.
const CALLS: &[(u64, Sysno)] = &[
    (0, Sysno::restart_syscall),
    (3, Sysno::read),
    (4, Sysno::write),
    (5, Sysno::open),
    (7, Sysno::wait4),
    (29, Sysno::pause),
    (54, Sysno::ioctl),
    (55, Sysno::fcntl),
    (72, Sysno::rt_sigsuspend),
    (114, Sysno::wait4),
    (118, Sysno::fsync),
    (142, Sysno::select),
    (143, Sysno::flock),
    (145, Sysno::readv),
    (146, Sysno::writev),
    (148, Sysno::fdatasync),
    (162, Sysno::nanosleep),
    (168, Sysno::poll),
    (177, Sysno::rt_sigtimedwait),
    (179, Sysno::rt_sigsuspend),
    (180, Sysno::pread64),
    (181, Sysno::pwrite64),
    (221, Sysno::fcntl),
    (240, Sysno::futex),
    (256, Sysno::epoll_wait),
    (267, Sysno::clock_nanosleep),
    (284, Sysno::waitid),
    (295, Sysno::openat),
    (308, Sysno::pselect6),
    (309, Sysno::ppoll),
    (313, Sysno::splice),
    (319, Sysno::epoll_pwait),
    (333, Sysno::preadv),
    (334, Sysno::pwritev),
    (337, Sysno::recvmmsg),
    (345, Sysno::sendmmsg),
    (362, Sysno::connect),
    (364, Sysno::accept4),
    (369, Sysno::sendto),
    (370, Sysno::sendmsg),
    (371, Sysno::recvfrom),
    (372, Sysno::recvmsg),
    (407, Sysno::clock_nanosleep),
    (413, Sysno::pselect6),
    (414, Sysno::ppoll),
    (417, Sysno::recvmmsg),
    (421, Sysno::rt_sigtimedwait),
    (422, Sysno::futex),
    (426, Sysno::io_uring_enter),
    (437, Sysno::openat2),
    (441, Sysno::epoll_pwait2),
    (449, Sysno::futex_waitv),
];
/// `socketcall`: which call of a socket it is stands in its first argument.
const SOCKETCALL: u64 = 102;
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/net.h#L27>
const SOCKET_CALLS: &[(u64, Sysno)] = &[
    (3, Sysno::connect),
    (5, Sysno::accept),
    (9, Sysno::sendto),
    (10, Sysno::recvfrom),
    (11, Sysno::sendto),
    (12, Sysno::recvfrom),
    (16, Sysno::sendmsg),
    (17, Sysno::recvmsg),
    (18, Sysno::accept4),
    (19, Sysno::recvmmsg),
    (20, Sysno::sendmmsg),
];

/// The calls that take a time of two 32-bit numbers, and which argument points to it. From 403 on they take two 64-bit ones.
const SHORT_TIMES: &[(u64, usize)] = &[(142, 4), (162, 0), (177, 2), (240, 3), (267, 2), (308, 4), (309, 2), (337, 4)];
const SELECT: u64 = 142;
const CLOCK_NANOSLEEP: u64 = 267;
const FUTEX: u64 = 240;

/// A system call of 32-bit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// None: the thread is in none.
    None,
    /// The call that does the same in 64-bit code. Its first arguments, unless they lie in memory.
    Known(Sysno, Option<[u64; 6]>),
    /// One that is not in the table.
    Other(u64),
}

/// The call that a thread with these registers, which are those of 32-bit code, is in.
pub(super) fn call(regs: &Regs) -> Call {
    let number = regs[SYSCALL] & 0xffff_ffff;
    if number == 0xffff_ffff {
        return Call::None;
    }
    let find = |table: &[(u64, Sysno)], number| table.iter().find(|(its, _)| *its == number).map(|(_, call)| *call);
    // ebx, ecx, edx, esi, edi, ebp
    let places = [RBX, 11, ARGS[2], ARGS[1], ARGS[0], FP];
    let args = places.map(|place| regs[place] & 0xffff_ffff);
    if number == SOCKETCALL {
        return find(SOCKET_CALLS, args[0]).map_or(Call::Other(number), |call| Call::Known(call, None));
    }
    find(CALLS, number).map_or(Call::Other(number), |call| Call::Known(call, Some(args)))
}

impl Context<'_> {
    /// As [`Context::classify`], of a thread of 32-bit code.
    pub(super) fn classify_compat(&self, tid: u32, state: u32, regs: &Regs, since: u64) -> Waiting {
        let mut native = [0; REG_WORDS];
        native[CS] = super::arch::NATIVE_CODE;
        native[SYSCALL] = u64::MAX;
        let call = match call(regs) {
            Call::None => return self.classify(tid, state, &native, since),
            Call::Other(number) => {
                return Waiting { reason: format!("32-bit system call {number}"), ..Waiting::default() };
            }
            Call::Known(call, args) => {
                native[SYSCALL] = call.id() as u64;
                // Those of `socketcall` lie in memory, and the first one is the descriptor.
                let args = args.unwrap_or_else(|| {
                    let socket = self.memory.word(regs[11] & 0xffff_ffff).unwrap_or(0xffff_ffff);
                    [socket & 0xffff_ffff, 0, 0, 0, 0, 0]
                });
                ARGS.into_iter().zip(args).for_each(|(place, arg)| native[place] = arg);
                regs[SYSCALL] & 0xffff_ffff
            }
        };
        let Some(&(_, time)) = SHORT_TIMES.iter().find(|(number, _)| *number == call) else {
            return self.classify(tid, state, &native, since);
        };
        let pointer = std::mem::take(&mut native[ARGS[time]]);
        let (op, flags) = (native[ARGS[1]], native[ARGS[1]]);
        let realtime = native[ARGS[0]] == libc::CLOCK_REALTIME as u64;
        let waiting = self.classify(tid, state, &native, since);
        let span = |unit| self.short_time(pointer, unit);
        let timeout_ms = match call {
            SELECT => span(1000).map(|ns| ns / 1_000_000),
            CLOCK_NANOSLEEP if flags & 1 != 0 => span(1).map(|at| self.until(at, realtime, since)),
            FUTEX if op & 0x7f != 0 => span(1).map(|at| self.until(at, op & 0x100 != 0 || op & 0x7f == 6, since)),
            _ => span(1).map(|ns| ns / 1_000_000),
        };
        Waiting { timeout_ms, ..waiting }
    }

    /// A time of two 32-bit numbers: seconds, and parts of one that have so many ns. `None` if there is none.
    fn short_time(&self, pointer: u64, unit: u64) -> Option<u64> {
        let word = (pointer != 0).then(|| self.memory.word(pointer)).flatten()?;
        Some((word & 0xffff_ffff) * 1_000_000_000 + (word >> 32) * unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_arguments_are_those_of_32_bit_code() {
        let mut regs = [0; REG_WORDS];
        regs[SYSCALL] = 240;
        regs[RBX] = 0x0804_a000;
        regs[11] = 0x80;
        let Call::Known(Sysno::futex, Some(args)) = call(&regs) else { panic!("{:?}", call(&regs)) };
        assert_eq!(args[..2], [0x0804_a000, 0x80]);
        regs[SYSCALL] = 202; // futex in 64-bit code, getegid32 here
        assert_eq!(call(&regs), Call::Other(202));
        (regs[SYSCALL], regs[RBX]) = (SOCKETCALL, 12);
        assert_eq!(call(&regs), Call::Known(Sysno::recvfrom, None));
        for none in [u64::MAX, 0xffff_ffff] {
            regs[SYSCALL] = none;
            assert_eq!(call(&regs), Call::None);
        }
    }
}
