//! Inlined functions and source lines from DWARF, read in a process of its own.
//!
//! DWARF is a language in which a few bytes can ask for endless work and endless memory, and the files are the target's. So they are
//! read by a helper: leakprobe's own program, started again as soon as there is a first file to read, without any privilege
//! ([`sandbox`]); all targets share it, and another one is started where one is kept busy ([`helpers`]). It is given descriptors and addresses, and gives back functions and lines ([`wire`]). What it uses is counted in the
//! budget of the run ([`helper`]). One that takes too long or too much, or ends by what it reads, costs the debug information of that
//! file and nothing else.

pub(super) mod copy;
mod helper;
mod helpers;
mod sandbox;
mod server;
mod supplement;
mod wire;

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use self::helper::Unread;
use crate::target::Budget;

pub use self::helper::helper_cost;
pub(super) use self::helpers::Helpers;

/// How the helper is called, by which the program knows what it was started for.
const NAME: &str = "leakprobe-debuginfo";

/// How many replies may be given up before DWARF is left alone altogether: each has cost the whole time-out.
const MOST_ABANDONED: u32 = 2;

/// The program that is the helper, if it was named.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

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

/// Where debug information is read from.
#[derive(Debug)]
pub(super) struct Origin {
    /// Tells it from all others of a run.
    pub(super) number: u64,
    pub(super) file: File,
    /// The path of the module, as its process sees it.
    pub(super) module: String,
    /// Whether it must not be read as it lies in the file, but from a copy.
    pub(super) is_to_copy: bool,
    /// What it shares with others.
    pub(super) shared: Option<Shared>,
}

/// What several debug files share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) origin: Arc<Origin>,
    pub(super) build_id: Vec<u8>,
}

/// Does the helper's work if this program was started for it; returns then, when that is done. To be called by `main` before all
/// else: without it, debug information is read in a thread of this process, which a file that is truncated meanwhile can end.
#[must_use]
pub fn is_helper() -> bool {
    let mut args = std::env::args_os();
    if args.next().is_some_and(|name| name == NAME) {
        let memory = args.next().and_then(|memory| memory.to_str()?.parse().ok()).unwrap_or_default();
        sandbox::enter(memory);
        // What cannot be served is seen at the other end.
        if let Ok(stream) = io::stdin().as_fd().try_clone_to_owned() {
            server::serve(&UnixStream::from(stream));
        }
        return true;
    }
    // It leads to this program even if its file was replaced since.
    let _ = PROGRAM.set(PathBuf::from("/proc/self/exe"));
    false
}

/// Reads DWARF. A helper starts with the first file that has any.
pub(super) struct Reader {
    timeout: Duration,
    budget: Budget,
    abandoned: u32,
}

impl Reader {
    /// A reply is given up after `timeout`, or when what it takes of the budget is used up.
    pub(super) fn new(timeout: Duration, budget: Budget) -> Self {
        Self { timeout, budget, abandoned: 0 }
    }

    /// Whether nothing is read any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.abandoned >= MOST_ABANDONED
    }

    /// Looks up addresses in the DWARF of a file. An error concerns the whole file, which is then not to be tried again.
    pub(super) fn resolve(&mut self, helpers: &Helpers, origin: &Origin, addresses: &[u64]) -> Reply {
        if self.is_given_up() {
            return Err("debug information of other files took too long".to_owned());
        }
        let found = helpers.look_up(origin, addresses, &self.budget, self.timeout);
        found.map_err(|unread| match unread {
            Unread::Unusable(why) | Unread::Ended(why) => why,
            Unread::Late => {
                self.abandoned += 1;
                format!("debug information took longer than {} s to read", self.timeout.as_secs_f64())
            }
            Unread::Scarce(scarce) => {
                self.budget.leave_out(&origin.module, scarce);
                format!("{} is used up", self.budget.what(scarce))
            }
        })
    }
}
