//! Mapped files that lose bytes while they are read.
//!
//! blazesym maps the files that it reads DWARF from. Where such a file has become shorter since, the kernel answers a read
//! with SIGBUS, which ends a process that does not handle it
//! (<https://man7.org/linux/man-pages/man2/mmap.2.html>, "ERRORS"). A container could end us so, by truncating its own files.
//! Therefore the reader finds zeroes in the place of what is gone, and what it makes of them is thrown away.

use std::{
    cell::Cell,
    ffi::{c_int, c_void},
    ptr,
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
};

use nix::{
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    unistd::{SysconfVar, sysconf},
};

/// What is known of a thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// It reads no mapped file of others.
    No,
    /// It does, and all was there so far.
    Whole,
    /// It does, and some of it was gone.
    Shrunk,
}

thread_local! {
    // No initialiser and no destructor to run: a signal handler may use it.
    static READING: Cell<Reading> = const { Cell::new(Reading::No) };
}

/// Bytes of a page; zero until the handler is in place.
static PAGE: AtomicUsize = AtomicUsize::new(0);

/// What was read was not all there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shrunk;

/// Does work that reads mapped files, and that does not panic. If one of them lost bytes meanwhile, the result is worth nothing.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Shrunk> {
    static ONCE: Once = Once::new();
    ONCE.call_once(handle_sigbus);
    READING.set(Reading::Whole);
    let result = work();
    match READING.replace(Reading::No) {
        Reading::Shrunk => Err(Shrunk),
        Reading::Whole | Reading::No => Ok(result),
    }
}

fn handle_sigbus() {
    let Ok(Some(page)) = sysconf(SysconfVar::PAGE_SIZE) else { return };
    PAGE.store(usize::try_from(page).unwrap_or_default(), Ordering::Relaxed);
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK;
    let action = SigAction::new(SigHandler::SigAction(on_sigbus), flags, SigSet::empty());
    // SAFETY: the handler calls nothing but mmap and signal, which may be called at any time, and touches nothing but atomics and
    // thread locals that need no initialisation.
    let _ = unsafe { sigaction(Signal::SIGBUS, &action) };
}

extern "C" fn on_sigbus(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes a handler with SA_SIGINFO a valid siginfo_t.
    let info = unsafe { &*info };
    // SAFETY: SIGBUS has an address in the place that this reads.
    let address = unsafe { info.si_addr() };
    if READING.get() != Reading::No && info.si_code == libc::BUS_ADRERR && is_replaced(address) {
        READING.set(Reading::Shrunk);
        return;
    }
    // The instruction is tried again, and ends us as it would have done without this handler.
    // SAFETY: no function of ours is made a handler.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
}

/// Puts zeroes in the place of the page that an address lies in.
fn is_replaced(address: *mut c_void) -> bool {
    let page = PAGE.load(Ordering::Relaxed);
    if page == 0 {
        return false;
    }
    let start = ptr::without_provenance_mut(address.addr() & !(page - 1));
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the page belongs to a mapping of a file, which cannot be read there. Nobody has a reference to what could be
    // read; from now on it reads as zeroes, and it is unmapped with the rest of the mapping.
    let placed = unsafe { libc::mmap(start, page, libc::PROT_READ, flags, -1, 0) };
    placed != libc::MAP_FAILED
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, os::fd::AsRawFd, slice};

    use super::*;

    const LEN: usize = 1 << 20;

    /// A mapping of a file whose bytes are all 7.
    fn mapped() -> (File, &'static [u8]) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; LEN]).unwrap();
        let (flags, fd) = (libc::MAP_PRIVATE, file.as_raw_fd());
        // SAFETY: a new mapping, which is never unmapped.
        let at = unsafe { libc::mmap(ptr::null_mut(), LEN, libc::PROT_READ, flags, fd, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        // SAFETY: LEN bytes are mapped there, for ever.
        (file, unsafe { slice::from_raw_parts(at.cast(), LEN) })
    }

    fn sum(bytes: &[u8]) -> usize {
        bytes.iter().map(|&byte| usize::from(byte)).sum()
    }

    #[test]
    fn a_file_that_is_whole_is_read() {
        let (_file, bytes) = mapped();
        assert_eq!(guarded(|| sum(bytes)), Ok(7 * LEN));
    }

    #[test]
    fn a_file_that_is_truncated_while_it_is_read_is_noticed_and_kills_nobody() {
        let (file, bytes) = mapped();
        let mut seen = 0;
        let result = guarded(|| {
            file.set_len(10_000).unwrap();
            seen = sum(bytes);
        });
        assert_eq!(result, Err(Shrunk));
        // The last page that is there has zeroes behind the end.
        assert_eq!(seen, 7 * 10_000);
        // What comes after it is judged by itself.
        let (_file, bytes) = mapped();
        assert_eq!(guarded(|| sum(bytes)), Ok(7 * LEN));
    }
}
