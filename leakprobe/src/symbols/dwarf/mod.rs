//! Inlined functions and source lines from DWARF, read in a process of its own.
//!
//! DWARF is a language in which a few bytes can ask for endless work and endless memory, and the files are the target's. So they are
//! read by a helper: leakprobe's own program, started again as soon as there is a first file to read, without any privilege
//! ([`sandbox`]). It is given descriptors and addresses, and gives back functions and lines ([`wire`]). One that takes too long, or
//! ends by what it reads, costs the debug information of that file and nothing else.

mod sandbox;
mod server;
mod wire;

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read, Seek, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use caps::Capability::CAP_KILL;
use nix::sys::{
    memfd::{MFdFlags, memfd_create},
    signal::Signal,
};
use serde::{Deserialize, Serialize};

use self::wire::{Failure, Request};
use crate::privilege;

/// How the helper is called, by which the program knows what it was started for.
const NAME: &str = "leakprobe-debuginfo";

/// How long a user is not told what takes so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many replies may be given up before DWARF is left alone altogether: each has cost the whole time-out.
const MOST_ABANDONED: u32 = 2;

/// A file that only its owner may read is handed over as a copy, of at most so many bytes.
const LARGEST_COPY: u64 = 256 << 20;

/// The program that is the helper, if it was named.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// What helpers have used so far: CPU time, ns, and the most memory of one, KB.
static CPU_NS: AtomicU64 = AtomicU64::new(0);
static PEAK_KB: AtomicU64 = AtomicU64::new(0);

/// A function at an address: the one that holds it, or one inlined there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Scope {
    /// Raw name; empty if DWARF does not tell.
    pub(super) name: String,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
    /// Where the function begins; zero for an inlined one.
    pub(super) start: u64,
}

/// What is known of each address asked for, innermost function first; empty if nothing is.
pub(super) type Reply = Result<Vec<Vec<Scope>>, String>;

/// Does the helper's work if this program was started for it; returns then, when that is done. To be called by `main` before all
/// else: without it, debug information is read in a thread of this process, which a file that is truncated meanwhile can end.
#[must_use]
pub fn is_helper() -> bool {
    let mut args = std::env::args_os();
    if args.next().is_some_and(|name| name == NAME) {
        let directories: Vec<PathBuf> = args.map(PathBuf::from).collect();
        sandbox::enter();
        // What cannot be served is seen at the other end.
        if let Ok(stream) = io::stdin().as_fd().try_clone_to_owned() {
            server::serve(&UnixStream::from(stream), &directories);
        }
        return true;
    }
    // It leads to this program even if its file was replaced since.
    let _ = PROGRAM.set(PathBuf::from("/proc/self/exe"));
    false
}

/// What helpers have used so far: CPU time, and the most memory of one, KB.
#[must_use]
pub fn helper_cost() -> (Duration, u64) {
    (Duration::from_nanos(CPU_NS.load(Ordering::Relaxed)), PEAK_KB.load(Ordering::Relaxed))
}

/// Reads DWARF. The helper starts with the first file that has any.
pub(super) struct Reader {
    directories: Vec<PathBuf>,
    timeout: Duration,
    helper: Option<Helper>,
    abandoned: u32,
}

/// The other end.
struct Helper {
    stream: UnixStream,
    /// None if it is a thread of this process.
    process: Option<Child>,
    /// The files that it has.
    has: HashSet<u64>,
    /// CPU time that was already counted, ns.
    counted_ns: u64,
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // Its end is all that is wanted.
            kill(process);
            let _ = process.wait();
        }
    }
}

impl Reader {
    /// `directories` are searched for what several debug files share (`.gnu_debugaltlink`, made by dwz).
    pub(super) fn new(directories: Vec<PathBuf>, timeout: Duration) -> Self {
        Self { directories, timeout, helper: None, abandoned: 0 }
    }

    /// Drops all parsed files.
    pub(super) fn forget(&mut self) {
        self.helper = None;
    }

    /// Looks up addresses in the DWARF of a file, that of `module`, which has this number for as long as it is known. An error concerns
    /// the whole file, which is then not to be tried again.
    pub(super) fn resolve(&mut self, module: &str, number: u64, file: &File, addresses: &[u64]) -> Reply {
        if self.abandoned >= MOST_ABANDONED {
            return Err("debug information of other files took too long".to_owned());
        }
        let is_new = self.helper.is_none();
        let reply = match self.ask(module, number, file, addresses) {
            // It ends when there is nothing to do for a while.
            Err(Ended::Closed(_)) if !is_new => self.ask(module, number, file, addresses),
            reply => reply,
        };
        let reply = match reply {
            Ok(Err(Failure::MayNotOpen)) => {
                let copy = copy(file).map_err(|why| format!("debug information could not be read: {why}"))?;
                self.ask(module, number, &copy, addresses)
            }
            reply => reply,
        };
        match reply {
            Ok(Ok(scopes)) if scopes.len() == addresses.len() => Ok(scopes),
            Ok(Ok(_)) => Err("debug information could not be read: its reader answered something else".to_owned()),
            Ok(Err(failure)) => Err(failure.to_string()),
            Err(Ended::Closed(why)) => Err(why),
            Err(Ended::Late) => {
                self.abandoned += 1;
                Err(format!("debug information took longer than {} s to read", self.timeout.as_secs_f64()))
            }
        }
    }

    /// One request. Afterwards there is a helper only if it answered.
    fn ask(&mut self, module: &str, number: u64, file: &File, addresses: &[u64]) -> Result<wire::Scopes, Ended> {
        let mut helper = match self.helper.take() {
            Some(helper) => helper,
            None => start(&self.directories).map_err(Ended::Closed)?,
        };
        let is_given = helper.has.insert(number).then_some(file);
        let request = Request { file: number, addresses: addresses.to_vec() };
        let began = Instant::now();
        let sent = wire::send(&helper.stream, &request, is_given, began + self.timeout);
        let patience = began + self.timeout.min(PATIENCE);
        let is_late = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
        let mut reply = sent.and_then(|()| wire::await_reply(&helper.stream, patience));
        if reply.as_ref().is_err_and(is_late) && self.timeout > PATIENCE {
            tracing::warn!(
                "still reading the debug information of {module}, for at most {} s; --no-debuginfo does without it",
                self.timeout.as_secs_f64()
            );
            reply = wire::await_reply(&helper.stream, began + self.timeout);
        }
        let reply = reply.and_then(|()| wire::receive_reply(&helper.stream, began + self.timeout));
        match reply {
            Ok(response) => {
                CPU_NS.fetch_add(response.cpu_ns.saturating_sub(helper.counted_ns), Ordering::Relaxed);
                PEAK_KB.fetch_max(response.peak_kb, Ordering::Relaxed);
                helper.counted_ns = response.cpu_ns;
                if matches!(response.scopes, Err(Failure::MayNotOpen)) {
                    helper.has.remove(&number);
                }
                self.helper = Some(helper);
                Ok(response.scopes)
            }
            Err(error) if is_late(&error) => Err(Ended::Late),
            Err(error) => Err(Ended::Closed(helper.end(&error))),
        }
    }
}

/// Why there is no reply.
enum Ended {
    /// It took too long.
    Late,
    /// There is nobody at the other end any more; says why.
    Closed(String),
}

impl Helper {
    /// Why it does not answer, once its end of the connection is closed.
    fn end(&mut self, error: &io::Error) -> String {
        let status = self.process.as_mut().and_then(|process| {
            kill(process);
            process.wait().ok()
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

fn start(directories: &[PathBuf]) -> Result<Helper, String> {
    let fail = |error: io::Error| {
        format!("debug information needs a process that reads it, which could not be started: {error}")
    };
    let (ours, theirs) = UnixStream::pair().map_err(fail)?;
    let process = match PROGRAM.get() {
        Some(program) => {
            let mut command = Command::new(program);
            command.arg0(NAME).args(directories).env_clear().current_dir("/");
            // Ctrl-C at the terminal is for us: the report still needs names.
            command.process_group(0).stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
            let _rights = privilege::for_programs();
            Some(command.spawn().map_err(fail)?)
        }
        None => {
            let directories = directories.to_owned();
            let serve = move || server::serve(&theirs, &directories);
            thread::Builder::new().name("dwarf".to_owned()).spawn(serve).map_err(fail)?;
            None
        }
    };
    Ok(Helper { stream: ours, process, has: HashSet::new(), counted_ns: 0 })
}

/// Ends the helper, which may have become another user.
fn kill(process: &mut Child) {
    let _raised = privilege::raise(&[CAP_KILL]);
    let _ = process.kill();
}

/// A copy in memory, which every user may open.
fn copy(file: &File) -> io::Result<File> {
    let mut from = file.try_clone()?;
    let size = from.metadata()?.len();
    if size > LARGEST_COPY {
        let most = LARGEST_COPY >> 20;
        return Err(io::Error::other(format!("only its owner may read it, and it has more than {most} MB")));
    }
    let mut copy = File::from(memfd_create("debug information", MFdFlags::MFD_CLOEXEC)?);
    from.rewind()?;
    io::copy(&mut (&mut from).take(LARGEST_COPY), &mut copy)?;
    copy.flush()?;
    Ok(copy)
}
