//! What tracepoints of system calls cost besides the programs on them: as long as there is one, each system call of each
//! process goes a longer way in and out. No program's run time shows that. It is the same for all targets that are watched at
//! once, and measured for all of them together.
//! Source: <https://elixir.bootlin.com/linux/v6.12/source/kernel/tracepoint.c#L732> (`syscall_regfunc`).

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
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

/// For how long a rate counts as the present one.
const FRESH: Duration = Duration::from_millis(300);

/// What was measured of the machine.
struct Measured {
    /// How much longer each call takes while there are tracepoints, ns; `None` until they are attached for the first time.
    longer_ns: Option<f64>,
    /// Calls a second, and when they were counted.
    rate: Option<(Instant, f64)>,
    /// How many [`Slowed`] there are.
    users: u32,
}

static MACHINE: Mutex<Measured> = Mutex::new(Measured { longer_ns: None, rate: None, users: 0 });

fn machine() -> MutexGuard<'static, Measured> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One target's part in the machine's being slowed down, as long as it is held.
#[derive(Debug)]
pub(super) struct Slowed(());

impl Drop for Slowed {
    fn drop(&mut self) {
        machine().users -= 1;
    }
}

/// Attaches tracepoints of system calls by `attach`; the first time, it is measured how much longer calls take with them.
///
/// # Errors
/// Those of `attach`.
pub(super) fn attaching<T, E>(attach: impl FnOnce() -> Result<T, E>) -> Result<(T, Slowed), E> {
    let mut machine = machine();
    let before = machine.longer_ns.is_none().then(call_ns);
    let attached = attach()?;
    if let Some(before) = before {
        machine.longer_ns = Some((call_ns() - before).max(0.0));
    }
    machine.users += 1;
    Ok((attached, Slowed(())))
}

/// What tracepoints of system calls cost all calls of the machine at their present rate, or would cost: the part of one target,
/// whose own are on or not, as a share of one core. 0 if there never were any. Takes some ms where it was not measured just
/// now.
pub(super) fn longer_calls(ebpf: &mut Ebpf, counts: &PerCpuArray<MapData, u64>, types: &Btf, is_on: bool) -> f64 {
    let mut machine = machine();
    let users = machine.users + u32::from(!is_on);
    let Some(ns) = machine.longer_ns else { return 0.0 };
    let fresh = machine.rate.filter(|(counted, _)| counted.elapsed() < FRESH);
    let rate = fresh.map_or_else(|| count(ebpf, counts, types), |(_, rate)| Ok(rate));
    match rate {
        Ok(rate) => {
            machine.rate = fresh.or(Some((Instant::now(), rate)));
            rate * ns / 1e9 / f64::from(users.max(1))
        }
        Err(error) => {
            tracing::debug!("system calls: {error:?}");
            0.0
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
