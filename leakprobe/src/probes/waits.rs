//! What tells of waits between snapshots: the futex tracepoints, `sched_switch`, or nothing. It can be changed while we watch.

use aya::{
    Btf as AyaBtf, Ebpf,
    programs::{BtfTracePoint, TracePoint, tp_btf::BtfTracePointLink, trace_point::TracePointLink},
};
use caps::Capability::CAP_SYS_ADMIN;

use super::{Reason, calls::SystemCalls, privileges, programs::program, reason};
use crate::{model::Source, privilege};

/// What tells of waits between snapshots; what costs the target more comes later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum WaitSource {
    /// Nothing: snapshots alone.
    #[default]
    Snapshots,
    /// `sched_switch`: sleeps of any kind.
    Switches,
    /// The futex tracepoints.
    Futexes,
}

impl WaitSource {
    /// What it watches, in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Snapshots => "snapshots alone",
            Self::Switches => "context switches",
            Self::Futexes => "futex waits",
        }
    }

    /// As what recordings name it; `None` if it streams nothing.
    pub(super) const fn events(self) -> Option<Source> {
        match self {
            Self::Snapshots => None,
            Self::Switches => Some(Source::ContextSwitches),
            Self::Futexes => Some(Source::FutexWaits),
        }
    }
}

/// System call tracepoints: program, tracepoint, and whether every kernel has it.
const FUTEX: &[(&str, &str, bool)] = &[
    ("sys_enter_futex", "sys_enter_futex", true),
    ("sys_exit_futex", "sys_exit_futex", true),
    ("sys_enter_futex_waitv", "sys_enter_futex_waitv", false), // 5.16
    ("sys_exit_futex", "sys_exit_futex_waitv", false),
    ("sys_enter_futex_wait", "sys_enter_futex_wait", false), // 6.7
    ("sys_exit_futex", "sys_exit_futex_wait", false),
];

/// The program, and its tracepoint, of [`WaitSource::Switches`].
const SWITCH: &str = "sched_switch";

/// Whether a program tells of waits.
pub(super) fn tells_of_waits(program: &str) -> bool {
    program == SWITCH || is_tracepoint(program)
}

/// Whether a program is attached to a system call tracepoint.
pub(super) fn is_tracepoint(program: &str) -> bool {
    FUTEX.iter().any(|(name, ..)| *name == program)
}

/// What is attached. Dropped, it is attached no more.
#[derive(Debug, Default)]
pub(super) struct Attached {
    futexes: Vec<TracePointLink>,
    switches: Option<BtfTracePointLink>,
}

impl Attached {
    /// What it tells of.
    pub(super) fn source(&self) -> WaitSource {
        match (&self.switches, self.futexes.is_empty()) {
            (_, false) => WaitSource::Futexes,
            (Some(_), true) => WaitSource::Switches,
            (None, true) => WaitSource::Snapshots,
        }
    }

    /// Attaches the programs of `source`, which are loaded the first time.
    ///
    /// # Errors
    /// Why it cannot be watched, as one clause.
    pub(super) fn to(
        ebpf: &mut Ebpf,
        source: WaitSource,
        types: &AyaBtf,
        calls: &mut SystemCalls,
    ) -> Result<Self, String> {
        match source {
            WaitSource::Snapshots => Ok(Self::default()),
            WaitSource::Switches => {
                Self::to_switches(ebpf, types).map_err(|error| format!("{SWITCH}: {}", words(&error)))
            }
            WaitSource::Futexes => calls.attaching(|| Self::to_futexes(ebpf)),
        }
    }

    fn to_switches(ebpf: &mut Ebpf, types: &AyaBtf) -> anyhow::Result<Self> {
        let program: &mut BtfTracePoint = program(ebpf, SWITCH)?.try_into()?;
        if program.fd().is_err() {
            program.load(SWITCH, types)?;
        }
        let link = program.attach()?;
        Ok(Self { switches: Some(program.take_link(link)?), ..Self::default() })
    }

    /// Needs tracefs.
    fn to_futexes(ebpf: &mut Ebpf) -> Result<Self, String> {
        // To mount it, and for what kernel.perf_event_paranoid asks for on some kernels.
        let _raised = privilege::raise(&[CAP_SYS_ADMIN]);
        privileges::ensure_tracefs().map_err(|error| error.to_string())?;
        let mut attached = Self::default();
        for (name, point, everywhere) in FUTEX {
            if !everywhere && !privileges::has_tracepoint("syscalls", point) {
                continue; // this kernel has no such system call, so nobody waits in it
            }
            let link = attach_futex(ebpf, name, point).map_err(|error| {
                let hint = privileges::perf_hint().unwrap_or_default();
                format!("{point}: {}{hint}", words(&error))
            })?;
            attached.futexes.push(link);
        }
        Ok(attached)
    }
}

/// The verifier's log, which is long, is only told with `-v`.
fn words(error: &anyhow::Error) -> String {
    tracing::debug!("{error:?}");
    match reason(error.as_ref()) {
        Reason::NotPermitted => "not permitted".to_owned(),
        Reason::Other(reason) => reason,
    }
}

fn attach_futex(ebpf: &mut Ebpf, name: &str, point: &str) -> anyhow::Result<TracePointLink> {
    let program: &mut TracePoint = program(ebpf, name)?.try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    let link = program.attach("syscalls", point)?;
    Ok(program.take_link(link)?)
}
