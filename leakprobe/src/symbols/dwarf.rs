//! Inlined functions and source lines from DWARF, by blazesym on a thread of its own.
//!
//! The thread has three reasons. DWARF is a language in which a few bytes can ask for endless work, so that a reply must be
//! given up at some time; a thread can be left behind, a call cannot. blazesym recurses as deep as inlined functions nest
//! in the file, so it gets a large stack. And its symbolizer cannot be moved between threads, while ours can.
//!
//! blazesym reads one kind of source here, `Source::Elf` with `Input::VirtOffset`: addresses are already the module's own.
//! Its `Source::Process` would read /proc/PID/maps again for each call and cannot symbolise once the target has gone.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use blazesym::symbolize::{CodeInfo, Input, Reason, Symbolized, Symbolizer, source};

use super::shrunk::{self, Shrunk};

/// Address space, of which only what is used becomes memory. At some 500 bytes a level: 100,000 nested inlined functions.
const STACK: usize = 64 << 20;

/// How long a user is not told what takes so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// After so long without a request what was parsed is given up, and the mapped file with it: a large one is most of our memory.
const IDLE: Duration = Duration::from_secs(30);

/// How many replies may be given up before DWARF is left alone altogether: each leaves a thread behind that still computes.
const MOST_ABANDONED: u32 = 2;

/// A function at an address: the one that holds it, or one inlined there.
#[derive(Clone, Debug, Default)]
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

struct Request {
    path: PathBuf,
    addresses: Vec<u64>,
}

struct Worker {
    requests: Sender<Request>,
    replies: Receiver<Reply>,
}

/// Reads DWARF. The thread starts with the first file that has any.
pub(super) struct Reader {
    directories: Vec<PathBuf>,
    timeout: Duration,
    worker: Option<Worker>,
    abandoned: u32,
}

impl Reader {
    /// `directories` are searched for what several debug files share (`.gnu_debugaltlink`, made by dwz).
    pub(super) fn new(directories: Vec<PathBuf>, timeout: Duration) -> Self {
        Self { directories, timeout, worker: None, abandoned: 0 }
    }

    /// Drops all parsed files.
    pub(super) fn forget(&mut self) {
        self.worker = None;
    }

    /// Looks up addresses in the DWARF of a file, that of `module`. An error concerns the whole file, which is then not to be tried
    /// again.
    pub(super) fn resolve(&mut self, module: &str, path: &Path, addresses: &[u64]) -> Reply {
        if self.abandoned >= MOST_ABANDONED {
            return Err("debug information of other files took too long".to_owned());
        }
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => start(self.directories.clone())?,
        };
        let request = Request { path: path.to_owned(), addresses: addresses.to_vec() };
        let ended = || "the reader of debug information ended".to_owned();
        worker.requests.send(request).map_err(|_| ended())?;
        let mut reply = worker.replies.recv_timeout(self.timeout.min(PATIENCE));
        if matches!(reply, Err(RecvTimeoutError::Timeout)) && self.timeout > PATIENCE {
            tracing::warn!(
                "still reading the debug information of {module}, for at most {} s; --no-debuginfo does without it",
                self.timeout.as_secs_f64()
            );
            reply = worker.replies.recv_timeout(self.timeout - PATIENCE);
        }
        match reply {
            Ok(reply) => {
                self.worker = Some(worker);
                reply
            }
            Err(RecvTimeoutError::Timeout) => {
                self.abandoned += 1;
                Err(format!("debug information took longer than {} s to read", self.timeout.as_secs_f64()))
            }
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }
}

fn start(directories: Vec<PathBuf>) -> Result<Worker, String> {
    let (requests, inbox) = channel::<Request>();
    let (outbox, replies) = channel();
    thread::Builder::new()
        .name("dwarf".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            let mut symbolizer = symbolizer(&directories);
            while let Some(request) = next(&inbox, || symbolizer = self::symbolizer(&directories)) {
                // blazesym and gimli are fuzzed but not proven; some places index or subtract with what the file says,
                // e.g. `addr - sym_addr` of a function whose cold part lies below it, with overflow checks on:
                // https://github.com/libbpf/blazesym/blob/v0.2.7/src/symbolize/symbolizer.rs#L193. Nothing of ours is
                // seen after a panic but the symbolizer, which is made anew.
                let work = AssertUnwindSafe(|| look_up(&symbolizer, &request));
                let reply = match shrunk::guarded(|| catch_unwind(work)) {
                    Ok(Ok(reply)) => reply,
                    failed => {
                        symbolizer = self::symbolizer(&directories);
                        Err(match failed {
                            Err(Shrunk) => "its file was made shorter while debug information was read".to_owned(),
                            Ok(_) => "debug information is corrupt: its reader panicked".to_owned(),
                        })
                    }
                };
                if outbox.send(reply).is_err() {
                    break;
                }
            }
        })
        .map_err(|error| format!("no thread to read debug information: {error}"))?;
    Ok(Worker { requests, replies })
}

/// The next request; `None` if there will be none. `give_back` is called if it is long in coming.
fn next(inbox: &Receiver<Request>, give_back: impl FnOnce()) -> Option<Request> {
    match inbox.recv_timeout(IDLE) {
        Err(RecvTimeoutError::Timeout) => {
            give_back();
            inbox.recv().ok()
        }
        request => request.ok(),
    }
}

fn symbolizer(directories: &[PathBuf]) -> Symbolizer {
    Symbolizer::builder()
        // Names are demangled in `name`, where the result is bounded.
        .enable_demangling(false)
        .set_debug_dirs(Some(directories))
        .build()
}

fn look_up(symbolizer: &Symbolizer, request: &Request) -> Reply {
    let mut elf = source::Elf::new(&request.path);
    elf.debug_syms = true;
    symbolizer
        .symbolize(&source::Source::Elf(elf), Input::VirtOffset(&request.addresses))
        .map(|all| all.iter().map(scopes).collect())
        .map_err(|error| format!("debug information could not be read: {error:#}"))
}

fn scopes(symbolized: &Symbolized<'_>) -> Vec<Scope> {
    let symbol = match symbolized {
        Symbolized::Sym(symbol) => symbol,
        Symbolized::Unknown(Reason::IgnoredError | _) => return Vec::new(),
    };
    let outer = Scope {
        // What has no size is no function of DWARF, but a symbol of `.symtab` that blazesym extends to any address above:
        // https://github.com/libbpf/blazesym/blob/v0.2.7/src/elf/parser.rs#L194. Its source line stays true.
        name: symbol.size.map(|_| symbol.name.to_string()).unwrap_or_default(),
        start: symbol.addr,
        ..at(symbol.code_info.as_deref())
    };
    let inlined = symbol
        .inlined
        .iter()
        .map(|function| Scope { name: function.name.to_string(), ..at(function.code_info.as_ref()) });
    let mut scopes: Vec<Scope> = std::iter::once(outer).chain(inlined).collect();
    scopes.reverse();
    scopes
}

fn at(code: Option<&CodeInfo<'_>>) -> Scope {
    Scope {
        file: code.map(|code| code.to_path().to_string_lossy().into_owned()),
        // Line 0 means "no line" (DWARF 5, section 6.2.2).
        line: code.and_then(|code| code.line).filter(|&line| line > 0),
        ..Scope::default()
    }
}
