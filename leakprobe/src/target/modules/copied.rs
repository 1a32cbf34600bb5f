//! Copies of mapped files that others serve: a program (FUSE), or another machine (NFS).
//!
//! Whoever serves a file may be gone, and then each call that touches it sleeps in the kernel, some of them so that not even SIGKILL
//! ends it: even our own end would wait. So a process of its own copies the file into memory, and is left behind if it gets no further.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::ffi::OsStringExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    memfd::{MFdFlags, memfd_create},
    prctl::set_pdeathsig,
    signal::Signal,
};

use super::{FileKey, Mapping, open::opened};
use crate::{
    aside::runs,
    pool::Held,
    privilege,
    target::{Budget, ProcessMemory},
};

/// How long a copy may make no progress.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it may take: what is as slow as that is read for nothing else.
const LONGEST: Duration = Duration::from_secs(20);
/// From one look at it to the next.
const LOOK: Duration = Duration::from_millis(2);
/// Most bytes of what it says of why it failed.
const LONGEST_REASON: u64 = 300;

/// The word with which leakprobe starts itself to copy a mapped file.
pub const COPY_MAPPED: &str = "copy-mapped";

/// Whether our own program carries out [`COPY_MAPPED`]: a program of somebody else's that uses this library does not.
static CAN_COPY: AtomicBool = AtomicBool::new(false);

/// Says that our own program carries out [`COPY_MAPPED`].
pub(crate) fn can_copy_mapped() {
    CAN_COPY.store(true, Ordering::Relaxed);
}

/// A copy, held in memory.
#[derive(Debug)]
pub(super) struct Copied {
    file: File,
    _held: Held,
}

impl Copied {
    /// The copy, opened on its own.
    pub(super) fn open(&self) -> io::Result<File> {
        File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

/// Why there is no copy.
#[derive(Debug)]
pub(super) enum NoCopy {
    /// Whoever serves the file does not answer.
    Unanswered,
    /// It cannot be had.
    Failed(io::Error),
}

/// Copies a file that is mapped there, if the budget has the memory for it.
pub(super) fn copy(reader: u32, file: &FileKey, mapping: &Mapping, budget: &Budget) -> Result<Copied, NoCopy> {
    if !CAN_COPY.load(Ordering::Relaxed) {
        return Err(NoCopy::Failed(io::Error::other("only the leakprobe command copies files that are mapped")));
    }
    let copy: File = memfd_create("leakprobe-copy", MFdFlags::MFD_CLOEXEC).map_err(failed)?.into();
    let room = budget.memory_left();
    let place = [u64::from(reader), mapping.start, mapping.end, mapping.offset, file.inode, room];
    let numbers = place.into_iter().chain([u64::from(file.dev.0), u64::from(file.dev.1)]).map(|n| n.to_string());
    let rights = (privilege::for_programs(), privilege::hand_on());
    // Whoever has replaced our own file since, it is still us.
    let mut child = Command::new("/proc/self/exe")
        .arg(COPY_MAPPED)
        .args(numbers)
        .arg(OsString::from_vec(file.path.as_bytes().to_vec()))
        .stdin(Stdio::null())
        .stdout(copy.try_clone().map_err(NoCopy::Failed)?)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(NoCopy::Failed)?;
    drop(rights);
    let Some(status) = end_of(&mut child, || copy.metadata().map_or(0, |metadata| metadata.len())) else {
        // It ends once it is answered. That is not waited for.
        let _ = child.kill();
        return Err(NoCopy::Unanswered);
    };
    if !status.success() {
        let mut reason = String::new();
        let said = child.stderr.take().map(|says| says.take(LONGEST_REASON).read_to_string(&mut reason));
        let reason = if matches!(said, Some(Ok(1..))) { reason } else { format!("its copying {status}") };
        return Err(NoCopy::Failed(io::Error::other(reason)));
    }
    let bytes = copy.metadata().map_err(NoCopy::Failed)?.len();
    match budget.hold(bytes) {
        Ok(held) => Ok(Copied { file: copy, _held: held }),
        Err(scarce) => Err(NoCopy::Failed(io::Error::other(format!("{} is used up", budget.what(scarce))))),
    }
}

fn failed(error: nix::errno::Errno) -> NoCopy {
    NoCopy::Failed(error.into())
}

/// Waits for the end of a copy, as long as it grows.
fn end_of(child: &mut Child, length: impl Fn() -> u64) -> Option<ExitStatus> {
    let began = Instant::now();
    let mut last = (0, began);
    while (last.1.elapsed() < PATIENCE || runs(child.id())) && began.elapsed() < LONGEST {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        let length = length();
        if length != last.0 {
            last = (length, Instant::now());
        }
        thread::sleep(LOOK);
    }
    child.try_wait().ok().flatten()
}

/// The other process's side: writes the file to stdout.
///
/// # Errors
/// In words, if the file cannot be had.
pub fn copy_mapped(args: &[OsString]) -> Result<(), String> {
    // Whoever has started us reads what we write, and nobody else.
    let _ = set_pdeathsig(Signal::SIGKILL);
    let [numbers @ .., path] = args else { return Err("it is for leakprobe's own use".to_owned()) };
    let numbers: Vec<u64> = numbers.iter().filter_map(|number| number.to_str()?.parse().ok()).collect();
    let [reader, start, end, offset, inode, room, major, minor] = numbers[..] else {
        return Err("it is for leakprobe's own use".to_owned());
    };
    let (Ok(reader), Ok(major), Ok(minor)) = (u32::try_from(reader), u32::try_from(major), u32::try_from(minor)) else {
        return Err("it is for leakprobe's own use".to_owned());
    };
    let file = FileKey { dev: (major, minor), inode, path: path.to_string_lossy().into() };
    let mapping = Mapping { start, end, offset, file: None, module: None };
    write(reader, &file, &mapping, room).map_err(|error| error.to_string())
}

fn write(reader: u32, file: &FileKey, mapping: &Mapping, room: u64) -> io::Result<()> {
    let from = opened(reader, file, mapping, &ProcessMemory::new(reader), true)?;
    let length = from.metadata()?.len();
    if length > room {
        return Err(io::Error::other(format!(
            "it is served by others, and its {} MiB would have to be held in memory, for which {} MiB are left",
            length >> 20,
            room >> 20
        )));
    }
    let mut to = io::stdout().lock();
    io::copy(&mut from.take(room), &mut to)?;
    to.flush()
}
