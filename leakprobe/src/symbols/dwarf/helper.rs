//! Our end of the connection to the helper, which counts what it uses.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use caps::Capability::CAP_KILL;
use nix::{
    sys::signal::Signal,
    time::{ClockId, clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};
use serde::de::DeserializeOwned;

use super::{
    NAME, Origin, PROGRAM, Scope,
    copy::{DwarfCopy, Link},
    server,
    wire::{self, Failure, Request},
};
use crate::{
    aside,
    pool::Held,
    privilege,
    target::{Budget, OwnMemory, budget::Scarce},
};

/// How long a user is not told what takes so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is looked what a reply has taken so far.
const POLL: Duration = Duration::from_millis(10);

/// What helpers have used so far: CPU time, ns, and the most memory of one, KB.
static CPU_NS: AtomicU64 = AtomicU64::new(0);
static PEAK_KB: AtomicU64 = AtomicU64::new(0);

/// What helpers have used so far: CPU time, and the most memory of one, KB.
#[must_use]
pub fn helper_cost() -> (Duration, u64) {
    (Duration::from_nanos(CPU_NS.load(Ordering::Relaxed)), PEAK_KB.load(Ordering::Relaxed))
}

/// Why there is no reply.
pub(super) enum Unread {
    /// It took too long.
    Late,
    /// There is not enough of this for it.
    Scarce(Scarce),
    /// There is nobody at the other end any more; says why.
    Ended(String),
    /// Nothing can be had of this file, which says nothing about others; says why.
    Unusable(String),
}

/// The other end.
pub(super) struct Helper {
    stream: UnixStream,
    /// None if it is a thread of this process.
    process: Option<Process>,
    budget: Budget,
    /// The files that it has, by their numbers here: by which descriptor, and the memory that a copy takes.
    has: HashMap<u64, (i32, Option<Held>)>,
}

/// It, with what it has used.
struct Process {
    child: Child,
    clock: Option<ClockId>,
    /// CPU time that was counted.
    counted: Duration,
    held: Held,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its end is all that is wanted.
        kill(&mut self.child);
        let _ = self.child.wait();
    }
}

/// Ends the helper, which may have become another user.
fn kill(process: &mut Child) {
    let _raised = privilege::raise(&[CAP_KILL]);
    let _ = process.kill();
}

impl Helper {
    pub(super) fn start(budget: Budget) -> Result<Self, Unread> {
        let fail = |error: io::Error| {
            Unread::Ended(format!(
                "debug information needs a process that reads it, which could not be started: {error}"
            ))
        };
        let (ours, theirs) = UnixStream::pair().map_err(fail)?;
        let process = match PROGRAM.get() {
            Some(program) => {
                let held = budget.hold(0).map_err(Unread::Scarce)?;
                let mut command = Command::new(program);
                command.arg0(NAME).arg(budget.memory_left().to_string()).env_clear().current_dir("/");
                // Ctrl-C at the terminal is for us: the report still needs names.
                command.process_group(0).stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
                let rights = privilege::for_programs();
                let child = command.spawn().map_err(fail)?;
                drop(rights);
                let pid = i32::try_from(child.id()).map(Pid::from_raw);
                let clock = pid.ok().and_then(|pid| clock_getcpuclockid(pid).ok());
                Some(Process { child, clock, counted: Duration::ZERO, held })
            }
            None => {
                let serve = move || server::serve(&theirs);
                thread::Builder::new().name("dwarf".to_owned()).spawn(serve).map_err(fail)?;
                None
            }
        };
        Ok(Self { stream: ours, process, budget, has: HashMap::new() })
    }

    /// Whether it was given the file.
    pub(super) fn has(&self, origin: &Origin) -> bool {
        self.has.contains_key(&origin.number)
    }

    /// Looks up addresses in the DWARF of a file.
    pub(super) fn look_up(
        &mut self,
        origin: &Origin,
        addresses: &[u64],
        began: Instant,
        timeout: Duration,
    ) -> Result<Vec<Vec<Scope>>, Unread> {
        let wait = Wait { module: &origin.module, began, timeout };
        let file = self.give(origin, wait)?;
        let request = Request::LookUp { file, addresses: addresses.to_vec() };
        let scopes: Vec<Vec<Scope>> = self.ask(&request, None, wait)??;
        if scopes.len() != addresses.len() {
            let why = "debug information could not be read: its reader answered something else";
            return Err(Unread::Unusable(why.to_owned()));
        }
        Ok(scopes)
    }

    /// Gives it a file that it does not have: as it is, or as a copy, which every user may open. Returns its descriptor there.
    fn give(&mut self, origin: &Origin, wait: Wait<'_>) -> Result<i32, Unread> {
        if let Some((descriptor, _)) = self.has.get(&origin.number) {
            return Ok(*descriptor);
        }
        let plain = if origin.is_to_copy { Err(Failure::MayNotOpen) } else { self.keep(&origin.file, wait)? };
        let given = match plain {
            Err(Failure::MayNotOpen) => {
                let link = match &origin.shared {
                    Some(shared) => Some(Link { to: self.give(&shared.origin, wait)?, build_id: &shared.build_id }),
                    None => None,
                };
                let copy =
                    DwarfCopy::of(&origin.file, &origin.module, &self.budget, link).map_err(Failure::Unreadable)?;
                (self.keep(&copy.file, wait)??, copy.held)
            }
            plain => (plain?, None),
        };
        let descriptor = given.0;
        self.has.insert(origin.number, given);
        Ok(descriptor)
    }

    fn keep(&mut self, file: &File, wait: Wait<'_>) -> Result<Result<i32, Failure>, Unread> {
        self.ask(&Request::Keep, Some(file), wait)
    }

    /// One request and its reply.
    fn ask<T: DeserializeOwned>(
        &mut self,
        request: &Request,
        file: Option<&File>,
        wait: Wait<'_>,
    ) -> Result<Result<T, Failure>, Unread> {
        let until = wait.began + wait.timeout;
        let is_late = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
        let mut answered = wire::send(&self.stream, request, file, until);
        let mut is_patient = wait.began.elapsed() < PATIENCE;
        while answered.is_ok() {
            match wire::await_reply(&self.stream, until.min(Instant::now() + POLL)) {
                Err(error) if is_late(&error) && Instant::now() < until => {}
                reply => {
                    answered = reply;
                    break;
                }
            }
            self.count().map_err(Unread::Scarce)?;
            if self.budget.time_left().is_zero() && self.process.is_some() {
                return Err(Unread::Scarce(Scarce::Time));
            }
            if is_patient && wait.began.elapsed() >= PATIENCE {
                is_patient = false;
                tracing::warn!(
                    "still reading the debug information of {}, for at most {} s; --no-debuginfo does without it",
                    wait.module,
                    wait.timeout.as_secs_f64()
                );
            }
        }
        answered.and_then(|()| wire::receive_reply(&self.stream, until)).map_err(|error| {
            // What it did until then counts, too.
            let _ = self.count();
            if is_late(&error) { Unread::Late } else { Unread::Ended(self.end(&error)) }
        })
    }

    /// Whether there is memory for what it has parsed.
    pub(super) fn is_affordable(&mut self) -> bool {
        self.count().is_ok()
    }

    /// Counts what it has used since the last time.
    fn count(&mut self) -> Result<(), Scarce> {
        let Some(process) = &mut self.process else { return Ok(()) };
        if let Some(now) = process.clock.and_then(|clock| clock_gettime(clock).ok()) {
            let now = Duration::from(now);
            let more = now.saturating_sub(process.counted);
            process.counted = now;
            if !more.is_zero() {
                aside::beat();
            }
            CPU_NS.fetch_add(u64::try_from(more.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            self.budget.spend(more);
        }
        let status = fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap_or_default();
        let memory = OwnMemory::of_status(&status);
        PEAK_KB.fetch_max(memory.peak_kb, Ordering::Relaxed);
        Ok(process.held.set(memory.private_kb << 10)?)
    }

    /// Why it does not answer, once its end of the connection is closed.
    fn end(&mut self, error: &io::Error) -> String {
        let status = self.process.as_mut().and_then(|process| {
            kill(&mut process.child);
            process.child.wait().ok()
        });
        match status.and_then(|status| status.signal()).and_then(|signal| Signal::try_from(signal).ok()) {
            Some(Signal::SIGBUS) => "its file was made shorter while debug information was read".to_owned(),
            Some(Signal::SIGABRT) => "debug information is corrupt, or needs too much memory".to_owned(),
            Some(signal) if signal != Signal::SIGKILL => {
                format!("debug information is corrupt: its reader ended by {}", signal.as_str())
            }
            _ => format!("the reader of debug information ended: {error}"),
        }
    }
}

/// How long a reply is waited for.
#[derive(Clone, Copy)]
struct Wait<'a> {
    module: &'a str,
    began: Instant,
    timeout: Duration,
}

impl From<Failure> for Unread {
    fn from(failure: Failure) -> Self {
        Self::Unusable(failure.to_string())
    }
}
