//! The temporary name of an output that is not complete yet. It is removed however we end, short of SIGKILL.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, AtomicU64, Ordering},
    },
};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use rustix::fs::{AtFlags, RenameFlags, renameat_with, unlinkat};

/// What ends a process that does not care.
const SIGNALS: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// The directory of the one temporary file that there may be; -1 if there is none. A handler can read no more than such numbers.
static DIRECTORY: AtomicI32 = AtomicI32::new(-1);
/// What its name is made of.
static NUMBER: AtomicU64 = AtomicU64::new(0);
static ONE: Mutex<()> = Mutex::new(());

/// A temporary name; removed when dropped.
pub(super) struct Pending {
    directory: OwnedFd,
    number: u64,
    replaced: Vec<(Signal, SigAction)>,
    is_renamed: bool,
    _one: MutexGuard<'static, ()>,
}

impl Pending {
    /// A name in `directory` that nothing has, and that nobody can know beforehand. The file is for the caller to create.
    pub(super) fn new(directory: impl AsFd) -> io::Result<Self> {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let number = u64::from_ne_bytes(random);
        let directory = directory.as_fd().try_clone_to_owned()?;
        NUMBER.store(number, Ordering::SeqCst);
        DIRECTORY.store(directory.as_raw_fd(), Ordering::SeqCst);
        // A signal that is ignored stays so, and one that is handled ends us by `remove`, if at all.
        let remove = SigAction::new(SigHandler::Handler(remove_and_end), SaFlags::SA_RESETHAND, SigSet::empty());
        let mut replaced = Vec::new();
        for signal in SIGNALS {
            // SAFETY: the handler does what a handler may: it makes system calls, and uses memory that is always there.
            if let Ok(before) = unsafe { sigaction(signal, &remove) } {
                if matches!(before.handler(), SigHandler::SigDfl) {
                    replaced.push((signal, before));
                } else {
                    restore(signal, &before);
                }
            }
        }
        Ok(Self { directory, number, replaced, is_renamed: false, _one: one })
    }

    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    pub(super) fn name(&self) -> String {
        String::from_utf8_lossy(&name(self.number)).trim_end_matches('\0').to_owned()
    }

    /// Gives the file its name, in the place of what has it, or else only if nothing has.
    pub(super) fn rename(mut self, name: &std::ffi::OsStr, replaces: bool) -> io::Result<()> {
        let flags = if replaces { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        renameat_with(&self.directory, self.name(), &self.directory, name, flags)?;
        self.is_renamed = true;
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        DIRECTORY.store(-1, Ordering::SeqCst);
        if !self.is_renamed {
            let _ = unlinkat(&self.directory, self.name(), AtFlags::empty());
        }
        for (signal, before) in &self.replaced {
            restore(*signal, before);
        }
    }
}

fn restore(signal: Signal, before: &SigAction) {
    // SAFETY: it was there before.
    let _ = unsafe { sigaction(signal, before) };
}

/// Removes the temporary file that there may be: for whoever ends the process while it is being written.
pub fn remove() {
    let directory = DIRECTORY.swap(-1, Ordering::SeqCst);
    if directory >= 0 {
        let name = name(NUMBER.load(Ordering::SeqCst));
        // SAFETY: a descriptor and a string that ends with 0; should the descriptor be closed, it says so.
        unsafe { libc::unlinkat(directory, name.as_ptr().cast(), 0) };
    }
}

extern "C" fn remove_and_end(signal: libc::c_int) {
    remove();
    // The default action is back in place, so that raising it again ends this process.
    if let Ok(signal) = Signal::try_from(signal) {
        let _ = raise(signal);
    }
}

/// `.leakprobe-0123456789abcdef.tmp`, made without memory of the heap.
fn name(number: u64) -> [u8; 32] {
    let mut name = *b".leakprobe-0000000000000000.tmp\0";
    for (place, digit) in name.iter_mut().skip(11).take(16).enumerate() {
        let value = (number >> (60 - 4 * place) & 0xf) as u8;
        *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_number() {
        assert_eq!(&name(0x0123_4567_89ab_cdef), b".leakprobe-0123456789abcdef.tmp\0");
    }

    #[test]
    fn what_is_not_renamed_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(folder.path()).unwrap();
        let pending = Pending::new(&directory).unwrap();
        let path = folder.path().join(pending.name());
        std::fs::write(&path, "x").unwrap();
        drop(pending);
        assert!(!path.exists());
        let pending = Pending::new(&directory).unwrap();
        std::fs::write(folder.path().join(pending.name()), "x").unwrap();
        pending.rename("y".as_ref(), true).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// Where the child of the test below puts its file.
    const FOLDER: &str = "LEAKPROBE_TEST_FOLDER";

    #[test]
    #[ignore = "it is started by the next test, and ends by a signal"]
    fn ends_by_a_signal_while_a_file_is_pending() {
        let Some(folder) = std::env::var_os(FOLDER) else { return };
        let pending = Pending::new(std::fs::File::open(&folder).unwrap()).unwrap();
        std::fs::write(std::path::Path::new(&folder).join(pending.name()), "half").unwrap();
        raise(Signal::SIGTERM).unwrap();
        unreachable!("SIGTERM ends it");
    }

    #[test]
    fn a_signal_removes_it_and_ends_the_process() {
        use std::os::unix::process::ExitStatusExt as _;
        let folder = tempfile::tempdir().unwrap();
        let name = "report::files::pending::tests::ends_by_a_signal_while_a_file_is_pending";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", name, "--ignored"]).env(FOLDER, folder.path()).output().unwrap();
        assert_eq!(output.status.signal(), Some(libc::SIGTERM), "{output:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
