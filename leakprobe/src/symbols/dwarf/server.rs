//! The helper: reads DWARF by blazesym, one request after another.
//!
//! blazesym reads one kind of source here, `Source::Elf` with `Input::VirtOffset`: addresses are already the module's own.
//! Its `Source::Process` would read /proc/PID/maps again for each call and cannot symbolise once the target has gone.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use blazesym::symbolize::{CodeInfo, Input, Reason, Symbolized, Symbolizer, source};

use super::{
    Scope,
    supplement::Supplements,
    wire::{self, Answer, Failure, Request},
};

/// blazesym recurses as deep as inlined functions nest in the file. Address space, of which only what is used becomes memory: at some
/// 500 bytes a level, 100,000 nested inlined functions.
pub(super) const STACK: usize = 64 << 20;

/// After so long without a request the helper ends, and what it has parsed and mapped goes with it: a large file is most of our memory.
const IDLE: Duration = Duration::from_secs(30);

/// How long a reply may take to be taken.
const TO_REPLY: Duration = Duration::from_secs(60);

/// Serves until nobody asks any more.
pub(super) fn serve(stream: &UnixStream) {
    thread::scope(|scope| {
        let work = || serve_all(stream);
        // Without a thread there is no answer, which is seen at the other end.
        let _ = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work).map(thread::ScopedJoinHandle::join);
    });
}

fn serve_all(stream: &UnixStream) {
    let mut symbolizer = symbolizer();
    let mut supplements = Supplements::default();
    let mut files: HashMap<RawFd, OwnedFd> = HashMap::new();
    while let Some((request, file)) = wire::receive_request(stream, IDLE) {
        let until = Instant::now() + TO_REPLY;
        let sent = match request {
            Request::Keep => {
                let Some(file) = file else { return };
                wire::send(stream, &keep(&mut files, file), None, until)
            }
            Request::LookUp { file: number, addresses } => {
                let Some(file) = files.get(&number) else { return };
                let path = path(file);
                // blazesym and gimli are fuzzed but not proven; some places index or subtract with what the file says,
                // e.g. `addr - sym_addr` of a function whose cold part lies below it, with overflow checks on:
                // https://github.com/libbpf/blazesym/blob/v0.2.7/src/symbolize/symbolizer.rs#L193. Nothing of ours is
                // seen after a panic but what has parsed the files, which is made anew.
                let work = AssertUnwindSafe(|| {
                    let mut found = look_up(&symbolizer, &path, &addresses)?;
                    for (scopes, &address) in found.iter_mut().zip(&addresses) {
                        supplements.fill(number, &files, address, scopes);
                    }
                    Ok(found)
                });
                let scopes = catch_unwind(work).unwrap_or(Err(Failure::Panicked));
                if matches!(scopes, Err(Failure::Panicked)) {
                    (symbolizer, supplements) = (self::symbolizer(), Supplements::default());
                }
                wire::send(stream, &scopes, None, Instant::now() + TO_REPLY)
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

fn symbolizer() -> Symbolizer {
    Symbolizer::builder()
        // Names are demangled in `name`, where the result is bounded.
        .enable_demangling(false)
        // No file is looked for: the only links lead to files that were given to us, by whole paths.
        .set_debug_dirs(Some(["/proc/self/fd"]))
        .build()
}

fn keep(files: &mut HashMap<RawFd, OwnedFd>, file: OwnedFd) -> Answer<RawFd> {
    if File::open(path(&file)).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
        return Err(Failure::MayNotOpen);
    }
    let descriptor = file.as_raw_fd();
    files.insert(descriptor, file);
    Ok(descriptor)
}

/// blazesym takes a path.
pub(super) fn path(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn look_up(symbolizer: &Symbolizer, path: &Path, addresses: &[u64]) -> Answer<Vec<Vec<Scope>>> {
    let mut elf = source::Elf::new(path);
    elf.debug_syms = true;
    symbolizer
        .symbolize(&source::Source::Elf(elf), Input::VirtOffset(addresses))
        .map(|all| all.iter().map(scopes).collect())
        .map_err(|error| Failure::Unreadable(format!("{error:#}")))
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
