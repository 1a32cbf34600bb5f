//! Threads as `/proc` tells of them: what is left where BPF is not to be had. It makes the same records as the kernel's task
//! iterator, with what it lacks left out: of the registers there are the stack pointer, the instruction pointer and those of the
//! system call; there are no events.
//!
//! The consistency check rests on the same order as with the iterator: the first look reads the switch count before the registers,
//! the second one reads whether the thread runs before the count. `/proc/PID/task/TID/syscall` waits until the thread is off its
//! CPU, and says `running` if it was on one meanwhile.
//! Source: <https://elixir.bootlin.com/linux/v6.12/source/lib/syscall.c#L66> (`task_current_syscall`).

use std::{collections::BTreeMap, fs, io, thread};

use leakprobe_common::{
    arch::{ARGS, CS, IP, REG_WORDS, Regs, SP, SYSCALL},
    thread::{ThreadBrief, ThreadRecord},
};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::ClockId,
    unistd::{Pid, SysconfVar, sysconf},
};

use crate::target::{Stat, clock_ns};

/// Code segments of 64-bit and 32-bit programs: `__USER_CS`, `__USER32_CS`.
const CODE_64: u64 = 0x33;
const CODE_32: u64 = 0x23;
/// `EXIT_ZOMBIE`.
const EXITED: u32 = 32;
/// `TASK_INTERRUPTIBLE`, `TASK_UNINTERRUPTIBLE`, `__TASK_STOPPED`, `__TASK_TRACED`, `TASK_PARKED`, `TASK_IDLE`.
const STATES: [(u8, u32); 6] = [(b'S', 1), (b'D', 2), (b'T', 4), (b't', 8), (b'P', 0x40), (b'I', 0x402)];

/// Reads the threads of one process from `/proc`.
#[derive(Debug)]
pub struct ProcThreads {
    pid: u32,
    /// The code segment of its program.
    code_segment: u64,
    ticks_per_second: u64,
    /// Whether the system calls and stacks of its threads may be read.
    has_calls: bool,
}

impl ProcThreads {
    /// Of the process `pid`.
    ///
    /// # Errors
    /// If its threads cannot even be listed.
    pub fn of(pid: u32) -> io::Result<Self> {
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten();
        let mut own = Self {
            pid,
            code_segment: code_segment(pid),
            ticks_per_second: ticks
                .and_then(|ticks| u64::try_from(ticks).ok())
                .filter(|&ticks| ticks > 0)
                .unwrap_or(100),
            has_calls: false,
        };
        let ids = own.ids()?;
        own.has_calls = ids.iter().any(|&tid| own.read(tid, "syscall").is_ok());
        Ok(own)
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the system calls and stacks of its threads may be read: that takes what `ptrace` would.
    #[must_use]
    pub fn has_calls(&self) -> bool {
        self.has_calls
    }

    /// Every thread, at this moment. Some 50 µs a thread.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn threads(&self) -> io::Result<Vec<ThreadRecord>> {
        Ok(self.threads_of(&self.ids()?))
    }

    /// The same for some of them; those that are gone are left out.
    #[must_use]
    pub fn threads_of(&self, tids: &[u32]) -> Vec<ThreadRecord> {
        let mut records: Vec<(ThreadRecord, u32)> = tids.iter().filter_map(|&tid| self.thread(tid)).collect();
        let mut clocks = Clocks::default();
        for (record, cpu) in &mut records {
            // As if the scheduler's clock were CLOCK_MONOTONIC.
            record.exec_start =
                clocks.monotonic(record.exec_start, *cpu).map_or(0, |began| began.min(record.ktime).max(1));
        }
        clocks.done();
        records.into_iter().map(|(record, _)| record).collect()
    }

    /// What tells whether each thread has run.
    ///
    /// # Errors
    /// As [`Self::threads`].
    pub fn briefs(&self) -> io::Result<Vec<ThreadBrief>> {
        Ok(self.ids()?.into_iter().filter_map(|tid| self.brief(tid)).collect())
    }

    /// The function of the kernel in which a thread waits, if the kernel says so.
    #[must_use]
    pub fn wait_channel(&self, tid: u32) -> Option<String> {
        let name = self.read(tid, "wchan").ok()?;
        let name = String::from_utf8(name).ok()?;
        (!name.is_empty() && name != "0").then_some(name)
    }

    fn ids(&self) -> io::Result<Vec<u32>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
        }
        Ok(ids)
    }

    fn read(&self, tid: u32, file: &str) -> io::Result<Vec<u8>> {
        fs::read(format!("/proc/{}/task/{tid}/{file}", self.pid))
    }

    fn brief(&self, tid: u32) -> Option<ThreadBrief> {
        let runs = self.read(tid, "syscall").is_ok_and(|call| call.starts_with(b"running"));
        let switches = switches(&self.read(tid, "status").ok()?)?;
        let stat = Stat::of_thread(self.pid, tid)?;
        let on_cpu = u32::from((runs || stat.state == b'R') && !stat.has_exited());
        Some(ThreadBrief {
            tid,
            tgid: self.pid,
            on_cpu,
            pad: 0,
            switches,
            start_boottime: self.boottime(stat.start_ticks),
        })
    }

    fn thread(&self, tid: u32) -> Option<(ThreadRecord, u32)> {
        let switches = switches(&self.read(tid, "status").ok()?)?;
        let call = self.read(tid, "syscall").ok();
        let stat = Stat::of_thread(self.pid, tid)?;
        let mut regs: Regs = [0; REG_WORDS];
        let runs = match call.as_deref().map(parse_call) {
            Some(Some(call)) => {
                call.write(&mut regs);
                regs[CS] = self.code_segment;
                false
            }
            Some(None) => true,
            None => false,
        };
        let on_cpu = (runs || stat.state == b'R') && !stat.has_exited();
        let ktime = clock_ns(ClockId::CLOCK_MONOTONIC);
        let exec_start = self.read(tid, "sched").ok().and_then(|text| exec_start(&text)).unwrap_or(0);
        let mut comm = [0; 16];
        let len = stat.comm.len().min(15);
        comm[..len].copy_from_slice(&stat.comm[..len]);
        let record = ThreadRecord {
            tid,
            tgid: self.pid,
            state: if on_cpu { 0 } else { task_state(&stat) },
            exit_state: if stat.has_exited() { EXITED } else { 0 },
            flags: stat.flags,
            on_cpu: u32::from(on_cpu),
            switches,
            start_boottime: self.boottime(stat.start_ticks),
            exec_start,
            last_arrival: 0,
            last_slice: 0,
            rq_clock: ktime,
            rq_clock_task: ktime,
            ktime,
            reader_clock: ktime,
            comm,
            regs,
            // Nothing there tells of them.
            receive_jiffies: 0,
            send_jiffies: 0,
            wait_started: 0,
            wait_word: 0,
            wait_op: 0,
            pad: 0,
        };
        Some((record, stat.cpu))
    }

    fn boottime(&self, ticks: u64) -> u64 {
        ticks.saturating_mul(1_000_000_000 / self.ticks_per_second)
    }
}

/// The state of a thread, `TASK_*`.
fn task_state(stat: &Stat) -> u32 {
    STATES.iter().find(|(letter, _)| *letter == stat.state).map_or(0, |&(_, state)| state)
}

/// The system call that a thread is in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    number: u64,
    args: [u64; 6],
    sp: u64,
    pc: u64,
}

impl Call {
    fn write(&self, regs: &mut Regs) {
        regs[SYSCALL] = self.number;
        for (index, arg) in ARGS.into_iter().zip(self.args) {
            regs[index] = arg;
        }
        regs[SP] = self.sp;
        regs[IP] = self.pc;
    }
}

/// `NUMBER ARG×6 SP PC`, or `-1 SP PC` outside of system calls; `None` for `running`.
pub(super) fn parse_call(text: &[u8]) -> Option<Call> {
    let text = std::str::from_utf8(text).ok()?;
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let hex = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    match *words.as_slice() {
        ["-1", sp, pc] => Some(Call { number: u64::MAX, args: [0; 6], sp: hex(sp)?, pc: hex(pc)? }),
        [number, a, b, c, d, e, f, sp, pc] => Some(Call {
            number: number.parse().ok()?,
            args: [hex(a)?, hex(b)?, hex(c)?, hex(d)?, hex(e)?, hex(f)?],
            sp: hex(sp)?,
            pc: hex(pc)?,
        }),
        _ => None,
    }
}

/// Voluntary and involuntary context switches, of `status`.
fn switches(status: &[u8]) -> Option<u64> {
    let status = String::from_utf8_lossy(status);
    let number = |key: &str| status.lines().find_map(|line| line.strip_prefix(key))?.trim().parse::<u64>().ok();
    number("voluntary_ctxt_switches:")?.checked_add(number("nonvoluntary_ctxt_switches:")?)
}

/// When the thread was last accounted as running, ns of its CPU's task clock; `None` if this kernel does not tell
/// (`CONFIG_SCHED_DEBUG`).
fn exec_start(sched: &[u8]) -> Option<u64> {
    let sched = std::str::from_utf8(sched).ok()?;
    let value = sched.lines().find_map(|line| line.strip_prefix("se.exec_start"))?;
    let (ms, ns) = value.trim_start().strip_prefix(':')?.trim().split_once('.')?;
    let ns: u64 = (ns.len() == 6).then(|| ns.parse().ok()).flatten()?;
    let whole = ms.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(ns)?;
    (whole > 0).then_some(whole)
}

/// The task clocks of CPUs against `CLOCK_MONOTONIC`, each read on its own CPU. A task clock stands still during interrupts and
/// while a hypervisor runs somebody else, so it lags behind more and more: with today's lag a moment is never told too early.
#[derive(Debug, Default)]
struct Clocks {
    lags: BTreeMap<u32, Option<i64>>,
    ours: Option<CpuSet>,
}

impl Clocks {
    /// The moment that was `sched` by the task clock of `cpu`; `None` if that CPU is not ours to run on.
    fn monotonic(&mut self, sched: u64, cpu: u32) -> Option<u64> {
        if sched == 0 {
            return None;
        }
        let lag = match self.lags.get(&cpu) {
            Some(&lag) => lag,
            None => {
                let lag = self.read(cpu);
                self.lags.insert(cpu, lag);
                lag
            }
        };
        sched.checked_add_signed(lag?)
    }

    fn read(&mut self, cpu: u32) -> Option<i64> {
        if self.ours.is_none() {
            self.ours = sched_getaffinity(Pid::from_raw(0)).ok();
        }
        let mut one = CpuSet::new();
        one.set(usize::try_from(cpu).ok()?).ok()?;
        sched_setaffinity(Pid::from_raw(0), &one).ok()?;
        // Has the scheduler account our own time.
        thread::yield_now();
        let sched = exec_start(&fs::read("/proc/thread-self/sched").ok()?)?;
        let now = clock_ns(ClockId::CLOCK_MONOTONIC);
        i64::try_from(i128::from(now) - i128::from(sched)).ok()
    }

    /// Lets us run where we ran before.
    fn done(self) {
        if let Some(ours) = self.ours {
            let _ = sched_setaffinity(Pid::from_raw(0), &ours);
        }
    }
}

/// By how the kernel has written down what it passed to the program; a program of which that cannot be read is held to be a 64-bit one,
/// as is one that begins no other. Not by its file, which may never answer.
fn code_segment(pid: u32) -> u64 {
    let passed = fs::read(format!("/proc/{pid}/auxv")).unwrap_or_default();
    if is_of_32_bits(&passed) { CODE_32 } else { CODE_64 }
}

/// Whether these are pairs of 32-bit numbers: of 64-bit ones, the upper half of each first one, which is a small number, is 0.
fn is_of_32_bits(passed: &[u8]) -> bool {
    passed.chunks_exact(16).any(|pair| pair.get(4..8) != Some(&[0; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_of_a_program_is_known_by_what_was_passed_to_it() {
        assert_eq!(code_segment(std::process::id()), if cfg!(target_pointer_width = "64") { CODE_64 } else { CODE_32 });
        let numbers = [32_u32, 0xf7f0_0550, 33, 0xf7f0_0000, 51, 3584, 16, 0x0f8b_fbff, 0, 0];
        let passed: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        assert!(is_of_32_bits(&passed) && !is_of_32_bits(&[]) && !is_of_32_bits(&passed[..4]));
    }

    #[test]
    fn what_is_cut_short_is_nothing() {
        let call = b"202 0x1 0x80 0x0 0x0 0x0 0x0 0x7ffc 0x7f00\n";
        for len in 0..call.len() {
            assert!(parse_call(&call[..len]).is_none_or(|call| call.sp == 0x7ffc), "{len}");
        }
        let status = b"Name:\tx\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(switches(status), Some(15));
        for len in 0..status.len() - 3 {
            assert_eq!(switches(&status[..len]), None, "{len}");
        }
    }

    #[test]
    fn calls_are_taken_apart() {
        let call = parse_call(b"202 0x1 0x80 0x0 0x0 0x0 0xffffffff 0x7ffc 0x7f00\n").unwrap();
        assert_eq!(call, Call { number: 202, args: [1, 0x80, 0, 0, 0, 0xffff_ffff], sp: 0x7ffc, pc: 0x7f00 });
        let fault = parse_call(b"-1 0x7ffc 0x7f00\n").unwrap();
        assert_eq!((fault.number, fault.sp, fault.pc), (u64::MAX, 0x7ffc, 0x7f00));
        assert_eq!(parse_call(b"running\n"), None);
        assert_eq!(parse_call(b""), None);
    }

    #[test]
    fn the_scheduler_tells_ns() {
        let sched = b"cat (8208, #threads: 1)\n-----\nse.exec_start                                :       8182121.475690\nse.vruntime : 1.0\n";
        assert_eq!(exec_start(sched), Some(8_182_121_475_690));
        for text in ["", "se.exec_start : 1", "se.exec_start : -1.000000", "se.exec_start : 0.000000", "se.exec_start"]
        {
            assert_eq!(exec_start(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_cpu_that_is_gone_has_no_clock() {
        let ours = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let mut clocks = Clocks::default();
        assert_eq!(clocks.monotonic(1, 1023), None);
        let cpu = (0..1023).find(|&cpu| ours.is_set(cpu) == Ok(true)).unwrap();
        let now = clock_ns(ClockId::CLOCK_MONOTONIC);
        if let Some(lag) = clocks.read(cpu as u32) {
            let then = now.saturating_add_signed(-lag);
            assert_eq!(clocks.monotonic(then, cpu as u32).map(|time| time.abs_diff(now) < 60_000_000_000), Some(true));
        }
        clocks.done();
        assert_eq!(sched_getaffinity(Pid::from_raw(0)).unwrap(), ours);
    }

    #[test]
    fn our_own_threads_are_there() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let waiter = thread::Builder::new().name("a waiter".into()).spawn(move || wait.recv().is_ok()).unwrap();
        let threads = ProcThreads::of(std::process::id()).unwrap();
        let is_there = |record: &ThreadRecord| {
            record.comm.starts_with(b"a waiter\0") && record.state == 1 && record.regs[SYSCALL] == 202
        };
        let began = std::time::Instant::now();
        while !threads.threads().unwrap().iter().any(is_there) {
            assert!(began.elapsed().as_secs() < 60, "{:?}", threads.threads());
            thread::yield_now();
        }
        let record = threads.threads().unwrap().into_iter().find(is_there).unwrap();
        assert!(record.exec_start <= record.ktime && record.regs[SP] != 0 && record.regs[IP] != 0, "{record:?}");
        let brief = threads.briefs().unwrap().into_iter().find(|brief| brief.tid == record.tid).unwrap();
        assert!(brief.is_unmoved(&record), "{brief:?} {record:?}");
        drop(done);
        waiter.join().unwrap();
    }
}
