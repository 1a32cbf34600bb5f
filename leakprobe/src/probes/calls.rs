//! What tracepoints of system calls cost besides the programs on them: as long as there is one, each system call of each
//! process goes a longer way in and out. No program's run time shows that.
//! Source: <https://elixir.bootlin.com/linux/v6.12/source/kernel/tracepoint.c#L732> (`syscall_regfunc`).

use std::{
    thread,
    time::{Duration, Instant},
};

use aya::{
    Btf, Ebpf,
    maps::{MapData, PerCpuArray},
    programs::BtfTracePoint,
};
use nix::unistd::getppid;

use super::programs::program;

/// The program that counts, and its tracepoint.
pub(super) const COUNTER: &str = "sys_enter";
/// How long calls are counted at a time: some hundred of them, where they are so many that they matter.
const SAMPLE: Duration = Duration::from_millis(2);
/// Calls that are timed together, and how often: interrupts make some slower, nothing makes them faster.
const BATCH: u32 = 200;
const BATCHES: u32 = 20;

/// What is known of the machine's system calls.
pub(super) struct SystemCalls {
    /// Where the program counts them.
    counts: Option<PerCpuArray<MapData, u64>>,
    /// How much longer each call takes while there are tracepoints, ns; `None` until they are attached for the first time.
    longer_ns: Option<f64>,
}

impl SystemCalls {
    /// Nothing is known yet.
    pub(super) fn new(ebpf: &mut Ebpf) -> Self {
        let counts = ebpf.take_map("CALLS").and_then(|map| PerCpuArray::try_from(map).ok());
        Self { counts, longer_ns: None }
    }

    /// Attaches tracepoints of system calls by `attach`; the first time, it is measured how much longer calls take with them.
    ///
    /// # Errors
    /// Those of `attach`.
    pub(super) fn attaching<T, E>(&mut self, attach: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let before = self.longer_ns.is_none().then(call_ns);
        let attached = attach()?;
        if let Some(before) = before {
            self.longer_ns = Some((call_ns() - before).max(0.0));
        }
        Ok(attached)
    }

    /// What tracepoints of system calls cost all calls of the machine at their present rate, or would cost, as a share of one core. 0
    /// if there never were any. Takes some ms.
    pub(super) fn longer(&self, ebpf: &mut Ebpf, types: &Btf) -> f64 {
        let (Some(ns), Some(counts)) = (self.longer_ns, &self.counts) else { return 0.0 };
        match count(ebpf, counts, types) {
            Ok(rate) => rate * ns / 1e9,
            Err(error) => {
                tracing::debug!("system calls: {error:?}");
                0.0
            }
        }
    }
}

/// How long the shortest of all system calls takes at present, ns.
fn call_ns() -> f64 {
    let batch = || {
        let began = Instant::now();
        (0..BATCH).for_each(|_| {
            getppid();
        });
        began.elapsed().as_nanos() as f64 / f64::from(BATCH)
    };
    (0..BATCHES).map(|_| batch()).fold(f64::INFINITY, f64::min)
}

/// System calls of the whole machine, a second, at present.
fn count(ebpf: &mut Ebpf, counts: &PerCpuArray<MapData, u64>, types: &Btf) -> anyhow::Result<f64> {
    let program: &mut BtfTracePoint = program(ebpf, COUNTER)?.try_into()?;
    if program.fd().is_err() {
        program.load(COUNTER, types)?;
    }
    let counted = || anyhow::Ok(counts.get(&0, 0)?.iter().fold(0u64, |sum, count| sum.wrapping_add(*count)));
    let link = program.attach()?;
    let (began, before) = (Instant::now(), counted()?);
    thread::sleep(SAMPLE);
    let (took, after) = (began.elapsed(), counted()?);
    program.detach(link)?;
    Ok(after.wrapping_sub(before) as f64 / took.as_secs_f64())
}
