//! What tracepoints of system calls cost besides the programs on them: as long as there is one, each system call of each process goes a
//! longer way in and out. No program's run time shows that.
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

use super::program;

/// The program that counts, and its tracepoint.
pub(super) const COUNTER: &str = "sys_enter";
/// How long calls are counted at a time: some hundred of them, where they are so many that they matter.
const SAMPLE: Duration = Duration::from_millis(2);
/// Calls that are timed together, and how often: interrupts make some slower, nothing makes them faster.
const BATCH: u32 = 200;
const BATCHES: u32 = 20;

/// How long the shortest of all system calls takes at present, ns.
pub(super) fn call_ns() -> f64 {
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
///
/// # Errors
/// If they cannot be counted.
pub(super) fn rate(ebpf: &mut Ebpf, counts: &PerCpuArray<MapData, u64>, types: &Btf) -> anyhow::Result<f64> {
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
