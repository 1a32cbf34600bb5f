//! `doctor`: what this kernel and these privileges allow, and how to get what is missing.

use std::{
    fs,
    io::{self, Write},
    process,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use caps::Capability::{CAP_CHECKPOINT_RESTORE, CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYSLOG};
use leakprobe_common::{arch, thread::ThreadRecord};
use serde::Serialize;

use super::{ExitCode, Failure};
use crate::{
    privilege,
    probes::{
        Options, Probes, ProcThreads, Programs, WaitSource,
        btf::{self, Btf},
        privileges,
    },
    target::ProcessMemory,
};

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    ok: bool,
    /// Whether BPF does not work without it.
    needed: bool,
    /// What was found; for what is missing, how to get it.
    detail: String,
}

#[derive(Debug, Serialize)]
struct Diagnosis {
    kernel: String,
    /// Whether attach works, by BPF or by `/proc` alone.
    can_attach: bool,
    /// Whether it works by BPF, which tells more.
    can_use_bpf: bool,
    checks: Vec<Check>,
}

/// Looks at everything and tells. Exit code 5 if attach would not work.
pub(super) fn doctor(json: bool) -> Result<ExitCode, Failure> {
    let checks = checks();
    let can_use_bpf = checks.iter().all(|check| check.ok || !check.needed);
    let can_attach = can_use_bpf || ProcThreads::of(process::id()).is_ok();
    let diagnosis = Diagnosis { kernel: privileges::kernel_release(), can_attach, can_use_bpf, checks };
    let mut text = Vec::new();
    let written = if json {
        serde_json::to_writer_pretty(&mut text, &diagnosis).map_err(io::Error::from).and_then(|()| writeln!(text))
    } else {
        tell(&diagnosis, &mut text)
    };
    // Nothing can fail that writes to memory.
    written.map_err(|error| Failure::new(ExitCode::Failed, format!("cannot tell what was found: {error}")))?;
    super::print(&text)?;
    Ok(if can_attach { ExitCode::Done } else { ExitCode::NotPermitted })
}

fn tell(diagnosis: &Diagnosis, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "kernel {}", diagnosis.kernel)?;
    for check in &diagnosis.checks {
        let mark = match (check.ok, check.needed) {
            (true, _) => "ok     ",
            (false, true) => "MISSING",
            (false, false) => "limited",
        };
        writeln!(out, "  {mark}  {:<28} {}", check.what, check.detail)?;
    }
    let outcome = match (diagnosis.can_use_bpf, diagnosis.can_attach) {
        (true, _) => "attach, run and snapshot work here.",
        (false, true) => {
            "attach, run and snapshot work here by /proc alone, without BPF, which tells less: get what is MISSING for the rest."
        }
        (false, false) => "attach, run and snapshot do not work here: get what is MISSING.",
    };
    writeln!(out, "{outcome}")
}

fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    let mut check = |what, needed, result: Result<String, String>| {
        let (ok, detail) = match result {
            Ok(detail) => (true, detail),
            Err(detail) => (false, detail),
        };
        checks.push(Check { what, ok, needed, detail });
        ok
    };
    let offsets = btf::read_kernel().and_then(|data| Btf::parse(&data)?.kernel_offsets());
    check(
        "kernel type information",
        true,
        offsets.map(|_| "BTF has every field that is needed".to_owned()).map_err(|error| error.to_string()),
    );
    let namespace = privileges::in_initial_pid_namespace();
    check(
        "pid namespace",
        true,
        if namespace {
            Ok("the host's".to_owned())
        } else {
            Err("not the host's: run on the host, or in a container with --pid=host".to_owned())
        },
    );
    let may_load = privileges::may_load();
    check(
        "load BPF programs",
        true,
        if may_load {
            Ok("CAP_BPF and CAP_PERFMON, or root".to_owned())
        } else {
            Err("not permitted: run with sudo, or grant CAP_BPF and CAP_PERFMON".to_owned())
        },
    );
    check(
        "other users' processes",
        false,
        match privilege::advice_to_read_others() {
            advice if advice.is_empty() => Ok("CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, or root".to_owned()),
            advice if privilege::may(CAP_SYS_PTRACE) => {
                Err(format!("files, descriptors and system calls of others are closed{advice}"))
            }
            advice => Err(format!("only your own can be read{advice}")),
        },
    );
    check(
        "files that were replaced",
        false,
        match privilege::advice(&[CAP_CHECKPOINT_RESTORE, CAP_DAC_READ_SEARCH]) {
            advice if advice.is_empty() => Ok("CAP_CHECKPOINT_RESTORE, or root".to_owned()),
            advice => Err(format!("programs and libraries that were deleted or replaced have no names{advice}")),
        },
    );
    check("read a process's memory", true, read_memory());
    check("threads from /proc", false, proc_alone());
    check(
        "sockets in containers",
        false,
        if privilege::may(CAP_SYS_ADMIN) {
            Ok("CAP_SYS_ADMIN".to_owned())
        } else {
            Err("only those in our own network namespace are described; run with sudo, or grant CAP_SYS_ADMIN"
                .to_owned())
        },
    );
    check("names in the kernel", false, kernel_names());
    if may_load && namespace {
        programs(&mut check);
    }
    checks
}

/// Loads everything, for a process that is surely there: ourselves.
fn programs(check: &mut impl FnMut(&'static str, bool, Result<String, String>) -> bool) {
    let options = Options {
        only: Some(process::id()),
        min_block: Duration::from_secs(1),
        ring_bytes: 64 << 10,
        events: false,
        waits: WaitSource::Snapshots,
        forks: false,
        kernel_stacks: false,
    };
    let probes = Programs::load(&options).and_then(|programs| Probes::watch(&programs, process::id()));
    let snapshot = probes.map_err(|error| error.to_string()).and_then(|probes| self_test(&probes));
    if !check("snapshots", true, snapshot) {
        return;
    }
    let watched = Programs::load(&Options { events: true, waits: WaitSource::Futexes, ..options });
    match watched {
        Ok(programs) => {
            check("thread creation and exit", true, Ok("BTF tracepoints".to_owned()));
            let gaps = programs.gaps();
            let futex = if gaps.is_empty() {
                let newer = ["sys_enter_futex_waitv", "sys_enter_futex_wait"];
                let has: Vec<&str> =
                    newer.into_iter().filter(|name| privileges::has_tracepoint("syscalls", name)).collect();
                Ok(format!(
                    "system call tracepoints of futex{}",
                    has.iter().map(|name| format!(", {}", name.trim_start_matches("sys_enter_"))).collect::<String>()
                ))
            } else {
                Err(gaps.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            };
            check("futex waits", false, futex);
        }
        Err(error) => {
            check("thread creation and exit", true, Err(error.to_string()));
        }
    }
}

/// Whether the iterator tells the truth about a thread that we know all about: one of ours that waits on a futex.
fn self_test(probes: &Probes) -> Result<String, String> {
    let (done, wait) = mpsc::channel::<()>();
    let waiter = thread::spawn(move || wait.recv().is_ok());
    let deadline = Instant::now() + Duration::from_secs(5);
    let result = loop {
        let threads = probes.threads(16).map_err(|error| error.to_string())?;
        let there = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        let at_rest = |record: &&ThreadRecord| record.state != 0 && record.on_cpu == 0 && is_in_futex(record);
        let running = threads.iter().any(|record| record.tid == process::id() && record.on_cpu == 1);
        if threads.len() == there && running && threads.iter().any(|record| at_rest(&record)) {
            break Ok("the task iterator sees every thread, and which of them waits".to_owned());
        }
        if Instant::now() >= deadline {
            break Err("the task iterator does not see our own threads as they are: this kernel's fields are not what they seem".to_owned());
        }
        thread::sleep(Duration::from_millis(1));
    };
    drop(done);
    let _ = waiter.join();
    result
}

fn is_in_futex(record: &ThreadRecord) -> bool {
    record.regs[arch::SYSCALL] == arch::SYS_FUTEX
}

/// What is used where BPF is not to be had.
fn proc_alone() -> Result<String, String> {
    match ProcThreads::of(process::id()) {
        Ok(threads) if threads.has_calls() && !privileges::restricts_ptrace() => {
            Ok("states, system calls and stacks, should BPF not be to be had".to_owned())
        }
        Ok(threads) if threads.has_calls() && privilege::may(CAP_SYS_PTRACE) => {
            Ok("states, system calls and stacks, by CAP_SYS_PTRACE".to_owned())
        }
        Ok(_) => Err("system calls and stacks are closed to users here (kernel.yama.ptrace_scope): run with sudo, or grant CAP_SYS_PTRACE".to_owned()),
        Err(error) => Err(format!("cannot read our own threads: {error}; is /proc mounted?")),
    }
}

/// Whether the kernel tells us where its functions lie, which stacks in the kernel need names for.
fn kernel_names() -> Result<String, String> {
    let mut head = [0; 16];
    let _raised = privilege::raise(&[CAP_SYSLOG]);
    let read = fs::File::open("/proc/kallsyms").and_then(|mut file| io::Read::read_exact(&mut file, &mut head));
    match read {
        Ok(()) if head != *b"0000000000000000" => Ok("/proc/kallsyms".to_owned()),
        Ok(()) => Err("hidden in /proc/kallsyms: run with sudo, or grant CAP_SYSLOG".to_owned()),
        Err(error) => Err(format!("cannot read /proc/kallsyms: {error}; the kernel may have been built without it")),
    }
}

fn read_memory() -> Result<String, String> {
    let word = 0x1234_5678_9abc_def0u64;
    match ProcessMemory::new(process::id()).word((&raw const word) as u64) {
        Some(read) if read == word => Ok("process_vm_readv".to_owned()),
        _ => {
            Err("process_vm_readv does not work: is a seccomp filter in force (container runtimes have one)?"
                .to_owned())
        }
    }
}
